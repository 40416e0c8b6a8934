"""Let an action fail at its first write to a store, then at its second, and so on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from utils.storage.stores import Store

WRITES = ("adopt", "put", "put_if", "upload", "delete")


def fail_at_each_write(
    action: Callable[[], object], store: type[Store], error: type[BaseException], *, in_a_row: int = 1
) -> Iterator[None]:
    """Run `action` until no write fails; yield after each fault, so that the caller can check what is left.

    in_a_row: number of runs that fail at the first write, then at the second, and so on.
    Fails the test if no fault struck, or if `action` hides a fault.
    """
    for number in itertools.count():
        for _ in range(in_a_row):
            writes = itertools.count()

            def failing(write: Callable[..., object], writes: Iterator[int] = writes, number: int = number) -> Any:
                def wrapped(store: Store, *arguments: Any) -> object:
                    if next(writes) == number:
                        raise error("A write fails.")
                    return write(store, *arguments)

                return wrapped

            with pytest.MonkeyPatch.context() as patch:
                for name in WRITES:
                    patch.setattr(store, name, failing(getattr(store, name)))
                try:
                    action()
                except error:
                    has_failed = True
                else:
                    has_failed = False
            has_struck = next(writes) > number
            assert has_failed == has_struck
            if not has_struck:
                assert number > 0, "the action writes nothing"
                return
            yield
