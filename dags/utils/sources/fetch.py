"""Fetch the current version of a year from the Bureau or from Kaggle into bronze, completely or not at all.

Downloaded files stay in scratch space until the whole year is in bronze, so a fetch after a failure, or in the next
month, downloads only new and revised files. `bts` and `kaggle` are the sources; `bronze` decides whether the CSV may
replace an existing file.
"""

from __future__ import annotations

import calendar
import fcntl
import hashlib
import logging
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from utils.errors import Busy, InvalidInput
from utils.reporting import wording
from utils.settings import Settings
from utils.sources import SOURCES, bts, kaggle, record
from utils.sources.bronze import put_bronze
from utils.sources.download import Client, File, Progress, RetryPolicy, Version
from utils.storage import keys
from utils.storage.folder import create_private, folder_errors
from utils.storage.lake import Lake

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Fetch:
    """The arguments of one fetch; see `into_bronze`."""

    settings: Settings
    year: int
    source: str
    so_far: bool
    replace: bool
    today: date
    progress: Progress | None

    @property
    def scratch(self) -> Path:
        """The folder for downloaded files."""
        return self.settings.scratch / "delaywatch-fetch" / f"{self.source}-{self.year}"


def into_bronze(
    settings: Settings,
    year: int,
    source: str = "bts",
    *,
    folder: Path | None = None,
    so_far: bool = False,
    replace: bool = False,
    today: date | None = None,
    progress: Progress | None = None,
    policy: RetryPolicy | None = None,
) -> str:
    """Fetch the current version of the year, replace the year's file in bronze atomically and return its key.

    A whole year from an earlier fetch is skipped if the source has not changed. A newer version replaces it. Replacing
    a file from another source or from a person, or a file with more flights, requires `replace`.
    folder: months of the Bureau that were downloaded by hand; then the network is not used. so_far: accept a year of
    the Bureau of which not all months are published. today: default is the current date in UTC.
    Raises a DelaywatchError, with bronze unchanged, if the source does not have the year, a file is incomplete, or the
    file in bronze must not be replaced.
    """
    _check(year, source)
    if (so_far or folder) and source != "bts":
        raise InvalidInput(
            "--so-far and --from need --source bts (in Airflow: the parameters so_far and source). Load a file that "
            f"you downloaded from Kaggle with `python -m utils bronze --year {year} --from FILE`."
        )
    today = today or datetime.now(UTC).date()
    wanted = _Fetch(settings, year, source, so_far, replace, today, progress)
    lake, (key, compressed) = Lake(settings), keys.bronze_keys(year)
    if lake.has(compressed) and not replace:
        raise InvalidInput(
            f"{compressed} is already in {lake.uri}; to replace it with {key}, fetch again with --replace (in Airflow: "
            "set the parameter replace)."
        )
    with _client(settings, source, policy) as client:
        if folder is None and not lake.has(compressed) and _is_current(wanted, lake, client):
            log.info("%s: %s has no newer version", key, source)
            return key
        with folder_errors(wanted.scratch, f"fetching {year}", "DELAYWATCH_SCRATCH"), _alone(wanted.scratch, year):
            _fetch(wanted, lake, client, folder)
    return key


def is_published(
    settings: Settings, year: int, source: str = "bts", *, month: int = 12, policy: RetryPolicy | None = None
) -> bool:
    """Return True if the source has the year. Raises Unavailable if it does not answer.

    month: the month of the Bureau that must be published; Kaggle has only whole years.
    """
    _check(year, source)
    if source == "bts":
        url = bts.month_url(settings.bts_url, year, month)
    else:
        url = kaggle.year_url(settings.kaggle_url, year)
    with _client(settings, source, policy) as client:
        return client.version(url) is not None


def _check(year: int, source: str) -> None:
    if source not in SOURCES:
        raise InvalidInput(f"The source is {source!r}; choose one of {', '.join(SOURCES)}.")
    keys.check_year(year)


@contextmanager
def _client(settings: Settings, source: str, policy: RetryPolicy | None) -> Iterator[Client]:
    auth = kaggle.auth(settings.kaggle_token_file) if source == "kaggle" else None
    with closing(Client(policy or RetryPolicy(), auth)) as client:
        yield client


