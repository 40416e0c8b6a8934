"""What people are told of a run that has ended: the message of a finished year, and that of a failure. Pure.

Nothing is sent from here, and what was told before comes in and goes out as a value: how it travels is `channels`', who
keeps it is `alert`.
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

SEVERE = len(SEVERITIES) - 1  # extreme: strong ones are many in every year, and stand on the year page
TOP = 10  # of the new severe events are told one by one, the rest as a number
LONGEST = 600  # characters of one line: an exception may carry a whole file

# What the messages of a year have told: {"warnings": [sentence, ...], "days": [["JFK", "2013-02-08"], ...]}. The days
# are those of severe events; an event is known by its days, as settings or a corrected file may change its name.
Told = Mapping[str, Any]


@dataclass(frozen=True)
class Message:
    """A subject of one line, and text of plain lines."""

    subject: str
    text: str


@dataclass(frozen=True)
class Failure:
    """The first step that failed in a run; others: how many failed besides.

    step: None when none did. sentence: what it said, None for a step that ended without a word. log: its address.
    """

    run: str
    year: int | None
    step: str | None
    sentence: str | None
    log: str | None
    others: int = 0


def of_year(
    year: int, events: pd.DataFrame, event_days: pd.DataFrame, warnings: list[str], told: Told | None, where: str
) -> tuple[Message | None, dict[str, Any]]:
    """The message of a finished year, and all that has been told of the year once it was sent.

    events, event_days: rows of schemas.EVENTS and EVENT_DAYS; warnings: those of the quality report; told: what earlier
    messages of the year told, None when there was none; where: a line with the place of the results. The first message
    of a year is always one. Later there is one only for severe events and warnings that none of them told: an event is
    new when no day of it at any airport was told.
    """
    severe = events[events["severity"] >= SEVERE]
    days = event_days[event_days["event_id"].isin(severe["event_id"])]
    keys = [[origin, f"{day:%Y-%m-%d}"] for origin, day in zip(days["origin"], days["fl_date"], strict=True)]
    known = {tuple(day) for day in told["days"]} if told else set()
    old = {event for event, key in zip(days["event_id"], keys, strict=True) if tuple(key) in known}
    new_events = severe[~severe["event_id"].isin(list(old))]
    new_warnings = [warning for warning in warnings if not told or warning not in told["warnings"]]
    after = {
        "warnings": sorted({*warnings, *(told["warnings"] if told else [])}),
        "days": sorted([list(day) for day in {*known, *map(tuple, keys)}]),
    }
    if told is not None and new_events.empty and not new_warnings:
        return None, after
    new = "new " if told else ""
    counts = [wording.count(len(new_events), f"{new}{SEVERITIES[SEVERE]} event")] if len(new_events) or not told else []
    if new_warnings:
        counts.append(wording.count(len(new_warnings), f"{new}warning") + " of quality")
    lines = [
        f"The flights of {year} are done: {wording.count(len(events), 'event')} on "
        f"{wording.count(len(event_days), 'abnormal airport-day')}."
    ]
    if len(new_events):
        lines += [
            "",
            f"{'New e' if told else 'E'}{SEVERITIES[SEVERE][1:]} events, largest first:",
            *_told_of(new_events),
        ]
    if new_warnings:
        lines += ["", "Quality of the file:", *(f"- {_clipped(warning)}" for warning in new_warnings)]
    return Message(f"Delaywatch {year}: {wording.listed(counts)}", "\n".join([*lines, "", where])), after


def _told_of(events: pd.DataFrame) -> list[str]:
    """One line for each of the largest events, and one for how many more there are."""
    lines = [
        f"- {row['name']}: {wording.count(row['scheduled'], 'flight')}, "
        f"{wording.cancelled(row['cancelled'], row['scheduled']) if row['scheduled'] else 'none scheduled'}"
        for row in largest_events(events, TOP).to_dict("records")
    ]
    return lines + ([f"- and {len(events) - TOP:,} more"] if len(events) > TOP else [])


def of_failure(failure: Failure) -> Message:
    """The message of a failed run: which step, what it said, where its log is."""
    year = f" {failure.year}" if failure.year else ""
    if failure.step is None:
        return Message(f"Delaywatch{year}: the run failed", f"The run {failure.run} failed, none of its steps did.")
    said = _clipped(failure.sentence) if failure.sentence else (
        "It ended without a word: its process was killed, perhaps for lack of memory, or stopped by hand."
    )  # fmt: skip
    lines = [f"The step {failure.step} of the run {failure.run} failed.", said]
    lines += [f"{wording.count(failure.others, 'other task')} of it failed too."] if failure.others else []
    lines += ["", f"Log: {failure.log}"] if failure.log else []
    return Message(f"Delaywatch{year}: {failure.step} failed", "\n".join(lines))


def _clipped(sentence: str) -> str:
    line = " ".join(sentence.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
