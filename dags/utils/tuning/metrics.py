"""Metrics: compare the verdicts of a detector with `labels`, with intervals from the bootstrap. Pure.

    one, other = labels.halves(lake.read_silver(2018), 2018)
    verdicts = detectors.run("delaywatch", one).to_pandas()
    ranking = metrics.ranked(labels.worst_days(other), verdicts)
    print(metrics.bootstrap(ranking, metrics.average_precision))

A *ranking* is a frame of labels with a detector's `score` and `flag`. Every metric is a function of a ranking.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt
import pandas as pd

from utils.errors import InvalidInput

Floats = npt.NDArray[np.float64]
Metric = Callable[[pd.DataFrame, Floats | None], Floats]

FLAGS_PER_YEAR = 5.0  # per airport: what a person has time to look at
INTERVAL = 0.95
FEW_AIRPORTS, BLOCK_DAYS = 20, 14  # with fewer airports than this, the bootstrap also resamples blocks of days
DAYS_PER_YEAR = 365.25
_KEY = ["origin", "fl_date"]
_CHUNK = 2_000_000  # weights per chunk, 16 MB


# Rankings


def ranked(labels: pd.DataFrame, verdicts: pd.DataFrame, flags_per_year: float = FLAGS_PER_YEAR) -> pd.DataFrame:
    """Join labels with a detector's verdicts: `labels` with the columns `score` and `flag`.

    verdicts: `origin`, `fl_date`, `score`, higher = more abnormal. Days without a score rank last, so leaving days out
    gains nothing. `flag` is 1 for the highest scores of all airports together, `flags_per_year` for each airport-year
    of labelled days; days that tie at the threshold share the remaining flags equally, so the order of rows does not
    matter. Days without a score get 0. Days that do not count (`is_counted` is False) may use up flags and are then
    dropped.
    """
    scores = verdicts[[*_KEY, "score"]].assign(fl_date=pd.to_datetime(verdicts["fl_date"]))
    ranking = labels.merge(scores, on=_KEY, how="left", validate="one_to_one")
    score = ranking["score"].to_numpy(dtype=np.float64, na_value=np.nan)
    ranking["score"] = np.where(np.isnan(score), -np.inf, score)
    ranking["flag"] = _flags(ranking["score"].to_numpy(), flags_per_year * len(ranking) / DAYS_PER_YEAR)
    if "is_counted" in ranking:
        ranking = ranking[ranking["is_counted"]].drop(columns="is_counted").reset_index(drop=True)
    return ranking


def own_flags(labels: pd.DataFrame, verdicts: pd.DataFrame) -> pd.DataFrame:
    """Return `ranked` with the flags of the detector's own settings instead of a budget of flags.

    A labelled day without a verdict has no flag.
    """
    flags = verdicts.loc[verdicts["is_anomaly"].eq(True), _KEY].assign(flag=1.0)
    flags["fl_date"] = pd.to_datetime(flags["fl_date"])
    ranking = ranked(labels, verdicts).drop(columns="flag")
    return ranking.merge(flags, on=_KEY, how="left", validate="one_to_one").fillna({"flag": 0.0})


def confirmed(ranking: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Return `ranking` with the flags of `other` as the truth.

    other: the ranking of the same detector on the other half, or of another detector. The result's `precision` is the
    share of flags that `other` confirms. It shows that flags are not random, not that they are right: a detector that
    flags every Friday is always confirmed.
    """
    flags = ranking[_KEY].merge(other[[*_KEY, "flag"]], on=_KEY, how="left", validate="one_to_one")["flag"]
    return ranking.assign(is_abnormal=flags.fillna(0.0).to_numpy())


def curve(ranking: pd.DataFrame) -> pd.DataFrame:
    """Return `score`, `precision` and `recall` at each threshold, highest score first."""
    score, is_abnormal = np.sort(_numbers(ranking, "score"))[::-1], _numbers(ranking, "is_abnormal")
    ends = np.flatnonzero(np.append(score[1:] != score[:-1], True)[: len(score)])
    true_positives = is_abnormal[np.argsort(-_numbers(ranking, "score"), kind="stable")].cumsum()[ends]
    with np.errstate(invalid="ignore"):
        return pd.DataFrame(
            {
                "score": score[ends],
                "precision": true_positives / (ends + 1),
                "recall": true_positives / true_positives[-1:],
            }
        )


