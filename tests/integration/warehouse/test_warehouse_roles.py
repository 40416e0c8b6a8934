"""Who makes the tables and who may do what with them; a login that only reads."""

from __future__ import annotations

import multiprocessing
import re
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg2
import psycopg2.extensions
import pytest

from tests.builders import airport_day_row as day
from tests.builders import airport_days_table as days
from tests.conftest import at, database_of, fresh, sql, sql_in, wait_until
from tests.integration.conftest import refusal
from tests.statements import before_each_statement
from utils.db_handler import TABLES, DBHandler
from utils.errors import InvalidInput, Missing, Unavailable

THREE = days(day("EWR"), day("JFK"), day("LGA"))

# --- making tables and roles ------------------------------------------------------------------------------------------


def test_creating_twice_changes_nothing(empty_database: str) -> None:
    catalogue = "SELECT oid, xmin, relname FROM pg_class WHERE relnamespace = 'flights'::regnamespace ORDER BY 1"
    made = DBHandler(empty_database).create()
    before = sql(empty_database, catalogue)

    made_again = DBHandler(empty_database).create()

    assert (made, made_again) == (True, False)
    assert len(before) >= 9
    assert sql(empty_database, catalogue) == before


def test_two_processes_create_the_tables_at_once(empty_database: str) -> None:
    create_in_processes([empty_database] * 2)

    assert DBHandler(empty_database).upsert("airport_days", days(day()), 2018).inserted == 1


def test_two_threads_of_one_process_create_the_tables_of_two_databases(
    empty_database: str, second_database: str
) -> None:
    with ThreadPoolExecutor() as pool:
        made = list(pool.map(lambda url: DBHandler(url).create(), [empty_database, second_database]))

    assert made == [True, True]
    for url in (empty_database, second_database):
        assert DBHandler(url).upsert("airport_days", days(day()), 2018).inserted == 1


@pytest.fixture
def second_database(postgres: str) -> Iterator[str]:
    """Another database without our tables."""
    yield from fresh(postgres, "template1")


