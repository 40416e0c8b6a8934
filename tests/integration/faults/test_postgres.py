"""A Postgres that restarts, hangs, is full, locked or of another release: the old year stays, and the next run is done.

The server is real, and the faults are its own or those of a proxy before it; moto and Airflow are not needed for this.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from tests.conftest import at, sql, wait_until
from tests.integration.faults.conftest import behind, fault, without_xmin
from tests.servers.postgres import Server
from tests.servers.proxy import Proxy
from tests.steps import STEPS, YEAR, files, rows
from utils.db_handler import DBHandler
from utils.settings import Settings

ROOT = Path(__file__).parents[3]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.faults,
]  # in sum: `make test-faults` runs them, or pytest with the file's name
FIRST_COPY, LAST_TABLE, LAST_MERGE, COMMIT = (
    b'COPY "pg_temp"',
    b'FROM "flights"."bronze_quality" WITH NO DATA',  # when all other tables are written
    b'"missing_months" = "batch"."missing_months"',
    b"COMMIT",
)
Check = Callable[[], None]
NEEDING = ("detect", "explain", "upsert", "publish")  # the steps that meet the warehouse


@pytest.fixture
def settings(new_lake: Path, database: str, proxy: Proxy, tmp_path: Path) -> Settings:
    """The old year in a warehouse behind the proxy, and a lake in which only the warehouse's steps are left to do."""
    shutil.copytree(new_lake, tmp_path / "lake")
    return Settings(lake=(tmp_path / "lake").as_uri(), warehouse=behind(proxy, database), scratch=tmp_path, threads=2)