# Metrics. `weights`, shape (..., rows), give how often each day counts; the result has the shape (...).


def average_precision(ranking: pd.DataFrame, weights: Floats | None = None) -> Floats:
    """Return the mean precision at the scores of the abnormal days; ties are one step. NaN without abnormal days.

    Equal to scikit-learn's average_precision_score: 1 for a perfect ranking, about the share of abnormal days for a
    random one. Depends only on the order of the scores.
    """
    weights = _ones(ranking) if weights is None else weights
    return _average_precision(_numbers(ranking, "score"), _numbers(ranking, "is_abnormal"), weights)


def average_precision_within(
    ranking: pd.DataFrame, weights: Floats | None = None, by: Sequence[str] = ("origin",)
) -> Floats:
    """Return the mean of the average precision of each group of rows with the same `by`: by default, each airport.

    Use it if the scores of two groups need not be comparable. Groups without an abnormal day do not count.
    """
    weights = _ones(ranking) if weights is None else weights
    score, is_abnormal = _numbers(ranking, "score"), _numbers(ranking, "is_abnormal")
    total, weight = np.zeros(weights.shape[:-1]), np.zeros(weights.shape[:-1])
    for rows in ranking.groupby(list(by)).indices.values():
        if not is_abnormal[rows].any():
            continue
        weights_of_group = weights[..., rows]
        mean_weight = weights_of_group.mean(axis=-1)
        if (weights_of_group == weights_of_group[..., :1]).all():  # one weight for all rows does not change the value
            weights_of_group = np.ones(len(rows))
        own = _average_precision(score[rows], is_abnormal[rows], weights_of_group)
        counts = np.where(np.isnan(own), 0.0, mean_weight)
        total, weight = total + counts * np.nan_to_num(own), weight + counts
    return _share(total, weight)


def precision(ranking: pd.DataFrame, weights: Floats | None = None) -> Floats:
    """Return the share of flags that are right. NaN without flags."""
    flag, is_abnormal = _numbers(ranking, "flag"), _numbers(ranking, "is_abnormal")
    weights = _ones(ranking) if weights is None else weights
    return _share(weights @ (flag * is_abnormal), weights @ flag)


def recall(ranking: pd.DataFrame, weights: Floats | None = None) -> Floats:
    """Return the share of abnormal days that are flagged. NaN without abnormal days."""
    flag, is_abnormal = _numbers(ranking, "flag"), _numbers(ranking, "is_abnormal")
    weights = _ones(ranking) if weights is None else weights
    return _share(weights @ (flag * is_abnormal), weights @ is_abnormal)


def events_seen(ranking: pd.DataFrame, share: float = 0.5) -> tuple[int, int]:
    """Return the number of detected events and of all events in the column `event`.

    An event is detected if at least `share` of its airports have a flag on one of its days.
    """
    event_rows = ranking[ranking["event"].notna()]
    airports = event_rows.groupby(["event", "origin"])["flag"].max() >= 0.5
    seen = airports.groupby("event").mean() >= share
    return int(seen.sum()), len(seen)


# Intervals


