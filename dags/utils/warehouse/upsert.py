"""Upsert batches: check them against their tables, merge them, and count the changes."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, astuple, dataclass
from datetime import datetime

import pandas as pd
import psycopg2.extensions
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from psycopg2.sql import SQL, Composable, Identifier, Literal

from utils import schemas
from utils.errors import InvalidInput
from utils.warehouse.connection import RUN_EARLIER_STEPS, Postgres, first_line, lock_key
from utils.warehouse.tables import TABLES, Table, assignments, names, scoped


@dataclass(frozen=True)
class Changes:
    """Number of rows that an upsert inserted, updated, deleted and left unchanged."""

    inserted: int
    updated: int
    deleted: int
    unchanged: int

    @classmethod
    def total(cls, changes: Iterable[Changes]) -> Changes:
        """Return the sum of each number. changes: at least one."""
        return cls(*map(sum, zip(*map(astuple, changes), strict=True)))

    @property
    def has_changes(self) -> bool:
        """True if any row was written."""
        return bool(self.inserted or self.updated or self.deleted)

    def __str__(self) -> str:
        """Return for example `2 inserted, 1 updated, 0 deleted, 1,092 unchanged`."""
        return ", ".join(f"{number:,} {change}" for change, number in asdict(self).items())


@dataclass(frozen=True)
class Batch:
    """Rows that replace a year's rows in `table`.

    within: replace only rows with these values, by column. changed_at: for verdicts of the published detector, the time
    with which changed severities are inserted into verdict_changes; None inserts nothing.
    """

    table: Table
    frame: pd.DataFrame | pa.Table
    within: Mapping[str, str]
    changed_at: datetime | None = None


# The target of MERGE is a view of the rows that may change, because WHEN NOT MATCHED BY SOURCE reads its whole target
# (decision 0027). Unchanged rows are not written, not locked, and not in RETURNING.
BATCH, SCOPE = Identifier("pg_temp", "batch"), Identifier("pg_temp", "scope")
CREATE_BATCH = "CREATE TEMPORARY TABLE batch AS SELECT {copied} FROM {table} WITH NO DATA"
COPY_BATCH = "COPY {batch} ({copied}) FROM STDIN (FORMAT csv)"
CREATE_SCOPE = "CREATE TEMPORARY VIEW scope AS SELECT {columns} FROM {table} AS t WHERE {condition}"
INSERT_CHANGES = """
    INSERT INTO {verdict_changes} (origin, fl_date, changed_at, old_severity, new_severity, new_direction)
    SELECT t.origin, t.fl_date, %s, t.severity, batch.severity, batch.direction
    FROM {scope} AS t JOIN {batch} AS batch ON {same_key}
    WHERE t.severity <> batch.severity
"""
MERGE = """
    WITH changed AS (
        MERGE INTO {scope} AS t USING {batch} AS batch ON {same_key}
        WHEN MATCHED AND ({old}) IS DISTINCT FROM ({new}) THEN UPDATE SET {from_batch}
        WHEN NOT MATCHED BY TARGET THEN INSERT ({copied}{fixed}) VALUES ({row}{fixed_values})
        WHEN NOT MATCHED BY SOURCE THEN DELETE
        RETURNING merge_action() AS action
    )
    SELECT action, count(*) FROM changed GROUP BY action
