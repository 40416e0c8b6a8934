"""CPU seconds of each detector on one year of airport days: `python benchmarks/detectors_speed.py`.

The year is 330 airports × 365 days of synthetic gold, from 5 to 800 flights a day. It measures speed only;
benchmarks/detection measures quality on flights. Isolation Forest fits one forest per airport, independent of the
others, so its cost is scaled from a tenth of them. If statsmodels is installed (as for .venv-bench/bin/python), refits
of its ARIMA for each order and step are measured on a few airports and steps, and scaled.
"""

from __future__ import annotations

import os

# Set before numpy is imported: waiting threads of OpenMP or BLAS would count as CPU seconds.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import importlib.util
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "dags"))

from utils import detectors

REFIT_AIRPORTS = 3
REFIT_STEPS = (60, 200, 340)  # number of days that statsmodels is fitted on; the next day is forecast


def made_up_year(airports: int, days: int, seed: int) -> pd.DataFrame:
    """Return the columns of AIRPORT_DAYS that detectors use: delays around each airport's level, 2% disrupted."""
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
            "departed": scheduled - cancelled,
            "cancelled": cancelled,
            "disrupted": np.minimum(scheduled, cancelled + rng.binomial(scheduled, 0.05 + 0.3 * is_bad)),
            "mean_dep_delay_min": mean.astype(np.float32),
            "mean_effective_delay_min": np.minimum(mean, 120).astype(np.float32),
            "std_dep_delay_min": rng.gamma(25, 1, n).astype(np.float32),
            "std_effective_delay_min": rng.gamma(25, 1, n).astype(np.float32),
        }
    )


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds of this process, all threads together; independent of the load of other processes."""
    started = time.process_time()
    work()
    return time.process_time() - started


def orders() -> list[tuple[int, ...]]:
    """Return every (p, d, q) that our `arima` tries."""
    grid = detectors.parameters("arima")
    return list(product(*(range(int(str(grid[name])) + 1) for name in ("max_p", "max_d", "max_q"))))


def refits(year: pd.DataFrame) -> list[float]:
    """Return the CPU seconds of refits of statsmodels' ARIMA: every order, for a few airports and steps."""
    from statsmodels.tsa.arima.model import ARIMA

    airports = year["origin"].unique()
    chosen = airports[:: len(airports) // REFIT_AIRPORTS][:REFIT_AIRPORTS]

    def fit(delays: np.ndarray, order: tuple[int, ...]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its optimizer, for some of the orders
            ARIMA(delays, order=order).fit().forecast(1)

    series = [year.loc[year["origin"] == airport, "mean_dep_delay_min"].to_numpy(np.float64) for airport in chosen]
    fit(series[0], (1, 0, 0))  # load imports before the measurement
    return [
        cpu_seconds(lambda delays=delays, step=step, order=order: fit(delays[:step], order))  # type: ignore[misc]
        for delays, step, order in product(series, REFIT_STEPS, orders())
    ]


def main() -> None:
    """Print one line per detector."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--airports", type=int, default=330)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each detector; the median is printed")
    parser.add_argument(
        "--forest-airports", type=int, default=33, help="number of airports for isolation_forest; its time is scaled"
    )
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
        detectors.load(name)(few)  # load imports before the measurement

    seconds: dict[str, list[float]] = {name: [] for name in detectors.NAMES}
    flags: dict[str, float] = {}
    for _ in range(options.rounds):
        for name, taken in seconds.items():
            started = time.process_time()
            verdicts = detectors.load(name)(inputs[name])
            taken.append(time.process_time() - started)
            flags[name] = float(verdicts.loc[verdicts["status"] == "ok", "is_anomaly"].mean() * 365)

    per_airport = {name: statistics.median(taken) / airports[name] for name, taken in seconds.items()}
    print(f"{options.airports} airports x {options.days} days, median of {options.rounds} rounds, CPU seconds")
    print(f"{'detector':<18}{'per airport':>14}{'whole year':>12}{'of the forest':>16}{'flags per airport-year':>26}")
    for name, cost in per_airport.items():
        ratio = per_airport["isolation_forest"] / cost
        print(f"{name:<18}{cost:>14.6f}{cost * options.airports:>12.3f}{f'1/{ratio:,.0f}':>16}{flags[name]:>26.1f}")
    print(f"{'all':<18}{sum(per_airport.values()):>14.6f}{sum(per_airport.values()) * options.airports:>12.3f}")

    if importlib.util.find_spec("statsmodels") is None:
        print("statsmodels is not installed; use .venv-bench/bin/python, which `make bench-detectors` creates.")
        return
    fits = refits(year)
    steps = options.days * len(orders())
    theirs, ours = statistics.mean(fits), per_airport["arima"] / steps
    hours = theirs * steps * options.airports / 3600
    print(f"arima per order and step {ours * 1e6:.2f} us, a refit by statsmodels {theirs * 1e3:.1f} ms: ", end="")
    print(f"1/{theirs / ours:,.0f}. Mean of {len(fits)} fits; scaled to the year {hours:,.0f} CPU hours.")


if __name__ == "__main__":
    main()
