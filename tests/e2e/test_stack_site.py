"""The pages at /flights/ in Chromium, through nginx, with the real Superset: login, axe, feedback, attacks.

The tests use the stack of conftest.py after test_stack.py, which needs it empty at first. The first test of this file
runs the demo's year if it has not run.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator

import itsdangerous
import pytest
from playwright.sync_api import APIRequestContext, Browser, Page, StorageState, expect

from tests.e2e import visitor
from tests.e2e.conftest import new_context
from tests.e2e.installation import YEAR, Installation, airflow_token
from tests.servers.startup import wait_until

pytestmark = pytest.mark.e2e

DAY = f"/flights/airports/LGA/{YEAR}-02-08/"
LABEL = f"SELECT opinion, note, author FROM flights.feedback WHERE origin = 'LGA' AND fl_date = '{YEAR}-02-08'"
EVIL = "https://evil.example"
NOTE = "closed <b>by snow</b> & ice"


@pytest.fixture(scope="module", autouse=True)
def year(stack: Installation, playwright: object) -> None:
    """Wait until the demo's year is in the warehouse; start its run if nobody has."""
    query = f"SELECT count(*) AS runs FROM flights.runs WHERE year = {YEAR} AND ended IS NOT NULL"

    def is_done() -> bool:
        return stack.psql("warehouse", query) != [{"runs": "0"}]

    if not is_done():
        trigger = ("airflow", "dags", "trigger", "flight_anomalies", "--conf", f'{{"year": {YEAR}}}')
        stack.compose("exec", "-T", "airflow-scheduler", *trigger)
        wait_until(is_done, "the demo's year is in the warehouse", timeout_s=900)


@pytest.fixture
def site_page(browser: Browser, superset_login: StorageState) -> Iterator[Page]:
    """A page with the cookies of an administrator, which fails on a message of the browser's console."""
    with new_context(browser, superset_login) as context:
        page = context.new_page()
        messages: list[str] = []
        page.on("console", lambda message: messages.append(message.text) if message.type == "error" else None)
        yield page
        assert messages == [], "the content security policy blocks nothing of our own"


def visit(page: Page, stack: Installation, path: str) -> None:
    visitor.visit(page, stack.url + path, page.locator("main h1").first)


def cookie_of(login: StorageState) -> str:
    (value,) = (cookie["value"] for cookie in login["cookies"] if cookie["name"] == "superset_session")
    return str(value)


def aged(cookie: str, secret_key: bytes, hours: float) -> str:
    """Return the cookie of Superset's session as Flask would have signed it some hours ago."""

    class Signer(itsdangerous.TimestampSigner):
        def get_timestamp(self) -> int:
            return int(time.time() - 3600 * hours)

    payload = cookie.rsplit(".", 2)[0]
    signer = Signer(secret_key, salt="cookie-session", key_derivation="hmac", digest_method=hashlib.sha1)
    return signer.sign(payload).decode()


# --- login ------------------------------------------------------------------------------------------------------------


def test_a_page_without_a_session_leads_to_the_login_and_back_to_the_page(stack: Installation, page: Page) -> None:
    user = page.get_by_role("textbox", name="Username:")
    password = page.get_by_role("textbox", name="Password:")
    visitor.visit(page, stack.url + DAY, password)
    page.wait_for_timeout(2000)  # the form reports itself, which would replace a session of the same moment
    user.fill("admin")
    password.fill(stack.password())
    visitor.see(page, lambda: password.press("Enter"), page.get_by_role("heading", level=1).filter(has_text="LGA"))

    assert page.url == stack.url + DAY


def test_a_login_without_a_page_to_return_to_leads_to_the_dashboard(stack: Installation, browser: Browser) -> None:
    with new_context(browser) as context:
        page = context.new_page()
        visitor.log_in_to_superset(page, stack.url, stack.password())

        page.wait_for_url(re.compile(rf"^{re.escape(stack.url)}/superset/dashboard/flight-anomalies/"))


