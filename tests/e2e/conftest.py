"""The stack that the tests share, started by `make up` in a clone of its own, and browsers.

tests/e2e/run.sh chooses the folder and the Compose project of the clone, and removes both in every case.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import (
    APIRequestContext,
    Browser,
    BrowserContext,
    Error,
    Page,
    Playwright,
    StorageState,
    expect,
    sync_playwright,
)

from tests.e2e import visitor
from tests.e2e.installation import Installation


def variable(name: str) -> str:
    if name not in os.environ:
        pytest.fail(f"{name} is not set; start these tests with `make test-e2e`.")
    return os.environ[name]


@pytest.fixture(scope="session")
def project() -> str:
    """Return the name of the Compose project. The names of other projects of these tests begin with it."""
    return variable("DELAYWATCH_E2E_PROJECT")


@pytest.fixture(scope="session")
def clone(project: str) -> Installation:
    """A fresh clone in which no command has run."""
    return Installation.fresh(Path(variable("DELAYWATCH_E2E_FOLDER")) / "clone", project)


@pytest.fixture(scope="session")
def welcome(clone: Installation) -> str:
    """The output of the first `make up`."""
    return clone.made("up")


@pytest.fixture(scope="session")
def stack(clone: Installation, welcome: str) -> Installation:
    """The clone with its stack running."""
    return clone


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        playwright.selectors.set_test_id_attribute("data-test")  # Superset's attribute
        expect.set_options(timeout=visitor.TIMEOUT_MS)
        yield playwright


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    browser = visitor.launch(playwright)
    yield browser
    browser.close()


def new_context(browser: Browser, cookies: StorageState | None = None) -> BrowserContext:
    """Return a context that accepts the self-signed certificate."""
    context = browser.new_context(
        ignore_https_errors=True,
        locale="en-US",
        timezone_id="UTC",
        viewport={"width": 1400, "height": 1000},
        storage_state=cookies,
    )
    context.set_default_timeout(visitor.TIMEOUT_MS)
    return context


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page without cookies."""
    with new_context(browser) as context:
        yield context.new_page()


@pytest.fixture(scope="session")
def superset_login(browser: Browser, stack: Installation) -> StorageState:
    """The cookies of an administrator who has logged in to Superset."""
    with new_context(browser) as context:
        visitor.log_in_to_superset(context.new_page(), stack.url, stack.password())
        return context.storage_state()


@pytest.fixture
def superset_page(browser: Browser, superset_login: StorageState) -> Iterator[Page]:
    """A page with the cookies of an administrator of Superset."""
    with new_context(browser, superset_login) as context:
        yield context.new_page()


@pytest.fixture
def client(playwright: Playwright, stack: Installation) -> Iterator[APIRequestContext]:
    """An HTTPS client without cookies that follows no redirect."""
    context = playwright.request.new_context(
        base_url=stack.url, ignore_https_errors=True, max_redirects=0, timeout=visitor.TIMEOUT_MS
    )
    yield context
    context.dispose()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Save a picture of each page of a failed test."""
    report = yield
    pages = [value for value in getattr(item, "funcargs", {}).values() if isinstance(value, Page)]
    if report.when == "call" and report.failed:
        for page in pages:
            picture = visitor.PICTURES / f"failed-{item.name}.png"
            picture.parent.mkdir(exist_ok=True)
            try:
                page.screenshot(path=picture)
            except Error as error:
                report.sections.append(("last page", f"{page.url}\nno picture: {error}"))
            else:
                report.sections.append(("last page", f"{page.url}\n{picture}"))
    return report
