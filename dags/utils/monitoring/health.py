"""Health checks of bronze, last run, warehouse, disks, certificate and backup.

Every check yields findings of one sentence. A fault of lake or warehouse becomes a finding and does not stop the other
checks. Nothing is repaired. `health_page` serves the result over HTTP.
"""

from __future__ import annotations

import calendar
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509

from utils.errors import DelaywatchError, InvalidInput, cannot_read
from utils.reporting import wording
from utils.settings import Settings, WatchSettings
from utils.storage import keys
from utils.storage.folder import FolderStore
from utils.storage.freshness import joint_hash
from utils.storage.lake import Lake
from utils.warehouse.airflow import last_ended, under_way
from utils.warehouse.years import WarehouseYear, finished_years

MAX_FILE_WAIT = timedelta(days=180)  # timeout of the scheduled run's wait for its file, see `flight_anomalies`
MAX_PUBLICATION_DELAY = timedelta(days=92)  # the Bureau publishes a month about two months after its end
MIN_FREE_SHARE, MIN_FREE_BYTES = 0.1, 2 << 30  # of a disk; a year of silver and gold takes 0.4 GB
MIN_CERTIFICATE_DAYS = 14  # Let's Encrypt's renewal is due 30 days before the end
MAX_BACKUP_AGE = timedelta(days=2)  # the backup runs daily and is retried hourly


@dataclass(frozen=True)
class Finding:
    """One result. what: the checked part. is_well: no problem. sentence: the details."""

    what: str
    is_well: bool
    sentence: str


def check(settings: Settings, watch: WatchSettings, now: datetime) -> list[Finding]:
    """Check every part that is configured. now: timezone-aware."""
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("bronze", lambda: _bronze(settings, watch, now.date())),
        ("run", lambda: _run(settings, watch)),
        ("warehouse", lambda: _warehouse(settings, watch)),
        ("disk", lambda: _disks(settings, watch)),
        ("certificate", lambda: _certificate(watch.certificate, now)),
        ("backup", lambda: _backup(watch.backup, watch.backup_record, now)),
    ]
    findings = []
    for what, run_check in checks:
        try:
            findings += list(run_check())
        except DelaywatchError as error:
            findings.append(Finding(what, False, str(error)))
    return findings


def report(findings: list[Finding], now: datetime) -> dict[str, Any]:
    """Return `word` (ok or problem), `checked_at` and `findings` as JSON values."""
    word = "ok" if all(finding.is_well for finding in findings) else "problem"
    return {
        "word": word,
        "checked_at": now.isoformat(timespec="seconds"),
        "findings": [asdict(finding) for finding in findings],
    }


# --- checks -----------------------------------------------------------------------------------------------------------


def _bronze(settings: Settings, watch: WatchSettings, today: date) -> Iterator[Finding]:
    if settings.monthly and watch.expected_year is None:
        yield _newest_month(Lake(settings), today)
        return
    lake, year = Lake(settings), watch.expected_year or today.year - 1
    if year in lake.bronze_years():
        yield Finding("bronze", True, f"{lake.bronze_key(year)} is in {lake.uri}.")
        return
    end = date(year + 1, 1, 1) + MAX_FILE_WAIT
    if watch.expected_year is None and today < end:
        yield Finding(
            "bronze", True, f"01_bronze/{year}.csv does not exist yet; the run of {year} waits for it until {end}."
        )
        return
    lake.bronze_key(year)  # raises Missing with the years in bronze


def _newest_month(lake: Lake, today: date) -> Finding:
    """Check that silver has the newest month that ended at least MAX_PUBLICATION_DELAY ago.

    Only the quality report is read. The months before it may be missing: the report has warnings about them.
    """
    day_after = today - MAX_PUBLICATION_DELAY + timedelta(days=1)
    expected = day_after.replace(day=1) - timedelta(days=1)  # last day of the month
    year, name = expected.year, f"{calendar.month_name[expected.month]} {expected.year}"
    newest = 0
    if lake.has(keys.manifest_key(year)):
        per_month = lake.read_quality(year)["rows_per_month"]
        newest = max((int(month) for month, flights in per_month.items() if flights), default=0)
    if newest >= expected.month:
        return Finding("bronze", True, f"{year} is in {lake.uri} to {calendar.month_name[newest]}; {name} is expected.")
    state = f"{year} is in {lake.uri} only to {calendar.month_name[newest]}" if newest else f"{lake.uri} has no {year}"
    return Finding(
        "bronze",
        False,
        f"{state}, but {name} should be published; read the log of the last run of fetch_bronze, or trigger it with "
        f"year {year} and so_far.",
    )


def _run(settings: Settings, watch: WatchSettings) -> Iterator[Finding]:
    if watch.airflow_database:
        if last := last_ended(watch.airflow_database):
            result = "succeeded" if last.is_well else "failed"
            way_out = "" if last.is_well else "; read the log of its failed task, then clear the task to continue"
            yield Finding("run", last.is_well, f"The run {last.run_id} {result} on {_minute(last.ended)}{way_out}.")
        else:
            yield Finding("run", True, "Airflow has no finished run yet.")
    _, finished = finished_years(settings.warehouse)
    if not finished:
        yield Finding("run", True, "The warehouse has no finished year yet.")
        return
    year, last_year = max(finished.items(), key=lambda item: item[1].ended)
    yield Finding("run", True, f"The last finished year is {year}, on {_minute(last_year.ended)}.")


