"""Isolation Forest: a day is abnormal when random splits single out its mean delay sooner than the airport's others."""

from __future__ import annotations

import numpy as np
import pandas as pd

from utils.detectors.verdicts import calendar, severities, usable, verdicts

METRIC = "mean_dep_delay_min"
LIMITS = {
    "contamination": (0.0001, 0.5),
    "n_estimators": (1, 10_000),
    "random_state": (0, 2**32 - 1),
    "min_flights": (1, 1_000),
    "min_days": (2, 366),
}
STRONG, EXTREME = 0.7, 0.8  # of the forest's score, which is about 0.5 for an ordinary day and never above 1


def detect(
    days: pd.DataFrame,
    *,
    contamination: float = 0.01,
    n_estimators: int = 100,
    random_state: int = 0,
    min_flights: int = 5,
    min_days: int = 28,
) -> pd.DataFrame:
    """Fit one forest per airport on its daily mean delays and flag the share `contamination` with the highest scores.

    The share is a quota: a quiet year gets as many flags as a bad one. The score is the forest's own, 2 ** (- mean path
    length / expected path length), from Liu, Ting and Zhou, "Isolation Forest" (2008), the negative of scikit-learn's
    `score_samples`. `expected` is the median, `lower` and `upper` are the range of the unflagged days, in minutes. Days
    with fewer than `min_flights` scheduled flights are neither judged nor learnt from, nor is an airport with fewer
    than `min_days` such days; days that are `is_excluded` are judged by the forest and the threshold of the others.
    Every airport's forest starts from `random_state`: airports do not influence each other.
    """
    from sklearn.ensemble import IsolationForest

    where = calendar(days)
    known = usable(where, METRIC, min_flights)
    train_mask = known & ~where.excluded()
    judged = known & (train_mask.sum(axis=0) >= min_days)
    delay = where.numbers(METRIC)
    score = np.full(where.shape, np.nan)
    flagged = np.zeros(where.shape, dtype=np.bool_)
    expected, lower, upper = (np.full(where.shape[1], np.nan) for _ in range(3))
    for airport in np.flatnonzero(judged.any(axis=0)):
        at = judged[:, airport]
        values = delay[at, airport]
        usual = train_mask[at, airport]
        # Left to scikit-learn, `contamination` scores every day a second time to find the same threshold.
        forest = IsolationForest(n_estimators=n_estimators, random_state=random_state).fit(values[usual, None])
        scores = -forest.score_samples(values[:, None])
        beyond = scores > np.percentile(scores[usual], 100 * (1 - contamination))
        score[at, airport], flagged[at, airport] = scores, beyond
        expected[airport] = np.median(values[usual])
        unflagged = values[usual & ~beyond]
        lower[airport], upper[airport] = unflagged.min(), unflagged.max()
    return verdicts(
        where,
        metric=METRIC,
        judged=judged,
        expected=expected,
        lower=lower,
        upper=upper,
        score=score,
        severity=np.where(flagged, 1 + severities(score, (STRONG, EXTREME)), 0).astype(np.int16),
        direction=np.where(delay > expected, "late", "early"),
    )
