"""What gradient boosting promises beyond the contract of all detectors: no leak, and what its features explain."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import airport_days as gold
from tests.builders import days_of_delays as of_delays
from tests.builders import of_airport as of
from tests.builders import ordinary_year as flights_of_a_year
from tests.builders import run_detector as judged
from tests.builders import verdict_on as on
from utils import detectors


@settings(deadline=None, max_examples=4)
@given(day=st.integers(0, 149), minutes=st.floats(-60, 600), same_day_network=st.booleans())
def test_what_is_expected_of_a_day_does_not_depend_on_that_day(
    day: int, minutes: float, same_day_network: bool
) -> None:
    delays = np.random.default_rng(1).normal(15, 5, (150, 4))
    other = delays.copy()
    other[day, 2] = minutes
    settings_ = {"same_day_network": same_day_network, "min_samples_leaf": 10, "n_estimators": 5}

    known, changed = (judged("gradient_boosting", of_delays(series), **settings_) for series in (delays, other))

    when = date(2015, 1, 1) + timedelta(days=day)
    band = ["expected", "lower", "upper"]
    assert [on(known, when, "A002")[name] for name in band] == [on(changed, when, "A002")[name] for name in band]
    assert on(changed, when, "A002")["status"] == "ok"


def test_no_day_of_a_block_is_judged_by_trees_that_saw_the_block() -> None:
    """A week of chaos at every airport must not teach the trees that this date is chaotic."""
    delays = np.random.default_rng(1).normal(15, 3, (140, 20))
    delays[58:65] += 60  # inside the block of days 56 to 69

    found = judged("gradient_boosting", of_delays(delays), n_estimators=100, min_samples_leaf=20)

    chaos = found["fl_date"].between(date(2015, 2, 28), date(2015, 3, 6))
    assert found.loc[chaos, "is_anomaly"].mean() > 0.95
    assert found.loc[found["fl_date"] == date(2015, 2, 28), "expected"].max() < 25


def test_a_busy_weekday_is_expected() -> None:
    rng = np.random.default_rng(1)
    dates = pd.date_range("2015-01-01", periods=365)
    delays = rng.normal(10, 3, (365, 10)) + 15 * np.asarray(dates.day_of_week == 4)[:, None]

    found = judged("gradient_boosting", of_delays(delays))

    friday, monday = on(found, date(2015, 5, 8), "A000"), on(found, date(2015, 5, 11), "A000")
    assert friday["expected"] > monday["expected"] + 10
    assert found["is_anomaly"].mean() < 0.01


@pytest.mark.slow
def test_the_same_days_network_explains_a_storm_and_not_what_happens_at_one_airport() -> None:
    rng = np.random.default_rng(1)
    everywhere = rng.exponential(8, (200, 1))
    delays = rng.normal(15, 3, (200, 30)) + everywhere
    delays[150, 7] += 60
    worst_days = pd.Series(everywhere[:, 0], index=pd.date_range("2015-01-01", periods=200).date).nlargest(10).index

    without, with_it = (
        judged("gradient_boosting", of_delays(delays), same_day_network=is_given, n_estimators=60)
        for is_given in (False, True)
    )

    on_worst_days = [found.loc[found["fl_date"].isin(worst_days), "score"].mean() for found in (without, with_it)]
    assert on_worst_days[1] < on_worst_days[0] / 2
    alone = date(2015, 1, 1) + timedelta(days=150)
    assert on(without, alone, "A007")["is_anomaly"]
    assert on(with_it, alone, "A007")["is_anomaly"]


def test_a_bad_day_does_not_excuse_the_day_after_it() -> None:
    """Bad days are often followed by restless ones; a spread that knew of yesterday would find those ordinary."""
    rng = np.random.default_rng(1)
    is_bad = np.arange(365) % 20 == 10
    restless = np.roll(is_bad, 1)[:, None] * rng.normal(0, 25, (365, 10))
    delays = rng.normal(15, 3, (365, 10)) + 30 * is_bad[:, None] + restless
    after = int(np.flatnonzero(is_bad)[7]) + 1
    delays[after] = 75

    found = judged("gradient_boosting", of_delays(delays), n_estimators=60)

    when = date(2015, 1, 1) + timedelta(days=after)
    assert found.loc[found["fl_date"] == when, "is_anomaly"].all()


def test_the_band_of_a_small_airport_is_wider_than_a_hubs() -> None:
    year = pd.concat(
        [gold("HUB", flights_of_a_year(300, seed=1)), gold("FLD", flights_of_a_year(6, seed=2))], ignore_index=True
    )

    found = judged("gradient_boosting", year)

    hub, field = ((of(found, origin)["upper"] - of(found, origin)["expected"]).mean() for origin in ("HUB", "FLD"))
    assert field > 3 * hub


def test_an_airport_too_brief_to_be_judged_teaches_nothing() -> None:
    rng = np.random.default_rng(1)
    delays = rng.normal(15, 3, (150, 3))
    delays[27:, 2] = np.nan
    wild = delays.copy()
    wild[:27, 2] = rng.uniform(-60, 600, 27)

    known, changed = (judged("gradient_boosting", of_delays(series), min_samples_leaf=5) for series in (delays, wild))

    for origin in ("A000", "A001"):
        pd.testing.assert_frame_equal(of(known, origin), of(changed, origin))
    assert set(of(changed, "A002")["status"]) == {"insufficient_data"}


@pytest.mark.parametrize("block_days", [1, 14, 100])
def test_every_cut_into_blocks_judges_every_day(block_days: int) -> None:
    delays = np.random.default_rng(1).normal(15, 3, (365, 3))

    found = judged("gradient_boosting", of_delays(delays), block_days=block_days, folds=8)

    assert set(found["status"]) == ({"ok"} if block_days > 1 else {"insufficient_data"})


def test_the_verdict_does_not_depend_on_the_number_of_threads() -> None:
    from threadpoolctl import threadpool_limits

    year = of_delays(np.random.default_rng(1).normal(15, 3, (150, 4)))
    with threadpool_limits(limits=2):
        two = detectors.run("gradient_boosting", year)
    with threadpool_limits(limits=1):
        one = detectors.run("gradient_boosting", year)

    assert one.equals(two)