"""
DROP = "DROP VIEW {scope}; DROP TABLE {batch}"  # the next batch uses the same names


def upsert(server: Postgres, batches: Iterable[Batch], year: int) -> list[Changes]:
    """Merge all batches in one transaction; see `DBHandler.upsert_year`."""
    waiting = iter(batches)

    def next_ready() -> tuple[Batch, int, io.BytesIO] | None:
        """Check the next batch and encode it as CSV."""
        batch = next(waiting, None)
        if batch is None:
            return None
        rows = _checked(batch, year)
        return batch, rows.num_rows, _csv(batch, rows)

    changes = []
    ready = next_ready()  # an invalid first batch is refused before a connection is opened
    with (
        ThreadPoolExecutor(1) as ahead,  # prepares the next batch while the server merges the current one
        server.transaction(f"writing the tables of {year}") as cursor,
    ):
        while ready:
            coming = ahead.submit(next_ready)
            batch, rows, text = ready
            with server.explaining(f"writing {batch.table.name} {year}"):
                changes.append(_merge_batch(cursor, batch, rows, text, year))
            ready = coming.result()
    return changes


def _csv(batch: Batch, rows: pa.Table) -> io.BytesIO:
    """Return the rows as CSV for COPY. Text is quoted and null is not, so empty text and null stay different."""
    text = io.BytesIO()
    copied = rows.drop_columns(list(batch.within))
    pyarrow.csv.write_csv(copied, text, pyarrow.csv.WriteOptions(include_header=False))
    text.seek(0)
    return text


def _merge_batch(cursor: psycopg2.extensions.cursor, batch: Batch, rows: int, text: io.BytesIO, year: int) -> Changes:
    """Copy the CSV into a temporary table and merge it into the year."""
    parts = _parts(batch, year)
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key(batch.table.name, year)])
    # The statistics do not have the rows that this transaction has just inserted. The planner would expect one row and
    # choose a nested loop, which takes minutes for a year; hash and merge joins take a second.
    cursor.execute("SELECT set_config('enable_nestloop', 'off', true)")
    cursor.execute(SQL(CREATE_BATCH).format(**parts))
    cursor.copy_expert(SQL(COPY_BATCH).format(**parts), text)
    cursor.execute(SQL(CREATE_SCOPE).format(**parts))
    if batch.changed_at:  # before MERGE, whose RETURNING has no old values in Postgres 17
        cursor.execute(SQL(INSERT_CHANGES).format(**parts), [batch.changed_at])
    cursor.execute(SQL(MERGE).format(**parts))
    number = dict(cursor.fetchall())
    cursor.execute(SQL(DROP).format(**parts))
    inserted, updated, deleted = (number.get(action, 0) for action in ("INSERT", "UPDATE", "DELETE"))
    return Changes(inserted, updated, deleted, unchanged=rows - inserted - updated)


def _parts(batch: Batch, year: int) -> dict[str, Composable]:
    """Return the SQL fragments for the statements of a batch. Columns of `within` are constant and not copied."""
    table, within = batch.table, batch.within
    copied = [name for name in table.schema.names if name not in within]
    key = [name for name in table.key if name not in within]
    return {
        "table": table.identifier,
        "batch": BATCH,
        "scope": SCOPE,
        "verdict_changes": TABLES["verdict_changes"].identifier,
        "columns": names(table.schema.names),
        "condition": scoped(table, year, within),
        "copied": names(copied),
        "row": names(copied, "batch"),
        "fixed": SQL("").join(SQL(", {}").format(Identifier(name)) for name in within),
        "fixed_values": SQL("").join(SQL(", {}").format(Literal(value)) for value in within.values()),
        "same_key": SQL(" AND ").join(SQL("t.{0} = batch.{0}").format(Identifier(name)) for name in key),
        "old": names(table.values, "t"),
        "new": names(table.values, "batch"),
        "from_batch": assignments(table.values, "batch"),
    }


def _checked(batch: Batch, year: int) -> pa.Table:
    """Return the rows in the table's schema. Raises InvalidInput with the first fault."""
    table, frame = batch.table, batch.frame
    subject = f"The batch for {table.name} {year}"
    given = frame.column_names if isinstance(frame, pa.Table) else list(frame.columns)
    missing = [name for name in table.schema.names if name not in given]
    extra = [str(name) for name in given if name not in table.schema.names]
    if missing or extra or len(given) != len(set(given)):
        raise InvalidInput(
            f"{subject} has other columns than the table (missing: {', '.join(missing) or 'none'}; unexpected: "
            f"{', '.join(extra) or 'none'}); {RUN_EARLIER_STEPS}."
        )
    columns = []
    for field in table.schema:
        try:
            column = _column(frame, field)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise InvalidInput(
                f"{subject} has a column {field.name} that does not fit {field.type} ({first_line(error)}); "
                f"{RUN_EARLIER_STEPS}."
            ) from error
        columns.append(column)
    rows = schemas.check(pa.Table.from_arrays(columns, schema=table.schema), table.schema, subject)

    dated = table.schema.field(table.year_column).type == pa.date32()
    years = pc.year(rows[table.year_column]) if dated else rows[table.year_column]
    _refuse(rows.filter(pc.not_equal(years, pa.scalar(year))), table, f"{subject} has {{rows}} of another year")
    for name, value in batch.within.items():
        _refuse(
            rows.filter(pc.not_equal(rows[name], pa.scalar(value))),
            table,
            f"{subject} has {{rows}} whose {name} is not {value}",
        )
    per_key = rows.group_by(list(table.key)).aggregate([([], "count_all")])
    if per_key.num_rows < rows.num_rows:
        twice = per_key.filter(pc.greater(per_key["count_all"], pa.scalar(1)))
        _refuse(twice, table, f"{subject} has {{rows}} more than once")
    return rows


def _column(frame: pd.DataFrame | pa.Table, field: pa.Field) -> pa.Array | pa.ChunkedArray:
    """Return a column of the frame in the field's type, NaN as null. Raises pyarrow's errors for invalid values."""
    if isinstance(frame, pa.Table):
        column = frame[field.name].cast(field.type)
        if pa.types.is_floating(field.type):
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, field.type), column)
    elif isinstance(frame[field.name].dtype, pd.CategoricalDtype):
        column = pa.array(frame[field.name]).cast(field.type)  # pa.array gives a dictionary array
    else:
        column = pa.array(frame[field.name], type=field.type, from_pandas=True)
    return column


def _refuse(rows: pa.Table, table: Table, complaint: str) -> None:
    if rows.num_rows:
        first = ", ".join(str(rows[name][0].as_py()) for name in table.key)
        number = f"{rows.num_rows} row{'s' if rows.num_rows > 1 else ''}"
        raise InvalidInput(f"{complaint.format(rows=number)}, first {first}; {RUN_EARLIER_STEPS}.")
