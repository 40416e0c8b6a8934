"""The tables of the warehouse: names, keys, year columns, and SQL fragments for them.

Columns are in `schemas.py`; comments, checks and indexes are in `models.py`.
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
    """A table of the warehouse: its columns as an Arrow schema, its primary key, and the column with a row's year."""

    name: str
    schema: pa.Schema
    key: tuple[str, ...]
    year_column: str  # a date, or the year itself
    json_columns: tuple[str, ...] = ()

    @property
    def identifier(self) -> Identifier:
        """Return the qualified name in SQL."""
        return Identifier(SCHEMA, self.name)

    @property
    def values(self) -> list[str]:
        """Return the columns that are not in the key."""
        return [name for name in self.schema.names if name not in self.key]

    def in_year(self, year: int) -> Composed:
        """Return the SQL condition for the rows of `year`; the table's alias is t."""
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
        # A flagged day belongs to one event, so event_id is not in the key. The view then has one row per airport and
        # day, and a day can change its event in one upsert.
        Table("event_days", schemas.EVENT_DAYS, ("origin", "fl_date"), "fl_date"),
        Table("verdict_changes", schemas.VERDICT_CHANGES, ("origin", "fl_date", "changed_at"), "fl_date"),
        Table("feedback", schemas.FEEDBACK, ("origin", "fl_date"), "fl_date"),
        Table("bronze_quality", schemas.BRONZE_QUALITY, ("year",), "year", ("report",)),
        Table("runs", RUNS, ("run_id",), "year", ("rows",)),
    )
}


def names(columns: Sequence[str] | Mapping[str, object], alias: str | None = None) -> Composed:
    """Return the columns as an SQL list, qualified with `alias` if it is given."""
    return SQL(", ").join(Identifier(alias, name) if alias else Identifier(name) for name in columns)


def assignments(columns: Sequence[str], source: str) -> Composed:
    """Return the `SET` list of an UPDATE that takes each column from the alias `source`."""
    return SQL(", ").join(SQL("{} = {}").format(Identifier(name), Identifier(source, name)) for name in columns)


def scoped(table: Table, year: int, scope: Mapping[str, str]) -> Composed:
    """Return the SQL condition for the rows of `year` with the values of `scope`; the table's alias is t."""
    conditions: list[Composable] = [table.in_year(year)]
    conditions += [SQL("{} = {}").format(Identifier("t", name), Literal(value)) for name, value in scope.items()]
    return SQL(" AND ").join(conditions)
