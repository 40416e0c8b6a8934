"""The tables of the warehouse: their keys, where a row's year stands, and whether they are still as they were made.

Their columns are those of `schemas.py`; their history, comments, checks and indexes are in `migrations/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import psycopg2.extensions
import pyarrow as pa
from psycopg2.sql import SQL, Composable, Composed, Identifier, Literal

from utils import schemas
from utils.errors import DelaywatchError
from utils.warehouse.connection import FAILING, Postgres

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

    def type_in_postgres(self, field: pa.Field) -> str:
        """The type of one of its columns, as Postgres writes it."""
        return "jsonb" if field.name in self.json_columns else POSTGRES_TYPES[field.type]

    def in_year(self, year: int) -> Composed:
        """The condition that a row of the table, called t, is of `year`."""
        column = Identifier("t", self.year_column)
        if self.schema.field(self.year_column).type == pa.date32():
            first, next_first = Literal(date(year, 1, 1)), Literal(date(year + 1, 1, 1))
            return SQL("{0} >= {1} AND {0} < {2}").format(column, first, next_first)
        return SQL("{} = {}").format(column, Literal(year))


POSTGRES_TYPES: dict[pa.DataType, str] = {
    pa.bool_(): "boolean",
    pa.date32(): "date",
    pa.float32(): "real",
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.string(): "text",
    pa.timestamp("us", "UTC"): "timestamp with time zone",
}
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

COLUMNS_OF_TABLE = """
    SELECT attname, format_type(atttypid, atttypmod), attnotnull AND NOT atthasdef AND attidentity = ''
    FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
"""
RIGHTS_AND_KEYS_OF_TABLE = """
    SELECT has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE')
           AND has_table_privilege(c.oid, 'DELETE'),
           ARRAY(SELECT ARRAY(SELECT a.attname::text FROM pg_attribute a
                              WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey) ORDER BY a.attname)::text
                 FROM pg_index i
                 WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
                       AND i.indexprs IS NULL)
    FROM pg_class c WHERE c.oid = to_regclass(%s)
"""


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


def check_writable(server: Postgres, cursor: psycopg2.extensions.cursor, table: Table) -> None:
    """Raise DelaywatchError when the table is not what the schema says, or the login may not write to it."""
    name = f"{SCHEMA}.{table.name}"
    cursor.execute(COLUMNS_OF_TABLE, [name])
    there = {column: (kind, is_required) for column, kind, is_required in cursor.fetchall()}
    if not there:
        raise DelaywatchError(FAILING["42P01"].format(place=server.place, first=f"{name} does not exist"))
    for field in table.schema:
        kind, expected = there.get(field.name, (None, False))[0], table.type_in_postgres(field)
        if kind == expected:
            continue
        repair = (
            f"ADD COLUMN {field.name} {expected}"
            if kind is None
            else f"ALTER COLUMN {field.name} TYPE {expected} USING {field.name}::{expected}"
        )
        raise DelaywatchError(
            f"Column {field.name} of {name} is {kind or 'missing'} and should be {expected}: the table was changed "
            f"by hand; put it back with `ALTER TABLE {name} {repair}` and run the step again."
        )
    for column, (kind, is_required) in there.items():
        if is_required and column not in table.schema.names:
            raise DelaywatchError(
                f"Column {column} ({kind}) of {name} is not ours and must not be empty, so no row can be written; "
                f'let it be empty with `ALTER TABLE {name} ALTER COLUMN "{column}" DROP NOT NULL`.'
            )
    cursor.execute(RIGHTS_AND_KEYS_OF_TABLE, [name])
    may_write, keys = cursor.fetchone() or (False, [])
    if not may_write:
        raise DelaywatchError(
            f"User {server.user} is read-only on {name}; write with a login that is a member of flights_loader."
        )
    if "{" + ",".join(sorted(table.key)) + "}" not in keys:
        key = ", ".join(table.key)
        raise DelaywatchError(
            f"Table {name} has lost its key ({key}): it was changed by hand; put it back with "
            f"`ALTER TABLE {name} ADD PRIMARY KEY ({key})` and run the step again."
        )
