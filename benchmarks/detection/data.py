"""The years of the benchmark: real flights from files of the user, and synthetic flights with planted bad days.

The flights pass through the product's own steps, so the airport-days are the same as in gold.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from joblib import Memory

from utils.layers import gold, ingest
from utils.layers.engines import Threads
from utils.storage.folder import FolderSource
from utils.storage.parts import LocalParts
from utils.tuning import labels

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = ROOT / "benchmarks" / "make_year.py"
# The code that computes airport-days and halves. If it changes, cached years are not used.
SOURCES = (
    ROOT / "dags/utils/layers",
    ROOT / "dags/utils/schemas.py",
    ROOT / "dags/utils/tuning/labels.py",
    GENERATOR,
    GENERATOR.with_name("make_year_calib.npz"),
)
PLANTED_YEAR = 2018  # make_year.py is calibrated on it

# The years whose result decided settings of `delaywatch` and `arima`. Earlier versions were also tuned on nyc/2013 and
# on half of the airports of us/2008; results.md says so.
TUNED = frozenset({"hou/2011", "pnw/2014", "bay/2020", "abq/2009", "abq/2010", "abq/2011"})
TUNED_SEEDS = frozenset({1, 2, 3, 4})

VISIBLE_Z, VISIBLE_CANCELLED = 3.0, 0.15  # a known day is visible from this robust z or cancelled share
KNOWN_COLUMNS = ("date", "airports", "dataset")


@dataclass(frozen=True)
class Year:
    """A year of airport-days with its known facts: halves of real flights, or the truth of synthetic ones."""

    name: str  # us/2008, or planted/101
    days: pd.DataFrame  # schemas.AIRPORT_DAYS
    splits: tuple[tuple[pd.DataFrame, pd.DataFrame], ...]  # real flights: both halves of each split
    truth: pd.DataFrame | None  # synthetic flights: the planted days

    @property
    def airports(self) -> int:
        """Number of airports."""
        return int(self.days["origin"].nunique())

    @property
    def parts(self) -> dict[str, pd.DataFrame]:
        """The inputs of a contestant: `days` and the halves `0.one`, `0.other`, `1.one` ..."""
        halves = {
            f"{number}.{name}": half
            for number, split in enumerate(self.splits)
            for name, half in zip(("one", "other"), split, strict=True)
        }
        return {"days": self.days, **halves}


def is_tuned(name: str) -> bool:
    """Return True if settings of `delaywatch` were chosen on this year."""
    area, _, number = name.partition("/")
    return name in TUNED or (area == "planted" and int(number) in TUNED_SEEDS)


def files(folder: Path) -> list[Path]:
    """Return the years of a folder, every `<area>/<year>.csv` or `.csv.gz`, largest first."""
    paths = [path for path in folder.glob("*/*.csv*") if re.fullmatch(r"\d{4}\.csv(\.gz)?", path.name)]
    return sorted(paths, key=lambda path: (-path.stat().st_size, path))


def read_file(path: Path, splits: int, memory: Memory) -> Year:
    """Return a year of flights with `splits` random splits into halves.

    If `<year>.truth.csv` of make_year.py is next to the file, its planted days are the truth.
    """
    truth = path.with_name(f"{path.name[:4]}.truth.csv")
    known = truth if truth.exists() else None
    key = digest_of_files([path, *([truth] if known else []), *SOURCES])
    load = memory.cache(_load, ignore=["path", "truth"])
    return load(f"{path.parent.name}/{path.name[:4]}", path, int(path.name[:4]), known, splits, key)  # type: ignore[no-any-return]


def read_package(splits: int, memory: Memory) -> Year:
    """Return the real year of the repository's own packages: New York in 2013."""
    from demo import flights

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "nyc" / f"{flights.YEAR}.csv"
        path.parent.mkdir()
        flights.write_bronze(path)
        return read_file(path, splits, memory)


