"""Routes of Airflow's api-server that answer without a login, with the settings of docker-compose.yaml.

Routes that nginx closes are left out. If a release of Airflow adds an open route, close it in nginx, or add it to
PUBLIC and to infra-notes/security.md. tests/e2e/test_public.py requests the routes of a running stack.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PUBLIC = {"GET /1", "GET /api/v2/monitor/health", "GET /auth/login/"}  # /1 stands for every page of the interface
# Prints [method, path, status] of every route; a path's parameters are 1.
REQUEST_ALL = """
import json, os, re, sys
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # Airflow logs to stdout
from airflow.api_fastapi.app import create_app
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

app = create_app("all")
client = TestClient(app, base_url="https://localhost", follow_redirects=False, raise_server_exceptions=False)
answered = []
for method, path in routes(app.routes):
    if method not in ("HEAD", "OPTIONS"):
        client.cookies.clear()
        answered.append([method, path, client.request(method, "/airflow" + path).status_code])
json.dump(answered, answers)
"""


def is_closed_by_nginx(path: str) -> bool:
    conf = (ROOT / "nginx" / "nginx.conf").read_text()
    return any(
        re.search(closed, f"/airflow{path}") for closed in re.findall(r"location ~ (\S+) \{\s*return 404;", conf)
    )


def test_only_public_routes_answer_without_a_login(airflow: Path, tmp_path: Path) -> None:
    shutil.copy(airflow / "airflow.db", tmp_path)
    settings = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["x-airflow-environment"]
    environment = {name: value for name, value in settings.items() if "/run/delaywatch" not in value}
    environment |= {
        "PATH": os.environ["PATH"],
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__API__BASE_URL": "https://localhost/airflow",
        "AIRFLOW__API__SECRET_KEY": "of-this-test-only",
        "AIRFLOW__API_AUTH__JWT_SECRET": "of-this-test-only" * 4,
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": "http://127.0.0.1:1/airflow/execution/",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    command = [sys.executable, "-c", REQUEST_ALL]

    outcome = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)

    answers = json.loads(outcome.stdout)
    answering = {
        f"{method} {path}" for method, path, status in answers if status < 300 and not is_closed_by_nginx(path)
    }

    assert answering == PUBLIC
    assert len(answers) > 200  # so the list is that of all parts of the api-server
    assert sum(status == 401 for *_, status in answers) > 100
