"""Copy local CSV files into bronze; check that the file is valid for the year and may replace an existing file.

`layers` decides which rows are usable.
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
from utils.layers.engines import Threads
from utils.reporting import wording
from utils.settings import Settings
from utils.storage import keys
from utils.storage.folder import FolderSource
from utils.storage.lake import Lake
from utils.storage.parts import LocalParts

MAX_LOST_SHARE = 0.05  # of a month's flights that a newer file may lack; revisions by the Bureau change far fewer

Progress = Callable[[int, int], None]  # bytes read, total bytes

log = logging.getLogger(__name__)


def check_csv(path: Path, year: int, shown_as: str | None = None) -> None:
    """Raise InvalidInput if the first lines show that the file is not the year's CSV; see ingest.check_first_lines."""
    with closing(_local_file(path, shown_as or str(path))) as source:
        ingest.check_first_lines(source, keys.check_year(year))


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
    """Copy a CSV (plain, or gzip if its name ends in .gz) into bronze as the year's file; return its key.

    Equal bytes change nothing. Replacing a different file requires `replace` and a full pass with the rules of silver;
    if the new file lacks flights, also `allow_fewer`. The new file is complete before the old one is deleted. A killed
    process leaves the old file, or both .csv and .csv.gz, which all steps refuse until this function runs again.
    shown_as: the name of the file in errors. before_upload: called after all checks, just before the upload.
    Raises InvalidInput, with bronze unchanged, if the file is not valid for the year or may not replace the old file.
    """
    lake = Lake(settings)
    plain, compressed = keys.bronze_keys(keys.check_year(year))
    key = compressed if path.suffix == ".gz" else plain
    with closing(_local_file(path, shown_as or str(path))) as source, lake.staging(year) as folder:
        ingest.check_first_lines(source, year)
        old_keys = [old for old in (plain, compressed) if lake.has(old)]
        if old_keys == [key] and lake.holds(key, source):
            before_upload()
            log.info("%s: unchanged", key)
            return key
        if old_keys and not replace:
            raise _already_there(lake, old_keys, source)
        if old_keys or ingest.is_doubtful(source, year):
            ingested = _ingest(source, year, folder, settings.threads, progress)
            if old_keys and not allow_fewer:
                _refuse_fewer(lake, year, source.key, old_keys, ingested)
        if not source.is_unchanged():
            raise Unavailable(f"{source.key} changed while it was read; run the command again once it is complete.")
        before_upload()
        lake.store.upload(path, key)
        lake.store.delete([old for old in old_keys if old != key])
    replaced = f", replaces {wording.listed(old_keys)}" if old_keys else ""
    log.info("%s: %s bytes%s", key, f"{source.size:,}", replaced)
    return key


def _already_there(lake: Lake, old_keys: list[str], source: FolderSource) -> InvalidInput:
    return InvalidInput(
        f"{wording.listed(old_keys)} {'is' if len(old_keys) == 1 else 'are'} already in {lake.uri}, and {source.key} "
        f"({source.size:,} bytes) is different; repeat with --replace to replace the file in the lake "
        "(in Airflow: set the parameter replace of fetch_bronze)."
    )


def _ingest(
    source: FolderSource, year: int, folder: Path, threads: int, progress: Progress | None
) -> ingest.IngestedYear:
    """Ingest the whole file to check it. Raises the errors of ingest.ingest_year, and Unavailable if out of memory."""
    try:
        return ingest.ingest_year(source, year, folder, Threads(threads), LocalParts(folder), progress)
    except MemoryError as error:
        raise out_of_memory(year) from error


def _refuse_fewer(lake: Lake, year: int, source_name: str, old_keys: list[str], ingested: ingest.IngestedYear) -> None:
    """Raise InvalidInput if the new file lacks flights that silver has, for example because it was cut."""
    if not lake.has(keys.manifest_key(year)):
        return
    old, new = lake.read_quality(year), quality.report(year, old_keys[0], ingested)
    if lost := lost_flights(old["rows_per_month"], new["rows_per_month"]):
        raise InvalidInput(
            f"{source_name} has fewer flights of {year} than {wording.listed(old_keys)}: {lost}. Give a complete file, "
            "or repeat the command with --fewer-flights."
        )


def lost_flights(old: Mapping[str, int], new: Mapping[str, int]) -> str:
    """Return in words the months, or the flights of a month, that the newer version lacks; empty if complete.

    old, new: flights by month number; months without flights may be absent.
    """
    before = {month: flights for month, flights in sorted(old.items(), key=lambda item: int(item[0])) if flights}
    missing = [calendar.month_name[int(month)] for month in before if not new.get(month)]
    if missing:
        return f"{wording.listed(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    for month, flights in before.items():
        if new[month] < (1 - MAX_LOST_SHARE) * flights:
            return f"{calendar.month_name[int(month)]} has {new[month]:,} flights instead of {flights:,}"
    return ""


def _local_file(path: Path, name: str) -> FolderSource:
    """Open the file. Raises InvalidInput if it is not a regular file, or the error of `cannot_read`."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InvalidInput(f"{path} is not a file; give the path of the year's .csv or .csv.gz.")
        return FolderSource(name, path)
    except OSError as error:
        raise cannot_read(path, error) from error
