"""The site in a folder, opened from file:// in Chromium: axe on every kind of page, at both widths."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser

from tests.builders import csv_of, year_of_flights
from tests.e2e import visitor
from tests.e2e.conftest import new_context
from tests.steps import CLOSED, STEPS, YEAR
from utils.pipeline import site
from utils.settings import Settings
from utils.storage.lake import Lake

pytestmark = pytest.mark.e2e

PAGES = (
    "index.html",
    f"years/{YEAR}.html",
    "airports/index.html",
    "airports/JFK/index.html",
    f"airports/JFK/{YEAR}.html",
    f"events/{YEAR}0208-JFK.html",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of one year."""
    lake = tmp_path_factory.mktemp("site") / "lake"
    settings = Settings(lake=lake.as_uri(), warehouse="", scratch=lake.parent, threads=2)
    flights = year_of_flights(YEAR, {"JFK": 24, "EWR": 16, "ACK": 3}, closed=CLOSED)
    Lake(settings).store.put(f"01_bronze/{YEAR}.csv", csv_of(flights))
    for step in ("silver", "gold", "detect", "explain", "plots"):
        STEPS[step](settings, YEAR)
    site.write_site(settings)
    return lake / "04_plots"


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1400, "light")])
def test_every_page_of_the_folder_is_accessible_and_has_no_scroll_bar_at_the_side(
    folder: Path, browser: Browser, width: int, scheme: Literal["dark", "light"]
) -> None:
    with new_context(browser) as context:
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        for name in PAGES:
            visitor.visit(page, (folder / name).as_uri(), page.locator("main h1").first)
            assert visitor.overflow(page) <= 0, name
            visitor.check_accessibility(page)


def test_the_search_of_the_folder_opens_the_section_of_a_day_by_keyboard(folder: Path, browser: Browser) -> None:
    with new_context(browser) as context:
        page = context.new_page()
        visitor.visit(page, (folder / "index.html").as_uri(), page.locator("main h1").first)
        visitor.tab_to(page, page.get_by_role("textbox", name="Airport code or city"))
        page.keyboard.type("jfk")
        visitor.tab_to(page, page.get_by_label("Date"))
        page.keyboard.type(f"0208{YEAR}")
        page.keyboard.press("Enter")

        page.wait_for_url(f"{(folder / f'airports/JFK/{YEAR}.html').as_uri()}#{YEAR}-02-08")
