"""Gradient boosting: no leak between folds, and what its features explain."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from tests.builders import days_of_delays, of_airport, run_detector, verdict_on
from utils import detectors

NAME = "gradient_boosting"
SMALL = {"min_samples_leaf": 10, "n_estimators": 5}


def day(number: int) -> date:
    return date(2015, 1, 1) + timedelta(days=number)


@pytest.mark.parametrize("same_day_network", [False, True])
@pytest.mark.parametrize("number", [0, 30, 69])
def test_the_expectation_of_a_day_does_not_depend_on_that_day(number: int, same_day_network: bool) -> None:
    delays = np.random.default_rng(1).normal(15, 5, (70, 4))
    other = delays.copy()
    other[number, 2] = 600

    bands = [
        verdict_on(
            run_detector(NAME, days_of_delays(series), same_day_network=same_day_network, **SMALL), day(number), "A002"
        )
        for series in (delays, other)
    ]

    assert bands[0]["status"] == "ok"
    assert [bands[0][name] for name in ("expected", "lower", "upper")] == [
        bands[1][name] for name in ("expected", "lower", "upper")
    ]


def test_with_the_same_days_network_a_day_is_compared_with_the_other_airports() -> None:
    rng = np.random.default_rng(1)
    delays = rng.normal(15, 3, (120, 12)) + rng.exponential(8, (120, 1))
    delays[90, 7] += 60

    without, with_network = (
        run_detector(NAME, days_of_delays(delays), same_day_network=choice, min_samples_leaf=20)
        for choice in (False, True)
    )

    errors = [(verdicts["observed"] - verdicts["expected"]).std() for verdicts in (without, with_network)]
    assert errors[1] < 0.7 * errors[0]
    assert verdict_on(with_network, day(90), "A007")["is_anomaly"]


def test_an_airport_with_too_few_days_is_not_used_for_fitting() -> None:
    rng = np.random.default_rng(1)
    delays = rng.normal(15, 3, (70, 3))
    delays[27:, 2] = np.nan
    wild = delays.copy()
    wild[:27, 2] = rng.uniform(-60, 600, 27)

    verdicts, other = (run_detector(NAME, days_of_delays(series), **SMALL) for series in (delays, wild))

    for origin in ("A000", "A001"):
        pd.testing.assert_frame_equal(of_airport(verdicts, origin), of_airport(other, origin))


@pytest.mark.parametrize(("block_days", "is_scored"), [(1, False), (14, True), (100, True)])
def test_blocks_must_be_longer_than_the_gap_after_them(block_days: int, is_scored: bool) -> None:
    """With blocks of one day in five folds, the seven days after each test day leave no day for fitting."""
    delays = np.random.default_rng(1).normal(15, 3, (120, 3))

    verdicts = run_detector(NAME, days_of_delays(delays), block_days=block_days, **SMALL)

    assert set(verdicts["status"] == "ok") == {is_scored}


def test_the_verdicts_do_not_depend_on_the_number_of_threads() -> None:
    year = days_of_delays(np.random.default_rng(1).normal(15, 3, (70, 4)))
    tables = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            tables.append(detectors.run(NAME, year, SMALL))

    assert tables[0].equals(tables[1])
