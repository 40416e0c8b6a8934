"""Years of flights from where they are published into bronze, whole or not at all.

`bts` and `kaggle` are the sources, `download` brings their files, `archive` opens them; here they meet the lake.
What is fetched is kept in scratch space until the whole year is in bronze, so that a fetch that was cut goes on where
it was. Beside the year's CSV lies `_{year}.csv.json`: source, size and SHA-256 of it and of every file that it was made
from. Readers of bronze skip the underscore.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils import pipeline
from utils.errors import DelaywatchError
from utils.settings import Settings
from utils.years import check_year

if TYPE_CHECKING:
    from utils.sources.download import Client, File, Patience, Progress
    from utils.storage.lake import Lake

SOURCES = ("bts", "kaggle")

log = logging.getLogger(__name__)


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
    patience: Patience | None = None,
) -> str:
    """Put the year as the source has it now into bronze, at once, and return its key.

    A year that an earlier fetch wrote and that the source has not changed since is not fetched again. A newer version
    of it takes its place; a file of another source or of a person, or one with more flights, only with `replace`.
    folder: the Bureau's months that were downloaded by hand; then the network is not used. so_far: also a year of the
    Bureau whose last months are not published yet. today: None: the present day. patience: with servers.
    Raises DelaywatchError, and leaves bronze as it was, when the source does not have the year, a file of it does not
    come through whole, or the file in bronze must not be replaced.
    """
    from utils.sources import folder as local_months
    from utils.storage.lake import Lake, bronze_keys
    from utils.storage.stores import FolderStore

    _check(year, source)
    lake, (key, compressed) = Lake(settings), bronze_keys(year)
    if lake.has(compressed) and not replace:
        raise DelaywatchError(
            f"{compressed} is already in {lake.uri}; repeat the command with --replace to put {key} in its place."
        )
    scratch = settings.scratch / "delaywatch-fetch" / f"{source}-{year}"
    with _client(settings, source, patience) as client:
        if folder is None and not lake.has(compressed) and _is_current(settings, lake, client, year, source):
            log.info("%s: as %s has it now; nothing to fetch", key, source)
            return key
        try:
            with _alone(scratch, year):
                csv = scratch / f"{year}.csv"
                try:
                    files = (
                        local_months.find(folder, year, so_far=so_far)
                        if folder
                        else _download(
                            settings, client, year, source, scratch, so_far=so_far, today=today, progress=progress
                        )
                    )
                    record = _write(year, source, files, csv, deletes_bad_files=folder is None)
                    _put(settings, lake, year, csv, record, replace=replace)
                finally:
                    csv.unlink(missing_ok=True)
                if record["is_whole"]:
                    shutil.rmtree(scratch)
        except OSError as error:
            FolderStore(scratch, "DELAYWATCH_SCRATCH").fail(error, f"fetching {year}")
    return key


def is_published(settings: Settings, year: int, source: str = "bts", patience: Patience | None = None) -> bool:
    """Whether the source has the last file of the whole year. Raises DelaywatchError when it does not answer."""
    from utils.sources import bts, kaggle

    _check(year, source)
    url = (
        bts.month_url(settings.bts_url, year, bts.months(year)[-1])
        if source == "bts"
        else kaggle.year_url(settings.kaggle_url, year)
    )
    with _client(settings, source, patience) as client:
        return client.version(url) is not None


def has_whole_year(settings: Settings, year: int) -> bool:
    """Whether bronze has the year, and not only as far as it was published when it was fetched."""
    from utils.storage.lake import Lake

    if not pipeline.has_bronze(settings, year):
        return False
    return _unfinished_bytes(Lake(settings), year) is None


def _download(
    settings: Settings,
    client: Client,
    year: int,
    source: str,
    scratch: Path,
    *,
    so_far: bool,
    today: date | None,
    progress: Progress | None,
) -> dict[int, File]:
    """Return the year's files by month; Kaggle's single file as month 0."""
    from utils.sources import bts, kaggle

    if source == "kaggle":
        return {0: kaggle.download(client, settings.kaggle_url, year, scratch, progress)}
    day = today or datetime.now(UTC).date()
    return bts.download(client, settings.bts_url, year, scratch, so_far=so_far, today=day, progress=progress)


def _write(year: int, source: str, files: dict[int, File], csv: Path, *, deletes_bad_files: bool) -> dict[str, Any]:
    """Write `csv` from the files, and return the record of both."""
    from utils.reporting import wording
    from utils.sources import bts, kaggle

    rows: dict[int, int] = {}
    if source == "bts":
        rows, is_whole = (
            bts.write_csv(files, year, csv, deletes_bad_files=deletes_bad_files),
            [*files] == bts.months(year),
        )
    else:
        kaggle.write_csv(files[0], csv)
        is_whole = True
    read = f"{sum(file.bytes for file in files.values()):,} bytes in {wording.count(len(files), 'file')}"
    log.info("%d: %s%s", year, f"{sum(rows.values()):,} flights, " if rows else "", read)
    if not is_whole:
        log.warning("%d is not complete; fetch it again when its other months are published", year)
    return {
        "year": year,
        "source": source,
        "is_whole": is_whole,
        "bytes": csv.stat().st_size,
        "sha256": _sha256(csv),
        "flights_by_month": {str(month): count for month, count in rows.items()},
        "files": [file.record() for file in files.values()],
    }


def _put(settings: Settings, lake: Lake, year: int, csv: Path, record: dict[str, Any], *, replace: bool) -> None:
    """Write CSV and record into bronze in an order in which a cut between them lets no part of a year pass as whole."""
    from utils.storage.lake import encode_json

    key, before = _record_key(year), _found(lake, year)
    if before and not replace:
        replace = _is_earlier_version(*before, record)
        if replace and (lost := _lost(before[0], record)):
            raise DelaywatchError(
                f"{record['source']} has less of {year} now than bronze: {lost}. See what happened there, or repeat "
                "the command with --replace."
            )

    def write_record() -> None:
        if not record["is_whole"]:  # a CSV without a fitting record counts as whole; this one fits the older part, too
            lake.store.put(key, encode_json({**record, "bytes_before": _unfinished_bytes(lake, year)}))

    shown_as = f"the year {year} from {record['source']}"
    pipeline.put_bronze(
        settings, year, csv, replace=replace, allow_fewer=True, shown_as=shown_as, before_upload=write_record
    )
    if record["is_whole"]:
        lake.store.put(key, encode_json(record))


def _is_earlier_version(before: dict[str, Any], size: int, after: dict[str, Any]) -> bool:
    """Return whether the CSV in bronze, of `size` bytes, is one that an earlier fetch from the same source wrote."""
    return before["source"] == after["source"] and size in (before["bytes"], before.get("bytes_before"))


def _lost(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Return what a newer version of the year lacks, in words; by the size of the file if months are not known."""
    old = before.get("flights_by_month") or {}
    if not old and after["bytes"] < (1 - pipeline.MAX_LOST_SHARE) * before["bytes"]:
        return f"the file has {after['bytes']:,} bytes instead of {before['bytes']:,}"
    return pipeline.lost_flights(old, after["flights_by_month"])


