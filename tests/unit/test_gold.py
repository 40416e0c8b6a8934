"""Silver flights to airport-days: what is counted, what is averaged, and that no cut of the flights matters."""

from __future__ import annotations

from datetime import date
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import HEADER, Flight, cancelled, csv_of, flight
from utils import schemas
from utils.layers import gold, silver

YEAR = 2015


def silver_of(*rows: Flight) -> pa.Table:
    header = silver.read_header(",".join(HEADER).encode(), "01_bronze/2015.csv")
    return silver.refine(csv_of(rows).split(b"\n", 1)[1], header, YEAR).flights


def airport_days(*rows: Flight) -> pa.Table:
    return gold.airport_days(gold.year_sums([silver_of(*rows)], YEAR), YEAR)


def only_day(*rows: Flight) -> dict[str, Any]:
    (day,) = airport_days(*rows).to_pylist()
    return dict(day)


def late(minutes: int, **changes: str) -> Flight:
    return flight(DEP_DELAY=f"{minutes}.0", DEP_TIME="", **changes)


def test_means_are_over_the_flights_that_departed_and_counts_over_all() -> None:
    day = only_day(late(10), late(20), late(60), late(61), cancelled(), flight(DEP_DELAY="", DEP_TIME=""))

    assert (day["scheduled"], day["departed"], day["cancelled"]) == (6, 5, 1)
    assert day["mean_dep_delay_min"] == pytest.approx((10 + 20 + 60 + 61) / 4)
    assert day["std_dep_delay_min"] == pytest.approx(np.std([10, 20, 60, 61], ddof=1))
    assert day["max_dep_delay_min"] == 61
    assert (day["delayed_15"], day["delayed_60"], day["disrupted"]) == (3, 2, 2)


def test_a_flight_that_departs_15_minutes_late_counts_as_delayed_and_one_of_14_does_not() -> None:
    assert only_day(late(14), late(15))["delayed_15"] == 1


def test_the_effective_delay_caps_long_delays_and_counts_a_cancelled_flight_as_the_cap() -> None:
    day = only_day(late(-10), late(600), cancelled())

    assert day["mean_effective_delay_min"] == pytest.approx((-10 + 120 + 120) / 3)
    assert day["std_effective_delay_min"] == pytest.approx(np.std([-10, 120, 120], ddof=1))


def test_the_delay_of_a_cancelled_flight_that_came_back_is_not_counted() -> None:
    day = only_day(late(10), cancelled(DEP_TIME="1600.0", DEP_DELAY="43.0"))

    assert (day["mean_dep_delay_min"], day["delayed_15"], day["max_dep_delay_min"]) == (10, 0, 10)


def test_cancellations_and_minutes_are_counted_by_cause_and_an_empty_cause_adds_nothing() -> None:
    causes = {
        "CARRIER_DELAY": "1.0",
        "WEATHER_DELAY": "2.0",
        "NAS_DELAY": "3.0",
        "SECURITY_DELAY": "4.0",
        "LATE_AIRCRAFT_DELAY": "5.0",
    }
    codes = [cancelled(CANCELLATION_CODE=code) for code in ("A", "B", "B", "C", "D", "")]
    day = only_day(late(15, **causes), late(3), *codes)

    assert [day[name] for name in ("carrier_min", "weather_min", "nas_min", "security_min", "late_aircraft_min")] == [
        1,
        2,
        3,
        4,
        5,
    ]
    assert [day[f"cancelled_{cause}"] for cause in gold.CANCELLATION_CODES.values()] == [1, 2, 1, 1]
    assert day["cancelled"] == 6


def test_a_day_on_which_all_was_cancelled_has_an_effective_delay_but_no_mean_delay() -> None:
    day = only_day(cancelled(), cancelled(OP_CARRIER_FL_NUM="1"))

    assert (day["mean_dep_delay_min"], day["std_dep_delay_min"], day["max_dep_delay_min"]) == (None, None, None)
    assert (day["mean_effective_delay_min"], day["std_effective_delay_min"]) == (120, 0)


