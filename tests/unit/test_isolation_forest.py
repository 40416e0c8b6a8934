"""Isolation Forest: the scores of scikit-learn, and its quota. The other columns are in test_verdict_columns.py."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest

from tests.builders import airport_days, days_of_delays, of_airport, ordinary_year, run_detector


@pytest.mark.parametrize(("n_days", "random_state"), [(28, 0), (300, 2**32 - 1)])
def test_the_scores_are_those_of_scikit_learn_to_the_last_bit(n_days: int, random_state: int) -> None:
    delays = np.random.default_rng(n_days).normal(10, 20, (n_days, 2)).round(1)
    days = days_of_delays(delays, is_excluded=np.tile(np.arange(n_days) >= 28, 2) & (np.arange(2 * n_days) % 9 == 0))

    verdicts = run_detector("isolation_forest", days, n_estimators=10, random_state=random_state)

    for origin, own in days.groupby("origin"):
        values, is_usual = own["mean_dep_delay_min"].to_numpy()[:, None], ~own["is_excluded"].to_numpy()
        forest = IsolationForest(n_estimators=10, random_state=random_state).fit(values[is_usual])
        reference = -forest.score_samples(values)
        np.testing.assert_array_equal(of_airport(verdicts, str(origin))["score"], reference.astype(np.float32))


def test_a_quiet_year_has_as_many_flags_as_the_quota_and_none_of_delaywatch() -> None:
    quiet = airport_days("AAA", ordinary_year(60, seed=1))

    flags = [run_detector(name, quiet)["is_anomaly"].sum() for name in ("isolation_forest", "delaywatch")]

    assert flags == [4, 0]
