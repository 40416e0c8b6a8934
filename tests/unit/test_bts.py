"""The Bureau's months as the CSV of a year: which months there are, whose column is which, what is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.builders import HEADER, Flight, cancelled, flight
from tests.servers.bureau import LAYOUT, bureau_line, month_csv, zip_of
from utils import schemas
from utils.errors import InvalidInput
from utils.layers import silver
from utils.sources import bts
from utils.sources.download import File, Version


def file_of(path: Path, zipped: bytes) -> File:
    path.write_bytes(zipped)
    return File(path, f"https://bureau/{path.name}", Version(), len(zipped), hashlib.sha256(zipped).hexdigest())


def written(folder: Path, months: Mapping[int, bytes], year: int = 2015) -> list[str]:
    """The lines of the CSV that is made of these months' texts."""
    files = {month: file_of(folder / f"{month}.zip", zip_of(text)) for month, text in months.items()}
    bts.write_csv(files, year, folder / "year.csv")
    return (folder / "year.csv").read_text().splitlines()


def test_the_bureau_begins_in_october_1987() -> None:
    assert bts.months(1987) == [10, 11, 12]
    assert bts.months(1988) == list(range(1, 13))


def test_a_month_is_asked_for_without_a_leading_zero() -> None:
    assert bts.month_url("https://transtats.bts.gov/PREZIP", 2015, 3) == (
        "https://transtats.bts.gov/PREZIP/On_Time_Reporting_Carrier_On_Time_Performance_1987_present_2015_3.zip"
    )


def test_every_column_of_bronze_is_one_of_the_bureaus_and_no_two_are_the_same() -> None:
    assert list(bts.COLUMNS) == [name for name, _ in schemas.FLIGHT_COLUMNS]
    assert set(bts.COLUMNS.values()) <= set(LAYOUT)
    assert len(set(bts.COLUMNS.values())) == 27


def test_a_flight_keeps_the_bureaus_values_in_the_order_of_kaggles_columns(tmp_path: Path) -> None:
    changes = {name: f"{number}" for number, name in enumerate(bts.COLUMNS.values()) if name != "FlightDate"}
    text = month_csv([]) + (bureau_line(flight(), **changes) + "\n").encode()

    lines = written(tmp_path, {3: text})

    assert lines == [",".join(HEADER), "2015-03-04," + ",".join(str(number) for number in range(1, 27)) + ","]


def test_times_and_minutes_stay_as_the_bureau_writes_them(tmp_path: Path) -> None:
    late_at_night = flight(DEP_TIME="9.0", DEP_DELAY="-5.0", WEATHER_DELAY="17.0")

    _, line = written(tmp_path, {3: month_csv([late_at_night])})

    found = dict(zip(HEADER, line.split(","), strict=True))
    assert found["CRS_DEP_TIME"] == "1517"
    assert found["DEP_TIME"] == "0009"
    assert found["DEP_DELAY"] == "-5.00"
    assert (found["WEATHER_DELAY"], found["CARRIER_DELAY"]) == ("17.00", "")


def test_the_carrier_is_the_iata_code_as_in_kaggles_files(tmp_path: Path) -> None:
    pan_am = bureau_line(flight(FL_DATE="1990-03-04"), Reporting_Airline="PA (1)", IATA_CODE_Reporting_Airline="PA")

    _, line = written(tmp_path, {3: month_csv([]) + pan_am.encode() + b"\n"}, year=1990)

    assert line.startswith("1990-03-04,PA,2429,EWR,DEN,")


def test_silver_reads_the_bureaus_text_as_it_reads_kaggles(tmp_path: Path) -> None:
    rows = [flight(), flight(OP_CARRIER_FL_NUM="7", DEP_TIME="2400.0", NAS_DELAY="3.0"), cancelled(ORIGIN="JFK")]

    head, *lines = written(tmp_path, {3: month_csv(rows)})

    header = silver.read_header(head.encode(), "2015.csv")
    ours = silver.refine("".join(f"{line}\n" for line in lines).encode(), header, 2015)
    kaggles = silver.refine("".join(",".join(row.values()) + "\n" for row in rows).encode(), header, 2015)
    assert ours.rejected == kaggles.rejected == []
    assert ours.flights.equals(kaggles.flights)


