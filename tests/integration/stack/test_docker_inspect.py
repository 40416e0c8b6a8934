"""`docker inspect` shows no secret: checked on the configuration that Compose builds from a complete `.env`.

`docker inspect` shows environment, commands, labels and mounts of a container, but not the content of files.
tests/e2e/test_rotation.py looks at a running stack.
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

pytestmark = [
    pytest.mark.security,
    pytest.mark.skipif(not shutil.which("docker"), reason="this machine has no docker command"),
]
VALUES = {
    **{name: f"value-of-{name.lower()}" for name in VARIABLES},
    "DELAYWATCH_HTTP_PORT": "8000",
    "DELAYWATCH_HTTPS_PORT": "8001",
    "DELAYWATCH_BIND": "127.0.0.1",
    "DELAYWATCH_LOCAL": "1",
}


@pytest.fixture(scope="module")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the services that Compose would start."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copy(ROOT / "docker-compose.yaml", folder)
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in VALUES.items()))
    command = ["docker", "compose", "--profile", "*", "config", "--format", "json"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    services: dict[str, Any] = json.loads(ended.stdout)["services"]
    return services


def test_no_container_shows_a_secret_of_env(configuration: dict[str, Any]) -> None:
    shown = {name: json.dumps(service) for name, service in configuration.items()}

    assert VALUES["DELAYWATCH_METRICS"] in shown["setup"], "this test can see a setting"
    assert {(name, secret) for name in shown for secret in SECRET if VALUES[secret] in shown[name]} == set()
    assert set(configuration["setup"]["environment"]["DELAYWATCH_SECRETS_SEEN"].split()) == SECRET


def test_only_setup_mounts_the_volume_of_all_secrets_and_the_folder_of_env(configuration: dict[str, Any]) -> None:
    mounting = {
        name
        for name, service in configuration.items()
        for mount in service.get("volumes", [])
        if mount["source"] == "secrets" or Path(mount["source"]).joinpath("docker-compose.yaml").exists()
    }

    assert mounting == {"setup"}
