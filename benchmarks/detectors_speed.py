"""CPU seconds of each detector on one year of airport days: `python benchmarks/detectors_speed.py`.

The year is 330 airports × 365 days of made-up gold, from 5 to 800 flights a day. It serves speed only: quality is
measured on flights. Isolation Forest fits one forest per airport, independent of the others, so a tenth of them gives
its cost.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "dags"))

from utils import detectors


def made_up_year(airports: int, days: int, seed: int) -> pd.DataFrame:
    """The columns of AIRPORT_DAYS that detectors read: delays around each airport's level, one day in 50 disrupted."""
    rng = np.random.default_rng(seed)
    size = np.geomspace(5, 800, airports).repeat(days)
    n = airports * days
    scheduled = rng.poisson(size) + 1
    is_bad = rng.random(n) < 0.02
    mean = 10 + rng.gamma(2, 2, airports).repeat(days) + rng.normal(0, 25 / np.sqrt(scheduled)) + 45 * is_bad
    cancelled = rng.binomial(scheduled, 0.01 + 0.2 * is_bad)
    return pd.DataFrame(
        {
            "origin": np.array([f"A{i:03}" for i in range(airports)]).repeat(days),
            "fl_date": np.tile(pd.date_range("2015-01-01", periods=days).date, airports),
            "scheduled": scheduled,
            "cancelled": cancelled,
            "disrupted": np.minimum(scheduled, cancelled + rng.binomial(scheduled, 0.05 + 0.3 * is_bad)),
            "mean_dep_delay_min": mean.astype(np.float32),
            "mean_effective_delay_min": np.minimum(mean, 120).astype(np.float32),
            "std_effective_delay_min": rng.gamma(25, 1, n).astype(np.float32),
        }
    )


def cpu_seconds(work: Callable[[], object]) -> float:
    """Processor time of this process, all threads together: another process's load does not count."""
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    """Print one line per detector."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--airports", type=int, default=330)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--rounds", type=int, default=5, help="each detector runs once in each")
    parser.add_argument("--forest-airports", type=int, default=33, help="how many of the airports get a forest")
    options = parser.parse_args()

    year = made_up_year(options.airports, options.days, seed=1)
    airports = dict.fromkeys(detectors.NAMES, options.airports)
    airports["isolation_forest"] = min(options.forest_airports, options.airports)
    every = year["origin"].unique()
    inputs = {
        name: year[year["origin"].isin(every[:: len(every) // count][:count])] for name, count in airports.items()
    }
    few = year[year["origin"] == every[0]]
    for name in detectors.NAMES:
        detectors.load(name)(few)  # imports count for none

    seconds: dict[str, list[float]] = {name: [] for name in detectors.NAMES}
    for _ in range(options.rounds):
        for name, taken in seconds.items():
            taken.append(cpu_seconds(lambda name=name: detectors.load(name)(inputs[name])))  # type: ignore[misc]

    per_airport = {name: statistics.median(taken) / airports[name] for name, taken in seconds.items()}
    print(f"{options.airports} airports x {options.days} days, median of {options.rounds} rounds, CPU seconds")
    print(f"{'detector':<18}{'per airport':>14}{'whole year':>12}{'of the forest':>16}")
    for name, cost in per_airport.items():
        share = cost / per_airport["isolation_forest"]
        print(f"{name:<18}{cost:>14.6f}{cost * options.airports:>12.3f}{f'1/{1 / share:,.0f}':>16}")


if __name__ == "__main__":
    main()