@contextmanager
def _alone(folder: Path, year: int) -> Iterator[None]:
    """Create and lock the folder. Raises Busy if another process holds the lock."""
    create_private(folder.parent)
    folder.mkdir(exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(f"Another run is fetching {year}; wait until it has ended.") from error
        folder.mkdir(exist_ok=True)  # the previous holder of the lock may have deleted it
        yield


def _fetch(wanted: _Fetch, lake: Lake, client: Client, folder: Path | None) -> None:
    """Write the year's CSV in scratch space and put it into bronze.

    Deletes the CSV at the end, and the downloads if the year is whole.
    """
    csv = wanted.scratch / f"{wanted.year}.csv"
    try:
        if folder:
            files = bts.months_in(folder, wanted.settings.bts_url, wanted.year, so_far=wanted.so_far)
        else:
            files = _download(wanted, client)
        fetched = _write_csv(wanted, files, csv, are_downloads=folder is None)
        _put(wanted, lake, csv, fetched)
    finally:
        csv.unlink(missing_ok=True)
    if fetched["is_whole"]:
        shutil.rmtree(wanted.scratch)


def _download(wanted: _Fetch, client: Client) -> dict[int, File]:
    """Download the year's files; return them by month, Kaggle's single file as month 0."""
    settings, year, scratch = wanted.settings, wanted.year, wanted.scratch
    if wanted.source == "kaggle":
        return {0: kaggle.download(client, settings.kaggle_url, year, scratch, wanted.progress)}
    return bts.download(
        client, settings.bts_url, year, scratch, so_far=wanted.so_far, today=wanted.today, progress=wanted.progress
    )


def _write_csv(wanted: _Fetch, files: dict[int, File], csv: Path, *, are_downloads: bool) -> record.Record:
    """Write `csv` from the files; return the record of the CSV and the files."""
    year, rows, missing = wanted.year, dict[int, int](), list[int]()
    if wanted.source == "bts":
        rows = bts.write_csv(files, year, csv, are_downloads=are_downloads)
        missing = [month for month in bts.months(year) if month not in files]
    else:
        kaggle.write_csv(files[0], csv)
    read = f"{sum(file.bytes for file in files.values()):,} bytes in {wording.count(len(files), 'file')}"
    log.info("%d: %s%s", year, f"{sum(rows.values()):,} flights, " if rows else "", read)
    newest = max(files)
    if newest in range(1, 12):
        log.info("%d so far, to %s", year, calendar.month_name[newest])
    if gaps := [month for month in missing if month < newest]:
        log.warning("Not published: %s; fetch %d again later", bts.month_names(year, gaps), year)
    with csv.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "year": year,
        "source": wanted.source,
        "is_whole": not missing,
        "missing_months": missing,
        "bytes": csv.stat().st_size,
        "sha256": sha256,
        "flights_by_month": {str(month): count for month, count in rows.items()},
        "files": [file.record() for file in files.values()],
    }


def _put(wanted: _Fetch, lake: Lake, csv: Path, fetched: record.Record) -> None:
    """Write CSV and record into bronze, in an order in which an interruption never marks a partial year as whole."""
    year, replace = wanted.year, wanted.replace
    before = record.read(lake, year)
    if before and not replace:
        replace = record.is_from(wanted.source, *before)
        if replace and (lost := record.lost(before[0], fetched)):
            raise InvalidInput(
                f"{wanted.source} now has fewer flights of {year} than bronze: {lost}. Ask the publisher why, or "
                "fetch again with --replace (in Airflow: set the parameter replace)."
            )

    def write_record() -> None:
        # A CSV without a matching record counts as whole. This record matches the old and the new CSV.
        if not fetched["is_whole"]:
            record.write(lake, year, {**fetched, "bytes_before": record.unfinished_bytes(lake, year)})

    put_bronze(
        *(wanted.settings, year, csv),
        replace=replace,
        allow_fewer=True,
        shown_as=f"the year {year} from {wanted.source}",
        before_upload=write_record,
    )
    if fetched["is_whole"]:
        record.write(lake, year, fetched)


def _is_current(wanted: _Fetch, lake: Lake, client: Client) -> bool:
    """Return True if bronze has the whole year from this source and no file at the source has changed since.

    Everyone with write access to bronze can write the record, so requests go only to the configured host; otherwise the
    token could leak.
    """
    known = record.of_csv(lake, wanted.year)
    if known is None or known["source"] != wanted.source or not known["is_whole"]:
        return False
    base = wanted.settings.bts_url if wanted.source == "bts" else wanted.settings.kaggle_url
    try:
        files = [(str(file["url"]), Version(**file["version"])) for file in known["files"]]
    except (TypeError, KeyError):
        return False
    return all(
        url.startswith(f"{base}/") and version.is_known and client.version(url) == version for url, version in files
    )
