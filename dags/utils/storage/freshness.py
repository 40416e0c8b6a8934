"""The state of each gold table of a year: missing, stale or current.

A table is current if it was made from the source files that are in the lake now: airport-days from the sums of silver,
verdicts from the airport-days and the history, explanations from the verdicts of the published detector. Changed
settings are not checked here, and a changed year before only by `has_current_history`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import pyarrow as pa
import pyarrow.parquet as pq

from utils.errors import Missing
from utils.storage import keys
from utils.storage.lake import Lake
from utils.storage.parquet import content_hash, made_from


class State(StrEnum):
    """The state of a table relative to its source file."""

    MISSING = "missing"
    STALE = "stale"
    CURRENT = "current"


@dataclass(frozen=True)
class GoldTable:
    """One gold table; its bytes are read once, on first use."""

    lake: Lake
    year: int
    key: str
    step: str  # the step that writes it
    source: str  # the source and "has" or "have", for messages
    source_hash: Callable[[], str | None]

    @cached_property
    def _data(self) -> bytes | None:
        return self.lake.store.get(self.key)

    @cached_property
    def _file(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(pa.BufferReader(self._data))
        except pa.ArrowInvalid as error:
            raise self.lake.damaged(self.key) from error

    @cached_property
    def hash(self) -> str | None:
        """The content hash, which derived tables carry; None if the table is missing."""
        return None if self._data is None else content_hash(self._data)

    @cached_property
    def state(self) -> State:
        """The state. Raises Missing if the year has no silver, Damaged if a file cannot be decoded."""
        if self._data is None:
            return State.MISSING
        source_hash = self.source_hash()
        is_current = source_hash is not None and made_from(self._file.schema_arrow) == source_hash
        return State.CURRENT if is_current else State.STALE

    def _missing(self) -> Missing:
        return Missing(f"{self.key} is not in {self.lake.uri}; {self._remedy}")

    @property
    def _remedy(self) -> str:
        return f"run the {self.step} step of {self.year} again."

    @property
    def rows(self) -> int | None:
        """The number of rows; None if the table is missing."""
        return None if self._data is None else int(self._file.metadata.num_rows)

    def read(self, columns: list[str] | None = None) -> pa.Table:
        """Return the table, or some of its columns. Raises Missing if it is missing or stale, and Damaged."""
        self.check()
        return self.read_any(columns)

    def check(self) -> None:
        """Raise Missing if the table is missing or stale, and Damaged."""
        if self.state is State.MISSING:
            raise self._missing()
        if self.state is State.STALE:
            raise Missing(
                f"{self.key} in {self.lake.uri} is stale, because the {self.source} changed since; {self._remedy}"
            )

    def read_any(self, columns: list[str] | None = None) -> pa.Table:
        """Return the table, stale or current, or some of its columns. Raises Missing if it is missing, and Damaged."""
        if self._data is None:
            raise self._missing()
        try:
            return self._file.read(columns=columns)
        except pa.ArrowInvalid as error:
            raise self.lake.damaged(self.key) from error


@dataclass(frozen=True)
class Gold:
    """The gold tables of one year."""

    airport_days: GoldTable
    history: GoldTable  # copy of the airport-days of the year before, which may be missing
    year_before: GoldTable  # those airport-days as they are now
    anomalies: dict[str, GoldTable]  # by detector: all that exist, and the published one
    explanations: dict[str, GoldTable]  # by name, all of keys.EXPLANATIONS
    published: GoldTable  # the verdicts that are explained

    @property
    def is_explained(self) -> bool:
        """True if all explanations were made from the published verdicts."""
        return all(table.state is State.CURRENT for table in self.explanations.values())

    @property
    def has_current_history(self) -> bool:
        """True if the airport-days of the year before have not changed since the gold step copied them."""
        return self.history.hash == self.year_before.hash

    @property
    def needed(self) -> list[GoldTable]:
        """The tables that a finished year must have."""
        return [self.airport_days, self.published, *self.explanations.values()]


def gold_of(lake: Lake, year: int, published: str) -> Gold:
    """Return the gold tables of the year; `published` names the detector whose verdicts are explained."""

    def airport_days(year: int) -> GoldTable:
        key = keys.airport_days_key(year)
        return GoldTable(lake, year, key, "gold", "silver has", lambda: lake.manifest(year).get("sums"))

    def table(key: str, step: str, source: str, source_hash: Callable[[], str | None]) -> GoldTable:
        return GoldTable(lake, year, key, step, source, source_hash)

    days, year_before = airport_days(year), airport_days(year - 1)
    history = table(keys.history_key(year), "gold", "airport-days of the year before have", lambda: year_before.hash)
    source = "airport-days or the history have"
    anomalies = {
        name: table(keys.anomalies_key(year, name), "detect", source, lambda: _hash_of_days(days, history))
        for name in sorted({published, *lake.detectors_with_verdicts(year)})
    }
    verdicts = anomalies[published]
    explanations = {
        name: table(keys.explanation_key(year, name), "explain", "verdicts have", lambda: verdicts.hash)
        for name in keys.EXPLANATIONS
    }
    return Gold(days, history, year_before, anomalies, explanations, verdicts)


def _hash_of_days(days: GoldTable, history: GoldTable) -> str | None:
    """Return the hash that verdicts carry: of the airport-days, and of the history if it exists."""
    if days.hash is None or history.hash is None:
        return days.hash
    return content_hash(f"{days.hash} {history.hash}".encode())


def joint_hash(versions: Iterable[tuple[str, str]]) -> str:
    """Return one hash (12 hex digits) of the params_hash and the source hash of all verdicts, sorted by detector."""
    return content_hash("".join(itertools.chain.from_iterable(versions)).encode())[:12]
