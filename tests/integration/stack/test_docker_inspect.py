"""What `docker inspect` shows of each container, from the configuration that Compose makes of a full .env.

`docker inspect` shows environment, commands, labels and mounts, all of which are in the configuration. It does not show
the contents of files. tests/e2e/test_rotation.py looks at a running stack.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from stack.settings import SECRET, VARIABLES
from tests.integration.stack.volumes import ROOT

pytestmark = pytest.mark.skipif(not shutil.which("docker"), reason="there is no docker command on this machine")

VALUES = {name: f"value-of-{name.lower()}" for name in VARIABLES if name not in {"DELAYWATCH_LOCAL"}}


@pytest.fixture(scope="module")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of every service, with an .env that fills in everything."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copy(ROOT / "docker-compose.yaml", folder)
    numbers = {"DELAYWATCH_HTTP_PORT": "8000", "DELAYWATCH_HTTPS_PORT": "8001", "DELAYWATCH_BIND": "127.0.0.1"}
    lines = {**VALUES, **numbers, "DELAYWATCH_LOCAL": "1"}
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    command = ["docker", "compose", "--profile", "*", "config", "--format", "json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    services: dict[str, Any] = json.loads(done.stdout)["services"]
    return services


def test_no_container_shows_a_secret_of_env(configuration: dict[str, Any]) -> None:
    visible = {
        f"{name}: {secret}"
        for name, service in configuration.items()
        for secret in SECRET
        if VALUES[secret] in json.dumps(service)
    }

    assert configuration.keys() >= {"setup", "backup", "superset", "airflow-scheduler"}
    assert VALUES["DELAYWATCH_METRICS"] in json.dumps(configuration["setup"]), "a setting is shown, so the test can see"
    assert visible == set()


def test_setup_learns_which_secrets_compose_has_a_value_for(configuration: dict[str, Any]) -> None:
    assert set(configuration["setup"]["environment"]["DELAYWATCH_SECRETS_SEEN"].split()) == SECRET


def test_no_other_container_mounts_the_volume_of_all_secrets_or_the_folder_with_env(
    configuration: dict[str, Any],
) -> None:
    mounting = {
        name
        for name, service in configuration.items()
        for mount in service.get("volumes", [])
        if mount["source"] == "secrets" or Path(mount["source"]).joinpath("docker-compose.yaml").exists()
    }

    assert mounting == {"setup"}
