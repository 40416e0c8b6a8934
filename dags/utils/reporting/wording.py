"""Format dates, counts and shares for sentences, pages and plots. Pure.

Sentences about a day are in the module that computes its facts: `pages`, `attribution` and `events`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from utils.schemas import SEVERITIES

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAYS_IN_YEAR = 365.25
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
ORDINALS = ("", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
# Names of the metrics of anomalies, for axes and sentences; all are minutes per flight.
METRIC_NAMES = {
    "mean_effective_delay_min": "effective delay",
    "mean_dep_delay_min": "mean delay",
}


def date(value: Any) -> str:
    """Format as `Sat 9 Feb 2013`. value: a date, a timestamp or its text."""
    day = np.datetime64(value, "D").item()
    return f"{WEEKDAYS[day.weekday()]} {day.day} {MONTHS[day.month - 1]} {day.year}"


def short_date(value: Any) -> str:
    """Format as `Sat 9 Feb`."""
    return date(value).rsplit(" ", 1)[0]


def span(first: Any, last: Any) -> str:
    """Format two dates as `Sat 9 Feb 2013`, `9–11 Feb 2013`, `31 Jan – 2 Feb 2013` or `31 Dec 2012 – 1 Jan 2013`."""
    start, end = (np.datetime64(value, "D").item() for value in (first, last))
    if start == end:
        return date(start)
    until = f"{end.day} {MONTHS[end.month - 1]} {end.year}"
    if start.year != end.year:
        return f"{start.day} {MONTHS[start.month - 1]} {start.year} – {until}"
    return f"{start.day}–{until}" if start.month == end.month else f"{start.day} {MONTHS[start.month - 1]} – {until}"


def ordinal(place: int) -> str:
    """Format as `first`, `tenth`, `11th`, `21st`."""
    if place < len(ORDINALS):
        return ORDINALS[place]
    suffix = "th" if place % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{suffix}"


def worst_day(place: int, first_year: int, last_year: int) -> str:
    """Format as `worst day since 2009`, `third worst day since 2009`; with one year as `worst day of 2013`."""
    years = f"since {first_year}" if last_year > first_year else f"of {first_year}"
    return f"{f'{ordinal(place)} ' if place > 1 else ''}worst day {years}"


def count(number: Any, noun: str) -> str:
    """Format as `1 flight`, `1,250 flights`."""
    return f"{int(number):,} {noun}{'' if number == 1 else 's'}"


def share(part: float) -> str:
    """Format a share between 0 and 1 in whole percent: `38%`, `under 1%`."""
    return f"{part:.0%}" if part == 0 or part >= 0.01 else "under 1%"


def cancelled(flights: Any, scheduled: Any) -> str:
    """Format as `52% cancelled`, `none cancelled`."""
    return f"{share(flights / scheduled)} cancelled" if flights else "none cancelled"


def flag(direction: str, severity: Any) -> str:
    """Format as `closure, severity extreme`."""
    return f"{direction}, severity {SEVERITIES[int(severity)]}"


def rarity(return_period_days: Any) -> str:
    """Return `once in 180 days`, `rarer than once a year` beyond that, or that the history is too short.

    return_period_days: the score of the published detector, missing on a day that is flagged without enough history. It
    is fitted on single years, so longer periods are extrapolated: precise enough to rank days, not to be quoted.
    """
    if np.isnan(return_period_days):
        return "too little history to say how rare"
    if return_period_days >= DAYS_IN_YEAR:
        return "rarer than once a year"
    return f"once in {count(round(return_period_days), 'day')}"


def listed(parts: Sequence[object], last: str = "and") -> str:
    """Join as `a`, `a and b`, `a, b and c`. last: the word before the last part."""
    *head, tail = map(str, parts or [""])
    return f"{', '.join(head)} {last} {tail}" if head else tail


def percent(value: Any) -> str:
    """Format a share between 0 and 1 as `5.0%` for a table; a dash if it is missing."""
    return "–" if _is_missing(value) else f"{value:.1%}"


def minutes(value: Any) -> str:
    """Format as `15.0` for a table; a dash if it is missing."""
    return "–" if _is_missing(value) else f"{value:.1f}"


def whole(value: Any) -> str:
    """Format minutes as `15` or `−3`; a dash if they are missing."""
    return "–" if _is_missing(value) else f"{round(value):,}".replace("-", "−")


def signed(value: Any) -> str:
    """Format a difference as `+1,250`, `−3` or `0`; a dash if it is missing."""
    if _is_missing(value):
        return "–"
    return f"{round(value):+,}".replace("-", "−") if round(value) else "0"


def _is_missing(value: Any) -> bool:
    return value is None or bool(value != value)  # noqa: PLR0124  only NaN differs from itself
