"""From the frames of a page to its figures, rows and drawings. The templates only arrange and format them."""

from __future__ import annotations

import calendar
import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import pandas as pd

from utils.analysis import attribution, events
from utils.analysis.airports import places
from utils.layers.gold import DELAY_CAP_MIN
from utils.reporting import wording
from utils.reporting.pages import largest_events
from utils.reporting.site import charts, geography
from utils.reporting.site.charts import Flag, Point
from utils.reporting.site.frames import (
    AirportData,
    AirportYearData,
    DayData,
    EventData,
    HomeData,
    YearData,
    worst_first,
)
from utils.reporting.site.links import Links
from utils.schemas import CAUSES

TOP_EVENTS, TOP_DAYS = 8, 10
MIN_NAMED_DAYS = 4  # abnormal days from which on an airport is named on the year's map
MIN_RECORD_FLIGHTS = 100  # scheduled; the share of a day with fewer would be a record by chance
TOP_FACTORS = {"cause": 5, "carrier": 5, "destination": 7}  # rows of the day page
TOP_SECTION_FACTORS = 3  # rows of each dimension in a section of the airport-year page
NEIGHBOURS = 7
CAUSE_NAMES = {
    "weather": "Weather",
    "carrier": "Carrier",
    "nas": "Aviation system",
    "late_aircraft": "Late aircraft",
    "security": "Security",
}
CANCELLATION_NAMES = {"A": "carrier", "B": "weather", "C": "aviation system", "D": "security"}
LATE_MIN, VERY_LATE_MIN = 15, 60

Context = dict[str, Any]


# Figures


def totals(airport_years: pd.DataFrame) -> Context:
    """Return the key figures of rows of AIRPORT_YEARS."""
    sums = airport_years.sum(numeric_only=True)
    flights = int(sums["scheduled"])
    return {
        "flights": flights,
        "airports": int(airport_years.loc[airport_years["scheduled"] > 0, "origin"].nunique()),
        "cancelled": int(sums["cancelled"]),
        "cancelled_share": _ratio(sums["cancelled"], flights),
        "delay_min": _ratio(sums["effective_min"], sums["effective_flights"]),
        "judged_days": int(sums["judged_days"]),
        "abnormal": int(sums["abnormal"]),
        "closures": int(sums["closures"]),
        "abnormal_share": _ratio(sums["abnormal"], sums["judged_days"]),
    }


def _ratio(part: Any, whole: Any) -> float:
    return float(part) / float(whole) if whole else math.nan


def _by(airport_years: pd.DataFrame, column: str) -> dict[Any, Context]:
    return {value: totals(rows) for value, rows in airport_years.groupby(column, sort=True)}


def _records(frame: pd.DataFrame) -> list[Context]:
    return cast("list[Context]", frame.to_dict("records"))


def _date(value: Any) -> dt.date:
    return cast("dt.date", pd.Timestamp(value).date())


def _mean_min(rows: pd.DataFrame) -> float:
    """Return the mean effective delay of rows of `days`, weighted by flights."""
    mean = rows["mean_effective_delay_min"].astype("float64")
    return _ratio((mean * rows["scheduled"]).sum(), rows["scheduled"].where(mean.notna(), 0).sum())


def _days_totals(rows: pd.DataFrame) -> Context:
    """Return the key figures of rows of `days`."""
    flights = int(rows["scheduled"].sum())
    bad = rows[rows["is_bad"]]
    return {
        "flights": flights,
        "cancelled_share": _ratio(rows["cancelled"].sum(), flights),
        "delay_min": _mean_min(rows),
        "abnormal": len(bad),
        "extreme": int(bad["severity"].eq(3).sum()),
        "closures": int(bad["direction"].eq("closure").sum()),
        "flights_per_day": _ratio(flights, (rows["scheduled"] > 0).sum()),
    }


# Words


def city(origin: str) -> str:
    """Return the city of an airport, or an empty text."""
    return places()[origin].city if origin in places() else ""


