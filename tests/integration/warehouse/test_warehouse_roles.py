"""Who creates the tables, what each role may do with them, and the read-only login."""

from __future__ import annotations

import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from subprocess import PIPE

import psycopg2
import psycopg2.extensions
import pytest

from tests.builders import airport_day_row, airport_days_table
from tests.conftest import at, database_of, sql, sql_in, wait_until
from tests.integration.conftest import refusal
from tests.statements import before_each_statement
from utils.db_handler import TABLES, DBHandler
from utils.errors import InvalidInput, Missing

DAYS = airport_days_table(airport_day_row("JFK"))
PASSWORD = 'it\'s a 100 % sécret: "a@b/c\\d"'

# --- creating tables and roles ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def new_server(start_postgres: Callable[[int], str]) -> str:
    return start_postgres(18)


@pytest.fixture
def bare_server(new_server: str) -> Iterator[str]:
    """A server without our roles; databases `one` and `two` are dropped afterwards."""
    yield new_server
    sql(new_server, *(f"DROP DATABASE IF EXISTS {name}" for name in ("one", "two")))
    roles = ("flights_loader", "flights_reader", "flights_owner", "analyst", "master", "plain login")
    sql(new_server, *(f'DROP ROLE IF EXISTS "{role}"' for role in roles))


def test_three_processes_prepare_two_databases_at_once(bare_server: str) -> None:
    """As on RDS: the master user is not a superuser; it may create roles and owns its databases."""
    sql(bare_server, "CREATE ROLE master LOGIN CREATEROLE CREATEDB")
    sql(at(bare_server, username="master"), "CREATE DATABASE one", "CREATE DATABASE two")
    one, two = (at(bare_server, username="master", database=name) for name in ("one", "two"))
    program = "import sys; from utils.db_handler import DBHandler; input('ready'); DBHandler(sys.argv[1]).create()"

    processes = [
        subprocess.Popen([sys.executable, "-c", program, url], stdin=PIPE, stdout=PIPE, text=True)
        for url in (one, one, two)
    ]
    assert [process.stdout.read(5) for process in processes if process.stdout] == ["ready"] * 3
    for process in processes:
        if process.stdin:
            process.stdin.write("go\n")
            process.stdin.flush()
    for process in processes:
        process.communicate()

    assert [process.returncode for process in processes] == [0, 0, 0]
    for url in (one, two):
        assert DBHandler(url).create_reader("analyst", PASSWORD) is True
        DBHandler(url).publish_view(["three_sigma"], "three_sigma")
        assert DBHandler(url).upsert("airport_days", DAYS, 2018).inserted == 1
        assert len(sql(at(url, username="analyst"), "SELECT * FROM flights.agg_dep_delay_by_date")) == 1
        owners = "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'flights'::regnamespace"
        assert sql(url, owners) == [("flights_owner",)]


def test_a_login_without_rights_gets_all_the_sql_that_an_administrator_must_run(bare_server: str) -> None:
    sql(bare_server, 'CREATE ROLE "plain login" LOGIN', "CREATE DATABASE one")
    sql(bare_server, "REVOKE ALL ON DATABASE one FROM public", 'GRANT CONNECT ON DATABASE one TO "plain login"')
    handler = DBHandler(at(bare_server, username="plain login", database="one"))

    with pytest.raises(InvalidInput, match="create roles, create a schema or let flights_loader") as refused:
        handler.create()
    sql(at(bare_server, database="one"), *sql_in(refused.value))

    assert handler.create() is True
    sql(bare_server, "CREATE ROLE analyst LOGIN IN ROLE flights_loader", "GRANT CONNECT ON DATABASE one TO analyst")
    loader = DBHandler(at(bare_server, username="analyst", database="one"))
    assert loader.upsert("airport_days", DAYS, 2018).inserted == 1


def test_a_migration_by_another_login_gets_the_sql(warehouse: str, login: Callable[[str], str]) -> None:
    sql(warehouse, "UPDATE flights.alembic_version SET version_num = '0002'")
    handler = DBHandler(login("flights_reader"))
    sql(warehouse, "ALTER ROLE login_flights_reader CREATEROLE")

    with pytest.raises(InvalidInput, match="act as flights_owner") as refused:
        handler.create()
    sql(warehouse, *sql_in(refused.value))

    assert handler.create() is True