def _warehouse(settings: Settings, watch: WatchSettings) -> Iterator[Finding]:
    lake = Lake(settings)
    years = [year for year in lake.years() if lake.has(keys.airport_days_key(year))]
    place, finished = finished_years(settings.warehouse)
    stale = {year: reason for year in years if (reason := _behind(lake, year, finished.get(year)))}
    if stale:
        behind = wording.listed([f"{year} ({reason})" for year, reason in stale.items()])
        run = under_way(watch.airflow_database) if watch.airflow_database else None
        option = f"--year {','.join(map(str, stale))}"
        way_out = f"the run {run} is in progress" if run else f"run the commands upsert and page with {option}"
        yield Finding("warehouse", bool(run), f"The {place} is behind the lake in {behind}; {way_out}.")
    elif years:
        yield Finding("warehouse", True, f"The {place} is up to date with the lake: {wording.listed(years)}.")
    else:
        yield Finding("warehouse", True, f"The {place} answers; the lake has no gold yet.")


def _behind(lake: Lake, year: int, finished: WarehouseYear | None) -> str | None:
    """Return how the warehouse's year differs from the lake's (bronze file, rows, versions of verdicts), or None."""
    if finished is None or finished.sha256 is None:
        return "never finished"
    if finished.sha256 != lake.read_quality(year)["sha256"]:
        return "another file"
    rows = {"airport_days": lake.summary(keys.airport_days_key(year)).rows}
    versions = []
    for name in lake.detectors_with_verdicts(year):
        verdicts = lake.summary(keys.anomalies_key(year, name), "params_hash")
        rows[f"anomalies of {name}"] = verdicts.rows
        versions += [(verdicts.first, verdicts.made_from)] if verdicts.rows else []
    for table in sorted({*rows, *finished.rows}):
        if rows.get(table, 0) != finished.rows.get(table, 0):
            return f"{table}: {rows.get(table, 0):,} in gold, {finished.rows.get(table, 0):,} in the warehouse"
    if finished.params_hash != joint_hash(versions):
        return "verdicts with other settings or another history"
    return None


def _disks(settings: Settings, watch: WatchSettings) -> Iterator[Finding]:
    """Yield one finding per disk with scratch space, logs or a lake in a folder."""
    store = Lake(settings).store
    folders = {
        "DELAYWATCH_SCRATCH": settings.scratch,
        "DELAYWATCH_LOG_FOLDER": watch.log_folder,
        "DELAYWATCH_LAKE": store.root if isinstance(store, FolderStore) else None,
    }
    seen = set()
    for variable, folder in folders.items():
        if folder is None:
            continue
        try:
            existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
            device, usage = existing.stat().st_dev, shutil.disk_usage(existing)
        except OSError as error:
            yield Finding(
                "disk",
                False,
                f"{variable} {folder} cannot be opened ({error.strerror}); give this user the right to enter the "
                f"folders above it, or correct {variable}.",
            )
            continue
        if device in seen:
            continue
        seen.add(device)
        share = usage.free / usage.total
        free = f"{usage.free / 1e9:,.1f} GB ({share:.0%}) are free on the disk of {existing}"
        if share < MIN_FREE_SHARE or usage.free < MIN_FREE_BYTES:
            yield Finding(
                "disk",
                False,
                f"Only {free}; enlarge it, or delete old data: `python -m utils sweep --dry-run` lists it.",
            )
        else:
            yield Finding("disk", True, f"{free}.")


def _certificate(path: Path | None, now: datetime) -> Iterator[Finding]:
    if path is None:
        return
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise cannot_read(path, error, "DELAYWATCH_CERTIFICATE") from error
    except ValueError as error:
        raise InvalidInput(f"DELAYWATCH_CERTIFICATE {path} is not a PEM certificate; correct the path.") from error
    end = certificate.not_valid_after_utc
    days = (end - now).days
    renew = "renew it, see nginx/README.md"
    if end <= now:
        yield Finding("certificate", False, f"The certificate expired on {end:%Y-%m-%d}; {renew}.")
    elif days < MIN_CERTIFICATE_DAYS:
        left = wording.count(days, "day")
        yield Finding("certificate", False, f"The certificate expires on {end:%Y-%m-%d}, in {left}; {renew}.")
    else:
        yield Finding("certificate", True, f"The certificate is valid until {end:%Y-%m-%d}, for {days} days.")


def _backup(place: str | None, path: Path | None, now: datetime) -> Iterator[Finding]:
    """Check the age of the newest copy in `place`, or of the newest backup on this host if `place` is None."""
    if path is None:
        return
    try:
        record = json.loads(path.read_bytes()) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"DELAYWATCH_BACKUP_RECORD {path} cannot be read ({error}); run `make backup`, which writes it again."
        ) from error
    if place is None:
        if made := record.get("made"):
            yield Finding("backup", True, f"The newest backup, {made['text']}, is {_age(made, now)} old.")
        else:
            yield Finding("backup", True, "This host has no backup yet; run `make backup`, or set DELAYWATCH_BACKUP.")
        return
    copied, failed = record.get("copied"), record.get("failed")
    if copied and copied["place"] == place:
        is_well = now - datetime.fromisoformat(copied["at"]) <= MAX_BACKUP_AGE
        newest = f"The newest backup in {place}, {copied['text']}, is {_age(copied, now)} old."
    else:
        is_well, newest = False, f"{place} has no backup yet."
    if failed and failed["place"] == place:
        yield Finding("backup", False, f"{newest} The last attempt failed {_age(failed, now)} ago: {failed['text']}")
    elif is_well:
        yield Finding("backup", True, newest)
    else:
        yield Finding("backup", False, f"{newest} Run `make up`, then read backups/daily.log.")


def _age(event: dict[str, str], now: datetime) -> str:
    hours = int((now - datetime.fromisoformat(event["at"])).total_seconds() // 3600)
    if hours < 1:
        return "less than an hour"
    return wording.count(hours // 24, "day") if hours >= 48 else wording.count(hours, "hour")


def _minute(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
