"""The addresses that answer without a login through nginx; infra-notes/security.md has the table.

tests/dag/test_public_routes.py requests the routes of Airflow, without containers.
"""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import APIRequestContext

from tests.e2e.installation import INSIDE, Installation

pytestmark = pytest.mark.e2e


def test_superset_answers_only_with_its_login_form(stack: Installation, client: APIRequestContext) -> None:
    """nginx answers to `/health` itself; the other routes answer 401, 403, 404 or redirect to the form."""
    program = (INSIDE / "superset_routes.py").read_bytes()
    listed = stack.compose("run", "--rm", "--no-deps", "-T", "superset-init", "python", "-", stdin=program)
    routes = json.loads(listed)

    public = {path for path in routes if path != "/health" and client.get(path).status == 200}

    assert len(routes) > 100
    assert public == {"/login/"}


def test_airflow_answers_to_a_monitor_and_gives_no_data(stack: Installation, client: APIRequestContext) -> None:
    assert client.get("/airflow/api/v2/monitor/health").status == 200
    for path in ("dags", "connections", "variables", "config", "dags/flight_anomalies/dagRuns"):
        assert client.get(f"/airflow/api/v2/{path}").status == 401
