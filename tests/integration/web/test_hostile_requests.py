"""A thousand hostile requests end without a 500, a change of the warehouse, or a read of an unknown key of the lake."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from typing import Any
from urllib.parse import quote

import pytest

from tests.conftest import sql
from tests.integration.web.conftest import HOST, Visit
from tests.servers.superset import ADMIN, ANALYST, BROKEN, GAMMA, REFUSED
from tests.steps import TABLES
from utils.settings import Settings
from utils.storage.folder import FolderStore

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
NAMES = [
    "airport",
    "year",
    "day",
    "event",
    "limit",
    "offset",
    "format",
    "is_abnormal",
    "next",
    "q",
    "airport[]",
    "__proto__",
]
METHODS = ["GET"] * 12 + ["POST"] * 6 + ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"]
KNOWN_KEY = re.compile(
    r"02_silver/flights/year=2015/(_manifest\.json|part-[\w-]+\.parquet)"
    r"|04_plots/year=\d{4}/origin=[A-Z0-9]{3,4}/daily_(delay|flights)\.png"
)


def hostile(random: Random) -> tuple[str, str, dict[str, str], bytes]:
    """Return method, path with query, headers and body of a request."""

    def piece() -> str:
        text = random.choice(PIECES)
        return text if "%" in text else quote(text, safe="")

    real = random.choice(
        ["airports/{}/", "airports/{}/{}/", "airports/{}/{}/flights", "airports/{}/{}/feedback", "{}/"]
    )
    path = (
        "/".join(piece() for _ in range(random.randint(0, 5)))
        if random.random() < 0.5
        else re.sub(
            r"\{\}", lambda _: piece(), random.choice([real, "events/{}/", "plots/{}/{}/{}", "api/{}", "assets/{}/{}"])
        )
    )
    query = "&".join(f"{random.choice(NAMES)}={piece()}" for _ in range(random.randint(0, 4)))
    method = random.choice(METHODS)
    headers = {
        "Origin": random.choice([HOST, HOST, "https://evil.example", "null", ""]),
        "Host": random.choice(["flights.example", "flights.example", "evil.example", ""]),
        "X-Forwarded-For": random.choice(["127.0.0.1", "' OR 1=1"]),
        "Accept": random.choice(["text/html", "application/json", "*/*"]),
    }
    if (cookie := random.choice(COOKIES)) is not None:
        headers["Cookie"] = f"superset_session={cookie}"
    kind = random.choice(["application/x-www-form-urlencoded"] * 3 + ["application/json", "multipart/form-data", ""])
    headers["Content-Type"] = kind
    form = "&".join(
        f"{random.choice(['opinion', 'note', 'csrf_token', 'withdraw', 'author', 'origin'])}={piece()}"
        for _ in range(random.randint(0, 12))
    )
    body = random.choice([form.encode(), random.randbytes(50), b'{"opinion": "right"}', b"x" * 20_000, b""])
    return method, f"/flights/{path}?{query}", headers, body if method in {"POST", "PUT", "PATCH"} else b""


def noting(method: Any, read: set[str]) -> Any:
    """Return a method of the store that adds its key to `read`."""

    def note(store: FolderStore, key: str) -> Any:
        read.add(key)
        return method(store, key)

    return note


@pytest.mark.security
@pytest.mark.parametrize("seed", [1, 2])
def test_hostile_requests_change_nothing_and_read_only_known_keys(
    visit: Callable[[str | None], Visit], done: Settings, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    random, client = Random(seed), visit(None).client
    read: set[str] = set()
    for name in ("get", "has", "open"):
        monkeypatch.setattr(FolderStore, name, noting(getattr(FolderStore, name), read))
    for name in ("put", "put_if", "delete", "adopt", "upload", "create"):
        monkeypatch.setattr(FolderStore, name, lambda *_, name=name: pytest.fail(f"the lake was changed: {name}"))
    tables = [*TABLES, "feedback", "runs"]
    state = [f"SELECT count(*), max(t.xmin::text::bigint) FROM flights.{table} t" for table in tables]
    before = [sql(done.warehouse, query) for query in state]

    answered: dict[int, int] = {}
    for _ in range(REQUESTS // 2):
        method, path, headers, body = hostile(random)
        raw = {name: value.encode() for name, value in headers.items()}
        answer = client.request(method, path, headers=raw, content=body)
        answered[answer.status_code] = answered.get(answer.status_code, 0) + 1
        assert answer.status_code not in {500, 501, 502}, (method, path, headers, body[:200])
        assert answer.status_code != 503 or BROKEN in headers.get("Cookie", ""), (method, path)
        assert "evil.example" not in answer.headers.get("Location", "").partition("?")[0]
        assert "<script>alert" not in answer.text
        assert "Content-Security-Policy" in answer.headers

    assert [sql(done.warehouse, query) for query in state] == before
    assert {key for key in read if not KNOWN_KEY.fullmatch(key)} == set()
    assert {200, 302, 400, 404, 405} <= answered.keys(), "the requests reach the pages, forms and refusals"