def month_names(numbers: Sequence[int]) -> str:
    """Format months as `May to December`, `March` or `March and May to July`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    names = calendar.month_name
    return wording.listed([names[run[0]] if len(run) == 1 else f"{names[run[0]]} to {names[run[-1]]}" for run in runs])


def gaps(report: Mapping[str, Any]) -> list[str]:
    """Return what the year's file lacks, in short sentences."""
    empty = {name for name, share in report.get("null_share", {}).items() if share == 1}
    notes = []
    if months := report.get("missing_months"):
        notes.append(f"{month_names(months)} {'are' if len(months) > 1 else 'is'} not in the file.")
    if months := report.get("doubled_months"):
        notes.append(f"{month_names(months)} {'were' if len(months) > 1 else 'was'} in the file twice.")
    if "dep_delay" in empty:
        notes.append("The file has no delays.")
    if {f"{cause}_delay" for cause in CAUSES} <= empty:
        notes.append("The file has no causes of delay.")
    return notes


# Events


def event_href(event: Any, links: Links) -> str:
    """Return the address of an event: its page, or for a single airport the day itself. event: a row of EVENTS."""
    if event.airports > 1:
        return links.event(event.event_id)
    return links.day(event.worst_origin, _date(event.first_day))


def event_title(event: Any) -> str:
    """Return the place of an event with a capital: `North-east and mid-Atlantic`."""
    place = events.place_of(event.name)
    return place[:1].upper() + place[1:]


def _event_rows(chosen: pd.DataFrame, links: Links) -> list[Context]:
    return [
        {
            "rank": rank,
            "title": event_title(event := cast("Any", row)),
            "href": event_href(event, links),
            "kind": event.kind,
            "severity": int(event.severity),
            "airports": int(event.airports),
            "airport_days": int(event.airport_days),
            "first_day": event.first_day,
            "last_day": event.last_day,
            "cancelled": int(event.cancelled),
            "scheduled": int(event.scheduled),
            "delay_min": float(event.mean_effective_delay_min),
            "worst_origin": event.worst_origin,
        }
        for rank, row in enumerate(_named_rows(chosen), start=1)
    ]


def _named_rows(frame: pd.DataFrame) -> Iterable[Any]:
    return frame.itertuples(index=False)


def _event_map(rows: Sequence[Context]) -> Context:
    discs = [
        geography.Disc(
            row["rank"],
            row["worst_origin"],
            row["airports"],
            row["severity"],
            f"{row['title']}, {wording.span(row['first_day'], row['last_day'])}",
            row["href"],
        )
        for row in rows
    ]
    unknown = sorted({disc.origin for disc in discs if geography.position(disc.origin) is None})
    return {
        "box": geography.Box(),
        "calm": "",
        "dots": [],
        "discs": geography.place_discs(discs),
        "unknown": unknown,
    }


# Home


def home(data: HomeData, links: Links) -> Context:
    """Return the figures of the home page. With no year, the page says so."""
    by_year = _by(data.airport_years, "year")
    years = sorted(by_year)
    chosen = _event_rows(largest_events(data.events, TOP_EVENTS), links)
    return {
        "years": [_home_year(data, year, by_year, links) for year in years],
        "total": totals(data.airport_years),
        "event_count": len(data.events),
        "events": chosen,
        "map": _event_map(chosen),
        "months": _month_matrix(data.network_days, years),
        "records": _records_of_all_years(data, links),
        "labels": _labels(data.feedback, links),
        "runs": None if data.runs is None else _last_runs(data.runs),
        "airports": sorted(data.airport_years["origin"].unique()),
    }


def _home_year(data: HomeData, year: int, by_year: Mapping[int, Context], links: Links) -> Context:
    report = data.quality.get(year, {})
    missing = report.get("missing_months", [])
    rows = data.network_days[data.network_days["fl_date"].dt.year == year]
    delay = {_date(row.fl_date): _ratio(row.effective_min, row.effective_flights) for row in _named_rows(rows)}
    share = {_date(row.fl_date): _ratio(row.abnormal_flights, row.scheduled) for row in _named_rows(rows)}
    share = {day: part for day, part in share.items() if part > 0}
    figures = by_year[year]
    return {
        **figures,
        "year": year,
        "href": links.year(year),
        "strip": charts.barcode(year, delay, share, missing),
        "cancelled_bar": charts.percent(figures["cancelled_share"], _top(by_year, "cancelled_share")),
        "delay_bar": charts.percent(figures["delay_min"], _top(by_year, "delay_min")),
        "missing_months": missing,
        "gaps": gaps(report),
        "report": report,
        "empty_columns": sum(part == 1 for part in report.get("null_share", {}).values()),
    }


