"""A finished old year and a new bronze file of it, on servers behind a proxy that causes faults.

After every fault the old year must be complete, and the next run must give the same result as a run without a fault.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import at, fresh, sql
from tests.servers.postgres import Server, running_server
from tests.servers.proxy import Proxy
from tests.steps import BRONZE, BRONZE_KEY, OTHER_BRONZE, STEPS, rows, run
from utils.db_handler import DBHandler
from utils.settings import Settings
from utils.storage.lake import Lake

OLD = "template_old_year"


def without_xmin(tables: dict[str, object]) -> dict[str, object]:
    """Return the rows without the transactions that wrote them."""
    return {name: [row for _, row in table] for name, table in tables.items()}  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A Postgres that tests may stop; it runs at the beginning of each test."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def old_year(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with the finished old year; the database OLD has its rows. Tests must not change them."""
    sql(server.url, f"CREATE DATABASE {OLD}")
    warehouse = at(server.url, database=OLD)
    DBHandler(warehouse).create()
    lake = tmp_path_factory.mktemp("old") / "lake"
    settings = Settings(lake=lake.as_uri(), warehouse=warehouse, scratch=lake.parent, threads=2)
    Lake(settings).store.put(BRONZE_KEY, OTHER_BRONZE)
    run(settings)
    return lake


@pytest.fixture(scope="session")
def new_lake(old_year: Path, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the lake with the new file in bronze, after all steps that precede the upsert."""
    lake = tmp_path_factory.mktemp("new") / "lake"
    shutil.copytree(old_year, lake)
    settings = Settings(lake=lake.as_uri(), warehouse=at(server.url, database=OLD), scratch=lake.parent, threads=2)
    Lake(settings).store.put(BRONZE_KEY, BRONZE)
    for step in ("silver", "gold", "detect", "explain"):
        STEPS[step](settings)
    return lake


@pytest.fixture(scope="session")
def expected_rows(new_lake: Path, server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The rows of the new year after a run without a fault."""
    sql(server.url, f"CREATE DATABASE expected TEMPLATE {OLD}")
    folder = tmp_path_factory.mktemp("expected")
    settings = Settings(lake=new_lake.as_uri(), warehouse=at(server.url, database="expected"), scratch=folder)
    STEPS["upsert"](settings)
    return without_xmin(rows(settings))


@pytest.fixture
def database(server: Server, old_year: Path) -> Iterator[str]:
    """The superuser's URL of a database with the old year, without the proxy."""
    yield from fresh(server.url, OLD)


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """A proxy in front of the Postgres."""
    with Proxy(server.socket) as proxy:
        yield proxy


def behind(proxy: Proxy, url: str) -> str:
    """Return the URL of the same database through the proxy."""
    return at(url, host="127.0.0.1", port=proxy.port, query={})