def test_one_flight_has_a_mean_but_no_standard_deviation() -> None:
    day = only_day(late(7))

    assert (day["mean_dep_delay_min"], day["std_dep_delay_min"]) == (7, None)


def test_every_airport_has_every_day_between_its_first_and_its_last() -> None:
    days = airport_days(
        flight(ORIGIN="ACK", FL_DATE="2015-07-01"),
        flight(ORIGIN="ACK", FL_DATE="2015-07-04"),
        flight(ORIGIN="PIR", FL_DATE="2015-02-28"),
    )

    assert days.select(["origin", "fl_date", "scheduled", "mean_dep_delay_min"]).to_pylist() == [
        {"origin": "ACK", "fl_date": date(2015, 7, 1), "scheduled": 1, "mean_dep_delay_min": -5},
        {"origin": "ACK", "fl_date": date(2015, 7, 2), "scheduled": 0, "mean_dep_delay_min": None},
        {"origin": "ACK", "fl_date": date(2015, 7, 3), "scheduled": 0, "mean_dep_delay_min": None},
        {"origin": "ACK", "fl_date": date(2015, 7, 4), "scheduled": 1, "mean_dep_delay_min": -5},
        {"origin": "PIR", "fl_date": date(2015, 2, 28), "scheduled": 1, "mean_dep_delay_min": -5},
    ]


def test_a_flight_after_midnight_belongs_to_the_day_of_its_schedule() -> None:
    day = only_day(flight(FL_DATE="2015-03-04", CRS_DEP_TIME="2350", DEP_TIME="15.0", DEP_DELAY="25.0"))

    assert day["fl_date"] == date(2015, 3, 4)


def test_gold_of_no_flights_is_an_empty_table_with_its_types() -> None:
    assert gold.airport_days(gold.year_sums([], YEAR), YEAR).schema == schemas.AIRPORT_DAYS


_rows = st.lists(
    st.builds(
        lambda origin, day, delay, lost: (
            cancelled(ORIGIN=origin, FL_DATE=day) if lost else late(delay, ORIGIN=origin, FL_DATE=day)
        ),
        st.sampled_from(["JFK", "LGA", "EWR"]),
        st.sampled_from(["2015-01-01", "2015-01-03", "2015-12-31"]),
        st.integers(-60, 2600),
        st.booleans(),
    ),
    min_size=1,
    max_size=30,
)


@given(rows=_rows, cuts=st.lists(st.integers(0, 30), max_size=4), order=st.randoms())
def test_neither_the_order_nor_the_cut_of_the_flights_changes_the_sums(
    rows: list[Flight], cuts: list[int], order: Any
) -> None:
    whole = gold.year_sums([silver_of(*rows)], YEAR)
    shuffled = order.sample(rows, len(rows))
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    pieces = [silver_of(*shuffled[start:end]) for start, end in pairwise(edges)]

    assert gold.year_sums(pieces, YEAR).equals(whole)


@given(rows=_rows)
def test_the_averages_are_those_that_pandas_computes(rows: list[Flight]) -> None:
    flights = silver_of(*rows).to_pandas()
    flown = flights.assign(
        origin=flights["origin"].astype(str),
        dep_delay=flights["dep_delay"].where(~flights["cancelled"]).astype("float64"),
    )
    expected = (
        flown.groupby(["origin", "fl_date"], observed=True)["dep_delay"].agg(["mean", "std", "count"]).reset_index()
    )
    days = airport_days(*rows).to_pandas()
    days = days[days["scheduled"] > 0].reset_index(drop=True)

    pd.testing.assert_series_equal(
        days["mean_dep_delay_min"], expected["mean"], check_names=False, check_dtype=False, rtol=1e-5
    )
    pd.testing.assert_series_equal(
        days["std_dep_delay_min"], expected["std"], check_names=False, check_dtype=False, rtol=1e-5, atol=1e-4
    )
