"""A Postgres that restarts, hangs, is full or locked: the old year stays complete, and the next run writes the new one.

The server is real, and the faults are its own or those of a proxy in front of it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import at, database_of, sql
from tests.integration.faults.conftest import behind, without_xmin
from tests.servers.postgres import Server
from tests.servers.proxy import Proxy
from tests.steps import STEPS, files, rows
from utils.errors import InvalidInput, Unavailable
from utils.settings import Settings

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.faults
FIRST_COPY, LAST_TABLE, LAST_MERGE, COMMIT = (
    b'COPY "pg_temp"',
    b'FROM "flights"."bronze_quality" WITH NO DATA',  # when all other tables are written
    b'"missing_months" = "batch"."missing_months"',
    b"COMMIT",
)
Check = Callable[[], None]


@pytest.fixture
def settings(new_lake: Path, database: str, proxy: Proxy, tmp_path: Path) -> Settings:
    """The old year in a warehouse behind the proxy, and a lake in which only the steps of the warehouse are left."""
    shutil.copytree(new_lake, tmp_path / "lake")
    return Settings(lake=(tmp_path / "lake").as_uri(), warehouse=behind(proxy, database), scratch=tmp_path, threads=2)


@pytest.fixture
def check_recovery(database: str, settings: Settings, expected_rows: dict[str, object], proxy: Proxy) -> Check:
    """Assert after a fault that lake and warehouse have the old year, and that the next run writes the new one."""
    past_proxy = settings.replace(warehouse=database)
    before, in_lake = rows(past_proxy), files(settings)

    def check() -> None:
        proxy.heal()
        assert rows(past_proxy) == before
        assert files(settings) == in_lake
        STEPS["upsert"](settings)
        STEPS["publish"](settings)
        assert without_xmin(rows(past_proxy)) == expected_rows

    return check


def during_upsert(proxy: Proxy, plan: Callable[[], None]) -> None:
    """Plan a fault when the first batch arrives: earlier transactions commit too."""
    proxy.before(b"CREATE TEMPORARY TABLE batch", plan)


# --- the server or the connection fails -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "statement"),
    [
        ("crash", FIRST_COPY),
        ("restart", LAST_TABLE),
        ("kill_session", LAST_MERGE),
        ("cut", LAST_MERGE),
        ("crash", COMMIT),
        ("cut", COMMIT),
    ],
)
def test_a_fault_in_the_upsert_changes_no_row_of_any_table(
    settings: Settings, server: Server, database: str, proxy: Proxy, check_recovery: Check, how: str, statement: bytes
) -> None:
    fail = {
        "crash": lambda: proxy.before(statement, server.crash),
        "restart": lambda: proxy.before(statement, server.restart),
        "kill_session": lambda: proxy.before(statement, lambda: server.kill_session(database_of(database))),
        "cut": lambda: proxy.cut(statement),
    }
    during_upsert(proxy, fail[how])

    with pytest.raises(Unavailable, match="2015"):
        STEPS["upsert"](settings)

    assert statement in proxy.struck
    check_recovery()


def test_a_commit_without_an_answer_is_not_repeated(
    settings: Settings, database: str, proxy: Proxy, expected_rows: dict[str, object]
) -> None:
    during_upsert(proxy, lambda: proxy.cut(COMMIT, after=0, times=1))  # a second try would succeed

    with pytest.raises(Unavailable, match="tables of 2015"):
        STEPS["upsert"](settings)

    past_proxy = settings.replace(warehouse=database)
    written = rows(past_proxy)
    assert without_xmin(written) == expected_rows
    proxy.heal()
    STEPS["upsert"](settings)
    assert rows(past_proxy) == written


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        *(pytest.param(step, "refuse", marks=pytest.mark.slow) for step in ("detect", "explain", "upsert", "publish")),
        ("upsert", "hang"),
    ],
)
def test_a_server_that_does_not_answer_is_named(
    settings: Settings, proxy: Proxy, check_recovery: Check, step: str, fault: str
) -> None:
    impatient = settings.replace(warehouse=at(settings.warehouse, query={"connect_timeout": "2"}))
    proxy.refuse() if fault == "refuse" else proxy.hang(b"application_name\0delaywatch")

    with pytest.raises(Unavailable, match=f"127.0.0.1:{proxy.port}"):
        STEPS[step](impatient)

    check_recovery()


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["both", "ours"])
def test_a_network_that_drops_packets_is_noticed(
    settings: Settings, server: Server, database: str, check_recovery: Check, direction: str
) -> None:
    """While the client waits for an answer, or while it sends. The silence may last 2 s instead of a minute."""
    if subprocess.run(["unshare", "--net", "iptables", "--list"], check=False, capture_output=True).returncode:
        pytest.skip("this user may not create a network, or iptables is missing")
    program = ["unshare", "--net", sys.executable, "-m", "tests.integration.faults.swallowing"]
    done = subprocess.run(
        [*program, settings.lake, server.socket, database_of(database), direction],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'dags'}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,  # without our limit the kernel tries for a quarter of an hour
    )

    assert re.match("Unavailable: .*airport_days 2015", done.stdout), done.stderr
    check_recovery()


# --- the server answers with an error ---------------------------------------------------------------------------------


@pytest.fixture
def small_disk(server: Server, database: str) -> Iterator[Callable[[int], None]]:
    """Put the database on a small disk; the call leaves so many bytes of it free."""
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    name = database_of(database)
    server.stop()
    server.start(small_disk_bytes=100 << 20)
    sql(
        server.url,
        f"CREATE TABLESPACE small LOCATION '{server.small_disk}'",
        f"ALTER DATABASE {name} SET TABLESPACE small",
    )
    filler = server.on_small_disk("filler")

    def leave(free_bytes: int) -> None:
        filler.unlink(missing_ok=True)
        disk = os.statvfs(filler.parent)
        filler.write_bytes(b"\0" * max(0, disk.f_bavail * disk.f_frsize - free_bytes))

    yield leave
    leave(1 << 40)
    sql(server.url, f"ALTER DATABASE {name} SET TABLESPACE pg_default", "DROP TABLESPACE small")
    server.restart()


@pytest.mark.slow
@pytest.mark.parametrize("free_bytes", [0, 200_000, 900_000])
def test_a_full_disk_is_named_and_changes_no_row(
    settings: Settings, small_disk: Callable[[int], None], check_recovery: Check, free_bytes: int
) -> None:
    small_disk(free_bytes)

    with pytest.raises(Unavailable, match="disk of the warehouse"):
        STEPS["upsert"](settings)

    small_disk(1 << 40)
    check_recovery()


@pytest.mark.slow
@pytest.mark.parametrize("step", ["detect", "explain", "upsert"])
def test_tables_of_a_newer_release_stop_each_step(
    settings: Settings, database: str, check_recovery: Check, step: str
) -> None:
    (known,) = sql(database, "SELECT version_num FROM flights.alembic_version")[0]
    sql(database, "UPDATE flights.alembic_version SET version_num = '9999'")

    with pytest.raises(InvalidInput, match="9999"):
        STEPS[step](settings)

    sql(database, f"UPDATE flights.alembic_version SET version_num = '{known}'")
    check_recovery()


@pytest.mark.slow
def test_a_crash_while_tables_are_created_leaves_none_and_the_next_run_creates_them(
    settings: Settings, server: Server, database: str, proxy: Proxy, expected_rows: dict[str, object]
) -> None:
    sql(database, "DROP SCHEMA flights CASCADE")
    proxy.before(b"CREATE TABLE flights.event_days", server.crash)

    with pytest.raises(Unavailable, match="creating the tables"):
        STEPS["upsert"](settings)

    proxy.heal()
    assert sql(database, "SELECT to_regnamespace('flights')") == [(None,)]
    STEPS["upsert"](settings)
    assert without_xmin(rows(settings.replace(warehouse=database))) == expected_rows | {"verdict_changes": []}
