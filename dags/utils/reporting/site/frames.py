"""What each page is made of: rows of the gold tables, from the lake or from the warehouse.

`days` is always the result of `judged_days.join`: the rows of AIRPORT_DAYS with the verdict of the published detector.
The other frames have the columns of their schema in utils.schemas; dates are datetime64. Frames may be empty.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from utils import schemas

# The columns of `days` that pages show, except that of a day, which has all; of ten full years they need 200 MB.
DAY_COLUMNS = ["origin", "fl_date", "scheduled", "cancelled", "mean_effective_delay_min"]
VERDICT_COLUMNS = [
    *("origin", "fl_date", "observed", "expected", "lower", "upper"),
    *("score", "is_anomaly", "direction", "severity", "status"),
]
# The columns of the three summaries of `days`. A query in SQL may compute them as well.
NETWORK_DAYS = [
    *("fl_date", "scheduled", "cancelled"),
    "effective_min",  # sum over the flights of their effective delay, minutes
    "effective_flights",  # flights whose effective delay is known
    "airports",  # with flights
    "abnormal",  # airports that are late or closed; early ones never count
    "closures",
    "abnormal_flights",  # scheduled at abnormal airports
    "worst_origin",  # abnormal airport with the highest severity, then score, then first code; None without one
]
AIRPORT_YEARS = [
    *("year", "origin", "scheduled", "cancelled", "effective_min", "effective_flights"),
    "judged_days",  # days with status ok
    *("abnormal", "closures"),  # days
    "severity",  # the highest of its abnormal days, else 0
]
FLAGGED_DAYS = [  # the abnormal rows of `days`
    *("origin", "fl_date", "scheduled", "cancelled", "mean_effective_delay_min"),
    *("observed", "expected", "lower", "upper", "score", "direction", "severity"),
]
LABEL_DAYS = 30  # the home page lists labels of as many days


def _empty(schema: Any) -> pd.DataFrame:
    frame: pd.DataFrame = schema.empty_table().to_pandas(date_as_object=False)
    return frame


def _feedback() -> pd.DataFrame:
    return _empty(schemas.FEEDBACK)


@dataclass(frozen=True)
class HomeData:
    """All years. quality: the quality report by year, as in the lake. events: at least the largest ones.

    feedback: labels of LABEL_DAYS, up to today or, on the static site, up to its newest label. runs: the last run of
    each year; None, as on the static site: the page has no section about runs.
    """

    network_days: pd.DataFrame
    airport_years: pd.DataFrame
    flagged_days: pd.DataFrame
    events: pd.DataFrame
    quality: Mapping[int, Mapping[str, Any]]
    feedback: pd.DataFrame = field(default_factory=_feedback)
    runs: pd.DataFrame | None = None


@dataclass(frozen=True)
class YearData:
    """One year of the network. before, after: the neighbouring years that have a page."""

    year: int
    network_days: pd.DataFrame
    airport_years: pd.DataFrame
    flagged_days: pd.DataFrame
    events: pd.DataFrame
    quality: Mapping[str, Any]
    before: int | None = None
    after: int | None = None


@dataclass(frozen=True)
class AirportData:
    """All years of one airport. missing_months: by year, see `missing_months`."""

    origin: str
    days: pd.DataFrame
    reasons: pd.DataFrame
    missing_months: Mapping[int, Sequence[int]]


@dataclass(frozen=True)
class AirportYearData:
    """One year of one airport.

    events, event_days: those of the airport's days. missing_months: see `missing_months`. has_plots: its PNG files
    exist.
    """

    origin: str
    year: int
    days: pd.DataFrame
    reasons: pd.DataFrame
    factors: pd.DataFrame
    events: pd.DataFrame
    event_days: pd.DataFrame
    missing_months: Sequence[int]
    feedback: pd.DataFrame = field(default_factory=_feedback)
    has_plots: bool = False


@dataclass(frozen=True)
class DayData:
    """One airport-day.

    days: rows of this airport from 30 days before to 30 days after, at least the day itself. verdicts: rows of the day
    by all detectors, with the column `detector`. network: `days` of all airports on this date. flagged: FLAGGED_DAYS of
    the airport in all years. reasons, factors: rows of the day. events: the row of the event of the day, if any.
    years: the years of the airport. event_airports: the other airports of the event on this date.
    """

    origin: str
    fl_date: dt.date
    days: pd.DataFrame
    verdicts: pd.DataFrame
    network: pd.DataFrame
    flagged: pd.DataFrame
    reasons: pd.DataFrame
    factors: pd.DataFrame
    events: pd.DataFrame
    years: Sequence[int]
    feedback: pd.DataFrame = field(default_factory=_feedback)
    event_airports: Sequence[str] = ()


@dataclass(frozen=True)
class EventData:
    """One event. events, event_days: those of its year. days: of its airports, from 2 days before to 2 days after.

    factors: rows of its days. airports: codes of the airports of its year.
    """

    event_id: str
    events: pd.DataFrame
    event_days: pd.DataFrame
    days: pd.DataFrame
    factors: pd.DataFrame
    airports: Sequence[str]


def missing_months(report: Mapping[str, Any]) -> list[int]:
    """Return the months without flights of a quality report, also those after the newest month of a year so far."""
    newest = report.get("so_far_to") or 12
    return sorted({*report.get("missing_months", []), *range(newest + 1, 13)})


def network_days(days: pd.DataFrame) -> pd.DataFrame:
    """Return one row per date with NETWORK_DAYS, by date."""
    rows = _weighed(days)
    by_date = rows.groupby("fl_date", sort=True)
    table = by_date.agg(
        scheduled=("scheduled", "sum"),
        cancelled=("cancelled", "sum"),
        effective_min=("effective_min", "sum"),
        effective_flights=("effective_flights", "sum"),
        airports=("is_flying", "sum"),
        abnormal=("is_bad", "sum"),
        closures=("is_closure", "sum"),
        abnormal_flights=("abnormal_flights", "sum"),
    )
    worst = worst_first(rows[rows["is_bad"]]).drop_duplicates("fl_date").set_index("fl_date")["origin"]
    table["worst_origin"] = worst.reindex(table.index).astype(object).where(lambda origin: origin.notna(), None)
    return table.reset_index()[NETWORK_DAYS]


def airport_years(days: pd.DataFrame) -> pd.DataFrame:
    """Return one row per year and airport with AIRPORT_YEARS, by year and airport."""
    rows = _weighed(days).assign(year=days["fl_date"].dt.year, is_judged=days["status"].eq("ok"))
    rows["bad_severity"] = rows["severity"].fillna(0).where(rows["is_bad"], 0)
    table = rows.groupby(["year", "origin"], sort=True).agg(
        scheduled=("scheduled", "sum"),
        cancelled=("cancelled", "sum"),
        effective_min=("effective_min", "sum"),
        effective_flights=("effective_flights", "sum"),
        judged_days=("is_judged", "sum"),
        abnormal=("is_bad", "sum"),
        closures=("is_closure", "sum"),
        severity=("bad_severity", "max"),
    )
    return table.astype({"severity": int}).reset_index()[AIRPORT_YEARS]


def flagged_days(days: pd.DataFrame) -> pd.DataFrame:
    """Return the abnormal rows of `days` with FLAGGED_DAYS, by airport and date."""
    flagged = days[days["is_bad"]].sort_values(["origin", "fl_date"], ignore_index=True)
    return flagged[FLAGGED_DAYS].astype({"severity": int})


def worst_first(flagged: pd.DataFrame) -> pd.DataFrame:
    """Sort by severity and score, highest first, then airport and date. A day without a score ranks last."""
    order = {"severity": False, "score": False, "origin": True, "fl_date": True}
    return flagged.sort_values(list(order), ascending=list(order.values()), kind="stable")


def _weighed(days: pd.DataFrame) -> pd.DataFrame:
    """Add the columns that are summed. Days without a known effective delay do not count in its mean."""
    mean = days["mean_effective_delay_min"].astype("float64")
    return days.assign(
        effective_min=(mean * days["scheduled"]).fillna(0.0),
        effective_flights=days["scheduled"].where(mean.notna(), 0),
        is_flying=days["scheduled"] > 0,
        is_closure=days["is_bad"] & days["direction"].eq("closure"),
        abnormal_flights=days["scheduled"].where(days["is_bad"], 0),
    )
