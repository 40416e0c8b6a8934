"""delaywatch beyond the common contract and the verdict columns: rarity, sample size, closures, levels, months."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import SPIKE, airport_days, new_york_2013, ordinary_year, run_detector, verdict_on
from utils.detectors.delaywatch import return_period_days, z_of

Delays = npt.NDArray[np.float64]
NAME = "delaywatch"


def flagged_share(verdicts: pd.DataFrame, first: str, last: str) -> float:
    dates = pd.to_datetime(verdicts["fl_date"])
    return float(verdicts.loc[dates.between(first, last), "is_anomaly"].mean())


def with_spell(first: date, last: date) -> dict[date, Delays]:
    """A year in which a third of the flights are cancelled and the others late from first to last, and one storm."""
    flights = ordinary_year(60, seed=1)
    for day in (day for day in flights if first <= day <= last):
        flights[day] = flights[day] + 25
        flights[day][::3] = np.nan
    flights[date(2015, 10, 20)] = flights[date(2015, 10, 20)] + 60
    return flights


# Score


@given(period_days=st.floats(1.01, 1e9))
def test_z_of_is_the_inverse_of_the_return_period(period_days: float) -> None:
    assert return_period_days(np.array([z_of(period_days)])) == pytest.approx(period_days, rel=1e-9)


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), number=st.integers(0, 99), less=st.integers(0, 110), more=st.integers(1, 110))
def test_a_later_day_never_scores_lower(seed: int, number: int, less: int, more: int) -> None:
    flights, day = ordinary_year(20, seed, days=100), date(2015, 1, 1) + timedelta(days=number)

    score, higher_score = (
        verdict_on(run_detector(NAME, airport_days("AAA", {**flights, day: flights[day] + minutes})), day)["score"]
        for minutes in (less, less + more)
    )

    assert higher_score >= score - 1e-6


def test_the_worst_days_do_not_tie() -> None:
    flights = ordinary_year(60, seed=1)
    worst = [date(2015, 3, day) for day in (1, 11, 21)]
    flights |= dict(zip(worst, (np.full(60, 110.0), np.full(60, 119.0), np.full(60, np.nan)), strict=True))
    verdicts = run_detector(NAME, airport_days("AAA", flights))

    scores = [verdict_on(verdicts, day)["score"] for day in worst]

    assert 36_525 < scores[0] < scores[1] < scores[2] < np.inf


# Days that the mean delay hides or exaggerates


def test_one_ten_hour_delay_among_five_flights_is_not_abnormal() -> None:
    flights = ordinary_year(5, seed=1)
    flights[SPIKE] = np.array([0.0, 2.0, 600.0, 1.0, -3.0])

    days = airport_days("AAA", flights)

    flags = [verdict_on(run_detector(name, days), SPIKE)["is_anomaly"] for name in ("three_sigma", NAME)]
    assert flags == [True, False]


def test_the_same_bad_mean_is_abnormal_at_a_hub_and_not_at_an_airport_with_six_flights() -> None:
    bad = np.array([0.0, 0.0, 10.0, 20.0, 70.0, 110.0])
    hub, field = ordinary_year(300, seed=1), ordinary_year(6, seed=2)
    hub[SPIKE], field[SPIKE] = np.tile(bad, 50), bad

    verdicts = run_detector(NAME, pd.concat([airport_days("HUB", hub), airport_days("FLD", field)], ignore_index=True))

    at_hub, at_field = (verdict_on(verdicts, SPIKE, origin) for origin in ("HUB", "FLD"))
    assert at_hub["observed"] == at_field["observed"] == 35
    assert (at_hub["is_anomaly"], at_field["is_anomaly"]) == (True, False)


def test_the_snow_storm_of_february_2013_is_a_closure_of_new_york() -> None:
    """Real flights. The mean delay of 8 and 9 February is normal; on 8 March the flights are late and not cancelled."""
    verdicts = run_detector(NAME, new_york_2013())

    storm = verdicts[verdicts["fl_date"].isin([date(2013, 2, 8), date(2013, 2, 9)])]
    assert storm["direction"].tolist() == ["closure"] * 6
    assert verdict_on(verdicts, date(2013, 3, 8), "LGA")["direction"] == "late"
    assert verdicts["is_anomaly"].mean() < 0.05


# Levels and months


@pytest.mark.parametrize("past_only", [False, True])
def test_a_new_level_is_flagged_for_its_first_weeks(past_only: bool) -> None:
    days = airport_days("AAA", with_spell(date(2015, 9, 1), date(2015, 12, 31)))

    verdicts = run_detector(NAME, days, past_only=past_only)

    assert flagged_share(verdicts, "2015-02-01", "2015-08-31") == 0
    assert flagged_share(verdicts, "2015-09-01", "2015-09-08") == 1
    assert flagged_share(verdicts, "2015-09-24", "2015-10-19") == 0
    assert flagged_share(verdicts, "2015-10-20", "2015-10-20") == 1


def test_nine_days_of_storms_are_not_a_new_level() -> None:
    flights = ordinary_year(60, seed=1)
    storms = [date(2015, 1, 1) + timedelta(days=number) for number in range(9)]
    flights |= {day: flights[day] + 60 for day in storms}

    verdicts = run_detector(NAME, airport_days("AAA", flights))

    assert verdicts.loc[verdicts["fl_date"].isin(storms), "is_anomaly"].all()
