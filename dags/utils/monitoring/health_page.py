"""The health page: serve `ok` or `problem` over HTTP, without internal details.

The checks come from the caller. They run in the main thread and not per request, so that frequent requests cost
nothing. An outdated result counts as `problem`, because it means that a check hangs.
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

INTERVAL_S = 60  # from the end of one check to the start of the next
STALE_S = 600  # a check of an unreachable store takes minutes until its timeout

Check = Callable[[], dict[str, Any]]  # returns health.report


class HealthStatus:
    """The result of the last check as one word, with its time."""

    def __init__(self, stale_s: float = STALE_S) -> None:
        """Start with the word `starting`."""
        self._lock = threading.Lock()
        self._stale_s, self._word, self._at = stale_s, "starting", time.monotonic()

    def __str__(self) -> str:
        """Return `ok`, `problem` or `starting`."""
        with self._lock:
            is_old = time.monotonic() - self._at > self._stale_s
            return "problem" if is_old else self._word

    def update(self, check: Check) -> None:
        """Run the checks and store the word; log the problems if the word has changed."""
        try:
            report = check()
        except DelaywatchError as error:
            report = {"word": "problem", "findings": [{"is_well": False, "sentence": str(error)}]}
        with self._lock:
            before, self._word, self._at = self._word, report["word"], time.monotonic()
        if before != report["word"]:
            problems = [finding["sentence"] for finding in report["findings"] if not finding["is_well"]]
            log.warning("%s", " ".join([f"Health is {report['word']}.", *problems]))


class _Handler(BaseHTTPRequestHandler):
    """Answer GET and HEAD of /health, without software versions in the headers."""

    server_version, sys_version = "delaywatch", ""
    timeout = 10  # seconds for one request
    status: HealthStatus

    def do_GET(self) -> None:
        self._answer(has_body=True)

    def do_HEAD(self) -> None:
        self._answer(has_body=False)

    @override
    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer an invalid or unsupported request with a standard text that repeats no part of it."""
        super().send_error(code)

    def _answer(self, has_body: bool) -> None:
        word = str(self.status) if self.path.partition("?")[0] == "/health" else "not found"
        code = {"ok": HTTPStatus.OK, "not found": HTTPStatus.NOT_FOUND}.get(word, HTTPStatus.SERVICE_UNAVAILABLE)
        body = f"{word}\n".encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if has_body:
            self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: nginx logs the requests."""


def server(host: str, port: int, status: HealthStatus) -> ThreadingHTTPServer:
    """Return a server of the status; the caller runs and closes it. Raises InvalidInput if it cannot listen."""
    handler = type("Handler", (_Handler,), {"status": status})
    try:
        return ThreadingHTTPServer((host, port), handler)
    except OSError as error:
        raise InvalidInput(
            f"The address {host}:{port} cannot be used ({error.strerror}); choose another address with --serve."
        ) from error


def serve(address: str, check: Check) -> NoReturn:
    """Serve on `host:port` forever, and run the checks every minute. Raises InvalidInput for an invalid address."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise InvalidInput(f"{address!r} is not an address to listen on; write host:port, such as 127.0.0.1:8095.")
    status = HealthStatus()
    listening = server(host.strip("[]"), int(port), status)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    while True:
        status.update(check)
        time.sleep(INTERVAL_S)
