"""Compare the quality of each detector with detectors of other projects: `make bench-detectors`.

All detectors of `detectors.NAMES`, with the settings of dags/detectors.yaml, and those of benchmarks/outsiders.py judge
the years of benchmarks/trials.py; benchmarks/measurements.py defines the measures. Prints the main tables and writes
all of them, with explanations, to benchmarks/detectors.md. Needs the packages of requirements/bench.txt, which the make
target installs into .venv-bench. `--only three_sigma delaywatch` compares a few and writes nothing.
"""

from __future__ import annotations

import os

# One thread per process, set before numpy is imported: CPU seconds then measure work, and all cores are busy anyway.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import multiprocessing
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.context import ForkContext
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "dags")]

from benchmarks import detectors_page, measurements, outsiders, trials
from benchmarks.measurements import Bench, Result
from utils import detectors
from utils.settings import cores

SETTINGS = ROOT / "dags" / "detectors.yaml"
PAGE = ROOT / "benchmarks" / "detectors.md"
DATA = ROOT.parent / "shared" / "data" / "dev"  # the real sets, if they are next to the checkout
SEEDS = (505, 606, 707)  # no detector was tuned on these years
NATIONAL_YEAR = 330 * 365  # CPU seconds are scaled to this number of airport-days

BENCH: Bench  # set before the judging processes are forked, so that the years are not copied to them
WARM: set[str] = set()  # contestants whose libraries this process has loaded


def judge(contestant: str, days: pd.DataFrame) -> pd.DataFrame:
    """Return `origin`, `fl_date` and `score` of the days that the contestant judges."""
    if contestant in detectors.NAMES:
        params = detectors.read_settings(SETTINGS)[contestant]
        return detectors.load(contestant)(days, **params)[["origin", "fl_date", "score"]]
    return outsiders.outsiders()[contestant](days)


def judge_timed(contestant: str, trial: str, part: str) -> tuple[pd.DataFrame, float]:
    """Return the verdicts on one part of a year and their CPU seconds, without loading libraries."""
    days = BENCH.trials[trial].parts[part]
    if contestant not in WARM:
        judge(contestant, days[days["origin"].isin(days["origin"].unique()[:2])])
        WARM.add(contestant)
    started = time.process_time()
    try:
        verdicts = judge(contestant, days)
    except Exception as error:
        error.add_note(f"{contestant} failed on {trial}, {part}: {len(days)} airport-days.")
        raise
    return verdicts, time.process_time() - started


def measure(verdicts: measurements.Verdicts) -> Result:
    """Measure one contestant."""
    return measurements.measure(verdicts, BENCH)


def years(options: argparse.Namespace, data: Path | None, fork: ForkContext) -> list[trials.Trial]:
    """Create all years of the comparison, in parallel."""
    with ProcessPoolExecutor(cores(), mp_context=fork) as pool:
        planted: list[Future[trials.Trial]] = [
            pool.submit(trials.planted, seed, options.airports, options.rows, options.anomalies)
            for seed in options.seeds
        ]
        real = [pool.submit(trials.read_file, path, options.cut) for path in trials.files(data)] if data else []
        return [year.result() for year in [*(real or [pool.submit(trials.read_package, options.cut)]), *planted]]


def compare(contestants: Sequence[str], fork: ForkContext) -> dict[str, Result]:
    """Let every contestant judge every part of every year, one process per core, and measure them."""
    parts = [
        (trial.name, part)
        for trial in sorted(BENCH.trials.values(), key=lambda trial: -len(trial.days))
        for part in trial.parts
    ]
    jobs = [(contestant, *part) for part in parts for contestant in contestants]
    with ProcessPoolExecutor(cores(), mp_context=fork) as pool:
        judged = dict(zip(jobs, pool.map(judge_timed, *zip(*jobs, strict=True)), strict=True))
        print_progress("judged")
        verdicts = [{part: judged[contestant, *part][0] for part in parts} for contestant in contestants]
        results = dict(zip(contestants, pool.map(measure, verdicts), strict=True))
        print_progress("measured")
    timed = [part for part in parts if BENCH.trials[part[0]].truth is not None] or parts
    days = sum(len(BENCH.trials[trial].parts[part]) for trial, part in timed)
    for contestant, result in results.items():
        result.cpu_s = sum(judged[contestant, *part][1] for part in timed) / days * NATIONAL_YEAR
    return results


def print_progress(progress: str, started_at: float = time.perf_counter()) -> None:
    """Print progress to stderr."""
    print(f"{time.perf_counter() - started_at:6.0f} s  {progress}", file=sys.stderr, flush=True)


def arguments(contestants: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data",
        type=Path,
        help="folder of real years, <area>/<year>.csv or .csv.gz; <year>.truth.csv next to a year has planted days, "
        "events.csv has known days (default: ../shared/data/dev if it exists, else New York 2013)",
    )
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS), help="one planted year for each seed")
    parser.add_argument("--airports", type=int, default=0, help="airports of a planted year (default: all, about 335)")
    parser.add_argument("--rows", type=int, default=7_000_000, help="flights of a planted year")
    parser.add_argument("--anomalies", type=float, default=1.0, help="density of planted days; see make_year.py")
    parser.add_argument("--cut", type=int, default=0, help="seed of the split into halves")
    parser.add_argument("--replicates", type=int, default=400, help="number of bootstrap samples")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=contestants,
        metavar="NAME",
        help=f"compare only these of {', '.join(contestants)}; write no page",
    )
    parser.add_argument(
        "--out", type=Path, help="path of the page (default: benchmarks/detectors.md; with --only no page)"
    )
    options = parser.parse_args()
    if options.data and not (options.data.is_dir() and trials.files(options.data)):
        parser.error(f"{options.data} is not a folder with <area>/<year>.csv or .csv.gz; pass one.")
    return options


def main() -> None:
    """Create the years, compare, print and write."""
    global BENCH  # noqa: PLW0603
    started = time.perf_counter()
    contestants = [*detectors.NAMES, *outsiders.outsiders()]
    options = arguments(contestants)
    fork = multiprocessing.get_context("fork")
    data = options.data or (DATA if DATA.is_dir() else None)
    BENCH = measurements.bench(years(options, data, fork), data / "events.csv" if data else None, options.replicates)
    print_progress(f"{len(BENCH.trials)} years are ready")
    results: Mapping[str, Result] = compare(options.only or contestants, fork)
    print(detectors_page.summary(results))
    if out := options.out or (None if options.only else PAGE):
        out.write_text(detectors_page.page(results, BENCH, time.perf_counter() - started), encoding="utf-8")
        print_progress(f"{out} is written")


if __name__ == "__main__":
    main()
