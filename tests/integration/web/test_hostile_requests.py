"""A thousand hostile requests to every route end without a 500, a change of the warehouse, or a read of a file that no
page needs.
"""

from __future__ import annotations

import re
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from tests.conftest import sql
from tests.integration.web.conftest import HOST, KEY, Visit
from tests.servers.superset import ADMIN, ANALYST, BROKEN, GAMMA, REFUSED
from tests.steps import TABLES
from utils.settings import Settings
from utils.storage.folder import FolderStore
from utils.web.auth import Visitor
from utils.web.feedback import Tokens

REQUESTS = 1000
COOKIES = [ADMIN, ADMIN, ADMIN, ANALYST, GAMMA, REFUSED, BROKEN, None, "forged", "a;b", "x" * 10_000]
PIECES = [
    *("airports", "events", "api", "days", "plots", "assets", "search", "feedback", "flights", "flights.csv", "docs"),
    *("EWR", "JFK", "LGA", "ewr", "XXX", "2015", "2014", "2015-02-08", "2015-02-30", "9999-12-31", "20150208-JFK"),
    *(
        "..",
        ".",
        "%2e%2e",
        "%2f",
        "..%2f..%2fetc%2fpasswd",
        "etc",
        "passwd",
        "01_bronze",
        "2015.csv",
        ".env",
        "_manifest",
    ),
    *("'", "' OR '1'='1", "'; DROP TABLE flights.feedback; --", "1 UNION SELECT password", "pg_sleep(9)", "$(id)"),
    *(
        "<script>alert(1)</script>",
        "{{7*7}}",
        "${7*7}",
        "%00",
        "\x7f",
        "é",
        "漢字",
        "\U0001f600",
        "%ff%fe",
        "%",
        "a" * 3000,
    ),
    *("daily_delay.png", "daily_flights.png", "-1", "0", "1e9", "99999999999999999999", "NaN", "null", "__class__", ""),
    *("https://evil.example", "//evil.example", "\\\\evil", "site.css", "openapi.json", "run", "delaywatch"),
]
# Valid values of the parts of an address and of parameters.
KNOWN = {
    "code": ["EWR", "JFK", "ACK"],
    "airport": ["EWR", "JFK", "newark"],
    "year": ["2015"],
    "day": ["2015-02-08", "2015-03-01"],
    "event": ["20150208-JFK", "20159999-JFK"],
    "kind": ["daily_delay", "daily_flights"],
    "version": ["x"],
    "name": ["site.css", "site.js"],
    "limit": ["1", "5000"],
    "offset": ["0"],
    "format": ["csv", "json"],
    "is_abnormal": ["true"],
    "next": ["/flights/"],
    "airport[]": ["EWR"],
    "__proto__": ["x"],
}
PARAMETERS = [
    *("airport", "airport", "airport", "year", "day", "event", "limit", "offset", "format", "is_abnormal"),
    *("next", "airport[]", "__proto__"),
]
METHODS = ["GET"] * 12 + ["POST"] * 2 + ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"]
KNOWN_KEY = re.compile(
    r"02_silver/flights/year=2015/(_manifest\.json|part-[\w-]+\.parquet)"
    r"|04_plots/year=\d{4}/origin=[A-Z0-9]{3,4}/daily_(delay|flights)\.png"
)
CODE = Path(__file__).resolve().parents[3]
READABLE = tuple(str(Path(path).resolve()) for path in (CODE / "dags", sys.prefix, sys.base_prefix))


