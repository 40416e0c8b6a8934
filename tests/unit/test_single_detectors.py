"""What single detectors promise beyond the common contract and the verdict columns."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from tests.builders import airport_days, days_of_delays, new_york_2013, ordinary_year, run_detector, verdict_on
from utils import detectors

Floats = npt.NDArray[np.float64]


# delaywatch


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), number=st.integers(0, 99), less=st.integers(0, 110), more=st.integers(1, 110))
def test_a_later_day_never_scores_lower(seed: int, number: int, less: int, more: int) -> None:
    flights, day = ordinary_year(20, seed, days=100), date(2015, 1, 1) + timedelta(days=number)

    score, higher_score = (
        run_detector("delaywatch", airport_days("AAA", {**flights, day: flights[day] + minutes}))["score"].iloc[number]
        for minutes in (less, less + more)
    )

    assert higher_score >= score - 1e-6


def test_the_worst_days_do_not_tie() -> None:
    flights = ordinary_year(60, seed=1)
    worst = [date(2015, 3, day) for day in (1, 11, 21)]
    flights |= dict(zip(worst, (np.full(60, 110.0), np.full(60, 119.0), np.full(60, np.nan)), strict=True))
    verdicts = run_detector("delaywatch", airport_days("AAA", flights))

    scores = [verdict_on(verdicts, day)["score"] for day in worst]

    assert 36_525 < scores[0] < scores[1] < scores[2] < np.inf


def test_the_snow_storm_of_february_2013_is_a_closure_of_new_york() -> None:
    """Real flights. The mean delay of 8 and 9 February is normal; on 8 March the flights are late and not cancelled."""
    verdicts = run_detector("delaywatch", new_york_2013())

    storm = verdicts[verdicts["fl_date"].isin([date(2013, 2, 8), date(2013, 2, 9)])]
    assert storm["direction"].tolist() == ["closure"] * 6
    assert verdict_on(verdicts, date(2013, 3, 8), "LGA")["direction"] == "late"
    assert verdicts["is_anomaly"].mean() < 0.05


@pytest.mark.parametrize("past_only", [False, True])
def test_the_usual_range_contains_nine_of_ten_days_without_a_flag_and_no_flagged_day(past_only: bool) -> None:
    """Real flights of New York in 2013."""
    verdicts = run_detector("delaywatch", new_york_2013(), past_only=past_only).dropna(subset="score")

    is_inside = verdicts["observed"].between(verdicts["lower"], verdicts["upper"])
    assert is_inside[~verdicts["is_anomaly"]].mean() == pytest.approx(0.9, abs=0.03)
    flagged = verdicts[verdicts["is_anomaly"]]
    assert (flagged["observed"] > flagged["upper"]).all()


def test_the_expectation_follows_the_season() -> None:
    """Real flights of New York in 2013, where June and July have twice the delay of autumn."""
    verdicts = run_detector("delaywatch", new_york_2013())

    months = verdicts.groupby(["origin", pd.to_datetime(verdicts["fl_date"]).dt.month])[["observed", "expected"]]
    difference_min = months.median().diff(axis=1)["expected"].abs()
    assert difference_min.mean() < 2


@pytest.mark.parametrize("past_only", [False, True])
def test_two_weeks_of_strike_do_not_become_usual(past_only: bool) -> None:
    flights = ordinary_year(60, seed=1)
    strike = [date(2015, 7, 1) + timedelta(days=number) for number in range(14)]
    usual, with_strike = (
        run_detector("delaywatch", airport_days("AAA", days), past_only=past_only)
        for days in (flights, flights | {day: flights[day] + 70 for day in strike})
    )

    for column in ("expected", "lower", "upper"):
        assert (with_strike[column] - usual[column]).abs().max() < 3
    assert with_strike.loc[with_strike["fl_date"].isin(strike), "is_anomaly"].all()


@pytest.mark.parametrize("minutes", [0.0, 0.1, 33.3])
def test_equal_days_are_inside_their_usual_range(minutes: float) -> None:
    flights = {day: np.full(30, minutes) for day in ordinary_year(1, seed=1, days=60)}

    verdicts = run_detector("delaywatch", airport_days("AAA", flights))

    assert verdicts["observed"].between(verdicts["lower"], verdicts["upper"]).all()


@pytest.mark.parametrize("past_only", [False, True])
def test_an_airport_with_one_day_of_flights_a_week_has_the_usual_range_of_its_whole_history(past_only: bool) -> None:
    flights = {day: delays for day, delays in ordinary_year(30, seed=1).items() if day.weekday() == 5}

    verdicts = run_detector("delaywatch", airport_days("AAA", flights), past_only=past_only)

    usual = verdicts["observed"].quantile([0.05, 0.5, 0.95])
    last_day = verdicts.iloc[-1]
    assert last_day[["lower", "expected", "upper"]].tolist() == pytest.approx(usual.tolist(), abs=1)


def test_nine_days_of_storms_are_not_a_new_level() -> None:
    flights = ordinary_year(60, seed=1)
    storms = [date(2015, 1, 1) + timedelta(days=number) for number in range(9)]
    flights |= {day: flights[day] + 60 for day in storms}

    verdicts = run_detector("delaywatch", airport_days("AAA", flights))

    assert verdicts.loc[verdicts["fl_date"].isin(storms), "is_anomaly"].all()


@pytest.mark.parametrize("past_only", [False, True])
@pytest.mark.parametrize("n_days", [3, 27, 121])
def test_every_day_with_a_quarter_of_20_flights_cancelled_is_flagged_whatever_the_history(
    n_days: int, past_only: bool
) -> None:
    """Every third day of the airport has cancellations, so that they are usual: the score alone flags few of them."""
    flights = ordinary_year(20, seed=1, days=n_days)
    for number, delays in enumerate(flights.values()):
        delays[: (0, 5, 4)[number % 3]] = np.nan

    verdicts = run_detector("delaywatch", airport_days("AAA", flights), past_only=past_only)

    many = verdicts.iloc[1::3]
    assert many["is_anomaly"].all()
    assert set(many["status"]) == {"ok"}
    assert verdicts.iloc[2::3]["is_anomaly"].mean() < 0.1


def test_a_day_below_20_flights_or_a_quarter_cancelled_needs_a_score_for_a_flag() -> None:
    flights = {date(2015, 1, 1) + timedelta(days=number): np.zeros(19) for number in range(10)}
    flights[date(2015, 1, 5)] = np.full(19, np.nan)
    flights[date(2015, 1, 6)] = np.concatenate([np.full(5, np.nan), np.zeros(16)])

    verdicts = run_detector("delaywatch", airport_days("AAA", flights))

    assert not verdicts["is_anomaly"].any()
    assert set(verdicts["status"]) == {"insufficient_data"}


# random_cut_forest


def displacements_of_a_tree(points: Floats, rng: np.random.Generator) -> Floats:
    """The largest size of the sibling / own size on the way from each point to the root, node by node."""
    largest = np.zeros(len(points))
    nodes = [np.arange(len(points))]
    while nodes:
        node = nodes.pop()
        widths = np.ptp(points[node], axis=0)
        if not widths.sum():
            continue
        dimension = rng.choice(len(widths), p=widths / widths.sum())
        low = points[node, dimension].min()
        is_right = points[node, dimension] > rng.uniform(low, low + widths[dimension])
        sides = node[~is_right], node[is_right]
        for own, other in (sides, sides[::-1]):
            largest[own] = np.maximum(largest[own], len(other) / len(own))
            nodes.append(own)
    return largest


@pytest.mark.parametrize("shingle_days", [1, 3])
def test_the_score_is_the_mean_displacement_over_trees_of_the_definition(shingle_days: int) -> None:
    delays = np.random.default_rng(1).gamma(2, 5, 40)
    delays[30] += 40
    points = np.lib.stride_tricks.sliding_window_view(delays, shingle_days)[:, ::-1]
    rng = np.random.default_rng(2)
    reference = np.mean([displacements_of_a_tree(points, rng) for _ in range(300)], axis=0)

    verdicts = run_detector(
        "random_cut_forest", days_of_delays(delays[:, None]), n_trees=800, shingle_days=shingle_days, late_only=False
    )

    score = verdicts["score"][shingle_days - 1 :].to_numpy()
    assert np.corrcoef(score, reference)[0, 1] > 0.99
    assert score.mean() == pytest.approx(reference.mean(), rel=0.06)
    assert score[30] == pytest.approx(reference[30], rel=0.1)


def test_a_score_that_equals_a_level_reaches_it() -> None:
    delays = np.random.default_rng(1).normal(10, 2, (100, 1))
    delays[50] += 500

    day = run_detector("random_cut_forest", days_of_delays(delays), n_trees=1, levels=(50.0, 99.0, 99.5)).loc[50]

    assert (day["score"], day["severity"]) == (99, 2)


# gradient_boosting

SMALL = {"min_samples_leaf": 10, "n_estimators": 5}


@pytest.mark.parametrize("same_day_network", [False, True])
@pytest.mark.parametrize("number", [0, 30, 69])
def test_the_expectation_of_a_day_does_not_depend_on_that_day(number: int, same_day_network: bool) -> None:
    delays = np.random.default_rng(1).normal(15, 5, (70, 4))
    other = delays.copy()
    other[number, 2] = 600

    runs = [
        run_detector("gradient_boosting", days_of_delays(series), same_day_network=same_day_network, **SMALL)
        for series in (delays, other)
    ]

    band, other_band = (verdicts.loc[[2 * 70 + number], ["expected", "lower", "upper"]] for verdicts in runs)
    assert band.notna().to_numpy().all()
    pd.testing.assert_frame_equal(band, other_band)


def test_the_verdicts_do_not_depend_on_the_number_of_threads() -> None:
    year = days_of_delays(np.random.default_rng(1).normal(15, 3, (70, 4)))
    tables = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            tables.append(detectors.run("gradient_boosting", year, SMALL))

    assert tables[0].equals(tables[1])


# arima


def simulated(ar: float, ma: float, d: int, airports: int, n_days: int = 365) -> Floats:
    """ARIMA(1, d, 1) with Gaussian shocks of 10 minutes around 15 minutes."""
    shocks = np.random.default_rng(1).normal(0, 10, (n_days + 50, airports))
    values = np.zeros_like(shocks)
    for day in range(1, len(shocks)):
        values[day] = ar * values[day - 1] + shocks[day] + ma * shocks[day - 1]
    return 15 + (values.cumsum(axis=0) if d else values)[50:]


def share_outside(verdicts: pd.DataFrame) -> float:
    scored = verdicts[verdicts["status"] == "ok"]
    return float(((scored["observed"] > scored["upper"]) | (scored["observed"] < scored["lower"])).mean())


def with_memory(shocks: Floats) -> Floats:
    """Delays that also depend on the day before, with 10% of the days missing."""
    delays = shocks.copy()
    for day in range(1, len(delays)):
        delays[day] += 0.5 * delays[day - 1]
    return np.where(np.random.default_rng(2).random(delays.shape) < 0.1, np.nan, delays)


def heavy_tailed(shape: tuple[int, int]) -> Floats:
    return 5 * np.random.default_rng(1).standard_t(3, shape)


def skewed(shape: tuple[int, int]) -> Floats:
    """Minutes of ordinary days, and of storms on 3% of the days."""
    rng = np.random.default_rng(1)
    return rng.gamma(2, 5, shape) + 60 * (rng.random(shape) < 0.03) * rng.random(shape)


@pytest.mark.parametrize("past_only", [False, True])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("shocks_of", [heavy_tailed, skewed])
def test_the_stated_share_of_days_is_inside_the_band_and_half_of_the_others_on_each_side_whatever_the_tails(
    shocks_of: Callable[[tuple[int, int]], Floats], level: float, past_only: bool
) -> None:
    days = days_of_delays(with_memory(shocks_of((365, 40))))

    verdicts = run_detector("arima", days, level=level, past_only=past_only)

    scored = verdicts[verdicts["status"] == "ok"]
    share_above = (scored["observed"] > scored["upper"]).mean()
    assert share_outside(verdicts) == pytest.approx(1 - level, abs=0.01)
    assert share_above == pytest.approx((1 - level) / 2, abs=0.01)


def test_the_band_follows_an_airport_whose_days_become_three_times_as_variable() -> None:
    delays = with_memory(skewed((365, 40)))
    delays[180:] *= 3

    shares = []
    for band_step in (0.0, 0.12):
        verdicts = run_detector("arima", days_of_delays(delays), level=0.8, band_step=band_step)
        shares.append(share_outside(verdicts[verdicts["fl_date"] > date(2015, 9, 30)]))

    assert shares[0] > 0.3
    assert shares[1] == pytest.approx(0.2, abs=0.04)


@pytest.mark.parametrize(("ar", "ma", "d"), [(0.8, -0.5, 0), (0, -0.8, 1)])
def test_the_band_contains_the_stated_share_of_days_of_gaussian_series_also_at_the_start(
    ar: float, ma: float, d: int
) -> None:
    verdicts = run_detector("arima", days_of_delays(simulated(ar, ma, d, airports=20)), level=0.9)

    assert share_outside(verdicts) == pytest.approx(0.1, abs=0.01)
    assert share_outside(verdicts[verdicts["fl_date"] < date(2015, 2, 1)]) == pytest.approx(0.1, abs=0.04)


@pytest.mark.parametrize("is_excluded", [True, False], ids=["excluded", "without a row"])
def test_a_gap_keeps_its_place_and_widens_the_band_of_the_day_after_it(is_excluded: bool) -> None:
    days = days_of_delays(simulated(0, 0, 1, airports=1))
    is_gap = days.index.isin(range(200, 230))

    verdicts = run_detector("arima", days.assign(is_excluded=is_gap) if is_excluded else days[~is_gap])

    verdicts = verdicts.set_index("fl_date")

    width = verdicts["upper"] - verdicts["lower"]
    before, first, second = (width[date(2015, 1, 1) + timedelta(days=number)] for number in (199, 230, 231))
    assert first > 3 * before
    assert second < 1.5 * before
