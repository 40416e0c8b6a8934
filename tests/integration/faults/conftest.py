"""An old year that is done and a new file of it in bronze, on servers behind a proxy that makes them fail.

The old year must be there, whole, after every fault, and the next run must bring what a run without a fault brings.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import at, fresh, sql
from tests.servers.postgres import Server
from tests.servers.proxy import Proxy
from tests.steps import BRONZE, BRONZE_KEY, OTHER_BRONZE, STEPS, run
from utils.db_handler import DBHandler
from utils.errors import DelaywatchError
from utils.settings import Settings
from utils.storage.lake import Lake

OLD = "template_old_year"


def fault(call: Callable[[], object]) -> str:
    """The one sentence that the call ends with."""
    with pytest.raises(DelaywatchError) as error:
        call()
    told = str(error.value)
    assert "\n" not in told
    assert told.endswith(".")
    return told


def without_xmin(rows: dict[str, object]) -> dict[str, object]:
    """The rows alone, without the transactions that wrote them."""
    return {table: [row for _, row in found] for table, found in rows.items()}  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A Postgres that a test may stop and start; it runs when a test begins."""
    folder = Path(tempfile.mkdtemp(prefix="delaywatch-faults-"))
    server = Server(folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def old_year(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with the whole old year, and the database OLD with its rows; nothing may change them."""
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
    """The same lake with the new file in bronze and every step done that comes before the warehouse."""
    lake = tmp_path_factory.mktemp("new") / "lake"
    shutil.copytree(old_year, lake)
    settings = Settings(lake=lake.as_uri(), warehouse=at(server.url, database=OLD), scratch=lake.parent, threads=2)
    Lake(settings).store.put(BRONZE_KEY, BRONZE)
    for step in ("silver", "gold", "detect", "explain"):
        STEPS[step](settings)
    return lake


@pytest.fixture
def database(server: Server, old_year: Path) -> Iterator[str]:
    """The superuser's URL of a database with the old year, past the proxy."""
    yield from fresh(server.url, OLD)


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """What stands between a test and the Postgres."""
    with Proxy(server.socket) as proxy:
        yield proxy


def behind(proxy: Proxy, url: str) -> str:
    """The URL of the same database, through the proxy."""
    return at(url, host="127.0.0.1", port=proxy.port, query={})
