"""What each service of docker-compose.yaml owes its host: limits, confinement, health, no secret but its own."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack.settings import SECRET

ROOT = Path(__file__).resolve().parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONCE = {"setup", "airflow-init", "superset-init", "certbot", "backup"}
LASTING = sorted(SERVICES.keys() - ONCE)
CAPABILITIES = {"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "KILL", "SETGID", "SETUID"}
T3_LARGE_MIB = 8192
UNITS = {"m": 1, "g": 1024}


def mebibytes(size: str) -> int:
    return int(size[:-1]) * UNITS[size[-1]]


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """Source to target of every volume."""
    return dict(entry.split(":")[:2] for entry in service["volumes"])


def environment(service: dict[str, Any]) -> dict[str, Any]:
    """Name to value; a name alone has the value of the shell or of .env."""
    found = service.get("environment", {})
    return found if isinstance(found, dict) else dict(entry.partition("=")[::2] for entry in found)


def test_the_services_are_those_of_the_design() -> None:
    airflow = {"airflow-init", "airflow-apiserver", "airflow-scheduler", "airflow-dag-processor"}

    assert set(SERVICES) == airflow | {
        "setup", "nginx", "health", "superset-init", "superset", "postgres", "s3", "jupyter", "certbot",
        "backup",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_is_confined(name: str) -> None:
    service = SERVICES[name]

    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert not service.get("privileged")
    assert set(service.get("cap_add", [])) <= CAPABILITIES


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_has_limits_and_rotated_logs(name: str) -> None:
    service = SERVICES[name]

    assert mebibytes(service["mem_limit"]) > 0
    assert service["pids_limit"] > 0
    assert service["logging"]["options"]["max-size"]
    assert service["logging"]["options"]["max-file"]


def test_the_memory_of_all_that_lasts_fits_a_t3_large() -> None:
    total = sum(mebibytes(SERVICES[name]["mem_limit"]) for name in LASTING)

    assert total <= T3_LARGE_MIB - 512  # the rest is the system's


@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_service_proves_its_health_and_comes_back(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(ONCE))
def test_a_service_that_ends_inherits_no_health_check_of_its_image(name: str) -> None:
    assert SERVICES[name]["healthcheck"] == {"disable": True}


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"setup", "certbot"}))
def test_a_service_waits_for_a_condition_and_in_the_end_for_setup(name: str) -> None:
    seen, waiting = set[str](), [name]
    while waiting:
        for before, how in SERVICES[waiting.pop()].get("depends_on", {}).items():
            assert how["condition"] in {"service_healthy", "service_completed_successfully"}
            if before not in seen:
                seen.add(before)
                waiting.append(before)

    assert "setup" in seen


def test_only_nginx_publishes_ports_and_it_does_so_on_loopback_by_default() -> None:
    publishing = {name: service["ports"] for name, service in SERVICES.items() if service.get("ports")}

    assert set(publishing) == {"nginx"}
    assert all(port.startswith("${DELAYWATCH_BIND:-127.0.0.1}:") for port in publishing["nginx"])


def test_nginx_reaches_neither_databases_nor_object_store_and_superset_not_the_latter() -> None:
    assert SERVICES["nginx"]["networks"] == ["edge"]
    assert "lake" not in SERVICES["superset"]["networks"]
    assert SERVICES["postgres"]["networks"] == ["data"]
    assert SERVICES["s3"]["networks"] == ["lake"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_an_image_is_pinned_to_a_version(name: str) -> None:
    _, _, tag = SERVICES[name]["image"].rpartition(":")

    assert re.search(r"\d", tag)
    assert "latest" not in tag


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"setup"}))
def test_a_service_sees_the_secrets_that_were_handed_to_it_and_no_others(name: str) -> None:
    secrets = {source: target for source, target in mounts(SERVICES[name]).items() if source.startswith("secrets")}
    own = {f"secrets-{part}" for part in (name, name.partition("-")[0])}

    assert set(secrets) <= own
    assert set(secrets.values()) <= {"/run/delaywatch"}
    assert all(entry.endswith(":ro") for entry in SERVICES[name]["volumes"] if entry.startswith("secrets")), (
        "a service must not change its secrets"
    )


def test_no_service_has_a_secret_in_its_environment_or_reads_env_as_a_file() -> None:
    value = re.compile(rf"\$\{{?(?:{'|'.join(SECRET)})\b(?!:\+)")  # ${NAME:+NAME} is the name alone
    given = {
        f"{name}: {variable}"
        for name, service in SERVICES.items()
        for variable, text in environment(service).items()
        if value.search(str(text)) or variable in SECRET
    }

    assert given == set()
    assert [name for name, service in SERVICES.items() if "env_file" in service] == []


def test_every_volume_is_used_and_every_used_one_is_declared() -> None:
    used = {source for service in SERVICES.values() for source in mounts(service) if not source.startswith((".", "/"))}

    assert used == set(COMPOSE["volumes"])


@pytest.mark.skipif(not shutil.which("docker"), reason="there is no docker command on this machine")
def test_docker_compose_reads_the_file_without_a_warning(tmp_path: Path) -> None:
    shutil.copy(ROOT / "docker-compose.yaml", tmp_path)

    done = subprocess.run(
        ["docker", "compose", "--profile", "*", "config", "--quiet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
