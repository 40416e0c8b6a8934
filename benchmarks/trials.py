"""The years on which benchmarks/detectors.py measures detectors: real flights, and made-up ones with a known truth.

They pass through the product's own steps, so a day here is what it is in gold. What counts as abnormal is decided in
utils/tuning/evaluation.py; here is only which years there are, how they are made, and which years and airports our own
detector was tuned on.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from utils.analysis.airports import METRO_AREAS
from utils.layers import gold, ingest
from utils.storage.folder import FolderSource
from utils.storage.parquet import write_parquet
from utils.tuning import evaluation

HERE = Path(__file__).parent
MADE_YEAR = 2018
# What the settings of `delaywatch` were chosen on. Of TUNED_HALF it was half of the airports, areas kept together; the
# other half had the same storms on the same days, so it is less of a test than another year. The hash of an airport
# decides, for a metropolitan area that of its first one.
TUNED = frozenset({"nyc/2013", "hou/2011", "abq/2009", "abq/2010"})
TUNED_HALF = "us/2008"


@dataclass(frozen=True)
class Trial:
    """A year of airport-days and what is known of it: the halves of real flights, or the truth of made-up ones."""

    name: str  # us/2008, or planted/seed 801
    days: pd.DataFrame
    halves: tuple[pd.DataFrame, pd.DataFrame] | None
    truth: pd.DataFrame | None

    @property
    def airports(self) -> int:
        """How many there are."""
        return int(self.days["origin"].nunique())

    @property
    def parts(self) -> dict[str, pd.DataFrame]:
        """What a detector may be shown: all flights (`days`), and of real ones each half (`one`, `other`)."""
        return {"days": self.days, **dict(zip(("one", "other"), self.halves or (), strict=False))}


def is_tuned(trial: str, origin: str) -> bool:
    """Whether our own detector was tuned on this airport in this year."""
    if trial != TUNED_HALF:
        return trial in TUNED
    first = next((area[0] for area in METRO_AREAS if origin in area), origin)
    return zlib.crc32(first.encode()) % 2 == 1


def files(folder: Path) -> list[Path]:
    """The years of a folder, every `<area>/<year>.csv` or `.csv.gz`, largest first."""
    found = [path for path in folder.glob("*/*.csv*") if re.fullmatch(r"\d{4}\.csv(\.gz)?", path.name)]
    return sorted(found, key=lambda path: (-path.stat().st_size, path))


def of_file(path: Path, cut: int = 0) -> Trial:
    """A year of flights; one whose abnormal days are known if `<year>.truth.csv` of make_year.py lies beside it.

    `cut` is the seed of the split into halves.
    """
    year = path.name[:4]
    truth = path.with_name(f"{year}.truth.csv")
    return _trial(f"{path.parent.name}/{year}", path, int(year), truth if truth.exists() else None, cut)


def of_package(cut: int = 0) -> Trial:
    """The one real year that the repository's own packages carry: New York in 2013."""
    from demo import flights

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"{flights.YEAR}.csv"
        flights.write_bronze(path)
        return _trial(f"nyc/{flights.YEAR}", path, flights.YEAR, None, cut)


def planted(seed: int, airports: int, rows: int, anomalies: float) -> Trial:
    """A year of make_year.py: storms, strong and moderate days, closures and gaps planted into a heavy-tailed year.

    0 `airports` are all that make_year.py knows.
    """
    with tempfile.TemporaryDirectory() as scratch:
        csv, truth = Path(scratch) / f"{MADE_YEAR}.csv", Path(scratch) / "truth.csv"
        given = {
            "year": MADE_YEAR,
            "rows": rows,
            "airports": airports,
            "anomalies": anomalies,
            "seed": seed,
            "out": csv,
            "truth": truth,
        }
        options = [f"--{name}={value}" for name, value in given.items()]
        subprocess.run([sys.executable, HERE / "make_year.py", *options], check=True, stdout=subprocess.DEVNULL)
        return _trial(f"planted/seed {seed}", csv, MADE_YEAR, truth)


def _trial(name: str, csv: Path, year: int, truth: Path | None, cut: int = 0) -> Trial:
    with tempfile.TemporaryDirectory() as scratch, closing(FolderSource(csv.name, csv)) as source:
        refined = ingest.ingest_year(source, year, Path(scratch), 1, write_parquet)  # years are made side by side
        days = gold.airport_days(refined.sums, year).to_pandas(date_as_object=False)
        if truth is not None:
            return Trial(name, days, None, pd.read_csv(truth, keep_default_na=False))
        silver = (pq.read_table(part.path) for part in refined.parts)
        return Trial(name, days, evaluation.halves(silver, year, cut), None)
