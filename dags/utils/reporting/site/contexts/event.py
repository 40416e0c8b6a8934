"""The page of an event."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence

import pandas as pd

from utils.reporting import wording
from utils.reporting.pages import largest_events
from utils.reporting.site import charts, geography
from utils.reporting.site.contexts.shared import (
    CAUSE_NAMES,
    Context,
    Day,
    Factor,
    city,
    date_of,
    day_rows,
    dot_map,
    event_rows,
    excess_rows,
    ratio,
    rows,
    worst_first,
)
from utils.reporting.site.frames import EventData
from utils.reporting.site.links import Links

DAYS_AROUND = 2  # shown before and after the event
NEAR_DAYS = 1  # of them on a phone


def event(data: EventData, links: Links) -> Context:
    """Return the figures of an event."""
    (row,) = rows(data.events[data.events["event_id"] == data.event_id])
    members = data.event_days[data.event_days["event_id"] == data.event_id]
    inside = {(member.origin, date_of(member.fl_date)) for member in rows(members)}
    days = day_rows(data.days)
    airports = _airports([day for day in days if (day.origin, day.date) in inside])
    first, last = date_of(row.first_day), date_of(row.last_day)
    dates = [first + dt.timedelta(days=offset) for offset in range(-DAYS_AROUND, (last - first).days + DAYS_AROUND + 1)]
    by_key = {(day.origin, day.date): day for day in days}
    return {
        "event": event_rows([row], links)[0],
        "year": first.year,
        "year_href": links.year(first.year),
        "worst_city": city(row.worst_origin),
        "worst_score": next((a["worst"].score for a in airports if a["origin"] == row.worst_origin), math.nan),
        "closed": sum(airport["is_closed"] for airport in airports),
        "cancelled_share": ratio(row.cancelled, row.scheduled),
        **_order(data, links),
        "map": _map(airports, data.airports, links),
        "causes": excess_rows(_causes(data.factors, inside)),
        "swarm": charts.swarm(data.events.loc[data.events["airports"] > 1, "airport_days"], int(row.airport_days)),
        "dates": [
            {"date": date, "is_inside": first <= date <= last, "is_far": _is_far(date, first, last)} for date in dates
        ],
        "airports": [
            airport | {"cells": [_cell(by_key.get((airport["origin"], date)), links) for date in dates]}
            for airport in airports
        ],
    }


def _is_far(date: dt.date, first: dt.date, last: dt.date) -> bool:
    return (first - date).days > NEAR_DAYS or (date - last).days > NEAR_DAYS


def _airports(inside: Sequence[Day]) -> list[Context]:
    """Return the airports of an event, hardest hit first. inside: its airport-days."""
    by_airport: dict[str, list[Day]] = {}
    for day in worst_first(inside):
        by_airport.setdefault(day.origin, []).append(day)
    return [
        {
            "origin": origin,
            "city": city(origin),
            "worst": own[0],
            "cancelled": sum(day.cancelled for day in own),
            "scheduled": sum(day.scheduled for day in own),
            "cancelled_share": ratio(sum(day.cancelled for day in own), sum(day.scheduled for day in own)),
            "is_closed": any(day.is_closed for day in own),
        }
        for origin, own in by_airport.items()
    ]


def _map(airports: Sequence[Context], of_year: Sequence[str], links: Links) -> Context:
    dots = [
        geography.Dot(
            row["origin"],
            5 + 1.3 * row["cancelled"] ** 0.5,
            row["worst"].severity,
            row["is_closed"],
            f"{row['origin']}: {row['cancelled']:,} of {row['scheduled']:,} cancelled",
            True,
        )
        for row in airports
    ]
    hrefs = {row["origin"]: links.day(row["origin"], row["worst"].date) for row in airports}
    return dot_map(dots, set(of_year) - set(hrefs), geography.box_around(hrefs), hrefs)


def _causes(factors: pd.DataFrame, inside: set[tuple[str, dt.date]]) -> list[Factor]:
    """Return the excess of each cause over the airport-days of an event; NaN if no day knows it."""
    delay: dict[str, list[float]] = {}
    cancelled: dict[str, list[float]] = {}
    for row in rows(factors):
        if row.dimension == "cause" and (row.origin, date_of(row.fl_date)) in inside:
            delay.setdefault(row.name, []).append(float(row.excess_delay_min))
            cancelled.setdefault(row.name, []).append(float(row.excess_cancelled))
    return [Factor(name, _known_sum(delay[name]), _known_sum(cancelled[name])) for name in CAUSE_NAMES if name in delay]


def _known_sum(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) if known else math.nan


def _order(data: EventData, links: Links) -> Context:
    """Return the rank of the event in its year, and the shared events before and after it."""
    ranked = list(largest_events(data.events, len(data.events))["event_id"])
    shared = data.events[data.events["airports"] > 1].sort_values(["first_day", "event_id"])
    ids = list(shared["event_id"])
    at = ids.index(data.event_id) if data.event_id in ids else len(ids)
    return {
        "rank": ranked.index(data.event_id) + 1,
        "count": len(ranked),
        "before": next(iter(event_rows(rows(shared[max(0, at - 1) : at]), links)), None),
        "after": next(iter(event_rows(rows(shared[at + 1 : at + 2]), links)), None),
    }


def _cell(day: Day | None, links: Links) -> Context:
    if day is None or not day.scheduled:
        return {"css": charts.NO_DATA, "text": "", "href": None}
    href = links.day(day.origin, day.date) if links.has_days else None
    css = f"s{day.severity}" if day.is_bad else charts.delay_class(day.delay_min)
    return {"css": css, "text": "closed" if day.is_closed else wording.whole(day.delay_min), "href": href}
