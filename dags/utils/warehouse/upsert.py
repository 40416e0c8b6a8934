"""One upsert: batches checked against their tables, the statements that bring them in, and what they changed."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import pandas as pd
import psycopg2.extensions
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from psycopg2.sql import SQL, Composable, Composed, Identifier

from utils import schemas
from utils.errors import DelaywatchError
from utils.warehouse.connection import Postgres, first_line, lock_key
from utils.warehouse.tables import Table, assignments, check_writable, names, scoped


@dataclass(frozen=True)
class Changes:
    """Rows that an upsert inserted, updated and deleted, and rows of the batch that were already there as they are."""

    inserted: int
    updated: int
    deleted: int
    unchanged: int

    def __str__(self) -> str:
        """In words, e.g. `2 inserted, 1 updated, 0 deleted, 1,092 unchanged`."""
        return ", ".join(f"{number:,} {what}" for what, number in asdict(self).items())


@dataclass(frozen=True)
class Batch:
    """Rows that take the place of a year's rows in `table`, of those alone that have the values of `within`."""

    table: Table
    frame: pd.DataFrame | pa.Table
    within: Mapping[str, str]


def upsert(server: Postgres, batches: Sequence[Batch], year: int) -> list[Changes]:
    """What `DBHandler.upsert_year` does."""
    checked = [_checked(batch, year) for batch in batches]
    tables = sorted({batch.table.name for batch in batches})
    changes = []
    with server.transaction(f"writing {tables[0] if len(tables) == 1 else 'the tables of'} {year}") as cursor:
        for batch, rows in zip(batches, checked, strict=True):
            with server.explaining(f"writing {batch.table.name} {year}"):
                changes.append(_bring_in(server, cursor, batch, rows, year))
    return changes


def _bring_in(server: Postgres, cursor: psycopg2.extensions.cursor, batch: Batch, rows: pa.Table, year: int) -> Changes:
    text = io.BytesIO()
    pyarrow.csv.write_csv(rows, text, pyarrow.csv.WriteOptions(include_header=False))
    text.seek(0)
    statements = _statements(batch.table, year, batch.within)
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key(batch.table.name, year)])
    # Statistics do not know a year that this transaction has just inserted. Expecting one row of it, the planner would
    # compare every row with every row of the batch, which takes minutes for a year; hash and merge joins take a second.
    cursor.execute("SELECT set_config('enable_nestloop', 'off', true)")
    check_writable(server, cursor, batch.table)
    cursor.execute(statements.create_batch)
    # copied: text is quoted and null is not, so an empty text and a missing one stay different
    cursor.copy_expert(statements.copy_batch, text)
    cursor.execute(statements.analyze_batch)
    counts = []
    for statement in (statements.update, statements.insert, statements.delete):
        cursor.execute(statement)
        counts.append(cursor.rowcount)
    cursor.execute(statements.drop_batch)  # the next batch has its name
    updated, inserted, deleted = counts
    return Changes(inserted, updated, deleted, unchanged=rows.num_rows - inserted - updated)


@dataclass(frozen=True)
class _Statements:
    """The statements of one upsert, in the order in which they run."""

    create_batch: Composed
    copy_batch: Composed
    analyze_batch: Composed
    update: Composed
    insert: Composed
    delete: Composed
    drop_batch: Composed