def _top(by_key: Mapping[Any, Context], name: str) -> float:
    return max((row[name] for row in by_key.values() if not math.isnan(row[name])), default=0.0)


def _month_matrix(network_days: pd.DataFrame, years: Sequence[int]) -> list[Context]:
    """Return one row per year with the mean effective delay of each month; the best and the worst are outlined."""
    dates = network_days["fl_date"].dt
    sums = network_days.groupby([dates.year, dates.month])[["effective_min", "effective_flights"]].sum()
    means = {key: _ratio(row["effective_min"], row["effective_flights"]) for key, row in sums.iterrows()}
    rows = []
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
        rows.append({"year": year, "cells": cells})
    return rows


def _records_of_all_years(data: HomeData, links: Links) -> list[Context]:
    """Return the records of all years, without those that no day holds."""
    network, flagged = data.network_days, data.flagged_days
    rows: list[Context] = []
    if network["abnormal"].max() > 0:
        day = network.loc[network["abnormal"].idxmax()]
        rows.append(_record("Most abnormal airports on one day", f"{day.abnormal} of {day.airports}", day, links))
    if network["cancelled"].max() > 0:
        day = network.loc[network["cancelled"].idxmax()]
        rows.append(_record("Most flights cancelled on one day", f"{day.cancelled:,} of {day.scheduled:,}", day, links))
    large = flagged[flagged["scheduled"] >= MIN_RECORD_FLIGHTS]
    for title, values, unit in (
        ("Largest share cancelled", large["cancelled"] / large["scheduled"], wording.share),
        ("Longest effective delay", large["mean_effective_delay_min"], lambda minutes: f"{minutes:.0f} min"),
    ):
        if len(large) and values.notna().any():
            day = large.loc[values.idxmax()]
            name = f"{title}, {MIN_RECORD_FLIGHTS} flights or more"
            rows.append(_record(name, unit(values.max()), day, links, day.origin))
    for event in _named_rows(largest_events(data.events, 1)):
        where = f"{event_title(event)}, {wording.span(event.first_day, event.last_day)}"
        airports = wording.count(event.airports, "airport")
        rows.append({"title": "Largest event", "value": airports, "href": event_href(event, links), "where": where})
    return rows


def _record(title: str, value: str, day: Any, links: Links, origin: str | None = None) -> Context:
    date = _date(day.fl_date)
    if origin is None:
        return {"title": title, "value": value, "href": links.network_day(date), "where": wording.date(date)}
    where = f"{origin} {city(origin)}, {wording.date(date)}".replace(" ,", ",")
    return {"title": title, "value": value, "href": links.day(origin, date), "where": where}


def _labels(feedback: pd.DataFrame, links: Links) -> list[Context]:
    """Return the labels, newest first."""
    rows = feedback.sort_values(["given_at", "origin", "fl_date"], ascending=[False, True, True])
    return [row | {"href": links.day(row["origin"], _date(row["fl_date"]))} for row in _records(rows)]


def _last_runs(runs: pd.DataFrame) -> list[Context]:
    """Return the last run of each year, newest first."""
    newest = runs.sort_values("ended", ascending=False, na_position="first").drop_duplicates("year")
    return _records(newest.sort_values("started", ascending=False, na_position="last"))


# Year


def year(data: YearData, links: Links) -> Context:
    """Return the figures of a year's page."""
    missing = data.quality.get("missing_months", [])
    chosen = _event_rows(largest_events(data.events, len(data.events)), links)
    worst = _worst_days(data)
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
    for row in _named_rows(data.network_days):
        date = _date(row.fl_date)
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
        for row in _named_rows(loud)
    ]
    calm = airport_years.loc[airport_years["abnormal"] == 0, "origin"]
    return _dot_map(dots, calm, geography.Box(), {dot.origin: links.airport_year(dot.origin, year) for dot in dots})


def _dot_map(
    dots: Sequence[geography.Dot], calm: Iterable[str], box: geography.Box, hrefs: Mapping[str, str]
) -> Context:
    """Return the map. unknown: airports whose place is unknown."""
    return {
        "box": box,
        "calm": geography.calm_path(calm),
        "dots": [placed | {"href": hrefs[placed["dot"].origin]} for placed in geography.place_dots(dots, box)],
        "discs": [],
        "unknown": sorted(dot.origin for dot in dots if geography.position(dot.origin) is None),
    }


