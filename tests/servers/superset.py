"""A fake Superset: answers /api/v1/me/ and /api/v1/me/roles/ for known cookies, and records what it receives."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

ADMIN, ANALYST, GAMMA, REFUSED, BROKEN = "admin-cookie", "analyst-cookie", "gamma-cookie", "refused-cookie", "broken"
USERS = {ADMIN: ("admin", ["Admin"]), ANALYST: ("ann", ["Analyst"]), GAMMA: ("gus", ["Gamma"])}


class Received(NamedTuple):
    """One request that reached the server. headers: names in lower case."""

    path: str
    headers: dict[str, str]


class FakeSuperset:
    """The users by cookie, which a test may change, and the received requests."""

    url = ""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the changes and the requests of a test."""
        self.users = {cookie: (name, list(roles)) for cookie, (name, roles) in USERS.items()}
        self.received: list[Received] = []

    def answer(self, path: str, cookie: str) -> tuple[int, object]:
        session = cookie.removeprefix("superset_session=")
        if session == BROKEN:
            return 500, {"message": "Fatal error"}
        if session == REFUSED:
            return 403, {"message": "Forbidden"}
        if session not in self.users:
            return 401, {"message": "Unauthorized"}
        name, roles = self.users[session]
        me = {"username": name, "first_name": "", "is_active": True}
        return 200, {"result": me | ({"roles": {role: [] for role in roles}} if path.endswith("roles/") else {})}


@contextmanager
def fake_superset() -> Iterator[FakeSuperset]:
    """Serve on a free port of loopback during the block."""
    fake = FakeSuperset()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fake.received.append(Received(self.path, {name.lower(): value for name, value in self.headers.items()}))
            status, body = fake.answer(self.path, self.headers.get("Cookie", ""))
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.send_header("Set-Cookie", "superset_session=renewed; HttpOnly")
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
