"""Compare the values of the Helm chart with docker-compose.yaml, the options of Airflow and the page."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "infra-notes/kubernetes.md").read_text()
VALUES: dict[str, Any] = yaml.safe_load((ROOT / "infra-notes/helm/values.yaml").read_text())
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
ENVIRONMENT: dict[str, Any] = SERVICES["airflow-scheduler"]["environment"]
OPTIONS = {
    (section, option): value for section, options in VALUES["config"].items() for option, value in options.items()
}


def mebibytes(size: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([mgMG])i?", size).groups()  # type: ignore[union-attr]
    return int(number) * {"m": 1, "g": 1024}[unit.lower()]


def secrets(values: Any) -> set[str]:
    """Return the value of every key that names a secret, at any depth."""
    if isinstance(values, list):
        return {name for value in values for name in secrets(value)}
    if not isinstance(values, dict):
        return set()
    here = {str(value) for key, value in values.items() if key.endswith("SecretName")}
    return here | {name for value in values.values() for name in secrets(value)}


def test_chart_and_compose_use_the_same_image_and_airflow() -> None:
    name, _, tag = SERVICES["airflow-scheduler"]["image"].partition(":")

    assert VALUES["defaultAirflowRepository"].endswith(f"/{name}")
    assert VALUES["defaultAirflowTag"] == tag
    assert f"apache-airflow=={VALUES['airflowVersion']} " in (ROOT / "requirements/airflow.txt").read_text()
    assert VALUES["executor"] == ENVIRONMENT["AIRFLOW__CORE__EXECUTOR"]


@pytest.mark.parametrize(
    ("part", "service"),
    [
        ("scheduler", "airflow-scheduler"),
        ("apiServer", "airflow-apiserver"),
        ("dagProcessor", "airflow-dag-processor"),
    ],
)
def test_a_part_has_the_memory_limit_of_its_service(part: str, service: str) -> None:
    assert mebibytes(VALUES[part]["resources"]["limits"]["memory"]) == mebibytes(SERVICES[service]["mem_limit"])


def test_airflow_knows_every_option() -> None:
    airflow = importlib.util.find_spec("airflow")
    assert airflow and airflow.submodule_search_locations
    known = yaml.safe_load((Path(airflow.submodule_search_locations[0]) / "config_templates/config.yml").read_text())

    ours = [(section, option) for section, option in OPTIONS if section != "fab"]  # a provider has these

    assert [pair for pair in ours if pair[1] not in known[pair[0]]["options"]] == []


def test_options_and_variables_have_the_values_of_compose() -> None:
    in_compose = {pair: ENVIRONMENT.get("AIRFLOW__{}__{}".format(*pair).upper()) for pair in OPTIONS}
    variables = {variable["name"]: variable["value"] for variable in VALUES["env"]}

    differing = {pair for pair, value in in_compose.items() if value not in (None, OPTIONS[pair])}

    assert differing <= {("api", "base_url")}
    assert in_compose["fab", "cookie_secure"] is not None
    assert {name for name in variables if name.startswith("DELAYWATCH_")} <= ENVIRONMENT.keys()
    assert variables["DELAYWATCH_SCRATCH"] == ENVIRONMENT["DELAYWATCH_SCRATCH"]
    assert {"name": "scratch", "mountPath": variables["DELAYWATCH_SCRATCH"]} in VALUES["scheduler"]["extraVolumeMounts"]


def test_every_secret_is_a_key_of_the_secret_that_the_page_creates() -> None:
    (name,) = re.findall(r"kubectl create secret generic (\S+)", PAGE)
    keys = set(re.findall(r"--from-literal=([\w-]+)=", PAGE))
    of_the_chart = {"connection", "fernet-key", "api-secret-key", "jwt-secret"}

    assert secrets(VALUES) == {entry["secretName"] for entry in VALUES["secret"]} == {name}
    assert keys == of_the_chart | {entry["secretKey"] for entry in VALUES["secret"]}


def test_no_part_with_a_default_password_is_started() -> None:
    assert [VALUES[part]["enabled"] for part in ("postgresql", "redis", "createUserJob")] == [False] * 3
