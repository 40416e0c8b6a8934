"""Gaps of airports and carriers, and what is not a gap: seasons, new airports and pauses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.layers import gaps

DAYS = [date(2013, 1, 1) + timedelta(days=number) for number in range(365)]
FlightsPerDay = Callable[[date], int]
Range = tuple[str, str]


def flights(per_day: FlightsPerDay, days: Sequence[date] = DAYS) -> pa.Table:
    """Rows of EWR on the days with flights, and of JFK on all days."""
    rows = [("EWR", day, per_day(day)) for day in days if per_day(day)] + [("JFK", day, 50) for day in days]
    return pa.table(dict(zip(("name", "day", "flights"), map(list, zip(*rows, strict=True)), strict=True)))


def is_between(first: str, last: str) -> Callable[[date], bool]:
    return lambda day: date.fromisoformat(first) <= day <= date.fromisoformat(last)


def without(*ranges: Range, flights: int = 330, rest: int = 0) -> FlightsPerDay:
    """`flights` a day, but `rest` a day in the ranges."""
    return lambda day: rest if any(is_between(*days)(day) for days in ranges) else flights


AUGUST, AUGUST_5_TO_14 = ("2013-08-01", "2013-08-31"), ("2013-08-05", "2013-08-14")


def test_a_gap_has_its_days_and_numbers() -> None:
    assert gaps.find("airport", flights(without(AUGUST_5_TO_14))) == [
        {
            "kind": "airport",
            "name": "EWR",
            "first_day": "2013-08-05",
            "last_day": "2013-08-14",
            "days": 10,
            "flights": 0,
            "usual_per_day": 330,
        }
    ]


@pytest.mark.parametrize(
    ("per_day", "expected"),
    [
        pytest.param(without(("2013-08-05", "2013-08-09"), flights=12), [("2013-08-05", "2013-08-09")], id="five days"),
        pytest.param(without(AUGUST), [AUGUST], id="a month"),
        pytest.param(without(AUGUST_5_TO_14, rest=1), [AUGUST_5_TO_14], id="a stray flight a day"),
        pytest.param(without(AUGUST, rest=80), [AUGUST], id="a quarter of a month's flights"),
        pytest.param(
            without(("2013-08-05", "2013-08-09"), ("2013-08-12", "2013-08-18")),
            [("2013-08-12", "2013-08-18"), ("2013-08-05", "2013-08-09")],
            id="two gaps, most missing flights first",
        ),
    ],
)
def test_days_with_far_fewer_flights_than_before_and_after_are_gaps(
    per_day: FlightsPerDay, expected: list[Range]
) -> None:
    listed = gaps.find("airport", flights(per_day))

    assert [(gap["name"], gap["first_day"], gap["last_day"]) for gap in listed] == [("EWR", *days) for days in expected]


@pytest.mark.parametrize(
    "per_day",
    [
        pytest.param(without(AUGUST, rest=165), id="half of a month's flights"),
        pytest.param(without(("2013-08-05", "2013-08-08"), flights=12), id="four days"),
        pytest.param(without(AUGUST_5_TO_14, flights=2), id="two flights a day"),
        pytest.param(lambda day: 12 if 6 <= day.month <= 9 else 0, id="summer season"),
        pytest.param(lambda day: 300 if day.month <= 5 else 0, id="merged in May"),
        pytest.param(lambda day: 12 if day.month < 5 or day.month > 6 else 0, id="one long pause"),
        pytest.param(lambda day: 12 if day.month >= 5 else 0, id="new in May"),
        pytest.param(lambda day: 300 if day.month < 4 else 60, id="collapse without recovery"),
        pytest.param(lambda day: 4 if day.weekday() < 5 else 0, id="weekdays"),
        pytest.param(lambda day: 12 if day.weekday() == 5 else 0, id="Saturdays"),
        pytest.param(lambda day: int(day.day % 3 > 0) if day.month == 4 else 4, id="few flights, fewer in a month"),
    ],
)
def test_short_drops_seasons_new_airports_and_pauses_are_not_gaps(per_day: FlightsPerDay) -> None:
    assert gaps.find("airport", flights(per_day)) == []


def test_days_that_the_whole_file_lacks_are_not_a_gap_and_do_not_hide_one() -> None:
    days = [day for day in DAYS if day.month != 7]

    (gap,) = gaps.find("airport", flights(without(("2013-08-01", "2013-08-07")), days))

    assert gaps.find("airport", flights(lambda _: 330, days)) == []
    assert (gap["first_day"], gap["last_day"]) == ("2013-08-01", "2013-08-07")


def test_flights_are_counted_by_carrier_and_day() -> None:
    carriers = pa.array(["AA", "UA", None, "AA", "AA"]).dictionary_encode()
    table = pa.table({"op_carrier": carriers, "fl_date": [DAYS[0], DAYS[0], DAYS[0], DAYS[1], DAYS[0]]})

    counts = {tuple(row.values()) for row in gaps.carrier_days(table).to_pylist()}

    assert counts == {("AA", DAYS[0], 2), ("UA", DAYS[0], 1), ("AA", DAYS[1], 1)}


@settings(max_examples=40)
@given(
    first=st.integers(14, 365 - 14 - 31),
    length=st.integers(gaps.MIN_GAP_DAYS, 31),
    usual=st.integers(5, 400),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_gap_of_a_daily_service_is_listed_in_any_order_of_rows(
    first: int, length: int, usual: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    numbers = dict(zip(DAYS, random.integers(usual - usual // 4, usual + usual // 4 + 1, 365).tolist(), strict=True))
    numbers |= dict.fromkeys(DAYS[first : first + length], 0)
    table = flights(numbers.__getitem__)

    (gap,) = gaps.find("airport", table.take(pa.array(random.permutation(table.num_rows))))

    assert (gap["first_day"], gap["days"]) == (DAYS[first].isoformat(), length)
