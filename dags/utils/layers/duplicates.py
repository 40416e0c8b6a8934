"""Find duplicate flights of a year, month by month, from the hashes of their natural keys.

The hashes are kept in one file per month, so memory does not grow with the year. `silver` computes the hashes;
`ingest` rewrites the parts without the rows that this module returns, and its engine reads the parts.
"""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from utils import schemas
from utils.errors import InvalidInput
from utils.layers import columns, silver

if TYPE_CHECKING:
    from utils.layers.engines import Engine
    from utils.layers.ingest import SilverPart
    from utils.storage.parts import PartStore

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
        """Write the files into `folder`; delete those of an earlier attempt."""
        self._folder = folder
        for path in folder.glob("keys-*.u64"):
            path.unlink()

    def _path(self, month: int) -> Path:
        return self._folder / f"keys-{month:02}.u64"

    def add(self, keys: Mapping[int, np.ndarray]) -> None:
        """Append hashes by month."""
        for month, hashes in keys.items():
            with self._path(month).open("ab") as file:
                file.write(hashes.tobytes())

    def repeated(self, month: int) -> np.ndarray:
        """Return the hashes that occur more than once in the month, sorted, uint64."""
        keys = np.fromfile(self._path(month), np.uint64)
        keys.sort()
        repeated: np.ndarray = np.unique(keys[1:][keys[1:] == keys[:-1]])
        return repeated


def keys_by_month(flights: pa.Table, months: tuple[int, ...]) -> dict[int, np.ndarray]:
    """Return silver.fingerprints of the flights by month, uint64. months: the months of the flights."""
    keys = silver.fingerprints(flights)
    if len(months) == 1:
        return {months[0]: keys}
    month_of_flight = columns.to_numpy(columns.as_array(pc.month(flights["fl_date"])))
    return {month: keys[month_of_flight == month] for month in months}


def _with_key_columns(store: PartStore, part: SilverPart) -> pa.Table:
    """Return the columns of the part that `silver.fingerprints` needs."""
    flights = store.read(part.file.name, list(schemas.NATURAL_KEY))
    return flights if silver.has_key(flights).all() else store.read(part.file.name)


def keys_of(store: PartStore, part: SilverPart) -> dict[int, np.ndarray]:
    """Compute the hashes of a written part again, by month."""
    return keys_by_month(_with_key_columns(store, part), part.months)


def find(
    repeated: Mapping[int, np.ndarray],
    flights: Mapping[int, int],
    parts: Mapping[int, SilverPart],
    store: PartStore,
    engine: Engine,
    source_key: str,
) -> Duplicates:
    """Keep one row per flight and return the other rows.

    repeated: the hashes that occur more than once, sorted, uint64, by month. flights: number of flights by month.

    Each month is searched separately, because the date is part of the natural key. The kept row is the row with the
    smallest hash over all columns, so the result does not depend on the order of the file; the first of equal rows is
    kept. A row whose natural key has a null is always kept, because its flight is unknown. Raises InvalidInput if the
    file has two versions of a month.
    """
    per_month: dict[int, int] = {}
    differing = kept_without_key = 0
    drop: dict[int, list[np.ndarray]] = {}
    for month in sorted(month for month, keys in repeated.items() if len(keys)):
        items = [(number, part) for number, part in parts.items() if month in part.months]
        rows = np.concatenate(list(engine.map(partial(_rows_with, repeated[month], store), items)))
        # Sort by flight, then by content, then by the place in the file.
        rows = rows[np.lexsort((rows["row"], rows["part"], rows["content"], rows["second"], rows["key"]))]
        kept = _kept_row_of_each(rows)
        is_repeated = kept != np.arange(len(rows))
        kept_without_key += int((is_repeated & ~rows["has_key"]).sum())
        is_dropped = is_repeated & rows["has_key"]
        if not is_dropped.any():
            continue
        is_different = is_dropped & (rows["content"] != rows["content"][kept])
        per_month[month] = int(is_dropped.sum())
        differing += int(is_different.sum())
        if _are_versions(per_month[month], int(is_different.sum()), flights[month] - per_month[month]):
            places = np.flatnonzero(is_different)
            example = places[np.lexsort((rows["row"][places], rows["part"][places]))[0]]  # the first in the file
            raise _two_versions(parts, store, source_key, rows[[kept[example], example]])
        for part in np.unique(rows["part"][is_dropped]):
            drop.setdefault(int(part), []).append(rows["row"][is_dropped & (rows["part"] == part)])
    rows_to_drop = {number: np.concatenate(places) for number, places in drop.items()}
    return Duplicates(per_month, differing, kept_without_key, rows_to_drop)


def _rows_with(keys: np.ndarray, store: PartStore, item: tuple[int, SilverPart]) -> np.ndarray:
    """Return the rows of one part whose key is in the sorted `keys`, as _ROW of shape (rows,)."""
    number, part = item
    key = silver.fingerprints(_with_key_columns(store, part))
    place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
    at = np.flatnonzero(keys[place] == key)
    rows = np.empty(len(at), _ROW)
    if not len(at):
        return rows
    chosen = store.read(part.file.name).take(pa.array(at))
    rows["key"], rows["row"], rows["part"] = key[at], at, number
    rows["second"] = silver.fingerprints(chosen, seed=1)
    rows["content"] = silver.fingerprints(chosen, chosen.column_names)
    rows["has_key"] = silver.has_key(chosen)
    return rows


def _kept_row_of_each(rows: np.ndarray) -> np.ndarray:
    """Return the index of the first row of the same flight, for rows as sorted by `find`; int64 (rows,)."""
    is_first = np.ones(len(rows), bool)
    is_first[1:] = (rows["key"][1:] != rows["key"][:-1]) | (rows["second"][1:] != rows["second"][:-1])
    kept: np.ndarray = np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
    return kept


def _are_versions(duplicates: int, differing: int, flights: int) -> bool:
    return duplicates >= max(MIN_VERSION_ROWS, MIN_VERSION_SHARE * flights) and differing > duplicates / 2


def _two_versions(parts: Mapping[int, SilverPart], store: PartStore, source_key: str, pair: np.ndarray) -> InvalidInput:
    """Return the error for `pair`, two rows of one flight that differ."""
    tables = (store.read(parts[int(row["part"])].file.name) for row in pair)
    kept, repeated = (table.slice(int(row["row"]), 1).to_pylist()[0] for table, row in zip(tables, pair, strict=True))
    column = next(name for name in schemas.SILVER.names if kept[name] != repeated[name])
    values = " and ".join(str(row[column]) if row[column] is not None else "no value" for row in (kept, repeated))
    day = kept["fl_date"]
    flight = f"{kept['op_carrier']} {kept['op_carrier_fl_num']} from {kept['origin']} to {kept['dest']} on {day}"
    return InvalidInput(
        f"{source_key} has two versions of {calendar.month_name[day.month]} {day.year}: most of its repeated flights "
        f"have different values, for example {flight} with {column.upper()} {values}. Keep one version of the month "
        "and put the file into bronze again."
    )
