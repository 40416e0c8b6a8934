"""A TCP proxy that forwards bytes until a client sends the bytes for which a test has set a fault.

It knows no protocol, so it serves Postgres and S3.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

CHUNK_BYTES = 1 << 16
ALWAYS = 1 << 30  # times


@dataclass
class Link:
    """A client's connection and the connection to the target that belongs to it."""

    client: socket.socket
    target: socket.socket
    answer_left: int | None = None  # bytes of the answer to forward before the connection ends; None: all
    bytes_per_s: int | None = None
    is_hung: bool = False  # nothing is forwarded any more
    thread: threading.Thread = field(default_factory=threading.current_thread)

    def end(self) -> None:
        for side in (self.client, self.target):
            with suppress(OSError):  # the peer has closed it already
                side.shutdown(socket.SHUT_RDWR)


@dataclass
class Fault:
    trigger: bytes
    strike: Callable[[Link], None]
    times: int


@dataclass
class Proxy:
    """Forward between clients of `port` and the target: `(host, port)` or the path of a Unix socket.

    A fault strikes a connection when the client sends the bytes `trigger`, at most `times` times, before they are
    forwarded. struck: the bytes `trigger` of each fault that struck.
    """

    target: tuple[str, int] | str
    port: int = 0
    struck: list[bytes] = field(default_factory=list)
    _faults: list[Fault] = field(default_factory=list)
    _replaced: dict[bytes, bytes] = field(default_factory=dict)
    _links: list[Link] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _listener: socket.socket | None = None

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()

    # --- faults -------------------------------------------------------------------------------------------------------

    def before(self, trigger: bytes, do: Callable[[], object], times: int = 1) -> None:
        """Call `do` first; then forward, if the target still runs."""

        def strike(_: Link) -> None:
            do()

        self._faults.append(Fault(trigger, strike, times))

    def cut(self, trigger: bytes, after: int | None = None, times: int = ALWAYS) -> None:
        """End the connection after so many bytes of the answer; None: forward nothing to the target either."""

        def strike(link: Link) -> None:
            link.answer_left = after
            if after is None:
                link.end()

        self._faults.append(Fault(trigger, strike, times))

    def answer(self, trigger: bytes, reply: bytes, times: int = ALWAYS) -> None:
        """Send this answer, end the connection, and forward nothing to the target."""

        def strike(link: Link) -> None:
            link.is_hung = True
            link.target.shutdown(socket.SHUT_RDWR)
            link.client.sendall(reply)
            link.client.shutdown(socket.SHUT_WR)

        self._faults.append(Fault(trigger, strike, times))

    def hang(self, trigger: bytes, times: int = ALWAYS) -> None:
        """Keep the connection, but forward nothing in either direction."""

        def strike(link: Link) -> None:
            link.is_hung = True

        self._faults.append(Fault(trigger, strike, times))

    def trickle(self, trigger: bytes, bytes_per_s: int, times: int = ALWAYS) -> None:
        """Forward the answers slowly from now on."""

        def strike(link: Link) -> None:
            link.bytes_per_s = bytes_per_s

        self._faults.append(Fault(trigger, strike, times))

    def replace(self, sent: bytes, forwarded: bytes) -> None:
        """Forward other bytes than the client sends, if it sends them at once, such as a header."""
        self._replaced[sent] = forwarded

    def refuse(self) -> None:
        """End every connection and accept no new one. Waits for callbacks of `before`."""
        listener, self._listener = self._listener, None
        if listener:
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept
            listener.close()
        with self._lock:
            links, self._links = self._links, []
        for link in links:
            link.end()
        for link in links:
            if link.thread is not threading.current_thread():
                link.thread.join()

    def heal(self) -> None:
        """Remove all faults and accept new connections."""
        self.refuse()
        self._faults.clear()
        self._replaced.clear()
        self._listen()

    # --- forwarding ---------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # closed by `refuse`
                return
            target = socket.socket(socket.AF_UNIX if isinstance(self.target, str) else socket.AF_INET)
            try:
                target.connect(self.target)
            except OSError:  # the target is down
                client.close()
                continue
            link = Link(client, target)
            link.thread = threading.Thread(target=self._forward, args=(link,), daemon=True)
            with self._lock:
                self._links.append(link)
            link.thread.start()

    def _forward(self, link: Link) -> None:
        answers = threading.Thread(target=self._answers, args=(link,), daemon=True)
        answers.start()
        try:
            self._requests(link)
        except OSError:  # one side has closed the connection
            link.end()
        except BaseException:  # raised by a callback of the test; pytest reports it
            link.end()
            raise
        finally:
            answers.join()
            link.client.close()
            link.target.close()

    def _requests(self, link: Link) -> None:
        seen = b""
        while chunk := link.client.recv(CHUNK_BYTES):
            for fault in list(self._faults):
                if fault.trigger in seen[len(seen) - len(fault.trigger) + 1 :] + chunk and self._is_due(fault):
                    fault.strike(link)
            seen = chunk
            for sent, forwarded in self._replaced.items():
                chunk = chunk.replace(sent, forwarded)
            if not link.is_hung:
                link.target.sendall(chunk)
        if not link.is_hung:
            link.target.shutdown(socket.SHUT_WR)

    def _is_due(self, fault: Fault) -> bool:
        with self._lock:
            is_due = fault.times > 0
            if is_due:
                fault.times -= 1
                self.struck.append(fault.trigger)
        return is_due

    def _answers(self, link: Link) -> None:
        with suppress(OSError):  # one side has closed the connection
            while chunk := link.target.recv(max(1, link.bytes_per_s // 20) if link.bytes_per_s else CHUNK_BYTES):
                if link.is_hung:
                    continue
                link.client.sendall(chunk[: link.answer_left])
                if link.answer_left is not None:
                    link.answer_left -= len(chunk)
                    if link.answer_left <= 0:
                        break
                if link.bytes_per_s:
                    time.sleep(1 / 20)
        if not link.is_hung:
            link.end()
