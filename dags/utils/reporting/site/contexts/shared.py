"""Parts of several pages: days as plain rows, their key figures, events and words."""

from __future__ import annotations

import calendar
import datetime as dt
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import pandas as pd

from utils.analysis import events
from utils.analysis.airports import places
from utils.layers.gold import DELAY_CAP_MIN
from utils.reporting import wording
from utils.reporting.site import charts, geography
from utils.reporting.site.charts import Flag, Point
from utils.reporting.site.links import Links, event_address
from utils.schemas import CAUSES

MIN_WEIGHT_MIN = 0.5  # a factor nearer to usual is not shown
CAUSE_NAMES = {
    "weather": "Weather",
    "carrier": "Carrier",
    "nas": "Aviation system",
    "late_aircraft": "Late aircraft",
    "security": "Security",
}

Context = dict[str, Any]


# Days


class Day(NamedTuple):
    """A row of `days`. Numbers may be NaN. A plain tuple, because a page of an airport reads thousands of them."""

    origin: str
    date: dt.date
    scheduled: int
    cancelled: int
    delay_min: float  # effective delay
    observed: float
    expected: float
    lower: float
    upper: float
    score: float
    direction: str | None
    severity: int
    is_judged: bool
    is_bad: bool

    @property
    def cancelled_share(self) -> float:
        """The cancelled share of the scheduled flights."""
        return ratio(self.cancelled, self.scheduled)

    @property
    def is_closed(self) -> bool:
        """True if the airport was closed."""
        return self.is_bad and self.direction == "closure"


def day_rows(days: pd.DataFrame) -> list[Day]:
    """Return the rows of `days` by airport and date."""
    numbers = ("mean_effective_delay_min", "observed", "expected", "lower", "upper", "score")
    columns: list[Iterable[Any]] = [
        days["origin"].tolist(),
        days["fl_date"].dt.date.tolist(),
        days["scheduled"].tolist(),
        days["cancelled"].tolist(),
        *(days[name].astype("float64").tolist() for name in numbers),
        days["direction"].tolist(),
        days["severity"].fillna(0).astype(int).tolist(),
        days["status"].eq("ok").tolist(),
        days["is_bad"].tolist(),
    ]
    return sorted(itertools.starmap(Day, zip(*columns, strict=True)), key=lambda day: (day.origin, day.date))


def worst_first(days: Iterable[Day]) -> list[Day]:
    """Sort by severity and score, highest first, then airport and date. A day without a score ranks last."""
    return sorted(days, key=lambda day: (-day.severity, -or_zero(day.score), day.origin, day.date))


def or_zero(value: float) -> float:
    """Return the value, 0 if it is NaN."""
    return 0.0 if math.isnan(value) else value


def ratio(part: Any, whole: Any) -> float:
    """Return part / whole; NaN without a whole."""
    return float(part) / float(whole) if whole else math.nan


def mean_delay(days: Iterable[Day]) -> float:
    """Return the mean effective delay of a flight, minutes."""
    known = [day for day in days if not math.isnan(day.delay_min)]
    return ratio(sum(day.delay_min * day.scheduled for day in known), sum(day.scheduled for day in known))


def days_total(days: Sequence[Day]) -> Context:
    """Return the key figures of days."""
    flights = sum(day.scheduled for day in days)
    bad = [day for day in days if day.is_bad]
    return {
        "flights": flights,
        "flights_per_day": ratio(flights, sum(day.scheduled > 0 for day in days)),
        "cancelled_share": ratio(sum(day.cancelled for day in days), flights),
        "delay_min": mean_delay(days),
        "abnormal": len(bad),
        "extreme": sum(day.severity == 3 for day in bad),
        "closures": sum(day.is_closed for day in bad),
    }


def usual_share(days: Iterable[Day]) -> float:
    """Return the share of the days without a flag that are inside the usual range; NaN if no day has one."""
    with_range = [day for day in days if not day.is_bad and not math.isnan(day.observed + day.lower + day.upper)]
    return ratio(sum(day.lower <= day.observed <= day.upper for day in with_range), len(with_range))


def day_flag(day: Day, links: Links) -> Flag:
    """Return the mark of an abnormal day."""
    observed = "no delay known" if math.isnan(day.observed) else f"{day.observed:.0f} min"
    title = f"{wording.date(day.date)}: {observed}, {wording.rarity(day.score)}"
    return Flag(f"f s{day.severity}", day.is_closed, title, links.day(day.origin, day.date))


def points(days: Iterable[Day], links: Links) -> list[Point]:
    """Return the days of a chart of observed and expected delay."""
    return [
        Point(day.date, day.observed, day.expected, day.upper, day_flag(day, links) if day.is_bad else None)
        for day in days
    ]


def bullet_top(observed: Iterable[float]) -> float:
    """Return the top of the axis of bullets: the highest observed value, at least 40, as a multiple of 20 minutes."""
    highest = max((value for value in observed if not math.isnan(value)), default=0.0)
    return max(40.0, 20.0 * math.ceil(highest / 20))


# Frames


def records(frame: pd.DataFrame) -> list[Context]:
    """Return the rows as dicts."""
    return cast("list[Context]", frame.to_dict("records"))


def rows(frame: pd.DataFrame) -> list[Any]:
    """Return the rows as named tuples."""
    return list(frame.itertuples(index=False)) if len(frame) else []  # most airports have empty tables


def date_of(value: Any) -> dt.date:
    """Return the date of a timestamp."""
    date: dt.date = pd.Timestamp(value).date()
    return date


