"""Who creates the tables, what each role may do with them, and the read-only login."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date
from pathlib import Path

import psycopg2
import pytest

from tests.builders import airport_day_row, airport_days_table
from tests.conftest import at, database_of, sql, sql_in
from tests.integration.conftest import refusal
from tests.servers.postgres import running_server
from utils.db_handler import TABLES, DBHandler
from utils.errors import InvalidInput

DAYS = airport_days_table(airport_day_row("JFK"))
PASSWORD = 'it\'s a 100 % sécret: "a@b/c\\d"'


@pytest.fixture
def bare_server() -> Iterator[str]:
    """The superuser's URL of a server without our roles."""
    with running_server() as server:
        yield server.url


def test_a_login_without_rights_gets_all_the_sql_that_an_administrator_must_run(bare_server: str) -> None:
    sql(bare_server, 'CREATE ROLE "plain login" LOGIN', "CREATE DATABASE one")
    sql(bare_server, "REVOKE ALL ON DATABASE one FROM public", 'GRANT CONNECT ON DATABASE one TO "plain login"')
    handler = DBHandler(at(bare_server, username="plain login", database="one"))

    with pytest.raises(InvalidInput, match=r"roles.*schema.*flights_loader") as refused:
        handler.create()
    sql(at(bare_server, database="one"), *sql_in(refused.value))

    assert handler.create() is True
    sql(bare_server, "CREATE ROLE analyst LOGIN IN ROLE flights_loader", "GRANT CONNECT ON DATABASE one TO analyst")
    loader = DBHandler(at(bare_server, username="analyst", database="one"))
    assert loader.upsert("airport_days", DAYS, 2018).inserted == 1


def test_a_login_that_may_create_roles_creates_and_administers_them_itself(bare_server: str) -> None:
    sql(bare_server, "CREATE ROLE creator LOGIN CREATEROLE", "CREATE DATABASE one")
    url = at(bare_server, username="creator", database="one")

    with pytest.raises(InvalidInput, match="schema") as refused:
        DBHandler(url).create()
    assert sql_in(refused.value) == ["GRANT CREATE ON DATABASE one TO creator;"]
    sql(bare_server, *sql_in(refused.value))

    assert DBHandler(url).create() is True
    assert DBHandler(url).create_reader("dashboards", PASSWORD) is True


def test_a_master_user_of_rds_creates_two_databases_and_their_reader(bare_server: str) -> None:
    """It is not a superuser; it may create roles and owns its databases."""
    sql(bare_server, "CREATE ROLE master LOGIN CREATEROLE CREATEDB")
    sql(at(bare_server, username="master"), "CREATE DATABASE one", "CREATE DATABASE two")

    for database in ("one", "two"):
        url = at(bare_server, username="master", database=database)
        assert DBHandler(url).create() is True
        assert DBHandler(url).create_reader("dashboards", PASSWORD) is True
        DBHandler(url).publish_view(["three_sigma"], "three_sigma")
        assert DBHandler(url).upsert("airport_days", DAYS, 2018).inserted == 1
        assert len(sql(at(url, username="dashboards"), "SELECT * FROM flights.agg_dep_delay_by_date")) == 1
        owners = "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'flights'::regnamespace"
        assert sql(url, owners) == [("flights_owner",)]


