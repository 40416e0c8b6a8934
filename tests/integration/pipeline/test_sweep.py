"""Retention: what `sweep` deletes, what it keeps, and that a run recreates what it deleted."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests import command
from tests.builders import csv_of, year_of_flights
from tests.steps import STEPS, YEAR, everything, files, run
from utils.monitoring.retention import sweep
from utils.pipeline import site
from utils.settings import Settings, WatchSettings
from utils.storage import keys
from utils.storage.lake import Lake

NOW = datetime(2026, 11, 21, tzinfo=UTC)
KEEP_ONE = WatchSettings(keep_plots_years=1, keep_silver_years=1)


@pytest.fixture
def two_years(done: Settings) -> Settings:
    """The finished year, and a later year that is in the lake only."""
    Lake(done).store.put(f"01_bronze/{YEAR + 1}.csv", csv_of(year_of_flights(YEAR + 1, {"JFK": 6})))
    for step in ("silver", "gold", "detect", "explain", "plots"):
        STEPS[step](done, YEAR + 1)
    site.write_site(done)
    return done


def test_silver_flights_and_plots_of_the_older_year_are_deleted_and_a_run_recreates_every_byte(
    two_years: Settings,
) -> None:
    before = files(two_years)
    in_warehouse = {table: rows for table, rows in everything(two_years).items() if table not in before}
    swept = (f"02_silver/flights/year={YEAR}/part-", f"04_plots/year={YEAR}/")
    deleted = {key for key in before if key.startswith(swept)}

    assert sweep(two_years, WatchSettings(), NOW) == []
    assert len(sweep(two_years, KEEP_ONE, NOW, is_dry_run=True)) == 2
    assert files(two_years) == before
    groups = sweep(two_years, KEEP_ONE, NOW)

    assert {key for group in groups for key in group.keys} == deleted
    assert {key.split("/")[0] for key in deleted} == {"02_silver", "04_plots"}
    remaining = {key: data for key, data in before.items() if key not in deleted}
    assert everything(two_years) == remaining | in_warehouse
    assert sweep(two_years, KEEP_ONE, NOW) == []

    run(two_years)
    assert files(two_years) == before


def delete_reasons(settings: Settings) -> None:
    Lake(settings).store.delete([keys.explanation_key(YEAR, "anomaly_reasons")])


def make_verdicts_stale(settings: Settings) -> None:
    lake = Lake(settings)
    lake.write_table(keys.airport_days_key(YEAR), lake.read_airport_days(YEAR), "another silver")


def delete_bronze(settings: Settings) -> None:
    Lake(settings).store.delete([f"01_bronze/{YEAR}.csv"])


@pytest.mark.parametrize("change", [delete_reasons, make_verdicts_stale, delete_bronze])
def test_a_year_that_is_unfinished_or_could_not_be_recreated_is_kept(
    two_years: Settings, change: Callable[[Settings], None]
) -> None:
    change(two_years)
    before = files(two_years)

    groups = sweep(two_years, KEEP_ONE, NOW)

    assert [bool(group.kept_because) for group in groups] == [True, True]
    assert files(two_years) == before


def test_a_year_that_is_being_written_is_kept(two_years: Settings) -> None:
    before = files(two_years)

    with Lake(two_years).staging(YEAR):
        sweep(two_years, KEEP_ONE, NOW)

    assert files(two_years) == before


def test_a_part_that_no_manifest_names_is_deleted_after_a_week_without_any_setting(lake_settings: Settings) -> None:
    store, folder = Lake(lake_settings).store, keys.silver_folder(YEAR)
    named, unnamed, never_committed, not_a_part = (
        *(f"{folder}part-00000-new.parquet", f"{folder}part-00000-old.parquet"),
        *(f"{keys.silver_folder(YEAR + 1)}part-00000-new.parquet", f"{folder}notes.txt"),
    )
    without_bronze = f"{keys.silver_folder(YEAR + 2)}part-00000-new.parquet"
    for key in (named, unnamed, never_committed, not_a_part, without_bronze, keys.bronze_keys(YEAR + 1)[0]):
        store.put(key, b"x")
    store.put(keys.manifest_key(YEAR), b'{"parts": [{"name": "part-00000-new.parquet"}]}')
    today, in_a_week = (datetime.now(UTC) + timedelta(days=days) for days in (6.9, 7.1))

    assert sweep(lake_settings, WatchSettings(), today) == []
    assert len(sweep(lake_settings, WatchSettings(), in_a_week, is_dry_run=True)) == 3
    assert store.has(unnamed)
    with Lake(lake_settings).staging(YEAR + 1):
        groups = sweep(lake_settings, WatchSettings(), in_a_week)

    assert [(group.keys, bool(group.kept_because)) for group in groups] == [([unnamed], False), ([], True), ([], True)]
    assert [store.has(key) for key in (named, unnamed, never_committed, not_a_part)] == [True, False, True, True]
    assert sweep(lake_settings, WatchSettings(), in_a_week)[0].keys == [never_committed]
    assert store.has(without_bronze)


def write_log(path: Path, age_days: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("log")
    time = (datetime.now(UTC) - timedelta(days=age_days)).timestamp()
    os.utime(path, (time, time))
    return path


def test_the_command_deletes_old_logs_and_their_empty_folders_and_follows_no_links(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    old = write_log(logs / "run_id=a/task_id=silver/attempt=1.log", 31)
    new = write_log(logs / "run_id=b/task_id=silver/attempt=1.log", 29)
    outside = write_log(tmp_path / "outside/precious.log", 99)
    (logs / "folder").symlink_to(outside.parent)
    (logs / "file").symlink_to(outside)
    variables = {"DELAYWATCH_LOG_FOLDER": str(logs), "DELAYWATCH_KEEP_LOGS_DAYS": "30"}

    listed = command.utils("sweep", "--dry-run", **variables)
    assert "logs older than 30 days: 1 file" in listed.stdout
    assert old.exists()
    deleted = command.utils("sweep", **variables)

    assert (deleted.returncode, old.parent.parent.exists()) == (0, False)
    assert [path.exists() for path in (new, outside, logs / "folder", logs / "file")] == [True] * 4