def _statements(table: Table, year: int, scope: Mapping[str, str]) -> _Statements:
    """Update what differs, insert what is new, delete what is gone.

    INSERT ... ON CONFLICT alone would do the first two, but it locks, and so writes, every row that it meets, even one
    that stays as it is. With the joins an unchanged year is only read, and updated and inserted rows are counted apart;
    ON CONFLICT then decides about what no join can see: a row that somebody puts in by hand meanwhile. New rows go in
    in the order of the key, so that they lie together; the join would give them shuffled.
    """
    parts: dict[str, Composable] = {
        "table": table.identifier,
        "batch": Identifier("pg_temp", "batch"),
        "columns": names(table.schema.names),
        "key": names(table.key),
        "same_key": SQL(" AND ").join(
            SQL("{} = {}").format(Identifier("t", name), Identifier("batch", name)) for name in table.key
        ),
        "scope": scoped(table, year, scope),
        "from_batch": assignments(table.values, "batch"),
        "from_excluded": assignments(table.values, "excluded"),
        "old": names(table.values, "t"),
        "new": names(table.values, "batch"),
        "excluded": names(table.values, "excluded"),
    }
    return _Statements(
        *(
            SQL(text).format(**parts)
            for text in (
                "CREATE TEMPORARY TABLE batch AS SELECT {columns} FROM {table} WITH NO DATA",
                "COPY {batch} ({columns}) FROM STDIN (FORMAT csv)",
                "ANALYZE {batch} ({key})",
                "UPDATE {table} AS t SET {from_batch} FROM {batch} AS batch WHERE {same_key} AND {scope}"
                " AND ({old}) IS DISTINCT FROM ({new})",
                "INSERT INTO {table} AS t ({columns}) SELECT {columns} FROM {batch} AS batch"
                " WHERE NOT EXISTS (SELECT FROM {table} AS t WHERE {same_key} AND {scope}"
                " AND ({old}) IS NOT DISTINCT FROM ({new})) ORDER BY {key}"
                " ON CONFLICT ({key}) DO UPDATE SET {from_excluded} WHERE ({old}) IS DISTINCT FROM ({excluded})",
                "DELETE FROM {table} AS t WHERE {scope} AND NOT EXISTS (SELECT FROM {batch} AS batch WHERE {same_key})",
                "DROP TABLE {batch}",
            )
        )
    )


def _checked(batch: Batch, year: int) -> pa.Table:
    """The rows as the table's schema wants them. Raises DelaywatchError naming the first thing that does not fit."""
    table, frame = batch.table, batch.frame
    what = f"The batch for {table.name} {year}"
    given = frame.column_names if isinstance(frame, pa.Table) else list(frame.columns)
    missing = [name for name in table.schema.names if name not in given]
    extra = [str(name) for name in given if name not in table.schema.names]
    if missing or extra or len(given) != len(set(given)):
        raise DelaywatchError(
            f"{what} has other columns than the table (missing: {', '.join(missing) or 'none'}; unexpected: "
            f"{', '.join(extra) or 'none'}); rebuild the layer below."
        )
    columns = []
    for field in table.schema:
        try:
            column = _column(frame, field)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise DelaywatchError(
                f"{what}: column {field.name} does not fit {field.type} ({first_line(error)}); rebuild the layer below."
            ) from error
        columns.append(column)
    rows = schemas.check(pa.Table.from_arrays(columns, schema=table.schema), table.schema, what)

    dated = table.schema.field(table.year_column).type == pa.date32()
    of_year = pc.year(rows[table.year_column]) if dated else rows[table.year_column]
    _refuse(rows.filter(pc.not_equal(of_year, pa.scalar(year))), table, f"{what} holds {{rows}} of another year")
    for name, value in batch.within.items():
        _refuse(
            rows.filter(pc.not_equal(rows[name], pa.scalar(value))),
            table,
            f"{what} holds {{rows}} whose {name} is not {value}",
        )
    per_key = rows.group_by(list(table.key)).aggregate([([], "count_all")])
    if per_key.num_rows < rows.num_rows:
        twice = per_key.filter(pc.greater(per_key["count_all"], pa.scalar(1)))
        _refuse(twice, table, f"{what} holds {{rows}} more than once")
    return rows


def _column(frame: pd.DataFrame | pa.Table, field: pa.Field) -> pa.Array | pa.ChunkedArray:
    """One column of the frame in the field's type, NaN as null. Raises pyarrow's errors where a value does not fit."""
    if isinstance(frame, pa.Table):
        column = frame[field.name].cast(field.type)
        if pa.types.is_floating(field.type):
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, field.type), column)
    elif isinstance(frame[field.name].dtype, pd.CategoricalDtype):
        column = pa.array(frame[field.name]).cast(field.type)  # a dictionary first, which then casts to its values
    else:
        column = pa.array(frame[field.name], type=field.type, from_pandas=True)
    return column


def _refuse(rows: pa.Table, table: Table, complaint: str) -> None:
    if rows.num_rows:
        first = ", ".join(str(rows[name][0].as_py()) for name in table.key)
        number = f"{rows.num_rows} row{'s' if rows.num_rows > 1 else ''}"
        raise DelaywatchError(f"{complaint.format(rows=number)}, first {first}; rebuild the layer below.")
