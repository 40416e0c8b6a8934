"""The demo as a person runs it: `python -m demo` in a process of its own, on a folder of its own.

Its commands that start no Airflow run in this process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from demo import warehouse
from demo.__main__ import app
from tests.builders import csv_of, year_of_flights

ROOT = Path(__file__).resolve().parents[3]
# Of a second demo in the same process, Airflow's start takes a tenth of the time.
TWICE = """
import runpy
for _ in range(2):
    try:
        runpy.run_module("demo", run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
"""


def demo(folder: Path, *arguments: str, program: tuple[str, ...] = ("-m", "demo")) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "dags"), "COLUMNS": "200"}
    command = [sys.executable, *program, *arguments, "--folder", str(folder)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


class Story(NamedTuple):
    """What a person saw who ran the demo twice on a file of 2015."""

    folder: Path
    first: str
    second: str


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("demo") / "folder"
    own_file = folder.with_name("2015.csv")
    own_file.write_bytes(csv_of(year_of_flights(2015, {"BOS": 20}, closed=[("BOS", "2015-01-27")])))
    done = demo(folder, "--csv", str(own_file), program=("-c", TWICE))
    assert done.returncode == 0, done.stderr
    _, first, second = done.stdout.split("Delaywatch: 2015")
    yield Story(folder, first, second)
    assert CliRunner().invoke(app, ["stop", "--folder", str(folder)]).exit_code == 0


def test_a_year_of_ones_own_goes_from_csv_to_summary_and_database(
    story: Story, capfd: pytest.CaptureFixture[str]
) -> None:
    query = "SELECT verdict FROM flights.agg_dep_delay_by_date WHERE id = 'BOS20150127'"
    asked = CliRunner().invoke(app, ["psql", "-At", "-c", query, "--folder", str(story.folder)])

    assert "7,300" in story.first
    assert "Tue 27 Jan 2015" in story.first
    assert "Nothing changed" not in story.first
    assert (asked.exit_code, capfd.readouterr().out) == (0, "closure\n")


def test_a_second_time_nothing_changes_and_the_demo_says_so(story: Story) -> None:
    assert "Nothing changed" in story.second


def test_no_demo_leaves_a_server_running(story: Story) -> None:
    assert not warehouse.is_running(story.folder)


@pytest.mark.slow
def test_a_file_of_another_year_ends_with_one_sentence_and_the_place_of_the_log(story: Story) -> None:
    mixed = story.folder.with_name("2016.csv")
    mixed.write_bytes(csv_of([*year_of_flights(2016, {"BOS": 2})[:200], *year_of_flights(2015, {"BOS": 2})]))

    wrong_year = demo(story.folder, "--csv", str(mixed))

    assert wrong_year.returncode == 1
    assert "FL_DATE is '2015-01-01' in line 202" in wrong_year.stderr
    assert "run.log" in wrong_year.stderr
    assert "Traceback" not in wrong_year.stdout + wrong_year.stderr
    assert not warehouse.is_running(story.folder)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--year", "abc"], "'abc' is not a year"),
        (["--year", "1886"], "from 1987 to 2100"),
        (["--year", "2018"], "01_bronze/2018.csv (or .csv.gz) is not in"),
        (["--csv", "/nowhere/2018.csv"], "There is no file /nowhere/2018.csv"),
        (["--csv", __file__, "--year", "2018"], "neither .csv nor .csv.gz"),
        (["--csv", __file__], "does not begin with its year"),
        (["psql"], "run `make demo` first"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_sentence_before_anything_starts(
    tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    done = CliRunner().invoke(app, [*arguments, "--folder", str(tmp_path / "demo")])

    assert done.exit_code == 1
    assert sentence in done.stderr
    assert not (tmp_path / "demo" / "airflow").exists()
