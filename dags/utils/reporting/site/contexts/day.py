"""The page of an airport-day, and its flights."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from utils.analysis import attribution
from utils.reporting import wording
from utils.reporting.site import charts, geography
from utils.reporting.site.contexts.shared import (
    CAUSE_NAMES,
    Context,
    bullet_top,
    city,
    date_of,
    day_rows,
    event_rows,
    excess_rows,
    factors_by_day,
    identity,
    label_rows,
    points,
    ratio,
    records,
    rows,
)
from utils.reporting.site.frames import DayData, worst_first
from utils.reporting.site.links import Links

TOP_FACTORS = {"cause": 5, "carrier": 5, "destination": 7}
NEIGHBOURS = 7
CANCELLATION_NAMES = {"A": "carrier", "B": "weather", "C": "aviation system", "D": "security"}
LATE_MIN, VERY_LATE_MIN = 15, 60


def day(data: DayData, links: Links) -> Context:
    """Return the figures of an airport-day, abnormal or not."""
    days = day_rows(data.days)
    dates = [day.date for day in days]
    row = next(row for row in rows(data.days) if date_of(row.fl_date) == data.fl_date)
    flagged = [date_of(value) for value in data.flagged["fl_date"]]
    reason = next(iter(records(data.reasons)), None)
    factors = factors_by_day(data.factors)
    return {
        **identity(data.origin),
        "date": data.fl_date,
        "row": row,
        "is_bad": bool(row.is_bad),
        "year_href": links.year(data.fl_date.year),
        "airport_href": links.airport(data.origin),
        "airport_year_href": links.airport_year(data.origin, data.fl_date.year),
        **_steps("", data, dates, links),
        **_steps("abnormal_", data, flagged, links),
        "rank": _rank(data),
        "reason": reason,
        "stands_out": attribution.stands_out(reason["sentence"]) if reason else "",
        "chart": charts.delay_chart(points(days, links), _day_labels(dates, data.fl_date)),
        "factors": {
            name: excess_rows(factors.get((data.fl_date, name), [])[:count]) for name, count in TOP_FACTORS.items()
        },
        "neighbours": neighbours(data.origin, data.network, data.fl_date, links),
        "event": _event(data, links),
        "event_airports": [{"origin": code, "href": links.day(code, data.fl_date)} for code in data.event_airports],
        "verdicts": _verdicts(data.verdicts),
        "flagging": int(data.verdicts["is_anomaly"].sum()),
        "label": next(iter(label_rows(data.feedback)), None),
    }


def _steps(prefix: str, data: DayData, dates: Iterable[dt.date], links: Links) -> Context:
    """Return the last date before the day and the first after it, with their addresses; None without one."""
    others = list(dates)
    before = max((date for date in others if date < data.fl_date), default=None)
    after = min((date for date in others if date > data.fl_date), default=None)
    return {
        f"{prefix}{name}": date and {"date": date, "href": links.day(data.origin, date)}
        for name, date in (("before", before), ("after", after))
    }


def _rank(data: DayData) -> Context | None:
    """Return the place of the day among the abnormal days of the airport, and the airport's first and last year."""
    ranked = [date_of(value) for value in worst_first(data.flagged)["fl_date"]]
    if data.fl_date not in ranked:
        return None
    years = data.years or [data.fl_date.year]
    return {"place": ranked.index(data.fl_date) + 1, "first_year": min(years), "last_year": max(years)}


def _event(data: DayData, links: Links) -> Context | None:
    """Return the event of the day; None if it is only this airport on this day."""
    event = next((event for event in rows(data.events) if event.airport_days > 1), None)
    return event and event_rows([event], links)[0] | {"href": links.event(event.event_id)}


def _day_labels(dates: Sequence[dt.date], chosen: dt.date) -> list[tuple[dt.date, str, str]]:
    return [
        (
            date,
            f"{date.day} {wording.MONTHS[date.month - 1]}",
            "i" if date == chosen else "" if date.day == 1 else "opt",
        )
        for date in dates
        if date == chosen or (date.day in (1, 15, 22) and abs((date - chosen).days) > 3)
    ]


