"""The lake for readers that are not ours: Athena's DDL against real files, DuckDB, pyarrow.dataset, QuickSight."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import botocore.session
import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from utils.settings import Settings
from utils.storage.keys import bronze_keys, sums_key
from utils.storage.lake import Lake

ROOT = Path(__file__).resolve().parents[3]
LAKEHOUSE = ROOT / "infra-notes/lakehouse"
PAGE = (ROOT / "infra-notes/lakehouse.md").read_text()
DUCKDB_TYPES = {
    "bigint": "BIGINT",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "float": "FLOAT",
    "int": "INTEGER",
    "smallint": "SMALLINT",
    "string": "VARCHAR",
}
STATEMENT = re.compile(
    r"CREATE EXTERNAL TABLE IF NOT EXISTS delaywatch\.(?P<name>\w+) \((?P<columns>[^)]+)\)\s+"
    r"PARTITIONED BY \((?P<partitions>[^)]+)\)\s+STORED AS PARQUET\s+"
    r"LOCATION 's3://BUCKET/lake/(?P<location>[^']+)'\s+TBLPROPERTIES \((?P<properties>[^)]+)\);"
)


def ddl(lake: str) -> str:
    """What the program prints for this lake."""
    command = [sys.executable, str(LAKEHOUSE / "athena.py"), lake]
    environment = {"PYTHONPATH": str(ROOT / "dags")}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


DDL = ddl("s3://BUCKET/lake")
TABLES = {found["name"]: found for found in STATEMENT.finditer(DDL)}


def columns(text: str) -> list[tuple[str, str]]:
    """(name, type of Hive) of a list of columns."""
    return re.findall(r"`(\w+)` (\w+)", text)


def properties(name: str) -> dict[str, str]:
    return dict(re.findall(r"'([^']+)' = '([^']+)'", TABLES[name]["properties"]))


def code(language: str, about: str) -> str:
    """The block of the page in this language that has these words in it."""
    (found,) = (block for block in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if about in block)
    return str(found)


def athena_sees(path: Path) -> bool:
    """Athena and Spectrum skip names that begin with an underscore or a dot."""
    return not path.name.startswith(("_", "."))


def duckdb_rows(query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        return connection.execute(query).fetchall()


def files_of(name: str, folder: Path) -> list[Path]:
    """What Athena reads as this table."""
    return sorted(
        path for path in (folder / TABLES[name]["location"]).rglob("*") if path.is_file() and athena_sees(path)
    )


def test_the_ddl_of_another_bucket_names_that_bucket_alone() -> None:
    assert set(re.findall(r"'(s3://[^/]+/)", ddl("s3://mine/"))) == {"s3://mine/"}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_the_columns_that_its_files_have_and_then_those_of_its_folders(name: str, folder: Path) -> None:
    files = [str(path) for path in files_of(name, folder)]
    in_files, in_folders = (columns(TABLES[name][part]) for part in ("columns", "partitions"))

    found = duckdb_rows(f"DESCRIBE SELECT * FROM read_parquet({files}, hive_partitioning = true)")

    described = [(column, kind) for column, kind, *_ in found]
    assert described[: len(in_files)] == [(column, DUCKDB_TYPES[kind]) for column, kind in in_files]
    assert {column for column, _ in described[len(in_files) :]} == {column for column, _ in in_folders}


@pytest.mark.parametrize("name", TABLES)
def test_what_athena_expects_in_a_folders_name_covers_every_folder(name: str, folder: Path) -> None:
    told, location = properties(name), folder / TABLES[name]["location"]
    years = range(*(int(year) for year in told["projection.year.range"].split(",")))
    allowed = {
        "year": {str(year) for year in years},
        "detector": set(told.get("projection.detector.values", "").split(",")),
    }

    for path in files_of(name, folder):
        steps = [part.split("=") for part in path.relative_to(location).parts[:-1]]
        assert [column for column, _ in steps] == [column for column, _ in columns(TABLES[name]["partitions"])]
        assert all(value in allowed[column] for column, value in steps)


def test_every_parquet_file_of_silver_and_gold_is_in_one_table_but_for_the_sums(folder: Path) -> None:
    seen = {path for layer in ("02_silver", "03_gold") for path in (folder / layer).rglob("*.parquet")}
    seen -= {folder / sums_key(year) for year in (2017, 2018)}

    in_tables = [path for name in TABLES for path in files_of(name, folder)]

    assert sorted(in_tables) == sorted(seen)


def test_duckdb_counts_what_our_own_reader_counts(folder: Path, settings: Settings) -> None:
    query = code("sql", "02_silver").replace("LAKE", str(folder))
    tables = {year: pa.concat_tables(Lake(settings).read_silver(year)) for year in (2017, 2018)}

    found = duckdb_rows(query)

    cancelled = {year: sum(table["cancelled"].to_pylist()) for year, table in tables.items()}
    assert found == [(year, table.num_rows, cancelled[year]) for year, table in tables.items()]
    assert all(cancelled.values())


def test_duckdb_finds_the_closed_day_in_gold_with_its_reason(folder: Path) -> None:
    query = code("sql", "anomaly_reasons").replace("LAKE", str(folder))

    found = duckdb_rows(query)

    assert {(origin, str(day)) for origin, day, *_ in found} >= {("JFK", "2018-02-08"), ("EWR", "2018-02-08")}
    assert all(day.year == 2018 and sentence for _, day, _, sentence in found)


def test_pyarrow_reads_one_airport_of_one_year_and_nothing_else(folder: Path, settings: Settings) -> None:
    names: dict[str, Any] = {}

    exec(code("python", "pyarrow.dataset").replace("LAKE", str(folder)), names)  # noqa: S102 - it is our own page

    gold = Lake(settings).read_airport_days(2018).to_pandas()
    expected = gold[gold["origin"] == "JFK"].reset_index(drop=True)
    assert names["jfk"].to_pandas().drop(columns="year").equals(expected)
    assert names["jfk"]["year"].unique().to_pylist() == [2018]


@pytest.mark.parametrize("reader", ["pyarrow", "duckdb", "glob"])
def test_every_parquet_file_below_flights_holds_flights_and_nothing_else(
    folder: Path, settings: Settings, reader: str
) -> None:
    flights = folder / "02_silver/flights"
    count = {
        "pyarrow": lambda: ds.dataset(flights, partitioning="hive").count_rows(),
        "duckdb": lambda: duckdb_rows(f"SELECT count(*) FROM '{flights}/*/*.parquet'")[0][0],
        "glob": lambda: sum(pq.read_metadata(path).num_rows for path in flights.glob("*/*.parquet")),
    }

    assert count[reader]() == sum(table.num_rows for year in (2017, 2018) for table in Lake(settings).read_silver(year))


def test_quicksights_manifest_names_a_format_that_quicksight_knows_and_takes_the_years_of_bronze_alone(
    folder: Path,
) -> None:
    manifest = json.loads((LAKEHOUSE / "quicksight.json").read_text())
    formats = botocore.session.get_session().get_service_model("quicksight").shape_for("FileFormat").enum
    (locations,) = manifest["fileLocations"]
    wanted = [*locations.get("URIs", []), *(f"{prefix}*" for prefix in locations.get("URIPrefixes", []))]

    taken = {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if any(fnmatch(f"s3://BUCKET/lake/{path.relative_to(folder)}", pattern) for pattern in wanted)
    }

    assert manifest["globalUploadSettings"]["format"] in formats
    assert "PARQUET" not in formats  # so that bronze is all that it can take
    assert taken == {bronze_keys(year)[0] for year in (2017, 2018)}