def _worst_days(data: YearData) -> list[Context]:
    order = ["abnormal", "closures", "cancelled", "fl_date"]
    abnormal = data.network_days[data.network_days["abnormal"] > 0]
    worst = abnormal.sort_values(order, ascending=[False, False, False, True]).head(TOP_DAYS)
    return [
        row
        | {
            "bar": charts.percent(row["abnormal"], worst["abnormal"].max()),
            "cancelled_share": _ratio(row["cancelled"], row["scheduled"]),
            "delay_min": _ratio(row["effective_min"], row["effective_flights"]),
        }
        for row in _records(worst)
    ]


def _abnormal_dates(flagged: pd.DataFrame, links: Links) -> list[Context]:
    """Return the dates with abnormal airports in their order, the worst airport first."""
    return [
        {
            "date": _date(date),
            "airports": [
                {
                    "origin": row.origin,
                    "direction": row.direction,
                    "severity": int(row.severity),
                    "href": links.day(row.origin, _date(date)),
                }
                for row in _named_rows(worst_first(rows))
            ],
        }
        for date, rows in flagged.groupby("fl_date", sort=True)
    ]


def _ranked_airports(airport_years: pd.DataFrame, year: int, links: Links) -> Context:
    """Return the airports with abnormal days, most first, and the others."""
    ranked = airport_years.sort_values(["abnormal", "scheduled", "origin"], ascending=[False, False, True])
    rows = [
        row
        | {
            "href": links.airport_year(row["origin"], year),
            "city": city(row["origin"]),
            "cancelled_share": _ratio(row["cancelled"], row["scheduled"]),
            "delay_min": _ratio(row["effective_min"], row["effective_flights"]),
        }
        for row in _records(ranked)
    ]
    return {
        "abnormal_airports": [row for row in rows if row["abnormal"]],
        "calm_airports": sorted((row for row in rows if not row["abnormal"]), key=lambda row: row["origin"]),
    }


# Airports


def airports(airport_years: pd.DataFrame, links: Links) -> Context:
    """Return one row per airport with its years, by code."""
    rows = []
    for origin, own in airport_years.groupby("origin", sort=True):
        years = sorted(own["year"])
        rows.append(
            {
                **totals(own),
                "origin": origin,
                "city": city(str(origin)),
                "href": links.airport(str(origin)),
                "years": [{"year": year, "href": links.airport_year(str(origin), year)} for year in years],
            }
        )
    return {"airports": rows}


def airport(data: AirportData, links: Links) -> Context:
    """Return the figures of an airport's page, all years."""
    years = sorted(data.days["fl_date"].dt.year.unique())
    bad = data.days[data.days["is_bad"]]
    return {
        **_identity(data.origin),
        "years": [_airport_year_row(data, year, links) for year in reversed(years)],
        "first_year": years[0] if years else None,
        "last_year": years[-1] if years else None,
        "total": _days_totals(data.days),
        "worst": _abnormal_rows(worst_first(bad).head(1), data.reasons, links),
        **_cycles(data.days, years),
        "same_months": _same_months(data.days, years),
        "worst_month": _date(worst_first(bad)["fl_date"].iloc[0]).month if len(bad) else 1,
        "abnormal": _abnormal_rows(bad.sort_values("fl_date", ascending=False), data.reasons, links),
        "bullet_top": _bullet_top(bad),
    }


def _identity(origin: str) -> Context:
    known = places().get(origin)
    return {
        "origin": origin,
        "city": known.city if known else "",
        "airport_name": known.name if known else "",
        "state": known.state if known else "",
    }


def _airport_year_row(data: AirportData, year: int, links: Links) -> Context:
    own = data.days[data.days["fl_date"].dt.year == year]
    return {
        **_days_totals(own),
        "year": year,
        "href": links.airport_year(data.origin, year),
        "months": charts.months(year, _airport_calendar(own, links), data.missing_months.get(year, [])),
    }


def _airport_calendar(days: pd.DataFrame, links: Links) -> dict[dt.date, str | Flag]:
    cells: dict[dt.date, str | Flag] = {}
    for row in _named_rows(days):
        date = _date(row.fl_date)
        if row.is_bad:
            cells[date] = _day_flag(row, links)
        elif not row.scheduled:
            cells[date] = charts.NO_DATA
        else:
            cells[date] = charts.delay_class(row.mean_effective_delay_min) if row.status == "ok" else charts.TOO_FEW
    return cells


