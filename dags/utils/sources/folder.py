"""The Bureau's months in a local folder, zipped or not, found by their content and not by their names."""

from __future__ import annotations

import calendar
import hashlib
import logging
from collections import defaultdict
from pathlib import Path

from utils.errors import DelaywatchError, InvalidInput, Missing, cannot_read
from utils.reporting import wording
from utils.sources import archive, bts
from utils.sources.download import File, Version

MAX_LISTED = 5  # files in an error

log = logging.getLogger(__name__)


def months_in(folder: Path, year: int, *, so_far: bool) -> dict[int, File]:
    """Return the files of the year's months by month, ascending.

    A file that is not a month of the Bureau is skipped with a warning. Raises Missing for a month that is not there
    (with so_far, only when a later one is), and InvalidInput when two different files hold the same month.
    """
    by_month, skipped = _files_by_month(folder)
    found = {month: paths for (of_year, month), paths in sorted(by_month.items()) if of_year == year}
    expected = [month for month in bts.months(year) if not so_far or month <= max(found, default=0)]
    missing = [f"{calendar.month_name[month]} {year}" for month in expected if month not in found]
    if missing or not found:
        years = sorted({of_year for of_year, _ in by_month})
        lacks = wording.listed(missing) if found else f"month of {year}"
        there = f"; its months are of {wording.listed(years)}" if years and not found else ""
        raise Missing(
            f"{folder} has no {lacks}{there}{_listed(skipped)}; download what is missing from the Bureau"
            f"{'' if so_far or not found else ', or take the first months of the year with --so-far'}."
        )
    return {month: _only(paths, calendar.month_name[month], year) for month, paths in found.items()}


def _files_by_month(folder: Path) -> tuple[dict[tuple[int, int], list[Path]], list[str]]:
    """Return the files by year and month, and why each of the other zips and CSVs is none of the Bureau's months."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".zip", ".csv"))
    except OSError as error:
        raise cannot_read(folder, error) from error
    by_month: dict[tuple[int, int], list[Path]] = defaultdict(list)
    skipped = []
    for path in paths:
        try:
            by_month[bts.month_of(path)].append(path)
        except DelaywatchError as error:
            skipped.append(path.name)
            log.warning("skipped: %s", error)
    return by_month, skipped


def _listed(skipped: list[str]) -> str:
    if not skipped:
        return ""
    shown = [*skipped[:MAX_LISTED], *([f"{len(skipped) - MAX_LISTED} more"] if len(skipped) > MAX_LISTED else [])]
    return f" ({wording.listed(shown)} {'is' if len(skipped) == 1 else 'are'} not the Bureau's or cannot be read)"


def _only(paths: list[Path], month: str, year: int) -> File:
    """Return the first of the files, which may be a zip and what was unpacked from it, but no two versions."""
    first, *others = paths
    if others:
        text = _text_hash(first)
        for other in others:
            if _text_hash(other) != text:
                raise InvalidInput(
                    f"{first} and {other} are two different files of {month} {year}; leave the right one in the folder."
                )
    try:
        with first.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = first.stat().st_size
    except OSError as error:
        raise cannot_read(first, error) from error
    return File(first, first.name, Version(), size, sha256)


def _text_hash(path: Path) -> str:
    sha256 = hashlib.sha256()
    with bts.open_month(path, str(path)) as text:
        for chunk in archive.chunks(text):
            sha256.update(chunk)
    return sha256.hexdigest()
