"""Errors of a server that refuses a connection or fails on an open one: class, place, no password."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import pytest

from tests.builders import airport_day_row, airport_days_table
from tests.conftest import at, sql
from utils.db_handler import DBHandler
from utils.errors import Busy, DelaywatchError, InvalidInput, Missing, Unavailable
from utils.warehouse.connection import Postgres

DAYS = airport_days_table(airport_day_row())


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


def test_a_silent_server_is_noticed_within_a_minute_unless_the_url_has_other_limits(postgres: str) -> None:
    limits = []
    for url in (postgres, f"{postgres}&connect_timeout=3&tcp_user_timeout=7000&keepalives_idle=4"):
        with Postgres(url, connect_timeout_s=5, lock_timeout_s=5).connected("testing") as connection:
            used = connection.connection.dbapi_connection.info.dsn_parameters  # type: ignore[union-attr]
        limits.append({name: int(used[name]) for name in used if name.startswith(("connect_t", "tcp_u", "keepalives"))})

    ours, of_url = limits
    assert ours["connect_timeout"] == 5
    assert ours["tcp_user_timeout"] == 60_000
    assert ours["keepalives_idle"] + ours["keepalives_interval"] * ours["keepalives_count"] == 60
    assert of_url == ours | {"connect_timeout": 3, "tcp_user_timeout": 7000, "keepalives_idle": 4}
