"""Addresses of the pages: relative ones of files for the static site, absolute ones below /flights/ for the served one.

Airport codes, years and event identifiers come from checked columns, but are escaped as parts of an address.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from posixpath import dirname, relpath
from typing import Any, ClassVar, Protocol
from urllib.parse import quote, urlencode


class Links(Protocol):
    """The addresses that a page needs. `origin` is an airport code. has_days: every airport-day has a page."""

    has_days: ClassVar[bool]

    def home(self) -> str:
        """All years."""

    def year(self, year: int) -> str:
        """One year of the network."""

    def network_day(self, day: dt.date) -> str:
        """The abnormal airports of a date, on the page of its year."""

    def airports(self) -> str:
        """The list of airports."""

    def search(self) -> str:
        """The target of the search form, which sends `airport` and `day`."""

    def airport(self, origin: str) -> str:
        """All years of an airport."""

    def airport_year(self, origin: str, year: int) -> str:
        """One year of an airport."""

    def day(self, origin: str, day: dt.date, *, is_flagged: bool = True) -> str:
        """An airport-day. The static site has a section only for flagged ones; else it leads to the airport's year."""

    def event(self, event_id: str) -> str:
        """An event of several airports."""

    def asset(self, name: str) -> str:
        """A file beside the pages: site.css, site.js, us-outline.svg."""

    def plot(self, origin: str, year: int, kind: str) -> str:
        """A plot, PNG."""

    def csv(self, table: str, **parameters: Any) -> str | None:
        """The rows behind a table as CSV; None where nothing serves them."""


@dataclass(frozen=True)
class StaticLinks:
    """Relative addresses of files. page: the path of the page that has the links, from the folder of the site."""

    has_days: ClassVar[bool] = False
    page: str = "index.html"

    def _to(self, path: str) -> str:
        """Return the address of a file; a fragment alone if it is on the page itself."""
        target, hash_sign, fragment = path.partition("#")
        if target == self.page and fragment:
            return hash_sign + fragment
        return relpath(target, dirname(self.page)) + hash_sign + fragment

    def home(self) -> str:  # noqa: D102
        return self._to("index.html")

    def year(self, year: int) -> str:  # noqa: D102
        return self._to(f"years/{year}.html")

    def network_day(self, day: dt.date) -> str:  # noqa: D102
        return self._to(f"years/{day.year}.html#{day.isoformat()}")

    def airports(self) -> str:  # noqa: D102
        return self._to("airports/index.html")

    def search(self) -> str:  # noqa: D102
        return self.airports()

    def airport(self, origin: str) -> str:  # noqa: D102
        return self._to(f"airports/{_part(origin)}/index.html")

    def airport_year(self, origin: str, year: int) -> str:  # noqa: D102
        return self._to(f"airports/{_part(origin)}/{year}.html")

    def day(self, origin: str, day: dt.date, *, is_flagged: bool = True) -> str:  # noqa: D102
        if not is_flagged:
            return self.airport_year(origin, day.year)
        return self._to(f"airports/{_part(origin)}/{day.year}.html#{day.isoformat()}")

    def event(self, event_id: str) -> str:  # noqa: D102
        return self._to(f"events/{_part(event_id)}.html")

    def asset(self, name: str) -> str:  # noqa: D102
        return self._to(name)

    def plot(self, origin: str, year: int, kind: str) -> str:  # noqa: D102
        return self._to(f"year={year}/origin={_part(origin)}/{kind}.png")

    def csv(self, table: str, **parameters: Any) -> str | None:  # noqa: D102
        return None


@dataclass(frozen=True)
class ServedLinks:
    """Absolute addresses below `root`."""

    has_days: ClassVar[bool] = True
    root: str = "/flights/"

    def home(self) -> str:  # noqa: D102
        return self.root

    def year(self, year: int) -> str:  # noqa: D102
        return f"{self.root}{year}/"

    def network_day(self, day: dt.date) -> str:  # noqa: D102
        return f"{self.year(day.year)}#{day.isoformat()}"

    def airports(self) -> str:  # noqa: D102
        return f"{self.root}airports/"

    def search(self) -> str:  # noqa: D102
        return f"{self.root}search"

    def airport(self, origin: str) -> str:  # noqa: D102
        return f"{self.root}airports/{_part(origin)}/"

    def airport_year(self, origin: str, year: int) -> str:  # noqa: D102
        return f"{self.airport(origin)}{year}/"

    def day(self, origin: str, day: dt.date, *, is_flagged: bool = True) -> str:  # noqa: D102
        return f"{self.airport(origin)}{day.isoformat()}/"

    def event(self, event_id: str) -> str:  # noqa: D102
        return f"{self.root}events/{_part(event_id)}/"

    def asset(self, name: str) -> str:  # noqa: D102
        return f"{self.root}assets/{name}"

    def plot(self, origin: str, year: int, kind: str) -> str:  # noqa: D102
        return f"{self.root}plots/{year}/{_part(origin)}/{kind}.png"

    def csv(self, table: str, **parameters: Any) -> str | None:  # noqa: D102
        return f"{self.root}api/{table}?{urlencode({**parameters, 'format': 'csv'})}"


def event_address(links: Links, event: Any) -> str:
    """Return the address of an event: its page, or for a single airport its first day. event: a row of EVENTS."""
    if event.airports > 1:
        return links.event(event.event_id)
    return links.day(event.worst_origin, event.first_day.date())


def _part(text: str) -> str:
    return quote(text, safe="")