def _day_flag(row: Any, links: Links) -> Flag:
    date = _date(row.fl_date)
    title = f"{wording.date(date)}: {_minutes(row.observed)}, {wording.rarity(row.score)}"
    return Flag(f"f s{int(row.severity)}", row.direction == "closure", title, links.day(row.origin, date))


def _minutes(value: float) -> str:
    return "no delay known" if math.isnan(value) else f"{value:.0f} min"


def _cycles(days: pd.DataFrame, years: Sequence[int]) -> Context:
    """Return the monthly delay and cancelled share, the years of each month beside each other."""
    delay, cancelled = {}, {}
    dates = days["fl_date"].dt
    for key, rows in days.groupby([dates.year, dates.month]):
        mean = _mean_min(rows)
        if rows["scheduled"].sum():
            cancelled[cast("tuple[int, int]", key)] = _ratio(rows["cancelled"].sum(), rows["scheduled"].sum())
        if not math.isnan(mean):
            delay[cast("tuple[int, int]", key)] = max(0.0, mean)
    return {"delay_cycle": charts.cycle(delay, years), "cancelled_cycle": charts.cycle(cancelled, years)}


def _same_months(days: pd.DataFrame, years: Sequence[int]) -> list[Context]:
    """Return for each month one row per year that has it."""
    dates = days["fl_date"].dt
    by_month = dict(iter(days.groupby([dates.month, dates.year])))
    return [
        {
            "month": month,
            "name": calendar.month_name[month],
            "days": calendar.monthrange(2000, month)[1],
            "years": [
                {**_days_totals(rows), "year": year, "bars": _day_bars(rows)}
                for year in years
                if (rows := by_month.get((month, year))) is not None and rows["scheduled"].sum()
            ],
        }
        for month in range(1, 13)
    ]


def _day_bars(rows: pd.DataFrame) -> dict[str, str]:
    numbers = rows["fl_date"].dt.day
    bad = rows[rows["is_bad"]]
    severity = dict(zip(bad["fl_date"].dt.day, bad["severity"].astype(int), strict=True))
    return charts.day_bars(dict(zip(numbers, rows["mean_effective_delay_min"].astype(float), strict=True)), severity)


def _bullet_top(rows: pd.DataFrame) -> float:
    """Return the top of the axis of bullets: the highest observed value as a multiple of 20 minutes."""
    highest = rows["observed"].max() if len(rows) else math.nan
    return 40.0 if math.isnan(highest) else max(40.0, 20.0 * math.ceil(highest / 20))


def _abnormal_rows(rows: pd.DataFrame, reasons: pd.DataFrame, links: Links) -> list[Context]:
    """Return one row per abnormal day. reasons: of at least these days."""
    sentences = {_date(row.fl_date): row.sentence for row in _named_rows(reasons)}
    top = _bullet_top(rows)
    return [
        {
            "date": (date := _date(row.fl_date)),
            "href": links.day(row.origin, date),
            "direction": row.direction,
            "severity": int(row.severity),
            "score": float(row.score),
            "observed": float(row.observed),
            "expected": float(row.expected),
            "bullet": charts.bullet(row, top),
            "cancelled_share": _ratio(row.cancelled, row.scheduled),
            "stands_out": attribution.stands_out(sentences.get(date, "")),
            "sentence": sentences.get(date, ""),
        }
        for row in _named_rows(rows)
    ]


# One year of an airport


def airport_year(data: AirportYearData, links: Links) -> Context:
    """Return the figures of one year of an airport, with a section for each abnormal day."""
    days = data.days.sort_values("fl_date")
    bad = days[days["is_bad"]]
    return {
        **_identity(data.origin),
        "year": data.year,
        "airport_href": links.airport(data.origin),
        "year_href": links.year(data.year),
        "total": _days_totals(days),
        "missing": month_names(data.missing_months) if data.missing_months else "",
        "months": charts.months(data.year, _airport_calendar(days, links), data.missing_months),
        "chart": charts.delay_chart(_points(days, links), charts.month_labels(data.year)),
        "plots": [links.plot(data.origin, data.year, kind) for kind in PLOTS] if data.has_plots else [],
        "sections": _sections(data, bad, links),
    }


