"""Gaps of airports and carriers: what is one, and what is a season, a new airport or an ordinary pause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.layers import gaps

DAYS = [date(2013, 1, 1) + timedelta(days=day) for day in range(365)]


def flights(per_day: Callable[[date], int], days: Iterable[date] = DAYS) -> pa.Table:
    """One row per day with flights of EWR, and of an airport that flies on every day of `days`."""
    rows = [("EWR", day, per_day(day)) for day in days if per_day(day)] + [("JFK", day, 50) for day in days]
    return pa.table(dict(zip(("name", "day", "flights"), map(list, zip(*rows, strict=True)), strict=True)))


def found(per_day: Callable[[date], int], days: Iterable[date] = DAYS) -> list[tuple[str, str, str]]:
    return [
        (gap["name"], gap["first_day"], gap["last_day"]) for gap in gaps.find("airport", flights(per_day, days=days))
    ]


def between(first: str, last: str) -> Callable[[date], bool]:
    return lambda day: date.fromisoformat(first) <= day <= date.fromisoformat(last)


def test_ten_days_without_flights_are_a_gap_with_its_numbers() -> None:
    is_gone = between("2013-08-05", "2013-08-14")

    assert gaps.find("airport", flights(lambda day: 0 if is_gone(day) else 330)) == [
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


def test_a_hub_that_is_gone_for_a_month_or_three_is_named_once() -> None:
    assert found(lambda day: 0 if day.month == 8 else 330) == [("EWR", "2013-08-01", "2013-08-31")]
    assert found(lambda day: 0 if 6 <= day.month <= 8 else 330) == [("EWR", "2013-06-01", "2013-08-31")]


def test_a_stray_flight_does_not_hide_the_gap_of_a_hub() -> None:
    is_gone = between("2013-08-05", "2013-08-14")

    assert found(lambda day: int(day.day == 9) if is_gone(day) else 330) == [("EWR", "2013-08-05", "2013-08-14")]


def test_a_month_with_a_quarter_of_the_flights_is_a_gap() -> None:
    assert found(lambda day: 80 if day.month == 8 else 330) == [("EWR", "2013-08-01", "2013-08-31")]
    assert found(lambda day: 165 if day.month == 8 else 330) == []


@pytest.mark.parametrize("days_between", [3, 10])
def test_two_gaps_close_to_each_other_are_both_named(days_between: int) -> None:
    first = [date(2013, 8, day) for day in range(5, 10)]
    second = [first[-1] + timedelta(days=days_between + day) for day in range(1, 8)]

    assert found(lambda day: 0 if day in first + second else 330) == [
        ("EWR", second[0].isoformat(), second[-1].isoformat()),
        ("EWR", "2013-08-05", "2013-08-09"),
    ]


@pytest.mark.parametrize(
    "per_day",
    [
        pytest.param(lambda day: 12 if 6 <= day.month <= 9 else 0, id="summer season"),
        pytest.param(lambda day: 12 if day.month in (1, 2, 3, 6, 7, 8, 12) else 0, id="winter and summer season"),
        pytest.param(lambda day: 12 if day.month < 5 or day.month > 6 else 0, id="one long pause"),
        pytest.param(lambda day: 12 if day.month >= 5 else 0, id="new in May"),
        pytest.param(lambda day: 300 if day.month <= 5 else 0, id="merged in May"),
        pytest.param(lambda day: 300 if day.month < 4 else 60, id="collapse without recovery"),
        pytest.param(lambda day: 4 if day.weekday() < 5 else 0, id="weekdays"),
        pytest.param(lambda day: 0 if between("2013-08-05", "2013-08-08")(day) else 12, id="four days"),
        pytest.param(lambda day: 0 if between("2013-08-05", "2013-08-14")(day) else 2, id="two flights a day"),
        pytest.param(lambda day: 12 if day.day == 1 else 0, id="once a month"),
        pytest.param(lambda day: 12 if day.weekday() == 5 else 0, id="Saturdays"),
        pytest.param(lambda day: int(day.day % 3 > 0) if day.month == 4 else 4, id="few flights, fewer in a month"),
    ],
)
def test_seasons_beginnings_ends_and_pauses_are_no_gaps(per_day: Callable[[date], int]) -> None:
    assert found(per_day) == []


def test_days_that_the_whole_file_lacks_are_not_a_gap_and_do_not_hide_one() -> None:
    days = [day for day in DAYS if not between("2013-07-01", "2013-07-31")(day)]
    is_gone = between("2013-08-01", "2013-08-07")

    assert found(lambda _: 330, days) == []
    assert found(lambda day: 0 if is_gone(day) else 330, days) == [("EWR", "2013-08-01", "2013-08-07")]


def test_rows_without_a_name_are_ignored() -> None:
    table = pa.concat_tables(
        [flights(lambda _: 330), pa.table({"name": pa.nulls(365, pa.string()), "day": DAYS, "flights": [9] * 365})]
    )

    assert gaps.find("carrier", table) == []


@given(
    first=st.integers(14, 365 - 14 - 31),
    length=st.integers(gaps.MIN_GAP_DAYS, 31),
    usual=st.integers(5, 400),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_gap_in_a_daily_service_is_found_in_any_order_of_the_rows(
    first: int, length: int, usual: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    numbers = dict(zip(DAYS, random.integers(usual - usual // 4, usual + usual // 4 + 1, 365).tolist(), strict=True))
    numbers |= dict.fromkeys(DAYS[first : first + length], 0)
    table = flights(numbers.__getitem__)
    shuffled = table.take(pa.array(random.permutation(table.num_rows)))

    (gap,) = gaps.find("airport", shuffled)

    assert (gap["first_day"], gap["days"]) == (DAYS[first].isoformat(), length)
    assert gaps.find("airport", table) == [gap]


@given(st.lists(st.tuples(st.sampled_from(["AA", "UA", None]), st.sampled_from(DAYS))))
def test_flights_are_counted_by_carrier_and_day(rows: list[tuple[str | None, date]]) -> None:
    flights = pa.table(
        {
            "op_carrier": pa.array([carrier for carrier, _ in rows], pa.string()).dictionary_encode(),
            "fl_date": pa.array([day for _, day in rows], pa.date32()),
        }
    )

    counted = gaps.carrier_days(flights)

    assert {(row["op_carrier"], row["fl_date"]): row["flights"] for row in counted.to_pylist()} == Counter(
        (carrier, day) for carrier, day in rows if carrier
    )
