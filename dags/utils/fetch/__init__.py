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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils import pipeline
from utils.errors import DelaywatchError
from utils.settings import Settings

if TYPE_CHECKING:
    from utils.fetch.download import Client, Patience, Progress
    from utils.lake import Lake

SOURCES = ("bts", "kaggle")

log = logging.getLogger(__name__)


def into_bronze(
    settings: Settings,
    year: int,
    source: str = "bts",
    *,
    so_far: bool = False,
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> str:
    """Make the year as the source has it now the year's CSV in bronze, at once, and return its key.

    A year that an earlier fetch brought and that the source has not changed since is not fetched again.
    so_far: also a year of the Bureau whose last months are not published yet. patience: with servers; None: the usual.
    Raises DelaywatchError, and leaves bronze as it was, when the source does not have the year or a file of it does not
    come through whole.
    """
    from utils.lake import Lake, bronze_keys
    from utils.stores import FolderStore

    _check(year, source)
    lake, (key, compressed) = Lake(settings), bronze_keys(year)
    if lake.has(compressed):
        raise DelaywatchError(f"{compressed} is already in {lake.uri}; remove it before {key} takes its place.")
    folder = settings.scratch / "delaywatch-fetch" / f"{source}-{year}"
    with _client(settings, source, patience) as client:
        if _is_current(settings, lake, client, year, source):
            log.info("%s: as %s has it now; nothing to fetch", key, source)
            return key
        try:
            with _alone(folder, year):
                csv = folder / f"{year}.csv"
                try:
                    record = _fetch(settings, client, year, source, csv, so_far=so_far, progress=progress)
                    _put(settings, lake, year, csv, record)
                finally:
                    csv.unlink(missing_ok=True)
                if record["is_whole"]:
                    shutil.rmtree(folder)
        except OSError as error:
            FolderStore(folder).fail(error, f"fetching {year}")
    return key


def is_published(settings: Settings, year: int, source: str = "bts", patience: Patience | None = None) -> bool:
    """Whether the source has the last file of the whole year. Raises DelaywatchError when it does not answer."""
    from utils.fetch import bts, kaggle

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
    from utils.lake import Lake

    if not pipeline.has_bronze(settings, year):
        return False
    return _unfinished_bytes(Lake(settings), year) is None


def _fetch(
    settings: Settings, client: Client, year: int, source: str, csv: Path, *, so_far: bool, progress: Progress | None
) -> dict[str, Any]:
    """Bring the year's files, write `csv` from them, and return the record of both."""
    from utils.fetch import bts, kaggle

    rows: dict[int, int] = {}
    if source == "bts":
        months = bts.download(client, settings.bts_url, year, csv.parent, so_far=so_far, progress=progress)
        rows, files, is_whole = bts.write_csv(months, year, csv), [*months.values()], [*months] == bts.months(year)
    else:
        file = kaggle.download(client, settings.kaggle_url, year, csv.parent, progress)
        kaggle.write_csv(file, csv)
        files, is_whole = [file], True
    fetched = f"{sum(file.bytes for file in files):,} bytes in {len(files)} file{'s' if len(files) > 1 else ''}"
    log.info("%d: %s%s", year, f"{sum(rows.values()):,} flights, " if rows else "", fetched)
    if not is_whole:
        log.warning("%d is not complete; fetch it again when its other months are published", year)
    return {
        "year": year,
        "source": source,
        "is_whole": is_whole,
        "bytes": csv.stat().st_size,
        "sha256": _sha256(csv),
        "flights_by_month": {str(month): count for month, count in rows.items()},
        "files": [file.record() for file in files],
    }


def _put(settings: Settings, lake: Lake, year: int, csv: Path, record: dict[str, Any]) -> None:
    """Write CSV and record into bronze in an order in which a cut between them lets no part of a year pass as whole."""
    from utils.lake import encode_json

    if record["is_whole"]:
        pipeline.put_bronze(settings, year, csv)
        lake.store.put(_record_key(year), encode_json(record))
    else:  # a CSV without a fitting record counts as whole, so the record comes first and fits the older part, too
        told = {**record, "bytes_before": _unfinished_bytes(lake, year)}
        lake.store.put(_record_key(year), encode_json(told))
        pipeline.put_bronze(settings, year, csv)


def _check(year: int, source: str) -> None:
    if source not in SOURCES:
        raise DelaywatchError(f"There is no source {source}; choose one of {', '.join(SOURCES)}.")
    pipeline.check_year(year)


@contextmanager
def _client(settings: Settings, source: str, patience: Patience | None) -> Iterator[Client]:
    from utils.fetch import download, kaggle

    auth = kaggle.auth(settings.kaggle_token_file) if source == "kaggle" else None
    with closing(download.Client(patience or download.Patience(), auth)) as client:
        yield client


@contextmanager
def _alone(folder: Path, year: int) -> Iterator[None]:
    """The folder, made if need be, for this process alone. Raises DelaywatchError when another one fetches there."""
    from utils.stores import make_private

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
    from utils.lake import bronze_keys

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
    from utils.lake import bronze_keys

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
    from utils.fetch.download import Version

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
