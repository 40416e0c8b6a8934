"""The demo's Postgres: started when asked, stopped when done, never where it would have to open a private folder."""

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
from utils.errors import DelaywatchError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder for a demo. pytest closes its folders to others, so the server of root lives elsewhere until `stop`."""
    folder = tmp_path / "demo"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a demo whose server was made before, and does not run."""
    root = tmp_path_factory.mktemp("made")
    with warehouse.running(root) as url:
        sql(url, "CREATE TABLE t AS SELECT 42 AS x")
    yield root
    warehouse.stop(root)


def test_the_data_are_still_there_when_the_server_is_started_again(made: Path) -> None:
    assert not warehouse.is_running(made)

    with warehouse.running(made) as url:
        assert sql(url, "SELECT x FROM t") == [(42,)]
        assert warehouse.is_running(made)


def test_a_server_stays_up_until_the_last_one_leaves(made: Path) -> None:
    with warehouse.running(made) as url:
        with warehouse.running(made):
            pass
        assert sql(url, "SELECT 1") == [(1,)]
    assert not warehouse.is_running(made)


def test_stop_ends_what_a_killed_demo_left_running_and_removes_what_lies_outside(root: Path) -> None:
    start = "import os, sys, pathlib, demo.warehouse as w; up = w.running(pathlib.Path(sys.argv[1])); up.__enter__()"
    killed = subprocess.run(
        [sys.executable, "-c", f"{start}; os.kill(os.getpid(), 9)", str(root)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        check=False,
    )
    data, was_left_running = warehouse.data_folder(root), warehouse.is_running(root)

    warehouse.stop(root)

    assert killed.returncode == -9
    assert was_left_running
    assert not warehouse.is_running(root)
    assert data.exists() == data.is_relative_to(root)
    assert not (root / warehouse.POINTER).exists()


def test_the_server_works_below_a_folder_whose_name_has_a_space_and_opens_it_to_nobody(tmp_path: Path) -> None:
    private = tmp_path / "my projects"
    private.mkdir(mode=0o700)

    with warehouse.running(private / "demo") as url:
        assert sql(url, "SELECT 1") == [(1,)]

    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    warehouse.stop(private / "demo")


def test_psql_runs_one_question_and_passes_its_exit_code_on(made: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warehouse.running(made):
        codes = [warehouse.psql(made, ["-At", "-c", question]) for question in ("SELECT x FROM t", "SELECT nonsense")]

    assert codes == [0, 1]
    assert capfd.readouterr().out == "42\n"


def test_psql_before_any_demo_says_what_to_run_first(root: Path) -> None:
    with pytest.raises(DelaywatchError, match="run `make demo` first"):
        warehouse.psql(root, [])


def test_damaged_data_give_one_sentence_with_a_way_out(root: Path) -> None:
    with warehouse.running(root):
        pass
    (warehouse.data_folder(root) / "global" / "pg_control").write_bytes(b"")

    with pytest.raises(DelaywatchError, match="make clean demo"), warehouse.running(root):
        pass
    warehouse.stop(root)
