"""Compare detectors of abnormal airport-days: `make bench-detectors`, with your own years in a folder: DATA=folder.

Scores real years and planted years with every contestant, measures them, prints the tables, and writes them with
pictures to benchmarks/detection/results.md. Scores and results are cached by the hash of the data and of the
contestant, so a second run is fast. Needs the packages of requirements/bench.txt, which the make target installs.
"""

from __future__ import annotations

import os

# One thread per process, set before numpy is imported: CPU seconds then measure work, and all cores are busy anyway.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from joblib import Memory, Parallel, delayed

from benchmarks.detection import data, page, run
from benchmarks.detection.contestants import CONTESTANTS
from utils.settings import cores

HERE = Path(__file__).parent
CACHE = HERE.parent / ".cache"
DATA = data.ROOT.parent / "shared" / "data" / "dev"  # the real years, if they are next to the checkout
SEEDS = (101, 102, 103)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.detection", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--data",
        type=Path,
        help="folder of real years, <area>/<year>.csv or .csv.gz; events.csv in it has known days, <year>.truth.csv "
        "next to a year has planted days (default: ../shared/data/dev if it exists, else New York 2013)",
    )
    add("--years", nargs="+", metavar="NAME", help="only these real years of the folder, such as us/2008")
    add("--seeds", type=int, nargs="*", default=list(SEEDS), help="seeds of the planted years (default: 101 to 103)")
    add("--airports", type=int, default=0, help="airports of a planted year (default: all, about 335)")
    add("--rows", type=int, default=7_000_000, help="flights of a planted year")
    add("--splits", type=int, default=2, help="number of random splits of a real year into halves")
    add("--replicates", type=int, default=400, help="number of bootstrap samples")
    add("--only", nargs="+", choices=CONTESTANTS, metavar="NAME", help="only these contestants; writes no page")
    add("--out", type=Path, help=f"folder of the page (default: {HERE.name}/; with --only no page)")
    add("--cache", type=Path, default=CACHE, help="folder of cached scores (default: benchmarks/.cache)")
    add("--no-cache", action="store_true", help="compute everything, and keep nothing")
    options = parser.parse_args()
    options.data = options.data or (DATA if DATA.is_dir() else None)
    if options.data and not data.files(options.data):
        parser.error(f"{options.data} is not a folder with <area>/<year>.csv or .csv.gz; pass one.")
    return options


def read_years(options: argparse.Namespace, memory: Memory) -> list[data.Year]:
    """Read the real years and create the planted years, in parallel."""
    paths = data.files(options.data) if options.data else []
    if options.years:
        paths = [path for path in paths if f"{path.parent.name}/{path.name[:4]}" in options.years]
    planted = [delayed(data.planted)(seed, options.airports, options.rows, memory) for seed in options.seeds]
    real = [delayed(data.read_file)(path, options.splits, memory) for path in paths]
    real = real or [delayed(data.read_package)(options.splits, memory)]
    return list(Parallel(n_jobs=cores())([*planted, *real]))


def main() -> None:
    """Read the years, compare, print and write."""
    options = arguments()
    contestants = {name: CONTESTANTS[name] for name in options.only or CONTESTANTS}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory()) if options.no_cache else options.cache
        memory = Memory(folder, verbose=0)
        years = read_years(options, memory)
        if all(data.is_tuned(year.name) for year in years):
            names = ", ".join(year.name for year in years)
            raise SystemExit(f"delaywatch was tuned on all of these years: {names}. Add another year or seed.")
        known = data.known_days(options.data / "events.csv" if options.data else None, years)
        run.print_progress(f"{len(years)} years are ready")
        results, seconds = run.compare(contestants, years, known, options.replicates, memory, cores())
    is_reported = ~known["year"].map(data.is_tuned).astype(bool)
    facts = page.Facts(contestants, results, seconds, years, int(is_reported.sum()), options.replicates)
    print(page.summary(facts))
    if out := options.out or (None if options.only else HERE):
        page.write(facts, out)
        run.print_progress(f"{out / page.NAME} is written")


if __name__ == "__main__":
    main()