def _check(year: int, source: str) -> None:
    if source not in SOURCES:
        raise DelaywatchError(f"There is no source {source}; choose one of {', '.join(SOURCES)}.")
    check_year(year)


@contextmanager
def _client(settings: Settings, source: str, patience: Patience | None) -> Iterator[Client]:
    from utils.sources import download, kaggle

    auth = kaggle.auth(settings.kaggle_token_file) if source == "kaggle" else None
    with closing(download.Client(patience or download.Patience(), auth)) as client:
        yield client


@contextmanager
def _alone(folder: Path, year: int) -> Iterator[None]:
    """The folder, made if need be, for this process alone. Raises DelaywatchError when another one fetches there."""
    from utils.storage.stores import make_private

    make_private(folder.parent)
    folder.mkdir(exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DelaywatchError(f"Another run is fetching {year}; wait until it has ended.") from error
        folder.mkdir(exist_ok=True)  # the one that had the lock may have been done with it
        yield


def _record_key(year: int) -> str:
    from utils.storage.lake import bronze_keys

    folder, _, name = bronze_keys(year)[0].rpartition("/")
    return f"{folder}/_{name}.json"


def _record(lake: Lake, year: int) -> dict[str, Any] | None:
    """Where the year's CSV in bronze is from; None when that is not known: not fetched, replaced since, damaged."""
    found = _found(lake, year)
    return found[0] if found and found[0]["bytes"] == found[1] else None


def _unfinished_bytes(lake: Lake, year: int) -> int | None:
    """Size of the year's CSV in bronze when it is known not to be whole: by its own record, or by that of a later part
    whose CSV did not get there. None when it is whole or nobody knows.
    """
    found = _found(lake, year)
    if found is None:
        return None
    record, size = found
    return size if not record["is_whole"] and size in (record["bytes"], record.get("bytes_before")) else None


def _found(lake: Lake, year: int) -> tuple[dict[str, Any], int] | None:
    """The record beside the year's CSV, be it of that CSV or not, and the CSV's size; None unless both can be used."""
    from utils.storage.lake import bronze_keys

    key, data = bronze_keys(year)[0], lake.store.get(_record_key(year))
    if data is None or not lake.has(key):
        return None
    try:
        record: dict[str, Any] = json.loads(data)
        _ = record["bytes"], record["source"], record["is_whole"], record["files"]
    except (ValueError, KeyError, TypeError):
        return None
    with closing(lake.store.open(key)) as there:
        return record, there.size


def _is_current(settings: Settings, lake: Lake, client: Client, year: int, source: str) -> bool:
    """Whether bronze has the whole year from this source, which has changed none of its files since.

    Whoever may write into bronze may write the record too, so no other host is asked, or shown the token, than ours.
    """
    from utils.sources.download import Version

    record = _record(lake, year)
    if record is None or record["source"] != source or not record["is_whole"]:
        return False
    base = {"bts": settings.bts_url, "kaggle": settings.kaggle_url}[source]
    try:
        known = [(str(file["url"]), Version(**file["version"])) for file in record["files"]]
    except (TypeError, KeyError):
        return False
    return all(
        url.startswith(f"{base}/") and version.is_known and client.version(url) == version for url, version in known
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
