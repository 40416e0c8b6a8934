"""Calls in child processes: order, errors, and that no child outlives its caller, however the caller was started."""

from __future__ import annotations

import operator
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.servers.startup import wait_until
from utils.errors import Unavailable
from utils.parallel import in_processes

IMPORTS = f"import sys; sys.path[:] = {sys.path!r}\nfrom utils.parallel import in_processes\n"


def children(process: psutil.Process | None = None) -> list[psutil.Process]:
    """The children of in_processes, without multiprocessing's resource tracker."""
    found = []
    for child in (process or psutil.Process()).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # a session of Postgres, which is our child too, can end meanwhile
            if any("spawn_main" in word for word in child.cmdline()):
                found.append(child)
    return found


def test_calls_are_submitted_as_results_are_taken_and_closing_ends_the_children() -> None:
    calls = iter(range(1000))
    results = in_processes(abs, zip(calls), 2, "counted")

    assert [next(results) for _ in range(10)] == list(range(10))
    assert children()
    results.close()

    assert next(calls, 1000) < 20
    assert not children()


def test_an_error_of_a_call_reaches_the_caller() -> None:
    results = in_processes(operator.truediv, [(1, 1), (1, 0), (1, 1)], 2, "divided")

    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert not children()


def test_a_child_that_the_system_kills_makes_the_work_unavailable() -> None:
    with pytest.raises(Unavailable, match="counted"):
        list(in_processes(signal.raise_signal, [(signal.SIGKILL,)] * 9, 2, "counted"))
    assert not children()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_children_end_with_a_caller_that_is_killed(number: signal.Signals) -> None:
    script = IMPORTS + "import time\nlist(in_processes(time.sleep, [(60,)] * 4, 2, 'slept'))"
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL) as caller:
        try:
            process = psutil.Process(caller.pid)
            wait_until(lambda: len(children(process)) == 2, "the caller has two children")
            started = children(process)
            caller.send_signal(number)
            _, alive = psutil.wait_procs(started, timeout=20)
        finally:
            caller.kill()
    for child in alive:
        child.kill()
    assert not alive


FORK = """
import multiprocessing
child = multiprocessing.get_context('fork').Process(target=run, daemon=True)
child.start()
child.join()
"""


@pytest.mark.parametrize("start", ["run()", FORK], ids=["script", "daemon"])
def test_children_do_not_run_the_main_module_of_their_caller(start: str, tmp_path: Path) -> None:
    """An Airflow task is a fork whose main module cannot be imported again; nor can this script."""
    (tmp_path / "script.py").write_text(
        f"{IMPORTS}assert __name__ == '__main__'\n"
        "def run():\n    print(list(in_processes(abs, zip(range(-9, 0)), 2, 'counted')), flush=True)\n"
        f"{start}\n"
    )

    printed = subprocess.check_output([sys.executable, tmp_path / "script.py"], text=True, timeout=60)

    assert printed == f"{list(range(9, 0, -1))}\n"
