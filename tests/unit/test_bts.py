"""The Bureau's months as the CSV of a year: columns, values, and files that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders import HEADER, Flight, cancelled, flight
from tests.servers.bureau import bureau_line, month_csv, zip_of
from utils.errors import InvalidInput
from utils.layers import silver
from utils.sources import bts
from utils.sources.download import File, Version


def write_csv(folder: Path, *zips: bytes) -> tuple[dict[int, int], list[str]]:
    """Return the flights by month, and the lines of the CSV written from zips of March 2015 and later months."""
    files = {}
    for month, content in enumerate(zips, start=3):
        path = folder / f"{month}.zip"
        path.write_bytes(content)
        files[month] = File(path, f"https://bureau/{path.name}", Version(), len(content), sha256="")
    counts = bts.write_csv(files, 2015, folder / "year.csv")
    return counts, (folder / "year.csv").read_text().splitlines()


def test_months_follow_each_other_with_unchanged_values_in_the_order_of_kaggles_columns(tmp_path: Path) -> None:
    numbers = {name: f"{number}" for number, name in enumerate(bts.COLUMNS.values()) if name != "FlightDate"}
    march = month_csv([], bureau_line(flight(), **numbers))

    counts, lines = write_csv(tmp_path, zip_of(march), zip_of(month_csv([flight(FL_DATE="2015-04-30")] * 2)))

    assert counts == {3: 1, 4: 2}
    assert lines[:2] == [",".join(HEADER), "2015-03-04," + ",".join(str(number) for number in range(1, 27)) + ","]
    assert [line[:10] for line in lines[2:]] == ["2015-04-30", "2015-04-30"]


def test_silver_reads_the_bureaus_text_like_kaggles(tmp_path: Path) -> None:
    not_counted_in_1987 = ("TAXI_OUT", "WHEELS_OFF", "WHEELS_ON", "TAXI_IN", "AIR_TIME", "WEATHER_DELAY")
    rows: list[Flight] = [
        flight(DEP_TIME="9.0", NAS_DELAY="3.0"),
        flight(OP_CARRIER_FL_NUM="7", DEP_TIME="2400.0"),
        cancelled(ORIGIN="JFK"),
        flight(ORIGIN="LGA", **dict.fromkeys(not_counted_in_1987, "")),
    ]
    pan_am = bureau_line(flight(ORIGIN="SFO"), Reporting_Airline="PA (1)", IATA_CODE_Reporting_Airline="PA")

    _, (head, *lines) = write_csv(tmp_path, zip_of(month_csv(rows, pan_am)))

    header = silver.read_header(head.encode(), "2015.csv")
    kaggle = [",".join(row.values()) for row in [*rows, flight(ORIGIN="SFO", OP_CARRIER="PA")]]
    from_bureau, from_kaggle = (
        silver.refine("".join(f"{line}\n" for line in text).encode(), header, 2015) for text in (lines, kaggle)
    )
    assert from_bureau.rejected == from_kaggle.rejected == []
    assert from_bureau.flights.equals(from_kaggle.flights)


MARCH = month_csv([flight()] * 2)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (zip_of(month_csv([flight(), flight(FL_DATE="2015-04-01")])), "2015-03-"),
        (zip_of(month_csv([])), "no flights"),
        (zip_of(MARCH.replace(b'"TaxiOut"', b'"Taxi"').replace(b'"DepDelay"', b'"Delay"')), "DepDelay, TaxiOut;"),
        (zip_of(MARCH[:-150]), "line"),
        (zip_of(month_csv([], bureau_line(flight(), Origin="EWR,JFK"))), "line"),
    ],
    ids=["other month", "no flights", "renamed columns", "cut", "comma in a value"],
)
def test_a_file_that_is_not_the_month_is_refused_by_name(tmp_path: Path, content: bytes, named: str) -> None:
    with pytest.raises(InvalidInput, match=rf"3\.zip .*{named}"):
        write_csv(tmp_path, content)
