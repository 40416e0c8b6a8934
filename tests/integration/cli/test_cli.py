"""`python -m utils` as a person types it: results on stdout, one sentence on stderr, and the exit code."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import command
from tests.builders import csv_of, year_of_flights
from tests.conftest import at
from utils.cli import app as cli
from utils.cli import options
from utils.errors import DelaywatchError
from utils.pipeline import detect, inputs, refine, status
from utils.settings import Settings

ROOT = Path(__file__).parents[3]


def utils(*line: str, lake: Path | None = None, warehouse: str = "") -> subprocess.CompletedProcess[str]:
    return command.utils(*line, DELAYWATCH_LAKE=lake.as_uri() if lake else "", DELAYWATCH_WAREHOUSE=warehouse)


def error_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("Error: "))
    return line


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    (tmp_path / "lake" / "01_bronze").mkdir(parents=True)
    (tmp_path / "lake" / "01_bronze" / "2015.csv").write_bytes(csv_of(year_of_flights(2015, {"JFK": 8})))
    return tmp_path / "lake"


@pytest.mark.parametrize("min_large_rows", [1, 1_000_000], ids=["steps in processes of their own", "one process"])
def test_run_does_a_year_from_the_csv_to_the_warehouse_and_status_shows_it(
    lake: Path, warehouse: str, min_large_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "MIN_LARGE_ROWS", min_large_rows)

    done = utils("run", "--year", "2015", lake=lake, warehouse=warehouse)

    assert done.returncode == 0, done.stderr
    assert "2920 rows read, 2920 kept, 0 duplicate, 0 rejected" in done.stderr
    status = utils("status", lake=lake, warehouse=warehouse)
    assert [cell.strip() for cell in status.stdout.splitlines()[3].strip("│").split("│")] == [
        "2015", "2015.csv", "2,920", "365", "6", "365", "yes",
    ]  # fmt: skip
    page = lake / "04_plots/year=2015/index.html"
    before = page.read_bytes()
    page.unlink()
    assert utils("page", "--year", "2015", lake=lake, warehouse=warehouse).returncode == 0
    assert page.read_bytes() == before


def test_a_year_that_the_lake_has_lost_is_still_shown_and_no_demo_year_takes_its_place(
    done: Settings, tmp_path: Path
) -> None:
    lake, warehouse = tmp_path / "lake", done.warehouse
    shutil.rmtree(lake)

    status = utils("status", lake=lake, warehouse=warehouse)
    asked = subprocess.run(
        [sys.executable, ROOT / "stack/airflow/demo_year.py"],
        env={**os.environ, "PYTHONPATH": "dags", "DELAYWATCH_LAKE": lake.as_uri(), "DELAYWATCH_WAREHOUSE": warehouse},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert [cell.strip() for cell in status.stdout.splitlines()[3].strip("│").split("│")] == [
        "2015", "–", "–", "–", "–", "1,095", "–",
    ]  # fmt: skip
    assert asked.returncode == 0
    assert asked.stderr.startswith("Warning: the lake is empty, but the warehouse has 2015.")
    assert not lake.exists()


def test_changed_settings_show_as_stale_until_detect_has_run(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(lake=lake.as_uri(), warehouse="", threads=1)
    refine.write_silver(settings, 2015)
    refine.write_gold(settings, 2015)
    detect.write_anomalies(settings, 2015, "three_sigma")
    changed = tmp_path / "detectors.yaml"
    changed.write_text("three_sigma:\n  threshold: 2.5\n")
    monkeypatch.setattr(inputs, "DETECTORS_FILE", changed)

    assert status.status(settings)[0]["detectors"] == {"three_sigma": "stale"}
    shown = utils("status", lake=lake).stdout
    assert "1, stale: three_sigma" in " ".join(shown.split())
    assert "missing:" in shown
    detect.write_anomalies(settings, 2015, "three_sigma")
    assert status.status(settings)[0]["detectors"] == {"three_sigma": "current"}


def test_a_year_that_fails_does_not_keep_the_next_one_from_being_done(lake: Path) -> None:
    done = utils("silver", "--year", "2014:2015", lake=lake)

    assert "01_bronze/2014.csv (or .csv.gz) is not in" in error_of(done)
    assert (lake / "02_silver/flights/year=2015/_manifest.json").exists()


def test_bronze_puts_a_file_into_the_lake_as_it_is(lake: Path, tmp_path: Path) -> None:
    packed = tmp_path / "download.csv.gz"
    packed.write_bytes(gzip.compress(csv_of(year_of_flights(2016, {"JFK": 1}))))
    done = utils("bronze", "--year", "2016", "--from", str(packed), lake=lake)

    assert (done.returncode, done.stdout.strip()) == (0, "01_bronze/2016.csv.gz")
    assert (lake / "01_bronze/2016.csv.gz").read_bytes() == packed.read_bytes()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is empty"),
        (b"a,b\n1,2\n", "lacks the columns FL_DATE"),
        (csv_of([]), "has a header but no rows"),
        (csv_of(year_of_flights(2016, {"JFK": 1})), "FL_DATE is '2016-01-01' in line 2"),
    ],
    ids=["empty", "wrong header", "no flights", "another year"],
)
def test_a_file_that_cannot_be_the_year_s_replaces_nothing(lake: Path, tmp_path: Path, data: bytes, told: str) -> None:
    before = (lake / "01_bronze/2015.csv").read_bytes()
    other = tmp_path / "other.csv"
    other.write_bytes(data)

    assert told in error_of(utils("bronze", "--year", "2015", "--from", str(other), lake=lake))
    assert (lake / "01_bronze/2015.csv").read_bytes() == before


def test_a_run_whose_warehouse_is_down_stops_before_it_computes(lake: Path) -> None:
    told = error_of(utils("run", "--year", "2015", lake=lake, warehouse="postgresql://loader@127.0.0.1:9/warehouse"))

    assert "No Postgres answers" in told
    assert not (lake / "02_silver").exists()


def test_a_wrong_year_is_told_before_a_missing_variable() -> None:
    assert "'abc' is not a year" in error_of(utils("run", "--year", "abc"))


def test_a_missing_year_lists_the_years_that_are_there(lake: Path) -> None:
    assert "choose another year: 2015." in error_of(utils("silver", "--year", "1999", lake=lake))


@pytest.mark.parametrize("year", ["abc", "1886", "3000", "2018:2009", "20 18", "", "../2015", "-1"])
def test_what_is_no_year_is_refused(year: str) -> None:
    with pytest.raises(DelaywatchError, match=r"is not a year|runs backwards"):
        options.years_of([year])


def test_years_can_be_ranges_lists_and_both() -> None:
    assert options.years_of(["2009:2011", "2011,2018"]) == [2009, 2010, 2011, 2018]


def test_without_a_lake_the_variable_and_the_option_are_named() -> None:
    message = error_of(utils("silver", "--year", "2015"))

    assert "DELAYWATCH_LAKE is not set" in message
    assert "--lake" in message


def test_a_warehouse_that_is_down_is_named_without_its_password(done: Settings, tmp_path: Path) -> None:
    nobody = "postgresql://loader:hush@127.0.0.1:9/warehouse"
    told = error_of(utils("upsert", "--year", "2015", lake=tmp_path / "lake", warehouse=nobody))

    assert "127.0.0.1" in told
    assert "hush" not in told


def test_a_database_that_is_not_there_is_named(lake: Path, warehouse: str) -> None:
    assert "nowhere" in error_of(utils("status", lake=lake, warehouse=at(warehouse, database="nowhere")))


def test_a_step_without_the_one_before_it_names_that_step(lake: Path) -> None:
    assert "run the silver step of 2015 first" in error_of(utils("gold", "--year", "2015", lake=lake))


def test_a_wrong_option_is_a_usage_error() -> None:
    assert utils("run", "--yaer", "2015").returncode == 2


def test_prepare_explains_itself() -> None:
    from typer.testing import CliRunner

    told = CliRunner().invoke(cli.app, ["prepare", "--help"], env={"COLUMNS": "200"})

    assert told.exit_code == 0
    for option in ("--lake", "--warehouse", "--reader", "--reader-password-file"):
        assert option in told.stdout


@pytest.mark.parametrize(
    "command", ["run", "bronze", "silver", "gold", "detect", "explain", "upsert", "plot", "status"]
)
def test_every_command_explains_itself_and_takes_years_lake_and_warehouse(command: str) -> None:
    from typer.testing import CliRunner

    told = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "200"})

    assert told.exit_code == 0
    for option in ("--year", "--lake", "--warehouse"):
        assert option in told.stdout


def test_a_key_not_ours_to_write_is_told_in_one_sentence(lake: Path) -> None:
    """The lake's folder is closed to this user; as root nothing is, so the process puts root's rights down."""
    if os.geteuid() == 0:
        wrapper = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        for folder in (lake, *lake.parents):
            if folder.stat().st_uid == 0 and "pytest" in str(folder):
                folder.chmod(0o755)
    else:
        wrapper = []
        lake.chmod(0o555)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "dags"), "COLUMNS": "400", "HOME": "/tmp"}
    line = [*wrapper, sys.executable, "-m", "utils", "silver", "--year", "2015", "--lake", lake.as_uri()]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    if "No module named" in done.stderr or "Permission denied" in done.stderr.splitlines()[-1]:
        pytest.skip("another user may not start this interpreter")

    assert "No permission for" in error_of(done)