PLOTS = ("daily_flights", "daily_delay")


def _points(days: pd.DataFrame, links: Links) -> list[Point]:
    return [
        Point(
            _date(row.fl_date),
            float(row.observed),
            float(row.expected),
            float(row.upper),
            _day_flag(row, links) if row.is_bad else None,
        )
        for row in _named_rows(days)
    ]


def _sections(data: AirportYearData, bad: pd.DataFrame, links: Links) -> list[Context]:
    factors = dict(iter(data.factors.groupby("fl_date"))) if len(data.factors) else {}
    event_ids = {_date(row.fl_date): row.event_id for row in _named_rows(data.event_days)}
    event_rows = {row.event_id: row for row in _named_rows(data.events)}
    labels = {_date(row["fl_date"]): row for row in _records(data.feedback)}
    figures = {_date(row.fl_date): row for row in _named_rows(bad)}
    sections = _abnormal_rows(bad, data.reasons, links)
    for section in sections:
        date = section["date"]
        rows = factors.get(pd.Timestamp(date), data.factors.head(0))
        section |= {
            "flights": int(figures[date].scheduled),
            "cancelled": int(figures[date].cancelled),
            "event": _event_link(event_rows.get(event_ids.get(date)), links),
            "label": labels.get(date),
            "factors": {name: _factors(rows, name, TOP_SECTION_FACTORS) for name in TOP_FACTORS},
        }
    return sections


def _event_link(event: Any, links: Links) -> Context | None:
    """Return the event of a day, None if it has no other airport."""
    if event is None or event.airports < 2:
        return None
    return _event_rows(pd.DataFrame([event]), links)[0]


def _factors(rows: pd.DataFrame, dimension: str, count: int) -> list[Context]:
    """Return the factors of a day with the largest excess, either way, without those that are as usual."""
    own = rows[rows["dimension"] == dimension]
    excess = own[["excess_delay_min", "excess_cancelled"]].astype(float)
    weight = excess["excess_delay_min"].abs().fillna(0) + DELAY_CAP_MIN * excess["excess_cancelled"].abs().fillna(0)
    chosen = own.assign(weight=weight).sort_values(["weight", "name"], ascending=[False, True]).head(count)
    return excess_rows(chosen[chosen["weight"] >= 0.5])


def excess_rows(rows: pd.DataFrame) -> list[Context]:
    """Return rows of name, excess delay and excess cancellations with their bars."""
    delay = [float(value) for value in rows["excess_delay_min"]]
    cancelled = [float(value) for value in rows["excess_cancelled"]]
    bars = zip(charts.excess_bars(delay), charts.excess_bars(cancelled), strict=True)
    return [
        {
            "name": CAUSE_NAMES.get(name, name),
            "delay_min": minutes,
            "cancelled": flights,
            "delay_bar": delay_bar,
            "cancelled_bar": cancelled_bar,
        }
        for name, minutes, flights, (delay_bar, cancelled_bar) in zip(rows["name"], delay, cancelled, bars, strict=True)
    ]


# Day


def day(data: DayData, links: Links) -> Context:
    """Return the figures of an airport-day, abnormal or not."""
    days = data.days.sort_values("fl_date")
    dates = [_date(value) for value in days["fl_date"]]
    row = cast("Any", next(_iterate(days.iloc[[dates.index(data.fl_date)]])))
    flagged = [_date(value) for value in data.flagged["fl_date"]]
    reason = next(iter(_records(data.reasons)), None)
    label = next(iter(_records(data.feedback)), None)
    return {
        **_identity(data.origin),
        "date": data.fl_date,
        "row": row,
        "is_bad": bool(row.is_bad),
        "year_href": links.year(data.fl_date.year),
        "airport_href": links.airport(data.origin),
        "airport_year_href": links.airport_year(data.origin, data.fl_date.year),
        "before": _day_link(data.origin, _last(date for date in dates if date < data.fl_date), links),
        "after": _day_link(data.origin, next((date for date in dates if date > data.fl_date), None), links),
        "abnormal_before": _day_link(data.origin, _last(date for date in flagged if date < data.fl_date), links),
        "abnormal_after": _day_link(data.origin, next((d for d in flagged if d > data.fl_date), None), links),
        "rank": _rank(data),
        "reason": reason,
        "stands_out": attribution.stands_out(reason["sentence"]) if reason else "",
        "chart": charts.delay_chart(_points(days, links), _day_labels(dates, data.fl_date)),
        "factors": {name: _factors(data.factors, name, count) for name, count in TOP_FACTORS.items()},
        "neighbours": neighbours(data.origin, data.network, data.fl_date, links),
        "event": _event_link(next(_iterate(data.events), None), links),
        "verdicts": _verdicts(data.verdicts),
        "label": label,
    }