def planted(seed: int, airports: int, rows: int, memory: Memory, year: int = PLANTED_YEAR) -> Year:
    """Return a year of make_year.py: storms, strong and moderate days, closures and gaps in a heavy-tailed year.

    airports: 0 means all airports of make_year.py.
    """
    make = memory.cache(_planted)
    return make(seed, airports, rows, year, digest_of_files(SOURCES))  # type: ignore[no-any-return]


def known_days(path: Path | None, years: Iterable[Year]) -> pd.DataFrame:
    """Return the days of events.csv that anybody can see in the data: `year`, `origin` and `fl_date`.

    events.csv has one event per line: `date`, `airports` (`JFK|EWR`) and `dataset`, the name of its year. A day is
    visible if its mean delay is at least VISIBLE_Z robust standard deviations above the airport's median of the year,
    or if at least VISIBLE_CANCELLED of the schedule was cancelled. Raises SystemExit if a column is missing.
    """
    columns = ["year", "origin", "fl_date"]
    if path is None or not path.exists():
        return pd.DataFrame(columns=columns)
    rows = pd.read_csv(path, keep_default_na=False)
    if missing := [name for name in KNOWN_COLUMNS if name not in rows]:
        raise SystemExit(f"{path} has no column {missing[0]}; it needs {', '.join(KNOWN_COLUMNS)}.")
    rows = rows.assign(origin=rows["airports"].str.split("|"), fl_date=pd.to_datetime(rows["date"])).explode("origin")
    rows = rows.rename(columns={"dataset": "year"})[columns].drop_duplicates()
    visible = [_visible(year.days).assign(year=year.name) for year in years if year.truth is None]
    return rows.merge(pd.concat(visible), on=columns) if visible else rows.iloc[:0]


def digest_of_files(paths: Iterable[Path]) -> str:
    """Return a hash of the content of files, and of all Python files of folders."""
    content = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            with file.open("rb") as stream:
                content.update(hashlib.file_digest(stream, "sha256").digest())
    return content.hexdigest()


def _visible(days: pd.DataFrame) -> pd.DataFrame:
    delay = days["mean_dep_delay_min"].astype(float)
    residual = delay - delay.groupby(days["origin"]).transform("median")
    spread = 1.4826 * residual.abs().groupby(days["origin"]).transform("median")
    is_visible = (residual >= VISIBLE_Z * spread) | (days["cancelled"] >= VISIBLE_CANCELLED * days["scheduled"])
    rows = days.loc[is_visible & (days["scheduled"] > 0), ["origin", "fl_date"]]
    return rows.assign(fl_date=pd.to_datetime(rows["fl_date"]))


def _planted(seed: int, airports: int, rows: int, year: int, key: str) -> Year:
    with tempfile.TemporaryDirectory() as scratch:
        csv, truth = Path(scratch) / f"{year}.csv", Path(scratch) / "truth.csv"
        options = {"year": year, "rows": rows, "airports": airports, "seed": seed, "out": csv, "truth": truth}
        command = [sys.executable, str(GENERATOR), *(f"--{name}={value}" for name, value in options.items())]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return _load(f"planted/{seed}", csv, year, truth, 0, key)


def _load(name: str, path: Path, year: int, truth: Path | None, splits: int, key: str) -> Year:
    """Read a CSV of flights. `key`, the hash of files and code, is the key of the cache."""
    del key
    with tempfile.TemporaryDirectory() as scratch, closing(FolderSource(path.name, path)) as source:
        parts = LocalParts(Path(scratch))
        refined = ingest.ingest_year(source, year, Path(scratch), Threads(1), parts)  # years are read in parallel
        days = gold.airport_days(refined.sums, year).to_pandas(date_as_object=False)
        if truth is not None:
            return Year(name, days, (), pd.read_csv(truth, keep_default_na=False))
        halves = tuple(
            labels.halves((parts.read(part.file.name) for part in refined.parts), year, seed) for seed in range(splits)
        )
        return Year(name, days, halves, None)
