"""Retention: find and delete old logs, plots and silver flights, and parts of silver that no manifest names.

Unless a setting says so, only these parts are deleted: a commit to a bucket keeps the parts of earlier silver, and a
killed run leaves its own. Bronze, gold, the quality report and the rejected rows are always kept. Deleted data can be
recreated: silver from bronze, plots from gold. Pages are kept. For logs in a bucket, use the bucket's lifecycle rules.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from utils.detectors import PUBLISHED
from utils.errors import Busy, DelaywatchError, InvalidInput, kind_of
from utils.reporting import wording
from utils.settings import Settings, WatchSettings
from utils.storage import keys
from utils.storage.freshness import State, gold_of
from utils.storage.lake import Damaged, Lake

# An unnamed part may belong to a run that has not committed yet, or to a reader of the earlier silver.
MIN_UNNAMED_DAYS = 7
BEING_WRITTEN = "another run is writing this year"
NOT_RECREATABLE = "its CSV is not in bronze, so it could not be recreated"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepGroup:
    """One group of objects to delete, or to keep for the reason `kept_because`."""

    what: str  # for example: plots of 2009
    keys: list[str] = field(default_factory=list)  # in the lake
    files: list[Path] = field(default_factory=list)  # in the log folder
    kept_because: str | None = None

    def __str__(self) -> str:
        """Return one line for messages."""
        if self.kept_because:
            return f"{self.what}: kept because {self.kept_because}"
        return f"{self.what}: {wording.count(len(self.keys) + len(self.files), 'file')}"


def sweep(settings: Settings, watch: WatchSettings, now: datetime, is_dry_run: bool = False) -> list[SweepGroup]:
    """Delete data that is older than the settings keep. Return the deleted and the kept groups.

    settings: with an empty lake, only logs are deleted. now: timezone-aware. is_dry_run: delete nothing. The newest
    years in the lake are kept, independent of `now`. A year is kept while its silver is being written or its run is not
    finished. Raises DelaywatchError if a deletion fails.
    """
    groups = list(_logs(watch, now))
    if settings.lake:
        lake = Lake(settings)
        groups += _sweep_unnamed(lake, now, is_dry_run)
        groups += _sweep_years(lake, watch, is_dry_run)
    if not is_dry_run:
        for group in groups:
            _remove(group.files, watch.log_folder)
            log.info("%s", group)
    return groups


def _sweep_unnamed(lake: Lake, now: datetime, is_dry_run: bool) -> Iterator[SweepGroup]:
    """Delete the parts of silver that no manifest names and that were written at least MIN_UNNAMED_DAYS ago."""
    old_parts: dict[int, list[str]] = {}
    for key, written in sorted(lake.store.modified(keys.SILVER_FLIGHTS).items()):
        match = re.fullmatch(rf"{keys.SILVER_FLIGHTS}year=(\d{{4}})/part-[^/]+\.parquet", key)
        if match and now - written >= timedelta(days=MIN_UNNAMED_DAYS):
            old_parts.setdefault(int(match[1]), []).append(key)
    for year, parts in old_parts.items():
        what = f"parts of earlier silver of {year}"
        try:
            with lake.staging(year):
                # The manifest is read just before the deletion, because a run on another host may be about to commit.
                has_manifest = lake.has(keys.manifest_key(year))
                named = lake.silver_parts(year) if has_manifest else []
                unnamed = [key for key in parts if key not in named]
                if not has_manifest and year not in lake.bronze_years():
                    yield SweepGroup(what, kept_because=NOT_RECREATABLE)
                elif unnamed:
                    if not is_dry_run:
                        lake.store.delete(unnamed)
                    yield SweepGroup(what, unnamed)
        except Busy:
            yield SweepGroup(what, kept_because=BEING_WRITTEN)
        except Damaged:
            yield SweepGroup(what, kept_because="the manifest of its silver is damaged")


def _sweep_years(lake: Lake, watch: WatchSettings, is_dry_run: bool) -> Iterator[SweepGroup]:
    """Delete the plots and the flights of years that are older than the settings keep."""
    for what, year, old in _old(lake, watch):
        with _held(lake, year) as kept_because:
            if not is_dry_run and not kept_because:
                lake.store.delete(old)
            yield SweepGroup(what, kept_because=kept_because) if kept_because else SweepGroup(what, old)


def _old(lake: Lake, watch: WatchSettings) -> Iterator[tuple[str, int, list[str]]]:
    """Yield (description, year, keys) of everything in the lake that is older than the settings keep; oldest first."""
    if not (watch.keep_plots_years or watch.keep_silver_years):
        return
    plots, silver = {}, {}
    for year in lake.years():
        if plot_keys := lake.store.list(keys.plots_folder(year)):
            plots[year] = plot_keys
        if lake.has(keys.manifest_key(year)):
            existing = set(lake.store.list(keys.silver_folder(year)))
            # Keep the manifest and the sums: with them, gold, verdicts and pages need no flights.
            silver[year] = [key for key in lake.silver_parts(year) if key in existing]
    for kept, kind, by_year in (
        (watch.keep_plots_years, "plots", plots),
        (watch.keep_silver_years, "silver flights", silver),
    ):
        if kept:
            yield from ((f"{kind} of {year}", year, by_year[year]) for year in sorted(by_year)[:-kept] if by_year[year])


@contextmanager
def _held(lake: Lake, year: int) -> Iterator[str | None]:
    """Lock the year's silver. Yield why nothing of the year may be deleted, or None."""
    try:
        with lake.staging(year):
            yield _reason_to_keep(lake, year)
    except Busy:
        yield BEING_WRITTEN


