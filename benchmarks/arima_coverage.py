"""Measure the coverage of arima's band on real years: `python benchmarks/arima_coverage.py [FOLDER]`.

FOLDER has real years as `<area>/<year>.csv` or `.csv.gz`; the default is New York in 2013. Prints the percentage of
judged days inside the band at several levels, by year, for all years and by the airport's mean of flights per day, for
the report and for the alert, and the days per airport-year at each severity of the default level.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
from joblib import Memory

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "dags"), str(Path(__file__).resolve().parents[1])]

from benchmarks.detection import data
from utils import detectors

LEVELS = (0.8, 0.95, 0.98, 0.99, 0.9995)
SIZES = [0, 10, 30, 100, 10_000]  # flights per day
NO_CACHE = Memory(None)


def judged_days(year: data.Year, past_only: bool) -> pd.DataFrame:
    """Return a row per judged day: the year, the class of its airport's size, severity, a column per level."""
    size = year.days["origin"].map(year.days.groupby("origin")["scheduled"].mean())
    frame = pd.DataFrame({"year": year.name + " (tuned)" * data.is_tuned(year.name), "flights": pd.cut(size, SIZES)})
    detect = detectors.load("arima")
    for level in LEVELS:
        verdicts = detect(year.days, level=level, past_only=past_only)
        frame[level] = verdicts["observed"].between(verdicts["lower"], verdicts["upper"]) * 100
    verdicts = detect(year.days, past_only=past_only)
    for number, severity in enumerate(("mild", "strong", "extreme"), start=1):
        frame[f"{severity}/yr"] = (verdicts["severity"] >= number) * 365.25
    return frame[verdicts["status"] == "ok"]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="folder of real years (default: the demo's year)")
    folder = parser.parse_args().folder
    if folder and not data.files(folder):
        parser.error(f"{folder} is not a folder with <area>/<year>.csv or .csv.gz; pass one.")

    paths = data.files(folder) if folder else []
    years = [data.read_file(path, 0, NO_CACHE) for path in paths] or [data.read_package(0, NO_CACHE)]
    for past_only in (False, True):
        days = pd.concat([judged_days(year, past_only) for year in years])
        print("alert (past_only)" if past_only else "report")
        for group in ("year", "flights"):
            mean = days.groupby(group, observed=True).mean(numeric_only=True)
            print(mean.assign(days=days.groupby(group, observed=True).size()).round(1).to_string(), "\n")


if __name__ == "__main__":
    main()
