"""Evaluate verdicts: labels independent of any detector, rankings, measures and their intervals. Pure.

Labels have three sources. *Split halves*: the flights of a year are split into two halves; a detector judges one half,
and the worst days of the other half are the truth. *Neighbours*: the truth of an airport is the worst days of the
airports around it. *Planted truth*: a synthetic year with known abnormal days. In notebook 03, on a user's own year:

    one, other = evaluation.halves(lake.read_silver(2018), 2018)
    ranking = evaluation.ranked(evaluation.worst_days(other), detectors.run("delaywatch", one).to_pandas())
    print(evaluation.bootstrap(ranking, evaluation.average_precision))

*Labels* are a frame with `origin`, `fl_date` and `is_abnormal`, one row per airport-day. `ranked` adds a detector's
scores and flags, which makes it a *ranking*. benchmarks/detectors.py chooses the years and the detectors and prints the
results; gold computes the days.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from utils.errors import InvalidInput
from utils.layers import gold, silver

Floats = npt.NDArray[np.float64]
Measure = Callable[[pd.DataFrame, Floats | None], Floats]

METRIC = "mean_effective_delay_min"
MIN_FLIGHTS = 5  # days with fewer flights get no label: their mean is too noisy
PLANTED = ("storm", "strong", "moderate", "traffic_drop")  # kinds of a truth file that a detector should flag
BACKGROUND = "background"  # as bad as a planted day but not planted: three robust sigmas or more
NEUTRAL = ("gap",)  # days without flights
ORDINARY = ("short_presence",)  # an airport served for some weeks: its days are normal
FLAGS_PER_YEAR = 5.0  # per airport: what a person has time to look at
TINY_FLIGHTS, HUB_FLIGHTS = 10, 200  # flights per day; half of a tiny airport's flights are too few for a verdict
INTERVAL = 0.95
FEW_AIRPORTS, BLOCK_DAYS = 20, 14  # with fewer airports than this, the bootstrap also resamples blocks of days
DAYS_PER_YEAR = 365.25
_KEY = ["origin", "fl_date"]
_CHUNK = 2_000_000  # weights per chunk, 16 MB


# Labels


def halves(tables: Iterable[pa.Table], year: int, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the airport-days (schemas.AIRPORT_DAYS) of each half of a year of silver tables.

    A hash of the flight's natural key and `seed` assigns each flight to one half, whatever the order of rows and
    tables. Raises InvalidInput if a half is empty.
    """
    sums = gold.DaySums(year), gold.DaySums(year)
    for flights in tables:
        is_other = (silver.fingerprints(flights, seed=seed) & np.uint64(1)).astype(np.bool_)
        for half, is_in in zip(sums, (~is_other, is_other), strict=True):
            half.add(gold.day_sums(flights.take(pa.array(np.flatnonzero(is_in)))))
    tables_of_halves = tuple(half.table() for half in sums)
    if not all(half.num_rows for half in tables_of_halves):
        raise InvalidInput(f"{year} has too few flights to be split into halves; choose a year with more flights.")
    one, other = (gold.airport_days(half, year).to_pandas(date_as_object=False) for half in tables_of_halves)
    return one, other


def worst_days(
    days: pd.DataFrame, share: float = 0.02, metric: str = METRIC, min_flights: int = MIN_FLIGHTS
) -> pd.DataFrame:
    """Label the `share` (rounded up) of each airport's days with the highest `metric`.

    Only days with at least `min_flights` flights are labelled.
    """
    counted = days[(days["scheduled"] >= min_flights) & days[metric].notna()]
    is_worst = counted.groupby("origin")[metric].transform(lambda values: _is_worst(values, share)).astype(np.bool_)
    return _labels(counted, is_worst)


def networks_worst_days(
    days: pd.DataFrame, share: float = 0.02, metric: str = METRIC, min_flights: int = MIN_FLIGHTS
) -> pd.DataFrame:
    """Label the `share` of all airports' days together with the highest `metric`; a few airports get most of them."""
    counted = days[(days["scheduled"] >= min_flights) & days[metric].notna()]
    return _labels(counted, _is_worst(counted[metric], share))


