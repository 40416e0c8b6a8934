"""What the stack answers through nginx without a login; infra-notes/security.md has the table.

Superset is asked for all of its routes. Airflow's are in tests/dag/test_public_routes.py, without containers.
"""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import APIRequestContext

from tests.e2e.installation import INSIDE, Installation

pytestmark = pytest.mark.e2e

PUBLIC_OF_SUPERSET = {"/login/"}
CLOSED = (
    "/register/",
    "/airflow/docs",
    "/airflow/redoc",
    "/airflow/openapi.json",
    "/airflow/auth/docs",
    "/airflow/auth/redoc",
    "/airflow/auth/openapi.json",
    "/airflow/api/v2/version",
    "/jupyter/api",
)


@pytest.fixture(scope="module")
def routes_of_superset(stack: Installation) -> list[str]:
    program = (INSIDE / "superset_routes.py").read_bytes()
    found = stack.compose("run", "--rm", "--no-deps", "-T", "superset-init", "python", "-", given=program)
    return list(json.loads(found))


def test_superset_answers_with_its_form_alone(
    stack: Installation, client: APIRequestContext, routes_of_superset: list[str]
) -> None:
    """`/health` is ours; the others say 401, 403 or 404, or lead to the form."""
    answering = {path for path in routes_of_superset if path != "/health" and client.get(path).status == 200}

    assert len(routes_of_superset) > 100
    assert answering == PUBLIC_OF_SUPERSET


@pytest.mark.parametrize("path", CLOSED)
def test_descriptions_and_versions_are_closed_by_nginx(
    stack: Installation, client: APIRequestContext, path: str
) -> None:
    answer = client.get(path)

    assert answer.status == 404
    assert "nginx" in answer.text()


def test_airflow_answers_to_a_monitor_and_gives_no_data(stack: Installation, client: APIRequestContext) -> None:
    assert client.get("/airflow/api/v2/monitor/health").status == 200
    for path in ("dags", "connections", "variables", "config", "dags/flight_anomalies/dagRuns"):
        assert client.get(f"/airflow/api/v2/{path}").status == 401
