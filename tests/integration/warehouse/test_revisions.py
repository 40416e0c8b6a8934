"""Tables of a new warehouse, of the release before, and of older releases, which are rebuilt from the lake.

`warehouse_0002.sql` is a dump of the tables of commit 4a311ec with a few rows of 2013.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from tests.builders import airport_day_row, airport_days_table
from tests.conftest import at, sql, sql_in
from utils.db_handler import TABLES, Changes, DBHandler
from utils.errors import InvalidInput, Missing

DUMP = Path(__file__).with_name("warehouse_0002.sql").read_text()
ROWS = "SELECT xmin::text, t.*::text FROM flights.{} AS t ORDER BY 2"
CATALOGUE = (
    "SELECT attrelid::regclass::text, attname, format_type(atttypid, atttypmod), attnotnull,"
    " col_description(attrelid, attnum) FROM pg_attribute JOIN pg_class c ON c.oid = attrelid"
    " WHERE relnamespace = 'flights'::regnamespace AND relkind IN ('r', 'v') AND attnum > 0 ORDER BY 1, attnum",
    "SELECT relname, relkind, reloptions, relowner::regrole::text, obj_description(oid, 'pg_class'),"
    " ARRAY(SELECT acl::text FROM unnest(relacl) AS acl ORDER BY 1)"
    " FROM pg_class WHERE relnamespace = 'flights'::regnamespace ORDER BY 1",
    # A dump and its restore lose parentheses that change nothing.
    "SELECT conname, translate(pg_get_constraintdef(oid), '()', '') FROM pg_constraint"
    " WHERE connamespace = 'flights'::regnamespace AND contype <> 'n' ORDER BY 1",
    "SELECT indexdef FROM pg_indexes WHERE schemaname = 'flights' ORDER BY 1",
    "SELECT viewname, definition FROM pg_views WHERE schemaname = 'flights' ORDER BY 1",
    "SELECT defaclobjtype, ARRAY(SELECT acl::text FROM unnest(defaclacl) AS acl ORDER BY 1) FROM pg_default_acl"
    " WHERE defaclnamespace = 'flights'::regnamespace",
    "SELECT obj_description('flights'::regnamespace, 'pg_namespace')",
    "SELECT version_num FROM flights.alembic_version",
)


@pytest.fixture
def former(empty_database: str) -> str:
    """The superuser's URL of a database restored from the dump."""
    sql(empty_database, DUMP)
    return empty_database


def publish(url: str) -> bool:
    return DBHandler(url).publish_view(["three_sigma", "delaywatch"], "delaywatch")


@pytest.mark.parametrize("revision", ["0002", "0003"])
def test_a_migrated_warehouse_has_the_catalogue_of_a_new_one(warehouse: str, former: str, revision: str) -> None:
    sql(former, f"UPDATE flights.alembic_version SET version_num = '{revision}'")  # 0003 changed only comments
    DBHandler(former).create()
    for url in (warehouse, former):
        publish(url)

    for question in CATALOGUE:
        assert sql(former, question) == sql(warehouse, question)


def test_a_warehouse_of_the_release_before_is_migrated_once_and_keeps_its_rows(former: str) -> None:
    sql(former, "CREATE ROLE migrator LOGIN IN ROLE flights_owner")
    handler = DBHandler(at(former, username="migrator"))
    before = {table: sql(former, ROWS.format(table)) for table in TABLES if table != "verdict_changes"}

    assert [handler.create(), publish(former), handler.create(), publish(former)] == [True, True, False, False]
    sql(former, "DROP ROLE migrator")
    handler = DBHandler(former)

    assert len(before["airport_days"]) == 2
    assert {table: sql(former, ROWS.format(table)) for table in TABLES} == before | {"verdict_changes": []}
    jfk = airport_days_table(airport_day_row("JFK", "2013-02-08", scheduled=9, cancelled=9))
    assert handler.upsert("airport_days", jfk, 2013) == Changes(inserted=0, updated=0, deleted=1, unchanged=1)


@pytest.mark.parametrize(("revision", "has_feedback"), [("0001", False), (None, True)])
def test_unknown_tables_are_refused_and_the_named_commands_rebuild_them(
    former: str, revision: str | None, has_feedback: bool
) -> None:
    sql(former, f"UPDATE flights.alembic_version SET version_num = '{revision}'")
    if revision is None:
        sql(former, "DELETE FROM flights.alembic_version", "DROP TABLE flights.airport_days CASCADE")
    if not has_feedback:  # as in revision 0001
        sql(former, "DROP VIEW flights.agg_dep_delay_by_date, flights.detector_feedback", "DROP TABLE flights.feedback")
    handler = DBHandler(former)

    with pytest.raises(InvalidInput, match=revision or "no revision") as refused:
        handler.create()
    rename, *copies, drop = sql_in(refused.value)
    sql(former, rename)
    handler.create()
    sql(former, *copies)
    handler.upsert("airport_days", airport_days_table(airport_day_row("JFK", "2013-02-08")), 2013)
    sql(former, drop)

    assert handler.create() is False
    assert handler.count("runs", 2013) == 1
    assert handler.feedback()["opinion"].tolist() == ["expected"] * has_feedback


def test_a_warehouse_without_tables_needs_prepare(empty_database: str) -> None:
    handler = DBHandler(empty_database)
    for use in (
        lambda: handler.upsert("airport_days", airport_days_table(airport_day_row()), 2018),
        lambda: handler.give_feedback("JFK", date(2013, 2, 8), "wrong", "", "ann"),
    ):
        with pytest.raises(Missing, match="python -m utils prepare"):
            use()
