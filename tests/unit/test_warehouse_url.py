"""The warehouse URL, and the errors of a refused connection: class, way out, no password."""

from __future__ import annotations

import traceback

import pytest

from utils.db_handler import DBHandler
from utils.errors import DelaywatchError, InvalidInput, Missing, Unavailable
from utils.warehouse.connection import Postgres, refusal

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
