"""`python -m demo` in a process and a folder of its own. Commands without Airflow run in this process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from demo import warehouse
from demo.__main__ import app
from tests.builders import csv_of, year_of_flights

ROOT = Path(__file__).resolve().parents[3]
# The second demo in a process starts Airflow in a tenth of the time.
TWICE = """
import runpy
for _ in range(2):
    try:
        runpy.run_module("demo", run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
"""


def run_demo(folder: Path, csv: Path, *program: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "dags"), "COLUMNS": "200"}
    command = [sys.executable, *program, "--csv", str(csv), "--folder", str(folder)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("demo") / "folder"
    yield folder
    assert CliRunner().invoke(app, ["stop", "--folder", str(folder)]).exit_code == 0


@pytest.fixture(scope="module")
def outputs(folder: Path) -> tuple[str, str]:
    """The output of two demos on the same file of 2015."""
    csv = folder.with_name("2015.csv")
    csv.write_bytes(csv_of(year_of_flights(2015, {"BOS": 20}, closed=[("BOS", "2015-01-27")])))
    outcome = run_demo(folder, csv, "-c", TWICE)
    assert outcome.returncode == 0, outcome.stderr
    _, first, second = outcome.stdout.split("Delaywatch: 2015")
    return first, second


def test_a_demo_shows_the_year_and_stores_it_in_a_database(
    folder: Path, outputs: tuple[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    query = "SELECT verdict FROM flights.agg_dep_delay_by_date WHERE id = 'BOS20150127'"
    psql = CliRunner().invoke(app, ["psql", "-At", "-c", query, "--folder", str(folder)])

    assert "7,300" in outputs[0]
    assert "Tue 27 Jan 2015" in outputs[0]
    assert (psql.exit_code, capfd.readouterr().out) == (0, "closure\n")
    assert not warehouse.is_running(folder)


def test_only_a_second_demo_reports_that_nothing_changed(outputs: tuple[str, str]) -> None:
    assert ["Nothing changed" in output for output in outputs] == [False, True]


@pytest.mark.slow
def test_a_failed_step_ends_the_demo_with_its_error_and_the_log(folder: Path) -> None:
    mixed = folder.with_name("2016.csv")
    mixed.write_bytes(csv_of([*year_of_flights(2016, {"BOS": 2})[:200], *year_of_flights(2015, {"BOS": 2})]))

    outcome = run_demo(folder, mixed, "-m", "demo")

    assert outcome.returncode == 1
    assert "line 202" in outcome.stderr
    assert "run.log" in outcome.stderr
    assert "Traceback" not in outcome.stdout + outcome.stderr
    assert not warehouse.is_running(folder)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--year", "abc"], "'abc'"),
        (["--year", "1886"], "1987 to 2100"),
        (["--year", "2018"], "01_bronze/2018.csv"),
        (["--csv", "/nowhere/2018.csv"], "/nowhere/2018.csv"),
        (["--csv", __file__, "--year", "2018"], ".csv.gz"),
        (["--csv", __file__], "test_demo.py"),
        (["psql"], "make demo"),
    ],
)
def test_a_wrong_option_is_an_error_before_anything_starts(tmp_path: Path, arguments: list[str], named: str) -> None:
    outcome = CliRunner().invoke(app, [*arguments, "--folder", str(tmp_path / "demo")])

    assert outcome.exit_code == 1
    assert named in outcome.stderr
    assert not (tmp_path / "demo" / "airflow").exists()
