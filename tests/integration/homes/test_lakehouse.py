"""Read a small lake as the pages say: by Athena's DDL, DuckDB, pyarrow.dataset and the manifest of QuickSight."""

from __future__ import annotations

import re
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from utils.settings import Settings
from utils.storage.keys import history_key, sums_key
from utils.storage.lake import Lake

ROOT = Path(__file__).resolve().parents[3]
LAKEHOUSE = ROOT / "infra-notes/lakehouse"
PAGE = (ROOT / "infra-notes/lakehouse.md").read_text()
DUCKDB_TYPES = {"bigint": "BIGINT", "boolean": "BOOLEAN", "date": "DATE", "float": "FLOAT", "int": "INTEGER"}
DUCKDB_TYPES |= {"smallint": "SMALLINT", "string": "VARCHAR"}
STATEMENT = re.compile(
    r"CREATE EXTERNAL TABLE IF NOT EXISTS delaywatch\.(?P<name>\w+) \((?P<columns>[^)]+)\)\s+"
    r"PARTITIONED BY \((?P<partitions>[^)]+)\)\s+STORED AS PARQUET\s+"
    r"LOCATION 's3://mine/(?P<location>[^']+)'\s+TBLPROPERTIES \((?P<properties>[^)]+)\);"
)
YEARS = (2017, 2018)
(FLIGHTS,) = (block for block in re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL) if "02_silver" in block)


@pytest.fixture(scope="module")
def tables() -> dict[str, re.Match[str]]:
    """The statements that athena.py prints, by table."""
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr(sys, "argv", ["athena.py", "s3://mine/"])
        patch.setattr(sys.stdout, "write", printed.append)
        runpy.run_path(str(LAKEHOUSE / "athena.py"), run_name="__main__")
    return {found["name"]: found for found in STATEMENT.finditer("".join(printed))}


def columns(text: str) -> list[tuple[str, str]]:
    return re.findall(r"`(\w+)` (\w+)", text)


def files_of(table: re.Match[str], folder: Path) -> list[Path]:
    """The files that Athena reads; it skips names that begin with an underscore or a dot."""
    paths = (folder / table["location"]).rglob("*")
    return sorted(path for path in paths if path.is_file() and not path.name.startswith(("_", ".")))


def query(statement: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        return connection.execute(statement).fetchall()


def test_every_table_has_the_columns_and_folders_of_its_files(tables: dict[str, re.Match[str]], folder: Path) -> None:
    assert len(tables) == 8
    for table in tables.values():
        files = files_of(table, folder)
        in_files, in_folders = columns(table["columns"]), [column for column, _ in columns(table["partitions"])]
        properties = dict(re.findall(r"'([^']+)' = '([^']+)'", table["properties"]))
        first, last = map(int, properties["projection.year.range"].split(","))
        detectors = properties.get("projection.detector.values", "").split(",")

        described = query(f"DESCRIBE SELECT * FROM read_parquet({[*map(str, files)]}, hive_partitioning = true)")

        found = [(column, kind) for column, kind, *_ in described]
        assert found[: len(in_files)] == [(column, DUCKDB_TYPES[kind]) for column, kind in in_files]
        assert {column for column, _ in found[len(in_files) :]} == set(in_folders)
        for path in files:
            parts = dict(part.split("=") for part in path.relative_to(folder / table["location"]).parts[:-1])
            assert list(parts) == in_folders
            assert first <= int(parts["year"]) <= last
            assert parts.get("detector", detectors[0]) in detectors


def test_every_parquet_file_is_in_one_table_except_the_sums_and_the_copies_of_the_year_before(
    tables: dict[str, re.Match[str]], folder: Path
) -> None:
    files = {path for layer in ("02_silver", "03_gold") for path in (folder / layer).rglob("*.parquet")}
    files -= {folder / key(year) for key in (sums_key, history_key) for year in YEARS}

    assert sorted(path for table in tables.values() for path in files_of(table, folder)) == sorted(files)


def test_duckdb_pyarrow_and_our_reader_count_the_same_flights(folder: Path, settings: Settings) -> None:
    silver = {year: pa.concat_tables(Lake(settings).read_silver(year)) for year in YEARS}
    flights = folder / "02_silver/flights"

    counted = query(FLIGHTS.replace("LAKE", str(folder)))

    assert counted == [(year, table.num_rows, sum(table["cancelled"].to_pylist())) for year, table in silver.items()]
    assert all(cancelled for *_, cancelled in counted)
    total = sum(table.num_rows for table in silver.values())
    assert ds.dataset(flights, partitioning="hive").count_rows() == total
    assert query(f"SELECT count(*) FROM '{flights}/*/*.parquet'") == [(total,)]


def test_the_query_of_the_page_ignores_parts_of_an_earlier_version(folder: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(folder, lake)
    part = next((lake / "02_silver/flights/year=2018").glob("*.parquet"))
    shutil.copy(part, part.with_name("part-00000-earlier.parquet"))

    assert query(FLIGHTS.replace("LAKE", str(lake))) == query(FLIGHTS.replace("LAKE", str(folder)))
