"""What Isolation Forest promises beyond the contract of all detectors."""

from __future__ import annotations

import pandas as pd

from tests.airport_days import flights_of_a_year, gold, judged
from utils import detectors


def test_isolation_forest_flags_the_days_that_scikit_learn_flags() -> None:
    from sklearn.ensemble import IsolationForest

    year = gold("AAA", flights_of_a_year(60, seed=1))
    values = year["mean_dep_delay_min"].to_numpy()[:, None]

    found = detectors.load("isolation_forest")(year, contamination=0.03, n_estimators=50, random_state=7)

    theirs = IsolationForest(contamination=0.03, n_estimators=50, random_state=7).fit_predict(values) == -1
    assert found["is_anomaly"].tolist() == theirs.tolist()
    assert found.loc[theirs, "score"].min() > found.loc[~theirs, "score"].max()


def test_a_quiet_year_fills_the_forests_quota_and_has_no_delaywatch_flag() -> None:
    quiet = pd.concat([gold(f"AA{i}", flights_of_a_year(60, seed=i)) for i in range(3)], ignore_index=True)

    flags = {
        name: judged(name, quiet).groupby("origin")["is_anomaly"].sum().tolist()
        for name in ("isolation_forest", "delaywatch")
    }

    assert flags == {"isolation_forest": [4, 4, 4], "delaywatch": [0, 0, 0]}
