"""Real flights in the published form; skipped where the folder `shared/data/dev` is missing."""

from __future__ import annotations

import csv
import gzip
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from utils.layers import ingest, quality
from utils.layers.engines import Threads
from utils.storage.folder import FolderSource
from utils.storage.parts import LocalParts

DATA = Path(__file__).parents[4] / "shared" / "data" / "dev"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real flights of shared/data/dev are not on this machine")


def read(name: str, folder: Path) -> tuple[list[dict[str, str]], ingest.IngestedYear]:
    """The rows of a real file, and the result of the pass over it."""
    year = int(Path(name).name[:4])
    data = (DATA / name).read_bytes()
    rows = list(csv.DictReader((gzip.decompress(data) if name.endswith(".gz") else data).decode().splitlines()))
    with closing(FolderSource(f"01_bronze/{Path(name).name}", DATA / name)) as source:
        ingested = ingest.ingest_year(source, year, folder, Threads(2), LocalParts(folder))
    return rows, ingested


def test_missing_delays_come_from_the_times_and_those_of_cancelled_flights_are_not_in_the_sums(tmp_path: Path) -> None:
    """Flights of 9E on 1 January 2018 have both times and no DEP_DELAY; cancelled flights that returned have one."""
    rows, ingested = read("kaggle_sample/2018_first9999.csv", tmp_path)
    flights = pa.concat_tables(map(pq.read_table, sorted(tmp_path.glob("part-*.parquet")))).unify_dictionaries()
    departed = flights.filter(pc.and_(pc.invert(flights["cancelled"]), pc.is_valid(flights["dep_time"])))
    empty = [row for row in rows if not row["DEP_DELAY"] and row["DEP_TIME"] and row["CANCELLED"] == "0.0"]
    returned = [row for row in rows if row["CANCELLED"] == "1.0" and row["DEP_DELAY"]]
    delays = [float(row["DEP_DELAY"]) for row in rows if row["CANCELLED"] == "0.0" and row["DEP_DELAY"]]

    assert {row["OP_CARRIER"] for row in empty} == {"9E"}
    assert departed["dep_delay"].null_count == 0
    assert pc.count(flights.filter(flights["cancelled"])["dep_delay"]).as_py() == len(returned) > 0
    assert sum(ingested.sums["delay_min"].to_pylist()) == sum(delays)


@pytest.mark.parametrize("name", ["nyc/2013.csv.gz", "hou/2011.csv.gz", "lex/2022.csv.gz", "bay/2020.csv.gz"])
def test_a_real_year_loses_no_flight_and_has_no_gap(tmp_path: Path, name: str) -> None:
    rows, ingested = read(name, tmp_path)

    assert (ingested.rows_kept, ingested.rows_duplicate, ingested.rejected.num_rows) == (len(rows), 0, 0)
    assert sum(ingested.sums["cancelled"].to_pylist()) == sum(row["CANCELLED"] == "1.0" for row in rows)
    assert quality.report(int(name[4:8]), name, ingested)["gaps"] == []
