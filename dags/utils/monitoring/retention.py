"""Retention: which logs, pictures and flights in silver are old enough to go, and their removal.

Nothing goes unless a setting asks for it. Bronze, gold, the quality report and the rejected rows never go; what goes
can be made again: silver from bronze, pictures and page from gold. Logs in a bucket are that bucket's to expire.
"""

from __future__ import annotations

import logging
import os
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
from utils.storage.lake import Lake

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sweepings:
    """What is to go, or what had to stay and why, as one thing that a person would name."""

    what: str  # pictures and page of 2009
    keys: list[str] = field(default_factory=list)  # in the lake
    files: list[Path] = field(default_factory=list)  # of the log folder
    why_not: str | None = None

    def __str__(self) -> str:
        """One line for a person."""
        if self.why_not:
            return f"{self.what}: stays, {self.why_not}"
        return f"{self.what}: {wording.count(len(self.keys) + len(self.files), 'file')}"


def sweep(settings: Settings, watch: WatchSettings, now: datetime, is_dry_run: bool = False) -> list[Sweepings]:
    """Remove what is older than the settings keep, or only find it; returns what went or had to stay.

    now: with a timezone. Years count by themselves: the newest ones stay, whatever today is. A year is not touched
    while its silver is being written or a step of it is still to come. Raises DelaywatchError when something cannot go.
    """
    found = list(_logs(watch, now))
    if watch.keep_plots_years or watch.keep_silver_years:
        lake = Lake(settings)
        for what, year, old in _old(lake, watch):
            with _held(lake, year) as why_not:
                found.append(Sweepings(what, why_not=why_not) if why_not else Sweepings(what, old))
                if not is_dry_run and not why_not:
                    lake.store.delete(old)
    if not is_dry_run:
        for one in found:
            _remove(one.files, watch.log_folder)
            log.info("%s", one)
    return found


def _old(lake: Lake, watch: WatchSettings) -> Iterator[tuple[str, int, list[str]]]:
    """Everything of the lake that is beyond what is kept: what it is, its year, its keys; oldest first."""
    plots, silver = {}, {}
    for year in lake.years():
        if pictures := lake.store.list(keys.plots_folder(year)):
            plots[year] = pictures
        if lake.has(keys.manifest_key(year)):
            there = set(lake.store.list(keys.silver_folder(year)))
            # The manifest and the sums stay: gold, verdicts and pages need no flights.
            silver[year] = [key for key in lake.silver_parts(year) if key in there]
    for kept, what, by_year in (
        (watch.keep_plots_years, "pictures and page", plots),
        (watch.keep_silver_years, "flights in silver", silver),
    ):
        if kept:
            yield from ((f"{what} of {year}", year, by_year[year]) for year in sorted(by_year)[:-kept] if by_year[year])


@contextmanager
def _held(lake: Lake, year: int) -> Iterator[str | None]:
    """Keep everybody from writing the year's silver; why nothing of the year may go comes out, None when it may."""
    try:
        with lake.staging(year):
            yield _why_not(lake, year)
    except Busy:
        yield "another run is writing it"


def _why_not(lake: Lake, year: int) -> str | None:
    """Why the year's silver and pictures must stay: they could not be made again, or a step still needs them."""
    if year not in lake.bronze_years():
        return "its bronze is not there, so it could not be made again"
    states = {table.state for table in gold_of(lake, year, PUBLISHED).needed}
    if State.MISSING in states:
        return "its run has not come to its end"
    if State.STALE in states:
        return "a step of it is still to come"
    return None


# --- logs -------------------------------------------------------------------------------------------------------------


def _logs(watch: WatchSettings, now: datetime) -> Iterator[Sweepings]:
    """The files of the log folder that nobody has written to for too long; links are not followed and stay."""
    if not watch.keep_logs_days:
        return
    if watch.log_folder is None:
        raise InvalidInput("DELAYWATCH_KEEP_LOGS_DAYS is set, but not where the logs are; set DELAYWATCH_LOG_FOLDER.")
    oldest = (now - timedelta(days=watch.keep_logs_days)).timestamp()
    files = []
    try:
        for at, _, names in os.walk(watch.log_folder, onerror=_fail):
            for path in (Path(at, name) for name in names):
                found = path.lstat()
                if stat.S_ISREG(found.st_mode) and found.st_mtime < oldest:
                    files.append(path)
    except FileNotFoundError:
        files = [path for path in files if path.exists()]  # Airflow moves its logs too
    except OSError as error:
        raise _cannot(error, watch.log_folder) from error
    if files:
        yield Sweepings(f"logs of more than {wording.count(watch.keep_logs_days, 'day')}", files=sorted(files))


def _remove(files: list[Path], folder: Path | None) -> None:
    """Remove the files, and the folders that are empty then."""
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
        f"{error.filename or folder} cannot be swept ({error.strerror}); give this user the right to read and write "
        "there, or correct DELAYWATCH_LOG_FOLDER."
    )
