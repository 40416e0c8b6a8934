"""The measures of benchmarks/detectors.py for one detector, and their labels. Comparison and output are elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import trials
from benchmarks.trials import Trial
from utils.analysis.airports import METRO_AREAS
from utils.tuning import evaluation
from utils.tuning.evaluation import BLOCK_DAYS, FEW_AIRPORTS, Estimate, Measure

GROUPS = ("hubs", "large", "medium", "small", "tiny")
# After an area whose airports are all hubs; after data that our own detector was tuned on.
HUBS, TUNED = " *", " (tuned)"
# The metrics of the worst days for A and B; A is also measured with the worst days of the network.
LABELS = (("", "mean_effective_delay_min"), (" mean", "mean_dep_delay_min"))

Verdicts = Mapping[tuple[str, str], pd.DataFrame]  # by trial and part: origin, fl_date and score


@dataclass(frozen=True)
class Column:
    """One measure of the main table: its ranking, title and explanation."""

    title: str
    ranking: str
    measure: Measure
    meaning: str


COLUMNS = (
    Column("A ap", "A", evaluation.average_precision, "average precision"),
    Column(
        "A ap network", "A network", evaluation.average_precision, "the same for the worst 2% of all airports' days"
    ),
    Column("A ap mean", "A mean", evaluation.average_precision, "the same for the worst days by mean delay"),
    Column("A prec", "A", evaluation.precision, "precision of the flags"),
    Column("A recall", "A", evaluation.recall, "recall of the flags"),
    Column(
        "A conf", "A confirmed", evaluation.precision, "share of flags that the detector sets on the other half too"
    ),
    Column("B ap", "B", evaluation.average_precision_within, "mean of the airports' own average precision"),
    Column("B ap mean", "B mean", evaluation.average_precision_within, "the same for the worst days by mean delay"),
    Column("C ap", "C", evaluation.average_precision, "average precision"),
    Column("C prec", "C", evaluation.precision, "precision of the flags"),
    Column("C recall", "C", evaluation.recall, "recall of the flags"),
    Column("C prec planted", "C planted", evaluation.precision, "precision without the background days"),
)


@dataclass(frozen=True)
class Task:
    """Labels, and the airport-days in which a detector has to find them."""

    trial: str
    part: str  # a key of Trial.parts
    labels: pd.DataFrame


@dataclass(frozen=True)
class Bench:
    """The tasks of every detector."""

    trials: Mapping[str, Trial]
    # By ranking. A, B and C contain data that no detector was tuned on, `tuned A` and `tuned B` the rest; `areas` and
    # `years` are the neighbours and split halves of every real year, `real` its days without a label.
    tasks: Mapping[str, Sequence[Task]]
    network: str | None  # the real year with the most airports, for A
    known: pd.DataFrame  # trial, fl_date, origin, kind, sure
    replicates: int


@dataclass
class Result:
    """The measured values of one detector."""

    main: dict[str, Estimate] = field(default_factory=dict)  # by title of the column
    tuned: dict[str, Estimate] = field(default_factory=dict)  # the same on the data that our own detector was tuned on
    by_size: dict[tuple[str, str], Estimate] = field(default_factory=dict)  # by group and title
    by_kind: dict[str, Estimate] = field(default_factory=dict)  # recall of each kind of planted day
    by_area: dict[str, Estimate] = field(default_factory=dict)
    by_year: dict[str, Estimate] = field(default_factory=dict)
    storms: tuple[int, int] = (0, 0)  # detected, planted
    flagged: pd.DataFrame = field(default_factory=pd.DataFrame)  # origin, fl_date and flag on all real days
    known: pd.DataFrame = field(default_factory=pd.DataFrame)  # Bench.known with rank and days
    cpu_s: float = float("nan")  # for a national year


def bench(years: Iterable[Trial], events: Path | None, replicates: int) -> Bench:
    """Return the tasks for the years; `events` is a list of known days (events.csv) or None."""
    by_name = {trial.name: trial for trial in years}
    real = [trial for trial in by_name.values() if trial.halves]
    network = max(real, key=lambda trial: trial.airports).name if real else None
    tasks: dict[str, list[Task]] = {}
    for trial in by_name.values():
        sizes = evaluation.sizes(trial.days).items()
        for ranking, part, labels in _labels(trial, is_network=trial.name == network):
            groups = {f"is_{group}": labels["origin"].isin(airports) for group, airports in sizes}
            is_tuned = np.array([trials.is_tuned(trial.name, origin) for origin in labels["origin"]], dtype=np.bool_)
            every = labels.assign(is_tuned=is_tuned, **groups)
            if ranking in {"areas", "years", "real"}:
                parts = {ranking: every}
            else:
                parts = {ranking: every[~is_tuned], f"tuned {ranking}": every[is_tuned]}
            for name, rows in parts.items():
                if len(rows):
                    tasks.setdefault(name, []).append(Task(trial.name, part, rows.reset_index(drop=True)))
    return Bench(by_name, tasks, network, _known_days(events, by_name), replicates)


def measure(verdicts: Verdicts, bench: Bench) -> Result:
    """Return all measures except seconds, from a detector's verdicts on every part of every trial."""
    result = Result()
    rankings = {name: _ranking(tasks, verdicts) for name, tasks in bench.tasks.items()}
    for name in {"A", "tuned A"} & rankings.keys():
        one, other = (_ranking([task], verdicts) for task in bench.tasks[name])
        both = [evaluation.confirmed(one, other), evaluation.confirmed(other, one)]
        rankings[f"{name} confirmed"] = pd.concat(both, ignore_index=True)

    def estimate(ranking: pd.DataFrame, measure: Measure, *, with_blocks: bool = False) -> Estimate:
        is_few = ranking["origin"].nunique() < FEW_AIRPORTS
        block_days = BLOCK_DAYS if with_blocks or is_few else None
        return evaluation.bootstrap(ranking, measure, block_days=block_days, replicates=bench.replicates)

    for column in COLUMNS:
        has_neighbours = column.measure is evaluation.average_precision_within
        for estimates, name in ((result.main, column.ranking), (result.tuned, f"tuned {column.ranking}")):
            if name in rankings:
                estimates[column.title] = estimate(rankings[name], column.measure, with_blocks=has_neighbours)
        for group in () if has_neighbours or column.ranking not in rankings else GROUPS:
            whole = rankings[column.ranking]
            if len(part := whole[whole[f"is_{group}"]]):
                result.by_size[group, column.title] = estimate(part, column.measure)
    for places, estimates in ((_areas(rankings), result.by_area), (_years(rankings), result.by_year)):
        for place, rows in places:
            estimates[place] = estimate(rows, evaluation.average_precision_within, with_blocks=True)
    if "C" in rankings:
        result.storms = evaluation.events_seen(rankings["C"])
        for kind, part in rankings["C"][rankings["C"]["is_abnormal"]].groupby("kind"):
            result.by_kind[str(kind)] = estimate(part, evaluation.recall)
    if "real" in rankings:
        result.flagged = rankings["real"][["origin", "fl_date", "flag"]]
    result.known = _ranks(verdicts, bench)
    return result