def test_a_schema_flights_of_another_owner_is_named_and_the_sql_helps(bare_server: str) -> None:
    sql(bare_server, "CREATE DATABASE one")
    url = at(bare_server, database="one")
    sql(url, "CREATE SCHEMA flights")

    with pytest.raises(InvalidInput, match="schema flights of postgres") as refused:
        DBHandler(url).create()
    sql(url, *sql_in(refused.value))

    assert DBHandler(url).create() is True


def test_a_reader_before_the_tables_needs_prepare(bare_server: str) -> None:
    with pytest.raises(Missing, match=r"flights_reader.*python -m utils prepare"):
        DBHandler(bare_server).create_reader("dashboards", PASSWORD)


# --- the rights of each role ------------------------------------------------------------------------------------------

READERS = {"owner", "loader", "reader", "dashboards"}
WRITERS = {"owner", "loader"}
RIGHTS = {
    **{f"SELECT count(*) FROM flights.{table}": READERS for table in (*TABLES, "detector_feedback", "later")},
    **{f"DELETE FROM flights.{table}": WRITERS for table in (*TABLES, "later")},
    **{f"TRUNCATE flights.{table}": {"owner"} for table in TABLES},
    "SELECT count(*) FROM flights.agg_dep_delay_by_date": READERS,
    "INSERT INTO flights.runs (run_id, year) VALUES ('x', 2018)": WRITERS,
    "UPDATE flights.airport_days SET scheduled = 0": WRITERS,
    "CREATE TEMPORARY TABLE x (a int)": {*READERS, "stranger"},
    "UPDATE flights.alembic_version SET version_num = 'x'": {"owner"},
    "CREATE TABLE flights.mine (a int)": {"owner"},
    "CREATE VIEW flights.mine AS SELECT 1 AS x": {"owner"},
    "DROP TABLE flights.runs": {"owner"},
    "DROP VIEW flights.agg_dep_delay_by_date": {"owner"},
    "ALTER TABLE flights.runs ADD COLUMN x int": {"owner"},
    "SET ROLE flights_loader": {"loader"},
    "CREATE TABLE public.mine (a int)": set(),
    "CREATE SCHEMA mine": set(),
    "CREATE ROLE mine": set(),
    "GRANT flights_reader TO pg_monitor": set(),
    "SELECT pg_read_file('PG_VERSION')": set(),
}


@pytest.mark.parametrize("role", ["owner", "loader", "reader", "dashboards", "stranger"])
def test_a_role_has_its_rights_and_no_others(warehouse: str, login: Callable[[str], str], role: str) -> None:
    DBHandler(warehouse).publish_view(["three_sigma"], "three_sigma")
    sql(warehouse, "SET ROLE flights_owner", "CREATE TABLE flights.later (a int)")
    if role == "dashboards":
        DBHandler(warehouse).create_reader("dashboards", PASSWORD)
        url = at(warehouse, username="dashboards")
    else:
        url = login("pg_monitor" if role == "stranger" else f"flights_{role}")

    allowed = {statement for statement in RIGHTS if is_allowed(url, statement)}

    assert allowed == {statement for statement, roles in RIGHTS.items() if role in roles}
    if role == "dashboards":
        sql(warehouse, "DROP OWNED BY dashboards", "DROP ROLE dashboards")


