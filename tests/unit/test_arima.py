"""What the ARIMA band promises beyond the contract of all detectors: its level, its gaps, its past."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import days_of_delays as of_delays
from tests.builders import run_detector as judged
from tests.builders import verdict_on as on

Delays = npt.NDArray[np.float64]  # minutes, days × airports


def simulated(ar: float, ma: float, d: int, airports: int, n_days: int = 365, seed: int = 1) -> Delays:
    """ARIMA(1, d, 1) with Gaussian shocks of 10 minutes around 15 minutes."""
    shocks = np.random.default_rng(seed).normal(0, 10, (n_days + 50, airports))
    values = np.zeros_like(shocks)
    for day in range(1, len(shocks)):
        values[day] = ar * values[day - 1] + shocks[day] + ma * shocks[day - 1]
    return 15 + (values.cumsum(axis=0) if d else values)[50:]


def is_outside(found: pd.DataFrame) -> pd.Series:
    return (found["observed"] > found["upper"]) | (found["observed"] < found["lower"])


@pytest.mark.parametrize(("ar", "ma", "d"), [(0, 0, 0), (0.6, 0, 0), (0.8, -0.5, 0), (0, 0, 1), (0, -0.8, 1)])
@pytest.mark.parametrize("missing", [0.0, 0.15])
def test_the_band_holds_the_share_of_days_that_was_asked_for(ar: float, ma: float, d: int, missing: float) -> None:
    delays = simulated(ar, ma, d, airports=20)
    delays[np.random.default_rng(2).random(delays.shape) < missing] = np.nan

    for level in (0.8, 0.95):
        found = judged("arima", of_delays(delays), level=level)
        outside = is_outside(found[found["status"] == "ok"])
        first_weeks = outside[found["fl_date"] < date(2015, 2, 1)]
        assert outside.mean() == pytest.approx(1 - level, abs=0.02)
        assert first_weeks.mean() == pytest.approx(1 - level, abs=0.04)
        assert (found["status"] == "ok").sum() == np.isfinite(delays).sum()


def test_the_spread_is_that_of_the_shocks_and_the_forecast_remembers_yesterday() -> None:
    delays = simulated(0.8, 0, 0, airports=40)

    found = judged("arima", of_delays(delays), level=0.95)

    late_year = found["fl_date"] > date(2015, 6, 30)
    yesterday = pd.Series(np.concatenate([[np.nan], delays.T.ravel()[:-1]]), index=found.index)
    best_possible = 15 + 0.8 * (yesterday - 15)
    assert (found["expected"] - best_possible)[late_year].std() < 2.5
    half_band = (found["upper"] - found["expected"])[late_year].mean()
    assert half_band == pytest.approx(1.96 * 10, rel=0.07)
    assert found.loc[late_year, "score"].std() == pytest.approx(1, rel=0.07)


def test_without_memory_the_forecast_is_the_mean_of_the_days_before() -> None:
    delays = np.random.default_rng(3).normal(15, 10, (100, 1))

    found = judged("arima", of_delays(delays), max_p=0, max_d=0, max_q=0, most_spreads=1000.0)

    before = pd.Series(delays[:, 0]).expanding().mean().shift(1)
    np.testing.assert_allclose(found["expected"][14:], before[14:], rtol=1e-5)


def test_a_jump_within_a_slow_swing_is_found_which_three_sigma_misses() -> None:
    days = np.arange(365)
    delays = 30 + 20 * np.sin(days / 58) + np.random.default_rng(4).normal(0, 2, 365)
    delays[270] += 25  # from the depth of the swing to its middle
    year = of_delays(delays[:, None])
    when = date(2015, 1, 1) + timedelta(days=270)

    flags = {name: on(judged(name, year), when, "A000")["is_anomaly"] for name in ("three_sigma", "arima")}

    assert flags == {"three_sigma": False, "arima": True}


def test_a_forecast_after_a_storm_is_not_led_astray_by_it() -> None:
    delays = simulated(0.5, 0, 0, airports=1)
    stormy = delays.copy()
    stormy[200] += 400

    usual, after = (judged("arima", of_delays(series)) for series in (delays, stormy))

    assert on(after, date(2015, 7, 20), "A000")["is_anomaly"]
    np.testing.assert_allclose(after["expected"][201:], usual["expected"][201:], atol=25)
    widths = [(found["upper"] - found["lower"])[210:].mean() for found in (usual, after)]
    assert widths[1] < 1.15 * widths[0]


def test_the_first_days_of_a_level_that_moves_have_no_boundless_band() -> None:
    delays = 600 + simulated(0, 0, 1, airports=20)

    found = judged("arima", of_delays(delays))

    width = found["upper"] - found["lower"]
    first_days = found["fl_date"] < date(2015, 1, 15)
    assert width[first_days].max() < 4 * width[~first_days].median()
    assert found.loc[first_days, "is_anomaly"].mean() < 0.01


@pytest.mark.parametrize("late_only", [True, False])
def test_with_past_only_the_first_days_are_not_judged(late_only: bool) -> None:
    delays = simulated(0.5, 0, 0, airports=2)
    delays[:20] += 300

    found = judged("arima", of_delays(delays), past_only=True, late_only=late_only)

    first_days = found["fl_date"] < date(2015, 1, 29)
    assert set(found.loc[first_days, "status"]) == {"insufficient_data"}
    assert not found.loc[first_days, "is_anomaly"].any()
    assert set(found.loc[~first_days, "status"]) == {"ok"}


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 1000), today=st.integers(1, 119), later=st.floats(-100, 500) | st.just(float("nan")))
def test_with_past_only_later_days_cannot_change_a_verdict(seed: int, today: int, later: float) -> None:
    delays = simulated(0.5, 0, 0, airports=2, n_days=120, seed=seed)
    other = delays.copy()
    other[today:] = later

    known, changed = (judged("arima", of_delays(series), past_only=True) for series in (delays, other))

    until = known["fl_date"] < date(2015, 1, 1) + timedelta(days=today)
    pd.testing.assert_frame_equal(known[until], changed[until])


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 1000), minutes=st.floats(-40, 200))
def test_the_same_delay_on_every_day_shifts_the_band_and_changes_no_score(seed: int, minutes: float) -> None:
    delays = simulated(0.5, 0, 0, airports=2, n_days=120, seed=seed)

    found, shifted = (judged("arima", of_delays(series)) for series in (delays, delays + minutes))

    np.testing.assert_allclose(shifted["expected"], found["expected"] + minutes, atol=0.01)
    np.testing.assert_allclose(shifted["score"], found["score"], atol=0.01)


@pytest.mark.parametrize("is_known_incident", [True, False])
def test_a_gap_keeps_its_place_and_widens_the_band_of_the_day_after_it(is_known_incident: bool) -> None:
    delays = simulated(0, 0, 1, airports=1)
    is_gap = np.zeros(365, dtype=bool)
    is_gap[200:230] = True
    days = of_delays(delays)
    if is_known_incident:
        days["is_excluded"] = is_gap
    else:
        days.loc[is_gap, "mean_dep_delay_min"] = np.nan

    found = judged("arima", days)

    width = found["upper"] - found["lower"]
    assert width[230] > 3 * width[199]
    assert width[231] < 1.5 * width[199]
    assert set(found.loc[is_gap, "status"]) == {"ok" if is_known_incident else "insufficient_data"}
    assert not found["is_anomaly"][230]


@pytest.mark.parametrize("max_d", [0, 1])
def test_a_growth_that_a_long_gap_breaks_off_is_not_continued_through_the_gap(max_d: int) -> None:
    delays = np.full((200, 1), np.nan)
    delays[:60, 0] = 5 * 1.08 ** np.arange(60)
    delays[150:, 0] = delays[59, 0]

    after = judged("arima", of_delays(delays), max_d=max_d, shrink_days=0.1).loc[150]

    assert after["status"] == "ok"
    assert after["expected"] < 1.01 * np.nanmax(delays)
    assert after["upper"] - after["expected"] < 2 * np.nanmax(delays)


def test_rows_that_are_missing_are_the_same_gap_as_rows_without_a_value() -> None:
    delays = simulated(0.5, 0, 0, airports=1)
    delays[200:230] = np.nan
    days = of_delays(delays)

    with_rows, without = judged("arima", days), judged("arima", days.drop(index=range(200, 230)))

    pd.testing.assert_frame_equal(with_rows.drop(index=range(200, 230)).reset_index(drop=True), without)


def test_a_season_of_four_weeks_is_judged_from_both_ends_by_a_band_that_allows_for_its_few_errors() -> None:
    found = judged("arima", of_delays(simulated(0, 0, 0, airports=200, n_days=28)), level=0.99)

    assert set(found["status"]) == {"ok"}
    assert is_outside(found).mean() == pytest.approx(0.01, abs=0.005)  # without: 0.02 and more
