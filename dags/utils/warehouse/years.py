"""Read counts and hashes of each year in the warehouse, to compare it with the lake.

This module reads no rows and imports no pandas or Alembic, because `health` runs in a container with little memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from psycopg2.sql import SQL

from utils.warehouse.connection import Postgres
from utils.warehouse.tables import TABLES

LAST_RUNS = """
    SELECT DISTINCT ON (year) year, ended, params_hash FROM flights.runs
    WHERE ended IS NOT NULL ORDER BY year, ended DESC
"""
FILES = "SELECT year, sha256 FROM flights.bronze_quality"


@dataclass(frozen=True)
class WarehouseYear:
    """One published year: its last run, the hash of its bronze file, and its row counts.

    rows: by table; verdicts as `anomalies of <detector>`. ended: timezone-aware.
    """

    ended: datetime
    params_hash: str | None
    sha256: str | None
    rows: dict[str, int] = field(default_factory=dict)


def finished_years(url: str) -> tuple[str, dict[int, WarehouseYear]]:
    """Return the warehouse's name for messages, and the years whose run has ended, by year.

    Raises DelaywatchError if the warehouse cannot be reached, refuses the login or lacks the tables.
    """
    server = Postgres(url, connect_timeout_s=10, lock_timeout_s=10)
    try:
        with server.transaction("reading the years of the warehouse") as cursor:
            cursor.execute(FILES)
            files = dict(cursor.fetchall())
            cursor.execute(LAST_RUNS)
            runs = cursor.fetchall()
            years = {}
            for year, ended, params_hash in runs:
                in_year = {name: TABLES[name].in_year(year) for name in ("airport_days", "anomalies")}
                cursor.execute(
                    SQL(
                        "SELECT 'airport_days', count(*) FROM flights.airport_days t WHERE {airport_days} UNION ALL "
                        "SELECT 'anomalies of ' || detector, count(*) FROM flights.anomalies t WHERE {anomalies} "
                        "GROUP BY detector"
                    ).format(**in_year)
                )
                years[year] = WarehouseYear(ended, params_hash, files.get(year), dict(cursor.fetchall()))
    finally:
        server.engine.dispose()
    return server.place, years
