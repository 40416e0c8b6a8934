"""The flights of an airport-day, from silver. Only row groups whose dates can contain the day are read."""

from __future__ import annotations

import datetime as dt
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import closing

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from utils import schemas
from utils.errors import Missing
from utils.storage.lake import Lake
from utils.storage.stores import SourceFile

MAX_PARTS = 2000  # whose dates are kept: about 20 full years
MAX_READERS = 2
COLUMNS_AT_ONCE = 9  # of a row group, to save memory: about 6 MB

Groups = list[tuple[int, dt.date, dt.date]]  # number, first and last date of each row group


class Flights:
    """Reads flights from one lake. Thread-safe."""

    def __init__(self, lake: Lake) -> None:
        """Open no connection."""
        self._lake, self._lock = lake, threading.Lock()
        self._readers = threading.BoundedSemaphore(MAX_READERS)
        self._groups: OrderedDict[str, Groups] = OrderedDict()  # by key; the name of a part contains its hash

    def of_day(self, origin: str, day: dt.date) -> pd.DataFrame:
        """Return the flights from `origin` on `day`, schemas.SILVER, in the order of the CSV.

        Raises Missing if silver has no manifest of the year, or retention has deleted a part.
        """
        tables = [schemas.SILVER.empty_table()]
        for key in self._lake.silver_parts(day.year):
            with self._readers:
                tables += self._of_part(key, origin, day)
        frame: pd.DataFrame = pa.concat_tables(tables).to_pandas(date_as_object=False)
        return frame

    def _of_part(self, key: str, origin: str, day: dt.date) -> list[pa.Table]:
        with self._lock:
            groups = self._groups.get(key)
        if groups is not None and not any(first <= day <= last for _, first, last in groups):
            return []
        if not self._lake.store.has(key):  # retention deletes parts and keeps the manifest
            raise Missing(f"{key} is no longer in {self._lake.uri}; run the silver step of {day.year} again.")
        with closing(self._lake.store.open(key)) as source:
            try:
                file = pq.ParquetFile(pa.PythonFile(SourceFile(source), mode="r"), pre_buffer=True)
                if groups is None:
                    groups = _dates_of(file)
                    self._keep(key, groups)
                return [_matching(file, number, origin, day) for number, first, last in groups if first <= day <= last]
            except pa.ArrowInvalid as error:
                raise self._lake.damaged(key) from error

    def _keep(self, key: str, groups: Groups) -> None:
        with self._lock:
            self._groups[key] = groups
            while len(self._groups) > MAX_PARTS:
                self._groups.popitem(last=False)


def _dates_of(file: pq.ParquetFile) -> Groups:
    """Return the dates of each row group from the statistics in the footer."""
    column = file.schema_arrow.get_field_index("fl_date")
    groups = []
    for number in range(file.num_row_groups):
        statistics = file.metadata.row_group(number).column(column).statistics
        has_dates = statistics is not None and statistics.has_min_max
        dates = (statistics.min, statistics.max) if has_dates else (dt.date.min, dt.date.max)
        groups.append((number, *dates))
    return groups


def _matching(file: pq.ParquetFile, number: int, origin: str, day: dt.date) -> pa.Table:
    """Return the flights of a row group, read in groups of columns to save memory."""
    keys = file.read_row_group(number, columns=["origin", "fl_date"])
    is_match = pc.and_(pc.equal(keys["origin"].cast(pa.string()), origin), pc.equal(keys["fl_date"], day))
    if not pc.any(is_match).as_py():
        return schemas.SILVER.empty_table()
    columns: dict[str, pa.ChunkedArray] = {}
    for names in _batches(schemas.SILVER.names):
        part = file.read_row_group(number, columns=names).filter(is_match)
        columns |= {name: part[name] for name in names}
    return pa.table(columns).cast(schemas.SILVER)


def _batches(names: Sequence[str]) -> Iterator[list[str]]:
    for first in range(0, len(names), COLUMNS_AT_ONCE):
        yield list(names[first : first + COLUMNS_AT_ONCE])