def _labels(trial: Trial, *, is_network: bool) -> Iterable[tuple[str, str, pd.DataFrame]]:
    """Yield (ranking, part, labels) of one year."""
    if trial.truth is not None:
        yield "C", "days", evaluation.planted_days(trial.days, trial.truth)
        yield "C planted", "days", evaluation.planted_days(trial.days, trial.truth, is_background_abnormal=False)
        return
    flown = trial.days.loc[trial.days["scheduled"] > 0, ["origin", "fl_date"]].reset_index(drop=True)
    yield "real", "days", flown.assign(is_abnormal=False)
    truths = (("one", trial.parts["other"]), ("other", trial.parts["one"]))
    for part, truth in truths if is_network else ():
        yield "A network", part, evaluation.networks_worst_days(truth)
    for words, metric in LABELS:
        for part, truth in truths:
            labels = evaluation.worst_days(truth, metric=metric)
            if is_network:
                yield f"A{words}", part, labels
            if not words:
                yield "years", part, labels
        labels = evaluation.neighbours_worst_days(trial.days, METRO_AREAS, metric=metric)
        yield f"B{words}", "days", labels
        if not words:
            yield "areas", "days", labels


def _ranking(tasks: Iterable[Task], verdicts: Verdicts) -> pd.DataFrame:
    """Return the rankings of some tasks as one; an airport in two years counts as two."""
    rankings = []
    for task in tasks:
        ranking = evaluation.ranked(task.labels, verdicts[task.trial, task.part])
        ranking["airport"], ranking["trial"] = ranking["origin"], task.trial
        ranking["origin"] = task.trial + " " + ranking["origin"]
        if "event" in ranking:
            ranking["event"] = task.trial + " " + ranking["event"]  # missing values stay missing
        rankings.append(ranking)
    return pd.concat(rankings, ignore_index=True)


