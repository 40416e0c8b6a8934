"""The health page: one word over HTTP for whoever asks, `ok` or `problem`, and nothing that outsiders should not know.

Knows how to answer, not what is looked at. The look is taken beside the requests, so that nobody who asks often makes
work; a word that has grown old is a problem too, as whoever looks has got stuck.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NoReturn

from typing_extensions import override

from utils.errors import DelaywatchError, InvalidInput

log = logging.getLogger(__name__)

EVERY_S = 60  # from the end of one look to the next
STALE_S = 600  # a store that is gone is asked for minutes before it is given up

Look = Callable[[], dict[str, Any]]  # health.report


class Word:
    """The last word, and when it was found."""

    def __init__(self, stale_s: float = STALE_S) -> None:
        """Nothing is known yet, which is `starting`."""
        self._lock = threading.Lock()
        self._stale_s, self._word, self._at = stale_s, "starting", time.monotonic()

    def __str__(self) -> str:
        """`ok`, `problem` or `starting`."""
        with self._lock:
            is_old = time.monotonic() - self._at > self._stale_s
            return "problem" if is_old else self._word

    def look(self, look: Look) -> None:
        """Take a look and keep its word; what is wrong goes to the log, when it is other than before."""
        try:
            found = look()
        except DelaywatchError as error:
            found = {"word": "problem", "findings": [{"is_well": False, "sentence": str(error)}]}
        with self._lock:
            before, self._word, self._at = self._word, found["word"], time.monotonic()
        if before != found["word"]:
            wrong = [one["sentence"] for one in found["findings"] if not one["is_well"]]
            log.warning("%s", " ".join([f"Health is {found['word']}.", *wrong]))


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD of /health, without the version of any software."""

    server_version, sys_version = "delaywatch", ""
    timeout = 10  # seconds for one request
    word: Word

    def do_GET(self) -> None:
        self._answer(has_body=True)

    def do_HEAD(self) -> None:
        self._answer(has_body=False)

    @override
    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no request of HTTP, or none that is known here, in words that repeat nothing of it."""
        super().send_error(code)

    def _answer(self, has_body: bool) -> None:
        word = str(self.word) if self.path.partition("?")[0] == "/health" else "not found"
        status = {"ok": HTTPStatus.OK, "not found": HTTPStatus.NOT_FOUND}.get(word, HTTPStatus.SERVICE_UNAVAILABLE)
        body = f"{word}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if has_body:
            self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Who asks is in nginx's log."""


def server(host: str, port: int, word: Word) -> ThreadingHTTPServer:
    """A server of the word; the caller runs and closes it. Raises InvalidInput when it cannot listen."""
    handler = type("Handler", (_Handler,), {"word": word})
    try:
        return ThreadingHTTPServer((host, port), handler)
    except OSError as error:
        raise InvalidInput(
            f"Nobody can listen on {host}:{port} ({error.strerror}); choose another address with --serve."
        ) from error


def serve(address: str, look: Look) -> NoReturn:
    """Answer on `host:port` for ever, looking every minute. Raises InvalidInput for anything else."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise InvalidInput(f"{address!r} is no address to listen on; write host:port, such as 127.0.0.1:8095.")
    word = Word()
    listening = server(host.strip("[]"), int(port), word)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    while True:
        word.look(look)
        time.sleep(EVERY_S)
