"""The values of the Helm chart beside docker-compose.yaml, Airflow's own options and the page that goes with them.

The chart itself is not here. What Helm makes of them is looked at where there is a `helm` and DELAYWATCH_HELM_CHART
names the chart's folder or archive (`helm pull apache-airflow/airflow --version 1.22.0`). Elsewhere that test is
skipped, and so far it has only been skipped.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "infra-notes/kubernetes.md").read_text()
VALUES: dict[str, Any] = yaml.safe_load((ROOT / "infra-notes/helm/values.yaml").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
SCHEDULER = COMPOSE["services"]["airflow-scheduler"]
PARTS = {
    "scheduler": "airflow-scheduler",
    "apiServer": "airflow-apiserver",
    "dagProcessor": "airflow-dag-processor",
}  # the chart's name of a service
OPTIONS = [(section, option) for section, options in VALUES["config"].items() for option in options]
MEBIBYTES = {"m": 1, "g": 1024, "Mi": 1, "Gi": 1024}


def mebibytes(size: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(\w+)", size).groups()  # type: ignore[union-attr]
    return int(number) * MEBIBYTES[unit]


def secrets(values: Any) -> set[str]:
    """The value of every key that names a secret, however deep."""
    if isinstance(values, list):
        return {name for value in values for name in secrets(value)}
    if not isinstance(values, dict):
        return set()
    here = {str(value) for key, value in values.items() if key.lower().endswith("secretname") and key != "secretName"}
    return here | {name for value in values.values() for name in secrets(value)}


def test_the_image_is_the_one_that_compose_builds() -> None:
    name, _, tag = SCHEDULER["image"].partition(":")

    assert VALUES["defaultAirflowRepository"].endswith(f"/{name}")
    assert VALUES["defaultAirflowTag"] == tag


def test_the_chart_is_told_the_version_of_airflow_that_is_in_the_image() -> None:
    assert f"apache-airflow=={VALUES['airflowVersion']} " in (ROOT / "requirements/airflow.txt").read_text()


@pytest.mark.parametrize("part", PARTS)
def test_a_part_may_take_as_much_memory_as_under_compose(part: str) -> None:
    limit = VALUES[part]["resources"]["limits"]["memory"]

    assert mebibytes(limit) == mebibytes(COMPOSE["services"][PARTS[part]]["mem_limit"])


@pytest.mark.parametrize(("section", "option"), [pair for pair in OPTIONS if pair[0] != "fab"])
def test_airflow_knows_the_option(section: str, option: str) -> None:
    airflow = importlib.util.find_spec("airflow")
    assert airflow and airflow.submodule_search_locations
    known = yaml.safe_load((Path(airflow.submodule_search_locations[0]) / "config_templates/config.yml").read_text())

    assert option in known[section]["options"]


def test_what_compose_also_sets_has_the_same_value() -> None:
    in_both = {
        (section, option): (value, SCHEDULER["environment"][f"AIRFLOW__{section}__{option}".upper()])
        for section, options in VALUES["config"].items()
        for option, value in options.items()
        if f"AIRFLOW__{section}__{option}".upper() in SCHEDULER["environment"] and option != "base_url"
    }

    assert {pair: ours for pair, (ours, _) in in_both.items()} == {pair: its for pair, (_, its) in in_both.items()}
    assert ("fab", "cookie_secure") in in_both
    assert VALUES["executor"] == SCHEDULER["environment"]["AIRFLOW__CORE__EXECUTOR"]


def test_the_variables_of_a_task_are_those_that_compose_gives_it() -> None:
    given = {variable["name"]: variable["value"] for variable in VALUES["env"]}

    assert {name for name in given if name.startswith("DELAYWATCH_")} <= SCHEDULER["environment"].keys()
    assert given["DELAYWATCH_SCRATCH"] == SCHEDULER["environment"]["DELAYWATCH_SCRATCH"]
    assert {"name": "scratch", "mountPath": given["DELAYWATCH_SCRATCH"]} in VALUES["scheduler"]["extraVolumeMounts"]


def test_every_secret_is_a_key_of_the_one_that_the_page_makes() -> None:
    made = re.search(r"kubectl create secret generic (\S+)", PAGE)
    keys = set(re.findall(r"--from-literal=([\w-]+)=", PAGE))

    assert made
    assert secrets(VALUES) == {made[1]}
    assert {entry["secretName"] for entry in VALUES["secret"]} == {made[1]}
    # The first four are the chart's own names of keys: its production guide, and db migration's `connection`.
    assert keys == {
        "connection",
        "fernet-key",
        "api-secret-key",
        "jwt-secret",
        *(e["secretKey"] for e in VALUES["secret"]),
    }


def test_nothing_of_the_chart_that_has_a_password_of_its_own_is_started() -> None:
    assert [VALUES[part]["enabled"] for part in ("postgresql", "redis", "createUserJob")] == [False] * 3


@pytest.mark.skipif(
    not (shutil.which("helm") and os.environ.get("DELAYWATCH_HELM_CHART")),
    reason="there is no helm on this machine, or DELAYWATCH_HELM_CHART does not name the chart",
)
def test_helm_makes_every_part_of_airflow_from_our_image() -> None:
    command = ["helm", "template", "delaywatch", os.environ["DELAYWATCH_HELM_CHART"], "--namespace", "delaywatch"]
    done = subprocess.run(
        [*command, "--values", str(ROOT / "infra-notes/helm/values.yaml")], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    made = [one for one in yaml.safe_load_all(done.stdout) if one]
    images = {
        one["metadata"]["name"]: {container["image"] for container in one["spec"]["template"]["spec"]["containers"]}
        for one in made
        if one["kind"] in ("Deployment", "StatefulSet")
    }
    image = f"{VALUES['defaultAirflowRepository']}:{VALUES['defaultAirflowTag']}"
    assert images == {f"delaywatch-{part}": {image} for part in ("scheduler", "api-server", "dag-processor")}
