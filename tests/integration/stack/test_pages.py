"""Pages that need no login or show what people wrote: the health page, the dashboards' tables, nginx's own files."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from superset import bundle

from utils.monitoring import health_page

pytestmark = pytest.mark.security

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def health() -> Iterator[int]:
    """The port of a health page that knows a secret sentence and tells the word alone."""
    status = health_page.HealthStatus()
    status.update(lambda: {"word": "problem", "findings": [{"is_well": False, "sentence": "The secret is h4sh."}]})
    with health_page.server("127.0.0.1", 0, status) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def ask(port: int, request: str) -> str:
    """All that the server says to these bytes, sent as they stand."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request.encode("latin-1"))
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(4096), b"")).decode("latin-1")


@pytest.mark.parametrize(
    "request_line",
    [
        f"GET /health?{SCRIPT} HTTP/1.1",
        f"GET /{SCRIPT} HTTP/1.1",
        f"GET /health/../{SCRIPT} HTTP/1.1",
        f"{SCRIPT} /health HTTP/1.1",
        f"GET /health HTTP/{SCRIPT}",
        f"POST /health{SCRIPT} HTTP/1.1",
        f"GET /health%0d%0aSet-Cookie:%20{SCRIPT} HTTP/1.1",
        f"{SCRIPT}",
        "GET /" + "A" * 70_000 + " HTTP/1.1",
    ],
    ids=["query", "path", "dots", "method", "version", "post", "line break", "nothing else", "long"],
)
def test_the_health_page_repeats_nothing_of_a_request_and_tells_nothing_of_itself(
    health: int, request_line: str
) -> None:
    answer = ask(health, f"{request_line}\r\nHost: {SCRIPT}\r\nConnection: close\r\n\r\n")

    assert answer
    assert SCRIPT not in answer
    assert "set-cookie" not in answer.lower()
    assert not re.search(r"h4sh|Python|BaseHTTP|Traceback|/dags/", answer)


CHARTS = bundle.read(ROOT / "superset" / "assets")["charts"]
TABLES = {name: chart for name, chart in CHARTS.items() if chart["viz_type"] == "table"}


def test_there_are_tables_in_the_dashboards() -> None:
    assert {"feedback_list", "factors_by_carrier"} <= set(TABLES)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_table_of_a_dashboard_shows_html_as_text(name: str) -> None:
    """Superset's default is to show links and images of cells; a note may hold one that leads elsewhere."""
    assert TABLES[name]["params"]["allow_render_html"] is False


def test_no_query_of_a_dashboard_is_a_template() -> None:
    """Jinja in SQL is off by Superset's default; a value with {{ }} stays text."""
    assert "ENABLE_TEMPLATE_PROCESSING" not in (ROOT / "superset" / "superset_config.py").read_text()
    assert not [path.name for path in (ROOT / "superset" / "assets").rglob("*.yaml") if "{{" in path.read_text()]


def test_nginx_lists_no_folder_and_tells_no_version() -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "nginx").rglob("*.conf*"))

    assert not re.search(r"^\s*(autoindex|autoindex_format|dav_methods|stub_status)\b", text, re.MULTILINE)
    assert re.findall(r"^\s*server_tokens\s+(\w+);", text, re.MULTILINE) == ["off"]
