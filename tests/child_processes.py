"""Count the processes that an action starts."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def count_children(action: Callable[[], Result]) -> tuple[Result, int]:
    """Return the result of the action, and how many processes it created with multiprocessing."""
    first = _number_of_next_child()
    result = action()
    return result, _number_of_next_child() - first - 1


def _number_of_next_child() -> int:
    """Return the number of a new process, which is not started: multiprocessing names the N-th child Process-N."""
    return int(multiprocessing.Process().name.rpartition("-")[2].rpartition(":")[2])