READERS = {"owner", "loader", "reader", "dashboards"}
LABELLED = {"airport_days", "feedback"}  # that a labeller may read
WRITERS = {"owner", "loader"}
RIGHTS = {
    **{
        f"SELECT count(*) FROM flights.{table}": READERS | ({"pages"} if table in LABELLED else set())
        for table in (*TABLES, "detector_feedback", "later")
    },
    **{
        f"DELETE FROM flights.{table}": WRITERS | ({"pages"} if table == "feedback" else set())
        for table in (*TABLES, "later")
    },
    "INSERT INTO flights.feedback VALUES ('X', '2018-01-01', 'right', '', 'a', now())": {*WRITERS, "pages"},
    "UPDATE flights.feedback SET note = ''": {*WRITERS, "pages"},
    **{f"TRUNCATE flights.{table}": {"owner"} for table in TABLES},
    "SELECT count(*) FROM flights.agg_dep_delay_by_date": READERS,
    "INSERT INTO flights.runs (run_id, year) VALUES ('x', 2018)": WRITERS,
    "UPDATE flights.airport_days SET scheduled = 0": WRITERS,
    "CREATE TEMPORARY TABLE x (a int)": {*READERS, "pages", "stranger"},
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


@pytest.mark.parametrize("role", ["owner", "loader", "reader", "dashboards", "pages", "stranger"])
def test_a_role_has_its_rights_and_no_others(
    warehouse: str, login: Callable[[str], str], dashboards: str, pages: str, role: str
) -> None:
    DBHandler(warehouse).publish_view(["three_sigma"], "three_sigma")
    sql(warehouse, "SET ROLE flights_owner", "CREATE TABLE flights.later (a int)")
    DBHandler(warehouse).create_reader("dashboards", PASSWORD)
    DBHandler(warehouse).create_labeller("pages", PASSWORD)
    created = {"dashboards": dashboards, "pages": pages}
    url = created[role] if role in created else login("pg_monitor" if role == "stranger" else f"flights_{role}")

    allowed = {statement for statement in RIGHTS if is_allowed(url, statement)}

    assert allowed == {statement for statement, roles in RIGHTS.items() if role in roles}


def is_allowed(url: str, statement: str) -> bool:
    """Whether the server executes the statement in a session that may write; it is rolled back."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION READ WRITE")
        try:
            cursor.execute(statement)
        except psycopg2.errors.InsufficientPrivilege:
            return False
        return True


STATE = """
    SELECT rolpassword, rolsuper, rolcanlogin, rolconnlimit,
           ARRAY(SELECT roleid::regrole::text FROM pg_auth_members WHERE member = r.oid ORDER BY 1),
           ARRAY(SELECT unnest(setconfig) FROM pg_db_role_setting WHERE setrole = r.oid ORDER BY 1)
    FROM pg_authid r WHERE rolname = 'dashboards'
"""


@pytest.fixture
def dashboards(warehouse: str, ask_password_of: Callable[[str], None]) -> Iterator[str]:
    """The URL, with PASSWORD, of a login that does not exist yet; the server will ask for its password."""
    ask_password_of("dashboards")
    yield at(warehouse, username="dashboards", password=PASSWORD)
    if sql(warehouse, "SELECT 1 FROM pg_roles WHERE rolname = 'dashboards'"):
        sql(warehouse, "DROP OWNED BY dashboards", "DROP ROLE dashboards")


@pytest.fixture
def pages(warehouse: str) -> Iterator[str]:
    """The URL of a labeller that does not exist yet."""
    yield at(warehouse, username="pages")
    if sql(warehouse, "SELECT 1 FROM pg_roles WHERE rolname = 'pages'"):
        sql(warehouse, "DROP OWNED BY pages", "DROP ROLE pages")


def test_a_labeller_is_created_once_and_corrected(warehouse: str, pages: str) -> None:
    handler = DBHandler(warehouse)

    assert handler.create_labeller("pages", PASSWORD) is True
    sql(warehouse, "REVOKE DELETE ON flights.feedback FROM flights_labeller")
    assert handler.create_labeller("pages", PASSWORD) is True

    assert sql(pages, "SHOW statement_timeout") == [("10s",)]
    assert sql(pages, "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'pages'") == [(4,)]
    with DBHandler(pages) as labels:
        handler.upsert("airport_days", DAYS, 2018)
        assert labels.give_feedback("JFK", date(2018, 1, 1), "right", "", "ann") is True
        assert labels.withdraw_feedback("JFK", date(2018, 1, 1)) is True
    with pytest.raises(InvalidInput, match=r"pages.*may write more"):
        sql(warehouse, "GRANT flights_loader TO pages")
        handler.create_labeller("pages", PASSWORD)


def test_a_login_that_may_not_create_a_labeller_gets_the_sql(
    warehouse: str, login: Callable[[str], str], pages: str
) -> None:
    owner = DBHandler(login("flights_owner"))

    with pytest.raises(InvalidInput, match="labeller pages") as refused:
        owner.create_labeller("pages", PASSWORD)
    sql(warehouse, *sql_in(refused.value))

    assert owner.create_labeller("pages", PASSWORD) is True


def test_a_reader_needs_its_password_and_has_limits(warehouse: str, dashboards: str) -> None:
    assert DBHandler(warehouse).create_reader("dashboards", PASSWORD) is True

    assert "password authentication failed" in refusal(at(dashboards, password="wrong"))
    assert sql(dashboards, "SHOW statement_timeout") == [("1min",)]
    assert sql(dashboards, "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'dashboards'") == [(21,)]
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
        ("ALTER ROLE dashboards PASSWORD 'another'", True),
    ],
)
def test_a_manual_change_of_the_reader_is_corrected_only_if_it_weakens_the_limits(
    warehouse: str, dashboards: str, change: str, is_corrected: bool
) -> None:
    DBHandler(warehouse).create_reader("dashboards", PASSWORD)
    created = sql(warehouse, STATE)
    sql(warehouse, change.format(database_of(warehouse)))
    changed = sql(warehouse, STATE)

    assert DBHandler(warehouse).create_reader("dashboards", PASSWORD) is is_corrected

    if "PASSWORD" not in change:  # a new verifier has another salt
        assert sql(warehouse, STATE) == (created if is_corrected else changed)
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
        ("NOLOGIN IN ROLE flights_reader", "group"),
        ("LOGIN", "not a member"),
        ("LOGIN IN ROLE flights_reader, flights_loader", "may write"),
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


def test_an_invalid_name_is_refused(postgres: str) -> None:
    for login in ("", "a b", 'x" SUPERUSER; --', "pg_reader", "public", "x" * 64):
        with pytest.raises(InvalidInput, match="63 letters"):
            DBHandler(postgres).create_reader(login, PASSWORD)


def test_the_server_receives_a_verifier_and_never_the_password(warehouse: str, dashboards: str) -> None:
    sql(warehouse, f"ALTER DATABASE {database_of(warehouse)} SET log_statement = 'all'")
    log = Path(sql(warehouse, "SHOW data_directory")[0][0]).with_name("log")
    before = log.read_text()

    DBHandler(warehouse).create_reader("dashboards", "simple-to-find")

    statements = log.read_text().removeprefix(before)
    assert "'SCRAM-SHA-256$4096:" in statements
    assert "simple-to-find" not in statements


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


def test_a_database_closed_to_public_is_opened_to_the_reader_for_reading_only(warehouse: str, dashboards: str) -> None:
    sql(warehouse, f"REVOKE ALL ON DATABASE {database_of(warehouse)} FROM public")

    DBHandler(warehouse).create_reader("dashboards", PASSWORD)

    assert sql(dashboards, "SELECT count(*) FROM flights.airport_days") == [(0,)]
    assert not is_allowed(dashboards, "CREATE TEMPORARY TABLE x (a int)")
