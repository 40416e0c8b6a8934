"""Keep pages that take long to draw."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from utils.web.data import KEEP_S

MAX_RENDERED = 50  # pages of about 100 kB


class Rendered:
    """Pages of the network, which take long to draw, until the next run or label, and at most KEEP_S. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep no page yet."""
        self._clock, self._lock = clock, threading.Lock()
        self._kept: OrderedDict[tuple[str, str], tuple[tuple[Any, ...], float, str]] = OrderedDict()

    def page(self, path: str, user: str, version: tuple[Any, ...], draw: Callable[[], str]) -> str:
        """Return the page of the path for the user, drawn again if the version has changed."""
        key = path, user
        with self._lock:
            kept = self._kept.get(key)
            if kept:
                self._kept.move_to_end(key)
        if kept and kept[0] == version and self._clock() < kept[1]:
            return kept[2]
        html = draw()
        with self._lock:
            self._kept[key] = version, self._clock() + KEEP_S, html
            while len(self._kept) > MAX_RENDERED:
                self._kept.popitem(last=False)
        return html
