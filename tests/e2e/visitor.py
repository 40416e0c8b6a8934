"""A person with Chromium: open a page, wait until it has loaded, log in, save a picture in the ignored folder .e2e.

And axe, which reads a page as assistive technology does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Error, Locator, Page, Playwright, Request

from tests.e2e.installation import ROOT

PICTURES = ROOT / ".e2e"
CHROMIUM = "/usr/bin/chromium"  # Debian's
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TIMEOUT_MS = 60_000
MAX_ATTEMPTS = 4
MAX_TABS = 150
AXE_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]


def launch(playwright: Playwright) -> Browser:
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    return playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *as_root])


def see(page: Page, act: Callable[[], object], sign: Locator) -> None:
    """Call `act`, which opens a page, and wait for an element of that page.

    A container that starts or stops changes the network interfaces of the host, and Chromium then drops the page that
    it loads. A person would reload the page; so does this function.
    """
    for attempt in range(MAX_ATTEMPTS):
        dropped: list[str] = []

        def note(request: Request, dropped: list[str] = dropped) -> None:
            if request.failure == "net::ERR_NETWORK_CHANGED":
                dropped.append(request.url)

        page.on("requestfailed", note)
        try:
            if attempt:
                page.reload()
            else:
                act()
            sign.wait_for()
        except Error:
            if not dropped or attempt == MAX_ATTEMPTS - 1:
                raise
        else:
            return
        finally:
            page.remove_listener("requestfailed", note)


def visit(page: Page, url: str, sign: Locator) -> None:
    see(page, partial(page.goto, url), sign)


def until(page: Page, is_true: Callable[[], bool], condition: str, timeout_s: int = 300) -> None:
    """Wait for a condition while the page keeps running. Raises AssertionError with the condition after the timeout."""
    for _ in range(timeout_s * 2):
        if is_true():
            return
        page.wait_for_timeout(500)
    raise AssertionError(f"not true after {timeout_s} s: {condition}")


def picture(page: Page, name: str) -> Path:
    """Save a picture of the whole page, once two in a row are equal, so that nothing on it moves."""
    path, previous = PICTURES / f"{name}.png", b""
    for _ in range(20):
        if (current := page.screenshot(full_page=True)) == previous:
            break
        previous = current
        page.wait_for_timeout(500)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(previous)
    return path


def check_accessibility(page: Page) -> None:
    """Raise AssertionError if axe has serious or critical findings: page, rule, its meaning, and element of each."""
    options = {"runOnly": {"type": "tag", "values": AXE_RULES}, "resultTypes": ["violations"]}
    findings = [
        f"{page.url}: {rule['id']} ({rule['help']}): {node['html']}"
        for rule in Axe().run(page, options=options).response["violations"]
        if rule["impact"] in {"serious", "critical"}
        for node in rule["nodes"]
    ]
    assert not findings, "\n".join(findings)


def overflow(page: Page) -> int:
    """Return by how many pixels the page is wider than the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def tab_to(page: Page, element: Locator) -> None:
    """Press Tab until the element has the focus. Raises AssertionError if it gets none, or if nothing shows it."""
    for _ in range(MAX_TABS):
        page.keyboard.press("Tab")
        if element.evaluate("element => element === document.activeElement"):
            assert element.evaluate("element => getComputedStyle(element).outlineStyle") == "solid", element
            return
    raise AssertionError(f"{MAX_TABS} times Tab do not reach {element}")


# --- Superset ---------------------------------------------------------------------------------------------------------


def open_dashboard(page: Page, url: str, slug: str) -> None:
    """Open the dashboard in a window so high that every chart of the first tab loads, then fit the window."""
    page.set_viewport_size({"width": 1400, "height": 4000})
    visit(page, f"{url}/superset/dashboard/{slug}/", page.locator("[data-test-chart-name]").first)
    fit(page, f"the dashboard {slug} has loaded")


def fit(page: Page, condition: str) -> None:
    """Make the window as high as the open tab, once its charts have loaded."""
    visible = page.locator("[data-test-chart-name]:visible")
    visible.first.wait_for()
    until(page, lambda: not is_loading(page), condition)
    last = visible.last.bounding_box()
    assert last
    page.set_viewport_size({"width": 1400, "height": round(last["y"] + last["height"]) + 20})


def is_loading(page: Page) -> bool:
    return page.get_by_test_id("loading-indicator").count() > 0


# --- logins -----------------------------------------------------------------------------------------------------------


def log_in_to_airflow(page: Page, url: str, password: str) -> None:
    user_field, password_field = page.locator("input[name=username]"), page.locator("input[name=password]")
    visit(page, f"{url}/airflow/", password_field)  # redirects to the form
    user_field.fill("admin")
    password_field.fill(password)
    see(page, partial(password_field.press, "Enter"), page.get_by_role("link", name="Dags").first)


def log_in_to_superset(page: Page, url: str, password: str, name: str = "admin") -> None:
    """Log in after the form has sent its first report to /superset/log/.

    The answer to a report that is sent during the login would replace the new session by an anonymous one.
    """
    reports: list[Request] = []

    def note(request: Request) -> None:
        if "/superset/log/" in request.url:
            reports.append(request)

    for event in ("requestfinished", "requestfailed"):
        page.on(event, note)
    user_field = page.get_by_role("textbox", name="Username:")
    password_field = page.get_by_role("textbox", name="Password:")
    visit(page, f"{url}/login/", password_field)
    until(page, lambda: bool(reports), "the login form has sent its report")
    user_field.fill(name)
    password_field.fill(password)
    see(page, partial(password_field.press, "Enter"), page.get_by_text("Home", exact=True))


def log_in_to_jupyter(page: Page, url: str, token: str) -> None:
    token_field = page.get_by_role("textbox", name="Password or token:")
    visit(page, f"{url}/jupyter/", token_field)
    token_field.fill(token)
    see(page, partial(token_field.press, "Enter"), page.get_by_role("menuitem", name="Run", exact=True))
