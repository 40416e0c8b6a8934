"""Convert a bronze CSV to silver and gold: ours, DuckDB and pandas on a full-size year.

Run `python benchmarks/refinery.py --help` for the options. Ours does all of the silver and gold steps: rejected rows,
duplicates, the quality report, hashes. DuckDB reads the same CSV with given types, writes zstd parquet and groups it by
airport and day; pandas reads the whole file, writes parquet and groups.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "dags")]

from benchmarks.contest import Cost, cost, medians
from utils import schemas
from utils.settings import cores

YEAR = 2018
HERE = Path(__file__).parent
SUMS = {
    "scheduled": "count(*)",
    "cancelled": "count(*) FILTER (cancelled)",
    "diverted": "count(*) FILTER (diverted)",
    "mean_dep_delay_min": "avg(dep_delay) FILTER (NOT cancelled)",
    "std_dep_delay_min": "stddev_samp(dep_delay) FILTER (NOT cancelled)",
    "max_dep_delay_min": "max(dep_delay) FILTER (NOT cancelled)",
    "delayed_15": "count(*) FILTER (NOT cancelled AND dep_delay >= 15)",
    "delayed_60": "count(*) FILTER (NOT cancelled AND dep_delay >= 60)",
    "disrupted": "count(*) FILTER (cancelled OR dep_delay > 60)",
    "mean_effective_delay_min": "avg(CASE WHEN cancelled THEN 120 ELSE least(dep_delay, 120) END)",
    "std_effective_delay_min": "stddev_samp(CASE WHEN cancelled THEN 120 ELSE least(dep_delay, 120) END)",
    **{f"{cause}_min": f"sum({cause}_delay)" for cause in ("carrier", "weather", "nas", "security", "late_aircraft")},
    **{
        f"cancelled_{cause}": f"count(*) FILTER (cancelled AND cancellation_code = '{code}')"
        for code, cause in zip("ABCD", ("carrier", "weather", "nas", "security"), strict=True)
    },
}


def ours(csv: Path, out: Path) -> None:
    """Run the product's own steps on a lake in `out`."""
    from utils.pipeline import refine
    from utils.settings import Settings

    bronze = out / "01_bronze" / f"{YEAR}.csv"
    bronze.parent.mkdir(parents=True)
    os.link(csv, bronze)
    settings = Settings(lake=out.as_uri(), warehouse="", threads=cores())
    refine.write_silver(settings, YEAR)
    refine.write_gold(settings, YEAR)


def duckdb(csv: Path, out: Path) -> None:
    """Convert the typed CSV to one zstd parquet file, and that file to airport-days."""
    import duckdb as engine

    read, cast = [], []
    for name, kind in schemas.FLIGHT_COLUMNS:
        target = {"date32[day]": "DATE", "int16": "SMALLINT", "int32": "INTEGER", "bool": "BOOLEAN"}.get(
            str(kind), "VARCHAR"
        )
        read.append(f"'{name}': '{'FLOAT' if target in ('SMALLINT', 'INTEGER', 'BOOLEAN') else target}'")
        cast.append(
            f'"{name}" = 1 AS {name.lower()}' if target == "BOOLEAN" else f'"{name}"::{target} AS {name.lower()}'
        )
    columns = "{" + ", ".join([*read, f"'{schemas.EMPTY_COLUMN}': 'VARCHAR'"]) + "}"
    silver, gold = out / "silver.parquet", out / "gold.parquet"
    sums = ", ".join(f"{expression} AS {name}" for name, expression in SUMS.items())
    with engine.connect() as connection:
        connection.execute(f"SET threads = {cores()}")
        source = f"read_csv('{csv}', header = true, auto_detect = false, columns = {columns})"
        connection.execute(
            f"COPY (SELECT {', '.join(cast)} FROM {source}) TO '{silver}' (FORMAT parquet, COMPRESSION zstd)"
        )
        grouped = f"SELECT origin, fl_date, {sums} FROM '{silver}' GROUP BY ALL ORDER BY ALL"
        connection.execute(f"COPY ({grouped}) TO '{gold}' (FORMAT parquet, COMPRESSION zstd)")


