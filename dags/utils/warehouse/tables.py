"""The tables of the warehouse: their keys, where a row's year stands, and pieces of SQL about them.

Their columns are those of `schemas.py`; their comments, checks and indexes are in `models.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
from psycopg2.sql import SQL, Composable, Composed, Identifier, Literal

from utils import schemas

SCHEMA = "flights"

RUNS = pa.schema(
    [
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("year", pa.int16(), nullable=False),
        pa.field("code_version", pa.string()),
        pa.field("params_hash", pa.string()),
        pa.field("started", pa.timestamp("us", "UTC")),
        pa.field("ended", pa.timestamp("us", "UTC")),
        pa.field("rows", pa.string()),  # JSON: rows in and out per step
    ]
)


@dataclass(frozen=True)
class Table:
    """A table of the warehouse: its columns as arrow sees them, its primary key, and where a row's year stands."""

    name: str
    schema: pa.Schema
    key: tuple[str, ...]
    year_column: str  # a date, or the year itself
    json_columns: tuple[str, ...] = ()

    @property
    def identifier(self) -> Identifier:
        """Its name in SQL, with the schema."""
        return Identifier(SCHEMA, self.name)

    @property
    def values(self) -> list[str]:
        """Its columns beside the key."""
        return [name for name in self.schema.names if name not in self.key]

    def in_year(self, year: int) -> Composed:
        """The condition that a row of the table, called t, is of `year`."""
        column = Identifier("t", self.year_column)
        if self.schema.field(self.year_column).type == pa.date32():
            first, next_first = Literal(date(year, 1, 1)), Literal(date(year + 1, 1, 1))
            return SQL("{0} >= {1} AND {0} < {2}").format(column, first, next_first)
        return SQL("{} = {}").format(column, Literal(year))


TABLES = {
    table.name: table
    for table in (
        Table("airport_days", schemas.AIRPORT_DAYS, ("origin", "fl_date"), "fl_date"),
        Table("anomalies", schemas.WAREHOUSE_ANOMALIES, ("origin", "fl_date", "detector"), "fl_date"),
        Table("anomaly_reasons", schemas.ANOMALY_REASONS, ("origin", "fl_date"), "fl_date"),
        Table("anomaly_factors", schemas.ANOMALY_FACTORS, ("origin", "fl_date", "dimension", "name"), "fl_date"),
        Table("events", schemas.EVENTS, ("event_id",), "first_day"),
        # A flagged day belongs to one event. The key says so, which keeps the view at one row per airport and day, and
        # lets a day change its event in one upsert.
        Table("event_days", schemas.EVENT_DAYS, ("origin", "fl_date"), "fl_date"),
        Table("feedback", schemas.FEEDBACK, ("origin", "fl_date"), "fl_date"),
        Table("bronze_quality", schemas.BRONZE_QUALITY, ("year",), "year", ("report",)),
        Table("runs", RUNS, ("run_id",), "year", ("rows",)),
    )
}


def names(columns: Sequence[str] | Mapping[str, object], of: str | None = None) -> Composed:
    """The columns as a list in SQL, those of the table called `of` when it is given."""
    return SQL(", ").join(Identifier(of, name) if of else Identifier(name) for name in columns)


def assignments(columns: Sequence[str], source: str) -> Composed:
    """`SET` of an UPDATE: each column as it is in `source`."""
    return SQL(", ").join(SQL("{} = {}").format(Identifier(name), Identifier(source, name)) for name in columns)


def scoped(table: Table, year: int, scope: Mapping[str, str]) -> Composed:
    """The condition that a row of the table, called t, is of `year` and has the values of `scope`."""
    conditions: list[Composable] = [table.in_year(year)]
    conditions += [SQL("{} = {}").format(Identifier("t", name), Literal(value)) for name, value in scope.items()]
    return SQL(" AND ").join(conditions)