def _reason_to_keep(lake: Lake, year: int) -> str | None:
    """Return why the year's silver and plots must be kept (not recreatable, or a step needs them), or None."""
    if year not in lake.bronze_years():
        return NOT_RECREATABLE
    states = {table.state for table in gold_of(lake, year, PUBLISHED).needed}
    if State.MISSING in states:
        return "part of its gold is missing"
    if State.STALE in states:
        return "part of its gold is stale"
    return None


# --- logs -------------------------------------------------------------------------------------------------------------


def _logs(watch: WatchSettings, now: datetime) -> Iterator[SweepGroup]:
    """Yield the log files that were last written before the limit. Links are not followed and not deleted."""
    if not watch.keep_logs_days:
        return
    if watch.log_folder is None:
        raise InvalidInput(
            "DELAYWATCH_KEEP_LOGS_DAYS is set, but DELAYWATCH_LOG_FOLDER is not; set DELAYWATCH_LOG_FOLDER."
        )
    oldest = (now - timedelta(days=watch.keep_logs_days)).timestamp()
    files = []
    try:
        for at, _, names in os.walk(watch.log_folder, onerror=_fail):
            for path in (Path(at, name) for name in names):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode) and status.st_mtime < oldest:
                    files.append(path)
    except FileNotFoundError:
        files = [path for path in files if path.exists()]  # Airflow moved or deleted a log
    except OSError as error:
        raise _cannot(error, watch.log_folder) from error
    if files:
        yield SweepGroup(f"logs older than {wording.count(watch.keep_logs_days, 'day')}", files=sorted(files))


def _remove(files: list[Path], folder: Path | None) -> None:
    """Delete the files, and the folders that become empty."""
    try:
        for path in files:
            path.unlink(missing_ok=True)
        for emptied in sorted({parent for path in files for parent in path.parents}, reverse=True):
            if folder and folder in emptied.parents and emptied.is_dir() and not any(emptied.iterdir()):
                emptied.rmdir()
    except OSError as error:
        raise _cannot(error, folder) from error


def _fail(error: OSError) -> None:
    raise error


def _cannot(error: OSError, folder: Path | None) -> DelaywatchError:
    return kind_of(error)(
        f"Cannot delete old logs in {error.filename or folder} ({error.strerror}); give this user the right to read "
        "and write there, or correct DELAYWATCH_LOG_FOLDER."
    )