def pandas(csv: Path, out: Path) -> None:
    """Read the whole year, write it and group it."""
    import pandas as engine

    flights = engine.read_csv(csv, parse_dates=["FL_DATE"])
    flights.to_parquet(out / "silver.parquet", compression="zstd")
    flown = flights[flights["CANCELLED"] == 0]
    days = flown.groupby(["ORIGIN", "FL_DATE"])["DEP_DELAY"].agg(["count", "mean", "std", "max"])
    causes = [
        "CARRIER_DELAY",
        "WEATHER_DELAY",
        "NAS_DELAY",
        "SECURITY_DELAY",
        "LATE_AIRCRAFT_DELAY",
        "CANCELLED",
        "DIVERTED",
    ]
    days.join(flights.groupby(["ORIGIN", "FL_DATE"])[causes].sum(), how="outer").to_parquet(out / "gold.parquet")


CONTESTANTS = {"delaywatch": ours, "duckdb": duckdb, "pandas": pandas}


def measure(name: str, csv: Path, scratch: Path) -> Cost:
    """Return the cost of one contestant; its output is removed."""
    out = Path(tempfile.mkdtemp(dir=scratch))
    try:
        return cost(__file__, name, csv, out)
    finally:
        shutil.rmtree(out)


def make_year(folder: Path, rows: int) -> Path:
    """Create a synthetic year with the oddities of the real file with make_year.py, unless it exists."""
    csv = folder / f"{YEAR}-{rows}.csv"
    if not csv.exists():
        parts = [
            HERE / "make_year.py",
            "--year",
            YEAR,
            "--rows",
            rows,
            "--seed",
            7,
            "--quirks",
            "--out",
            csv,
            "--truth",
            f"{csv}.truth",
        ]
        child = os.posix_spawn(sys.executable, [sys.executable, *map(str, parts)], os.environ)
        if os.waitpid(child, 0)[1]:
            raise SystemExit("make_year.py failed")
    return csv


@contextmanager
def busy_process() -> Iterator[None]:
    """Keep one core busy inside the context."""
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        child.kill()
        child.wait()


def compare(csv: Path, names: list[str], rounds: int, scratch: Path, beside: str) -> None:
    """Print the medians of `rounds` rounds and the ratios of ours to each of the others. beside: other load."""
    # Fills the page cache; in small steps, because a child's peak memory starts at our size.
    with csv.open("rb") as file:
        while file.read(1 << 20):
            continue
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            costs[name].append(measure(name, csv, scratch))
    by_name = medians(costs)
    print(f"{csv.name}: {csv.stat().st_size / 1e6:.0f} MB, median of {rounds}, {cores()} cores, {beside}")
    for name, run in by_name.items():
        print(f"  {name:<10} {run.wall_s:6.1f} s wall {run.cpu_s:6.1f} s CPU {run.peak_mb:7.0f} MB peak")
    first = by_name[names[0]]
    for name in names[1:]:
        print(
            f"  {names[0]} / {name}: wall {first.wall_s / by_name[name].wall_s:.2f}x, "
            f"CPU {first.cpu_s / by_name[name].cpu_s:.2f}x, memory {first.peak_mb / by_name[name].peak_mb:.2f}x"
        )


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=7_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument(
        "--scratch", type=Path, default=Path(tempfile.gettempdir()) / "delaywatch-bench", help="holds the made year"
    )
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        name, csv, out = options.run
        CONTESTANTS[name](Path(csv), Path(out))
        return
    options.scratch.mkdir(parents=True, exist_ok=True)
    csv = make_year(options.scratch, options.rows)
    compare(csv, options.only, options.rounds, options.scratch, "quiet")
    with busy_process():
        compare(csv, options.only, options.rounds, options.scratch, "beside one busy process")


if __name__ == "__main__":
    main()