def hostile(random: Random, route: str | None, method: str, token: str) -> tuple[str, dict[str, str], bytes]:
    """Return path with query, headers and body of a request. route: its path with names in braces; None: any path."""

    def piece(name: str = "") -> str:
        if name in KNOWN and random.random() < 0.7:
            return quote(random.choice(KNOWN[name]), safe="")
        text = random.choice(PIECES)
        return text if "%" in text else quote(text, safe="")

    if route:
        path = re.sub(r"\{(\w+)(:int)?\}", lambda part: piece(part[1]), route)
    else:
        path = "/flights/" + "/".join(piece() for _ in range(random.randint(0, 5)))
    names = [random.choice(PARAMETERS) for _ in range(random.randint(0, 4))]
    query = "&".join(f"{name}={piece(name)}" for name in names)
    headers = {
        "Origin": random.choice([HOST, HOST, HOST, "https://evil.example", "null", ""]),
        "Host": random.choice(["flights.example", "flights.example", "flights.example", "evil.example", ""]),
        "X-Forwarded-For": random.choice(["127.0.0.1", "' OR 1=1"]),
        "Accept": random.choice(["text/html", "application/json", "*/*"]),
        "Content-Type": random.choice(
            ["application/x-www-form-urlencoded"] * 3 + ["application/json", "multipart/form-data", ""]
        ),
    }
    if (cookie := random.choice(COOKIES)) is not None:
        headers["Cookie"] = f"superset_session={cookie}"
    fields = ["opinion", "opinion", "note", "csrf_token", "withdraw", "author", "origin"]
    form = "&".join(f"{random.choice(fields)}={piece()}" for _ in range(random.randint(0, 8)))
    form = random.choice([f"csrf_token={token}&{form}", form])
    body = random.choice([form.encode()] * 3 + [random.randbytes(50), b'{"opinion": "right"}', b"x" * 20_000, b""])
    return f"{path}?{query}", headers, body if method in {"POST", "PUT", "PATCH"} else b""


def noting(method: Any, read: set[str]) -> Any:
    """Return a method of the store that adds its key to `read`."""

    def note(store: FolderStore, key: str) -> Any:
        read.add(key)
        return method(store, key)

    return note


@contextmanager
def opened_files() -> Iterator[set[str]]:
    """The files that other threads than this one open, those that serve requests; without files of packages."""
    opened: set[str] = set()
    is_over, this = threading.Event(), threading.get_ident()

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes) and threading.get_ident() != this:
            path = str(Path(str(arguments[0])).resolve())
            if not is_over.is_set() and not path.startswith(READABLE):
                opened.add(path)

    sys.addaudithook(note)  # cannot be removed
    try:
        yield opened
    finally:
        is_over.set()


@pytest.mark.security
def test_hostile_requests_change_nothing_and_read_only_files_of_pages(
    visit: Callable[[str | None], Visit], app: FastAPI, done: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    random, client = Random(1), visit(None).client
    read: set[str] = set()
    for name in ("get", "has", "open", "list"):
        monkeypatch.setattr(FolderStore, name, noting(getattr(FolderStore, name), read))
    for name in ("put", "put_if", "delete", "adopt", "upload", "create"):
        monkeypatch.setattr(FolderStore, name, lambda *_, name=name: pytest.fail(f"the lake was changed: {name}"))
    tables = [*TABLES, "feedback", "runs"]
    state = [f"SELECT count(*), max(t.xmin::text::bigint) FROM flights.{table} t" for table in tables]
    before = [sql(done.warehouse, query) for query in state]
    token = Tokens(KEY).create(Visitor("admin", frozenset({"Admin"})))
    routes = [(next(iter(route.methods)), route.path) for route in app.routes if isinstance(route, APIRoute)]
    answered: dict[str | None, set[int]] = defaultdict(set)

    with opened_files() as opened:
        for number in range(REQUESTS):
            # Most requests go to the routes in turn, most of these with their method.
            method, route = routes[number % len(routes)] if number % 5 else ("", None)
            if not method or random.random() < 0.2:
                method = random.choice(METHODS)
            path, headers, body = hostile(random, route, method, token)
            raw = {name: value.encode() for name, value in headers.items()}
            answer = client.request(method, path, headers=raw, content=body)
            answered[route].add(answer.status_code)
            assert answer.status_code not in {500, 501, 502}, (method, path, headers, body[:200])
            assert answer.status_code != 503 or BROKEN in headers.get("Cookie", ""), (method, path)
            assert "evil.example" not in answer.headers.get("Location", "").partition("?")[0]
            assert "<script>alert" not in answer.text
            assert "Content-Security-Policy" in answer.headers

    assert [sql(done.warehouse, query) for query in state] == before
    assert {key for key in read if not KNOWN_KEY.fullmatch(key)} == set()
    lake = Path(done.lake.removeprefix("file://"))
    keys = {str(Path(path).relative_to(lake)) if Path(path).is_relative_to(lake) else path for path in opened}
    assert {key for key in keys if not KNOWN_KEY.fullmatch(key)} == set()
    assert keys, "flights and plots were read"
    unreached = {route for _, route in routes if not answered[route] & {200, 303}}
    assert unreached == set(), "every route also answers a valid request"
    assert {200, 302, 303, 400, 401, 403, 404, 405, 422} <= set().union(*answered.values())
