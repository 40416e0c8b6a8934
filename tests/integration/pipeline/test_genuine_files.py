"""The traps of the published dataset on its own bytes. An extra: skipped where the folder `shared/data/dev` is absent.

Every trap is covered by data of the tests' own in test_silver, test_gold and test_refinery as well.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from utils.layers import gold, ingest, quality
from utils.storage.folder import FolderSource
from utils.storage.parquet import write_parquet

DATA = Path(__file__).parents[4] / "shared" / "data" / "dev"
SAMPLE = "kaggle_sample/2018_first9999.csv"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real flights of shared/data/dev are not on this machine")


def refine(name: str, year: int, folder: Path) -> tuple[ingest.IngestedYear, pa.Table]:
    staging = folder / "staging"
    staging.mkdir()
    with closing(FolderSource(f"01_bronze/{Path(name).name}", DATA / name)) as source:
        refined = ingest.ingest_year(source, year, staging, 2, write_parquet)
    flights = pa.concat_tables([pq.read_table(part.path) for part in refined.parts]).unify_dictionaries()
    return refined, flights


def raw_rows(name: str) -> Iterator[dict[str, str]]:
    data = (DATA / name).read_bytes()
    text = (gzip.decompress(data) if name.endswith(".gz") else data).decode()
    yield from csv.DictReader(text.splitlines())


def test_every_row_of_the_genuine_sample_is_a_flight(tmp_path: Path) -> None:
    refined, flights = refine(SAMPLE, 2018, tmp_path)

    assert (refined.rows_read, refined.rows_kept, refined.rejected.num_rows, flights.num_rows) == (9999, 9999, 0, 9999)


def test_on_time_flights_of_9e_get_the_delay_that_the_genuine_file_left_empty(tmp_path: Path) -> None:
    """On 1 January 2018 they have both times and no DEP_DELAY; none of them is taken for cancelled."""
    empty = [row for row in raw_rows(SAMPLE) if not row["DEP_DELAY"] and row["DEP_TIME"] and row["CANCELLED"] == "0.0"]
    _, flights = refine(SAMPLE, 2018, tmp_path)
    left = flights.filter(pa.compute.invert(flights["cancelled"]))

    assert len(empty) == 15
    assert {row["OP_CARRIER"] for row in empty} == {"9E"}
    assert left.filter(pa.compute.is_valid(left["dep_time"]))["dep_delay"].null_count == 0


def test_cancelled_flights_that_came_back_keep_their_delay_in_silver_and_not_in_gold(tmp_path: Path) -> None:
    came_back = [row for row in raw_rows(SAMPLE) if row["CANCELLED"] == "1.0" and row["DEP_DELAY"]]
    _, flights = refine(SAMPLE, 2018, tmp_path)
    delays = flights.filter(flights["cancelled"])["dep_delay"]
    sums = gold.day_sums(flights)
    flown = [row for row in raw_rows(SAMPLE) if row["CANCELLED"] == "0.0" and row["DEP_DELAY"]]

    assert len(came_back) > 0
    assert len(delays) - delays.null_count == len(came_back)
    assert sum(sums["delay_min"].to_pylist()) == sum(int(float(row["DEP_DELAY"])) for row in flown)


def test_the_genuine_sample_warns_of_the_months_that_it_lacks(tmp_path: Path) -> None:
    refined, _ = refine(SAMPLE, 2018, tmp_path)
    report = quality.report(2018, "01_bronze/2018.csv", refined)

    assert report["missing_months"] == list(range(2, 13))
    assert (report["doubled_months"], len(report["missing_days"])) == ([], 364)


@pytest.mark.parametrize(
    ("name", "year", "kept", "duplicates"),
    [
        ("nyc/2013.csv.gz", 2013, 336_776, 0),
        ("hou/2011.csv.gz", 2011, 227_496, 0),
        ("lex/2022.csv.gz", 2022, 6_642, 0),
        ("nyc/2014.csv.gz", 2014, 253_316, 0),
    ],
)
def test_no_real_flight_is_lost(tmp_path: Path, name: str, year: int, kept: int, duplicates: int) -> None:
    refined, _ = refine(name, year, tmp_path)

    assert (refined.rows_kept, refined.rows_duplicate, refined.rejected.num_rows) == (kept, duplicates, 0)


def test_houston_s_cancelled_flights_with_a_delay_are_cancelled(tmp_path: Path) -> None:
    rows = [row for row in raw_rows("hou/2011.csv.gz") if row["CANCELLED"] == "1.0"]
    _, flights = refine("hou/2011.csv.gz", 2011, tmp_path)
    sums = gold.day_sums(flights)

    assert sum(row["DEP_DELAY"] != "" for row in rows) > 0
    assert sum(sums["cancelled"].to_pylist()) == len(rows)


@pytest.mark.parametrize(
    ("name", "year"), [("nyc/2013.csv.gz", 2013), ("lex/2022.csv.gz", 2022), ("bay/2020.csv.gz", 2020)]
)
def test_no_airport_and_no_carrier_of_a_real_year_has_a_gap(tmp_path: Path, name: str, year: int) -> None:
    refined, _ = refine(name, year, tmp_path)

    assert quality.report(year, name, refined)["gaps"] == []