def neighbours(origin: str, network: pd.DataFrame, date: dt.date, links: Links) -> list[Context]:
    """Return the nearest airports with their figures on the date. network: `days` of all airports on this date."""
    here = geography.position(origin)
    if here is None:
        return []
    at = {row.origin: row for row in rows(network) if row.origin != origin and row.scheduled}
    near = {
        code: math.dist(here, there) * geography.EARTH_KM_PER_PIXEL
        for code in at
        if (there := geography.position(code)) is not None
    }
    return [
        {
            "origin": code,
            "city": city(code),
            "href": links.day(code, date),
            "km": near[code],
            "flights": int(at[code].scheduled),
            "cancelled_share": ratio(at[code].cancelled, at[code].scheduled),
            "delay_min": float(at[code].mean_effective_delay_min),
            "is_bad": bool(at[code].is_bad),
            "direction": at[code].direction,
            "severity": int(at[code].severity) if at[code].is_bad else 0,
            "is_judged": at[code].status == "ok",
        }
        for code in sorted(near, key=lambda code: (near[code], code))[:NEIGHBOURS]
    ]


def _verdicts(verdicts: pd.DataFrame) -> list[Context]:
    """Return one row per detector with its score in words, in the order of the frame."""
    top = bullet_top(verdicts["observed"].astype("float64"))
    return [
        {
            "detector": row.detector,
            "is_judged": row.status == "ok",
            "is_anomaly": bool(row.is_anomaly),
            "direction": row.direction,
            "severity": int(row.severity),
            "score": "" if math.isnan(row.score) else score_in_words(row.detector, row.score),
            "bullet": charts.bullet(row, top),
            "observed": float(row.observed),
            "expected": float(row.expected),
            "metric": wording.METRIC_NAMES.get(row.metric, row.metric),
            "top": top,
        }
        for row in rows(verdicts)
    ]


def score_in_words(detector: str, score: float) -> str:
    """Return a detector's score with its unit."""
    side = "above" if score >= 0 else "below"
    words = {
        "delaywatch": lambda: wording.rarity(score),
        "three_sigma": lambda: f"{abs(score):.1f} standard deviations {side} the mean",
        "arima": lambda: f"{abs(score):.1f} standard errors {side} the forecast",
        "random_cut_forest": lambda: f"displaces {score:.0f} days of the forest (CoDisp)",
        "gradient_boosting": lambda: f"{abs(score):.1f} spreads {side} the expected delay",
        "isolation_forest": lambda: f"anomaly score {score:.2f} of 1",
    }
    return words.get(detector, lambda: f"score {score:.2f}")()


def flights(flights: pd.DataFrame) -> Context:
    """Return the flights of an airport-day by scheduled time, and their numbers by hour. flights: rows of silver."""
    ordered = flights.sort_values(["crs_dep_time", "op_carrier", "op_carrier_fl_num"], na_position="last")
    listed = [_flight(flight) for flight in rows(ordered)]
    hours: dict[int, list[int]] = {}
    for flight in listed:
        if flight["hour"] is not None:
            hours.setdefault(flight["hour"], [0, 0, 0, 0])[flight["group"]] += 1
    whole = range(min(hours), max(hours) + 1) if hours else range(0)
    strip = charts.hour_strip({hour: hours.get(hour, [0, 0, 0, 0]) for hour in whole}) if hours else None
    return {"flights": listed, "hours": strip, "has_causes": any(flight["cause"] for flight in listed)}


def _flight(flight: Any) -> Context:
    """Return one row of the list. group: the position in charts.HOUR_CLASSES."""
    delay = flight.dep_delay
    if flight.cancelled:
        group = 0
    elif pd.isna(delay) or delay < LATE_MIN:
        group = 3
    else:
        group = 1 if delay > VERY_LATE_MIN else 2
    planned = None if pd.isna(flight.crs_dep_time) else int(flight.crs_dep_time)
    return {
        "planned": planned,
        "hour": None if planned is None else planned // 100 % 24,
        "group": group,
        "name": f"{flight.op_carrier} {'' if pd.isna(flight.op_carrier_fl_num) else int(flight.op_carrier_fl_num)}",
        "destination": flight.dest,
        "left": None if flight.cancelled or pd.isna(flight.dep_time) else int(flight.dep_time),
        "is_cancelled": bool(flight.cancelled),
        "delay_min": math.nan if pd.isna(delay) else float(delay),
        "cause": _main_cause(flight),
    }


def _main_cause(flight: Any) -> str:
    if flight.cancelled:
        return CANCELLATION_NAMES.get(flight.cancellation_code, "")
    minutes = {cause: getattr(flight, f"{cause}_delay") for cause in CAUSE_NAMES}
    known = {cause: value for cause, value in minutes.items() if not pd.isna(value) and value > 0}
    return CAUSE_NAMES[max(known, key=lambda cause: known[cause])].lower() if known else ""
