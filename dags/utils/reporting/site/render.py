"""The pages as HTML: one function per page, from its frames and the layout around it.

The templates are in `templates/`. Jinja escapes every value. The pages have no style attribute and no inline script,
and load only site.css, site.js, us-outline.svg and plots, so that a strict Content-Security-Policy holds.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd

from utils.reporting import wording
from utils.reporting.site import charts
from utils.reporting.site.contexts import airport, day, event, home, year
from utils.reporting.site.contexts.shared import Context
from utils.reporting.site.frames import AirportData, AirportYearData, DayData, EventData, HomeData, YearData
from utils.reporting.site.links import Links

FOLDER = Path(__file__).parent
ASSETS = ("site.css", "site.js", "us-outline.svg")
LABEL_CHOICES = (  # the label, its name on a flagged day and on another day, its effect
    (
        "right",
        "Right",
        "Abnormal",
        "The day was abnormal. It counts for the precision of the detectors that flag it, and as missed by the others.",
    ),
    ("wrong", "Wrong", "Usual", "The day was usual. It counts against the precision of the detectors that flag it."),
    (
        "expected",
        "Expected",
        "Expected",
        "You know the reason. This day is no longer used for fitting, so other days may become abnormal.",
    ),
)


class Levels(NamedTuple):
    """When the published detector calls a day mild, strong or extreme, or closed.

    severity_days: return periods. cancelled_share: the cancelled share of the scheduled flights from which a day is at
    least mild; closure_share: from which an abnormal day is closed.
    """

    severity_days: Sequence[float]
    cancelled_share: float
    closure_share: float

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Levels:
        """Return the levels in the settings of the published detector."""
        return cls(tuple(params["levels"]), params["cancelled_share"], params["closure_share"])


@dataclass(frozen=True)
class Layout:
    """What is around every page.

    years: the years in the navigation; without them it links to the home page, so that a new year does not change the
    pages of the others. user: name to show, with the addresses of the dashboards and of the logout.
    """

    links: Links
    levels: Levels
    years: Sequence[int] = ()
    user: str | None = None
    dashboards: str = "/superset/dashboard/flight-anomalies/"
    logout: str = "/logout/"


@dataclass(frozen=True)
class LabelForm:
    """The form that labels a day. It posts `csrf_token`, `opinion` (right, wrong, expected) and `note` to `action`.

    The button that withdraws the label also posts `withdraw=yes`.
    """

    action: str
    csrf_token: str


def home_page(data: HomeData, layout: Layout) -> str:
    """Return the page of all years."""
    return _render("home", layout, home.home(data, layout.links), current="home")


def year_page(data: YearData, layout: Layout) -> str:
    """Return the page of a year of the network."""
    return _render("year", layout, year.year(data, layout.links), current_year=data.year)


def airports_page(airport_years: pd.DataFrame, layout: Layout) -> str:
    """Return the list of airports, which is also the target of the search without a server. Rows of AIRPORT_YEARS."""
    return _render("airports", layout, airport.airports(airport_years, layout.links), current="airports")


def airport_page(data: AirportData, layout: Layout) -> str:
    """Return the page of all years of an airport."""
    return _render("airport", layout, airport.airport(data, layout.links))


def airport_year_page(data: AirportYearData, layout: Layout) -> str:
    """Return the page of one year of an airport; each abnormal day is a section with its date as id."""
    return _render("airport_year", layout, airport.airport_year(data, layout.links))


def event_page(data: EventData, layout: Layout) -> str:
    """Return the page of an event."""
    return _render("event", layout, event.event(data, layout.links), event_id=data.event_id)


def day_page(data: DayData, layout: Layout, label_form: LabelForm | None = None, flights_url: str | None = None) -> str:
    """Return the page of an airport-day. flights_url: address of `flights_part`, which the browser loads separately."""
    more = {"label_form": label_form, "label_choices": LABEL_CHOICES, "flights_url": flights_url}
    return _render("day", layout, day.day(data, layout.links), **more)


def flights_part(flights: pd.DataFrame, layout: Layout, csv_url: str | None = None) -> str:
    """Return the flights of an airport-day, hour by hour and as a list: a part of its page. flights: rows of silver."""
    return _render("flights", layout, day.flights(flights), csv_url=csv_url)


def message_page(title: str, text: str, layout: Layout) -> str:
    """Return a page with a message, for example that the visitor may not see the site."""
    return _render("message", layout, {"title": title, "text": text})


def asset(name: str) -> bytes:
    """Return one of ASSETS."""
    return (FOLDER / name).read_bytes()


def _render(template: str, layout: Layout, context: Context, **more: Any) -> str:
    around = {"layout": layout, "links": layout.links, "current": "", "current_year": None}
    return environment().get_template(f"{template}.html.j2").render({**around, **context, **more})


@functools.lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """Return the environment of the templates, with the filters."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["month_names"] = wording.MONTHS
    environment.filters |= {
        "count": wording.count,
        "date": wording.date,
        "headline": _headline,
        "hhmm": _hhmm,
        "is_known": lambda value: value is not None and not pd.isna(value),
        "large": _large,
        "minutes": wording.minutes,
        "moment": lambda value: f"{pd.Timestamp(value):%Y-%m-%d %H:%M} UTC",
        "number": lambda value: f"{int(value):,}",
        "percent": wording.percent,
        "px": lambda value: f"{value:z.1f}".removesuffix(".0"),
        "rarity": wording.rarity,
        "severity_name": charts.severity_name,
        "shape": charts.shape,
        "share": lambda value: "–" if pd.isna(value) else wording.share(value),
        "short_date": wording.short_date,
        "signed": wording.signed,
        "span": wording.span,
        "weekday": lambda day: wording.WEEKDAYS[day.weekday()],
        "whole": wording.whole,
        "worst_day": wording.worst_day,
    }
    return environment


def _headline(direction: str, severity: int) -> str:
    """Format as `extreme delays` or `closed`."""
    return "closed" if direction == "closure" else f"{charts.severity_name(severity)} delays"


def _hhmm(time: int | None) -> str:
    """Format a time as the CSV has it, 1512, as `15:12`."""
    return "–" if time is None else f"{time // 100 % 24:02d}:{time % 100:02d}"


def _large(number: int) -> str:
    """Format as `2.9 million` or `336,776`."""
    return f"{number / 1e6:.1f} million" if number >= 1e6 else f"{number:,}"