@pytest.mark.parametrize("cookie", ["", "superset_session=forged", "superset_session=eyJfdXNlcl9pZCI6IjEifQ.x.y"])
def test_a_forged_or_missing_cookie_sees_no_page_and_no_row(
    stack: Installation, client: APIRequestContext, cookie: str
) -> None:
    headers = {"Cookie": cookie} if cookie else {}

    for path in ("/flights/", DAY, f"{DAY}flights", f"{DAY}flights.csv"):
        answer = client.get(path, headers=headers)
        assert answer.status == 302
        assert answer.headers["location"].startswith("/login/?next=%2Fflights%2F")
    assert client.get("/flights/api/days", headers=headers).status == 401


def test_a_session_ends_with_the_logout(stack: Installation, browser: Browser) -> None:
    with new_context(browser) as context:
        page = context.new_page()
        visitor.log_in_to_superset(page, stack.url, stack.password())
        visit(page, stack, "/flights/")
        page.get_by_role("link", name="Log out").click()
        page.wait_for_load_state()

        visitor.visit(page, f"{stack.url}/flights/", page.get_by_role("textbox", name="Password:"))


@pytest.mark.parametrize(("age_h", "status"), [(11.9, 200), (12.1, 302)])
def test_a_session_expires_after_twelve_hours(
    stack: Installation, client: APIRequestContext, superset_login: StorageState, age_h: float, status: int
) -> None:
    cookie = aged(cookie_of(superset_login), stack.secrets()["superset_secret_key"].strip(), age_h)

    assert client.get(DAY, headers={"Cookie": f"superset_session={cookie}"}).status == status


def test_the_login_leads_to_no_other_site(stack: Installation, client: APIRequestContext) -> None:
    for path in (
        f"/flights/?next={EVIL}",
        "/flights//evil.example/",
        f"/flights/{EVIL}",
        "/flights/%2F%2Fevil.example/",
    ):
        location = client.get(path).headers.get("location", "")
        assert location == "" or location.startswith(("/login/?next=%2Fflights%2F", "/flights/"))
        assert "evil" not in location.partition("?")[0]


# --- pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [360, 1400])
def test_every_page_is_accessible_and_has_no_scroll_bar_at_the_side(
    stack: Installation, site_page: Page, width: int
) -> None:
    page = site_page
    page.set_viewport_size({"width": width, "height": 900})
    (event,) = stack.psql(
        "warehouse", "SELECT event_id FROM flights.events ORDER BY airports DESC, cancelled DESC LIMIT 1"
    )
    paths = {
        "home": "/flights/",
        "year": f"/flights/{YEAR}/",
        "airports": "/flights/airports/",
        "airport": "/flights/airports/LGA/",
        "airport-year": f"/flights/airports/LGA/{YEAR}/",
        "day": DAY,
        "event": f"/flights/events/{event['event_id']}/",
        "api": "/flights/api/docs",
    }
    for name, path in paths.items():
        visit(page, stack, path)
        if name == "day":
            expect(page.locator("#flights table")).to_be_visible()
        visitor.picture(page, f"site-{name}-{width}")
        assert visitor.overflow(page) <= 0, name
        visitor.check_accessibility(page)


def test_pages_are_accessible_in_dark_mode(stack: Installation, browser: Browser, superset_login: StorageState) -> None:
    with new_context(browser, superset_login) as context:
        page = context.new_page()
        page.emulate_media(color_scheme="dark")
        for name, path in {"home": "/flights/", "day": DAY, "message": "/flights/nothing/"}.items():
            visit(page, stack, path)
            if name == "day":
                expect(page.locator("#flights table")).to_be_visible()
            visitor.picture(page, f"site-{name}-dark")
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 28)"
            visitor.check_accessibility(page)


