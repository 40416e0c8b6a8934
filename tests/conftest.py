"""Postgres, SeaweedFS and moto for the test session, and an empty warehouse for each test that requests one."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from hypothesis import settings
from sqlalchemy import make_url

from tests.servers.postgres import running_server
from utils.db_handler import DBHandler

NUMBERS = itertools.count(1)

pytest.register_assert_rewrite("tests.months")  # its assertions then show the values

settings.register_profile("untimed", settings(), deadline=None)  # a slow machine must not fail a test
settings.load_profile("untimed")


def sql(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements without DBHandler, each in its own transaction, and return the rows of the last one."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []


def at(url: str, **parts: Any) -> str:
    """Return the URL with another database, username, password, host or port."""
    return make_url(url).set(**parts).render_as_string(hide_password=False)


def database_of(url: str) -> str:
    """Return the name of the database in the URL."""
    return str(make_url(url).database)


def sql_in(error: BaseException) -> list[str]:
    """Return the SQL statements that a message quotes, without commands of Delaywatch."""
    return [quoted for quoted in re.findall("`(.*?)`", str(error)) if not quoted.startswith("python")]


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """The address of moto, which plays all services of AWS."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def seaweedfs_url() -> Iterator[str]:
    """The address of the S3 server of a SeaweedFS."""
    from tests.servers.seaweedfs import seaweedfs

    with seaweedfs() as url:
        yield url


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The superuser's URL of a server whose database `template_warehouse` has our tables without rows."""
    with running_server() as server:
        sql(server.url, "CREATE DATABASE template_warehouse")
        DBHandler(at(server.url, database="template_warehouse")).create()
        yield server.url


def fresh(postgres: str, template: str) -> Iterator[str]:
    name = f"test_{next(NUMBERS)}"
    # WAL_LOG, the default, needs twice the CPU time.
    sql(postgres, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    yield at(postgres, database=name)
    sql(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_database(postgres: str) -> Iterator[str]:
    """The superuser's URL of a database without our tables."""
    yield from fresh(postgres, "template1")


@pytest.fixture
def warehouse(postgres: str) -> Iterator[str]:
    """The superuser's URL of a database with our tables without rows."""
    yield from fresh(postgres, "template_warehouse")


@pytest.fixture
def other_warehouse(postgres: str) -> Iterator[str]:
    """The superuser's URL of a second such database."""
    yield from fresh(postgres, "template_warehouse")
