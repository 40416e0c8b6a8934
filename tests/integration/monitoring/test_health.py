"""Health: findings about bronze, runs, warehouse, disks, certificate and backup, and the one word over HTTP."""

from __future__ import annotations

import json
import shutil
import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
import trustme

from tests import command
from tests.conftest import sql
from tests.steps import BRONZE_KEY, YEAR
from utils.errors import DelaywatchError
from utils.monitoring import health, health_page
from utils.monitoring.health import Finding
from utils.monitoring.health_page import HealthStatus
from utils.settings import Settings, WatchSettings
from utils.storage import keys
from utils.storage.lake import Lake
from utils.storage.parquet import content_hash, encode_json

NOW = datetime(YEAR + 1, 3, 1, 12, tzinfo=UTC)  # YEAR is complete
WATCH = WatchSettings()


def findings(settings: Settings, watch: WatchSettings = WATCH, now: datetime = NOW) -> dict[str, Finding]:
    """The last finding about each part."""
    return {finding.what: finding for finding in health.check(settings, watch, now)}


def problems(settings: Settings, watch: WatchSettings = WATCH, now: datetime = NOW) -> list[str]:
    return [finding.what for finding in health.check(settings, watch, now) if not finding.is_well]


def test_health_reads_neither_bronze_nor_silver(done: Settings) -> None:
    """The checks share the 256 MB of a container; a year of silver would not fit."""
    lake = Lake(done)
    for key in [BRONZE_KEY, *lake.silver_parts(YEAR)]:
        lake.store.put(key, b"")

    assert problems(done) == []


def test_a_warehouse_that_does_not_answer_does_not_hide_other_findings(done: Settings) -> None:
    by_part = findings(done.replace(warehouse="postgresql://nobody:hunter2@127.0.0.1:1/flights"))

    assert {part: finding.is_well for part, finding in by_part.items()} == {
        "bronze": True, "run": False, "warehouse": False, "disk": True,
    }  # fmt: skip
    assert "127.0.0.1:1" in by_part["warehouse"].sentence
    assert "hunter2" not in str(by_part)


# --- bronze -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "expected_year", "is_well"),
    [
        (datetime(YEAR + 2, 6, 29, tzinfo=UTC), None, True),  # the run of YEAR + 1 still waits for its file
        (datetime(YEAR + 2, 7, 1, tzinfo=UTC), None, False),
        (datetime(YEAR + 9, 7, 1, tzinfo=UTC), YEAR, True),
        (datetime(YEAR + 1, 1, 1, tzinfo=UTC), YEAR - 1, False),
    ],
)
def test_bronze_must_have_the_last_complete_year_once_its_run_has_given_up_or_the_expected_year(
    done: Settings, now: datetime, expected_year: int | None, is_well: bool
) -> None:
    bronze = findings(done, WatchSettings(expected_year=expected_year), now)["bronze"]

    assert bronze.is_well == is_well
    assert f"01_bronze/{expected_year or YEAR + 1}.csv" in bronze.sentence


@pytest.mark.parametrize(
    ("today", "newest", "is_well", "expected"),
    [
        (date(2015, 8, 31), 5, True, "May 2015"),
        (date(2015, 8, 30), 4, True, "April 2015"),
        (date(2015, 8, 31), 4, False, "May 2015"),
        (date(2016, 4, 1), 12, True, "December 2015"),
        (date(2016, 4, 1), 11, False, "December 2015"),
        (date(2016, 5, 2), 12, False, "January 2016"),  # the lake has no 2016
    ],
)
def test_with_monthly_fetching_the_newest_month_that_ended_at_least_92_days_ago_must_be_there(
    done: Settings, today: date, newest: int, is_well: bool, expected: str
) -> None:
    lake = Lake(done)
    rows_per_month = {str(month): 9 * (month <= newest) for month in range(1, 13)}
    quality = encode_json(lake.read_quality(YEAR) | {"rows_per_month": rows_per_month})
    manifest = lake.manifest(YEAR) | {"quality": content_hash(quality)}
    lake.store.put(keys.quality_key(YEAR), quality)
    lake.store.put(keys.manifest_key(YEAR), encode_json(manifest))

    bronze = findings(done.replace(monthly=1), now=datetime.combine(today, NOW.timetz()))["bronze"]

    assert bronze.is_well == is_well
    assert expected in bronze.sentence


def test_an_expected_year_takes_precedence_over_the_newest_month(done: Settings) -> None:
    assert findings(done.replace(monthly=1), WatchSettings(expected_year=YEAR))["bronze"].is_well
    assert not findings(done.replace(monthly=1), now=NOW + timedelta(days=900))["bronze"].is_well


# --- warehouse --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM flights.airport_days WHERE origin = 'ACK' AND fl_date = '2015-03-01'",
        "DELETE FROM flights.anomalies WHERE detector = 'three_sigma' AND fl_date = '2015-03-01'",
        "DELETE FROM flights.runs",
        "UPDATE flights.runs SET ended = NULL",
        "UPDATE flights.runs SET params_hash = 'other'",
        "UPDATE flights.bronze_quality SET sha256 = 'other'",
    ],
)
def test_a_warehouse_that_differs_from_the_lake_is_a_problem(done: Settings, change: str) -> None:
    sql(done.warehouse, change)

    warehouse = findings(done)["warehouse"]

    assert not warehouse.is_well
    assert f"--year {YEAR}" in warehouse.sentence