def test_with_the_keyboard_alone_the_search_opens_a_day_and_a_label_is_given_and_withdrawn(
    stack: Installation, site_page: Page
) -> None:
    page = site_page
    visit(page, stack, "/flights/")
    visitor.tab_to(page, page.get_by_role("textbox", name="Airport code or city"))
    page.keyboard.type("LGA")
    visitor.tab_to(page, page.get_by_label("Date"))
    page.keyboard.type(f"0208{YEAR}")
    page.keyboard.press("Enter")
    expect(page).to_have_url(stack.url + DAY)

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    visitor.tab_to(page, page.get_by_label("Right"))
    page.keyboard.press("Space")
    visitor.tab_to(page, page.get_by_label("Note"))
    page.keyboard.type("by keyboard")
    visitor.tab_to(page, page.get_by_role("button", name="Save label"))
    page.keyboard.press("Enter")
    withdraw = page.get_by_role("button", name="Withdraw label")
    withdraw.wait_for()
    assert stack.psql("warehouse", LABEL) == [{"opinion": "right", "note": "by keyboard", "author": "admin"}]

    visitor.tab_to(page, withdraw)
    page.keyboard.press("Enter")
    withdraw.wait_for(state="detached")
    assert stack.psql("warehouse", LABEL) == []


def test_the_search_opens_a_day_whose_flights_equal_sql(stack: Installation, site_page: Page) -> None:
    page = site_page
    visit(page, stack, "/flights/")
    page.get_by_role("textbox", name="Airport code or city").fill("lga")
    page.get_by_label("Date").fill(f"{YEAR}-02-08")
    page.get_by_role("button", name="Go").click()

    expect(page).to_have_url(stack.url + DAY)
    (day,) = stack.psql(
        "warehouse",
        f"SELECT scheduled FROM flights.airport_days WHERE origin = 'LGA' AND fl_date = '{YEAR}-02-08'",
    )
    flights = page.locator("#flights")
    expect(flights).to_contain_text(f"{day['scheduled']} flights")
    flights.get_by_role("button", name="delay, min").click()
    expect(flights.locator("tbody tr").first).not_to_contain_text("cancelled")


def test_the_api_answers_with_the_session_of_the_browser(stack: Installation, site_page: Page) -> None:
    answer = site_page.request.get(f"{stack.url}/flights/api/days?airport=LGA&year={YEAR}&limit=400")

    assert answer.ok
    assert len(answer.json()["rows"]) == 365
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"


# --- feedback ---------------------------------------------------------------------------------------------------------


def test_a_label_is_given_in_the_browser_shown_in_superset_and_withdrawn(
    stack: Installation, site_page: Page, superset_page: Page
) -> None:
    page = site_page
    days = superset_page.locator('[data-test-chart-name^="Abnormal days and why"]:visible tbody tr')
    labelled = days.filter(has_text="08 Feb 2013").last  # Superset also renders a copy to measure the columns
    visit(page, stack, DAY)
    page.get_by_label("Right").check()
    page.get_by_label("Note").fill(NOTE)
    page.get_by_role("button", name="Save label").click()
    page.wait_for_load_state()

    assert stack.psql("warehouse", LABEL) == [{"opinion": "right", "note": NOTE, "author": "admin"}]
    expect(page.locator("main")).to_contain_text(NOTE)
    assert page.locator("main b", has_text="by snow").count() == 0, "the note is text, not HTML"
    visitor.open_dashboard(superset_page, stack.url, "flight-anomalies")
    expect(labelled).to_contain_text("right: closed ‹b>by snow‹/b> & ice")  # the view of the dashboard replaces <
    visitor.picture(superset_page, "superset-label")

    page.get_by_role("button", name="Withdraw label").click()
    page.wait_for_load_state()
    assert stack.psql("warehouse", LABEL) == []
    visitor.open_dashboard(superset_page, stack.url, "flight-anomalies")
    expect(labelled).to_contain_text("closure")
    expect(labelled).not_to_contain_text("by snow")


