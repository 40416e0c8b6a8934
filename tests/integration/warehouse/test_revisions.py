"""Tables of a new warehouse, of the release before, and of older ones that must be made again from the lake.

`tests/integration/warehouse/warehouse_0002.sql` is a dump of commit 4a311ec's tables with a few rows of 2013.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from tests.builders import airport_day_row as day
from tests.builders import airport_days_table as days
from tests.conftest import at, sql, sql_in
from utils.db_handler import TABLES, Changes, DBHandler
from utils.errors import InvalidInput, Missing
from utils.warehouse import models

DUMP = (Path(__file__).with_name("warehouse_0002.sql")).read_text()
STORM = date(2013, 2, 8)
COLUMNS = (
    "SELECT attrelid::regclass::text, attname, format_type(atttypid, atttypmod), attnotnull,"
    " col_description(attrelid, attnum) FROM pg_attribute JOIN pg_class c ON c.oid = attrelid"
    " WHERE relnamespace = 'flights'::regnamespace AND relkind IN ('r', 'v') AND attnum > 0 ORDER BY 1, attnum"
)
# What Alembic does not compare.
CATALOGUE = (
    "SELECT relname, relkind, reloptions, relowner::regrole::text, obj_description(oid, 'pg_class'),"
    " ARRAY(SELECT acl::text FROM unnest(relacl) AS acl ORDER BY 1)"
    " FROM pg_class WHERE relnamespace = 'flights'::regnamespace ORDER BY 1",
    COLUMNS,
    # A dump and its restore lose parentheses that change nothing.
    "SELECT conname, translate(pg_get_constraintdef(oid), '()', '') FROM pg_constraint"
    " WHERE connamespace = 'flights'::regnamespace AND contype <> 'n' ORDER BY 1",
    "SELECT indexdef FROM pg_indexes WHERE schemaname = 'flights' ORDER BY 1",
    "SELECT viewname, definition FROM pg_views WHERE schemaname = 'flights' ORDER BY 1",
    "SELECT defaclobjtype, ARRAY(SELECT acl::text FROM unnest(defaclacl) AS acl ORDER BY 1) FROM pg_default_acl"
    " WHERE defaclnamespace = 'flights'::regnamespace",
    "SELECT version_num FROM flights.alembic_version",
)


@pytest.fixture
def former(empty_database: str) -> str:
    """The superuser's URL of a database restored from the dump."""
    sql(empty_database, DUMP)
    return empty_database


# --- one definition ---------------------------------------------------------------------------------------------------


def test_the_models_have_exactly_the_columns_of_the_schemas() -> None:
    assert {table.name for table in models.METADATA.tables.values()} == set(TABLES)
    for table in TABLES.values():
        model = models.METADATA.tables[f"flights.{table.name}"]
        assert [column.name for column in model.columns] == table.schema.names
        assert [column.nullable for column in model.columns] == [field.nullable for field in table.schema]
        assert [column.name for column in model.primary_key] == [
            name for name in table.schema.names if name in table.key
        ]


@pytest.mark.parametrize("tables", ["warehouse", "former"])
def test_alembic_finds_no_difference_between_the_models_and_tables_new_or_migrated(
    request: pytest.FixtureRequest, tables: str
) -> None:
    url = request.getfixturevalue(tables)
    DBHandler(url).create()

    engine = sa.create_engine(url)
    with engine.connect() as connection:
        ours = {"include_schemas": True, "version_table_schema": "flights", "include_name": is_ours}
        difference = compare_metadata(MigrationContext.configure(connection, opts=ours), models.METADATA)
    engine.dispose()

    assert difference == []


def is_ours(name: str | None, kind: str, parents: Any) -> bool:
    return kind != "schema" or name == "flights"


def test_a_new_warehouse_and_one_of_the_release_before_have_the_same_catalogue(warehouse: str, former: str) -> None:
    DBHandler(warehouse).publish_view(["three_sigma", "delaywatch"], "delaywatch")

    for question in CATALOGUE:
        assert sql(warehouse, question) == sql(former, question)


