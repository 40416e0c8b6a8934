"""The verdicts of all detectors on unusual years: few airports or days, mass cancellations, no delays."""

from __future__ import annotations

from collections.abc import Iterable, Set
from datetime import date, timedelta
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from tests.builders import Delays, airport_days, few_trees, ordinary_year, run_detector
from utils import detectors

DAYS = [date(2015, 1, 1) + timedelta(days=number) for number in range(150)]
ONE_DAY, STRIKE, MONTH, LAST_WEEKS = DAYS[80:81], DAYS[80:94], DAYS[80:110], DAYS[-22:]

Key = tuple[str, date]
Flights = dict[str, dict[date, Delays]]  # by airport and day


class BadInput(NamedTuple):
    days: pd.DataFrame
    has_many_cancelled: Set[Key]  # at least a quarter of at least 20 flights
    has_no_score: Set[Key] = frozenset()  # no delay, or an airport with too few days


def ordinary_flights(*origins: str) -> Flights:
    return {origin: ordinary_year(20, seed, days=len(DAYS)) for seed, origin in enumerate(origins)}


def cancelled(flights: Flights, origins: Iterable[str], days: Iterable[date], flights_a_day: int) -> set[Key]:
    """Cancel flights and return the airport-days."""
    keys = set(product(origins, days))
    for origin, day in keys:
        flights[origin][day][:flights_a_day] = np.nan
    return keys


def days_of(flights: Flights) -> pd.DataFrame:
    return pd.concat([airport_days(origin, by_day) for origin, by_day in flights.items()], ignore_index=True)


def one_airport() -> BadInput:
    flights = ordinary_flights("AAA")
    many = cancelled(flights, ["AAA"], ONE_DAY, 10)
    return BadInput(days_of(flights), many)


def an_airport_with_two_days() -> BadInput:
    flights = ordinary_flights("AAA", "BBB")
    flights["BBB"] = {day: flights["BBB"][day] for day in DAYS[80:82]}
    many = cancelled(flights, ["BBB"], ONE_DAY, 20)
    return BadInput(days_of(flights), many, set(product(["BBB"], DAYS[80:82])))


def a_month_without_a_departure() -> BadInput:
    flights = ordinary_flights("AAA", "BBB")
    many = cancelled(flights, ["AAA"], MONTH, 20)
    return BadInput(days_of(flights), many, many)


def a_strike_of_two_weeks_at_all_airports() -> BadInput:
    flights = ordinary_flights("AAA", "BBB", "CCC")
    many = cancelled(flights, flights, STRIKE, 12)
    return BadInput(days_of(flights), many)


def a_new_airport_at_the_end_of_the_year() -> BadInput:
    flights = ordinary_flights("AAA", "BBB")
    flights["BBB"] = {day: flights["BBB"][day] for day in LAST_WEEKS}
    many = cancelled(flights, ["BBB"], LAST_WEEKS[10:11], 5)
    return BadInput(days_of(flights), many, set(product(["BBB"], LAST_WEEKS)))


def no_delays() -> BadInput:
    """Only cancellations are known: in gold, the effective delay of such a day is that of its cancelled flights."""
    flights = ordinary_flights("AAA", "BBB")
    many = cancelled(flights, ["AAA"], ONE_DAY, 10)
    cancelled(flights, ["AAA", "BBB"], DAYS[::6], 1)
    days = days_of(flights)
    unknown = ["mean_dep_delay_min", "std_dep_delay_min", "max_dep_delay_min", "std_effective_delay_min"]
    effective = days["cancelled"].where(days["cancelled"] == 0, 120.0).replace(0, np.nan)
    days = days.assign(
        **dict.fromkeys(unknown, np.nan), disrupted=days["cancelled"], mean_effective_delay_min=effective
    )
    return BadInput(days, many, set(product(["AAA", "BBB"], DAYS)))


BAD_INPUTS = [
    one_airport,
    an_airport_with_two_days,
    a_month_without_a_departure,
    a_strike_of_two_weeks_at_all_airports,
    a_new_airport_at_the_end_of_the_year,
    no_delays,
]
BAD_INPUT = {build.__name__: cache(build) for build in BAD_INPUTS}


def keys_of(verdicts: pd.DataFrame) -> set[Key]:
    return set(zip(verdicts["origin"], verdicts["fl_date"], strict=True))


@pytest.mark.parametrize("name", detectors.NAMES)
@pytest.mark.parametrize("bad_input", BAD_INPUT)
def test_a_day_is_scored_if_it_has_a_delay_and_its_airport_has_enough_days(name: str, bad_input: str) -> None:
    days, many_cancelled, no_score = BAD_INPUT[bad_input]()
    flagged_by_rule = many_cancelled if name == "delaywatch" else frozenset()

    verdicts = run_detector(name, days, **few_trees(name))

    is_judged = verdicts["status"] == "ok"
    assert keys_of(verdicts[~is_judged]) == no_score - flagged_by_rule
    assert set(verdicts.loc[~is_judged, "status"]) <= {"insufficient_data"}
    other_flags = keys_of(verdicts[verdicts["is_anomaly"]]) - flagged_by_rule
    assert not other_flags & no_score
    assert len(other_flags) < 0.05 * len(verdicts)


@pytest.mark.parametrize("past_only", [False, True])
@pytest.mark.parametrize("bad_input", BAD_INPUT)
def test_delaywatch_flags_the_days_of_mass_cancellations_and_no_day_before_or_after(
    bad_input: str, past_only: bool
) -> None:
    days, many_cancelled, _ = BAD_INPUT[bad_input]()

    verdicts = run_detector("delaywatch", days, past_only=past_only)

    assert keys_of(verdicts[verdicts["is_anomaly"]]) == many_cancelled


@pytest.mark.parametrize("minutes", [0, 30])
def test_eight_days_of_mass_cancellations_in_121_are_flagged_and_hardly_move_the_usual_range(minutes: int) -> None:
    """As at ORD in January to April 2008, 25% to 60% cancelled. The other flights are on time, or late by `minutes`."""
    ordinary, stormy = (ordinary_year(200, seed=1, days=121) for _ in range(2))
    worst = list(stormy)[10::15]
    for number, day in enumerate(worst):
        stormy[day] = stormy[day] + minutes
        stormy[day][: 50 + 10 * number] = np.nan

    without, verdicts = (
        run_detector("delaywatch", airport_days("ORD", flights)).set_index("fl_date") for flights in (ordinary, stormy)
    )

    assert list(verdicts.index[verdicts["is_anomaly"]]) == worst
    moved_min = (verdicts[["expected", "upper"]] - without[["expected", "upper"]]).drop(worst).abs().max()
    assert moved_min["expected"] < 1
    assert moved_min["upper"] < 3
