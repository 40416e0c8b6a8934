"""Pages that need no login or show what people wrote: the health page and the tables of the dashboards."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator

import pytest
from superset import bundle

from tests.integration.stack.volumes import ROOT
from utils.monitoring import health_page

pytestmark = pytest.mark.security

SCRIPT = "<script>alert(1)</script>"
ASSETS = ROOT / "superset" / "assets"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Serve the health page of a problem whose message contains a secret. Yield the port."""
    status = health_page.HealthStatus()
    status.update(lambda: {"word": "problem", "findings": [{"is_well": False, "sentence": "The secret is h4sh."}]})
    with health_page.server("127.0.0.1", 0, status) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize(
    "request_line",
    [
        f"GET /health?{SCRIPT} HTTP/1.1",
        f"GET /{SCRIPT} HTTP/1.1",
        f"{SCRIPT} /health HTTP/1.1",
        f"GET /health%0d%0aSet-Cookie:%20{SCRIPT} HTTP/1.1",
        f"{SCRIPT}",
    ],
)
def test_the_health_page_repeats_no_part_of_a_request_and_shows_no_details(port: int, request_line: str) -> None:
    request = f"{request_line}\r\nHost: {SCRIPT}\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request.encode("latin-1"))
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(4096), b"")).decode("latin-1")

    assert answer
    assert SCRIPT not in answer
    assert not re.search(r"set-cookie|h4sh|Python|BaseHTTP|Traceback|/dags/", answer, re.IGNORECASE)


def test_dashboards_show_html_as_text_and_their_queries_are_not_templates() -> None:
    charts = bundle.read(ASSETS)["charts"]
    tables = {name: chart["params"] for name, chart in charts.items() if chart["viz_type"] == "table"}

    assert {"feedback_list", "factors_by_carrier"} <= tables.keys()
    assert [name for name, params in tables.items() if params["allow_render_html"] is not False] == []
    assert "ENABLE_TEMPLATE_PROCESSING" not in (ROOT / "superset" / "superset_config.py").read_text()
    assert [path.name for path in ASSETS.rglob("*.yaml") if "{{" in path.read_text()] == []


def test_nginx_lists_no_folder_shows_no_version_and_waits_longer_than_superset() -> None:
    nginx = "".join(path.read_text() for path in (ROOT / "nginx").rglob("*.conf"))
    (gunicorn_s,) = re.findall(r"--timeout=(\d+)", (ROOT / "superset" / "Dockerfile").read_text())

    assert not re.search(r"^\s*autoindex on|^\s*server_tokens on", nginx, re.MULTILINE)
    assert "server_tokens off;" in nginx
    assert int(re.findall(r"proxy_read_timeout (\d+)s;", nginx)[0]) > int(gunicorn_s)
