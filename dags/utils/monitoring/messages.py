"""Texts of the messages about a finished year, a month and a failed run. Pure functions.

`channels` sends them; `notifications` records what was sent.
"""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from utils.reporting import wording
from utils.reporting.pages import largest_events, worst_airport_days
from utils.reporting.site.links import ServedLinks, event_address
from utils.schemas import SEVERITIES

if TYPE_CHECKING:
    import pandas as pd

    from utils.monitoring.announcements import Announcement
    from utils.monitoring.subscriptions import Subscription

MAX_LISTED_EVENTS = 10  # events with their own line; the others are only counted
MAX_DIGEST_ENTRIES = 3  # worst days, and largest events, of a digest
MAX_LINE_LENGTH = 600  # characters: an exception may contain a whole file


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
    year: int,
    subscription: Subscription,
    events: pd.DataFrame,
    event_days: pd.DataFrame,
    announcements: Sequence[Announcement],
    warnings: Sequence[str],
    *,
    is_first: bool,
    where: str,
    links: ServedLinks | None = None,
) -> Message:
    """Return the message of a finished year.

    events: rows of schemas.EVENTS. event_days: the subscriber's days, as `announcements.announce` takes them.
    announcements, warnings: those that the subscriber did not get before; may be empty. is_first: there was no earlier
    message about the year. where: lines with the location of the results. links: addresses of the events' pages.
    """
    kind = f"{subscription.severities} event".lstrip()
    new = [announcement for announcement in announcements if announcement.before is None]
    grown = [announcement for announcement in announcements if announcement.before]
    prefix = "" if is_first else "new "
    counts = [wording.count(len(new), f"{prefix}{kind}")] if new or (not announcements and is_first) else []
    counts += [f"{wording.count(len(grown), kind)} that grew"] if grown else []
    counts += [wording.count(len(warnings), f"{prefix}quality warning")] if warnings else []
    lines = [
        f"The run of {year} is finished: {wording.count(event_days['event_id'].nunique(), 'event')} on "
        f"{wording.count(len(event_days), 'abnormal airport-day')}{subscription.area}."
    ]
    for title, listed in ((f"{prefix}{kind}s", new), (f"{kind}s that grew", grown)):
        if listed:
            lines += ["", f"{title}, largest first:".capitalize(), *_event_lines(events, event_days, listed, links)]
    if warnings:
        lines += ["", "Quality of the file:", *(f"- {_clipped(warning)}" for warning in warnings)]
    return Message(f"Delaywatch {year}: {wording.listed(counts)}", "\n".join([*lines, "", where]))


def _event_lines(
    events: pd.DataFrame, event_days: pd.DataFrame, announced: Sequence[Announcement], links: ServedLinks | None
) -> list[str]:
    """Return a line, and the page's address, for each of the largest events, and the number of further events.

    The page of an event of a single airport is that of its first day.
    """
    by_id = {announcement.event_id: announcement for announcement in announced}
    listed = largest_events(events[events["event_id"].isin(list(by_id))], MAX_LISTED_EVENTS)
    lines = []
    row: Any
    for row in listed.itertuples(index=False):
        announcement = by_id[row.event_id]
        flights = wording.count(row.scheduled, "flight")
        cancelled = wording.cancelled(row.cancelled, row.scheduled) if row.scheduled else "none scheduled"
        origins = sorted(event_days.loc[event_days["event_id"] == row.event_id, "origin"].unique())
        at = f" at {_airports(origins)}" if len(origins) < row.airports else ""
        lines.append(f"- {row.name}: {flights}, {cancelled}; {_severity(announcement)}{at}")
        lines += [f"  {event_address(links, row)}"] if links else []
    return lines + (
        [f"- and {len(announced) - MAX_LISTED_EVENTS:,} more"] if len(announced) > MAX_LISTED_EVENTS else []
    )


def _severity(announcement: Announcement) -> str:
    """Return the severity, and the announced severity and last day that it exceeds: `extreme (was strong)`."""
    now, before = announcement.now, announcement.before
    changes = []
    if before and now.severity > before.severity:
        changes.append(SEVERITIES[before.severity])
    if before and now.last_day > before.last_day:
        changes.append(f"until {before.last_day}")
    return SEVERITIES[now.severity] + (f" (was {wording.listed(changes)})" if changes else "")


def _airports(origins: Sequence[str]) -> str:
    many = len(origins) > MAX_DIGEST_ENTRIES
    return f"{len(origins)} of your airports" if many else wording.listed(origins)


def digest_message(
    year: int,
    month: int,
    subscription: Subscription,
    days: pd.DataFrame,
    verdicts: pd.DataFrame,
    events: pd.DataFrame,
    warnings: Sequence[str],
    where: str,
    links: ServedLinks | None = None,
) -> Message:
    """Return the digest of a month: five lines, the location of the results, and the addresses of the worst days.

    days, verdicts: rows of AIRPORT_DAYS and of the published ANOMALIES of the month at the subscriber's airports;
    events: rows of EVENTS that have such a day; warnings: all of the year's quality report. where: lines with links.
    """
    scheduled, cancelled = int(days["scheduled"].sum()), int(days["cancelled"].sum())
    airports = days.loc[days["scheduled"] > 0, "origin"].nunique()
    is_severe = verdicts["severity"] >= subscription.min_severity
    worst = worst_airport_days(days, verdicts[is_severe], MAX_DIGEST_ENTRIES)
    worst_days = [
        f"{row['origin']} on {wording.date(row['fl_date'])} ({wording.flag(row['direction'], row['severity'])}, "
        f"{wording.cancelled(row['cancelled'], row['scheduled']) if row['scheduled'] else 'no flights'})"
        for row in worst.to_dict("records")
    ]
    names = "; ".join(largest_events(events, MAX_DIGEST_ENTRIES)["name"])
    lines = [
        f"Flights: {scheduled:,} at {wording.count(airports, 'airport')}",
        f"Cancelled: {f'{wording.share(cancelled / scheduled)} ({cancelled:,})' if cancelled else 'none'}",
        f"Worst days: {'; '.join(worst_days) or 'none'}",
        f"Events: {f'{len(events):,}, the largest: {names}' if names else 'none'}",
        _clipped(f"Data warnings of {year}: {' '.join([f'{len(warnings):,}.', *warnings]) if warnings else 'none'}"),
    ]
    pages = [
        f"{row['origin']} on {wording.date(row['fl_date'])}: {links.day(row['origin'], row['fl_date'].date())}"
        for row in worst.to_dict("records")
        if links
    ]
    return Message(
        f"Delaywatch: {calendar.month_name[month]} {year}{subscription.area}", "\n".join([*lines, "", where, *pages])
    )


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
