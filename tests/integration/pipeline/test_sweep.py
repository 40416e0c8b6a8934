"""What retention removes, what it never does, and that what went comes back."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.steps import YEAR, everything, files, run
from utils.cli import app as cli
from utils.errors import DelaywatchError
from utils.monitoring.retention import sweep
from utils.pipeline import detect, plots, publish, refine
from utils.settings import Settings, WatchSettings
from utils.storage.lake import Lake

NOW = datetime(2026, 11, 21, tzinfo=UTC)
KEEP_ONE = WatchSettings(keep_plots_years=1, keep_silver_years=1)


@pytest.fixture
def two_years(done: Settings) -> Settings:
    """A second, later year beside the finished one: its bronze alone, its pictures and a manifest of its own silver."""
    lake = Lake(done)
    for key in lake.store.list(""):
        if f"year={YEAR}/" in key or key == f"01_bronze/{YEAR}.csv":
            lake.store.put(key.replace(str(YEAR), str(YEAR + 1)), lake.store.get(key) or b"")
    return done


def kinds(keys: set[str]) -> set[str]:
    """`02_silver/flights` and its like: the first two folders, and what of silver it is."""
    return {"/".join(key.split("/")[:2]) + ("/_" if "/_" in key else "") for key in keys}


def test_without_a_setting_nothing_ever_goes(two_years: Settings) -> None:
    before = everything(two_years)

    assert sweep(two_years, WatchSettings(), NOW) == []
    assert everything(two_years) == before


def test_a_dry_run_shows_what_would_go_and_removes_nothing(two_years: Settings) -> None:
    before = everything(two_years)

    found = sweep(two_years, KEEP_ONE, NOW, is_dry_run=True)

    assert [str(one) for one in found] == [
        f"pictures and page of {YEAR}: 7 files",
        f"flights in silver of {YEAR}: 1 file",
    ]
    assert everything(two_years) == before


def test_flights_and_pictures_of_the_older_year_go_and_nothing_else(two_years: Settings) -> None:
    before = files(two_years)

    sweep(two_years, KEEP_ONE, NOW)

    gone = set(before) - set(files(two_years))
    assert kinds(gone) == {"02_silver/flights", f"04_plots/year={YEAR}"}
    assert all(f"year={YEAR}/" in key for key in gone)
    assert {key: data for key, data in before.items() if key not in gone} == files(two_years)


def test_sweeping_twice_finds_nothing_the_second_time(two_years: Settings) -> None:
    sweep(two_years, KEEP_ONE, NOW)

    assert sweep(two_years, KEEP_ONE, NOW) == []


def test_verdicts_page_and_warehouse_of_a_swept_year_can_be_made_anew_without_its_flights(two_years: Settings) -> None:
    before = files(two_years)

    sweep(two_years, KEEP_ONE, NOW)
    refine.write_gold(two_years, YEAR)
    detect.write_anomalies(two_years, YEAR, "delaywatch")
    publish.upsert(two_years, YEAR)
    plots.write_plots(two_years, YEAR)
    publish.publish(two_years, YEAR, "again", NOW)

    after = files(two_years)
    assert kinds(set(before) - set(after)) == {"02_silver/flights"}
    assert {key: before[key] for key in after} == after


def test_reasons_of_a_swept_year_ask_for_its_silver_step(two_years: Settings) -> None:
    sweep(two_years, KEEP_ONE, NOW)

    with pytest.raises(DelaywatchError, match=rf"is no longer in .*; run the silver step of {YEAR} again"):
        detect.explain(two_years, YEAR)


def test_a_run_of_a_swept_year_brings_back_every_byte(two_years: Settings) -> None:
    before = files(two_years)

    sweep(two_years, KEEP_ONE, NOW)
    run(two_years)

    assert files(two_years) == before


def test_the_newest_years_stay_whatever_today_is(done: Settings) -> None:
    assert sweep(done, KEEP_ONE, NOW + timedelta(days=36500)) == []


def test_a_year_that_is_being_written_stays(two_years: Settings) -> None:
    before = files(two_years)

    with Lake(two_years).staging(YEAR):
        found = sweep(two_years, KEEP_ONE, NOW)

    assert [str(one) for one in found] == [
        f"pictures and page of {YEAR}: stays, another run is writing it",
        f"flights in silver of {YEAR}: stays, another run is writing it",
    ]
    assert files(two_years) == before


def test_a_year_with_a_step_still_to_come_stays(two_years: Settings) -> None:
    Lake(two_years).store.delete([f"03_gold/anomaly_reasons/year={YEAR}/anomaly_reasons.parquet"])

    found = sweep(two_years, KEEP_ONE, NOW)

    assert [one.kept_because for one in found] == ["its run has not come to its end"] * 2


def test_new_gold_without_new_verdicts_keeps_the_year(two_years: Settings) -> None:
    lake = Lake(two_years)
    lake.write_table(
        f"03_gold/airport_days/year={YEAR}/airport_days.parquet", lake.read_airport_days(YEAR), "another silver"
    )

    found = sweep(two_years, KEEP_ONE, NOW)

    assert [one.kept_because for one in found] == ["a step of it is still to come"] * 2


def test_a_year_without_bronze_stays_because_it_could_not_be_made_again(two_years: Settings) -> None:
    Lake(two_years).store.delete([f"01_bronze/{YEAR}.csv"])

    found = sweep(two_years, KEEP_ONE, NOW)

    assert [one.kept_because for one in found] == ["its bronze is not there, so it could not be made again"] * 2


# --- logs -------------------------------------------------------------------------------------------------------------


def log_file(folder: Path, name: str, days: float) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("log")
    when = (NOW - timedelta(days=days)).timestamp()
    os.utime(path, (when, when))
    return path


def test_old_logs_go_with_their_empty_folders_and_new_ones_stay(folder_settings: Settings, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    old = log_file(logs, "dag_id=flight_anomalies/run_id=a/task_id=silver/attempt=1.log", 31)
    new = log_file(logs, "dag_id=flight_anomalies/run_id=b/task_id=silver/attempt=1.log", 29)

    found = sweep(folder_settings, WatchSettings(log_folder=logs, keep_logs_days=30), NOW)

    assert [str(one) for one in found] == ["logs of more than 30 days: 1 file"]
    assert (old.parent.parent.exists(), new.exists(), logs.is_dir()) == (False, True, True)


def test_a_link_is_neither_followed_nor_removed(folder_settings: Settings, tmp_path: Path) -> None:
    outside = log_file(tmp_path / "outside", "precious.log", 99)
    (logs := tmp_path / "logs").mkdir()
    (logs / "latest").symlink_to(outside.parent)
    (logs / "file").symlink_to(outside)

    found = sweep(folder_settings, WatchSettings(log_folder=logs, keep_logs_days=1), NOW)

    assert found == []
    assert (outside.exists(), (logs / "latest").is_symlink()) == (True, True)


def test_logs_to_keep_without_a_folder_of_logs_is_a_setting_to_mend(folder_settings: Settings) -> None:
    with pytest.raises(DelaywatchError, match="set DELAYWATCH_LOG_FOLDER"):
        sweep(folder_settings, WatchSettings(keep_logs_days=1), NOW)


def test_a_bucket_is_swept_as_a_folder_is(two_years: Settings, bucket_settings: Settings) -> None:
    bucket = bucket_settings.replace(warehouse=two_years.warehouse)
    for key, data in files(two_years).items():
        Lake(bucket).store.put(key, data or b"")

    found = sweep(bucket, KEEP_ONE, NOW)

    assert [one.kept_because for one in found] == [None, None]
    assert not any(f"04_plots/year={YEAR}/" in key for key in files(bucket))


# --- the command ------------------------------------------------------------------------------------------------------


def utils(*line: str, **environ: str) -> Result:
    nothing = {name: "" for name in os.environ if name.startswith("DELAYWATCH_")}
    return CliRunner().invoke(cli.app, line, env={**nothing, **environ})


def test_the_command_shows_first_and_removes_then(two_years: Settings) -> None:
    how = {"DELAYWATCH_LAKE": two_years.lake, "DELAYWATCH_KEEP_PLOTS_YEARS": "1"}

    shown, gone, nothing = (utils("sweep", *line, **how) for line in (["--dry-run"], [], []))

    assert shown.stdout == f"Would go: pictures and page of {YEAR}: 7 files\n"
    assert gone.stdout == f"Gone: pictures and page of {YEAR}: 7 files\n"
    assert nothing.stdout == "Nothing is old enough to go.\n"


def test_the_command_says_that_nothing_goes_until_it_is_asked_to() -> None:
    said = utils("sweep")

    assert (said.exit_code, said.stderr) == (0, "")
    assert said.stdout.startswith("Nothing is ever removed until DELAYWATCH_KEEP_LOGS_DAYS")
