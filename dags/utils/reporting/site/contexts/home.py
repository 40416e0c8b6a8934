"""The home page: all years beside each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pandas as pd

from utils.reporting import wording
from utils.reporting.pages import largest_events
from utils.reporting.site import charts
from utils.reporting.site.contexts.shared import (
    Context,
    city,
    date_of,
    event_map,
    event_rows,
    event_title,
    gaps,
    label_rows,
    ratio,
    records,
    rows,
    totals,
    worst_dates,
)
from utils.reporting.site.frames import LABEL_DAYS, HomeData, missing_months
from utils.reporting.site.links import Links, event_address

TOP_EVENTS, TOP_DAYS = 8, 3
MIN_RECORD_FLIGHTS = 100  # scheduled; the share of a day with fewer would be a record by chance


def home(data: HomeData, links: Links) -> Context:
    """Return the figures of the home page. With no year, the page says so."""
    by_year: dict[int, Context] = {
        cast("int", year): totals(own) for year, own in data.airport_years.groupby("year", sort=True)
    }
    years = sorted(by_year)
    chosen = event_rows(rows(largest_events(data.events, TOP_EVENTS)), links)
    return {
        "years": [_home_year(data, year, by_year, links) for year in years],
        "total": totals(data.airport_years),
        "event_count": len(data.events),
        "events": chosen,
        "map": event_map(chosen),
        "months": _month_matrix(data.network_days, years),
        "records": [*_worst_days(data.network_days, years, links), *_other_records(data, links)],
        "labels": _labels(data, links),
        "label_days": LABEL_DAYS,
        "missing": _gaps_of_years(data.quality, years),
        "runs": None if data.runs is None else _last_runs(data.runs),
        "airports": sorted(data.airport_years["origin"].unique()),
    }


def _home_year(data: HomeData, year: int, by_year: Mapping[int, Context], links: Links) -> Context:
    report = data.quality.get(year, {})
    missing = missing_months(report)
    days = rows(data.network_days[data.network_days["fl_date"].dt.year == year])
    delay = {date_of(day.fl_date): ratio(day.effective_min, day.effective_flights) for day in days}
    share = {date_of(day.fl_date): day.abnormal_flights / day.scheduled for day in days if day.abnormal_flights}
    figures = by_year[year]
    return {
        **figures,
        "year": year,
        "href": links.year(year),
        "strip": charts.barcode(year, delay, share, missing),
        "cancelled_bar": charts.percent(figures["cancelled_share"], _top(by_year, "cancelled_share")),
        "delay_bar": charts.percent(figures["delay_min"], _top(by_year, "delay_min")),
        "missing_months": missing,
        "report": report,
        "empty_columns": sum(part == 1 for part in report.get("null_share", {}).values()),
    }


def _gaps_of_years(quality: Mapping[int, Mapping[str, Any]], years: Sequence[int]) -> list[str]:
    """Return what is missing, years with the same gaps in one sentence: `2009 and 2010: The file has no ...`."""
    by_gap: dict[str, list[int]] = {}
    for year in years:
        for gap in gaps(quality.get(year, {})):
            by_gap.setdefault(gap, []).append(year)
    return [f"{wording.listed(own)}: {gap}" for gap, own in by_gap.items()]


def _top(by_key: Mapping[Any, Context], name: str) -> float:
    return max((row[name] for row in by_key.values() if not math.isnan(row[name])), default=0.0)


def _month_matrix(network_days: pd.DataFrame, years: Sequence[int]) -> list[Context]:
    """Return one row per year with the mean effective delay of each month; the best and the worst are outlined."""
    dates = network_days["fl_date"].dt
    sums = network_days.groupby([dates.year, dates.month])[["effective_min", "effective_flights"]].sum()
    means = {key: ratio(row["effective_min"], row["effective_flights"]) for key, row in sums.iterrows()}
    matrix = []
    for year in years:
        own = {m: value for m in range(1, 13) if not math.isnan(value := means.get((year, m), math.nan))}
        ends = {min(own.values()), max(own.values())} if len(own) > 1 else set()
        cells = [
            {
                "value": own.get(month, math.nan),
                "css": charts.delay_class(own.get(month, math.nan)),
                "is_end": own.get(month) in ends,
            }
            for month in range(1, 13)
        ]
        matrix.append({"year": year, "cells": cells})
    return matrix


def _worst_days(network_days: pd.DataFrame, years: Sequence[int], links: Links) -> list[Context]:
    """Return the worst days of the network; the page of the year that each links to names the airports."""
    return [
        _record(
            wording.worst_day(place, min(years), max(years)).capitalize(),
            f"{day.abnormal:,} of {wording.count(day.airports, 'airport')} abnormal",
            day,
            links,
        )
        for place, day in enumerate(rows(worst_dates(network_days, TOP_DAYS)), start=1)
    ]


def _other_records(data: HomeData, links: Links) -> list[Context]:
    """Return the other records of all years, without those that no day holds."""
    flagged = data.flagged_days
    found: list[Context] = []
    top: Any = next(iter(rows(data.network_days.nlargest(1, "cancelled"))), None)
    if top and top.cancelled:
        value = f"{top.cancelled:,} of {top.scheduled:,}"
        found.append(_record("Most flights cancelled on one day", value, top, links))
    large = flagged[flagged["scheduled"] >= MIN_RECORD_FLIGHTS]
    for title, values, unit in (
        ("Largest share cancelled", large["cancelled"] / large["scheduled"], wording.share),
        ("Longest effective delay", large["mean_effective_delay_min"], lambda minutes: f"{minutes:.0f} min"),
    ):
        for day in rows(large.loc[values.nlargest(1).index]):
            name = f"{title}, {MIN_RECORD_FLIGHTS} flights or more"
            found.append(_record(name, unit(values.max()), day, links, day.origin))
    for event in rows(largest_events(data.events, 1)):
        where = f"{event_title(event)}, {wording.span(event.first_day, event.last_day)}"
        airports = wording.count(event.airports, "airport")
        found.append({"title": "Largest event", "value": airports, "href": event_address(links, event), "where": where})
    return found


def _record(title: str, value: str, day: Any, links: Links, origin: str | None = None) -> Context:
    date = date_of(day.fl_date)
    if origin is None:
        href = links.network_day(date) if day.abnormal else links.year(date.year)
        return {"title": title, "value": value, "href": href, "where": wording.date(date)}
    where = f"{origin} {city(origin)}, {wording.date(date)}".replace(" ,", ",")
    return {"title": title, "value": value, "href": links.day(origin, date), "where": where}


def _labels(data: HomeData, links: Links) -> list[Context]:
    """Return the labels, newest first; one on a day that is not in the data has no address."""
    known = {(row.origin, row.year) for row in rows(data.airport_years)}
    flagged = {(row.origin, date_of(row.fl_date)) for row in rows(data.flagged_days)}
    labels = []
    for row in label_rows(data.feedback):
        origin, date = row["origin"], row["date"]
        href = links.day(origin, date, is_flagged=(origin, date) in flagged) if (origin, date.year) in known else None
        labels.append(row | {"href": href})
    return labels


def _last_runs(runs: pd.DataFrame) -> list[Context]:
    """Return the last run of each year, newest first."""
    newest = runs.sort_values("ended", ascending=False, na_position="first").drop_duplicates("year")
    return records(newest.sort_values("started", ascending=False, na_position="last"))
