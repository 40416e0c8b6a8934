"""Real flights in the published form; skipped where the folder `shared/data/dev` is missing."""

from __future__ import annotations

import csv
import gzip
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from utils.layers import ingest, quality
from utils.storage.folder import FolderSource
from utils.storage.parquet import write_parquet

DATA = Path(__file__).parents[4] / "shared" / "data" / "dev"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real flights of shared/data/dev are not on this machine")


class Year(NamedTuple):
    """A real file as read here, and the result of the pass over it."""

    rows: list[dict[str, str]]
    flights: pa.Table
    ingested: ingest.IngestedYear


def read(name: str, folder: Path) -> Year:
    year = int(Path(name).name[:4])
    data = (DATA / name).read_bytes()
    rows = list(csv.DictReader((gzip.decompress(data) if name.endswith(".gz") else data).decode().splitlines()))
    with closing(FolderSource(f"01_bronze/{Path(name).name}", DATA / name)) as source:
        ingested = ingest.ingest_year(source, year, folder, 2, write_parquet)
    flights = pa.concat_tables([pq.read_table(part.path) for part in ingested.parts]).unify_dictionaries()
    return Year(rows, flights, ingested)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Year:
    return read("kaggle_sample/2018_first9999.csv", tmp_path_factory.mktemp("sample"))


def test_flights_without_a_delay_get_it_from_their_times(sample: Year) -> None:
    """Flights of 9E on 1 January 2018 have both times and no DEP_DELAY."""
    empty = [row for row in sample.rows if not row["DEP_DELAY"] and row["DEP_TIME"] and row["CANCELLED"] == "0.0"]
    departed = sample.flights.filter(pc.invert(sample.flights["cancelled"]))

    assert {row["OP_CARRIER"] for row in empty} == {"9E"}
    assert departed.filter(pc.is_valid(departed["dep_time"]))["dep_delay"].null_count == 0


def test_cancelled_flights_that_returned_keep_their_delay_in_silver_but_not_in_the_sums(sample: Year) -> None:
    returned = [row for row in sample.rows if row["CANCELLED"] == "1.0" and row["DEP_DELAY"]]
    delays = [float(row["DEP_DELAY"]) for row in sample.rows if row["CANCELLED"] == "0.0" and row["DEP_DELAY"]]

    assert pc.count(sample.flights.filter(sample.flights["cancelled"])["dep_delay"]).as_py() == len(returned) > 0
    assert sum(sample.ingested.sums["delay_min"].to_pylist()) == sum(delays)


@pytest.mark.parametrize("name", ["nyc/2013.csv.gz", "hou/2011.csv.gz", "lex/2022.csv.gz", "bay/2020.csv.gz"])
def test_a_real_year_loses_no_flight_and_has_no_gap(tmp_path: Path, name: str) -> None:
    rows, _, ingested = read(name, tmp_path)

    assert (ingested.rows_kept, ingested.rows_duplicate, ingested.rejected.num_rows) == (len(rows), 0, 0)
    assert sum(ingested.sums["cancelled"].to_pylist()) == sum(row["CANCELLED"] == "1.0" for row in rows)
    assert quality.report(int(name[4:8]), name, ingested)["gaps"] == []
