"""The two kinds of engines that process the parts of a CSV: threads, and a cluster, see `utils.spark`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np

Item = TypeVar("Item")
Result = TypeVar("Result")
RepeatedKeys = dict[int, np.ndarray]  # by month, sorted, uint64


class Cluster(Protocol):
    """An engine whose workers are other processes, perhaps on other machines; it pickles functions and items.

    threads: number of threads of this process, for reading streams and sorting hashes.
    """

    threads: int

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
        """Yield work(item) for each item, in any order. Raises the first error of a worker."""

    def repeated(self, keys_of: Callable[[Item], Mapping[int, np.ndarray]], items: Iterable[Item]) -> RepeatedKeys:
        """Return the keys that occur more than once among the results of `keys_of`, by month, sorted, uint64."""


class Threads:
    """An engine of threads in this process. It takes the next item when a thread is free."""

    def __init__(self, threads: int) -> None:
        """Use at most `threads` threads."""
        self.threads = threads

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
        """Yield work(item) for each item, in any order. Raises the first error after all running calls have ended."""
        waiting = iter(items)
        with ThreadPoolExecutor(self.threads, thread_name_prefix="ingest") as pool:
            running: set[Future[Result]] = set()
            while True:
                running |= {pool.submit(work, item) for item in islice(waiting, self.threads - len(running))}
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()


Engine = Threads | Cluster