def neighbours_worst_days(
    days: pd.DataFrame,
    areas: Iterable[Collection[str]],
    share: float = 0.05,
    metric: str = METRIC,
    min_flights: int = MIN_FLIGHTS,
) -> pd.DataFrame:
    """Label each airport's days by the other airports of its area: their worst `share` of days, weighted by flights.

    An airport's own flights do not enter its labels. Areas with fewer than two airports in `days` give no labels; an
    airport belongs to at most one area.
    """
    counted = days[(days["scheduled"] >= min_flights) & days[metric].notna()]
    labels = [_labels(counted.iloc[:0], pd.Series(dtype=np.bool_))]
    for area in areas:
        in_area = counted[counted["origin"].isin(area)]
        for airport in sorted(in_area["origin"].unique()):
            others = in_area[in_area["origin"] != airport]
            minutes = (others[metric] * others["scheduled"]).groupby(others["fl_date"]).sum()
            theirs = minutes / others.groupby("fl_date")["scheduled"].sum()
            own = in_area[(in_area["origin"] == airport) & in_area["fl_date"].isin(theirs.index)]
            if len(own):
                labels.append(_labels(own, _is_worst(own["fl_date"].map(theirs), share)))
    return pd.concat(labels, ignore_index=True)


def planted_days(days: pd.DataFrame, truth: pd.DataFrame, *, is_background_abnormal: bool = True) -> pd.DataFrame:
    """Return the labels of a synthetic year from its truth file (`date`, `origin`, `kind`, `event`).

    benchmarks/make_year.py writes the truth file. Days of a kind in PLANTED are abnormal. BACKGROUND days, as bad but
    not planted, are abnormal too, or do not count (`is_counted`) without `is_background_abnormal`: flagging them is
    neither right nor wrong. Days of NEUTRAL never count; all others are normal. Two more columns: `kind`, and the
    `event` of storms. Raises InvalidInput for an unknown kind and for a planted day that the year does not have.
    """
    abnormal = {*PLANTED, BACKGROUND} if is_background_abnormal else {*PLANTED}
    left_out = {*NEUTRAL, BACKGROUND} - abnormal
    unknown = sorted(set(truth["kind"]) - {*PLANTED, BACKGROUND, *NEUTRAL, *ORDINARY})
    if unknown:
        known = ", ".join([*PLANTED, BACKGROUND, *NEUTRAL, *ORDINARY])
        raise InvalidInput(f"{unknown[0]} is not a kind of a truth file; use one of {known}.")
    truth_days = truth[["origin", "kind", "event"]].assign(fl_date=pd.to_datetime(truth["date"]))
    flown = days.loc[days["scheduled"] > 0, _KEY].assign(fl_date=pd.to_datetime(days["fl_date"]))
    joined = flown.merge(truth_days, on=_KEY, how="left", validate="one_to_one")
    if int(joined["kind"].isin(PLANTED).sum()) != int(truth_days["kind"].isin(PLANTED).sum()):
        raise InvalidInput("The truth file has planted days that the year does not have; pass files of the same run.")
    events = joined["event"].where(joined["kind"] == "storm")
    labels = _labels(joined, joined["kind"].isin(abnormal)).assign(is_counted=~joined["kind"].isin(left_out))
    return labels.assign(kind=joined["kind"], event=events)


