"""Measure what last year adds: `python benchmarks/history.py [FOLDER]`.

Each detector with `past_only` scores the second of two consecutive years, without and with the first as history: as a
report, with the whole second year in view, and as an alert, from earlier days only. Precision and recall are those of
the detector's own flags; the last two columns take the flags of the report without history as the truth.

Planted pairs are years of make_year.py with the same airports; planted days of the second year are abnormal. FOLDER has
real years, `<area>/<year>.csv` or `.csv.gz`. They are split into halves of flights; the worst 2% of each airport's days
in the other half are abnormal. Prints one table per kind of pair.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from joblib import Memory

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "dags")]

from benchmarks.detection import data
from utils import detectors
from utils.settings import cores
from utils.tuning import labels, metrics

SETTINGS = ROOT / "dags" / "detectors.yaml"
NAMES = [name for name in detectors.NAMES if detectors.has_past_only(name)]
MODES = {  # past_only, with history
    "report": (False, False),
    "report + history": (False, True),
    "alert": (True, False),
    "alert + history": (True, True),
}
PLANTED_YEARS = 2017, 2018
NO_CACHE = Memory(None)
SPLITS = 4
KEY = ["origin", "fl_date"]


@dataclass(frozen=True)
class Pair:
    """The airport-days of two consecutive years, and the labels of the second."""

    kind: str
    last: pd.DataFrame
    days: pd.DataFrame
    labels: pd.DataFrame


def planted(seed: int, airports: int, rows: int) -> list[Pair]:
    """Return the pair of planted years with the seeds `seed` and `seed` + 1."""
    last, this = (
        data.planted(seed + number, airports, rows, NO_CACHE, year) for number, year in enumerate(PLANTED_YEARS)
    )
    assert this.truth is not None  # for the type checker: planted years have one
    planted_days = labels.planted_days(this.days, this.truth, is_background_abnormal=False)
    return [Pair("planted", last.days, this.days, planted_days)]


def real(last: Path, this: Path) -> list[Pair]:
    """Return the pairs of halves of two years of real flights."""
    kind, pairs = f"{last.parent.name} {last.name[:4]}, {this.name[:4]}", []
    splits = (data.read_file(path, SPLITS, NO_CACHE).splits for path in (last, this))
    for last_halves, halves in zip(*splits, strict=True):
        for one, other in ((0, 1), (1, 0)):
            pairs.append(Pair(kind, last_halves[one], halves[one], labels.worst_days(halves[other])))
    return pairs


def consecutive(folder: Path) -> list[tuple[Path, Path]]:
    """Return the files of two consecutive years of the same area."""
    by_year = {(path.parent.name, int(path.name[:4])): path for path in data.files(folder)}
    return [
        (path, by_year[area, year + 1]) for (area, year), path in sorted(by_year.items()) if (area, year + 1) in by_year
    ]


def judged(pair: Pair, name: str) -> pd.DataFrame:
    """Return the labels of a pair with one column of flags per mode."""
    labelled = pair.labels
    if "is_counted" in labelled:
        labelled = labelled[labelled["is_counted"]]
    settings = detectors.read_settings(SETTINGS)[name]
    for mode, (past_only, has_history) in MODES.items():
        days = pair.days.assign(is_history=False)
        if has_history:
            days = pd.concat([pair.last.assign(is_history=True), days], ignore_index=True)
        verdicts = detectors.run(name, days, {**settings, "past_only": past_only}).to_pandas(date_as_object=False)
        flags = verdicts[KEY].assign(fl_date=pd.to_datetime(verdicts["fl_date"]), **{mode: verdicts["is_anomaly"]})
        labelled = labelled.merge(flags, on=KEY, how="left", validate="one_to_one")
    return labelled.assign(kind=pair.kind, detector=name)


def row(days: pd.DataFrame, mode: str) -> dict[str, float]:
    """Return the measures of one mode."""
    flagged = days.assign(flag=days[mode].astype(float))
    is_january = flagged["fl_date"].dt.month == 1
    agreed = flagged.assign(is_abnormal=days["report"].astype(float))
    measures = {}
    for part, rows in {"January": flagged[is_january], "later": flagged[~is_january], "as report": agreed}.items():
        measures[f"{part} P"] = float(metrics.precision(rows))
        measures[f"{part} R"] = float(metrics.recall(rows))
    return measures


def table(results: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return one row per kind, detector and mode."""
    groups = pd.concat(results, ignore_index=True).groupby(["kind", "detector"], sort=False)
    rows = [dict(zip(("kind", "detector"), names, strict=True)) | {"mode": mode} | row(days, mode)
            for names, days in groups for mode in MODES]  # fmt: skip
    return pd.DataFrame(rows)


def main() -> None:
    """Create the pairs, score them, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="folder of real years")
    parser.add_argument("--seeds", type=int, nargs="*", default=[811, 821, 831], help="one planted pair for each")
    parser.add_argument("--airports", type=int, default=150, help="airports of a planted year")
    parser.add_argument("--rows", type=int, default=3_000_000, help="flights of a planted year")
    options = parser.parse_args()
    files = consecutive(options.folder) if options.folder else []
    if options.folder and not files:
        parser.error(
            f"{options.folder} has no two consecutive years <area>/<year>.csv or .csv.gz; pass another folder."
        )
    with ProcessPoolExecutor(cores()) as pool:
        made = [pool.submit(planted, seed, options.airports, options.rows) for seed in options.seeds]
        read = [pool.submit(real, *paths) for paths in files]
        pairs = [pair for future in (*made, *read) for pair in future.result()]
        jobs = [(pair, name) for name in NAMES for pair in pairs]
        results = list(pool.map(judged, *zip(*jobs, strict=True)))
    for kind, rows in table(results).groupby("kind", sort=False):
        print(f"\n{kind}")
        print(rows.drop(columns="kind").to_string(index=False, float_format="{:.2f}".format, na_rep="-"))


if __name__ == "__main__":
    main()
