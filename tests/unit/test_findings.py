"""What people are told: a finished year once, what is new of it later, and the first step of a run that failed."""

from __future__ import annotations

from typing import Any

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from utils.monitoring import messages
from utils.monitoring.messages import Failure, Message

WHERE = "Lake: file:///lake"
Event = tuple[str, int, tuple[str, ...]]  # its name, its severity, its days
SNOW = ("20130208-LGA", 3, ("LGA 2013-02-08", "JFK 2013-02-08", "LGA 2013-02-09"))
STORM = ("20130308-EWR", 3, ("EWR 2013-03-08",))
WIND = ("20130501-JFK", 2, ("JFK 2013-05-01",))  # strong, not extreme
OCTOBER = "No flights at all in October 2013: this month is missing from the file."


def told_of(
    *events: Event, warnings: list[str] | None = None, told: Any = None
) -> tuple[Message | None, dict[str, Any]]:
    days = [(event_id, *day.split()) for event_id, _, of_event in events for day in of_event]
    event_rows = [
        {
            "event_id": event_id,
            "name": f"{of_event[0]}, closure",
            "first_day": pd.Timestamp(of_event[0].split()[1]),
            "airports": len({day.split()[0] for day in of_event}),
            "airport_days": len(of_event),
            "severity": severity,
            "scheduled": 100,
            "cancelled": 57,
        }
        for event_id, severity, of_event in events
    ]
    columns = ["event_id", "name", "first_day", "airports", "airport_days", "severity", "scheduled", "cancelled"]
    day_frame = pd.DataFrame(days, columns=["event_id", "origin", "fl_date"])
    day_frame["fl_date"] = pd.to_datetime(day_frame["fl_date"])
    return messages.year_message(
        2013, pd.DataFrame(event_rows, columns=columns), day_frame, warnings or [], told, WHERE
    )


def test_the_first_message_of_a_year_tells_extreme_events_and_warnings_and_where_the_rest_is() -> None:
    message, _ = told_of(SNOW, STORM, WIND, warnings=[OCTOBER])

    assert message == Message(
        "Delaywatch 2013: 2 extreme events and 1 warning of quality",
        "The flights of 2013 are done: 3 events on 5 abnormal airport-days.\n"
        "\n"
        "Extreme events, largest first:\n"
        "- LGA 2013-02-08, closure: 100 flights, 57% cancelled\n"
        "- EWR 2013-03-08, closure: 100 flights, 57% cancelled\n"
        "\n"
        "Quality of the file:\n"
        f"- {OCTOBER}\n"
        "\n"
        f"{WHERE}",
    )


def test_a_quiet_year_is_told_once_too() -> None:
    message, _ = told_of()

    assert message is not None
    assert message.subject == "Delaywatch 2013: 0 extreme events"


def test_a_year_that_is_run_again_tells_nothing() -> None:
    _, told = told_of(SNOW, WIND, warnings=[OCTOBER])

    message, after = told_of(SNOW, WIND, warnings=[OCTOBER], told=told)

    assert message is None
    assert after == told


def test_a_later_message_tells_only_what_none_before_it_told() -> None:
    _, told = told_of(SNOW)

    message, _ = told_of(SNOW, STORM, warnings=[OCTOBER], told=told)

    assert message is not None
    assert message.subject == "Delaywatch 2013: 1 new extreme event and 1 new warning of quality"
    assert "New extreme events, largest first:\n- EWR 2013-03-08" in message.text
    assert "LGA" not in message.text


def test_an_event_that_grew_or_changed_its_name_is_not_a_new_one() -> None:
    _, told = told_of(SNOW)
    grown = ("20130207-JFK", 3, ("JFK 2013-02-07", *SNOW[2], "EWR 2013-02-09"))

    message, _ = told_of(grown, told=told)

    assert message is None


def test_an_event_that_has_become_extreme_is_new() -> None:
    _, told = told_of(WIND)

    message, _ = told_of((WIND[0], 3, WIND[2]), told=told)

    assert message is not None
    assert "JFK 2013-05-01" in message.text


def test_many_events_are_told_as_the_ten_largest_and_a_number() -> None:
    many = [(f"e{n}", 3, (f"A{n:02} 2013-06-01",)) for n in range(12)]

    message, _ = told_of(SNOW, *many)

    assert message is not None
    lines = [line for line in message.text.splitlines() if line.startswith("- ")]
    assert lines[0].startswith("- LGA 2013-02-08")
    assert (len(lines), lines[-1]) == (11, "- and 3 more")


@given(st.lists(st.lists(st.sampled_from([SNOW, STORM, WIND]), unique=True), max_size=5))
def test_over_any_runs_of_a_year_every_extreme_event_is_told_exactly_once(runs: list[list[Event]]) -> None:
    told: Any = None
    messages = []
    for events in runs:
        message, told = told_of(*events, told=told)
        messages.append(message.text if message else "")

    for event in (SNOW, STORM):
        times = sum(f"- {event[2][0]}, closure" in text for text in messages)
        assert times == (1 if any(event in events for events in runs) else 0)


def test_a_failure_names_the_step_its_sentence_and_its_log() -> None:
    message = messages.failure_message(
        Failure("manual__1", 2013, "silver", "There is no 01_bronze/2013.csv.", "https://x/log")
    )

    assert message == Message(
        "Delaywatch 2013: silver failed",
        "The step silver of the run manual__1 failed.\nThere is no 01_bronze/2013.csv.\n\nLog: https://x/log",
    )


def test_several_failed_detectors_are_one_failure_and_a_number() -> None:
    message = messages.failure_message(
        Failure("manual__1", 2013, "detect arima", "No Postgres answers.", None, others=5)
    )

    assert "5 other tasks of it failed too." in message.text


def test_a_step_that_ended_without_a_word_is_told_as_killed() -> None:
    message = messages.failure_message(Failure("manual__1", None, "gold", None, None))

    assert message.subject == "Delaywatch: gold failed"
    assert "its process was killed" in message.text


def test_an_error_as_long_as_a_file_is_clipped_to_one_line() -> None:
    message = messages.failure_message(Failure("manual__1", 2013, "gold", "KeyError: " + "x\n" * 5000, None))

    assert max(map(len, message.text.splitlines())) <= messages.MAX_LINE_LENGTH
    assert len(message.text.splitlines()) == 2
