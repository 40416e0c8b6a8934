"""Check delaywatch's "once in N days" on real years: `python benchmarks/return_periods.py [FOLDER]`.

FOLDER has real years as `<area>/<year>.csv` or `.csv.gz`; the default is New York in 2013. Prints one line per year,
for the report and for the alert: the observed return period of each level in judged days, and the days per airport-year
at each level. Years that the settings were tuned on are marked; see docs/delaywatch.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "dags"), str(Path(__file__).resolve().parents[1])]

from benchmarks import trials
from utils import detectors

PERIODS_DAYS = (10, 30, 100, 365, 1000)


def line(score: pd.Series, levels: tuple[float, ...]) -> str:
    """Format `score` of the judged days as one line of the table."""
    reached = [int((score >= days).sum()) for days in PERIODS_DAYS]
    every = [f"{len(score) / count:8.0f}" if count else f"{'-':>8}" for count in reached]
    a_year = [f"{(score >= level).mean() * 365.25:8.1f}" for level in levels]
    return f"{len(score):>9,}" + "".join(every) + "".join(a_year)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="folder of real years (default: the demo's year)")
    folder = parser.parse_args().folder
    if folder and not trials.files(folder):
        parser.error(f"{folder} is not a folder with <area>/<year>.csv or .csv.gz; pass one.")

    years = [trials.read_file(path) for path in trials.files(folder)] if folder else [trials.read_package()]
    settings = detectors.parameters("delaywatch")
    levels = settings["levels"]
    assert isinstance(levels, tuple)
    for past_only in (False, True):
        print("alert (past_only)" if past_only else "report")
        names = [f"N>={days}" for days in PERIODS_DAYS] + [f"{days:g}/yr" for days in levels]
        head = "".join(f"{name:>8}" for name in names)
        print(f"{'year':<22}{'days':>9}{head}")
        pooled: dict[bool, list[pd.Series]] = {True: [], False: []}
        for year in years:
            verdicts = detectors.load("delaywatch")(year.days, **{**settings, "past_only": past_only})
            verdicts = verdicts[verdicts["status"] == "ok"]
            is_tuned = np.array([trials.is_tuned(year.name, origin) for origin in verdicts["origin"]], dtype=np.bool_)
            for tuned in (True, False):
                score = verdicts.loc[is_tuned == tuned, "score"]
                if len(score):
                    pooled[tuned].append(score)
                    print(f"{year.name + ' (tuned)' * tuned:<22}{line(score, levels)}")
        for tuned, scores in pooled.items():
            if scores:
                print(f"{'all' + ' (tuned)' * tuned:<22}{line(pd.concat(scores), levels)}")


if __name__ == "__main__":
    main()
