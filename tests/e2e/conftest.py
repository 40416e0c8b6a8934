"""The stack that the tests share, brought up by `make up` in a clone of its own, the browser, and a failure's picture.

tests/e2e/run.sh names the clone's folder and its Compose project, and removes both whatever happens here.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import APIRequestContext, Browser, Error, Page, Playwright, expect, sync_playwright

from tests.e2e import visitor
from tests.e2e.installation import Installation, answering


def given(name: str) -> str:
    if name not in os.environ:
        pytest.fail(f"{name} is not set; start these tests with `make test-e2e`.")
    return os.environ[name]


@pytest.fixture(scope="session")
def project() -> str:
    """The name of the Compose project; others of these tests begin with it."""
    return given("DELAYWATCH_E2E_PROJECT")


@pytest.fixture(scope="session")
def clone(project: str) -> Installation:
    """A fresh clone, nothing of which has run yet."""
    return Installation.fresh(Path(given("DELAYWATCH_E2E_FOLDER")) / "clone", project)


@pytest.fixture(scope="session")
def answering_before(clone: Installation) -> set[int]:
    """The ports on which this host answered before the stack came up."""
    return answering()


@pytest.fixture(scope="session")
def welcome(clone: Installation, answering_before: set[int]) -> str:
    """What the first `make up` says."""
    return clone.made("up")


@pytest.fixture(scope="session")
def stack(clone: Installation, welcome: str) -> Installation:
    """The clone with its stack up."""
    return clone


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as found:
        found.selectors.set_test_id_attribute("data-test")  # Superset's
        expect.set_options(timeout=visitor.PATIENCE_MS)
        yield found


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    browser = visitor.launch(playwright)
    yield browser
    browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a browser that has no cookies yet and takes the self-signed certificate."""
    context = browser.new_context(
        ignore_https_errors=True, locale="en-US", timezone_id="UTC", viewport={"width": 1400, "height": 1000}
    )
    context.set_default_timeout(visitor.PATIENCE_MS)
    yield context.new_page()
    context.close()


@pytest.fixture
def client(playwright: Playwright, stack: Installation) -> Iterator[APIRequestContext]:
    """A program that asks the stack over HTTPS, follows no redirect and has no cookies yet."""
    context = playwright.request.new_context(
        base_url=stack.url, ignore_https_errors=True, max_redirects=0, timeout=visitor.PATIENCE_MS
    )
    yield context
    context.dispose()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep a picture of the page on which a test failed."""
    report = yield
    page = getattr(item, "funcargs", {}).get("page")
    if report.when == "call" and report.failed and isinstance(page, Page):
        picture = visitor.PICTURES / f"failed-{item.name}.png"
        picture.parent.mkdir(exist_ok=True)
        try:
            page.screenshot(path=picture)
        except Error as error:
            report.sections.append(("last page", f"{page.url}\nno picture: {error}"))
        else:
            report.sections.append(("last page", f"{page.url}\n{picture}"))
    return report
