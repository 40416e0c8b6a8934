"""Which events are announced to a subscriber: each once, and again only if severity or end rises."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from random import Random
from typing import NamedTuple

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.monitoring import announcements
from utils.monitoring.announcements import Announcement, Record, State, YearRecord

MILD, STRONG, EXTREME = 1, 2, 3
FIRST = date(2013, 2, 1)


class Event(NamedTuple):
    """An event. days: by airport and day of February 2013, with their severity."""

    name: str
    days: Mapping[tuple[str, int], int]


def announce(record: Record, *events: Event, least: int = STRONG) -> tuple[list[Announcement], Record]:
    rows = [
        (event.name, origin, FIRST + timedelta(days=day - 1), severity)
        for event in events
        for (origin, day), severity in event.days.items()
    ]
    days = pd.DataFrame(rows, columns=["event_id", "origin", "fl_date", "severity"])
    return announcements.announce(record, days.astype({"fl_date": "datetime64[ns]"}), least)


def names(record: Record, *runs: tuple[Event, ...]) -> Iterator[list[str]]:
    """The announced events of each run."""
    for events in runs:
        announced, record = announce(record, *events)
        yield [announcement.event_id for announcement in announced]


SNOW = Event("snow", {("JFK", 8): STRONG, ("LGA", 9): STRONG})


def test_a_new_event_from_the_least_severity_on_is_announced() -> None:
    announced, _ = announce(Record(), SNOW, Event("wind", {("LAX", 8): MILD}))

    assert announced == [Announcement("snow", State(STRONG, date(2013, 2, 9)), None)]


@pytest.mark.parametrize(
    ("changed", "is_announced"),
    [
        (SNOW, False),
        (Event("renamed", SNOW.days), False),
        (Event("earlier", {("EWR", 7): STRONG, **SNOW.days}), False),
        (Event("two days longer", {**SNOW.days, ("JFK", 10): MILD, ("JFK", 11): MILD}), False),
        (Event("three days longer", {**SNOW.days, ("JFK", 10): MILD, ("JFK", 11): MILD, ("JFK", 12): MILD}), True),
        (Event("worse", {**SNOW.days, ("JFK", 8): EXTREME}), True),
        (Event("milder", dict.fromkeys(SNOW.days, MILD)), False),
        (Event("milder, a week longer", {**dict.fromkeys(SNOW.days, MILD), ("JFK", 16): MILD}), False),
    ],
)
def test_an_event_is_announced_again_only_if_its_severity_or_its_end_rises(changed: Event, is_announced: bool) -> None:
    assert list(names(Record(), (SNOW,), (changed,))) == [["snow"], [changed.name] if is_announced else []]


def test_an_event_that_ends_one_day_later_at_every_run_is_announced_every_third_run() -> None:
    runs = [(Event(f"run {last}", {("JFK", day): STRONG for day in range(1, last + 1)}),) for last in range(1, 9)]

    announced = [name for run in names(Record(), *runs) for name in run]

    assert announced == ["run 1", "run 4", "run 7"]


def test_events_that_split_and_join_are_not_announced_again() -> None:
    jfk, lga = Event("JFK", {("JFK", 8): STRONG}), Event("LGA", {("LGA", 9): STRONG})
    joined = Event("both", {**jfk.days, **lga.days})

    assert list(names(Record(), (jfk, lga), (joined,), (jfk, lga), (joined,))) == [["JFK", "LGA"], [], [], []]


def test_an_event_that_moves_day_by_day_is_the_same_event() -> None:
    eighth, ninth = {("JFK", 8): STRONG}, {("JFK", 9): STRONG}

    assert list(names(Record(), (Event("a", eighth),), (Event("b", eighth | ninth),), (Event("c", ninth),))) == [
        ["a"],
        [],
        [],
    ]


def test_an_event_that_vanishes_and_comes_back_is_not_announced_again() -> None:
    assert list(names(Record(), (SNOW,), (), (SNOW,))) == [["snow"], [], []]


def test_the_record_of_earlier_releases_is_that_of_the_default_subscriber() -> None:
    old = {"warnings": ["October is empty."], "days": [["JFK", "2013-02-08"], ["LGA", "2013-02-09"]]}
    record = announcements.read(json.dumps(old).encode(), "default").subscribers["default"]
    worst = dict.fromkeys(SNOW.days, EXTREME)

    assert record.warnings == ("October is empty.",)
    assert announce(record, Event("same", worst), least=EXTREME)[0] == []
    grown = Event("grown", {**worst, ("JFK", 12): EXTREME})
    assert [own.event_id for own in announce(record, grown, least=EXTREME)[0]] == ["grown"]


# --- properties -------------------------------------------------------------------------------------------------------

DAYS = [(origin, day) for origin in ("JFK", "LGA", "LAX") for day in range(1, 9)]
# A run: by airport-day its severity and the number of its event. Any grouping is possible, so events split and join.
RUN = st.dictionaries(
    st.sampled_from(DAYS), st.tuples(st.integers(MILD, EXTREME), st.integers(0, 3)), max_size=len(DAYS)
)


def events_of(run: Mapping[tuple[str, int], tuple[int, int]]) -> list[Event]:
    return [
        Event(f"e{number}", {day: severity for day, (severity, own) in run.items() if own == number})
        for number in sorted({number for _, number in run.values()})
    ]


@settings(max_examples=40)
@given(st.lists(RUN, max_size=6))
def test_over_any_runs_each_announcement_of_a_day_exceeds_all_earlier_ones(
    runs: list[dict[tuple[str, int], tuple[int, int]]],
) -> None:
    record = Record()
    sent: dict[tuple[str, int], list[State]] = {}
    for events in map(events_of, runs):
        announced, record = announce(record, *events)
        by_name = {event.name: event for event in events}
        for announcement in announced:
            severity, last = announcement.now
            assert severity >= STRONG
            for day in by_name[announcement.event_id].days:
                assert all(
                    severity > earlier.severity or last > earlier.last_day + timedelta(days=2)
                    for earlier in sent.get(day, [])
                )
        for announcement in announced:
            for day in by_name[announcement.event_id].days:
                sent.setdefault(day, []).append(announcement.now)
        assert announce(record, *events) == ([], record), "the same run again announces nothing and changes no record"


@settings(max_examples=40)
@given(st.lists(RUN, max_size=6))
def test_over_any_runs_each_severe_event_without_a_day_of_an_earlier_one_is_announced(
    runs: list[dict[tuple[str, int], tuple[int, int]]],
) -> None:
    record = Record()
    seen: set[tuple[str, int]] = set()
    for events in map(events_of, runs):
        announced, record = announce(record, *events)
        new = [own.name for own in events if max(own.days.values()) >= STRONG and not seen & own.days.keys()]
        assert {*new} <= {announcement.event_id for announcement in announced}
        seen |= {day for event in events for day in event.days}


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(STRONG, EXTREME), st.integers(1, 12)), min_size=1, max_size=10))
def test_the_announcements_of_one_event_are_its_first_and_one_per_rise_of_severity_or_end(
    states: list[tuple[int, int]],
) -> None:
    runs = [(Event("e", {("JFK", day): severity for day in range(1, last + 1)}),) for severity, last in states]

    announced = [number for number, own in enumerate(names(Record(), *runs)) if own]

    expected, highest = [0], states[0]
    for number, (severity, last) in enumerate(states):
        if severity > highest[0] or last > highest[1] + 2:
            expected.append(number)
            highest = (max(severity, highest[0]), max(last, highest[1]))
    assert announced == expected


@settings(max_examples=40)
@given(st.lists(RUN, max_size=3), st.randoms(use_true_random=False))
def test_the_record_does_not_depend_on_the_order_of_rows_and_survives_the_file(
    runs: list[dict[tuple[str, int], tuple[int, int]]], random: Random
) -> None:
    record = shuffled = Record()
    for run in runs:
        rows = list(run.items())
        random.shuffle(rows)
        record, shuffled = announce(record, *events_of(run))[1], announce(shuffled, *events_of(dict(rows)))[1]

    assert record == shuffled
    year = YearRecord(subscribers={"ops": record})
    assert announcements.read(year.model_dump_json().encode(), "default") == year
