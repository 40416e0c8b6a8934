"""Texts of the messages about a finished year and a failed run. Pure functions.

`channels` sends them; `notifications` records what was sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from utils.reporting import wording
from utils.reporting.pages import largest_events
from utils.schemas import SEVERITIES

if TYPE_CHECKING:
    import pandas as pd

SEVERE = len(SEVERITIES) - 1  # extreme only: every year has many strong events, which the year page lists
MAX_LISTED_EVENTS = 10  # new severe events with their own line; the others are only counted
MAX_LINE_LENGTH = 600  # characters: an exception may contain a whole file

# Record of a year's messages: {"warnings": [sentence, ...], "days": [["JFK", "2013-02-08"], ...]}. `days` has the days
# of severe events. Days identify an event, because settings or a corrected file may change its name.
Notified = Mapping[str, Any]


@dataclass(frozen=True)
class Message:
    """A message. subject: one line. text: plain text lines."""

    subject: str
    text: str


@dataclass(frozen=True)
class Failure:
    """The first failed step of a run.

    step: None if no step failed. sentence: its error, None if its process was killed. log: URL of its log. others:
    number of other failed tasks.
    """

    run: str
    year: int | None
    step: str | None
    sentence: str | None
    log: str | None
    others: int = 0


def year_message(
    year: int, events: pd.DataFrame, event_days: pd.DataFrame, warnings: list[str], before: Notified | None, where: str
) -> tuple[Message | None, dict[str, Any]]:
    """Return the message of a finished year, or None, and the record of the year's messages after sending it.

    events, event_days: rows of schemas.EVENTS and EVENT_DAYS. warnings: of the quality report. before: the record of
    earlier messages, None if there are none. where: a line with the location of the results. The first message of a
    year is always sent, later ones only for new severe events and new warnings. An event is new if no earlier message
    contained any of its airport-days.
    """
    severe = events[events["severity"] >= SEVERE]
    days = event_days[event_days["event_id"].isin(severe["event_id"])]
    keys = [[origin, f"{day:%Y-%m-%d}"] for origin, day in zip(days["origin"], days["fl_date"], strict=True)]
    known = {tuple(day) for day in before["days"]} if before else set()
    old = {event for event, key in zip(days["event_id"], keys, strict=True) if tuple(key) in known}
    new_events = severe[~severe["event_id"].isin(list(old))]
    new_warnings = [warning for warning in warnings if not before or warning not in before["warnings"]]
    after = {
        "warnings": sorted({*warnings, *(before["warnings"] if before else [])}),
        "days": sorted([list(day) for day in {*known, *map(tuple, keys)}]),
    }
    if before is not None and new_events.empty and not new_warnings:
        return None, after
    new, extreme = "new " if before else "", SEVERITIES[SEVERE]
    counts = [wording.count(len(new_events), f"{new}{extreme} event")] if len(new_events) or not before else []
    if new_warnings:
        counts.append(wording.count(len(new_warnings), f"{new}quality warning"))
    lines = [
        f"The run of {year} is finished: {wording.count(len(events), 'event')} on "
        f"{wording.count(len(event_days), 'abnormal airport-day')}."
    ]
    if len(new_events):
        lines += ["", f"{new}{extreme} events, largest first:".capitalize(), *_event_lines(new_events)]
    if new_warnings:
        lines += ["", "Quality of the file:", *(f"- {_clipped(warning)}" for warning in new_warnings)]
    return Message(f"Delaywatch {year}: {wording.listed(counts)}", "\n".join([*lines, "", where])), after


def _event_lines(events: pd.DataFrame) -> list[str]:
    """Return one line for each of the largest events, and one with the number of further events."""
    lines = [
        f"- {row['name']}: {wording.count(row['scheduled'], 'flight')}, "
        f"{wording.cancelled(row['cancelled'], row['scheduled']) if row['scheduled'] else 'none scheduled'}"
        for row in largest_events(events, MAX_LISTED_EVENTS).to_dict("records")
    ]
    return lines + ([f"- and {len(events) - MAX_LISTED_EVENTS:,} more"] if len(events) > MAX_LISTED_EVENTS else [])


def failure_message(failure: Failure) -> Message:
    """Return the message of a failed run: the step, its error, and the URL of its log."""
    year = f" {failure.year}" if failure.year else ""
    if failure.step is None:
        return Message(
            f"Delaywatch{year}: the run failed",
            f"The run {failure.run} failed, but none of its steps did; look at the run in Airflow.",
        )
    reason = _clipped(failure.sentence) if failure.sentence else (
        "It left no error message: its process was killed, perhaps because memory ran out, or stopped by hand."
    )  # fmt: skip
    lines = [f"The step {failure.step} of the run {failure.run} failed.", reason]
    lines += [f"{wording.count(failure.others, 'other task')} of the run failed too."] if failure.others else []
    lines += ["", f"Log: {failure.log}"] if failure.log else []
    return Message(f"Delaywatch{year}: {failure.step} failed", "\n".join(lines))


def _clipped(sentence: str) -> str:
    line = " ".join(sentence.split())
    return line if len(line) <= MAX_LINE_LENGTH else f"{line[: MAX_LINE_LENGTH - 1]}…"