def _iterate(frame: pd.DataFrame) -> Any:
    return iter(_named_rows(frame))


def _last(dates: Iterable[dt.date]) -> dt.date | None:
    return max(dates, default=None)


def _day_link(origin: str, date: dt.date | None, links: Links) -> Context | None:
    return {"date": date, "href": links.day(origin, date)} if date else None


def _rank(data: DayData) -> Context | None:
    """Return the place of the day among the abnormal days of the airport, and the first of its years."""
    ranked = [_date(value) for value in worst_first(data.flagged)["fl_date"]]
    if data.fl_date not in ranked:
        return None
    return {"place": ranked.index(data.fl_date) + 1, "since": min(data.years, default=data.fl_date.year)}


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
    at = {row.origin: row for row in _named_rows(network) if row.origin != origin and row.scheduled}
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
            "cancelled_share": _ratio(at[code].cancelled, at[code].scheduled),
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
    top = _bullet_top(verdicts)
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
        for row in _named_rows(verdicts)
    ]


def score_in_words(detector: str, score: float) -> str:
    """Return a detector's score with its unit."""
    words = {
        "delaywatch": lambda: wording.rarity(score),
        "three_sigma": lambda: f"{score:.1f} standard deviations above the mean",
        "arima": lambda: f"{score:.1f} standard errors above the forecast",
        "random_cut_forest": lambda: f"displaces {score:.0f} days of the forest (CoDisp)",
        "gradient_boosting": lambda: f"{score:.1f} spreads above the expected delay",
        "isolation_forest": lambda: f"anomaly score {score:.2f} of 1",
    }
    return words.get(detector, lambda: f"score {score:.2f}")()


def flights(rows: pd.DataFrame) -> Context:
    """Return the flights of an airport-day by scheduled time, and their numbers by hour. rows: schemas.SILVER."""
    ordered = rows.sort_values(["crs_dep_time", "op_carrier", "op_carrier_fl_num"], na_position="last")
    listed = [_flight(flight) for flight in _named_rows(ordered)]
    hours: dict[int, list[int]] = {}
    for flight in listed:
        if flight["hour"] is not None:
            hours.setdefault(flight["hour"], [0, 0, 0, 0])[flight["group"]] += 1
    whole = range(min(hours), max(hours) + 1) if hours else range(0)
    strip = charts.hour_strip({hour: hours.get(hour, [0, 0, 0, 0]) for hour in whole}) if hours else None
    return {"flights": listed, "hours": strip}


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


# Event


def event(data: EventData, links: Links) -> Context:
    """Return the figures of an event."""
    row = cast("Any", next(_iterate(data.events[data.events["event_id"] == data.event_id])))
    members = data.event_days[data.event_days["event_id"] == data.event_id]
    inside = data.days.merge(members[["origin", "fl_date"]], on=["origin", "fl_date"])
    airports = _event_airports(inside)
    first, last = _date(row.first_day), _date(row.last_day)
    return {
        "event": _event_rows(pd.DataFrame([row]), links)[0],
        "year": first.year,
        "year_href": links.year(first.year),
        "worst_city": city(row.worst_origin),
        "worst_score": max((a["score"] for a in airports if a["origin"] == row.worst_origin), default=math.nan),
        "closed": sum(airport["is_closed"] for airport in airports),
        "cancelled_share": _ratio(row.cancelled, row.scheduled),
        **_event_order(data, links),
        "map": _affected_map(airports, data.airports, links, first),
        "causes": excess_rows(_summed_causes(data.factors, members)),
        "swarm": _event_swarm(data),
        "dates": [
            {
                "date": date,
                "is_inside": first <= date <= last,
                "is_far": not -2 <= (date - first).days <= (last - first).days + 2,
            }
            for date in _shown_dates(first, last)
        ],
        "airports": [
            airport | {"cells": _event_cells(data.days, airport["origin"], _shown_dates(first, last), links)}
            for airport in airports
        ],
    }


