"""A new detector is a module and a block of detectors.yaml; and the names of detectors load no large library."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from utils import detectors

ROOT = Path(__file__).parents[3]
MODULE = """
import numpy as np
from pydantic import Field
from utils.detectors.shared import parameters
from utils.detectors.shared.verdicts import calendar, severities, usable, verdicts

METRIC = "mean_dep_delay_min"


class Parameters(parameters.Parameters):
    limit_min: float = Field(60.0, ge=1.0, le=500.0, description="mean delay at which a day is abnormal, in minutes")


def detect(days, params):
    grid = calendar(days)
    delay, limit = grid.numbers(METRIC), np.full(grid.shape[1], params.limit_min)
    return verdicts(
        grid, metric=METRIC, judged=usable(grid, METRIC, 5), expected=limit, lower=limit, upper=limit, score=delay,
        severity=severities(delay, (params.limit_min,)), direction=np.array(["late"]),
    )
"""
CALLER = """
import json, sys
from pathlib import Path
from tests.builders import SPIKE, eventful_year
from utils import detectors

settings = detectors.read_settings(Path(sys.argv[1]))
verdicts = detectors.run("newcomer", eventful_year(), settings["newcomer"]).to_pandas()
flagged = verdicts.loc[verdicts["is_anomaly"], "fl_date"]
print(json.dumps([detectors.NAMES, settings["newcomer"], sorted(set(map(str, flagged))), str(SPIKE)]))
"""


@pytest.fixture(scope="module")
def dags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `dags` with the detector `newcomer`."""
    dags = tmp_path_factory.mktemp("tree") / "dags"
    shutil.copytree(ROOT / "dags", dags, ignore=shutil.ignore_patterns("__pycache__"))
    (dags / "utils" / "detectors" / "newcomer.py").write_text(MODULE)
    with (dags / "detectors.yaml").open("a") as file:
        file.write("\nnewcomer:\n  limit_min: 65\n")
    return dags


def run_python(dags: Path, *arguments: str) -> str:
    environment = {"PYTHONPATH": f"{dags}:{ROOT}"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=dags, env=environment, capture_output=True, text=True, check=True).stdout


def test_a_new_module_and_its_block_are_a_detector(dags: Path) -> None:
    names, settings, flagged, spike = json.loads(run_python(dags, "-c", CALLER, str(dags / "detectors.yaml")))

    assert names == [*detectors.NAMES, "newcomer"]
    assert settings == {"limit_min": 65.0}
    assert flagged == [spike]


def test_athena_has_a_partition_for_a_new_detector(dags: Path) -> None:
    assert "newcomer" in run_python(dags, str(ROOT / "infra-notes" / "lakehouse" / "athena.py"), "s3://bucket/lake")


def test_the_names_of_the_detectors_load_no_large_library(dags: Path) -> None:
    """The scheduler parses the DAG files, which import the names, every few seconds."""
    loaded = run_python(dags, "-c", "import sys; from utils import detectors; print(*sys.modules)").split()

    assert {"pandas", "numpy", "scipy", "sklearn", "pydantic"}.isdisjoint(loaded)
