"""The demo's Postgres starts on demand, stops after its last user, and opens no private folder."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo import warehouse
from tests.conftest import sql
from utils.errors import Missing, Unavailable

START_AND_DIE = """
import os, pathlib, sys, demo.warehouse
server = demo.warehouse.running(pathlib.Path(sys.argv[1]))
server.__enter__()
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """The folder of a demo. Its name has a space, which Postgres does not accept; its parent is private."""
    parent = tmp_path / "my projects"
    parent.mkdir(mode=0o700)
    yield parent / "demo"
    warehouse.stop(parent / "demo")
    assert stat.S_IMODE(parent.stat().st_mode) == 0o700


def test_a_server_stops_after_its_last_user_and_keeps_its_data(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warehouse.running(root) as url:
        with warehouse.running(root):
            pass
        sql(url, "CREATE TABLE t AS SELECT 42 AS x")
    assert not warehouse.is_running(root)

    codes = [warehouse.psql(root, ["-At", "-c", query]) for query in ("SELECT x FROM t", "SELECT nonsense")]

    assert codes == [0, 1]
    assert capfd.readouterr().out == "42\n"
    assert not warehouse.is_running(root)


def test_stop_ends_the_server_of_a_killed_demo_and_deletes_its_data_outside_of_the_folder(root: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    killed = subprocess.run([sys.executable, "-c", START_AND_DIE, str(root)], env=environment, check=False)
    data = warehouse.data_folder(root)
    assert killed.returncode == -9
    assert warehouse.is_running(root)

    warehouse.stop(root)

    assert not warehouse.is_running(root)
    assert not data.exists()
    assert not (root / warehouse.POINTER).exists()


def test_psql_needs_a_demo(root: Path) -> None:
    with pytest.raises(Missing, match="make demo"):
        warehouse.psql(root, [])


def test_damaged_data_are_an_error_with_a_way_out(root: Path) -> None:
    with warehouse.running(root):
        pass
    (warehouse.data_folder(root) / "global" / "pg_control").write_bytes(b"")

    with pytest.raises(Unavailable, match="make clean demo"), warehouse.running(root):
        pass