def _shown_dates(first: dt.date, last: dt.date) -> list[dt.date]:
    return [first + dt.timedelta(days=offset) for offset in range(-5, (last - first).days + 6)]


def _event_airports(inside: pd.DataFrame) -> list[Context]:
    """Return the airports of an event, hardest hit first. inside: the rows of `days` that belong to it."""
    rows = []
    for origin, own in inside.groupby("origin"):
        worst = next(_iterate(worst_first(own).head(1)))
        rows.append(
            {
                "origin": str(origin),
                "city": city(str(origin)),
                "severity": int(worst.severity),
                "score": float(worst.score),
                "worst_day": _date(worst.fl_date),
                "cancelled": int(own["cancelled"].sum()),
                "scheduled": int(own["scheduled"].sum()),
                "cancelled_share": _ratio(own["cancelled"].sum(), own["scheduled"].sum()),
                "is_closed": bool(own["direction"].eq("closure").any()),
            }
        )
    return sorted(rows, key=lambda row: (-row["severity"], -_or_zero(row["score"]), row["origin"]))


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _affected_map(airports: Sequence[Context], of_year: Sequence[str], links: Links, first: dt.date) -> Context:
    dots = [
        geography.Dot(
            row["origin"],
            5 + 1.3 * row["cancelled"] ** 0.5,
            row["severity"],
            row["is_closed"],
            f"{row['origin']}: {row['cancelled']:,} of {row['scheduled']:,} cancelled",
            True,
        )
        for row in airports
    ]
    codes = {row["origin"] for row in airports}
    hrefs = {row["origin"]: links.day(row["origin"], row["worst_day"]) for row in airports}
    calm = [origin for origin in of_year if origin not in codes]
    return _dot_map(dots, calm, geography.box_around(codes), hrefs)


def _summed_causes(factors: pd.DataFrame, members: pd.DataFrame) -> pd.DataFrame:
    """Return the excess of each cause over the airport-days of an event. A cause without any value is missing."""
    inside = factors.merge(members[["origin", "fl_date"]], on=["origin", "fl_date"])
    causes = inside[inside["dimension"] == "cause"]
    columns = ["excess_delay_min", "excess_cancelled"]
    sums = causes.groupby("name")[columns].sum(min_count=1)
    return sums.reindex([name for name in CAUSE_NAMES if name in sums.index]).reset_index()


def _event_order(data: EventData, links: Links) -> Context:
    """Return the rank of the event in its year, and the shared events before and after it."""
    ranked = list(largest_events(data.events, len(data.events))["event_id"])
    shared = data.events[data.events["airports"] > 1].sort_values(["first_day", "event_id"])
    ids = list(shared["event_id"])
    at = ids.index(data.event_id) if data.event_id in ids else None
    rows = _event_rows(shared, links)
    return {
        "rank": ranked.index(data.event_id) + 1,
        "count": len(ranked),
        "before": rows[at - 1] if at else None,
        "after": rows[at + 1] if at is not None and at + 1 < len(rows) else None,
    }


def _event_swarm(data: EventData) -> Context:
    order = data.events.sort_values(["airport_days", "event_id"], ascending=[False, True])
    return charts.swarm(
        (
            int(row.airport_days),
            f"{event_title(row)}, {wording.date(row.first_day)}",
            row.event_id == data.event_id,
        )
        for row in _named_rows(order)
    )


def _event_cells(days: pd.DataFrame, origin: str, dates: Sequence[dt.date], links: Links) -> list[Context]:
    rows = {_date(row.fl_date): row for row in _named_rows(days[days["origin"] == origin])}
    return [_event_cell(rows.get(date), links) for date in dates]


def _event_cell(row: Any, links: Links) -> Context:
    if row is None or not row.scheduled:
        return {"css": charts.NO_DATA, "text": "", "href": None}
    if row.is_bad:
        text = "closed" if row.direction == "closure" else wording.whole(row.mean_effective_delay_min)
        return {"css": f"s{int(row.severity)}", "text": text, "href": links.day(row.origin, _date(row.fl_date))}
    minutes = float(row.mean_effective_delay_min)
    return {"css": charts.delay_class(minutes), "text": wording.whole(minutes), "href": None}