@pytest.mark.parametrize("attack", ["foreign origin", "no origin", "no token", "wrong token", "get"])
def test_a_forged_form_changes_nothing(
    stack: Installation, client: APIRequestContext, superset_login: StorageState, attack: str
) -> None:
    cookie = {"Cookie": f"superset_session={cookie_of(superset_login)}"}
    text = client.get(DAY, headers=cookie).text()
    (token,) = re.findall(r'name="csrf_token" value="([^"]+)"', text)
    form = {"opinion": "right", "note": "", "csrf_token": token}
    headers = {**cookie, "Origin": stack.url}
    if attack == "foreign origin":
        headers["Origin"] = EVIL
    elif attack == "no origin":
        del headers["Origin"]
    elif attack == "no token":
        del form["csrf_token"]
    elif attack == "wrong token":
        form["csrf_token"] = token[::-1]
    if attack == "get":
        answer = client.get(f"{DAY}feedback?opinion=right&csrf_token={token}", headers=headers)
    else:
        answer = client.post(f"{DAY}feedback", headers=headers, form=form)

    assert answer.status in {308, 400, 403, 404, 405}
    assert stack.psql("warehouse", LABEL) == []


def test_feedback_without_a_session_leads_to_the_login(stack: Installation, client: APIRequestContext) -> None:
    answer = client.post(f"{DAY}feedback", headers={"Origin": stack.url}, form={"opinion": "right"})

    assert answer.status == 303
    assert answer.headers["location"].startswith("/login/?next=")
    assert stack.psql("warehouse", LABEL) == []


# --- accounts ---------------------------------------------------------------------------------------------------------


def test_make_user_creates_an_analyst_who_labels_a_day_and_disables_the_account(
    stack: Installation, browser: Browser, client: APIRequestContext
) -> None:
    output = stack.made("user", "NAME=ann", "ROLE=analyst")
    (password,) = re.findall(r"^Password +(\S+)$", output, re.MULTILINE)

    with new_context(browser) as context:
        page = context.new_page()
        visitor.log_in_to_superset(page, stack.url, password, name="ann")
        visit(page, stack, DAY)
        page.get_by_label("Wrong").check()
        page.get_by_role("button", name="Save label").click()
        page.wait_for_load_state()
        assert stack.psql("warehouse", LABEL) == [{"opinion": "wrong", "note": "", "author": "ann"}]
        assert airflow_token(client, password, name="ann")

        stack.made("user", "NAME=ann", "ROLE=none")

        sign = page.get_by_role("textbox", name="Password:")
        page.wait_for_timeout(61_000)  # the site remembers a session for a minute
        visitor.visit(page, f"{stack.url}/flights/", sign)
        answer = client.post("/airflow/auth/token", data={"username": "ann", "password": password})
        assert answer.status == 401
    assert stack.make("user", "NAME=admin", "ROLE=analyst")[0] != 0
    assert stack.make("user", "NAME=ann", "ROLE=king")[0] != 0
    stack.psql("warehouse", "DELETE FROM flights.feedback WHERE author = 'ann'")


# --- faults -----------------------------------------------------------------------------------------------------------


def test_without_superset_a_page_says_so_and_comes_back(stack: Installation, site_page: Page) -> None:
    site_page.context.clear_cookies()
    cookie = {"Cookie": "superset_session=of.another.session"}
    stack.compose("stop", "superset")
    try:
        answer = site_page.request.get(f"{stack.url}/flights/", headers=cookie, max_redirects=0)
    finally:
        stack.compose("up", "--detach", "--wait", "--no-recreate", "--no-deps", "superset")

    assert answer.status == 503
    assert "Superset does not answer" in answer.text()


def test_the_site_stays_within_its_memory(stack: Installation) -> None:
    """After every page and form of this file; the rest of the limit is for files that the kernel can drop."""
    status = stack.compose("exec", "-T", "site", "sh", "-c", "cat /proc/[0-9]*/status").decode()

    used_kb = sum(int(size) for size in re.findall(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE))
    assert 50_000 < used_kb < 0.9 * 256 * 1024