def create_in_processes(urls: Sequence[str]) -> None:
    """Call `DBHandler(url).create()` in a process per URL, all of them starting at the same moment."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(len(urls))
    processes = [context.Process(target=create_at, args=(url, barrier)) for url in urls]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(urls)


def create_at(url: str, barrier: Any) -> None:
    barrier.wait()
    DBHandler(url).create()


@pytest.fixture(scope="module")
def bare_server(start_postgres: Callable[[int], str]) -> str:
    """A server on which none of our roles exists yet."""
    return start_postgres(18)


def test_two_databases_of_one_server_and_its_master_user_who_is_no_superuser(bare_server: str) -> None:
    """As on RDS: the master user may create roles and owns its databases; both are set up at the same time."""
    sql(bare_server, "CREATE ROLE master LOGIN CREATEROLE CREATEDB")
    masters = [at(bare_server, username="master", database=name) for name in ("one", "two")]
    sql(at(bare_server, username="master"), "CREATE DATABASE one", "CREATE DATABASE two")

    create_in_processes(masters)

    for url in masters:
        handler = DBHandler(url)
        assert handler.create_reader("analyst", PASSWORD) is True
        handler.publish_view(["three_sigma"], "three_sigma")
        assert handler.upsert("airport_days", THREE, 2018).inserted == 3
        assert len(sql(at(url, username="analyst"), "SELECT * FROM flights.agg_dep_delay_by_date")) == 3
        owners = sql(
            url, "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'flights'::regnamespace"
        )
        assert owners == [("flights_owner",)]
    for url in masters:
        sql(url, "DROP SCHEMA flights CASCADE")
    reset_roles(bare_server)


def test_a_login_without_rights_gets_the_sql_that_an_administrator_runs_and_it_helps(bare_server: str) -> None:
    sql(
        bare_server,
        'CREATE ROLE "plain login" LOGIN',
        "CREATE DATABASE plain",
        "REVOKE ALL ON DATABASE plain FROM public",
    )
    sql(bare_server, 'GRANT CONNECT ON DATABASE plain TO "plain login"')
    plain, administrator = at(bare_server, username="plain login", database="plain"), at(bare_server, database="plain")

    asked = []
    for _ in range(3):
        with pytest.raises(InvalidInput, match=r"User plain login may not .* let an administrator run") as refused:
            DBHandler(plain).create()
        asked += sql_in(refused.value)
        sql(administrator, *sql_in(refused.value))
    DBHandler(plain).create()

    assert [re.sub(";.*", "", statement) for statement in asked] == [
        "CREATE ROLE flights_owner NOLOGIN",
        'GRANT CREATE ON DATABASE plain TO "plain login"',
        "GRANT TEMPORARY ON DATABASE plain TO flights_loader",
    ]
    assert DBHandler(administrator).upsert("airport_days", days(day()), 2018).inserted == 1
    sql(bare_server, "DROP DATABASE plain")
    reset_roles(bare_server)


def reset_roles(server: str) -> None:
    for (database,) in sql(server, "SELECT datname FROM pg_database WHERE datname IN ('one', 'two')"):
        sql(server, f"DROP DATABASE {database}")
    for role in ("master", "analyst", "plain login", "flights_loader", "flights_reader", "flights_owner"):
        if sql(server, f"SELECT 1 FROM pg_roles WHERE rolname = '{role}'"):
            sql(server, f'DROP OWNED BY "{role}"', f'DROP ROLE "{role}"')


def test_a_reader_before_the_tables_is_told_how_they_come(bare_server: str) -> None:
    with pytest.raises(Missing, match=r"lacks the role flights_reader; `python -m utils prepare` with a login"):
        DBHandler(bare_server).create_reader("dashboards", PASSWORD)


def test_a_schema_flights_of_somebody_else_is_named_and_the_sql_helps(empty_database: str) -> None:
    sql(empty_database, "CREATE SCHEMA flights")

    with pytest.raises(InvalidInput, match=r"may not use schema flights of postgres") as refused:
        DBHandler(empty_database).create()

    sql(empty_database, *sql_in(refused.value))
    DBHandler(empty_database).create()


# --- roles ------------------------------------------------------------------------------------------------------------


def test_a_reader_reads_the_view_and_is_told_that_it_is_read_only(warehouse: str, login: Callable[[str], str]) -> None:
    DBHandler(warehouse).upsert("airport_days", THREE, 2018)
    DBHandler(warehouse).publish_view(["three_sigma"], "three_sigma")
    reader = login("flights_reader")

    DBHandler(reader).create()
    DBHandler(reader).publish_view(["three_sigma"], "three_sigma")
    seen = sql(reader, "SELECT count(*), bool_or(is_anomaly) FROM flights.agg_dep_delay_by_date")
    with pytest.raises(
        InvalidInput, match=r"User login_flights_reader may not do what writing airport_days 2018 needs"
    ):
        DBHandler(reader).upsert("airport_days", days(day("JFK")), 2018)
    with pytest.raises(InvalidInput, match=r"User login_flights_reader may not do what recording the run x needs"):
        DBHandler(reader).record_run({"run_id": "x", "year": 2018})

    assert seen == [(3, None)]
    assert DBHandler(reader).count("airport_days", 2018) == 3


def test_a_loader_loads_but_drops_nothing_and_changes_no_view(warehouse: str, login: Callable[[str], str]) -> None:
    loader = login("flights_loader")
    handler = DBHandler(loader)

    handler.create()
    loaded = handler.upsert("airport_days", THREE, 2018)
    handler.record_run({"run_id": "a", "year": 2018})

    assert loaded.inserted == 3
    with pytest.raises(InvalidInput, match=r"may not do what publishing the view .* needs .* flights_owner"):
        handler.publish_view(["three_sigma"], "three_sigma")
    for forbidden in (
        "DROP TABLE flights.airport_days",
        "TRUNCATE flights.airport_days",
        "ALTER TABLE flights.airport_days ADD COLUMN x int",
        "CREATE TABLE flights.mine (x int)",
        "UPDATE flights.alembic_version SET version_num = 'x'",
    ):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            sql(loader, forbidden)


def test_a_reader_may_read_what_the_owner_makes_later(warehouse: str, login: Callable[[str], str]) -> None:
    reader = login("flights_reader")

    sql(login("flights_owner"), "SET ROLE flights_owner", "CREATE TABLE flights.later AS SELECT 1 AS x")

    assert sql(reader, "SELECT x FROM flights.later") == [(1,)]


def test_a_stranger_sees_nothing_and_is_told_what_is_missing(warehouse: str, login: Callable[[str], str]) -> None:
    stranger = login("pg_monitor")

    with pytest.raises(InvalidInput, match=r"User login_pg_monitor may not do what reading airport_days needs"):
        DBHandler(stranger).read("airport_days")


def test_a_session_that_may_only_read_is_told_so(warehouse: str) -> None:
    sql(warehouse, f"ALTER DATABASE {database_of(warehouse)} SET default_transaction_read_only = on")

    with pytest.raises(Unavailable, match=r"is read-only for user postgres, so writing airport_days 2018 failed"):
        DBHandler(warehouse).upsert("airport_days", THREE, 2018)


# --- the reader -------------------------------------------------------------------------------------------------------

PASSWORD = 'it\'s a 100 % sécret: "a@b/c\\d"'
STATE = (
    "SELECT 'role', xmin::text, rolpassword FROM pg_authid WHERE rolname = 'dashboards' UNION ALL"
    " SELECT 'member of', m.xmin::text, roleid::regrole::text FROM pg_auth_members m JOIN pg_roles r ON r.oid = member"
    " WHERE rolname = 'dashboards' UNION ALL"
    " SELECT 'set', s.xmin::text, setconfig::text FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = setrole"
    " WHERE rolname = 'dashboards'"
)


@pytest.fixture
def dashboards(warehouse: str, ask_password_of: Callable[[str], None]) -> Iterator[str]:
    """The URL of a login `dashboards` with PASSWORD, which does not exist yet; the server will ask for the password."""
    ask_password_of("dashboards")
    yield at(warehouse, username="dashboards", password=PASSWORD)
    if sql(warehouse, "SELECT 1 FROM pg_roles WHERE rolname = 'dashboards'"):
        sql(warehouse, "DROP OWNED BY dashboards", "DROP ROLE dashboards")


def test_a_reader_comes_in_with_its_password_alone_and_reads_all_there_is_and_will_be(
    warehouse: str, dashboards: str
) -> None:
    handler = DBHandler(warehouse)
    handler.upsert("airport_days", THREE, 2018)

    assert handler.create_reader("dashboards", PASSWORD) is True

    handler.publish_view(["three_sigma"], "three_sigma")
    sql(warehouse, "SET ROLE flights_owner", "CREATE TABLE flights.later AS SELECT 1 AS x")
    for table in [*TABLES, "agg_dep_delay_by_date", "detector_feedback", "later"]:
        rows = 3 if table in {"airport_days", "agg_dep_delay_by_date"} else int(table == "later")
        assert sql(dashboards, f"SELECT count(*) FROM flights.{table}") == [(rows,)]
    assert "password authentication failed" in refusal(at(dashboards, password="wrong"))


def test_a_reader_s_sessions_begin_read_only_and_end_a_statement_after_a_minute(
    warehouse: str, dashboards: str
) -> None:
    DBHandler(warehouse).create_reader("dashboards", PASSWORD)

    assert sql(dashboards, "SHOW statement_timeout") == [("1min",)]
    for refused in ("DELETE FROM flights.airport_days", "CREATE TEMPORARY TABLE x (a int)", "CREATE TABLE x (a int)"):
        with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
            sql(dashboards, refused)
    elsewhere = at(dashboards, database="template_warehouse")
    assert sql(elsewhere, "SHOW default_transaction_read_only") == [("off",)]  # the settings are of one database


FORBIDDEN = (
    *(f"{change} flights.{table}" for table in TABLES for change in ("DELETE FROM", "TRUNCATE")),
    "INSERT INTO flights.runs (run_id, year) VALUES ('x', 2018)",
    "UPDATE flights.airport_days SET scheduled = 0",
    "UPDATE flights.alembic_version SET version_num = 'x'",
    "CREATE TABLE flights.mine (a int)",
    "CREATE VIEW flights.mine AS SELECT 1 AS x",
    "CREATE TABLE public.mine (a int)",
    "CREATE SCHEMA mine",
    "DROP TABLE flights.runs",
    "DROP VIEW flights.agg_dep_delay_by_date",
    "ALTER TABLE flights.runs ADD COLUMN x int",
    "SET ROLE flights_loader",
    "CREATE ROLE mine",
    "GRANT flights_reader TO pg_monitor",
    "SELECT pg_read_file('PG_VERSION')",
)


def test_a_reader_that_lifts_read_only_may_still_change_nothing(warehouse: str, dashboards: str) -> None:
    DBHandler(warehouse).publish_view(["three_sigma"], "three_sigma")
    DBHandler(warehouse).create_reader("dashboards", PASSWORD)

    for statement in FORBIDDEN:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            sql(dashboards, "SET default_transaction_read_only = off", statement)


@pytest.mark.parametrize(("before", "after"), [(-1, 17), (5, 5)])
def test_a_reader_without_a_connection_limit_gets_one_and_any_other_limit_stays(
    warehouse: str, dashboards: str, before: int, after: int
) -> None:
    DBHandler(warehouse).create_reader("dashboards", PASSWORD)
    sql(warehouse, f"ALTER ROLE dashboards CONNECTION LIMIT {before}")

    assert DBHandler(warehouse).create_reader("dashboards", PASSWORD) is (before != after)

    assert sql(warehouse, "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'dashboards'") == [(after,)]
    assert DBHandler(warehouse).create_reader("dashboards", PASSWORD) is False


def test_making_a_reader_twice_touches_nothing(warehouse: str, dashboards: str) -> None:
    DBHandler(warehouse).create_reader("dashboards", PASSWORD)
    before = sql(warehouse, STATE)

    assert DBHandler(warehouse).create_reader("dashboards", PASSWORD) is False
    assert [kind for kind, *_ in before] == ["role", "member of", "set"]
    assert sql(warehouse, STATE) == before


def test_another_password_takes_the_place_of_the_old_one(warehouse: str, dashboards: str) -> None:
    DBHandler(warehouse).create_reader("dashboards", "the old one")

    assert DBHandler(warehouse).create_reader("dashboards", PASSWORD) is True
    assert refusal(dashboards) == ""
    assert "password authentication failed" in refusal(at(dashboards, password="the old one"))


def test_a_server_that_asks_for_no_password_gets_the_new_one_all_the_same(
    warehouse: str, dashboards: str, ask_password_of: Callable[[str], None]
) -> None:
    ask_password_of("somebody_else")
    DBHandler(warehouse).create_reader("dashboards", "the old one")
    DBHandler(warehouse).create_reader("dashboards", PASSWORD)
    ask_password_of("dashboards")

    assert refusal(dashboards) == ""


def test_settings_of_the_reader_that_were_changed_by_hand_are_put_back(warehouse: str, dashboards: str) -> None:
    DBHandler(warehouse).create_reader("dashboards", PASSWORD)
    in_database = f"ALTER ROLE dashboards IN DATABASE {database_of(warehouse)}"
    sql(warehouse, f"{in_database} SET statement_timeout = 0", f"{in_database} SET work_mem = '8MB'")

    assert DBHandler(warehouse).create_reader("dashboards", PASSWORD) is True
    assert sql(dashboards, "SHOW statement_timeout") == [("1min",)]
    assert sql(dashboards, "SHOW work_mem") == [("8MB",)]


@pytest.mark.parametrize(
    ("role", "reason"),
    [
        ("SUPERUSER LOGIN IN ROLE flights_reader", "has more rights than a reader may have"),
        ("CREATEROLE LOGIN IN ROLE flights_reader", "has more rights than a reader may have"),
        ("REPLICATION LOGIN IN ROLE flights_reader", "has more rights than a reader may have"),
        ("NOLOGIN IN ROLE flights_reader", "is a group and no login"),
        ("LOGIN", "is no member of flights_reader"),
        ("LOGIN IN ROLE flights_reader, flights_loader", "may write into flights"),
        ("LOGIN IN ROLE flights_owner", "may write into flights"),
    ],
)
def test_a_role_of_somebody_else_is_named_and_stays_as_it_is(
    warehouse: str, dashboards: str, role: str, reason: str
) -> None:
    sql(warehouse, f"CREATE ROLE dashboards {role} PASSWORD 'its own'")
    before = sql(warehouse, STATE)

    with pytest.raises(InvalidInput, match=rf"The role dashboards of the warehouse .* {reason}, so it stays as it"):
        DBHandler(warehouse).create_reader("dashboards", PASSWORD)

    assert sql(warehouse, STATE) == before


@pytest.mark.parametrize("login", ["", "a b", 'x" SUPERUSER; --', "9lives", "pg_reader", "public", "none", "x" * 64])
def test_a_name_that_no_login_can_have_is_refused(warehouse: str, login: str) -> None:
    with pytest.raises(InvalidInput, match="cannot name a login; use up to 63 letters"):
        DBHandler(warehouse).create_reader(login, PASSWORD)


@pytest.mark.parametrize("password", ["", "null \0 byte"])
def test_a_password_that_cannot_be_is_refused_without_being_shown(warehouse: str, password: str) -> None:
    with pytest.raises(InvalidInput, match="password of the reader dashboards is empty or holds a null byte") as no:
        DBHandler(warehouse).create_reader("dashboards", password)

    assert "null \0" not in "".join(traceback.format_exception(no.value))


def test_the_server_gets_a_verifier_of_the_password_and_never_the_password(warehouse: str, dashboards: str) -> None:
    sent: list[str] = []

    with before_each_statement(lambda _, statement: sent.append(statement)):
        DBHandler(warehouse).create_reader("dashboards", "simple-to-find")

    assert [statement for statement in sent if "simple-to-find" in statement] == []
    (kept,) = [statement for statement in sent if "PASSWORD" in statement]
    assert "'SCRAM-SHA-256$4096:" in kept


@pytest.mark.parametrize("is_same_database", [True, False])
def test_two_that_make_the_reader_at_once_queue_and_both_are_served(
    warehouse: str, empty_database: str, dashboards: str, is_same_database: bool
) -> None:
    DBHandler(empty_database).create()
    second = warehouse if is_same_database else empty_database
    if is_same_database:  # two that change the same login get into each other's way, unless one waits
        DBHandler(warehouse).create_reader("dashboards", "the old one")
    reached_commit, may_commit = threading.Event(), threading.Event()

    def hold_first(_: psycopg2.extensions.connection, statement: str) -> None:
        if statement == "COMMIT" and not reached_commit.is_set():
            reached_commit.set()
            assert may_commit.wait(30)

    with ThreadPoolExecutor() as pool, before_each_statement(hold_first):
        first = pool.submit(DBHandler(warehouse).create_reader, "dashboards", PASSWORD)
        assert reached_commit.wait(30)
        other = pool.submit(DBHandler(second).create_reader, "dashboards", PASSWORD)
        wait_until(lambda: bool(sql(warehouse, "SELECT 1 FROM pg_locks WHERE NOT granted")))
        may_commit.set()
        changed = first.result(), other.result()

    assert changed == (True, not is_same_database)
    for url in (warehouse, second):
        reader = at(dashboards, database=database_of(url))
        assert sql(reader, "SELECT count(*) FROM flights.airport_days") == [(0,)]
        assert sql(reader, "SHOW default_transaction_read_only") == [("on",)]


def test_a_password_that_somebody_else_sets_at_the_same_moment_is_told_in_a_sentence(
    warehouse: str, dashboards: str
) -> None:
    DBHandler(warehouse).create_reader("dashboards", "the old one")

    with ThreadPoolExecutor() as pool, closing(psycopg2.connect(warehouse)) as other, other.cursor() as cursor:
        cursor.execute("ALTER ROLE dashboards PASSWORD 'theirs'")
        ours = pool.submit(DBHandler(warehouse).create_reader, "dashboards", PASSWORD)
        wait_until(lambda: bool(sql(warehouse, "SELECT 1 FROM pg_locks WHERE NOT granted")))
        other.commit()

        with pytest.raises(Unavailable, match=r"failed at making the reader dashboards \(tuple concurr"):
            ours.result()


def test_a_login_that_may_make_no_reader_gets_the_sql_that_an_administrator_runs_and_it_helps(
    warehouse: str, login: Callable[[str], str], dashboards: str
) -> None:
    owner = login("flights_owner")

    with pytest.raises(InvalidInput, match=r"may not make the reader dashboards .*let an administrator run") as no:
        DBHandler(owner).create_reader("dashboards", PASSWORD)
    assert PASSWORD not in "".join(traceback.format_exception(no.value))
    assert sql(warehouse, STATE) == []

    sql(warehouse, *sql_in(no.value))
    assert DBHandler(owner).create_reader("dashboards", PASSWORD) is True
    assert refusal(dashboards) == ""


def test_a_reader_that_an_administrator_made_is_kept_when_it_is_as_asked_else_the_sentence_helps(
    warehouse: str, login: Callable[[str], str], dashboards: str
) -> None:
    owner = login("flights_owner")
    DBHandler(warehouse).create_reader("dashboards", PASSWORD)

    assert DBHandler(owner).create_reader("dashboards", PASSWORD) is False
    with pytest.raises(InvalidInput, match=r"may not make the reader dashboards") as no:
        DBHandler(owner).create_reader("dashboards", "another")
    sql(warehouse, *sql_in(no.value))
    assert DBHandler(owner).create_reader("dashboards", "another") is True


def test_a_database_closed_to_everybody_is_opened_to_the_reader_and_gives_it_nothing_else(
    warehouse: str, dashboards: str
) -> None:
    sql(warehouse, f"REVOKE ALL ON DATABASE {database_of(warehouse)} FROM public")

    DBHandler(warehouse).create_reader("dashboards", PASSWORD)

    assert sql(dashboards, "SELECT count(*) FROM flights.airport_days") == [(0,)]
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        sql(dashboards, "SET default_transaction_read_only = off", "CREATE TEMPORARY TABLE x (a int)")


def test_a_database_of_somebody_else_closed_to_the_reader_is_named_and_the_sql_helps(
    warehouse: str, login: Callable[[str], str], dashboards: str
) -> None:
    owner = login("flights_owner")
    sql(warehouse, "ALTER ROLE login_flights_owner CREATEROLE")
    sql(warehouse, "GRANT flights_reader TO login_flights_owner WITH ADMIN OPTION")
    database = database_of(warehouse)
    sql(warehouse, f"REVOKE ALL ON DATABASE {database} FROM public")
    sql(warehouse, f"GRANT CONNECT ON DATABASE {database} TO login_flights_owner")

    with pytest.raises(InvalidInput, match=r"may not let the reader dashboards connect to the warehouse") as no:
        DBHandler(owner).create_reader("dashboards", PASSWORD)
    sql(warehouse, *sql_in(no.value))

    assert DBHandler(owner).create_reader("dashboards", PASSWORD) is True
    assert sql(dashboards, "SELECT count(*) FROM flights.airport_days") == [(0,)]
