"""Isolation Forest: a day is abnormal if random splits isolate its mean delay after few splits."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from utils.detectors.shared import parameters
from utils.detectors.shared.verdicts import Flags, Floats, calendar, severities, usable, verdicts

METRIC = "mean_dep_delay_min"
MAX_SAMPLES = 256  # days per tree, as in scikit-learn and the paper
STRONG, EXTREME = 0.7, 0.8  # forest scores; an ordinary day has about 0.5, the maximum is 1


class Parameters(parameters.Parameters):
    """Parameters of `detect`."""

    contamination: float = Field(
        0.01, ge=0.0001, le=0.5, description="share of each airport's days that is flagged, in every year"
    )
    n_estimators: int = Field(100, ge=1, le=10_000, description="number of trees of each airport's forest")
    random_state: parameters.Seed = 0
    min_flights: parameters.MinFlights = 5
    min_days: parameters.MinDays = 28


def detect(days: pd.DataFrame, params: Parameters) -> pd.DataFrame:
    """Fit one forest per airport on its daily mean delays and flag the share `contamination` with the highest scores.

    The share is a quota: a quiet year gets as many flags as a bad one. The score is 2 ** (- mean path length / expected
    path length) from Liu, Ting and Zhou, "Isolation Forest" (2008), the negative of `score_samples` of scikit-learn's
    IsolationForest. `expected` is the median, `lower` and `upper` are the range of the unflagged days, in minutes. Days
    with fewer than `min_flights` scheduled flights are neither judged nor used for fitting; airports with fewer than
    `min_days` such days are not judged. `is_excluded` days are scored by the forest and the threshold of the other
    days. Every airport's forest starts from `random_state`, so airports do not influence each other.
    """
    grid = calendar(days)
    known = usable(grid, METRIC, params.min_flights)
    train_mask = known & ~grid.excluded()
    judged = known & (train_mask.sum(axis=0) >= params.min_days)
    delay = grid.numbers(METRIC)
    score = np.full(grid.shape, np.nan)
    flagged = np.zeros(grid.shape, dtype=np.bool_)
    expected, lower, upper = (np.full(grid.shape[1], np.nan) for _ in range(3))
    for airport in np.flatnonzero(judged.any(axis=0)):
        at = judged[:, airport]
        values, usual = delay[at, airport], train_mask[at, airport]
        scores = _scores(values, usual, params)
        beyond = scores > np.percentile(scores[usual], 100 * (1 - params.contamination))
        score[at, airport], flagged[at, airport] = scores, beyond
        expected[airport] = np.median(values[usual])
        unflagged = values[usual & ~beyond]
        lower[airport], upper[airport] = unflagged.min(), unflagged.max()
    return verdicts(
        grid,
        metric=METRIC,
        judged=judged,
        expected=expected,
        lower=lower,
        upper=upper,
        score=score,
        severity=np.where(flagged, 1 + severities(score, (STRONG, EXTREME)), 0).astype(np.int16),
        direction=np.where(delay > expected, "late", "early"),
    )


def _scores(values: Floats, usual: Flags, params: Parameters) -> Floats:
    """Return the scores of an airport's days from a forest that is fitted on the usual days.

    The scores are bit-identical to those of scikit-learn's IsolationForest; decision 0030 says why that class is not
    used.
    """
    import sklearn  # imported on use: 70 MB and 0.7 s for each process that only reads settings
    from sklearn.tree import ExtraTreeRegressor

    points = values[:, None].astype(np.float32)
    fitted = points[usual]
    n_sampled = min(MAX_SAMPLES, len(fitted))
    max_depth = int(np.ceil(np.log2(max(n_sampled, 2))))
    target, draws = _draws(len(fitted), n_sampled, params.n_estimators, params.random_state)
    path_length = np.zeros(len(points))  # sum over the trees
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        for seed, sample in draws:
            regressor = ExtraTreeRegressor(max_features=1, max_depth=max_depth, random_state=seed)
            tree = regressor.fit(fitted[sample], target[sample], check_input=False).tree_
            leaf = tree.apply(points)
            path_length += tree.compute_node_depths()[leaf] + _usual_path_length(tree.n_node_samples[leaf]) - 1.0
    scores: Floats = 2 ** (-path_length / (params.n_estimators * _usual_path_length(np.array([n_sampled]))))
    return scores


@lru_cache
def _draws(
    n_days: int, n_sampled: int, n_trees: int, random_state: int
) -> tuple[Floats, list[tuple[int, npt.NDArray[np.intp]]]]:
    """Return the random draws of scikit-learn's forest: a target to fit, and each tree's seed and sample of days.

    The draws depend only on the number of days, so most airports of a year share them.
    """
    from sklearn.utils.random import sample_without_replacement

    most = np.iinfo(np.int32).max
    target = np.random.RandomState(random_state).uniform(size=n_days)
    draws = []
    for seed in np.random.RandomState(random_state).randint(most, size=n_trees):
        random = np.random.RandomState(seed)
        sample_without_replacement(1, 1, random_state=random)  # scikit-learn draws the feature first; there is only one
        sample = sample_without_replacement(n_days, n_sampled, random_state=random)
        draws.append((np.random.RandomState(seed).randint(most), sample))
    return target, draws


def _usual_path_length(n_points: npt.NDArray[np.intp]) -> Floats:
    """Return the mean path length of an unsuccessful search in a binary tree of `n_points` (Liu et al., 2008)."""
    n = np.maximum(n_points, 3).astype(np.float64)
    length = 2.0 * (np.log(n - 1.0) + np.euler_gamma) - 2.0 * (n - 1.0) / n
    return np.where(n_points > 2, length, np.where(n_points == 2, 1.0, 0.0))