@pytest.fixture(scope="session")
def wanted(new_lake: Path, server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The rows of the new year, as a run without a fault brings them."""
    sql(server.url, "CREATE DATABASE wanted TEMPLATE template_old_year")
    settings = Settings(
        lake=new_lake.as_uri(), warehouse=at(server.url, database="wanted"), scratch=tmp_path_factory.mktemp("wanted")
    )
    STEPS["upsert"](settings)
    return without_xmin(rows(settings))


@pytest.fixture
def survived(database: str, settings: Settings, wanted: dict[str, object], proxy: Proxy) -> Check:
    """What holds after a fault: the old year is as it was in lake and warehouse, and the next run brings the new."""
    past_proxy = settings.replace(warehouse=database)
    before, in_lake = rows(past_proxy), files(settings)

    def check() -> None:
        proxy.heal()
        assert rows(past_proxy) == before
        assert files(settings) == in_lake
        STEPS["upsert"](settings)
        STEPS["publish"](settings)
        assert without_xmin(rows(past_proxy)) == wanted

    return check


def in_the_upsert(proxy: Proxy, plan: Callable[[], None]) -> None:
    """Plan a fault when rows begin to come in: what goes before says COMMIT, too."""
    proxy.before(b"CREATE TEMPORARY TABLE batch", plan)


def name_of(database: str) -> str:
    return str(sql(database, "SELECT current_database()")[0][0])


# --- the server goes away ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [FIRST_COPY, LAST_TABLE, LAST_MERGE, COMMIT], ids=lambda said: said.decode())
@pytest.mark.parametrize("how", ["restart", "crash"])
def test_a_restart_in_the_upsert_changes_no_row_of_any_table(
    settings: Settings, server: Server, proxy: Proxy, survived: Check, said: bytes, how: str
) -> None:
    in_the_upsert(proxy, lambda: proxy.before(said, getattr(server, how)))

    told = fault(lambda: STEPS["upsert"](settings))

    assert said in proxy.struck
    assert told.startswith("The connection to the warehouse ")
    assert told.endswith("every year there is whole, old or new but never half, so run the step again.")
    survived()


def test_a_session_that_the_kernel_kills_for_want_of_memory_changes_no_row(
    settings: Settings, database: str, server: Server, proxy: Proxy, survived: Check
) -> None:
    name = name_of(database)
    proxy.before(LAST_MERGE, lambda: server.kill_session(name))

    assert "was lost while writing bronze_quality 2015" in fault(lambda: STEPS["upsert"](settings))
    survived()


@pytest.mark.parametrize("said", [FIRST_COPY, LAST_MERGE, COMMIT], ids=lambda said: said.decode())
def test_a_connection_that_is_cut_before_the_server_hears_it_changes_no_row(
    settings: Settings, proxy: Proxy, survived: Check, said: bytes
) -> None:
    in_the_upsert(proxy, lambda: proxy.cut(said))

    assert "was lost while writing" in fault(lambda: STEPS["upsert"](settings))
    survived()


def test_a_commit_whose_answer_is_lost_leaves_the_new_year_whole_and_the_next_run_writes_nothing(
    settings: Settings, database: str, proxy: Proxy, wanted: dict[str, object]
) -> None:
    in_the_upsert(proxy, lambda: proxy.cut(COMMIT, after=0))

    assert "was lost while writing the tables of 2015" in fault(lambda: STEPS["upsert"](settings))

    past_proxy = settings.replace(warehouse=database)
    written = rows(past_proxy)
    assert without_xmin(written) == wanted
    proxy.heal()
    STEPS["upsert"](settings)
    assert rows(past_proxy) == written


@pytest.mark.parametrize("step", NEEDING)
def test_a_server_that_refuses_connections_is_named(
    settings: Settings, proxy: Proxy, survived: Check, step: str
) -> None:
    proxy.refuse()

    told = fault(lambda: STEPS[step](settings))

    assert told.startswith("No Postgres answers at the warehouse ")
    assert told.endswith(f"at 127.0.0.1:{proxy.port}; start it, or correct host and port in the warehouse URL.")
    survived()


def test_a_server_that_takes_the_connection_and_says_nothing_is_named(
    settings: Settings, proxy: Proxy, survived: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch, connect_timeout_s=2)
    proxy.hang(b"application_name\0delaywatch")

    assert "No Postgres answers at the warehouse" in fault(lambda: STEPS["upsert"](settings))
    survived()


def test_a_slow_line_is_waited_for(settings: Settings, proxy: Proxy, database: str, wanted: dict[str, object]) -> None:
    proxy.trickle(b"application_name\0delaywatch", bytes_per_s=20_000)

    STEPS["upsert"](settings)

    assert without_xmin(rows(settings.replace(warehouse=database))) == wanted


@pytest.mark.parametrize("whose", ["both", "ours"])
def test_a_network_that_swallows_packets_is_noticed(
    settings: Settings, server: Server, database: str, survived: Check, whose: str
) -> None:
    """While we wait for an answer, or while we send; it may be silent for 2 s instead of a minute."""
    if subprocess.run(["unshare", "--net", "iptables", "--list"], check=False, capture_output=True).returncode:
        pytest.skip("this user may make no network, or there is no iptables")
    upsert = ["-m", "tests.integration.faults.swallowing", settings.lake, server.socket, name_of(database), whose]
    done = subprocess.run(
        ["unshare", "--net", sys.executable, *upsert],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'dags'}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,  # without our limit the kernel tries for a quarter of an hour
    )

    assert "was lost while writing airport_days 2015" in done.stdout, done.stderr
    survived()


def test_the_command_ends_with_one_line(settings: Settings, server: Server, proxy: Proxy, survived: Check) -> None:
    proxy.before(LAST_MERGE, server.crash)

    done = subprocess.run(
        [sys.executable, "-m", "utils", "upsert", "--year", str(YEAR), "--lake", settings.lake],
        env={**os.environ, "PYTHONPATH": str(ROOT / "dags"), "DELAYWATCH_WAREHOUSE": settings.warehouse},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("Error: The connection to the warehouse ")
    survived()


# --- the server is there and cannot -----------------------------------------------------------------------------------


def impatient(monkeypatch: pytest.MonkeyPatch, **seconds: int) -> None:
    """The steps wait for the warehouse so long instead of ten minutes for a lock and ten seconds for a connection."""
    defaults = DBHandler.__init__.__kwdefaults__ or {}
    assert set(seconds) <= set(defaults)
    for name, value in seconds.items():
        monkeypatch.setitem(defaults, name, value)


@pytest.mark.parametrize(
    "lock",
    [
        "LOCK TABLE flights.bronze_quality IN SHARE MODE",
        "LOCK TABLE flights.airport_days",
        "SELECT * FROM flights.airport_days FOR UPDATE",
    ],
)
def test_a_lock_of_somebody_else_is_waited_for_and_then_told(
    settings: Settings, database: str, survived: Check, monkeypatch: pytest.MonkeyPatch, lock: str
) -> None:
    impatient(monkeypatch, lock_timeout_s=1)
    with closing(psycopg2.connect(database)) as other, other.cursor() as cursor:
        cursor.execute(lock)

        told = fault(lambda: STEPS["upsert"](settings))

    assert told.startswith("Another session blocked ")
    assert told.endswith("for more than 1 s; let it end, then run the step again.")
    survived()


def test_a_lock_that_ends_in_time_is_only_waited_for(
    settings: Settings, database: str, proxy: Proxy, wanted: dict[str, object]
) -> None:
    """It ends when the server itself says that somebody waits for it."""
    other = psycopg2.connect(database)
    with closing(other), other.cursor() as cursor:
        cursor.execute("LOCK TABLE flights.bronze_quality IN SHARE MODE")
        waiting = "SELECT 1 FROM pg_locks WHERE relation = 'flights.bronze_quality'::regclass AND NOT granted"

        def let_go() -> None:
            wait_until(lambda: bool(sql(database, waiting)))
            other.rollback()

        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(let_go)
            STEPS["upsert"](settings)
        ended.result()

    assert without_xmin(rows(settings.replace(warehouse=database))) == wanted


@pytest.fixture
def small_disk(server: Server, database: str) -> Iterator[Callable[[int], None]]:
    """The database lies on a small disk; the call leaves so many bytes of it free."""
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    name = name_of(database)
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
        found = os.statvfs(filler.parent)
        size = found.f_bavail * found.f_frsize - free_bytes
        filler.write_bytes(b"\0" * max(0, size))

    yield leave
    leave(1 << 40)
    sql(server.url, f"ALTER DATABASE {name} SET TABLESPACE pg_default", "DROP TABLESPACE small")
    server.restart()


@pytest.mark.parametrize("free_bytes", [0, 200_000, 900_000])
def test_a_disk_that_is_really_full_is_named_and_changes_no_row(
    settings: Settings, small_disk: Callable[[int], None], survived: Check, free_bytes: int
) -> None:
    small_disk(free_bytes)

    told = fault(lambda: STEPS["upsert"](settings))

    assert told.startswith("The disk of the warehouse ")
    assert told.endswith("failed and nothing was changed; free some space and run the step again.")
    small_disk(1 << 40)
    survived()


# --- another release --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["detect", "explain", "upsert"])
def test_tables_of_a_newer_release_are_left_alone(
    settings: Settings, database: str, survived: Check, step: str
) -> None:
    (known,) = sql(database, "SELECT version_num FROM flights.alembic_version")[0]
    sql(database, "UPDATE flights.alembic_version SET version_num = '9999'")

    told = fault(lambda: STEPS[step](settings))

    assert "at revision 9999, which this release does not know" in told
    assert "install the release that wrote them, or restore the backup from before it." in told
    sql(database, f"UPDATE flights.alembic_version SET version_num = '{known}'")
    survived()


def test_a_restart_while_tables_are_created_leaves_none_and_the_next_run_creates_them(
    settings: Settings, server: Server, database: str, proxy: Proxy, wanted: dict[str, object]
) -> None:
    sql(database, "DROP SCHEMA flights CASCADE")
    proxy.before(b"CREATE TABLE flights.event_days", server.crash)

    assert "was lost while creating the tables" in fault(lambda: STEPS["upsert"](settings))

    proxy.heal()
    assert sql(database, "SELECT to_regnamespace('flights')") == [(None,)]
    STEPS["upsert"](settings)
    assert without_xmin(rows(settings.replace(warehouse=database))) == wanted
