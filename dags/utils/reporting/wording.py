"""Dates, counts and shares in the form that sentences, pages and plots share. Pure.

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
# What a metric of the anomalies is called on an axis and in a sentence; all are minutes per flight.
METRIC_NAMES = {
    "mean_effective_delay_min": "effective delay",
    "mean_dep_delay_min": "mean delay",
}


def date(value: Any) -> str:
    """`Sat 9 Feb 2013`; value: a date, a timestamp or its text."""
    day = np.datetime64(value, "D").item()
    return f"{WEEKDAYS[day.weekday()]} {day.day} {MONTHS[day.month - 1]} {day.year}"


def count(number: Any, noun: str) -> str:
    """`1 flight`, `1,250 flights`."""
    return f"{int(number):,} {noun}{'' if number == 1 else 's'}"


def share(part: float) -> str:
    """A share between 0 and 1 in whole percent: `38 %`, `under 1 %`."""
    return f"{100 * part:.0f} %" if part == 0 or part >= 0.01 else "under 1 %"


def cancelled(flights: Any, scheduled: Any) -> str:
    """`52 % cancelled`, `none cancelled`."""
    return f"{share(flights / scheduled)} cancelled" if flights else "none cancelled"


def flag(direction: str, severity: Any) -> str:
    """`closure, severity extreme`."""
    return f"{direction}, severity {SEVERITIES[int(severity)]}"


def rarity(return_period_days: Any) -> str:
    """Return `once in 180 days`, or `rarer than once a year` beyond that.

    return_period_days: the score of the published detector. It is fitted on single years, so longer periods are
    extrapolated: they rank days, but are not precise enough to be quoted.
    """
    if return_period_days >= DAYS_IN_YEAR:
        return "rarer than once a year"
    return f"once in {count(round(return_period_days), 'day')}"


def listed(parts: Sequence[object], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`, or with another word before the last one."""
    *head, tail = map(str, parts or [""])
    return f"{', '.join(head)} {last} {tail}" if head else tail


def percent(value: Any) -> str:
    """`5.0 %` of a share between 0 and 1, for a table; a dash when it is missing."""
    return "–" if _is_missing(value) else f"{100 * value:.1f} %"


def minutes(value: Any) -> str:
    """`15.0`, for a table; a dash when it is missing."""
    return "–" if _is_missing(value) else f"{value:.1f}"


def _is_missing(value: Any) -> bool:
    return value is None or bool(value != value)  # noqa: PLR0124  only NaN differs from itself
