"""`python -m demo`: its flights, its Postgres, and the proof that a second run changes nothing."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from demo import fingerprint, flights
from demo import warehouse as postgres
from demo.__main__ import app
from tests.builders import HEADER, csv_of, year_of_flights
from tests.conftest import sql

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
START_AND_DIE = """
import os, pathlib, sys, demo.warehouse
server = demo.warehouse.running(pathlib.Path(sys.argv[1]))
server.__enter__()
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """The folder of a demo. Its name has a space, which Postgres does not accept; its parent is private."""
    parent = tmp_path / "my projects"
    parent.mkdir(mode=0o700)
    yield parent / "demo"
    postgres.stop(parent / "demo")
    assert stat.S_IMODE(parent.stat().st_mode) == 0o700


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "dags"), str(ROOT)]), "COLUMNS": "200"}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_a_demo_stores_the_year_and_only_a_second_one_reports_that_nothing_changed(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    csv = root.with_name("2015.csv")
    csv.write_bytes(csv_of(year_of_flights(2015, {"BOS": 20}, closed=[("BOS", "2015-01-27")])))

    outcome = run(TWICE, "--csv", str(csv), "--folder", str(root))

    assert outcome.returncode == 0, outcome.stderr
    _, first, second = outcome.stdout.split("Delaywatch: 2015")
    assert "7,300" in first
    assert "Tue 27 Jan 2015" in first
    assert ["Nothing changed" in output for output in (first, second)] == [False, True]
    query = "SELECT verdict FROM flights.agg_dep_delay_by_date WHERE id = 'BOS20150127'"
    psql = CliRunner().invoke(app, ["psql", "-At", "-c", query, "--folder", str(root)])
    assert (psql.exit_code, capfd.readouterr().out) == (0, "closure\n")
    assert not postgres.is_running(root)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--year", "abc"], "'abc'"),
        (["--year", "2018"], "01_bronze/2018.csv"),
        (["--csv", "/nowhere/2018.csv"], "/nowhere/2018.csv"),
        (["--csv", __file__], "test_demo.py"),
        (["psql"], "make demo"),
    ],
)
def test_a_wrong_option_is_an_error_before_anything_starts(tmp_path: Path, arguments: list[str], named: str) -> None:
    outcome = CliRunner().invoke(app, [*arguments, "--folder", str(tmp_path / "demo")])

    assert outcome.exit_code == 1
    assert named in outcome.stderr
    assert not (tmp_path / "demo" / "airflow").exists()


def test_stop_ends_the_server_of_a_killed_demo_and_deletes_its_data_outside_of_the_folder(root: Path) -> None:
    killed = run(START_AND_DIE, str(root))
    data = postgres.data_folder(root)
    assert killed.returncode == -9
    assert postgres.is_running(root)

    postgres.stop(root)

    assert not postgres.is_running(root)
    assert not data.exists()


def test_the_bronze_file_has_every_flight_in_the_bytes_of_a_kaggle_file(tmp_path: Path) -> None:
    bronze = tmp_path / "2013.csv"

    rows = flights.write_bronze(bronze)

    header, *lines = bronze.read_bytes().splitlines()
    flown = b"2013-01-01,UA,1545,EWR,IAH,515,517.0,2.0,,,,,819,830.0,11.0,0.0,,0.0,,,227.0,1400.0,,,,,,"
    diverted = b"2013-01-01,MQ,4525,LGA,XNA,1530,1525.0,-5.0,,,,,1805,1934.0,,0.0,,1.0,,,,1147.0,,,,,,"
    cancelled = b"2013-01-01,EV,4308,EWR,RDU,1630,,,,,,,1815,,,1.0,,0.0,,,,416.0,,,,,,"
    assert rows == len(lines) == 336_776
    assert header.decode() == ",".join(HEADER)
    assert {flown, diverted, cancelled} <= set(lines)
    assert list(tmp_path.iterdir()) == [bronze]


def test_only_other_bytes_new_files_and_missing_files_of_the_results_are_changes(tmp_path: Path) -> None:
    files = [tmp_path / key for key in ("01_bronze/2013.csv", "02_silver/a", "03_gold/b", "04_plots/c")]
    for path in files:
        path.parent.mkdir()
        path.write_bytes(b"one")
    before = fingerprint.hash_files(tmp_path)

    bronze, silver, gold, plot = files
    bronze.write_bytes(b"two")
    silver.write_bytes(b"two")
    gold.rename(gold.with_name("d"))
    plot.write_bytes(b"one")

    changed = fingerprint.changed(before, fingerprint.hash_files(tmp_path))
    assert changed == ["02_silver/a", "03_gold/b", "03_gold/d"]


def test_a_row_that_is_written_again_with_equal_values_is_a_change_but_a_new_run_is_not(warehouse: str) -> None:
    feedback = "INSERT INTO flights.feedback VALUES ('JFK', '2015-01-01', 'right', '', 'ana', now())"
    sql(warehouse, feedback)
    before = fingerprint.hash_tables(warehouse)

    sql(warehouse, "INSERT INTO flights.runs (run_id, year) VALUES ('r', 2015)")
    after_a_run = fingerprint.hash_tables(warehouse)
    sql(warehouse, "UPDATE flights.feedback SET note = note")

    assert after_a_run == before
    assert fingerprint.changed(before, fingerprint.hash_tables(warehouse)) == ["flights.feedback"]
