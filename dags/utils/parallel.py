"""Call a function in child processes."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from typing import Any, TypeVar

from utils.errors import Unavailable

Result = TypeVar("Result")

_STARTING = threading.Lock()


def in_processes(
    work: Callable[..., Result], calls: Iterable[tuple[Any, ...]], processes: int, activity: str
) -> Generator[Result, None, None]:
    """Yield work(*call) for each of `calls`, in their order, with at most 2 submitted calls per process.

    activity: the work in the past tense for the error message, e.g. `ran a detector on 2018`. The processes end when
    the generator ends or is closed, and when this process is killed. If `processes` is 1, or in a daemonic process,
    which may not have children, the calls run in this process. Raises the exceptions of `work`, and Unavailable if the
    system ends a process.
    """
    if processes < 2 or multiprocessing.current_process().daemon:
        yield from (work(*call) for call in calls)
    else:
        yield from _in_pool(work, calls, processes, activity)


def in_new_process(work: Callable[..., Result], *call: Any, activity: str) -> Result:
    """Return work(*call) from a new process, whose memory is freed when it ends. Raises like `in_processes`."""
    (result,) = _in_pool(work, [call], 1, activity)
    return result


def _in_pool(
    work: Callable[..., Result], calls: Iterable[tuple[Any, ...]], processes: int, activity: str
) -> Generator[Result, None, None]:
    # spawn, not fork: Arrow, BLAS and boto3 have threads, and a forked process with threads can hang.
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _end_with_parent)
    submitted: deque[Future[Result]] = deque()
    try:
        for call in calls:
            if len(submitted) == 2 * processes:
                yield submitted.popleft().result()
            with _without_main():
                submitted.append(pool.submit(work, *call))
        while submitted:
            yield submitted.popleft().result()
    except BrokenProcessPool as error:
        raise Unavailable(
            f"The system ended a process that {activity}, probably because memory ran out; set DELAYWATCH_THREADS=1 or "
            "give the machine more memory, then run the step again."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _without_main() -> Iterator[None]:
    """Start processes that do not import the caller's main module.

    `spawn` imports it unless it is the `__main__` of a package. A script without `if __name__ == "__main__":` would run
    again in each process. In an Airflow task the main module is the command `airflow`. Its import fails in a child
    process, because Airflow hides the address of its database from tasks.
    """
    main = sys.modules["__main__"]
    with _STARTING:
        spec, main.__spec__ = main.__spec__, ModuleSpec("utils.__main__", None)
        try:
            yield
        finally:
            main.__spec__ = spec


def _end_with_parent() -> None:
    """Kill this process when its parent ends, and exit without a traceback on SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    def wait() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
        signal.raise_signal(signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()
