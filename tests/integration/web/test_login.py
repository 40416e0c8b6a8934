"""Who may see the site: users of Superset, by the session cookie of Superset, and nobody else."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.integration.web.conftest import Visit
from tests.servers.superset import ADMIN, BROKEN, GAMMA, REFUSED, FakeSuperset
from utils.errors import Unavailable
from utils.web.auth import KEEP_S, NotLoggedIn, Sessions, login_url

pytestmark = pytest.mark.security

DAY = "/flights/airports/EWR/2015-02-08/"
New = Callable[[str | None], Visit]


@pytest.mark.parametrize("cookie", [None, "", "forged", "expired.session.cookie"])
@pytest.mark.parametrize("path", ["/flights/", DAY, f"{DAY}flights", "/flights/search?airport=EWR&day=2015-02-08"])
def test_without_a_valid_session_a_page_leads_to_the_login_and_back(visit: New, cookie: str | None, path: str) -> None:
    answer = visit(cookie).get(path)

    assert answer.status_code == 302
    login = urlsplit(answer.headers["Location"])
    assert (login.netloc, login.path) == ("", "/login/")
    assert parse_qs(login.query) == {"next": [path]}


@pytest.mark.parametrize("path", ["/flights/api/days", "/flights/api/openapi.json", "/flights/api/docs"])
def test_the_api_answers_without_a_session_with_401_and_no_redirect(visit: New, path: str) -> None:
    answer = visit(None).get(path)

    assert answer.status_code == 401
    assert "Superset" in answer.json()["detail"]


def test_a_user_whom_superset_refuses_sees_a_page_of_ours_and_is_not_redirected(visit: New) -> None:
    answer = visit(REFUSED).get("/flights/")

    assert answer.status_code == 403
    assert "Location" not in answer.headers
    assert "role Analyst" in answer.text


def test_every_login_may_see_the_pages(visit: New) -> None:
    assert visit(GAMMA).get("/flights/").status_code == 200


@pytest.mark.parametrize("fault", [BROKEN, None], ids=["it answers 500", "it does not run"])
def test_a_page_says_that_superset_is_down(visit: New, superset: FakeSuperset, fault: str | None) -> None:
    browser = visit(fault or ADMIN)
    sessions = browser.client.app.state.site.sessions  # type: ignore[attr-defined]
    if fault is None:
        sessions._superset = "http://127.0.0.1:1"

    answer = browser.get("/flights/")

    assert answer.status_code == 503
    assert "Superset does not answer" in answer.text
    assert "127.0.0.1" not in answer.text
    assert answer.headers["Retry-After"]


def test_superset_receives_the_session_cookie_and_no_other_header_of_the_visitor(
    visit: New, superset: FakeSuperset
) -> None:
    visit(ADMIN).client.get(
        "/flights/",
        headers={
            "Cookie": f"other=1; superset_session={ADMIN}; session=airflow",
            "Authorization": "Bearer x",
            "X-Forwarded-For": "10.0.0.1",
            "User-Agent": "visitor",
        },
    )

    assert [request.path for request in superset.received] == ["/api/v1/me/", "/api/v1/me/roles/"]
    for request in superset.received:
        assert request.headers["cookie"] == f"superset_session={ADMIN}"
        assert "authorization" not in request.headers
        assert "x-forwarded-for" not in request.headers
        assert "visitor" not in request.headers.get("user-agent", "")


@pytest.mark.parametrize("cookie", ["a b", "a\tb", 'a"b', "x" * 9000, "é", "a,b"])
def test_a_cookie_that_cannot_be_a_session_is_not_forwarded(superset: FakeSuperset, cookie: str) -> None:
    with pytest.raises(NotLoggedIn):
        Sessions(superset.url).visitor(cookie)

    assert superset.received == []


def test_an_answer_of_superset_is_kept_for_a_minute_for_its_cookie_only(superset: FakeSuperset) -> None:
    now = [0.0]
    sessions = Sessions(superset.url, lambda: now[0])
    assert sessions.visitor(ADMIN).may_label
    asked = len(superset.received)
    superset.users[ADMIN] = ("admin", ["Gamma"])

    now[0] = KEEP_S - 1
    assert sessions.visitor(ADMIN).may_label
    assert len(superset.received) == asked
    assert not sessions.visitor(GAMMA).may_label

    now[0] = KEEP_S + 1
    assert not sessions.visitor(ADMIN).may_label
    del superset.users[ADMIN]
    now[0] = 2 * KEEP_S + 2
    with pytest.raises(NotLoggedIn):
        sessions.visitor(ADMIN)


def test_a_session_that_superset_does_not_know_is_asked_again_at_once(superset: FakeSuperset) -> None:
    sessions = Sessions(superset.url)
    with pytest.raises(NotLoggedIn):
        sessions.visitor("new")
    superset.users["new"] = ("ann", ["Analyst"])

    assert sessions.visitor("new").name == "ann"


def test_an_answer_without_a_name_lets_nobody_in(superset: FakeSuperset) -> None:
    superset.users["nameless"] = ("", [])

    with pytest.raises(Unavailable):
        Sessions(superset.url).visitor("nameless")


@pytest.mark.parametrize(
    "path",
    [
        *("//evil.example/", "https://evil.example/", "/login/?next=//evil.example", "/", "javascript:alert(1)", ""),
        *("/flights/../login", "/flights//evil.example", "/flights/\\evil.example", "/flights/\n", "/flightsx/"),
        *("/flights/?next=https://evil.example", "/flights/.%2e/", "/flights/é"),
    ],
)
def test_the_login_never_leads_to_another_place_than_the_site(path: str) -> None:
    assert login_url(path) == "/login/?next=%2Fflights%2F"


def test_the_login_ignores_the_host_of_the_request(visit: New) -> None:
    answer = visit(None).get("/flights/2015/", Host="evil.example", X_Forwarded_Host="evil.example")

    assert answer.headers["Location"] == "/login/?next=%2Fflights%2F2015%2F"
    assert visit(ADMIN).get("/flights/2015", Host="evil.example").headers["Location"] == "/flights/2015/"