def _areas(rankings: Mapping[str, pd.DataFrame]) -> Iterable[tuple[str, pd.DataFrame]]:
    """Yield each area in each real year."""
    for area in METRO_AREAS if "areas" in rankings else ():
        in_area = rankings["areas"][rankings["areas"]["airport"].isin(area)]
        for trial, rows in in_area.groupby("trial"):
            marks = HUBS * bool(rows["is_hubs"].all()) + TUNED * bool(rows["is_tuned"].all())
            yield f"{trial} {' '.join(sorted(rows['airport'].unique()))}{marks}", rows


def _years(rankings: Mapping[str, pd.DataFrame]) -> Iterable[tuple[str, pd.DataFrame]]:
    """Yield each real year; split a year of which half of the airports were used for tuning."""
    if "years" in rankings:
        for (trial, is_tuned), rows in rankings["years"].groupby(["trial", "is_tuned"]):
            yield f"{trial}{TUNED * bool(is_tuned)}", rows


def _known_days(path: Path | None, years: Iterable[str]) -> pd.DataFrame:
    """Return the rows of events.csv in one of the years, one per airport and day."""
    columns = ["trial", "fl_date", "origin", "kind", "sure"]
    if path is None or not path.exists():
        return pd.DataFrame(columns=columns)
    rows = pd.read_csv(path, keep_default_na=False).rename(columns={"dataset": "trial"})
    rows = rows.assign(fl_date=pd.to_datetime(rows["date"]), origin=rows["airports"].str.split("|")).explode("origin")
    rows = rows[rows["trial"].isin(list(years))].drop_duplicates(["trial", "fl_date", "origin"])
    return rows[columns].reset_index(drop=True)


def _ranks(verdicts: Verdicts, bench: Bench) -> pd.DataFrame:
    """Return the known days with the `rank` of their score among the `days` of their airport; 1 is the most abnormal.

    Tied days get the last of their ranks, as do days without a score: they do not count as found.
    """
    ranked = [bench.known.assign(rank=0.0, days=0).iloc[:0]]
    for trial, known_days in bench.known.groupby("trial"):
        days = bench.trials[str(trial)].days[["origin", "fl_date"]]
        scored = days.merge(verdicts[str(trial), "days"], on=["origin", "fl_date"], how="left", validate="one_to_one")
        by_airport = scored["score"].fillna(-np.inf).groupby(scored["origin"])
        scored = scored.assign(rank=by_airport.rank(ascending=False, method="max"), days=by_airport.transform("size"))
        ranked.append(known_days.merge(scored, on=["origin", "fl_date"], how="inner", validate="one_to_one"))
    return pd.concat(ranked, ignore_index=True)
