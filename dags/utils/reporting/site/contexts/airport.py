"""The list of airports, all years of an airport, and one year of it."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from utils.analysis import attribution
from utils.reporting.site import charts
from utils.reporting.site.charts import Flag
from utils.reporting.site.contexts.shared import (
    Context,
    Day,
    bullet_top,
    city,
    date_of,
    day_flag,
    day_rows,
    days_total,
    event_link,
    factor_name,
    factors_by_day,
    identity,
    label_rows,
    mean_delay,
    month_names,
    points,
    rows,
    totals,
    usual_share,
    worst_first,
)
from utils.reporting.site.frames import AirportData, AirportYearData
from utils.reporting.site.links import Links
from utils.schemas import FACTOR_DIMENSIONS

TOP_FACTORS = 3  # of each dimension in the section of a day
MAX_FACTOR_DAYS = 10  # the worst days of a year, whose sections list factors, so that a page stays below 20 kB
PLOTS = ("daily_flights", "daily_delay")


def airports(airport_years: pd.DataFrame, links: Links) -> Context:
    """Return one row per airport with its years, by code."""
    listed = [
        {
            **totals(own),
            "origin": origin,
            "city": city(str(origin)),
            "href": links.airport(str(origin)),
            "years": [{"year": year, "href": links.airport_year(str(origin), year)} for year in sorted(own["year"])],
        }
        for origin, own in airport_years.groupby("origin", sort=True)
    ]
    return {"airports": listed}


def airport(data: AirportData, links: Links) -> Context:
    """Return the figures of an airport's page, all years."""
    days = day_rows(data.days)
    by_year: dict[int, list[Day]] = {}
    for day in days:
        by_year.setdefault(day.date.year, []).append(day)
    bad = [day for day in days if day.is_bad]
    months = _months(by_year)
    return {
        **identity(data.origin),
        "years": [_year_row(data, year, own, links) for year, own in sorted(by_year.items(), reverse=True)],
        "first_year": min(by_year, default=None),
        "last_year": max(by_year, default=None),
        "total": days_total(days),
        "worst": next(iter(worst_first(bad)), None),
        "delay_cycle": charts.cycle({key: max(0.0, row["delay_min"]) for key, row in months.items()}, sorted(by_year)),
        "cancelled_cycle": charts.cycle({key: row["cancelled_share"] for key, row in months.items()}, sorted(by_year)),
        "same_months": _same_months(months, sorted(by_year)),
        "abnormal": _abnormal(reversed(bad), _sentences(data.reasons), bullet_top(day.observed for day in bad), links),
        "ranks": {day.date: rank for rank, day in enumerate(worst_first(bad), start=1)},
        "bullet_top": bullet_top(day.observed for day in bad),
    }


def _year_row(data: AirportData, year: int, days: Sequence[Day], links: Links) -> Context:
    return {
        **days_total(days),
        "year": year,
        "href": links.airport_year(data.origin, year),
        "months": charts.months(year, _calendar(days, links), data.missing_months.get(year, [])),
    }


def _calendar(days: Sequence[Day], links: Links) -> dict[dt.date, str | Flag]:
    return {day.date: day_flag(day, links) if day.is_bad else _usual_class(day) for day in days}


def _usual_class(day: Day) -> str:
    if not day.scheduled:
        return charts.NO_DATA
    return charts.delay_class(day.delay_min) if day.is_judged else charts.TOO_FEW


def _months(by_year: Mapping[int, Sequence[Day]]) -> dict[tuple[int, int], Context]:
    """Return the key figures by year and month, for months with a known delay."""
    by_month: dict[tuple[int, int], list[Day]] = {}
    for year, days in by_year.items():
        for day in days:
            by_month.setdefault((year, day.date.month), []).append(day)
    return {key: days_total(days) for key, days in sorted(by_month.items()) if not math.isnan(mean_delay(days))}


def _same_months(months: Mapping[tuple[int, int], Context], years: Sequence[int]) -> list[Context]:
    """Return one row per year with the delay of each month, so that a month and a column belong together."""
    empty = {"delay_min": math.nan, "abnormal": 0}
    return [
        {
            "year": year,
            "cells": [
                {
                    "css": charts.delay_class((month := months.get((year, number), empty))["delay_min"]),
                    "delay_min": month["delay_min"],
                    "abnormal": month["abnormal"],
                }
                for number in range(1, 13)
            ],
        }
        for year in years
    ]


def _sentences(reasons: pd.DataFrame) -> dict[dt.date, str]:
    return dict(zip(map(date_of, reasons["fl_date"]), reasons["sentence"], strict=True))


def _abnormal(days: Iterable[Day], sentences: Mapping[dt.date, str], top: float, links: Links) -> list[Context]:
    return [
        {
            "day": day,
            "href": links.day(day.origin, day.date),
            "bullet": charts.bullet(day, top),
            "stands_out": attribution.stands_out(sentences.get(day.date, "")),
        }
        for day in days
    ]


# One year


def airport_year(data: AirportYearData, links: Links) -> Context:
    """Return the figures of one year of an airport, with a section for each abnormal day."""
    days = day_rows(data.days)
    bad = [day for day in days if day.is_bad]
    return {
        **identity(data.origin),
        "year": data.year,
        "airport_href": links.airport(data.origin),
        "year_href": links.year(data.year),
        "total": days_total(days),
        "worst": next(iter(worst_first(bad)), None),
        "missing": month_names(data.missing_months) if data.missing_months else "",
        "chart": charts.delay_chart(points(days, links), charts.month_labels(data.year)),
        "usual_share": usual_share(days),
        "plots": [links.plot(data.origin, data.year, kind) for kind in PLOTS] if data.has_plots else [],
        "sections": _sections(data, bad, links),
    }


def _sections(data: AirportYearData, bad: Sequence[Day], links: Links) -> list[Context]:
    factors = factors_by_day(data.factors)
    event_ids = {date_of(row.fl_date): row.event_id for row in rows(data.event_days)}
    events = {row.event_id: row for row in rows(data.events)}
    labels = {row["date"]: row for row in label_rows(data.feedback)}
    with_factors = {day.date for day in worst_first(bad)[:MAX_FACTOR_DAYS]}
    sections = _abnormal(bad, _sentences(data.reasons), math.inf, links)
    for section in sections:
        date = section["day"].date
        section["event"] = event_link(events.get(event_ids.get(date)), links)
        section["label"] = labels.get(date)
        section["factors"] = {
            dimension: [{**factor._asdict(), "name": factor_name(factor.name)} for factor in own[:TOP_FACTORS]]
            for dimension in FACTOR_DIMENSIONS
            if date in with_factors and (own := factors.get((date, dimension)))
        }
    return sections
