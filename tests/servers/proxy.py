"""A stand-in on loopback for a server: it passes bytes on until a client says what a test has waited for.

Knows bytes only, so that it serves Postgres and S3 alike; which of them mean what is the tests' business.
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
    """A client's connection and the one to the target that belongs to it."""

    client: socket.socket
    target: socket.socket
    answer_left: int | None = None  # bytes of the answer that still go through before the end; None: all
    bytes_per_s: int | None = None
    is_hung: bool = False  # neither side hears of the other any more
    thread: threading.Thread = field(default_factory=threading.current_thread)  # which passes on

    def end(self) -> None:
        for side in (self.client, self.target):
            with suppress(OSError):  # its peer was faster
                side.shutdown(socket.SHUT_RDWR)


@dataclass
class Fault:
    said: bytes
    strike: Callable[[Link], None]
    times: int


@dataclass
class Proxy:
    """Passes on what clients of `port` say to the target, `(host, port)` or the path of a Unix socket, and its answers.

    A fault strikes the connection on which a client says `said`, each time or as many times as `times`, before the
    target hears of it. struck: what was said when one did.
    """

    target: tuple[str, int] | str
    port: int = 0
    struck: list[bytes] = field(default_factory=list)
    _faults: list[Fault] = field(default_factory=list)
    _links: list[Link] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _listener: socket.socket | None = None

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()

    # --- faults -------------------------------------------------------------------------------------------------------

    def before(self, said: bytes, do: Callable[[], object], times: int = 1) -> None:
        """Something else happens first; then the target hears of it, if it still can."""

        def strike(_: Link) -> None:
            do()

        self._faults.append(Fault(said, strike, times))

    def cut(self, said: bytes, after: int | None = None, times: int = ALWAYS) -> None:
        """The connection ends behind so many bytes of the answer; None: and the target has not heard of it either."""

        def strike(link: Link) -> None:
            link.answer_left = after
            if after is None:
                link.end()

        self._faults.append(Fault(said, strike, times))

    def answer(self, said: bytes, reply: bytes, times: int = ALWAYS) -> None:
        """The client gets this answer and an end, and the target hears nothing."""

        def strike(link: Link) -> None:
            link.is_hung = True
            link.target.shutdown(socket.SHUT_RDWR)
            link.client.sendall(reply)
            link.client.shutdown(socket.SHUT_WR)

        self._faults.append(Fault(said, strike, times))

    def hang(self, said: bytes, times: int = ALWAYS) -> None:
        """The connection stays, and nothing comes through it any more in either direction."""

        def strike(link: Link) -> None:
            link.is_hung = True

        self._faults.append(Fault(said, strike, times))

    def trickle(self, said: bytes, bytes_per_s: int, times: int = ALWAYS) -> None:
        """From here on answers come so slowly."""

        def strike(link: Link) -> None:
            link.bytes_per_s = bytes_per_s

        self._faults.append(Fault(said, strike, times))

    def refuse(self) -> None:
        """Every connection ends, and no new one is taken. What happens first to one (`before`) is over then."""
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
        """No fault strikes any more; clients connect anew."""
        self.refuse()
        self._faults.clear()
        self._listen()

    # --- passing on ---------------------------------------------------------------------------------------------------

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
            except OSError:  # the target is down, which a client of its own would be told at once, too
                client.close()
                continue
            link = Link(client, target)
            link.thread = threading.Thread(target=self._pass_on, args=(link,), daemon=True)
            with self._lock:
                self._links.append(link)
            link.thread.start()

    def _pass_on(self, link: Link) -> None:
        answers = threading.Thread(target=self._answers, args=(link,), daemon=True)
        answers.start()
        try:
            self._requests(link)
        except OSError:  # one of the two sides is gone
            link.end()
        except BaseException:  # of a test's own: pytest shows it, and its client waits no longer
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
                if fault.said in seen[len(seen) - len(fault.said) + 1 :] + chunk and self._takes_its_turn(fault):
                    fault.strike(link)
            seen = chunk
            if not link.is_hung:
                link.target.sendall(chunk)
        if not link.is_hung:
            link.target.shutdown(socket.SHUT_WR)

    def _takes_its_turn(self, fault: Fault) -> bool:
        with self._lock:
            is_due = fault.times > 0
            if is_due:
                fault.times -= 1
                self.struck.append(fault.said)
        return is_due

    def _answers(self, link: Link) -> None:
        with suppress(OSError):  # one of the two sides is gone
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
