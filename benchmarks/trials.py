"""The years on which benchmarks/detectors.py measures detectors: real flights, and synthetic ones with planted truth.

They pass through the product's own steps, so the days are the same as in gold. utils/tuning/evaluation.py defines which
days are abnormal; this module lists the years, creates them, and lists the years and airports that our own detector was
tuned on.
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

from utils.analysis.airports import METRO_AREAS
from utils.layers import gold, ingest
from utils.layers.engines import Threads
from utils.storage.folder import FolderSource
from utils.storage.parts import LocalParts
from utils.tuning import evaluation

HERE = Path(__file__).parent
MADE_YEAR = 2018
# The data that the settings of `delaywatch`, or of an earlier version of it, were tuned on. TUNED_HALF: half of the
# airports, areas kept together. The other half had the same storms on the same days, so it is a weaker test than
# another year. A hash of the airport decides; for a metropolitan area, of its first airport.
TUNED = frozenset({"nyc/2013", "hou/2011", "pnw/2014", "bay/2020", "abq/2009", "abq/2010", "abq/2011"})
TUNED_HALF = "us/2008"


@dataclass(frozen=True)
class Trial:
    """A year of airport-days with its known facts: the halves of real flights, or the truth of synthetic ones."""

    name: str  # us/2008, or planted/seed 801
    days: pd.DataFrame
    halves: tuple[pd.DataFrame, pd.DataFrame] | None
    truth: pd.DataFrame | None

    @property
    def airports(self) -> int:
        """Number of airports."""
        return int(self.days["origin"].nunique())

    @property
    def parts(self) -> dict[str, pd.DataFrame]:
        """The inputs of a detector: all flights (`days`), and for real years each half (`one`, `other`)."""
        return {"days": self.days, **dict(zip(("one", "other"), self.halves or (), strict=False))}


def is_tuned(trial: str, origin: str) -> bool:
    """Return True if our own detector was tuned on this airport in this year."""
    if trial != TUNED_HALF:
        return trial in TUNED
    first = next((area[0] for area in METRO_AREAS if origin in area), origin)
    return zlib.crc32(first.encode()) % 2 == 1


def files(folder: Path) -> list[Path]:
    """Return the years of a folder, every `<area>/<year>.csv` or `.csv.gz`, largest first."""
    paths = [path for path in folder.glob("*/*.csv*") if re.fullmatch(r"\d{4}\.csv(\.gz)?", path.name)]
    return sorted(paths, key=lambda path: (-path.stat().st_size, path))


def read_file(path: Path, cut: int = 0) -> Trial:
    """Return a year of flights; its abnormal days are known if `<year>.truth.csv` of make_year.py is next to it.

    `cut` is the seed of the split into halves.
    """
    year = path.name[:4]
    truth = path.with_name(f"{year}.truth.csv")
    return _trial(f"{path.parent.name}/{year}", path, int(year), truth if truth.exists() else None, cut)


def read_package(cut: int = 0) -> Trial:
    """Return the one real year in the repository's own packages: New York in 2013."""
    from demo import flights

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"{flights.YEAR}.csv"
        flights.write_bronze(path)
        return _trial(f"nyc/{flights.YEAR}", path, flights.YEAR, None, cut)


def planted(seed: int, airports: int, rows: int, anomalies: float) -> Trial:
    """Return a year of make_year.py: storms, strong and moderate days, closures and gaps in a heavy-tailed year.

    airports: 0 means all airports of make_year.py.
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
        parts = LocalParts(Path(scratch))
        refined = ingest.ingest_year(source, year, Path(scratch), Threads(1), parts)  # years are created in parallel
        days = gold.airport_days(refined.sums, year).to_pandas(date_as_object=False)
        if truth is not None:
            return Trial(name, days, None, pd.read_csv(truth, keep_default_na=False))
        silver = (parts.read(part.file.name) for part in refined.parts)
        return Trial(name, days, evaluation.halves(silver, year, cut), None)