def test_only_the_last_run_of_a_year_counts(done: Settings) -> None:
    sql(
        done.warehouse,
        "INSERT INTO flights.runs (run_id, year, params_hash, started, ended)"
        " SELECT 'the day before', year, 'other', started - interval '1 day', ended - interval '1 day'"
        " FROM flights.runs",
    )

    assert problems(done) == []


# --- disk and certificate ---------------------------------------------------------------------------------------------

GB = 1 << 30


@pytest.mark.parametrize(
    ("free", "total", "is_well"),
    [(9 * GB, 100 * GB, False), (11 * GB, 100 * GB, True), (GB, 4 * GB, False), (3 * GB, 4 * GB, True)],
)
def test_a_disk_needs_a_tenth_and_two_gigabytes_of_free_space(
    done: Settings, monkeypatch: pytest.MonkeyPatch, free: int, total: int, is_well: bool
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free, total=total))

    assert findings(done)["disk"].is_well == is_well


@pytest.mark.parametrize(("days", "is_well"), [(90.5, True), (14.5, True), (13.5, False), (-1, False)])
def test_a_certificate_that_ends_within_two_weeks_is_a_problem(
    done: Settings, tmp_path: Path, days: float, is_well: bool
) -> None:
    end = NOW + timedelta(days=days)
    path = tmp_path / "tls.crt"
    trustme.CA().issue_cert("flights.example.org", not_after=end).cert_chain_pems[0].write_to_path(path)

    certificate = findings(done, WatchSettings(certificate=path))["certificate"]

    assert certificate.is_well == is_well
    assert f"{end:%Y-%m-%d}" in certificate.sentence


# --- backup -----------------------------------------------------------------------------------------------------------

PLACE = "s3://backups/delaywatch"


def event(hours_ago: float, text: str = "daily.tar", place: str | None = PLACE) -> dict[str, str | None]:
    return {"at": (NOW - timedelta(hours=hours_ago)).isoformat(), "text": text, "place": place}


@pytest.mark.parametrize(
    ("place", "record", "is_well", "shown"),
    [
        pytest.param(None, {}, True, "DELAYWATCH_BACKUP", id="off, none"),
        pytest.param(PLACE, {}, False, PLACE, id="on, none"),
        pytest.param(PLACE, {"copied": event(49)}, False, "2 days", id="on, more than two days"),
        pytest.param("/mnt/other", {"copied": event(1)}, False, "/mnt/other", id="on, in another place"),
        pytest.param(PLACE, {"copied": event(5), "failed": event(1, "disk full")}, False, "disk full", id="failed"),
        pytest.param(PLACE, {"copied": event(5), "failed": event(1, "x", "/old")}, True, "5 hours", id="failed before"),
    ],
)
def test_a_daily_backup_that_is_missing_or_failed_is_a_problem(
    done: Settings, tmp_path: Path, place: str | None, record: dict[str, object], is_well: bool, shown: str
) -> None:
    path = tmp_path / "backup.json"
    if record:
        path.write_text(json.dumps(record))

    backup = findings(done, WatchSettings(backup=place, backup_record=path))["backup"]

    assert backup.is_well == is_well
    assert shown in backup.sentence


def test_a_damaged_certificate_or_record_of_backups_is_a_problem(done: Settings, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_text("{")

    assert problems(done, WatchSettings(certificate=damaged, backup_record=damaged)) == ["certificate", "backup"]


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_a_line_per_finding_or_json_and_exits_with_1_on_a_problem(done: Settings) -> None:
    variables = {"DELAYWATCH_LAKE": done.lake, "DELAYWATCH_WAREHOUSE": done.warehouse}

    lines = command.utils("health", "--year", str(YEAR - 1), **variables)
    report = command.utils("health", "--year", str(YEAR), "--json", **variables)

    words = [line.split()[:2] for line in lines.stdout.splitlines()]
    assert words == [["PROBLEM", "bronze"], ["ok", "run"], ["ok", "warehouse"], ["ok", "disk"]]
    assert (lines.returncode, report.returncode) == (1, 0)
    assert json.loads(report.stdout)["word"] == "ok"


# --- the page ---------------------------------------------------------------------------------------------------------

OK = {"word": "ok", "findings": []}
PROBLEM = {"word": "problem", "findings": [{"is_well": False, "sentence": "secret place"}]}


def test_the_page_shows_one_word_and_no_details() -> None:
    status = HealthStatus()
    with health_page.server("127.0.0.1", 0, status) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        answers = []
        for check in (None, lambda: OK, lambda: PROBLEM):
            if check:
                status.update(check)
            answer = requests.get(f"http://127.0.0.1:{server.server_address[1]}/health?verbose", timeout=10)
            answers.append((answer.status_code, answer.text, answer.headers["Cache-Control"]))
        server.shutdown()

    words = [(503, "starting\n"), (200, "ok\n"), (503, "problem\n")]
    assert answers == [(*word, "no-store") for word in words]


def test_a_result_that_is_too_old_and_checks_that_cannot_start_are_a_problem() -> None:
    def fail() -> dict[str, object]:
        raise DelaywatchError("DELAYWATCH_LAKE is not set")

    old, current, failed = HealthStatus(stale_s=-1), HealthStatus(), HealthStatus()
    for status in (old, current, failed):
        status.update(lambda: OK)
    failed.update(fail)

    assert [str(status) for status in (old, current, failed)] == ["problem", "ok", "problem"]
