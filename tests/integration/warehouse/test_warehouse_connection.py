"""Kinds and messages of the errors of a warehouse that lets nobody in or fails on an open connection, and its URLs."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import psycopg2.extensions
import pytest

from tests.builders import airport_day_row as day
from tests.builders import airport_days_table as days
from tests.conftest import at, sql
from utils.db_handler import DBHandler
from utils.errors import Busy, DelaywatchError, InvalidInput, Missing, Unavailable
from utils.warehouse.connection import Postgres, refusal

# --- what libpq says when it cannot connect ---------------------------------------------------------------------------

FAILED = 'connection to server at "db" (10.0.0.5), port 5432 failed: '


@pytest.mark.parametrize(
    ("text", "kind", "way_out"),
    [
        (FAILED + 'FATAL:  password authentication failed for user "ann"', InvalidInput, "correct them"),
        (
            FAILED + 'FATAL:  password authentication failed for user "ann"\n'
            + FAILED + 'FATAL:  no pg_hba.conf entry for host "10.0.0.7", user "ann", no encryption',
            InvalidInput,
            "or its password; correct them",
        ),
        (FAILED + "fe_sendauth: no password supplied", InvalidInput, "correct them"),
        (FAILED + 'FATAL:  role "ann" does not exist', InvalidInput, "correct them"),
        (FAILED + 'FATAL:  role "flights_loader" is not permitted to log in', InvalidInput, "correct them"),
        (FAILED + 'FATAL:  database "flights" does not exist', Missing, "CREATE DATABASE"),
        (FAILED + 'FATAL:  permission denied for database "flights"', InvalidInput, "grants it CONNECT"),
        (
            FAILED + 'FATAL:  no pg_hba.conf entry for host "10.0.0.7", user "ann", database "flights", no encryption',
            InvalidInput,
            "sslmode=require",
        ),
        (FAILED + "server does not support SSL, but SSL was required", InvalidInput, "correct sslmode"),
        (FAILED + "SSL error: certificate verify failed", InvalidInput, "correct sslmode"),
        ('root certificate file "/root/.postgresql/root.crt" does not exist', InvalidInput, "correct sslmode"),
        ('invalid sslmode value: "bogus"', InvalidInput, "correct the options"),
        (FAILED + "Connection refused\n\tIs the server running on that host?", Unavailable, "start it"),
        ('connection to server on socket "/run/.s.PGSQL.5432" failed: No such file or directory', Unavailable, "start"),
        (FAILED + "timeout expired", Unavailable, "start it"),
        (FAILED + "No route to host", Unavailable, "start it"),
        (FAILED + "Network is unreachable", Unavailable, "start it"),
        (FAILED + "FATAL:  the database system is starting up", Unavailable, "run the step again"),
        (FAILED + "FATAL:  the database system is shutting down", Unavailable, "run the step again"),
        (FAILED + "FATAL:  the database system is in recovery mode", Unavailable, "run the step again"),
        (FAILED + "FATAL:  the database system is not yet accepting connections", Unavailable, "run the step again"),
        (FAILED + "FATAL:  sorry, too many clients already", Unavailable, "close some"),
        (FAILED + "FATAL:  remaining connection slots are reserved for roles with the", Unavailable, "close some"),
        (FAILED + 'FATAL:  too many connections for role "ann"', Unavailable, "close some"),
        ('could not translate host name "db" to address: Name or service not known', Unavailable, "start it"),
        ('could not translate host name "db" to address: Temporary failure in name', Unavailable, "start it"),
        ("server closed the connection unexpectedly", Unavailable, "run the step again"),
        ("something that libpq says from next year on", Unavailable, "correct the warehouse URL or the server"),
    ],
)  # fmt: skip
def test_a_connection_that_cannot_be_made_has_a_kind_and_a_way_out(
    text: str, kind: type[DelaywatchError], way_out: str
) -> None:
    found, message = refusal(text)

    assert found is kind
    assert way_out in message


# --- what an open connection reports ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("22003", InvalidInput),
        ("22021", InvalidInput),
        ("23502", InvalidInput),
        ("23505", Busy),
        ("23514", InvalidInput),
        ("25006", Unavailable),
        ("2BP01", InvalidInput),
        ("3F000", Missing),
        ("40001", Busy),
        ("40P01", Busy),
        ("42501", InvalidInput),
        ("42703", InvalidInput),
        ("42883", InvalidInput),
        ("42P01", Missing),
        ("42P10", InvalidInput),
        ("53100", Unavailable),
        ("53200", Unavailable),
        ("53300", Unavailable),
        ("55P03", Busy),
        ("57014", Unavailable),
        ("57P01", Unavailable),
        ("57P02", Unavailable),
        ("58030", Unavailable),
        ("08006", Unavailable),
        ("XX000", Unavailable),
    ],
)
def test_an_error_of_the_server_has_the_kind_of_its_code_and_one_message(
    warehouse: str, code: str, kind: type[DelaywatchError]
) -> None:
    server = Postgres(warehouse, connect_timeout_s=5, lock_timeout_s=5)

    with (
        pytest.raises(kind, match=r"^[A-Z][^\n]*(trying it|lacks)[^\n]*\.$") as raised,
        server.transaction("trying it") as cursor,
    ):
        cursor.execute(f"DO $$ BEGIN RAISE 'said so' USING ERRCODE = '{code}'; END $$")

    assert type(raised.value) is kind


def test_an_error_in_our_own_sql_keeps_its_traceback(warehouse: str) -> None:
    server = Postgres(warehouse, connect_timeout_s=5, lock_timeout_s=5)

    with pytest.raises(psycopg2.errors.SyntaxError), server.transaction("trying it") as cursor:
        cursor.execute("SELEC 1")


# --- the server cannot be used ----------------------------------------------------------------------------------------


@pytest.fixture
def guarded(warehouse: str, ask_password_of: Callable[[str], None]) -> Iterator[str]:
    """The URL of a login whom the server lets in with the password `correct horse` only."""
    sql(warehouse, "CREATE ROLE guarded LOGIN PASSWORD 'correct horse' IN ROLE flights_loader")
    ask_password_of("guarded")
    yield at(warehouse, username="guarded", password="correct horse")
    sql(warehouse, "DROP OWNED BY guarded", "DROP ROLE guarded")


def test_the_right_password_works_and_a_wrong_one_is_refused_without_being_shown(guarded: str) -> None:
    assert DBHandler(guarded).upsert("airport_days", days(day()), 2018).inserted == 1

    wrong = DBHandler(at(guarded, password="battery staple"))
    with pytest.raises(InvalidInput, match=r"refused user guarded or its password") as refused:
        wrong.upsert("airport_days", days(day()), 2018)

    shown = "".join(traceback.format_exception(refused.value)) + repr(wrong)
    assert "battery staple" not in shown


@pytest.mark.parametrize(
    ("parts", "kind", "sentence"),
    [
        (
            {"database": "nowhere"},
            Missing,
            "The warehouse nowhere at .* does not exist; create it with CREATE",
        ),
        ({"username": "nobody"}, InvalidInput, "refused user nobody or its password"),
        ({"query": {"host": "/nowhere"}}, Unavailable, "No Postgres answers at the warehouse .* at /nowhere; start it"),
        (
            {"query": {}, "host": "127.0.0.1", "port": 1},
            Unavailable,
            "No Postgres answers at the warehouse .* at 127.0.0.1:1; start",
        ),
        ({"query": {}, "host": "host.invalid"}, Unavailable, "The host of the warehouse .* at host.invalid is unknown"),
        (
            {"query": {"host": "/nowhere", "sslmode": "bogus"}},
            InvalidInput,
            "does not take one of host, sslmode; correct the options after \\? in the warehouse URL",
        ),
        (
            {"query": {"connect_timeout": "soon"}, "host": "127.0.0.1", "port": 1},
            InvalidInput,
            "does not take one of connect_timeout; correct the options after \\? in the warehouse URL",
        ),
    ],
)
def test_a_server_that_cannot_be_used_is_named_with_the_way_out(
    warehouse: str, parts: dict[str, Any], kind: type[DelaywatchError], sentence: str
) -> None:
    handler = DBHandler(at(warehouse, **{"username": "postgres", "password": "battery staple", **parts}))

    for use in (
        handler.create,
        lambda: handler.read("airport_days"),
        lambda: handler.upsert("airport_days", days(day()), 2018),
    ):
        with pytest.raises(kind, match=sentence) as refused:
            use()
        assert "battery staple" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("hunter2", "cannot be read; correct DELAYWATCH_WAREHOUSE"),
        ("postgresql://u:hunter2@host:port/db", "cannot be read; correct DELAYWATCH_WAREHOUSE"),
        ("postgresql://u:p@hunter2@host/db", "an @ that does not end its user"),
        ("postgresql://u/x:hunter2@host/db", "an @ that does not end its user"),
        ("postgresql://u:hunter2%FF@host/db", "cannot be read; correct DELAYWATCH_WAREHOUSE"),
        ("postgresql://u:hunter2%00@host/db", "a zero byte"),
        ("postgresql://u:hunter2@host/db?sslmode", "an option without a value"),
        ("mysql://u:hunter2@host/db", "is for mysql, not for Postgres"),
        ("postgresql://host/db?sslmode=require&foo=hunter2", "one of sslmode, foo; correct the options after \\?"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused_without_being_shown(url: str, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence) as refused:
        DBHandler(url)

    assert "hunter2" not in "".join(traceback.format_exception(refused.value)).replace(url, "")


@pytest.mark.parametrize("password", ["p#w", "p?w", "50%", "p/w", "p:w"])
def test_a_password_with_a_character_of_urls_is_taken_literally(password: str) -> None:
    server = Postgres(f"postgresql://u:{password}@host:5432/db", connect_timeout_s=1, lock_timeout_s=1)

    assert (server.url.password, server.url.host, server.url.database) == (password, "host", "db")


def test_making_a_handler_opens_nothing() -> None:
    assert repr(DBHandler("postgresql://u:hunter2@host.invalid/db")) == "DBHandler(warehouse db at host.invalid)"
