"""Local CSV files into bronze: which file may be the year's, and what it may replace.

Which rows silver can use is decided by `layers`.
"""

from __future__ import annotations

import calendar
import logging
import stat
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from utils.errors import InvalidInput, Unavailable, cannot_read, out_of_memory
from utils.layers import ingest, quality
from utils.reporting import wording
from utils.settings import Settings
from utils.storage import keys
from utils.storage.folder import FolderSource
from utils.storage.lake import Lake
from utils.storage.parquet import write_parquet

MAX_LOST_SHARE = 0.05  # of a month's flights that a newer file may lack; the Bureau's revisions change far fewer

Progress = Callable[[int, int], None]  # bytes that were read, all bytes

log = logging.getLogger(__name__)


def check_csv(path: Path, year: int, shown_as: str | None = None) -> None:
    """Refuse a local file that cannot be the year's CSV, by its first lines; see ingest.glance."""
    with closing(_local_file(path, shown_as or str(path))) as source:
        ingest.glance(source, keys.check_year(year))


def put_bronze(
    settings: Settings,
    year: int,
    path: Path,
    *,
    replace: bool = False,
    allow_fewer: bool = False,
    shown_as: str | None = None,
    before_upload: Callable[[], object] = lambda: None,
    progress: Progress | None = None,
) -> str:
    """Copy a CSV, whose name ends in .gz if it is compressed, into bronze as the year's file, and return its key.

    The same bytes again change nothing. Another file is replaced only with `replace`, and only after a whole pass by
    the rules of silver; one that has flights which the new file lacks, only with `allow_fewer`. The new file is
    complete before the old one goes. A process that is killed in between leaves the old file, or both forms of the
    year, .csv and .csv.gz, which no step reads before this is called again.
    shown_as: what errors call the file. before_upload: called when nothing but the store can fail any more.
    Raises InvalidInput, with bronze unchanged, when the file cannot be the year's, or may not replace the old one.
    """
    lake = Lake(settings)
    plain, compressed = keys.bronze_keys(keys.check_year(year))
    key = compressed if path.suffix == ".gz" else plain
    with closing(_local_file(path, shown_as or str(path))) as source, lake.staging(year) as folder:
        ingest.glance(source, year)
        old_keys = [old for old in (plain, compressed) if lake.has(old)]
        if old_keys == [key] and lake.holds(key, source):
            before_upload()
            log.info("%s: already there, byte for byte", key)
            return key
        if old_keys and not replace:
            raise _already_there(lake, old_keys, source)
        if old_keys or ingest.is_doubtful(source, year):
            ingested = _ingest(source, year, folder, settings.threads, progress)
            if old_keys and not allow_fewer:
                _refuse_fewer(lake, year, old_keys, ingested)
        if not source.still_the_same():
            raise Unavailable(f"{source.key} changed while it was read; put it there when it is complete.")
        before_upload()
        lake.store.upload(path, key)
        lake.store.delete([old for old in old_keys if old != key])
    replaced = f", in place of {wording.listed(old_keys)}" if old_keys else ""
    log.info("%s: %s bytes%s", key, f"{source.size:,}", replaced)
    return key


def _already_there(lake: Lake, old_keys: list[str], source: FolderSource) -> InvalidInput:
    return InvalidInput(
        f"{wording.listed(old_keys)} {'is' if len(old_keys) == 1 else 'are'} already in {lake.uri}, and {source.key} "
        f"({source.size:,} bytes) is another file; repeat the command with --replace to put it in its place."
    )


def _ingest(
    source: FolderSource, year: int, folder: Path, threads: int, progress: Progress | None
) -> ingest.IngestedYear:
    """Pass over the whole file by the rules of silver. Raises as ingest.ingest_year, and Unavailable without memory."""
    try:
        return ingest.ingest_year(source, year, folder, threads, write_parquet, progress)
    except MemoryError as error:
        raise out_of_memory(year) from error


def _refuse_fewer(lake: Lake, year: int, old_keys: list[str], ingested: ingest.IngestedYear) -> None:
    """Raise InvalidInput if a new file of the year lacks flights that silver has, as a file that was cut does."""
    if not lake.has(keys.manifest_key(year)):
        return
    old, new = lake.read_quality(year), quality.report(year, old_keys[0], ingested)
    if lost := lost_flights(old["rows_per_month"], new["rows_per_month"]):
        raise InvalidInput(
            f"{wording.listed(old_keys)} stays, because the new file has less of {year}: {lost}. Put the whole year "
            "there, or repeat the command with --fewer-flights."
        )


def lost_flights(old: Mapping[str, int], new: Mapping[str, int]) -> str:
    """Return what a newer version of a year lacks, in words: months, or many flights of one; empty if nothing.

    old, new: flights by the number of the month; a month without flights may be absent.
    """
    before = {month: flights for month, flights in sorted(old.items(), key=lambda one: int(one[0])) if flights}
    gone = [calendar.month_name[int(month)] for month in before if not new.get(month)]
    if gone:
        return f"{wording.listed(gone)} {'is' if len(gone) == 1 else 'are'} gone"
    for month, flights in before.items():
        if new[month] < (1 - MAX_LOST_SHARE) * flights:
            return f"{calendar.month_name[int(month)]} has {new[month]:,} flights instead of {flights:,}"
    return ""


def _local_file(path: Path, name: str) -> FolderSource:
    """Return the file at `path`, opened. Raises an error by kind when it is no regular file or cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InvalidInput(f"{path} is not a file; give the path of the year's .csv or .csv.gz.")
        return FolderSource(name, path)
    except OSError as error:
        raise cannot_read(path, error) from error
