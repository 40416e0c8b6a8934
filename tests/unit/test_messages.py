"""The messages of a finished year, of a month and of a failed run."""

from __future__ import annotations

import re
from datetime import date
from typing import Any, NamedTuple

import pandas as pd
import pytest

from tests.builders import airport_day_row, airport_days_table, verdict_row, verdicts_table
from utils.monitoring import messages
from utils.monitoring.announcements import Announcement, State
from utils.monitoring.messages import Failure, Message
from utils.monitoring.subscriptions import DEFAULT, Subscription
from utils.reporting.site.links import ServedLinks

LAKE = "Lake: file:///lake"
SITE = ServedLinks("https://here/flights/")
OCTOBER = "October 2013 has no flights."
MILD, STRONG, EXTREME = 1, 2, 3
NEW_YORK = Subscription(
    name="ny", channel="slack", airports=frozenset({"JFK", "LGA"}), severity="strong", snooze_until=None
)


class Event(NamedTuple):
    """An event. days: `ORIGIN DATE`. airports: of the whole network, if other than those of `days`."""

    days: tuple[str, ...]
    severity: int = EXTREME
    before: State | None = None
    airports: int | None = None

    @property
    def now(self) -> State:
        return State(self.severity, max(date.fromisoformat(day.split()[1]) for day in self.days))


SNOW = Event(("LGA 2013-02-08", "JFK 2013-02-08", "LGA 2013-02-09"))
STORM = Event(("EWR 2013-03-08",))


def events_table(*events: Event) -> pd.DataFrame:
    rows = [
        {
            "event_id": event.days[0],
            "name": f"{event.days[0]}, closure",
            "first_day": pd.Timestamp(event.days[0].split()[1]),
            "airports": event.airports or len({day.split()[0] for day in event.days}),
            "airport_days": len(event.days),
            "severity": event.severity,
            "scheduled": 100,
            "cancelled": 57,
            "worst_origin": event.days[0].split()[0],
        }
        for event in events
    ]
    columns = ["event_id", "name", "first_day", "airports", "airport_days", "severity", "scheduled", "cancelled"]
    return pd.DataFrame(rows, columns=[*columns, "worst_origin"])


def year_message(
    *events: Event,
    subscription: Subscription = DEFAULT,
    warnings: tuple[str, ...] = (),
    is_first: bool = True,
    links: ServedLinks | None = None,
) -> Message:
    """The message about events that are all announced."""
    days = [(event.days[0], day.split()[0], event.severity) for event in events for day in event.days]
    return messages.year_message(
        2013,
        subscription,
        events_table(*events),
        pd.DataFrame(days, columns=["event_id", "origin", "severity"]),
        [Announcement(event.days[0], event.now, event.before) for event in events],
        warnings,
        is_first=is_first,
        where=LAKE,
        links=links,
    )


def listed(message: Message) -> list[str]:
    """The lines of the message's lists."""
    return [line for line in message.text.splitlines() if line.startswith("- ")]


def test_a_message_lists_events_and_warnings_and_says_where_the_rest_is() -> None:
    message = year_message(STORM, SNOW, warnings=(OCTOBER,))

    assert re.findall(r"\d+", message.subject) == ["2013", "2", "1"]  # extreme events, warnings
    assert re.search(r"\b2 events\b.*\b4 abnormal", message.text)
    snow, storm, warning = listed(message)
    assert snow.startswith("- LGA 2013-02-08, closure: 100 flights, 57")
    assert storm.startswith("- EWR 2013-03-08")
    assert warning == f"- {OCTOBER}"
    assert message.text.endswith(LAKE)


def test_below_each_event_is_the_address_of_its_page_or_of_the_day_of_a_single_airport() -> None:
    lines = year_message(SNOW, STORM, links=SITE).text.splitlines()

    below = {line.split(",")[0]: lines[number + 1] for number, line in enumerate(lines) if line.startswith("- ")}
    assert below == {
        "- LGA 2013-02-08": "  https://here/flights/events/LGA%202013-02-08/",
        "- EWR 2013-03-08": "  https://here/flights/airports/EWR/2013-03-08/",
    }


def test_an_event_that_grew_is_listed_with_its_announced_severity_and_end() -> None:
    rise = Event(SNOW.days, before=State(STRONG, date(2013, 2, 9)))
    move = Event(STORM.days, before=State(EXTREME, date(2013, 3, 5)))

    lines = listed(year_message(rise, move, is_first=False))

    assert [re.findall(r"\(was .*\)", line) for line in lines] == [["(was strong)"], ["(was until 2013-03-05)"]]


