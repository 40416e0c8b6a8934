"""Take the pictures of README and docs from a running stack.

CONTRIBUTING.md has the command and says what the stack has. The certificate is not checked.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests.e2e import visitor

DOCS = Path(__file__).parents[2] / "docs"
COLOURS = 256
LGA, DAY = "/flights/airports/LGA/", "/flights/airports/LGA/2013-02-09/"
PAGES = {
    "page-home": "/flights/",
    "page-year": "/flights/2013/",
    "page-airport": "/flights/airports/ABQ/",
    "page-airport-year": f"{LGA}2013/",
    "page-day": DAY,
    "page-event": "/flights/events/20130208-JFK/",
}
DASHBOARDS = {
    "dashboard-flight-anomalies": "flight-anomalies",
    "dashboard-network": "network",
    "dashboard-years": "years",
}


def save(page: Page, name: str, max_height: int) -> None:
    """Save the top of the page with 256 colours, which makes the file much smaller."""
    page.wait_for_timeout(1500)
    image = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    image = image.crop((0, 0, image.width, min(image.height, max_height)))
    image.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE).save(
        DOCS / f"{name}.png", optimize=True
    )


def take(browser: Browser, url: str, password: str) -> None:
    """Take all pictures as an administrator."""
    context = browser.new_context(ignore_https_errors=True, locale="en-US", viewport={"width": 1100, "height": 1000})
    page = context.new_page()
    visitor.log_in_to_superset(page, url, password)
    for name, path in PAGES.items():
        visitor.visit(page, url + path, page.locator("main h1").first)
        save(page, name, 1500)
    phone = context.new_page()
    phone.set_viewport_size({"width": 390, "height": 844})
    visitor.visit(phone, url + DAY, phone.locator("main h1").first)
    save(phone, "page-day-phone", 1500)
    for name, slug in DASHBOARDS.items():
        visitor.open_dashboard(page, url, slug)
        save(page, name, 1500)


def main() -> None:
    url, password = sys.argv[1:]
    with sync_playwright() as playwright:
        playwright.selectors.set_test_id_attribute("data-test")
        browser = visitor.launch(playwright)
        take(browser, url, password)
        browser.close()


if __name__ == "__main__":
    main()