def totals(airport_years: pd.DataFrame) -> Context:
    """Return the key figures of rows of AIRPORT_YEARS."""
    sums = airport_years.sum(numeric_only=True)
    flights = int(sums["scheduled"])
    return {
        "flights": flights,
        "airports": int(airport_years.loc[airport_years["scheduled"] > 0, "origin"].nunique()),
        "cancelled": int(sums["cancelled"]),
        "cancelled_share": ratio(sums["cancelled"], flights),
        "delay_min": ratio(sums["effective_min"], sums["effective_flights"]),
        "judged_days": int(sums["judged_days"]),
        "abnormal": int(sums["abnormal"]),
        "closures": int(sums["closures"]),
        "abnormal_share": ratio(sums["abnormal"], sums["judged_days"]),
    }


def worst_dates(network_days: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return the worst rows of NETWORK_DAYS: most abnormal airports, then effective delay per flight, then date."""
    abnormal = network_days[network_days["abnormal"] > 0]
    abnormal = abnormal.assign(delay_min=abnormal["effective_min"] / abnormal["effective_flights"])
    return abnormal.sort_values(["abnormal", "delay_min", "fl_date"], ascending=[False, False, True]).head(count)


def label_rows(feedback: pd.DataFrame) -> list[Context]:
    """Return the rows of FEEDBACK, newest first, with the dates `date` of the day and `given` of the label."""
    if feedback.empty:  # as for most airports; sorting takes longer than the rest of the page
        return []
    newest = feedback.sort_values(["given_at", "origin", "fl_date"], ascending=[False, True, True])
    return [row | {"date": date_of(row["fl_date"]), "given": date_of(row["given_at"])} for row in records(newest)]


# Words


def city(origin: str) -> str:
    """Return the city of an airport, or an empty text."""
    return places()[origin].city if origin in places() else ""


def identity(origin: str) -> Context:
    """Return code, city, name and state of an airport."""
    known = places().get(origin)
    return {
        "origin": origin,
        "city": known.city if known else "",
        "airport_name": known.name if known else "",
        "state": known.state if known else "",
    }


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
    newest = report.get("so_far_to")
    notes = [f"The year so far, to {calendar.month_name[newest]}."] if newest else []
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


def event_title(event: Any) -> str:
    """Return the place of an event with a capital: `North-east and mid-Atlantic`."""
    place = events.place_of(event.name)
    return place[:1].upper() + place[1:]


def event_rows(events: Iterable[Any], links: Links) -> list[Context]:
    """Return the figures of events, ranked in their order. events: rows of EVENTS."""
    return [
        {
            "rank": rank,
            "title": event_title(event),
            "href": event_address(links, event),
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
        for rank, event in enumerate(events, start=1)
    ]


def event_link(event: Any, links: Links) -> Context | None:
    """Return the event of a day; None if it has no other airport."""
    if event is None or event.airports < 2:
        return None
    return event_rows([event], links)[0]


# Maps


def event_map(rows: Sequence[Context]) -> Context:
    """Return the map of events, each at its worst airport. rows: of `event_rows`."""
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


def dot_map(
    dots: Sequence[geography.Dot], calm: Iterable[str], box: geography.Box, hrefs: Mapping[str, str]
) -> Context:
    """Return the map of airports. calm: those that are only points. hrefs: addresses by airport."""
    return {
        "box": box,
        "calm": geography.calm_path(calm, box),
        "dots": [placed | {"href": hrefs[placed["dot"].origin]} for placed in geography.place_dots(dots, box)],
        "discs": [],
        "unknown": sorted(dot.origin for dot in dots if geography.position(dot.origin) is None),
    }


# Factors


class Factor(NamedTuple):
    """Delay and cancellations above usual by a cause, at a carrier or to a destination. Numbers may be NaN."""

    name: str
    delay_min: float
    cancelled: float

    @property
    def weight(self) -> float:
        """How far it is from usual, either way, minutes."""
        return abs(or_zero(self.delay_min)) + DELAY_CAP_MIN * abs(or_zero(self.cancelled))


Factors = dict[tuple[dt.date, str], list[Factor]]  # by day and dimension


def factors_by_day(frame: pd.DataFrame) -> Factors:
    """Return the factors, the farthest from usual first, without those that are as usual. frame: of one airport."""
    columns = [
        frame["fl_date"].dt.date.tolist() if len(frame) else [],
        frame["dimension"].tolist(),
        frame["name"].tolist(),
        frame["excess_delay_min"].astype("float64").tolist(),
        frame["excess_cancelled"].astype("float64").tolist(),
    ]
    by_day: Factors = {}
    for date, dimension, *numbers in zip(*columns, strict=True):
        if (factor := Factor(*numbers)).weight >= MIN_WEIGHT_MIN:
            by_day.setdefault((date, dimension), []).append(factor)
    for factors in by_day.values():
        factors.sort(key=lambda factor: (-factor.weight, factor.name))
    return by_day


def excess_rows(factors: Sequence[Factor]) -> list[Context]:
    """Return the factors with their bars, on an axis for delay and one for cancellations."""
    delay = charts.excess_bars(factor.delay_min for factor in factors)
    cancelled = charts.excess_bars(factor.cancelled for factor in factors)
    return [
        {**factor._asdict(), "name": factor_name(factor.name), "delay_bar": bar, "cancelled_bar": cancelled_bar}
        for factor, bar, cancelled_bar in zip(factors, delay, cancelled, strict=True)
    ]


def factor_name(name: str) -> str:
    """Return the name of a cause; codes of carriers and airports stay as they are."""
    return CAUSE_NAMES.get(name, name)
