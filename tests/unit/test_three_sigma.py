"""What three sigma promises beyond the contract of all detectors."""

from __future__ import annotations

import numpy as np

from tests.builders import SPIKE
from tests.builders import airport_days as gold
from tests.builders import ordinary_year as flights_of_a_year
from tests.builders import run_detector as judged
from tests.builders import verdict_on as on
from utils import detectors


def test_three_sigma_is_the_z_score_that_pandas_computes() -> None:
    year = gold("AAA", flights_of_a_year(60, seed=1))
    delay = year["mean_dep_delay_min"]

    found = detectors.load("three_sigma")(year)

    np.testing.assert_allclose(found["score"], ((delay - delay.mean()) / delay.std()).abs(), rtol=1e-5)
    np.testing.assert_allclose(found["upper"], delay.mean() + 3 * delay.std(), rtol=1e-5)


def test_three_sigma_says_when_a_day_left_too_early() -> None:
    flights = flights_of_a_year(60, seed=1)
    flights[SPIKE] = flights[SPIKE] - 25

    day = on(judged("three_sigma", gold("AAA", flights)), SPIKE)

    assert day["direction"] == "early"
    assert day["observed"] < day["lower"]
    assert day["severity"] == 3