def test_a_subscriber_reads_own_airports_and_severities() -> None:
    message = year_message(Event(("JFK 2013-02-08",), STRONG, airports=14), subscription=NEW_YORK)

    assert message.subject == "Delaywatch 2013: 1 strong or extreme event"
    assert "1 abnormal airport-day at JFK and LGA." in message.text
    assert [line.rpartition("; ")[2] for line in listed(message)] == ["strong at JFK"]


def test_ten_events_are_listed_largest_first_and_the_others_are_counted() -> None:
    small = [Event((f"A{number:02} 2013-06-01",)) for number in range(12)]

    lines = listed(year_message(*small, SNOW))

    assert lines[0].startswith("- LGA 2013-02-08")
    assert (len(lines), lines[-1]) == (11, "- and 3 more")


# --- digest -----------------------------------------------------------------------------------------------------------


def digest(
    days: list[dict[str, Any]],
    verdicts: list[dict[str, Any]],
    *events: Event,
    warnings: int = 0,
    links: ServedLinks | None = None,
) -> list[str]:
    """The lines of a digest of February."""
    days_frame = airport_days_table(*days).to_pandas(date_as_object=False)
    verdicts_frame = verdicts_table(*verdicts).to_pandas(date_as_object=False)
    message = messages.digest_message(
        2013, 2, NEW_YORK, days_frame, verdicts_frame, events_table(*events), [OCTOBER] * warnings, LAKE, links
    )
    assert message.subject == "Delaywatch: February 2013 at JFK and LGA"
    return message.text.splitlines()


def flagged(origin: str, day: int, severity: int, score: float | None) -> dict[str, Any]:
    given = {"is_anomaly": True, "direction": "late", "severity": severity, "score": score}
    return verdict_row("delaywatch", origin, f"2013-02-{day:02}", **given)


def test_a_digest_has_five_lines_and_the_links() -> None:
    days = [airport_day_row(origin, "2013-02-08", scheduled=1000, cancelled=20) for origin in ("JFK", "LGA")]

    lines = digest(days, [flagged("JFK", 8, EXTREME, 90.0)], SNOW, warnings=2)

    assert lines == [
        "Flights: 2,000 at 2 airports",
        "Cancelled: 2% (40)",
        "Worst days: JFK on Fri 8 Feb 2013 (late, severity extreme, 2% cancelled)",
        "Events: 1, the largest: LGA 2013-02-08, closure",
        f"Data warnings of 2013: 2. {OCTOBER} {OCTOBER}",
        "",
        LAKE,
    ]


def test_a_digest_ends_with_the_addresses_of_its_worst_days() -> None:
    days = [airport_day_row("JFK", "2013-02-08", scheduled=1000)]

    lines = digest(days, [flagged("JFK", 8, EXTREME, 90.0)], links=SITE)

    assert lines[-2:] == [LAKE, "JFK on Fri 8 Feb 2013: https://here/flights/airports/JFK/2013-02-08/"]


def test_the_worst_days_of_a_digest_are_three_by_severity_and_score_and_none_is_too_mild() -> None:
    verdicts = [
        flagged("JFK", 1, MILD, 999.0),
        flagged("JFK", 2, STRONG, None),  # flagged for its cancellations, without enough history for a score
        flagged("JFK", 3, STRONG, 150.0),
        flagged("JFK", 4, EXTREME, 300.0),
        flagged("JFK", 5, EXTREME, None),
    ]
    days = [airport_day_row("JFK", f"2013-02-{day:02}", scheduled=100) for day in range(1, 6)]

    worst = [re.findall(r"JFK on \w+ (\d)", digest(days, own)[2]) for own in (verdicts, verdicts[:3], verdicts[:1])]

    assert worst == [["4", "5", "3"], ["3", "2"], []]


def test_a_digest_of_a_month_without_flights_and_findings_says_so() -> None:
    lines = digest([], [])

    assert [line.partition(": ")[2] for line in lines[1:5]] == ["none"] * 4
    assert lines[0].startswith("Flights: 0 ")


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, ["silver", "manual__1", "No CSV.", "https://x/log"]),
        ({"others": 5}, ["silver", "5 other tasks"]),
        ({"sentence": None, "log": None}, ["silver", "killed"]),
        ({"step": None, "year": None}, ["manual__1"]),
    ],
)
def test_a_failure_names_the_run_the_step_its_error_and_its_log(changes: dict[str, Any], shown: list[str]) -> None:
    parts: dict[str, Any] = {
        "run": "manual__1",
        "year": 2013,
        "step": "silver",
        "sentence": "No CSV.",
        "log": "https://x/log",
    }

    message = messages.failure_message(Failure(**(parts | changes)))

    assert [part for part in shown if part not in message.text] == []
