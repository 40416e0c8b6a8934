"""`python -m utils`: results on standard output, one error on standard error, and the exit code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import command
from tests.builders import csv_of, year_of_flights
from tests.child_processes import count_children
from tests.steps import STEPS
from utils import detectors
from utils.pipeline import inputs
from utils.settings import Settings
from utils.storage.lake import Lake

ROOT = Path(__file__).parents[3]


@pytest.fixture
def lake(folder_settings: Settings) -> str:
    """The URI of a lake with the CSV of 2015."""
    Lake(folder_settings).store.put("01_bronze/2015.csv", csv_of(year_of_flights(2015, {"JFK": 8})))
    return folder_settings.lake


def utils(*line: str, lake: str = "", warehouse: str = "") -> subprocess.CompletedProcess[str]:
    return command.utils(*line, DELAYWATCH_LAKE=lake, DELAYWATCH_WAREHOUSE=warehouse)


@pytest.mark.parametrize("min_large_rows", [1, 1_000_000], ids=["a process per step", "one process"])
def test_run_takes_a_year_from_its_csv_to_the_page_and_status_shows_it(
    lake: str, warehouse: str, min_large_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "MIN_LARGE_ROWS", min_large_rows)

    done, children = count_children(
        lambda: utils("run", "--year", "2015", "--threads", "1", lake=lake, warehouse=warehouse)
    )

    assert done.returncode == 0, done.stderr
    assert (children > 0) == (min_large_rows == 1)
    status = utils("status", lake=lake, warehouse=warehouse)
    assert command.cells(status) == [["2015", "2015.csv", "2,920", "365", str(len(detectors.NAMES)), "365", "yes"]]


def test_status_says_to_which_month_a_year_so_far_goes(done: Settings) -> None:
    lake = Lake(done)
    january = [row for row in year_of_flights(2016, {"JFK": 6}) if row["FL_DATE"] < "2016-02"]
    lake.store.put("01_bronze/2016.csv", csv_of(january))
    for step in ("silver", "gold"):
        STEPS[step](done, 2016)

    status = utils("status", lake=done.lake, warehouse=done.warehouse)

    assert [row[0] for row in command.cells(status)] == ["2015", "2016 so far, to January"]


def test_status_shows_a_year_that_the_lake_has_lost_and_the_demo_year_does_not_replace_it(done: Settings) -> None:
    folder = Path(done.lake.removeprefix("file://"))
    shutil.rmtree(folder)

    status = utils("status", lake=done.lake, warehouse=done.warehouse)
    demo = subprocess.run(
        [sys.executable, ROOT / "stack/airflow/demo_year.py"],
        env=os.environ | {"PYTHONPATH": "dags", "DELAYWATCH_LAKE": done.lake, "DELAYWATCH_WAREHOUSE": done.warehouse},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert command.cells(status) == [["2015", "–", "–", "–", "–", "1,095", "–"]]
    assert (demo.returncode, "2015" in demo.stderr) == (0, True)
    assert not folder.exists()


def test_a_year_that_fails_does_not_stop_the_next_one(lake: str) -> None:
    done = utils("silver", "--year", "2014:2015", lake=lake)

    assert "01_bronze/2014.csv" in command.error_of(done)
    assert utils("gold", "--year", "2015", lake=lake).returncode == 0


def test_a_run_whose_warehouse_is_down_stops_before_silver_and_hides_the_password(lake: str) -> None:
    error = command.error_of(
        utils("run", "--year", "2015", lake=lake, warehouse="postgresql://u:hush@127.0.0.1:9/warehouse")
    )

    assert "127.0.0.1" in error
    assert "hush" not in error
    assert "silver step" in command.error_of(utils("gold", "--year", "2015", lake=lake))