def sizes(
    days: pd.DataFrame, tiny_flights: float = TINY_FLIGHTS, hub_flights: float = HUB_FLIGHTS
) -> dict[str, frozenset[str]]:
    """Group airports by scheduled flights per day.

    `tiny` have fewer than `tiny_flights`; `small`, `medium` and `large` are the thirds of the others; `hubs` are the
    airports of the thirds with at least `hub_flights`. A group may be empty.
    """
    flights = days.groupby("origin")["scheduled"].mean().sort_index().sort_values(kind="stable")
    ordered = flights[flights >= tiny_flights]
    cuts = [0, len(ordered) // 3, 2 * len(ordered) // 3, len(ordered)]
    thirds = {
        name: frozenset(ordered.index[low:high])
        for name, low, high in zip(("small", "medium", "large"), cuts, cuts[1:], strict=False)
    }
    tiny, hubs = flights.index[flights < tiny_flights], ordered.index[ordered >= hub_flights]
    return {"tiny": frozenset(tiny), **thirds, "hubs": frozenset(hubs)}


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


# Measures. `weights`, shape (..., rows), give how often each day counts; the result has the shape (...).


def average_precision(ranking: pd.DataFrame, weights: Floats | None = None) -> Floats:
    """Return the mean precision at the scores of the abnormal days; ties are one step. NaN without abnormal days.

    Equal to scikit-learn's average_precision_score: 1 for a perfect ranking, about the share of abnormal days for a
    random one. Depends only on the order of the scores.
    """
    score, is_abnormal = _numbers(ranking, "score"), _numbers(ranking, "is_abnormal")
    weights = _ones(ranking) if weights is None else weights
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


def average_precision_within(ranking: pd.DataFrame, weights: Floats | None = None) -> Floats:
    """Return the mean of the average precision of each airport, for airports that are not one network."""
    weights = _ones(ranking) if weights is None else weights
    total, weight = np.zeros(weights.shape[:-1]), np.zeros(weights.shape[:-1])
    for rows in ranking.groupby("origin").indices.values():
        own = average_precision(ranking.iloc[rows], weights[..., rows])
        counts = np.where(np.isnan(own), 0.0, weights[..., rows].mean(axis=-1))
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
    ranking: pd.DataFrame, measure: Measure, *, block_days: int | None = None, replicates: int = 400, seed: int = 0
) -> Estimate:
    """Return `measure` of the ranking with a 95% percentile interval from resampled airports.

    With `block_days`, blocks of that many calendar days are resampled too, independently, and the weight of a day is
    the product (the pigeonhole bootstrap of Owen, 2007). Use it for few airports, and for neighbours, which share their
    storms. The flags are not recomputed. The interval is widened to contain the estimate, which percentiles of a skewed
    measure may miss. Raises InvalidInput if only one unit can be drawn.
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
        measure(ranking, reduce(np.multiply, [times[start : start + chunk].take(at, axis=1) for times, at in drawn]))
        for start in range(0, replicates, chunk)
    ]
    return _estimate(float(measure(ranking, None)), np.concatenate(values))


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


def _labels(days: pd.DataFrame, is_abnormal: pd.Series) -> pd.DataFrame:
    labels = {"origin": days["origin"], "fl_date": pd.to_datetime(days["fl_date"]), "is_abnormal": is_abnormal}
    return pd.DataFrame(labels).reset_index(drop=True)


def _is_worst(values: pd.Series, share: float) -> pd.Series:
    """Return True for the highest `share` of values, rounded up, including all ties with the last one."""
    is_worst: pd.Series = values.rank(ascending=False, method="min") <= np.ceil(share * len(values))
    return is_worst


def _flags(score: Floats, budget: float) -> Floats:
    """Return 1 for scores within the budget, equal fractions for ties at its threshold, else 0."""
    is_scored = score > -np.inf
    budget = min(budget, float(is_scored.sum()))
    if not budget:
        return np.zeros(len(score))
    last = np.sort(score)[::-1][int(np.ceil(budget)) - 1]
    above, tied = score > last, score == last
    return np.where(above, 1.0, np.where(tied, (budget - above.sum()) / tied.sum(), 0.0))


def _numbers(ranking: pd.DataFrame, name: str) -> Floats:
    return ranking[name].to_numpy(dtype=np.float64)


def _ones(ranking: pd.DataFrame) -> Floats:
    return np.ones(len(ranking))


def _share(part: Floats, whole: Floats) -> Floats:
    part, whole = np.asarray(part), np.asarray(whole)
    share: Floats = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return share
