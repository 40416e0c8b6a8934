"""Measure what last year adds: `python benchmarks/history.py [FOLDER]`.

Every pair of consecutive years is scored without and with the first year as history: as a report, with the whole second
year in view, and as an alert, from earlier days only. Precision and recall are those of the detector's own flags.
Planted pairs are two years of make_year.py with the same airports, and the abnormal days of the second are planted.
FOLDER has real years, `<area>/<year>.csv` or `.csv.gz`: both years are split into halves of flights, and the abnormal
days of one half are the worst 2% of each airport's days in the other. Prints one table for each kind, ratios only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "dags")]

from benchmarks import trials
from utils import detectors
from utils.layers import gold, ingest
from utils.layers.engines import Threads
from utils.settings import cores
from utils.storage.folder import FolderSource
from utils.storage.parts import LocalParts
from utils.tuning import evaluation

SETTINGS = ROOT / "dags" / "detectors.yaml"
NAMES = [name for name in detectors.NAMES if detectors.has_past_only(name)]
SEEDS = (811, 821, 831)  # of the first years; the second year of a pair has the next seed
MADE_YEARS = 2017, 2018
SPLITS = 4
KEY = ["origin", "fl_date"]

Pair = tuple[str, pd.DataFrame, pd.DataFrame, pd.DataFrame]  # kind, last year, this year, labels of this year


def planted(seed: int, airports: int, rows: int) -> list[Pair]:
    """Return the pair of planted years that begins with `seed`."""
    last, _ = _made(MADE_YEARS[0], seed, airports, rows)
    days, truth = _made(MADE_YEARS[1], seed + 1, airports, rows)
    return [("planted", last, days, evaluation.planted_days(days, truth, is_background_abnormal=False))]


def _made(year: int, seed: int, airports: int, rows: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    with tempfile.TemporaryDirectory() as scratch:
        csv, truth = Path(scratch) / f"{year}.csv", Path(scratch) / "truth.csv"
        given = {"year": year, "rows": rows, "airports": airports, "seed": seed, "out": csv, "truth": truth}
        options = [f"--{name}={value}" for name, value in given.items()]
        subprocess.run([sys.executable, ROOT / "benchmarks" / "make_year.py", *options], check=True, stdout=-3)
        (days,) = _days(csv, year, 0)
        return days, pd.read_csv(truth, keep_default_na=False)


def real(last: Path, this: Path) -> list[Pair]:
    """Return the pairs of two years of real flights, for each split and half."""
    pairs = []
    splits = zip(_days(last, int(last.name[:4]), SPLITS), _days(this, int(this.name[:4]), SPLITS), strict=True)
    for last_halves, halves in splits:
        for one, other in ((0, 1), (1, 0)):
            pairs.append(
                (f"real {last.parent.name}", last_halves[one], halves[one], evaluation.worst_days(halves[other]))
            )
    return pairs


def _days(path: Path, year: int, splits: int) -> list:
    """Return the airport-days of a year, or those of both halves of each split."""
    with tempfile.TemporaryDirectory() as scratch, closing(FolderSource(path.name, path)) as source:
        parts = LocalParts(Path(scratch))
        refined = ingest.ingest_year(source, year, Path(scratch), Threads(1), parts)
        if not splits:
            return [gold.airport_days(refined.sums, year).to_pandas(date_as_object=False)]
        return [
            evaluation.halves((parts.read(part.file.name) for part in refined.parts), year, seed)
            for seed in range(splits)
        ]


def flags(days: pd.DataFrame, last: pd.DataFrame | None, name: str, past_only: bool) -> pd.DataFrame:
    """Return the flags of one detector: `origin`, `fl_date`, `flag` and `score`."""
    with_history = [last.assign(is_history=True)] if last is not None else []
    both = pd.concat([*with_history, days.assign(is_history=False)], ignore_index=True)
    params = {**detectors.read_settings(SETTINGS)[name], "past_only": past_only}
    verdicts = detectors.run(name, both, params).to_pandas(date_as_object=False)
    return verdicts[[*KEY, "score"]].assign(flag=verdicts["is_anomaly"].astype(float))
