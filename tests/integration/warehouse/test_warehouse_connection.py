"""Errors of a warehouse that refuses a connection or fails on an open one: class, place, way out, no password."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import pytest

from tests.builders import airport_day_row, airport_days_table
from tests.conftest import at, sql
from utils.db_handler import DBHandler
from utils.errors import Busy, DelaywatchError, InvalidInput, Missing, Unavailable
from utils.warehouse.connection import Postgres, refusal

DAYS = airport_days_table(airport_day_row())

AT = 'connection to server at "db" (10.0.0.5), port 5432 failed: '
PASSWORD = f'{AT}FATAL:  password authentication failed for user "ann"'
HBA = f'{AT}FATAL:  no pg_hba.conf entry for host "10.0.0.7", user "ann", database "flights", no encryption'


@pytest.mark.parametrize(
    ("text", "kind", "way_out"),
    [
        (PASSWORD, InvalidInput, "%25"),
        (f'{AT}FATAL:  role "ann" does not exist', InvalidInput, "%25"),
        (f'{AT}FATAL:  database "flights" does not exist', Missing, "CREATE DATABASE"),
        (f'{AT}FATAL:  permission denied for database "flights"', InvalidInput, "CONNECT"),
        (HBA, InvalidInput, "sslmode=require"),
        (f"{AT}server does not support SSL, but SSL was required", InvalidInput, "sslmode"),
        ('invalid sslmode value: "bogus"', InvalidInput, "after ?"),
        (f"{AT}Connection refused\n\tIs the server running on that host?", Unavailable, "start"),
        ('connection to server on socket "/run/.s.PGSQL.5432" failed: No such file or directory', Unavailable, "start"),
        (f"{AT}timeout expired", Unavailable, "start"),
        (f"{AT}FATAL:  the database system is starting up", Unavailable, "again"),
        (f"{AT}FATAL:  the database system is in recovery mode", Unavailable, "again"),
        (f"{AT}FATAL:  sorry, too many clients already", Unavailable, "max_connections"),
        (f"{AT}FATAL:  remaining connection slots are reserved for roles with the", Unavailable, "max_connections"),
        ('could not translate host name "db" to address: Name or service not known', Unavailable, "make up"),
        ("server closed the connection unexpectedly", Unavailable, "again"),
        ("a text of a future libpq", Unavailable, "correct"),
    ],
)
def test_a_failed_connection_has_a_class_and_a_way_out(text: str, kind: type[DelaywatchError], way_out: str) -> None:
    error, message = refusal(text)

    assert error is kind
    assert way_out in message


@pytest.mark.parametrize(
    ("kind", "codes"),
    [
        (InvalidInput, "22003 22021 23502 23514 2BP01 42501 42703 42883 42P10"),
        (Missing, "3F000 42P01"),
        (Unavailable, "25006 53100 53200 53300 57014 57P01 57P02 58030 08006 XX000"),
        (Busy, "23505 40001 40P01 55P03"),
    ],
)
def test_an_error_of_the_server_has_the_class_of_its_code(
    postgres: str, kind: type[DelaywatchError], codes: str
) -> None:
    server = Postgres(postgres, connect_timeout_s=5, lock_timeout_s=5)
    for code in codes.split():
        with pytest.raises(kind, match=r"^[A-Z].+\.$"), server.transaction("testing") as cursor:
            cursor.execute(f"DO $$ BEGIN RAISE 'reason' USING ERRCODE = '{code}'; END $$")


def test_a_wrong_password_is_refused_and_not_shown(warehouse: str, ask_password_of: Callable[[str], None]) -> None:
    sql(warehouse, "CREATE ROLE guarded LOGIN PASSWORD 'correct horse' IN ROLE flights_loader")
    ask_password_of("guarded")
    right, wrong = (DBHandler(at(warehouse, username="guarded", password=f"{word} horse")) for word in ("correct", "x"))

    inserted = right.upsert("airport_days", DAYS, 2018).inserted
    with pytest.raises(InvalidInput, match="guarded") as refused:
        wrong.upsert("airport_days", DAYS, 2018)
    sql(warehouse, "DROP OWNED BY guarded", "DROP ROLE guarded")

    assert inserted == 1
    assert "x horse" not in "".join(traceback.format_exception(refused.value)) + repr(wrong)


@pytest.mark.parametrize(
    ("parts", "kind", "named"),
    [
        ({"database": "nowhere"}, Missing, "nowhere"),
        ({"username": "nobody"}, InvalidInput, "nobody"),
        ({"query": {}, "host": "127.0.0.1", "port": 1}, Unavailable, "127.0.0.1:1"),
        ({"query": {"connect_timeout": "soon"}, "host": "127.0.0.1", "port": 1}, InvalidInput, "connect_timeout"),
    ],
)
def test_an_unusable_server_is_named_without_the_password(
    postgres: str, parts: dict[str, Any], kind: type[DelaywatchError], named: str
) -> None:
    handler = DBHandler(at(postgres, **{"username": "postgres", "password": "battery staple", **parts}))

    for use in (handler.create, lambda: handler.upsert("airport_days", DAYS, 2018)):
        with pytest.raises(kind, match=named) as refused:
            use()
        assert "battery staple" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    "url",
    [
        "hunter2",
        "postgresql://u:hunter2@host:port/db",
        "postgresql://u:p@hunter2@host/db",
        "postgresql://u:hunter2%00@host/db",
        "postgresql://u:hunter2@host/db?sslmode",
        "mysql://u:hunter2@host/db",
        "postgresql://host/db?sslmode=require&foo=hunter2",
    ],
)
def test_an_invalid_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(InvalidInput, match="warehouse URL") as refused:
        DBHandler(url)

    assert "hunter2" not in "".join(traceback.format_exception(refused.value)).replace(url, "")


@pytest.mark.parametrize("password", ["p#w", "p?w", "50%", "p/w", "p:w"])
def test_a_password_with_a_special_character_of_urls_is_literal(password: str) -> None:
    server = Postgres(f"postgresql://u:{password}@host:5432/db", connect_timeout_s=1, lock_timeout_s=1)

    assert (server.url.password, server.url.host, server.url.database) == (password, "host", "db")
