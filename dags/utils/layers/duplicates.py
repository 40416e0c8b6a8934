"""Find duplicate flights of a year, month by month, from the hashes of their natural keys.

The hashes are kept in one file per month, so memory does not grow with the year. `silver` computes the hashes;
`ingest` rewrites the parts without the rows that this module returns.
"""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from utils import schemas
from utils.errors import InvalidInput
from utils.layers import silver

if TYPE_CHECKING:
    from utils.layers.ingest import StagedPart

MIN_VERSION_ROWS = 100  # duplicates in a month; if most of them differ, the file has two versions of the month
MIN_VERSION_SHARE = 0.01  # of the month's flights; real years have only a few duplicates

_ROW = np.dtype(
    [
        ("key", np.uint64),  # hash of the natural key, or of all columns if the natural key has a null
        ("second", np.uint64),  # second hash of the same columns, to detect collisions
        ("content", np.uint64),  # hash of all columns
        ("has_key", bool),
        ("part", np.int32),
        ("row", np.int32),
    ]
)


@dataclass(frozen=True)
class Duplicates:
    """Counts of the duplicate rows, and the rows to drop."""

    per_month: dict[int, int]  # dropped rows by month
    differing: int  # dropped rows that differ from the kept row of the same flight
    kept_without_key: int  # kept copies of a row whose natural key has a null
    rows_to_drop: Mapping[int, np.ndarray] = field(default_factory=dict, compare=False)  # row numbers by part number


class KeyFiles:
    """Unsorted hashes of all flights of a year, one file per month."""

    def __init__(self, folder: Path) -> None:
        """Write the files into `folder`."""
        self._folder = folder

    def _path(self, month: int) -> Path:
        return self._folder / f"keys-{month:02}.u64"

    def add(self, keys: Mapping[int, np.ndarray]) -> None:
        """Append hashes by month. Not thread-safe."""
        for month, hashes in keys.items():
            with self._path(month).open("ab") as file:
                file.write(hashes.tobytes())

    def repeated(self, month: int) -> np.ndarray:
        """Return the hashes that occur more than once in the month, sorted, uint64."""
        keys = np.fromfile(self._path(month), np.uint64)
        keys.sort()
        repeated: np.ndarray = np.unique(keys[1:][keys[1:] == keys[:-1]])
        return repeated

    def count(self, month: int) -> int:
        """Return the number of flights of the month."""
        return self._path(month).stat().st_size // np.dtype(np.uint64).itemsize


def find(keys: KeyFiles, parts: Mapping[int, StagedPart], year: int, source_key: str, threads: int) -> Duplicates:
    """Keep one row per flight and return the other rows.

    Each month is searched separately, because the date is part of the natural key. The kept row is the row with the
    smallest hash over all columns, so the result does not depend on the order of the file; the first of equal rows is
    kept. A row whose natural key has a null is always kept, because its flight is unknown. Raises InvalidInput if the
    file has two versions of a month.
    """
    months = sorted({month for part in parts.values() for month in part.months})
    per_month: dict[int, int] = {}
    differing = kept_without_key = 0
    drop: dict[int, list[np.ndarray]] = {}
    with ThreadPoolExecutor(threads, thread_name_prefix="duplicates") as pool:
        for month, rows in zip(months, pool.map(lambda month: _repeated_rows(keys, month, parts), months), strict=True):
            kept = _kept_row_of_each(rows)
            is_repeated = kept != np.arange(len(rows))
            kept_without_key += int((is_repeated & ~rows["has_key"]).sum())
            is_dropped = is_repeated & rows["has_key"]
            if not is_dropped.any():
                continue
            is_different = is_dropped & (rows["content"] != rows["content"][kept])
            per_month[month] = int(is_dropped.sum())
            differing += int(is_different.sum())
            if _are_versions(per_month[month], int(is_different.sum()), keys.count(month) - per_month[month]):
                places = np.flatnonzero(is_different)
                example = places[np.lexsort((rows["row"][places], rows["part"][places]))[0]]  # the first in the file
                pair = rows[[kept[example], example]]
                raise _two_versions(parts, source_key, f"{calendar.month_name[month]} {year}", pair)
            for part in np.unique(rows["part"][is_dropped]):
                drop.setdefault(int(part), []).append(rows["row"][is_dropped & (rows["part"] == part)])
    rows_to_drop = {number: np.concatenate(places) for number, places in drop.items()}
    return Duplicates(per_month, differing, kept_without_key, rows_to_drop)


def _repeated_rows(keys: KeyFiles, month: int, parts: Mapping[int, StagedPart]) -> np.ndarray:
    """Return the rows of the month whose key occurs more than once, as _ROW of shape (rows,).

    Rows are sorted by key, then by content, then by their place in the file.
    """
    repeated = keys.repeated(month)
    pieces = [np.empty(0, _ROW)]
    for number, part in parts.items():
        if len(repeated) and month in part.months:
            pieces.append(_rows_with(repeated, number, part.path))
    rows = np.concatenate(pieces)
    return rows[np.lexsort((rows["row"], rows["part"], rows["content"], rows["second"], rows["key"]))]


def _rows_with(keys: np.ndarray, number: int, part: Path) -> np.ndarray:
    """Return the rows of one part whose key is in the sorted `keys`, as _ROW."""
    file = pq.ParquetFile(part)
    flights = file.read(columns=list(schemas.NATURAL_KEY))
    key = silver.fingerprints(flights if silver.has_key(flights).all() else file.read())
    place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
    at = np.flatnonzero(keys[place] == key)
    rows = np.empty(len(at), _ROW)
    if not len(at):
        return rows
    chosen = file.read().take(pa.array(at))
    rows["key"], rows["row"], rows["part"] = key[at], at, number
    rows["second"] = silver.fingerprints(chosen, seed=1)
    rows["content"] = silver.fingerprints(chosen, chosen.column_names)
    rows["has_key"] = silver.has_key(chosen)
    return rows


def _kept_row_of_each(rows: np.ndarray) -> np.ndarray:
    """Return the index of the first row of the same flight, for rows as sorted by `_repeated_rows`; int64 (rows,)."""
    is_first = np.ones(len(rows), bool)
    is_first[1:] = (rows["key"][1:] != rows["key"][:-1]) | (rows["second"][1:] != rows["second"][:-1])
    kept: np.ndarray = np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
    return kept


def _are_versions(duplicates: int, differing: int, flights: int) -> bool:
    return duplicates >= max(MIN_VERSION_ROWS, MIN_VERSION_SHARE * flights) and differing > duplicates / 2


def _two_versions(parts: Mapping[int, StagedPart], source_key: str, month: str, pair: np.ndarray) -> InvalidInput:
    """Return the error for `pair`, two rows of one flight that differ."""
    tables = (pq.ParquetFile(parts[int(row["part"])].path).read() for row in pair)
    kept, repeated = (table.slice(int(row["row"]), 1).to_pylist()[0] for table, row in zip(tables, pair, strict=True))
    column = next(name for name in schemas.SILVER.names if kept[name] != repeated[name])
    values = " and ".join(str(row[column]) if row[column] is not None else "no value" for row in (kept, repeated))
    flight = (
        f"{kept['op_carrier']} {kept['op_carrier_fl_num']} from {kept['origin']} to {kept['dest']} on {kept['fl_date']}"
    )
    return InvalidInput(
        f"{source_key} has two versions of {month}: most of its repeated flights have different values, for example "
        f"{flight} with {column.upper()} {values}. Keep one version of the month and put the file into bronze again."
    )