@dataclass(frozen=True)
class Estimate:
    """A measured value, its interval and the resampled values."""

    value: float
    low: float
    high: float
    resampled: Floats

    def __str__(self) -> str:
        """Format as `0.46 (0.43-0.49)`; `-` if the value is NaN."""
        return "-" if np.isnan(self.value) else f"{self.value:.2f} ({self.low:.2f}-{self.high:.2f})"

    def ratio(self, other: Estimate) -> Estimate:
        """Return the ratio to `other`, paired: both must use the same days, replicates and seed."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return _estimate(float(np.divide(self.value, other.value)), self.resampled / other.resampled)


def bootstrap(
    ranking: pd.DataFrame, metric: Metric, *, block_days: int | None = None, replicates: int = 400, seed: int = 0
) -> Estimate:
    """Return `metric` of the ranking with a 95% percentile interval from resampled airports.

    With `block_days`, blocks of that many calendar days are resampled too, independently, and the weight of a day is
    the product (the pigeonhole bootstrap of Owen, 2007). Use it for few airports, and for neighbours, which share their
    storms. The flags are not recomputed. The interval is widened to contain the estimate, which percentiles of a skewed
    metric may miss. Raises InvalidInput if only one unit can be drawn.
    """
    ranking = ranking.sort_values("score", ascending=False, kind="stable")
    random = np.random.default_rng(seed)
    drawn = [_draws(ranking["origin"], replicates, random)]
    if block_days is not None:
        dates = pd.to_datetime(ranking["fl_date"])
        drawn.append(_draws((dates - dates.min()).dt.days // block_days, replicates, random))
    if all(times.shape[1] < 2 for times, _ in drawn):
        raise InvalidInput(
            "The interval of one airport needs block_days, shorter than its days; pass block_days, or more airports."
        )
    chunk = max(1, _CHUNK // max(1, len(ranking)))
    values = [
        metric(ranking, reduce(np.multiply, [times[start : start + chunk].take(at, axis=1) for times, at in drawn]))
        for start in range(0, replicates, chunk)
    ]
    return _estimate(float(metric(ranking, None)), np.concatenate(values))


def _draws(
    units: pd.Series, replicates: int, random: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """Return how often each unit is drawn (replicates × units), and the position of each row's unit."""
    places, names = pd.factorize(units, sort=True)
    times = random.multinomial(len(names), np.full(len(names), 1 / max(1, len(names))), size=replicates)
    return times.astype(np.float64), np.asarray(places, dtype=np.intp)


def _estimate(value: float, resampled: Floats) -> Estimate:
    usable = resampled[np.isfinite(resampled)]
    if np.isnan(value) or not len(usable):
        return Estimate(value, float("nan"), float("nan"), resampled)
    low, high = np.quantile(usable, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2])
    return Estimate(value, min(float(low), value), max(float(high), value), resampled)


def _flags(score: Floats, budget: float) -> Floats:
    """Return 1 for scores within the budget, equal fractions for ties at its threshold, else 0."""
    is_scored = score > -np.inf
    budget = min(budget, float(is_scored.sum()))
    if not budget:
        return np.zeros(len(score))
    last = np.sort(score)[::-1][int(np.ceil(budget)) - 1]
    above, tied = score > last, score == last
    return np.where(above, 1.0, np.where(tied, (budget - above.sum()) / tied.sum(), 0.0))


def _average_precision(score: Floats, is_abnormal: Floats, weights: Floats) -> Floats:
    if (score[1:] > score[:-1]).any():  # the ranking of a bootstrap is already sorted, and sorting is slow
        order = np.argsort(-score, kind="stable")
        score, is_abnormal, weights = score[order], is_abnormal[order], weights[..., order]
    # Precision is needed only at scores of abnormal days, so all days from one such score to the next are one step.
    steps = np.unique(score[is_abnormal > 0])[::-1]
    if not len(steps):
        return np.full(weights.shape[:-1], np.nan)
    last = np.searchsorted(-score, -steps, side="right")  # one past the last day with at least that score
    starts = np.concatenate([[0], last[:-1]])
    days = np.add.reduceat(weights[..., : last[-1]], starts, axis=-1).cumsum(axis=-1)
    where = np.flatnonzero(is_abnormal > 0)
    gained = np.add.reduceat(weights[..., where] * is_abnormal[where], np.searchsorted(where, starts), axis=-1)
    true_positives = gained.cumsum(axis=-1)
    precisions = np.divide(gained * true_positives, days, out=np.zeros_like(true_positives), where=days > 0)
    return _share(precisions.sum(axis=-1), true_positives[..., -1])


def _numbers(ranking: pd.DataFrame, name: str) -> Floats:
    return ranking[name].to_numpy(dtype=np.float64)


def _ones(ranking: pd.DataFrame) -> Floats:
    return np.ones(len(ranking))


def _share(part: Floats, whole: Floats) -> Floats:
    part, whole = np.asarray(part), np.asarray(whole)
    share: Floats = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return share
