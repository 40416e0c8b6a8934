"""docker-compose.yaml: limits, confinement, health, networks, and each service's own secrets."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack import form
from stack.settings import SECRET, VARIABLES
from tests.integration.stack.volumes import ROOT, SERVICES

TEXT = (ROOT / "docker-compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
CONTAINERS: dict[str, dict[str, Any]] = COMPOSE["services"]
ONCE = {"setup", "airflow-init", "superset-init", "certbot", "backup"}
PERMANENT = sorted(CONTAINERS.keys() - ONCE)
CAPABILITIES = {"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "KILL", "SETGID", "SETUID"}
MIB = {"m": 1, "g": 1024}


def memory_mib(name: str) -> int:
    limit = CONTAINERS[name]["mem_limit"]
    return int(limit[:-1]) * MIB[limit[-1]]


def mounts(name: str) -> dict[str, str]:
    """Return source and target of every volume."""
    return dict(entry.split(":")[:2] for entry in CONTAINERS[name]["volumes"])


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_is_confined_and_limited(name: str) -> None:
    service = CONTAINERS[name]

    assert service["cap_drop"] == ["ALL"]
    assert set(service.get("cap_add", [])) <= CAPABILITIES
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert not service.get("privileged")
    assert memory_mib(name) > 0
    assert service["pids_limit"] > 0
    assert service["logging"]["options"].keys() >= {"max-size", "max-file"}
    assert re.search(r":v?[a-z-]*\d", service["image"]), "an image is pinned to a version"


def test_the_permanent_containers_fit_the_memory_of_a_t3_large() -> None:
    assert sum(map(memory_mib, PERMANENT)) <= 8192 - 512


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_permanent_container_has_a_health_check_and_restarts(name: str) -> None:
    if name in ONCE:
        assert CONTAINERS[name]["healthcheck"] == {"disable": True}, "an image may have one, which fails at the end"
    else:
        assert CONTAINERS[name]["healthcheck"]["test"]
        assert CONTAINERS[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(CONTAINERS.keys() - {"setup", "certbot"}))
def test_a_container_waits_for_setup(name: str) -> None:
    before, waiting = set[str](), [name]
    while waiting:
        for dependency, options in CONTAINERS[waiting.pop()].get("depends_on", {}).items():
            assert options["condition"] in {"service_healthy", "service_completed_successfully"}
            before.add(dependency)
            waiting.append(dependency)

    assert "setup" in before


def test_only_nginx_publishes_ports_and_only_on_loopback_by_default() -> None:
    publishing = {name: service["ports"] for name, service in CONTAINERS.items() if service.get("ports")}

    assert publishing.keys() == {"nginx"}
    assert all(port.startswith("${DELAYWATCH_BIND:-127.0.0.1}:") for port in publishing["nginx"])


def test_nginx_cannot_reach_databases_and_superset_cannot_reach_the_object_store() -> None:
    assert CONTAINERS["nginx"]["networks"] == ["edge"]
    assert "lake" not in CONTAINERS["superset"]["networks"]
    assert CONTAINERS["postgres"]["networks"] == ["data"]
    assert CONTAINERS["s3"]["networks"] == ["lake"]


# --- secrets and settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(CONTAINERS.keys() - {"setup"}))
def test_a_container_can_read_only_its_own_secrets(name: str) -> None:
    secrets = {source: target for source, target in mounts(name).items() if source.startswith("secrets")}

    assert secrets.keys() <= {f"secrets-{name}", f"secrets-{name.partition('-')[0]}"}
    assert set(secrets.values()) <= {"/run/delaywatch"}
    assert all(entry.endswith(":ro") for entry in CONTAINERS[name]["volumes"] if entry.startswith("secrets"))


def test_setup_mounts_the_volume_of_every_service() -> None:
    assert set(mounts("setup").values()) == {
        "/project", "/secrets", "/letsencrypt", "/state/postgres", "/state/s3",
        *(f"/handed/{service}" for service in SERVICES),
    }  # fmt: skip


def test_setup_gets_every_setting_and_only_the_names_of_the_secrets() -> None:
    *settings, seen = CONTAINERS["setup"]["environment"]

    assert set(settings) == set(VARIABLES) - SECRET
    assert set(seen.removeprefix("DELAYWATCH_SECRETS_SEEN=").split()) == {f"${{{name}:+{name}}}" for name in SECRET}


def test_no_container_gets_a_secret_from_compose() -> None:
    with_value = rf"\$\{{?(?:{'|'.join(SECRET)})\b(?!:\+)"  # ${NAME:+NAME} is the name alone

    assert re.findall(with_value, TEXT) == []
    assert [name for name, service in CONTAINERS.items() if SECRET & set(service.get("environment", []))] == []
    assert [name for name, service in CONTAINERS.items() if "env_file" in service] == []


def test_the_example_is_generated_from_the_model_and_compose_reads_exactly_its_variables() -> None:
    example = (ROOT / ".env.example").read_text()
    read = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", TEXT)) | set(CONTAINERS["setup"]["environment"][:-1])

    assert example == form.example(), "run: PYTHONPATH=dags .venv/bin/python -m stack example > .env.example"
    assert re.findall(r"^([A-Z_]+)=(.*)$", example, re.MULTILINE) == [(name, "") for name in VARIABLES]
    assert read == set(VARIABLES)


@pytest.mark.skipif(not shutil.which("docker"), reason="this machine has no docker command")
def test_compose_reads_the_file_without_a_warning(tmp_path: Path) -> None:
    shutil.copy(ROOT / "docker-compose.yaml", tmp_path)
    command = ["docker", "compose", "--profile", "*", "config", "--quiet"]

    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
