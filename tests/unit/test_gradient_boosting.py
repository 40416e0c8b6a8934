"""Gradient boosting: no leak between folds, and what its features explain."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from tests.builders import days_of_delays, run_detector, verdict_on
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


def test_the_verdicts_do_not_depend_on_the_number_of_threads() -> None:
    year = days_of_delays(np.random.default_rng(1).normal(15, 3, (70, 4)))
    tables = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            tables.append(detectors.run(NAME, year, SMALL))

    assert tables[0].equals(tables[1])
