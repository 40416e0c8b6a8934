"""Three sigma: a day is abnormal when its mean delay lies far from the airport's mean of the year."""

from __future__ import annotations

import numpy as np
import pandas as pd

from utils.detectors.verdicts import calendar, severities, usable, verdicts

METRIC = "mean_dep_delay_min"
LIMITS = {"threshold": (0.1, 100.0), "min_flights": (1, 1_000), "min_days": (2, 366)}


def detect(days: pd.DataFrame, *, threshold: float = 3.0, min_flights: int = 5, min_days: int = 28) -> pd.DataFrame:
    """Judge each day by z = (mean delay - mean of the year) / standard deviation of the year, both of its airport.

    The score is |z|. A day is mild from `threshold` on, strong one deviation further and extreme two further; `lower`
    and `upper` are the mean -/+ `threshold` deviations, in minutes. Days with fewer than `min_flights` scheduled
    flights are neither judged nor counted, nor is an airport with fewer than `min_days` such days; days that are
    `is_excluded` are judged and not counted. The rule is Shewhart's (1931).
    """
    where = calendar(days)
    known = usable(where, METRIC, min_flights)
    train_mask = known & ~where.excluded()
    delay = np.where(known, where.numbers(METRIC), 0.0)
    count = train_mask.sum(axis=0)
    mean = delay.sum(axis=0, where=train_mask) / np.maximum(count, 1)
    deviation = np.where(known, delay - mean, 0.0)
    sigma = np.sqrt((deviation**2).sum(axis=0, where=train_mask) / np.maximum(count - 1, 1))
    score = np.abs(deviation) / np.where(sigma > 0, sigma, 1.0)
    return verdicts(
        where,
        metric=METRIC,
        judged=known & (count >= min_days),
        expected=mean,
        lower=mean - threshold * sigma,
        upper=mean + threshold * sigma,
        score=score,
        severity=severities(score, (threshold, threshold + 1, threshold + 2)),
        direction=np.where(deviation > 0, "late", "early"),
    )
