"""The measures of the benchmark: the labels of each year, and what is computed for each contestant.

utils.tuning has the labels and the metrics; notebook 03 uses the same. This module chooses years and combines them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd

from benchmarks.detection.data import Year, is_tuned
from utils.analysis.airports import METRO_AREAS
from utils.tuning import labels, metrics
from utils.tuning.metrics import BLOCK_DAYS, FEW_AIRPORTS, Estimate, Floats, Metric

Verdicts = Mapping[tuple[str, str], pd.DataFrame]  # by year and part: origin, fl_date and score

WIDE, FEW, PLANTED = "many airports", "few airports", "planted"  # groups of years: two of real years, synthetic ones
EFFECTIVE, CANCELLED, MEAN = "mean_effective_delay_min", "cancelled_share", "mean_dep_delay_min"
PERIODS_DAYS = (10, 30, 75, 180, 365, 1000)  # stated return periods
CLOSED_SHARE, CLOSED_FLIGHTS = 0.25, 20  # a day with this share of this many flights cancelled is a closure
CONFIRMED_SHARE = 0.05  # a flag is confirmed if the other half's day is among this share of the airport's worst
CURVES = ((WIDE, f"own {EFFECTIVE}"), (FEW, f"own {EFFECTIVE}"), (PLANTED, "planted"))
CURVE_POINTS = 200


def together(ranking: pd.DataFrame, weights: Floats | None = None) -> Floats:
    """Return the average precision with all airports of a year in one list; mean over years and halves."""
    return metrics.average_precision_within(ranking, weights, by=["run"])


def within(ranking: pd.DataFrame, weights: Floats | None = None) -> Floats:
    """Return the average precision within each airport; mean over airports, years and halves."""
    return metrics.average_precision_within(ranking, weights, by=["run", "origin"])


@dataclass(frozen=True)
class Measure:
    """One row of the main table."""

    title: str
    years: str  # WIDE, FEW or PLANTED
    truth: str  # the labels, a name of `_truths`
    metric: Metric
    reference: str  # the signed three sigma that sees the series of the labels


_BY_EFFECTIVE, _BY_MEAN = "signed three sigma, effective delay", "signed three sigma, mean delay"
MEASURES = (
    Measure("effective delay, network's worst days, together", WIDE, f"network {EFFECTIVE}", together, _BY_EFFECTIVE),
    Measure("effective delay, together", WIDE, f"own {EFFECTIVE}", together, _BY_EFFECTIVE),
    Measure("effective delay, within airports", WIDE, f"own {EFFECTIVE}", within, _BY_EFFECTIVE),
    Measure("cancelled share, together", WIDE, f"own {CANCELLED}", together, _BY_EFFECTIVE),
    Measure("cancelled share, within airports", WIDE, f"own {CANCELLED}", within, _BY_EFFECTIVE),
    Measure("mean delay, together", WIDE, f"own {MEAN}", together, _BY_MEAN),
    Measure("mean delay, within airports", WIDE, f"own {MEAN}", within, _BY_MEAN),
    Measure("neighbours, effective delay, within airports", WIDE, "neighbours", within, _BY_EFFECTIVE),
    Measure("effective delay, within airports", FEW, f"own {EFFECTIVE}", within, _BY_EFFECTIVE),
    Measure("cancelled share, within airports", FEW, f"own {CANCELLED}", within, _BY_EFFECTIVE),
    Measure("mean delay, within airports", FEW, f"own {MEAN}", within, _BY_MEAN),
    Measure("neighbours, effective delay, within airports", FEW, "neighbours", within, _BY_EFFECTIVE),
    Measure("average precision, together", PLANTED, "planted", together, _BY_EFFECTIVE),
    Measure("precision at 5 flags", PLANTED, "planted", metrics.precision, _BY_EFFECTIVE),
    Measure("recall at 5 flags", PLANTED, "planted", metrics.recall, _BY_EFFECTIVE),
)


@dataclass(frozen=True)
class Task:
    """Labels, and the airport-days in which a contestant has to find them."""

    year: str
    part: str  # a key of Year.parts
    labels: pd.DataFrame


@dataclass
class OwnFlags:
    """The flags that a detector sets by its own levels, on one group of real years; each pair is (hits, all)."""

    flags_per_year: float  # per airport
    closures: tuple[int, int]  # closures with a flag
    known: tuple[int, int]  # known visible days with a flag
    confirmed: tuple[int, int]  # flags on one half that the other half confirms


@dataclass
class Result:
    """What was measured of one contestant."""

    estimates: dict[tuple[str, str], Estimate] = field(default_factory=dict)  # by years and title of a Measure
    curves: dict[str, pd.DataFrame] = field(default_factory=dict)  # by years: metrics.curve
    storms: tuple[int, int] = (0, 0)  # planted storms with a flag at half of their airports, all storms
    own: dict[str, OwnFlags] = field(default_factory=dict)  # by years, for detectors with levels of their own
    periods: dict[str, dict[int, Estimate]] = field(default_factory=dict)  # by group: share of days at a stated period
    flagged: pd.DataFrame = field(default_factory=pd.DataFrame)  # real days with the 5 flags per airport-year


def group_of(year: Year) -> str:
    """Return WIDE, FEW or PLANTED."""
    if year.truth is not None:
        return PLANTED
    return WIDE if year.airports >= FEW_AIRPORTS else FEW


def tasks(years: Sequence[Year]) -> dict[tuple[str, str], list[Task]]:
    """Return the labels of all years that are not tuned on, by group of years and name."""
    found: dict[tuple[str, str], list[Task]] = {}
    for year in years:
        for name, part, truth in _truths(year) if not is_tuned(year.name) else ():
            if len(truth):
                found.setdefault((group_of(year), name), []).append(Task(year.name, part, truth))
    return found


def measure(
    verdicts: Verdicts,
    years: Sequence[Year],
    tasks: Mapping[tuple[str, str], Sequence[Task]],
    known: pd.DataFrame,
    replicates: int,
    *,
    is_return_period: bool = False,
) -> Result:
    """Return the result of a contestant, from its verdicts on every part of every year.

    is_return_period: its score states a return period in days.
    """
    result = Result()
    rankings = {name: _ranking(group, verdicts) for name, group in tasks.items()}
    for each in MEASURES:
        if (each.years, each.truth) in rankings:
            ranking = rankings[each.years, each.truth]
            with_blocks = each.truth == "neighbours" or each.years == FEW
            result.estimates[each.years, each.title] = _estimate(
                ranking, each.metric, replicates, with_blocks=with_blocks
            )
    result.curves = {group: _curve(rankings[group, name]) for group, name in CURVES if (group, name) in rankings}
    if (planted := rankings.get((PLANTED, "planted"))) is not None:
        result.storms = metrics.events_seen(planted)
    reported = [year for year in years if not is_tuned(year.name)]
    real = [_flown(year) for year in reported if year.truth is None]
    result.flagged = _ranking(real, verdicts)[["origin", "fl_date", "flag"]] if real else pd.DataFrame()
    if all("is_anomaly" in frame for frame in verdicts.values()):
        for group in (WIDE, FEW):
            if group_years := [year for year in reported if group_of(year) == group]:
                result.own[group] = _own_flags(group_years, verdicts, known)
    if is_return_period:
        result.periods = _periods(years, verdicts, replicates)
    return result


def _truths(year: Year) -> Iterable[tuple[str, str, pd.DataFrame]]:
    """Yield the name of the labels, the part of the year in which to find them, and the labels."""
    if year.truth is not None:
        yield "planted", "days", labels.planted_days(year.days, year.truth)
        return
    for number, (one, other) in enumerate(year.splits):
        for part, truth in (("one", other), ("other", one)):
            days = truth.assign(cancelled_share=truth["cancelled"] / truth["scheduled"].where(truth["scheduled"] > 0))
            yield f"network {EFFECTIVE}", f"{number}.{part}", labels.networks_worst_days(days, metric=EFFECTIVE)
            for metric in (EFFECTIVE, MEAN, CANCELLED):
                yield f"own {metric}", f"{number}.{part}", labels.worst_days(days, metric=metric)
    yield "neighbours", "days", labels.neighbours_worst_days(year.days, METRO_AREAS)


def _flown(year: Year) -> Task:
    """Return the days of a year as labels that are all normal, to count flags."""
    days = year.days.loc[year.days["scheduled"] > 0, ["origin", "fl_date"]]
    dates = pd.to_datetime(days["fl_date"])
    return Task(year.name, "days", days.assign(fl_date=dates, is_abnormal=False).reset_index(drop=True))


def _ranking(tasks: Iterable[Task], verdicts: Verdicts) -> pd.DataFrame:
    """Return the rankings of some tasks as one; an airport in two years counts as two."""
    rankings: list[pd.DataFrame] = []
    for task in tasks:
        ranking = metrics.ranked(task.labels, verdicts[task.year, task.part])
        ranking["run"], ranking["origin"] = f"{task.year} {task.part}", task.year + " " + ranking["origin"]
        if "event" in ranking:
            ranking["event"] = task.year + " " + ranking["event"]  # missing values stay missing
        rankings.append(ranking)
    return pd.concat(rankings, ignore_index=True)


def _estimate(ranking: pd.DataFrame, metric: Metric, replicates: int, *, with_blocks: bool) -> Estimate:
    block_days = BLOCK_DAYS if with_blocks or ranking["origin"].nunique() < FEW_AIRPORTS else None
    return metrics.bootstrap(ranking, metric, block_days=block_days, replicates=replicates)


def _curve(ranking: pd.DataFrame) -> pd.DataFrame:
    """Return some points of the curve of precision and recall, closer together where recall is low."""
    curve = metrics.curve(ranking)
    curve = curve[np.isfinite(curve["score"])].reset_index(drop=True)
    rows = np.unique(np.geomspace(1, max(len(curve), 1), CURVE_POINTS).astype(int)) - 1
    some: pd.DataFrame = curve.iloc[rows].reset_index(drop=True) if len(curve) else curve
    return some


def _own_flags(years: Sequence[Year], verdicts: Verdicts, known: pd.DataFrame) -> OwnFlags:
    """Count the flags of a detector on real years, and how many closures, known days and other halves they hit."""
    flags, scored, closures, seen, confirmed = 0, 0, np.zeros(2, int), np.zeros(2, int), np.zeros(2, int)
    for year in years:
        joined = year.days.merge(verdicts[year.name, "days"], on=["origin", "fl_date"], validate="one_to_one")
        is_flag = joined["is_anomaly"].eq(True)
        flags, scored = flags + int(is_flag.sum()), scored + int((joined["status"] == "ok").sum())
        is_closed = (joined["scheduled"] >= CLOSED_FLIGHTS) & (
            joined["cancelled"] >= CLOSED_SHARE * joined["scheduled"]
        )
        closures += [int((is_flag & is_closed).sum()), int(is_closed.sum())]
        days = joined.assign(fl_date=pd.to_datetime(joined["fl_date"]), is_flag=is_flag)
        of_year = known[known["year"] == year.name].merge(days, on=["origin", "fl_date"])
        seen += [int(of_year["is_flag"].sum()), len(of_year)]
        for number, (one, other) in enumerate(year.splits):
            for part, truth in (("one", other), ("other", one)):
                worst = labels.worst_days(truth, share=CONFIRMED_SHARE)
                ranking = metrics.own_flags(worst, verdicts[year.name, f"{number}.{part}"])
                is_right = (ranking["flag"] > 0) & ranking["is_abnormal"]
                confirmed += [int(is_right.sum()), int((ranking["flag"] > 0).sum())]
    per_year = flags * metrics.DAYS_PER_YEAR / scored if scored else float("nan")
    return OwnFlags(per_year, *((int(pair[0]), int(pair[1])) for pair in (closures, seen, confirmed)))


def _periods(years: Sequence[Year], verdicts: Verdicts, replicates: int) -> dict[str, dict[int, Estimate]]:
    """Return the share of scored days that reach each stated return period, by group of years; `tuned` is one.

    Planted days are left out: the generator adds them to the days of which the return periods speak.
    """
    groups: dict[str, list[pd.DataFrame]] = {}
    for year in years:
        days = verdicts[year.name, "days"].dropna(subset="score")
        days = days.assign(fl_date=pd.to_datetime(days["fl_date"]))
        if year.truth is not None:
            planted = labels.planted_days(year.days, year.truth, is_background_abnormal=False)
            days = days.merge(planted[~planted["is_abnormal"]], on=["origin", "fl_date"])
        name = "tuned" if is_tuned(year.name) else group_of(year)
        groups.setdefault(name, []).append(days.assign(origin=year.name + " " + days["origin"]))
    return {
        name: {
            days: _estimate(
                pd.concat(frames, ignore_index=True), partial(_share_reaching, days), replicates, with_blocks=True
            )
            for days in PERIODS_DAYS
        }
        for name, frames in groups.items()
    }


def _share_reaching(score: float, ranking: pd.DataFrame, weights: Floats | None = None) -> Floats:
    """Return the share of days with at least this score."""
    reaches = (ranking["score"] >= score).to_numpy(dtype=np.float64)
    if weights is None:
        return np.asarray(reaches.mean())
    share: Floats = weights @ reaches / np.maximum(weights.sum(axis=-1), 1e-9)
    return share
