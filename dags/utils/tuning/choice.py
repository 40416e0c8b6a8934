"""What a notebook shows: the requested year, airport, event and detectors, or defaults.

Pure. Raises Missing for a year, airport, event or detector that does not exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

import pandas as pd

from utils.errors import Missing
from utils.reporting import pages, wording

T = TypeVar("T", int, str)
MAX_LISTED = 8  # list at most this many; beyond that, only close matches


def year(status: Iterable[Mapping[str, Any]], lake: str, asked: int | None = None) -> int:
    """Return the requested year, or the newest finished year. A year is finished if its page exists.

    status: the result of `status.status`. lake: the lake's name for messages. Raises Missing if the requested year is
    not finished, or no year is.
    """
    finished = [int(row["year"]) for row in status if row["has_page"]]
    if not finished:
        raise Missing(
            f"{lake} has no finished year; run one with `python -m utils run --year YEAR` or the DAG flight_anomalies."
        )
    return max(finished) if asked is None else _known(asked, finished, "year", f"among the finished years of {lake}")


def airport(days: pd.DataFrame, asked: str | None = None) -> str:
    """Return the requested airport, or the one with the most flights. days: AIRPORT_DAYS, at least one row."""
    flights = days.groupby("origin")["scheduled"].sum()
    if asked is None:
        return str(flights.idxmax())
    return _known(asked, list(map(str, flights.index)), "airport", "in the airport-days of this year")


def detectors(judged: Sequence[str], asked: Sequence[str] | None = None) -> list[str]:
    """Return the requested detectors in their order, or all that have judged the year."""
    chosen = judged if asked is None else asked
    return [_known(name, judged, "detector", "in the verdicts of this year") for name in chosen]


def event(events: pd.DataFrame, asked: str | None = None) -> pd.Series:
    """Return the event with the requested event_id, or the largest one, as a row of EVENTS."""
    if events.empty:
        raise Missing("This year has no events because no airport-day is flagged; choose another year.")
    if asked is None:
        return pages.largest_events(events, 1).iloc[0]
    asked = _known(asked, list(events["event_id"]), "event", "among the events of this year")
    return events[events["event_id"] == asked].iloc[0]


def most_unusual_day(days: pd.DataFrame, verdicts: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the airport-day with the highest score as an event, for a year without flags: EVENTS and EVENT_DAYS.

    days: AIRPORT_DAYS; verdicts: ANOMALIES with the dates of `days`. The severity is 0 and the place is missing,
    because the day is not flagged.
    """
    scored = verdicts.dropna(subset="score")
    if scored.empty:
        raise Missing("This year has no scored day because airports have too few flights or days; choose another year.")
    best = scored.sort_values("score", kind="stable").iloc[-1]
    day = days[(days["origin"] == best["origin"]) & (days["fl_date"] == best["fl_date"])].assign(
        event_id=f"{best['fl_date']:%Y%m%d}-{best['origin']}",
        name=f"{best['fl_date']:%F} {best['origin']}, not flagged",
        first_day=best["fl_date"],
        last_day=best["fl_date"],
        airports=1,
        airport_days=1,
        severity=0,
    )
    return day, day[["event_id", "origin", "fl_date"]]


def _known(asked: T, known: Sequence[T], what: str, where: str) -> T:
    if asked in known:
        return asked
    names = [str(name) for name in sorted(known)]
    if len(names) <= MAX_LISTED:
        hint = f"choose {wording.listed(names, 'or')}."
    elif close := get_close_matches(str(asked), names):
        hint = f"did you mean {wording.listed(close, 'or')}?"
    else:
        hint = f"choose one of the {len(names)} from {names[0]} to {names[-1]}."
    raise Missing(f"{what.capitalize()} {asked!r} is not {where}; {hint}")
