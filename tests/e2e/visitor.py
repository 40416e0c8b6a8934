"""What a person at Chromium does on any page of the stack: come, wait until it is there, log in, take a picture.

What the pages must show is in the tests. The pictures are in the git-ignored folder .e2e/.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

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
PATIENCE_MS = 60_000
ATTEMPTS = 4


def launch(playwright: Playwright) -> Browser:
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    return playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *as_root])


def see(page: Page, act: Callable[[], object], sign: Locator) -> None:
    """Do something that opens a page, and wait for a sign of it.

    A container that starts or ends, of whatever project, changes the host's network interfaces. Chromium then drops
    what it was loading, and a person would press reload; so does this.
    """
    for attempt in range(ATTEMPTS):
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
            if not dropped or attempt == ATTEMPTS - 1:
                raise
        else:
            return
        finally:
            page.remove_listener("requestfailed", note)


def visit(page: Page, url: str, sign: Locator) -> None:
    see(page, partial(page.goto, url), sign)


def until(page: Page, is_so: Callable[[], bool], what: str, patience_s: int = 300) -> None:
    """Wait for a condition while the page goes on."""
    for _ in range(patience_s * 2):
        if is_so():
            return
        page.wait_for_timeout(500)
    raise AssertionError(f"waited {patience_s} s in vain: {what}")


def picture(page: Page, name: str) -> Path:
    """Keep a picture of the whole page, once two in a row are the same, so that nothing on it still moves."""
    path, last = PICTURES / f"{name}.png", b""
    for _ in range(20):
        if (this := page.screenshot(full_page=True)) == last:
            break
        last = this
        page.wait_for_timeout(500)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(last)
    return path


# --- logins -----------------------------------------------------------------------------------------------------------


def log_in_to_airflow(page: Page, url: str, password: str) -> None:
    user, word = page.locator("input[name=username]"), page.locator("input[name=password]")
    visit(page, f"{url}/airflow/", word)  # leads to the form
    user.fill("admin")
    word.fill(password)
    see(page, partial(word.press, "Enter"), page.get_by_role("link", name="Dags").first)


def log_in_to_superset(page: Page, url: str, password: str) -> None:
    """As slowly as a person types: after the form's first report to /superset/log/.

    The answer to a report that is under way during the login would put its own anonymous session over the new one.
    """
    reports: list[Request] = []

    def note(request: Request) -> None:
        if "/superset/log/" in request.url:
            reports.append(request)

    for event in ("requestfinished", "requestfailed"):
        page.on(event, note)
    user, word = page.get_by_role("textbox", name="Username:"), page.get_by_role("textbox", name="Password:")
    visit(page, f"{url}/login/", word)
    until(page, lambda: bool(reports), "the login form has sent its report")
    user.fill("admin")
    word.fill(password)
    see(page, partial(word.press, "Enter"), page.get_by_text("Home", exact=True))


def log_in_to_jupyter(page: Page, url: str, token: str) -> None:
    word = page.get_by_role("textbox", name="Password or token:")
    visit(page, f"{url}/jupyter/", word)
    word.fill(token)
    see(page, partial(word.press, "Enter"), page.get_by_role("menuitem", name="Run", exact=True))
