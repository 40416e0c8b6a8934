"""Decide which events are announced to a subscriber, and keep the record of what was announced. Pure.

An airport-day is in the record with the severity and the last day that its event had when it was announced. Days
identify an event, because a revised file or new settings may change its name, split it or join it with others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple

import pandas as pd
from pydantic import BaseModel, ConfigDict

from utils.schemas import SEVERITIES

MAX_MOVE = timedelta(days=2)  # an event whose last day moves further is announced again
Day = tuple[str, date]  # origin and date


class State(NamedTuple):
    """Severity and last day of an event."""

    severity: int
    last_day: date


@dataclass(frozen=True)
class Announcement:
    """An event to announce. before: the highest earlier announced severity and last day; None for a new event."""

    event_id: str
    now: State
    before: State | None


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Announced(_Model):
    """Airport-days whose event was announced with this severity and last day."""

    severity: int
    last_day: date
    days: tuple[Day, ...]


class Record(_Model):
    """The messages about one year to one subscriber. digests: months with flights at the last digest, 1 to 12."""

    announced: tuple[Announced, ...] = ()
    warnings: tuple[str, ...] = ()
    digests: tuple[int, ...] = ()


class YearRecord(_Model):
    """The messages about one year. subscribers: by name."""

    subscribers: dict[str, Record] = {}


def read(data: bytes, default: str) -> YearRecord:
    """Parse the JSON of a year's record. Raises ValueError, KeyError or TypeError if it is damaged.

    default: the subscriber who got the messages of the format until 2026, {"warnings": [...], "days": [[origin, day],
    ...]}, whose days are those of extreme events.
    """
    given = json.loads(data)
    if "subscribers" in given:
        return YearRecord.model_validate(given)
    extreme = len(SEVERITIES) - 1
    announced = [{"severity": extreme, "last_day": day, "days": [(origin, day)]} for origin, day in given["days"]]
    record = Record.model_validate({"announced": announced, "warnings": given["warnings"]})
    return YearRecord(subscribers={default: record.model_copy(update={"announced": _grouped(_states(record))})})


def announce(record: Record, event_days: pd.DataFrame, min_severity: int) -> tuple[list[Announcement], Record]:
    """Return the events that the subscriber must get, and the record after they are sent.

    event_days: event_id, origin, fl_date and severity of the days at the subscriber's airports. An event is announced
    from `min_severity` on if none of its days is in the record, or if its severity or its last day (by more than
    MAX_MOVE) exceeds that of every recorded day in it. Otherwise only its new days are recorded, so an event that
    changes slowly, splits or joins others is not announced again.
    """
    known = _states(record)
    after, announcements = dict(known), []
    for event_id, rows in event_days.groupby("event_id"):
        days = [(str(origin), day.date()) for origin, day in zip(rows["origin"], rows["fl_date"], strict=True)]
        now = State(int(rows["severity"].max()), max(day for _, day in days))
        earlier = [known[day] for day in days if day in known]
        if not earlier and now.severity < min_severity:
            continue
        before = _highest(earlier) if earlier else None
        if now.severity >= min_severity and (before is None or _is_news(now, before)):
            announcements.append(Announcement(str(event_id), now, before))
            after |= dict.fromkeys(days, _highest([now, *earlier]))
        elif before is not None:
            after |= {day: before for day in days if day not in known}
    return announcements, record.model_copy(update={"announced": _grouped(after)})


def _is_news(now: State, before: State) -> bool:
    return now.severity > before.severity or now.last_day > before.last_day + MAX_MOVE


def _highest(states: list[State]) -> State:
    return State(max(state.severity for state in states), max(state.last_day for state in states))


def _states(record: Record) -> dict[Day, State]:
    return {day: State(group.severity, group.last_day) for group in record.announced for day in group.days}


def _grouped(states: Mapping[Day, State]) -> tuple[Announced, ...]:
    """Return the days by state, all in ascending order, so that equal states give equal JSON."""
    groups: dict[State, list[Day]] = {}
    for day in sorted(states):
        groups.setdefault(states[day], []).append(day)
    return tuple(
        Announced(severity=state.severity, last_day=state.last_day, days=tuple(groups[state]))
        for state in sorted(groups, key=lambda state: (state.last_day, state.severity))
    )
