"""The messages of a finished year, each new finding once, and of a failed run."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.monitoring import messages
from utils.monitoring.messages import Failure, Message

LAKE = "Lake: file:///lake"
OCTOBER = "October 2013 has no flights."
EXTREME = 3


class Event(NamedTuple):
    """An event. days: `ORIGIN DATE`, the first one also names the event."""

    event_id: str
    severity: int
    days: tuple[str, ...]


SNOW = Event("20130208-LGA", EXTREME, ("LGA 2013-02-08", "JFK 2013-02-08", "LGA 2013-02-09"))
STORM = Event("20130308-EWR", EXTREME, ("EWR 2013-03-08",))
WIND = Event("20130501-JFK", EXTREME - 1, ("JFK 2013-05-01",))


def year_message(*events: Event, warnings: tuple[str, ...] = (), before: Any = None) -> tuple[Message | None, Any]:
    event_rows = [
        {
            "event_id": event.event_id,
            "name": f"{event.days[0]}, closure",
            "first_day": pd.Timestamp(event.days[0].split()[1]),
            "airports": len({day.split()[0] for day in event.days}),
            "airport_days": len(event.days),
            "severity": event.severity,
            "scheduled": 100,
            "cancelled": 57,
        }
        for event in events
    ]
    day_rows = [(event.event_id, *day.split()) for event in events for day in event.days]
    columns = ["event_id", "name", "first_day", "airports", "airport_days", "severity", "scheduled", "cancelled"]
    days = pd.DataFrame(day_rows, columns=["event_id", "origin", "fl_date"]).astype({"fl_date": "datetime64[ns]"})
    return messages.year_message(2013, pd.DataFrame(event_rows, columns=columns), days, list(warnings), before, LAKE)


def listed(message: Message | None) -> list[str]:
    """The lines of the message's lists."""
    return [line for line in message.text.splitlines() if line.startswith("- ")] if message else []


def test_the_first_message_lists_extreme_events_and_warnings_and_says_where_the_rest_is() -> None:
    message, _ = year_message(STORM, SNOW, WIND, warnings=(OCTOBER,))

    assert message is not None
    assert re.findall(r"\d+", message.subject) == ["2013", "2", "1"]  # extreme events, warnings
    assert re.search(r"\b3 events\b.*\b5 abnormal", message.text)
    snow, storm, warning = listed(message)
    assert snow.startswith("- LGA 2013-02-08, closure: 100 flights, 57")
    assert storm.startswith("- EWR 2013-03-08")
    assert warning == f"- {OCTOBER}"
    assert message.text.endswith(LAKE)


def test_an_event_that_grows_and_changes_its_id_is_not_new() -> None:
    _, record = year_message(SNOW)
    grown = Event("20130207-JFK", EXTREME, ("JFK 2013-02-07", *SNOW.days, "EWR 2013-02-09"))

    assert year_message(grown, before=record)[0] is None


def test_ten_events_are_listed_largest_first_and_the_others_are_counted() -> None:
    small = [Event(f"e{number}", EXTREME, (f"A{number:02} 2013-06-01",)) for number in range(12)]

    lines = listed(year_message(*small, SNOW)[0])

    assert lines[0].startswith("- LGA 2013-02-08")
    assert (len(lines), lines[-1]) == (11, "- and 3 more")


RUN = st.tuples(
    st.lists(st.sampled_from([SNOW, STORM, WIND]), unique=True),
    st.lists(st.sampled_from([OCTOBER, "March 2013 is doubled."]), unique=True),
)


@settings(max_examples=30)
@given(st.lists(RUN, max_size=4))
def test_over_all_runs_of_a_year_each_extreme_event_and_each_warning_is_sent_once(
    runs: list[tuple[list[Event], list[str]]],
) -> None:
    record, sent = None, list[str]()
    for number, (events, warnings) in enumerate(runs):
        message, record = year_message(*events, warnings=tuple(warnings), before=record)
        assert (message is not None) == (number == 0 or bool(listed(message)))
        sent += listed(message)

    extreme = {event for events, _ in runs for event in events if event.severity == EXTREME}
    lines = [f"- {warning}" for warning in {warning for _, warnings in runs for warning in warnings}]
    assert sorted(line.partition(", closure")[0] for line in sent) == sorted(
        [f"- {event.days[0]}" for event in extreme] + lines
    )


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
