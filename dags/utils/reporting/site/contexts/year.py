"""The page of a year of the network."""

from __future__ import annotations

import datetime as dt

import pandas as pd

from utils.reporting import wording
from utils.reporting.pages import largest_events
from utils.reporting.site import charts, geography
from utils.reporting.site.charts import Flag
from utils.reporting.site.contexts.shared import (
    Context,
    city,
    date_of,
    dot_map,
    event_rows,
    gaps,
    ratio,
    records,
    rows,
    totals,
    worst_dates,
)
from utils.reporting.site.frames import YearData, missing_months, worst_first
from utils.reporting.site.links import Links

TOP_EVENTS, TOP_DAYS = 8, 10
MIN_NAMED_DAYS = 4  # abnormal days from which on an airport is named on the map


def year(data: YearData, links: Links) -> Context:
    """Return the figures of a year's page."""
    missing = missing_months(data.quality)
    chosen = event_rows(rows(largest_events(data.events, len(data.events))), links)
    worst = _worst_days(data, links)
    return {
        "year": data.year,
        "before": data.before and {"year": data.before, "href": links.year(data.before)},
        "after": data.after and {"year": data.after, "href": links.year(data.after)},
        "total": totals(data.airport_years),
        "gaps": gaps(data.quality),
        "months": charts.months(data.year, _network_calendar(data, links), missing),
        "map": _year_map(data.airport_years, data.year, links),
        "events": chosen[:TOP_EVENTS],
        "event_count": len(data.events),
        "shared_events": [row for row in chosen if row["airports"] > 1],
        "worst_days": worst,
        "days": _abnormal_dates(data.flagged_days, links),
        **_ranked_airports(data.airport_years, data.year, links),
        "quality": data.quality,
        "empty_columns": [name for name, share in data.quality.get("null_share", {}).items() if share == 1],
    }


def _network_calendar(data: YearData, links: Links) -> dict[dt.date, str | Flag]:
    days: dict[dt.date, str | Flag] = {}
    for row in rows(data.network_days):
        date = date_of(row.fl_date)
        if not row.scheduled:
            days[date] = charts.NO_DATA
        elif row.abnormal:
            title = f"{wording.date(date)}: {row.abnormal} of {wording.count(row.airports, 'airport')} abnormal"
            days[date] = Flag(charts.count_class(row.abnormal), False, title, links.network_day(date))
        else:
            days[date] = "q0"
    return days


def _year_map(airport_years: pd.DataFrame, year: int, links: Links) -> Context:
    loud = airport_years[airport_years["abnormal"] > 0]
    dots = [
        geography.Dot(
            row.origin,
            4.6 * row.abnormal**0.5,
            int(row.severity),
            False,
            f"{row.origin}: {wording.count(row.abnormal, 'abnormal day')}",
            row.abnormal >= MIN_NAMED_DAYS,
        )
        for row in rows(loud)
    ]
    calm = airport_years.loc[airport_years["abnormal"] == 0, "origin"]
    return dot_map(dots, calm, geography.Box(), {dot.origin: links.airport_year(dot.origin, year) for dot in dots})


def _worst_days(data: YearData, links: Links) -> list[Context]:
    worst = worst_dates(data.network_days, TOP_DAYS)
    return [
        row
        | {
            "date": (date := date_of(row["fl_date"])),
            "href": links.network_day(date),
            "worst_href": links.day(row["worst_origin"], date),
            "bar": charts.percent(row["abnormal"], worst["abnormal"].max()),
            "cancelled_share": ratio(row["cancelled"], row["scheduled"]),
            "delay_min": ratio(row["effective_min"], row["effective_flights"]),
        }
        for row in records(worst)
    ]


def _abnormal_dates(flagged: pd.DataFrame, links: Links) -> list[Context]:
    """Return the dates with abnormal airports in their order, the worst airport first."""
    return [
        {
            "date": date_of(date),
            "airports": [
                {
                    "origin": row.origin,
                    "direction": row.direction,
                    "severity": int(row.severity),
                    "href": links.day(row.origin, date_of(date)),
                }
                for row in rows(worst_first(own))
            ],
        }
        for date, own in flagged.groupby("fl_date", sort=True)
    ]


def _ranked_airports(airport_years: pd.DataFrame, year: int, links: Links) -> Context:
    """Return the airports with abnormal days, most first, and the others."""
    ranked = airport_years.sort_values(["abnormal", "scheduled", "origin"], ascending=[False, False, True])
    airports = [
        row
        | {
            "href": links.airport_year(row["origin"], year),
            "city": city(row["origin"]),
            "cancelled_share": ratio(row["cancelled"], row["scheduled"]),
            "delay_min": ratio(row["effective_min"], row["effective_flights"]),
        }
        for row in records(ranked)
    ]
    return {
        "abnormal_airports": [row for row in airports if row["abnormal"]],
        "calm_airports": sorted((row for row in airports if not row["abnormal"]), key=lambda row: row["origin"]),
    }