def is_allowed(url: str, statement: str) -> bool:
    """Whether the server executes the statement in a session that may write; it is rolled back."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION READ WRITE")
        try:
            cursor.execute(statement)
        except psycopg2.errors.InsufficientPrivilege:
            return False
        return True


def test_a_missing_right_names_the_user_and_the_operation(warehouse: str, login: Callable[[str], str]) -> None:
    reader, loader = DBHandler(login("flights_reader")), DBHandler(login("flights_loader"))

    with pytest.raises(InvalidInput, match=r"login_flights_reader.*airport_days 2018"):
        reader.upsert("airport_days", DAYS, 2018)
    with pytest.raises(InvalidInput, match=r"login_flights_loader.*view"):
        loader.publish_view(["three_sigma"], "three_sigma")


# --- the read-only login ----------------------------------------------------------------------------------------------

STATE = (
    "SELECT 'role', xmin::text, rolpassword FROM pg_authid WHERE rolname = 'dashboards' UNION ALL"
    " SELECT 'member of', m.xmin::text, roleid::regrole::text FROM pg_auth_members m JOIN pg_roles r ON r.oid = member"
    " WHERE rolname = 'dashboards' UNION ALL"
    " SELECT 'set', s.xmin::text, setconfig::text FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = setrole"
    " WHERE rolname = 'dashboards'"
)


@pytest.fixture
def dashboards(warehouse: str, ask_password_of: Callable[[str], None]) -> Iterator[str]:
    """The URL, with PASSWORD, of a login that does not exist yet; the server will ask for its password."""
    ask_password_of("dashboards")
    yield at(warehouse, username="dashboards", password=PASSWORD)
    if sql(warehouse, "SELECT 1 FROM pg_roles WHERE rolname = 'dashboards'"):
        sql(warehouse, "DROP OWNED BY dashboards", "DROP ROLE dashboards")


def test_a_reader_needs_its_password_and_has_limits(warehouse: str, dashboards: str) -> None:
    assert DBHandler(warehouse).create_reader("dashboards", PASSWORD) is True

    assert "password authentication failed" in refusal(at(dashboards, password="wrong"))
    assert sql(dashboards, "SHOW statement_timeout") == [("1min",)]
    assert sql(dashboards, "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'dashboards'") == [(17,)]
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
        sql(dashboards, "CREATE TEMPORARY TABLE x (a int)")
    elsewhere = at(dashboards, database="template_warehouse")
    assert sql(elsewhere, "SHOW default_transaction_read_only") == [("off",)]


@pytest.mark.parametrize(
    ("change", "is_corrected"),
    [
        ("ALTER ROLE dashboards CONNECTION LIMIT -1", True),
        ("ALTER ROLE dashboards CONNECTION LIMIT 5", False),
        ("ALTER ROLE dashboards IN DATABASE {} SET statement_timeout = 0", True),
        ("ALTER ROLE dashboards IN DATABASE {} SET work_mem = '8MB'", False),
        ("ALTER ROLE dashboards PASSWORD 'another'", True),
    ],
)
def test_a_manual_change_of_the_reader_is_corrected_only_if_it_weakens_the_limits(
    warehouse: str, dashboards: str, change: str, is_corrected: bool
) -> None:
    state = (
        "SELECT rolconnlimit, rolpassword, ARRAY(SELECT unnest(setconfig) ORDER BY 1) FROM pg_authid r"
        " JOIN pg_db_role_setting ON setrole = r.oid WHERE rolname = 'dashboards'"
    )
    DBHandler(warehouse).create_reader("dashboards", PASSWORD)
    created = sql(warehouse, state)
    sql(warehouse, change.format(database_of(warehouse)))
    changed = sql(warehouse, state)

    assert DBHandler(warehouse).create_reader("dashboards", PASSWORD) is is_corrected

    if "PASSWORD" not in change:  # a new verifier has another salt
        assert sql(warehouse, state) == (created if is_corrected else changed)
    assert refusal(dashboards) == ""


def test_a_new_password_is_set_also_on_a_server_that_does_not_ask_for_it(
    warehouse: str, dashboards: str, ask_password_of: Callable[[str], None]
) -> None:
    ask_password_of("another_login")
    DBHandler(warehouse).create_reader("dashboards", "the old one")
    DBHandler(warehouse).create_reader("dashboards", PASSWORD)
    ask_password_of("dashboards")

    assert refusal(dashboards) == ""
    assert "password authentication failed" in refusal(at(dashboards, password="the old one"))


@pytest.mark.parametrize(
    ("role", "reason"),
    [
        ("SUPERUSER LOGIN IN ROLE flights_reader", "more rights"),
        ("CREATEROLE LOGIN IN ROLE flights_reader", "more rights"),
        ("REPLICATION LOGIN IN ROLE flights_reader", "more rights"),
        ("NOLOGIN IN ROLE flights_reader", "group"),
        ("LOGIN", "not a member"),
        ("LOGIN IN ROLE flights_reader, flights_loader", "may write"),
        ("LOGIN IN ROLE flights_owner", "may write"),
    ],
)
def test_an_existing_role_that_is_not_a_reader_is_refused_and_unchanged(
    warehouse: str, dashboards: str, role: str, reason: str
) -> None:
    sql(warehouse, f"CREATE ROLE dashboards {role} PASSWORD 'its own'")
    before = sql(warehouse, STATE)

    with pytest.raises(InvalidInput, match=f"dashboards.*{reason}"):
        DBHandler(warehouse).create_reader("dashboards", PASSWORD)

    assert sql(warehouse, STATE) == before


def test_an_invalid_name_or_password_is_refused_and_the_password_is_not_shown(postgres: str) -> None:
    for login in ("", "a b", 'x" SUPERUSER; --', "9lives", "pg_reader", "public", "none", "x" * 64):
        with pytest.raises(InvalidInput, match="63 letters"):
            DBHandler(postgres).create_reader(login, PASSWORD)
    for password in ("", "null \0 byte"):
        with pytest.raises(InvalidInput, match="password of the reader dashboards") as refused:
            DBHandler(postgres).create_reader("dashboards", password)
        assert "null \0" not in "".join(traceback.format_exception(refused.value))


def test_the_server_receives_a_verifier_and_never_the_password(warehouse: str, dashboards: str) -> None:
    statements: list[str] = []

    with before_each_statement(lambda _, statement: statements.append(statement)):
        DBHandler(warehouse).create_reader("dashboards", "simple-to-find")

    assert [statement for statement in statements if "simple-to-find" in statement] == []
    assert [statement for statement in statements if "'SCRAM-SHA-256$4096:" in statement] != []


@pytest.mark.parametrize("is_same_database", [True, False])
def test_two_sessions_that_create_the_reader_at_once_queue_and_both_succeed(
    warehouse: str, empty_database: str, dashboards: str, is_same_database: bool
) -> None:
    DBHandler(empty_database).create()
    second_url = warehouse if is_same_database else empty_database
    if is_same_database:  # two sessions that change the same login conflict, unless one waits
        DBHandler(warehouse).create_reader("dashboards", "the old one")
    reached_commit, may_commit = threading.Event(), threading.Event()

    def hold_first(_: psycopg2.extensions.connection, statement: str) -> None:
        if statement == "COMMIT" and not reached_commit.is_set():
            reached_commit.set()
            assert may_commit.wait(30)

    with ThreadPoolExecutor() as pool, before_each_statement(hold_first):
        first = pool.submit(DBHandler(warehouse).create_reader, "dashboards", PASSWORD)
        assert reached_commit.wait(30)
        second = pool.submit(DBHandler(second_url).create_reader, "dashboards", PASSWORD)
        wait_until(lambda: bool(sql(warehouse, "SELECT 1 FROM pg_locks WHERE NOT granted")))
        may_commit.set()

    assert (first.result(), second.result()) == (True, not is_same_database)
    for url in (warehouse, second_url):
        reader = at(dashboards, database=database_of(url))
        assert sql(reader, "SELECT count(*) FROM flights.airport_days") == [(0,)]
        assert sql(reader, "SHOW default_transaction_read_only") == [("on",)]


@pytest.mark.parametrize("exists", [False, True])
def test_a_login_that_may_not_create_the_reader_gets_the_sql_without_the_password(
    warehouse: str, login: Callable[[str], str], dashboards: str, exists: bool
) -> None:
    owner = DBHandler(login("flights_owner"))
    if exists:
        DBHandler(warehouse).create_reader("dashboards", "the old one")
        assert owner.create_reader("dashboards", "the old one") is False

    with pytest.raises(InvalidInput, match="reader dashboards") as refused:
        owner.create_reader("dashboards", PASSWORD)
    assert PASSWORD not in "".join(traceback.format_exception(refused.value))
    sql(warehouse, *sql_in(refused.value))

    assert owner.create_reader("dashboards", PASSWORD) is True
    assert refusal(dashboards) == ""


def test_a_database_closed_to_public_is_opened_to_the_reader_for_reading_only(
    warehouse: str, login: Callable[[str], str], dashboards: str
) -> None:
    owner = DBHandler(login("flights_owner"))
    database = database_of(warehouse)
    sql(warehouse, "ALTER ROLE login_flights_owner CREATEROLE")
    sql(warehouse, "GRANT flights_reader TO login_flights_owner WITH ADMIN OPTION")
    sql(warehouse, f"REVOKE ALL ON DATABASE {database} FROM public")
    sql(warehouse, f"GRANT CONNECT ON DATABASE {database} TO login_flights_owner")

    with pytest.raises(InvalidInput, match=r"reader dashboards.*connection") as refused:
        owner.create_reader("dashboards", PASSWORD)  # it may not grant CONNECT
    DBHandler(warehouse).create_reader("analyst", PASSWORD)
    by_superuser = sql(at(warehouse, username="analyst"), "SELECT count(*) FROM flights.airport_days")
    sql(warehouse, "DROP OWNED BY analyst", "DROP ROLE analyst", *sql_in(refused.value))

    assert by_superuser == [(0,)]
    assert owner.create_reader("dashboards", PASSWORD) is True
    assert not is_allowed(dashboards, "CREATE TEMPORARY TABLE x (a int)")
