"""What Isolation Forest promises beyond the contract of all detectors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import IsolationForest

from tests.builders import airport_days as gold
from tests.builders import days_of_delays as of_delays
from tests.builders import of_airport as of
from tests.builders import ordinary_year as flights_of_a_year
from tests.builders import run_detector as judged
from utils import detectors


def test_isolation_forest_flags_the_days_that_scikit_learn_flags() -> None:
    year = gold("AAA", flights_of_a_year(60, seed=1))
    values = year["mean_dep_delay_min"].to_numpy()[:, None]

    found = detectors.load("isolation_forest")(year, contamination=0.03, n_estimators=50, random_state=7)

    theirs = IsolationForest(contamination=0.03, n_estimators=50, random_state=7).fit_predict(values) == -1
    assert found["is_anomaly"].tolist() == theirs.tolist()
    assert found.loc[theirs, "score"].min() > found.loc[~theirs, "score"].max()


@pytest.mark.parametrize("n_days", [28, 29, 100, 365])
@pytest.mark.parametrize("random_state", [0, 2**32 - 1])
def test_scores_are_those_of_scikit_learn_to_the_last_bit(n_days: int, random_state: int) -> None:
    delays = np.random.default_rng(n_days).normal(10, 20, (n_days, 3)).round(1)
    days = of_delays(delays, is_excluded=np.tile(np.arange(n_days) >= 28, 3) & (np.arange(3 * n_days) % 9 == 0))

    found = detectors.load("isolation_forest")(days, n_estimators=20, random_state=random_state)

    for origin, of_airport in days.groupby("origin"):
        values, is_usual = of_airport["mean_dep_delay_min"].to_numpy()[:, None], ~of_airport["is_excluded"].to_numpy()
        forest = IsolationForest(n_estimators=20, random_state=random_state).fit(values[is_usual])
        theirs = -forest.score_samples(values)
        np.testing.assert_array_equal(of(found, str(origin))["score"], theirs.astype(np.float32))


def test_a_quiet_year_fills_the_forests_quota_and_has_no_delaywatch_flag() -> None:
    quiet = pd.concat([gold(f"AA{i}", flights_of_a_year(60, seed=i)) for i in range(3)], ignore_index=True)

    flags = {
        name: judged(name, quiet).groupby("origin")["is_anomaly"].sum().tolist()
        for name in ("isolation_forest", "delaywatch")
    }

    assert flags == {"isolation_forest": [4, 4, 4], "delaywatch": [0, 0, 0]}