def test_every_table_column_and_the_view_are_explained(warehouse: str) -> None:
    DBHandler(warehouse).publish_view(["three_sigma", "delaywatch"], "delaywatch")

    explained = sql(
        warehouse, f"SELECT * FROM ({COLUMNS}) AS x (t, c, k, n, said) WHERE t <> 'flights.alembic_version'"
    )

    assert len(explained) > 100
    assert [row for row in explained if row[-1] is None] == []


# --- the release before -----------------------------------------------------------------------------------------------


def test_a_backup_of_the_release_before_is_used_as_it_is(former: str) -> None:
    handler = DBHandler(former)

    assert handler.create() is False
    assert handler.publish_view(["three_sigma", "delaywatch"], "delaywatch") is False
    written = days(day("JFK", "2013-02-08", scheduled=9, cancelled=9), day("EWR", "2013-02-08"))
    changes = handler.upsert("airport_days", written, 2013)

    assert changes == Changes(inserted=1, updated=0, deleted=1, unchanged=1)
    assert handler.feedback(2013)["note"].tolist() == ["snow, announced"]
    assert [handler.count(name, 2013) for name in ("anomalies", "events", "event_days", "runs")] == [2, 1, 1, 1]


# --- older releases, or none ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", ["0001", None])
@pytest.mark.parametrize("has_feedback", [True, False])
def test_tables_of_an_older_or_unknown_revision_are_refused_and_the_commands_rebuild_them_with_their_feedback(
    former: str, revision: str | None, has_feedback: bool
) -> None:
    sql(former, f"UPDATE flights.alembic_version SET version_num = '{revision}'")
    if revision is None:
        sql(former, "DELETE FROM flights.alembic_version")
        if has_feedback:
            sql(former, "DROP TABLE flights.airport_days CASCADE")
    if not has_feedback:  # as revision 0001 was
        sql(former, "DROP VIEW flights.agg_dep_delay_by_date, flights.detector_feedback", "DROP TABLE flights.feedback")
    handler = DBHandler(former)

    with pytest.raises(InvalidInput, match=revision or "without their revision") as refused:
        handler.create()
    rename, *copies, drop = sql_in(refused.value)
    sql(former, rename)
    handler.create()
    sql(former, *copies)
    handler.upsert("airport_days", days(day("JFK", "2013-02-08")), 2013)
    sql(former, drop)

    assert handler.create() is False
    assert handler.count("runs", 2013) == 1
    assert handler.feedback()["opinion"].tolist() == ["expected"] * has_feedback
    assert "`python -m utils prepare`" in str(refused.value)
    assert "`python -m utils upsert --year FIRST:LAST`" in str(refused.value)


def test_a_warehouse_of_a_newer_release_is_left_alone(warehouse: str) -> None:
    sql(warehouse, "UPDATE flights.alembic_version SET version_num = '9999'")

    with pytest.raises(InvalidInput, match=r"at revision 9999, which this release does not know .its newest is 0"):
        DBHandler(warehouse).create()


def test_a_warehouse_without_tables_says_how_they_come(empty_database: str) -> None:
    handler = DBHandler(empty_database)

    for use in (
        lambda: handler.upsert("airport_days", days(day()), 2018),
        lambda: handler.read("airport_days"),
        lambda: handler.publish_view(["three_sigma"], "three_sigma"),
        lambda: handler.give_feedback("JFK", STORM, "wrong", "", "ann"),
        lambda: handler.record_run({"run_id": "a", "year": 2018}),
    ):
        with pytest.raises(Missing, match=r"`python -m utils prepare` with a login that is a member of flights_owner"):
            use()


# --- the server -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def too_old(start_postgres: Callable[[int], str]) -> Iterator[str]:
    """A server of the last version that is not enough."""
    yield start_postgres(16)


def test_a_server_that_is_too_old_is_refused_before_anything_is_made(too_old: str) -> None:
    with pytest.raises(InvalidInput, match=r"The warehouse .* is Postgres 16, and Delaywatch needs 17 or later"):
        DBHandler(at(too_old, database="postgres")).create()

    assert sql(too_old, "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'flights%'") == [(0,)]
