"""What Airflow answers without a login: every route of its api-server, with the settings of docker-compose.yaml.

What nginx closes is left out. A release of Airflow with a new open route fails here; then close it in nginx, or add it
to PUBLIC and to infra-notes/security.md. tests/e2e/test_public.py asks a running stack.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PUBLIC = {
    "GET /1": "the empty page into which the browser loads the interface, the same for every path",
    "GET /api/v2/monitor/health": "which parts of Airflow run, and when each was last heard of",
    "GET /auth/login/": "the form",
}
# Makes Airflow's database, then prints [method, path, status] of every route; a path's parameters are 1.
ASK = """
import json, os, re, sys
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # Airflow logs to stdout
from airflow.api_fastapi.app import create_app
from airflow.utils.db import initdb
from starlette.testclient import TestClient

def routes(found, prefix=""):
    for route in found:
        below = getattr(route, "app", None) if type(route).__name__ == "Mount" else None
        if below is None:
            for method in route.methods or ():
                yield method, prefix + re.sub(r"{[^}]*}", "1", route.path)
        elif getattr(below, "routes", None):
            yield from routes(below.routes, prefix + route.path)
        elif hasattr(below, "app"):  # Flask behind an adapter
            for rule in below.app.url_map.iter_rules():
                for method in rule.methods:
                    yield method, prefix + route.path + re.sub("<[^>]*>", "1", rule.rule)

initdb()
app = create_app("all")
client = TestClient(app, base_url="https://localhost", follow_redirects=False, raise_server_exceptions=False)
asked = []
for method, path in routes(app.routes):
    if method not in ("HEAD", "OPTIONS"):
        client.cookies.clear()
        asked.append([method, path, client.request(method, "/airflow" + path).status_code])
json.dump(asked, answers)
"""


def closed_by_nginx() -> list[re.Pattern[str]]:
    conf = (ROOT / "nginx" / "nginx.conf").read_text()
    return [re.compile(found) for found in re.findall(r"location ~ (\S+) \{\s*return 404;", conf)]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, int]]:
    """Every method and path of Airflow, and the status of the answer without a login."""
    home = tmp_path_factory.mktemp("airflow")
    given = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["x-airflow-environment"]
    environ = {name: value for name, value in given.items() if "/run/delaywatch" not in value}
    environ |= {
        "PATH": os.environ["PATH"],
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__BASE_URL": "https://localhost/airflow",
        "AIRFLOW__API__SECRET_KEY": "of-this-test-alone",
        "AIRFLOW__API_AUTH__JWT_SECRET": "of-this-test-alone" * 4,
        "AIRFLOW__CORE__DAGS_FOLDER": str(home),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": "http://127.0.0.1:1/airflow/execution/",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    done = subprocess.run([sys.executable, "-c", ASK], env=environ, check=True, capture_output=True, text=True)
    return [(method, path, status) for method, path, status in json.loads(done.stdout)]


def test_what_answers_without_a_login_is_what_must_be_public(asked: list[tuple[str, str, int]]) -> None:
    closed = closed_by_nginx()
    answering = {
        f"{method} {path}"
        for method, path, status in asked
        if status < 300 and not any(each.search(f"/airflow{path}") for each in closed)
    }

    assert len(asked) > 200
    assert sum(status == 401 for *_, status in asked) > 100
    assert answering == PUBLIC.keys()


def test_the_pages_about_the_api_are_closed(asked: list[tuple[str, str, int]]) -> None:
    closed = closed_by_nginx()
    telling = [path for _, path, _ in asked if re.search(r"openapi|/docs|redoc|changelog|version$", path)]

    assert "/auth/openapi.json" in telling
    assert [path for path in telling if not any(each.search(f"/airflow{path}") for each in closed)] == []


@pytest.mark.parametrize("route", PUBLIC)
def test_the_page_about_security_lists_it(route: str) -> None:
    path = "/airflow" + route.removeprefix("GET ").replace("/1", "/...")

    assert f"`{path}`" in (ROOT / "infra-notes" / "security.md").read_text()
