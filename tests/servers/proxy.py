"""A TCP proxy that forwards bytes until a client sends the bytes for which a test has set a fault.

It knows no protocol, so it serves Postgres and S3.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

CHUNK_BYTES = 1 << 16


@dataclass
class Link:
    """A client's connection and the connection to the target that belongs to it."""

    client: socket.socket
    target: socket.socket
    answer_left: int | None = None  # bytes of the answer to forward before the connection ends; None: all
    is_hung: bool = False  # nothing is forwarded any more

    def end(self) -> None:
        for side in (self.client, self.target):
            with suppress(OSError):  # the peer has closed it already
                side.shutdown(socket.SHUT_RDWR)


class Proxy:
    """Forward between clients of `port` and the target: `(host, port)` or the path of a Unix socket.

    A fault strikes a connection when the client sends the bytes `trigger`, before they are forwarded. struck: the bytes
    `trigger` of each fault that struck.
    """

    def __init__(self, target: tuple[str, int] | str) -> None:
        self.struck: list[bytes] = []
        self._target = target
        self._faults: dict[bytes, Callable[[Link], None]] = {}
        self._links: list[Link] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept
        self._listener.close()
        for link in self._links:
            link.end()

    # --- faults -------------------------------------------------------------------------------------------------------

    def before(self, trigger: bytes, do: Callable[[], object]) -> None:
        """Call `do` once; then forward."""

        def strike(_: Link) -> None:
            del self._faults[trigger]
            do()

        self._faults[trigger] = strike

    def cut(self, trigger: bytes, after: int | None) -> None:
        """End one connection after so many bytes of the answer; None: forward nothing to the target either."""

        def strike(link: Link) -> None:
            del self._faults[trigger]
            link.answer_left = after
            if after is None:
                link.end()

        self._faults[trigger] = strike

    def hang(self, trigger: bytes) -> None:
        """Keep every connection with the trigger, but forward nothing in either direction."""

        def strike(link: Link) -> None:
            link.is_hung = True

        self._faults[trigger] = strike

    # --- forwarding ---------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        with suppress(OSError):  # closed by `__exit__`
            while True:
                client, _ = self._listener.accept()
                target = socket.socket(socket.AF_UNIX if isinstance(self._target, str) else socket.AF_INET)
                target.connect(self._target)
                self._links.append(Link(client, target))
                threading.Thread(target=self._forward, args=(self._links[-1],), daemon=True).start()

    def _forward(self, link: Link) -> None:
        answers = threading.Thread(target=self._answers, args=(link,), daemon=True)
        answers.start()
        with suppress(OSError):  # one side has closed the connection
            self._requests(link)
        link.end()
        answers.join()
        link.client.close()
        link.target.close()

    def _requests(self, link: Link) -> None:
        seen = b""
        while chunk := link.client.recv(CHUNK_BYTES):
            for trigger, strike in list(self._faults.items()):
                if trigger in seen[len(seen) - len(trigger) + 1 :] + chunk:
                    self.struck.append(trigger)
                    strike(link)
            seen = chunk
            if not link.is_hung:
                link.target.sendall(chunk)

    def _answers(self, link: Link) -> None:
        with suppress(OSError):  # one side has closed the connection
            while chunk := link.target.recv(CHUNK_BYTES):
                if not link.is_hung:
                    link.client.sendall(chunk[: link.answer_left])
                if link.answer_left is not None:
                    link.answer_left -= len(chunk)
                    if link.answer_left <= 0:
                        break
        link.end()
