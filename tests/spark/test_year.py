"""The steps after silver, and other programs, find in Spark's silver what they find in that of threads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import pytest

from tests.steps import BRONZE, BRONZE_KEY, YEAR, everything, run
from utils.layers import csv_reader
from utils.pipeline import refine
from utils.settings import Settings
from utils.spark import SparkEngine
from utils.storage.lake import Lake

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SILVER, GOLD = "02_silver/flights", "03_gold/airport_days"
DELAYS = "SELECT op_carrier, count(*), sum(dep_delay) FROM {} GROUP BY op_carrier ORDER BY op_carrier"
SCHEDULED = "SELECT origin, sum(scheduled) FROM {} GROUP BY origin ORDER BY origin"
Rows = list[tuple[Any, ...]]


@pytest.fixture
def settings(folder_settings: Settings, warehouse: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A lake with the small year, which Spark reads in 10 parts, and an empty warehouse."""
    monkeypatch.setattr(csv_reader, "PIECE_BYTES", 32 << 10)
    settings = folder_settings.replace(warehouse=warehouse)
    Lake(settings).store.put(BRONZE_KEY, BRONZE)
    return settings


def test_a_run_with_the_silver_of_spark_changes_nothing_after_a_run_with_threads(
    settings: Settings, spark_engine: SparkEngine
) -> None:
    run(settings.replace(engine="threads"))
    before = everything(settings)
    Lake(settings).store.delete(Lake(settings).store.list("02_silver/"))

    run(settings)
    assert everything(settings) == before


def in_duckdb(query: str, folder: Path) -> Rows:
    with duckdb.connect() as connection:
        table = f"read_parquet('{folder}/*/*.parquet', hive_partitioning = true)"
        return connection.execute(query.format(table)).fetchall()


def in_spark(query: str, folder: Path, session: SparkSession) -> Rows:
    return [tuple(row) for row in session.sql(query.format(f"parquet.`{folder}`")).collect()]


def test_spark_duckdb_and_pandas_read_equal_tables(settings: Settings, session: SparkSession) -> None:
    copies = BRONZE.splitlines(keepends=True)[1:50]  # their parts are written twice
    Lake(settings).store.put(BRONZE_KEY, BRONZE + b"".join(copies))
    refine.write_silver(settings, YEAR)
    refine.write_gold(settings, YEAR)
    silver, gold = (Path(settings.lake.removeprefix("file://")) / folder for folder in (SILVER, GOLD))

    flights, days = pd.read_parquet(silver), pd.read_parquet(gold)
    delays = flights.groupby("op_carrier", observed=True)["dep_delay"].agg(["size", "sum"])
    delays_in_pandas = [(carrier, int(size), int(total)) for carrier, size, total in delays.itertuples()]
    scheduled_in_pandas = list(days.groupby("origin", observed=True)["scheduled"].sum().items())
    assert in_spark(DELAYS, silver, session) == in_duckdb(DELAYS, silver) == delays_in_pandas
    assert in_spark(SCHEDULED, gold, session) == in_duckdb(SCHEDULED, gold) == scheduled_in_pandas
    assert scheduled_in_pandas == [("ACK", 3 * 365), ("EWR", 16 * 365), ("JFK", 24 * 365)]
    assert delays_in_pandas[0][:2] == ("UA", 43 * 365)
