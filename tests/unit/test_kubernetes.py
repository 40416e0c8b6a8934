"""Compare the values of the Helm chart with docker-compose.yaml and the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
VALUES: dict[str, Any] = yaml.safe_load((ROOT / "infra-notes/helm/values.yaml").read_text())
SCHEDULER: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]["airflow-scheduler"]


def secrets(values: Any) -> set[str]:
    """Return the value of every key that names a secret, at any depth."""
    if isinstance(values, list):
        return {name for value in values for name in secrets(value)}
    if not isinstance(values, dict):
        return set()
    here = {str(value) for key, value in values.items() if key.endswith("SecretName")}
    return here | {name for value in values.values() for name in secrets(value)}


def test_variables_have_the_names_and_the_image_has_the_version_of_compose() -> None:
    variables = {variable["name"]: variable["value"] for variable in VALUES["env"]}

    assert {name for name in variables if name.startswith("DELAYWATCH_")} <= SCHEDULER["environment"].keys()
    assert VALUES["defaultAirflowTag"] == SCHEDULER["image"].partition(":")[2]
    assert {"name": "scratch", "mountPath": variables["DELAYWATCH_SCRATCH"]} in VALUES["scheduler"]["extraVolumeMounts"]


def test_every_secret_is_created_by_the_page_and_no_part_has_a_default_password() -> None:
    page = (ROOT / "infra-notes/kubernetes.md").read_text()
    (name,) = re.findall(r"kubectl create secret generic (\S+)", page)
    keys = set(re.findall(r"--from-literal=([\w-]+)=", page))
    of_the_chart = {"connection", "fernet-key", "api-secret-key", "jwt-secret"}

    assert secrets(VALUES) == {entry["secretName"] for entry in VALUES["secret"]} == {name}
    assert keys == of_the_chart | {entry["secretKey"] for entry in VALUES["secret"]}
    assert [VALUES[part]["enabled"] for part in ("postgresql", "redis", "createUserJob")] == [False] * 3
