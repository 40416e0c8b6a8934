"""The demo's flights: what the package says of a flight, and what a Kaggle file would say of it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from demo import flights
from tests.builders import HEADER

NO_TIMES = {"dep_time": None, "dep_delay": None, "arr_time": None, "arr_delay": None, "air_time": None}
FLOWN = {
    "year": "2013", "month": "2", "day": "9", "dep_time": "2400", "sched_dep_time": "2359", "dep_delay": "1",
    "arr_time": "432", "sched_arr_time": "444", "arr_delay": "-12", "carrier": "B6", "flight": "739", "origin": "JFK",
    "dest": "PSE", "air_time": "195", "distance": "1617",
}  # fmt: skip


def as_kaggle_writes_it(**changes: str | None) -> dict[str, str | None]:
    row = {**FLOWN, **changes}
    package = pa.table({name: pa.array([value], pa.string()) for name, value in row.items()})
    (converted,) = flights.kaggle_columns(package).to_pylist()
    return {name: value for name, value in converted.items() if value is not None}


def test_a_flight_is_written_as_the_kaggle_files_write_it() -> None:
    assert as_kaggle_writes_it() == {
        "FL_DATE": "2013-02-09", "OP_CARRIER": "B6", "OP_CARRIER_FL_NUM": "739", "ORIGIN": "JFK", "DEST": "PSE",
        "CRS_DEP_TIME": "2359", "DEP_TIME": "2400.0", "DEP_DELAY": "1.0", "CRS_ARR_TIME": "444", "ARR_TIME": "432.0",
        "ARR_DELAY": "-12.0", "CANCELLED": "0.0", "DIVERTED": "0.0", "AIR_TIME": "195.0", "DISTANCE": "1617.0",
    }  # fmt: skip


def test_a_flight_without_a_departure_was_cancelled() -> None:
    found = as_kaggle_writes_it(**NO_TIMES)

    assert (found["CANCELLED"], found["DIVERTED"]) == ("1.0", "0.0")
    assert "DEP_TIME" not in found


def test_a_flight_that_departed_and_has_no_arrival_delay_was_diverted() -> None:
    found = as_kaggle_writes_it(arr_delay=None, air_time=None)

    assert (found["CANCELLED"], found["DIVERTED"]) == ("0.0", "1.0")


@pytest.fixture(scope="module")
def bronze(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bronze") / "2013.csv"
    assert flights.write_bronze(path) == 336_776
    return path


def test_the_file_has_the_header_and_the_bytes_of_a_kaggle_file(bronze: Path) -> None:
    with bronze.open("rb") as file:
        header, first = file.readline(), file.readline()

    assert header.decode() == ",".join(HEADER) + "\n"
    assert first == b"2013-01-01,UA,1545,EWR,IAH,515,517.0,2.0,,,,,819,830.0,11.0,0.0,,0.0,,,227.0,1400.0,,,,,,\n"
    assert [path.name for path in bronze.parent.iterdir()] == ["2013.csv"]


OTHER_CONVERSION = Path(__file__).parents[4] / "shared" / "data" / "dev" / "nyc" / "2013.csv.gz"


@pytest.mark.skipif(not OTHER_CONVERSION.is_file(), reason="an extra: compares with data that only the founders have")
def test_the_flights_are_those_of_an_independent_conversion(bronze: Path) -> None:
    ours, theirs = (
        pd.read_csv(path, dtype=str, keep_default_na=False).sort_values(list(HEADER)).reset_index(drop=True)
        for path in (bronze, OTHER_CONVERSION)
    )

    pd.testing.assert_frame_equal(ours, theirs)
