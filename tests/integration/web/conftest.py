"""The site in this process, with a finished year in lake and warehouse, its two logins, and a fake Superset."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import Response

from tests.conftest import at, sql
from tests.servers.superset import ADMIN, FakeSuperset, fake_superset
from utils.db_handler import DBHandler
from utils.settings import Settings, SiteSettings
from utils.web.app import build

HOST = "https://flights.example"
KEY = "k" * 64


@dataclass(frozen=True)
class Visit:
    """A browser without redirects, with a cookie of the fake Superset."""

    client: TestClient
    cookie: str | None

    def get(self, path: str, **headers: str) -> Response:
        answer: Response = self.client.get(path, headers=self._headers(headers))
        return answer

    def post(self, path: str, form: dict[str, str], **headers: str) -> Response:
        answer: Response = self.client.post(path, data=form, headers=self._headers({"Origin": HOST, **headers}))
        return answer

    def _headers(self, headers: dict[str, str]) -> dict[str, str]:
        cookie = {} if self.cookie is None else {"Cookie": f"superset_session={self.cookie}"}
        return {**cookie, **{name.replace("_", "-"): value for name, value in headers.items()}}

    def token(self, page: str) -> str:
        """Return the token in the form of a day page."""
        (token,) = re.findall(r'name="csrf_token" value="([^"]+)"', self.get(page).text)
        return str(token)


@pytest.fixture(scope="session")
def superset_server() -> Iterator[FakeSuperset]:
    with fake_superset() as fake:
        yield fake


@pytest.fixture
def superset(superset_server: FakeSuperset) -> FakeSuperset:
    """A fake Superset that has received nothing yet."""
    superset_server.reset()
    return superset_server


@pytest.fixture
def site_settings(done: Settings, superset_server: FakeSuperset) -> Iterator[tuple[Settings, SiteSettings]]:
    """Settings with the login that reads and the login that writes feedback, as `prepare` creates them."""
    with DBHandler(done.warehouse) as owner:
        owner.create_reader("site_reader", "a password")
        owner.create_labeller("site_labeller", "a password")
    reader, labeller = (at(done.warehouse, username=f"site_{name}") for name in ("reader", "labeller"))
    yield (
        done.replace(warehouse=reader),
        SiteSettings(superset=superset_server.url, feedback=labeller, key=KEY),
    )
    for name in ("site_reader", "site_labeller"):
        sql(done.warehouse, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


@pytest.fixture
def app(site_settings: tuple[Settings, SiteSettings]) -> FastAPI:
    return build(*site_settings)


@pytest.fixture
def visit(app: FastAPI, superset: FakeSuperset) -> Iterator[Callable[[str | None], Visit]]:
    """A function that returns the browser of the user with a cookie; None: without a session."""
    with TestClient(app, base_url=HOST, follow_redirects=False, raise_server_exceptions=True) as client:
        yield lambda cookie: Visit(client, cookie)


@pytest.fixture
def admin(visit: Callable[[str | None], Visit]) -> Visit:
    return visit(ADMIN)