def test_what_the_bureau_did_not_count_in_1987_is_null(tmp_path: Path) -> None:
    not_counted = ("TAXI_OUT", "WHEELS_OFF", "WHEELS_ON", "TAXI_IN", "AIR_TIME", "WEATHER_DELAY")
    old: Flight = flight(FL_DATE="1987-10-01", **dict.fromkeys(not_counted, ""))

    head, line = written(tmp_path, {10: month_csv([old])}, year=1987)

    found = silver.refine(f"{line}\n".encode(), silver.read_header(head.encode(), "1987.csv"), 1987)
    assert found.rejected == []
    (row,) = found.flights.to_pylist()
    assert [row[name.lower()] for name in not_counted] == [None] * 6
    assert (row["dep_delay"], row["distance"]) == (-5, 1605)


def test_months_follow_one_another_and_are_counted(tmp_path: Path) -> None:
    march, april = [flight()] * 2, [flight(FL_DATE="2015-04-30")]
    files = {
        3: file_of(tmp_path / "3.zip", zip_of(month_csv(march))),
        4: file_of(tmp_path / "4.zip", zip_of(month_csv(april))),
    }

    counted = bts.write_csv(files, 2015, tmp_path / "year.csv")

    assert counted == {3: 2, 4: 1}
    days = [line[:10] for line in (tmp_path / "year.csv").read_text().splitlines()[1:]]
    assert days == ["2015-03-04", "2015-03-04", "2015-04-30"]


def refusal(folder: Path, text: bytes, month: int = 3) -> str:
    with pytest.raises(InvalidInput) as caught:
        written(folder, {month: text})
    return str(caught.value)


def test_flights_of_another_month_are_refused(tmp_path: Path) -> None:
    assert "3.zip has flights of other days than 2015-03-.." in refusal(
        tmp_path, month_csv([flight(), flight(FL_DATE="2015-04-01")])
    )


def test_a_flight_without_a_date_is_refused(tmp_path: Path) -> None:
    assert "has flights of other days" in refusal(tmp_path, month_csv([flight(FL_DATE="2015-03-04")]).replace(
        b"2015-03-04", b""))  # fmt: skip


def test_a_month_without_flights_is_refused(tmp_path: Path) -> None:
    assert "3.zip has no flights" in refusal(tmp_path, month_csv([]))


def test_columns_that_are_missing_are_named(tmp_path: Path) -> None:
    renamed = month_csv([flight()]).replace(b'"TaxiOut"', b'"Taxi"').replace(b'"DepDelay"', b'"Delay"')

    assert "3.zip lacks the columns DepDelay, TaxiOut;" in refusal(tmp_path, renamed)


def test_a_line_that_is_cut_is_refused(tmp_path: Path) -> None:
    assert "3.zip holds a line that is no flight" in refusal(tmp_path, month_csv([flight()] * 2)[:-150])


def test_a_value_that_would_shift_the_columns_is_refused(tmp_path: Path) -> None:
    text = month_csv([]) + (bureau_line(flight(), Origin="EWR,JFK") + "\n").encode()

    assert "3.zip holds a line that is no flight" in refusal(tmp_path, text)


def test_a_zip_with_two_tables_is_refused(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "3.zip", "w") as archive:
        archive.writestr("a.csv", month_csv([flight()]))
        archive.writestr("b.csv", month_csv([flight()]))
    file = file_of(tmp_path / "3.zip", (tmp_path / "3.zip").read_bytes())

    with pytest.raises(InvalidInput, match="holds 2 CSV files instead of one"):
        bts.write_csv({3: file}, 2015, tmp_path / "year.csv")
