"""Let contestants score all years and measure them, in parallel, with a cache of scores and results."""

from __future__ import annotations

import hashlib
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Memory, Parallel, delayed

from benchmarks.detection import data, measures
from benchmarks.detection.contestants import Contestant
from benchmarks.detection.data import Year
from benchmarks.detection.measures import Result
from utils.tuning import metrics

NATIONAL_YEAR = 330 * 365  # CPU seconds are scaled to this number of airport-days
SOURCES = (Path(measures.__file__), Path(metrics.__file__).parent)


def digest(frame: pd.DataFrame) -> str:
    """Return a hash of the values, columns and types of a frame."""
    content = hashlib.sha256(repr(list(zip(frame.columns, frame.dtypes.astype(str), strict=True))).encode())
    content.update(pd.util.hash_pandas_object(frame).to_numpy().tobytes())
    return content.hexdigest()


def compare(
    contestants: Mapping[str, Contestant],
    years: Sequence[Year],
    known: pd.DataFrame,
    replicates: int,
    memory: Memory,
    processes: int = 1,
) -> tuple[dict[str, Result], dict[str, float]]:
    """Return the result of every contestant, and its CPU seconds for a national year.

    memory needs a folder, because the processes exchange scores and results through it.
    """
    parts = {(year.name, part): days for year in years for part, days in year.parts.items()}
    keys = {part: digest(days) for part, days in parts.items()}
    versions = {name: contestant.version for name, contestant in contestants.items()}
    largest_first = sorted(parts, key=lambda part: -len(parts[part]))
    jobs = {
        (name, *part): (contestant, parts[part], versions[name], keys[part])
        for part in largest_first
        for name, contestant in contestants.items()
        if _is_needed(contestant, *part)
    }
    judge = memory.cache(_judge, ignore=["contestant", "days"])
    judged = dict(zip(jobs, _in_parallel(judge, list(jobs.values()), processes), strict=True))
    print_progress("scored")

    tasks = measures.tasks(years)
    facts = [str(replicates), digest(known), data.digest_of_files(SOURCES), *map(str, sorted(keys.items()))]
    calls = [
        (
            {part: judged[name, *part][0] for part in parts if (name, *part) in judged},
            *(years, tasks, known, replicates, contestants[name].is_return_period),
            hashlib.sha256("\n".join([*facts, versions[name]]).encode()).hexdigest(),
        )
        for name in contestants
    ]
    measure = memory.cache(_measure, ignore=["verdicts", "years", "tasks", "known"])
    results = dict(zip(contestants, _in_parallel(measure, calls, processes), strict=True))
    print_progress("measured")

    reported = [year for year in years if not data.is_tuned(year.name)]
    timed = [(year.name, "days") for year in reported if year.truth is not None] or [
        (year.name, "days") for year in reported
    ]
    total = sum(len(parts[part]) for part in timed)
    seconds = {name: sum(judged[name, *part][1] for part in timed) / total * NATIONAL_YEAR for name in contestants}
    return results, seconds


def _is_needed(contestant: Contestant, year: str, part: str) -> bool:
    """Return True if a contestant scores this part; tuned years are only for the table of return periods."""
    return not data.is_tuned(year) or (contestant.is_return_period and part == "days")


def print_progress(progress: str, started_at: float = time.perf_counter()) -> None:
    """Print progress to stderr."""
    print(f"{time.perf_counter() - started_at:6.0f} s  {progress}", file=sys.stderr, flush=True)


def _in_parallel(cached: Any, calls: Sequence[tuple[Any, ...]], processes: int) -> list[Any]:
    """Return the results of the calls of a cached function in their order; only calls without a cached result run."""
    missing = [call for call in calls if not cached.check_call_in_cache(*call)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "A worker stopped")  # joblib restarts processes that have become large
        # max_nbytes is off because detectors get memory-mapped, read-only arrays otherwise.
        Parallel(n_jobs=processes, max_nbytes=None)(delayed(cached)(*call) for call in missing)
    return [cached(*call) for call in calls]


def _judge(contestant: Contestant, days: pd.DataFrame, version: str, key: str) -> tuple[pd.DataFrame, float]:
    """Return the verdicts of a contestant and their CPU seconds.

    version, key: the key of the cache, from the code of the contestant and from the days.
    """
    del version, key
    two_airports = days["origin"].isin(days["origin"].unique()[:2])
    contestant.judge(days[two_airports])  # load and compile libraries, so that the seconds are those of the work
    started = time.process_time()
    verdicts = contestant.judge(days)
    return verdicts, time.process_time() - started


def _measure(
    verdicts: measures.Verdicts,
    years: Sequence[Year],
    tasks: Mapping[tuple[str, str], Sequence[measures.Task]],
    known: pd.DataFrame,
    replicates: int,
    is_return_period: bool,
    key: str,
) -> Result:
    del key
    return measures.measure(verdicts, years, tasks, known, replicates, is_return_period=is_return_period)
