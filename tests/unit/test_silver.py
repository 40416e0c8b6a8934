"""Bronze text to silver flights: which values are read, which become null, and which rows are rejected."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.builders import HEADER, ON_TIME, Flight, cancelled, csv_of, flight, hhmm, line
from utils import schemas
from utils.analysis import attribution
from utils.errors import InvalidInput
from utils.layers import gold, rules, silver

YEAR = 2015
KEY = "01_bronze/2015.csv"
NAMES = ",".join(HEADER)
TIMES = [name for name, rule in rules.COLUMN_RULES.items() if rule.form is rules.TIME]
UNUSED = [name for name, rule in rules.COLUMN_RULES.items() if not rule.rejects and name != "CANCELLATION_CODE"]


def header(columns: tuple[str, ...] = HEADER) -> silver.Header:
    return silver.read_header((",".join(columns) + "\n").encode(), KEY)


def refine(*rows: Flight) -> silver.TypedBlock:
    return silver.refine(csv_of(rows).split(b"\n", 1)[1], header(), YEAR)


def refine_text(text: str, *, joins_lines: bool = False) -> silver.TypedBlock:
    return silver.refine(text.encode(), header(), YEAR, joins_lines=joins_lines)


def values(refined: silver.TypedBlock, column: str) -> list[object]:
    return list(refined.flights[column.lower()].to_pylist())


# --- the header -------------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(columns=st.permutations([*HEADER, "TAIL_NUM"]), is_lower=st.booleans(), has_bom=st.booleans())
def test_columns_are_read_by_name_in_any_order_and_case(columns: list[str], is_lower: bool, has_bom: bool) -> None:
    names = ",".join(name.lower() if is_lower and name.isupper() else name for name in columns)
    read = silver.read_header(("\ufeff" * has_bom + names + "\r\n").encode(), KEY)

    refined = silver.refine((line({**flight(), "TAIL_NUM": "N1"}, columns) + "\r\n").encode(), read, YEAR)

    assert [name.upper() for name in read.ignored] == ["TAIL_NUM"]
    assert refined.flights.equals(refine(flight()).flights)


@pytest.mark.parametrize(
    ("first", "named"),
    [
        (NAMES.replace("ORIGIN,", "").replace("DEP_DELAY,", ""), "lacks the columns ORIGIN, DEP_DELAY; .*FL_DATE,OP_"),
        (NAMES + ",ORIGIN", "ORIGIN twice"),
        ('"Year","Quarter","Month","FlightDate","Reporting_Airline"', "fetch --year YEAR --source bts --from"),
        (NAMES.replace(",", ";"), "semicolons"),
        (NAMES + "\r" + line(flight()), "carriage return"),
        ("", "empty line"),
        ("FL_DATE," + "x" * silver.MAX_LINE_BYTES, "131,072 bytes"),
    ],
)
def test_a_wrong_header_is_refused_with_its_fault(first: str, named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        silver.read_header(first.encode() + b"\n", KEY)


def test_a_first_line_without_column_names_is_not_quoted() -> None:
    """The file may be a secret that a wrong link leads to."""
    with pytest.raises(InvalidInput, match=KEY) as error:
        silver.read_header(b"root:s3cr3t:0:0\n", KEY)

    assert "s3cr3t" not in str(error.value)


# --- values -----------------------------------------------------------------------------------------------------------


def test_a_flight_becomes_a_typed_row_with_27_columns() -> None:
    refined = refine(flight())

    assert refined.flights.schema == schemas.SILVER
    assert refined.flights.to_pylist() == [
        {
            "fl_date": date(2015, 3, 4), "op_carrier": "UA", "op_carrier_fl_num": 2429, "origin": "EWR", "dest": "DEN",
            "crs_dep_time": 1517, "dep_time": 1512, "dep_delay": -5, "taxi_out": 15, "wheels_off": 1527,
            "wheels_on": 1712, "taxi_in": 10, "crs_arr_time": 1745, "arr_time": 1722, "arr_delay": -23,
            "cancelled": False, "cancellation_code": None, "diverted": False, "crs_elapsed_time": 268,
            "actual_elapsed_time": 250, "air_time": 225, "distance": 1605, "carrier_delay": None, "weather_delay": None,
            "nas_delay": None, "security_delay": None, "late_aircraft_delay": None,
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        ("FL_DATE", "3/4/2015", date(2015, 3, 4)),
        ("FL_DATE", "3/4/2015 12:00:00 AM", date(2015, 3, 4)),
        ("FL_DATE", "2015-03-04T00:00:00.000", date(2015, 3, 4)),
        ("FL_DATE", "20150101", date(2015, 1, 1)),
        ("OP_CARRIER", " ua ", "UA"),
        ("OP_CARRIER_FL_NUM", "16777217", 16777217),
        ("ORIGIN", " jfk", "JFK"),
        ("CRS_DEP_TIME", " 1517", 1517),
        ("TAXI_OUT", "NA", None),
        ("TAXI_OUT", r"\N", None),
        ("CARRIER_DELAY", "nan", None),
        ("CANCELLED", "TRUE", True),
        ("CANCELLED", "f", False),
        ("DIVERTED", "NULL", None),
        ("CANCELLATION_CODE", " b ", "B"),
        ("CANCELLATION_CODE", "carrier", "A"),
        ("CANCELLATION_CODE", "National Air System", "C"),
        ("CANCELLATION_CODE", "security", "D"),
    ],
)
def test_a_clear_value_is_read_in_any_spelling(column: str, text: str, value: object) -> None:
    row = cancelled if column == "CANCELLATION_CODE" else flight
    refined = refine(row(**{column: text}))

    assert values(refined, column) == [value]
    assert (refined.rejected, refined.tallies) == ([], {})


@pytest.mark.parametrize("column", TIMES)
@pytest.mark.parametrize(
    ("text", "stored"), [("2400", 2400), ("2401", 1), ("2447.0", 47), ("4759", 2359), ("2460", None), ("4800", None)]
)
def test_a_time_after_2400_is_of_the_next_day(column: str, text: str, stored: int | None) -> None:
    refined = refine(flight(**{column: text}))

    if column == "CRS_DEP_TIME" and stored is None:  # part of the natural key
        assert [row.reason for row in refined.rejected] == ["CRS_DEP_TIME is not a time of day"]
    else:
        assert values(refined, column) == [stored]
        assert values(refined, "DEP_DELAY") == [-5]


def test_an_unreadable_value_that_no_figure_uses_becomes_null_and_is_counted() -> None:
    refined = refine(flight(), flight(**dict.fromkeys(UNUSED, "9:05")), flight(FL_DATE="x", ARR_TIME="x"))

    assert [values(refined, column)[1] for column in UNUSED] == [None] * len(UNUSED)
    assert refined.tallies == dict.fromkeys(UNUSED, silver.Tally(1, 1, "'9:05'"))


# --- missing delays ---------------------------------------------------------------------------------------------------


@given(planned=st.integers(0, 1439), delay=st.integers(-360, 1079), writes_2400=st.booleans())
@example(planned=0, delay=-360, writes_2400=True)
@example(planned=0, delay=1079, writes_2400=False)
def test_a_missing_delay_is_computed_from_both_times_across_midnight(
    planned: int, delay: int, writes_2400: bool
) -> None:
    times = [hhmm(minute) for minute in (planned, planned + delay)]
    if writes_2400:
        times = ["2400" if time == "0" else time for time in times]

    refined = refine(flight(CRS_DEP_TIME=times[0], DEP_TIME=times[1], DEP_DELAY=""))

    assert values(refined, "DEP_DELAY") == [delay]


@pytest.mark.parametrize(
    ("row", "delay", "counted"),
    [
        (flight(CRS_DEP_TIME="900", DEP_TIME="905.0", DEP_DELAY="1445.0"), 1445, 0),
        (flight(DEP_TIME="2447", DEP_DELAY="77"), 77, 0),
        (flight(DEP_TIME="", DEP_DELAY=""), None, 0),
        (cancelled(DEP_TIME="1530.0", DEP_DELAY=""), None, 0),
        (cancelled(DEP_TIME="1530.0", DEP_DELAY="13.0"), 13, 0),
        (flight(DEP_TIME="2447", DEP_DELAY=""), None, 1),
        (flight(DEP_TIME="x", DEP_DELAY=""), None, 1),
        (flight(DEP_TIME="2447", CRS_DEP_TIME="", DEP_DELAY=""), None, 0),
    ],
)
def test_a_delay_is_not_computed_if_it_is_given_or_a_time_is_missing_or_doubtful(
    row: Flight, delay: int | None, counted: int
) -> None:
    refined = refine(row)

    assert values(refined, "DEP_DELAY") == [delay]
    assert refined.tallies.get(silver.EMPTY_DELAY, silver.Tally(0, 0, "")).rows == counted


# --- rejected rows ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "text", "fault"),
    [
        ("FL_DATE", "2015-02-30", "not a date"),
        ("FL_DATE", "2015-03-04 05:00:00", "not a date"),
        ("FL_DATE", "", "empty"),
        ("FL_DATE", "2014-12-31", "not in 2015"),
        ("FL_DATE", "1/1/2016", "not in 2015"),
        ("ORIGIN", "NULL", "empty"),
        ("ORIGIN", "J/K", "not an airport code"),
        ("DEST", "<b>", "not an airport code"),
        ("OP_CARRIER", "=1", "not a carrier code"),
        ("OP_CARRIER_FL_NUM", "UA12", "not a whole number"),
        ("CRS_DEP_TIME", "9:05", "not a time of day"),
        ("DEP_DELAY", "12.5", "not a possible delay"),
        ("DEP_DELAY", "7201", "not a possible delay"),
        ("DEP_DELAY", "-721", "not a possible delay"),
        ("WEATHER_DELAY", "-1", "not a possible delay"),
        ("CANCELLED", "2.0", "not 0 or 1"),
        ("DIVERTED", "maybe", "not 0 or 1"),
    ],
)
def test_a_row_with_an_invalid_value_is_rejected_with_column_value_and_line(column: str, text: str, fault: str) -> None:
    refined = refine(flight(), flight(**{column: text}))

    (row,) = refined.rejected
    assert (row.reason, row.column) == (f"{column} is {fault}", column)
    shown = f"'{text}'" if text else "empty"
    assert row.sentence.startswith(f"{column} is {shown} in line 1; ")
    assert refined.flights.num_rows == 1


def test_columns_that_a_figure_or_the_natural_key_uses_reject_rows_and_others_do_not() -> None:
    used = {*gold.COLUMNS, *attribution.FLIGHT_COLUMNS, *schemas.NATURAL_KEY}

    rejecting = {name.lower() for name, rule in rules.COLUMN_RULES.items() if rule.rejects}
    assert list(rules.COLUMN_RULES) == [name for name, _ in schemas.FLIGHT_COLUMNS]
    assert rejecting == used - {"cancellation_code"}


GOOD = line(flight())
QUOTED = ",".join(f'"{value}"' for value in ON_TIME.values())
TWO_LINES = GOOD.removesuffix(",") + ',"two\nlines"'


@pytest.mark.parametrize(
    ("bad", "reason", "value"),
    [
        ("2015-03-04,UA,12", silver.WRONG_COUNT, "3 fields instead of 28"),
        (GOOD + ",DEN", silver.WRONG_COUNT, "29 fields instead of 28"),
        (line(flight(TAXI_IN="1\r0")), silver.BARE_RETURN, ""),
        (line(flight(DEST='"DEN')), silver.OPEN_QUOTE, ""),
        ("x" * (silver.MAX_LINE_BYTES + 1), silver.TOO_LONG, ""),
        ("\ufeff" + NAMES, silver.REPEATED_HEADER, ""),
        ('"' + NAMES.replace(",", '","') + '"\r', silver.REPEATED_HEADER, ""),
        (GOOD + NAMES, silver.JOINED_HEADER, "add a line end before the header"),
        (NAMES.replace("TAXI_IN,", ""), silver.OTHER_HEADER, "it lacks TAXI_IN"),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_a_line_that_is_not_a_row_is_rejected_alone(bad: str, reason: str, value: str, place: int) -> None:
    lines = [GOOD] * 15
    lines.insert(place, bad)

    refined = refine_text("\n".join(lines), joins_lines=True)

    assert (refined.flights.num_rows, refined.rows) == (15, 16)
    assert [(row.line, row.reason, row.value) for row in refined.rejected] == [(place, reason, value)]
    assert refined.rejected[0].raw == bad[: silver.MAX_LINE_BYTES].removesuffix("\r")


# --- lines ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (f"{GOOD}\n{GOOD}", 2),
        (f"{GOOD}\r\r\n{GOOD}\r\r\n", 2),
        (f"\n{GOOD}\n\n\r\n{GOOD}\n", 5),
        (f"{QUOTED}\n{GOOD}\n", 2),
        (f"{TWO_LINES}\n{GOOD}\n", 3),
    ],
    ids=["no last line end", "Windows twice", "empty lines", "quoted", "a line break in quotes"],
)
def test_line_ends_and_quotes_do_not_change_the_flights(text: str, lines: int) -> None:
    refined = refine_text(text, joins_lines=True)

    assert refined.flights.equals(refine(flight(), flight()).flights)
    assert (refined.rejected, refined.rows, refined.lines) == ([], 2, lines)


odd_text = st.text(
    st.sampled_from("0123456789.-+eE \tnaifx:é_") | st.characters(exclude_characters='",\r\n\0', codec="utf-8"),
    max_size=8,
)


@given(column=st.sampled_from([name for name, _ in schemas.FLIGHT_COLUMNS]), value=odd_text)
@example(column="DEP_DELAY", value=" 7 ")
@example(column="DEP_DELAY", value="+7.")
@example(column="DISTANCE", value="1e3")
@example(column="FL_DATE", value="2015-3-5")
@example(column="CANCELLED", value="-0")
@example(column="OP_CARRIER_FL_NUM", value="3e9")
def test_a_bad_row_in_the_same_block_does_not_change_how_a_value_is_read(column: str, value: str) -> None:
    """Blocks with a bad row are parsed by other code."""
    row = flight(**{column: value})
    alone = refine(row)
    with_bad_row = refine(row, flight(FL_DATE="bad"))

    assert alone.flights.equals(with_bad_row.flights)
    assert alone.rejected == with_bad_row.rejected[:-1]
    assert alone.tallies == with_bad_row.tallies


byte_pieces = st.binary(max_size=300).map(lambda text: text.replace(b"\0", b""))


@given(st.lists(byte_pieces | st.sampled_from([b"\r", b'"', b"\r\n", b"\n\r", b","]), max_size=8))
@example([b'\xff"', b'"'])
@example([b"\xff\r" * 27])
@example([b"\xef\xbb\xbf"])
def test_any_bytes_become_flights_or_rejected_rows(pieces: list[bytes]) -> None:
    refined = silver.refine(f"{GOOD}\n".encode().join(pieces), header(), YEAR, joins_lines=True)

    assert refined.flights.num_rows + len(refined.rejected) == refined.rows


# --- hashes of flights ------------------------------------------------------------------------------------------------

ANOTHER_FLIGHT = [
    flight(FL_DATE="2015-03-05"), flight(OP_CARRIER="AA"), flight(OP_CARRIER_FL_NUM="1"), flight(ORIGIN="SFO"),
    flight(DEST="SFO"), flight(CRS_DEP_TIME="900"),
]  # fmt: skip


def test_each_column_of_the_natural_key_makes_another_fingerprint_and_other_columns_do_not() -> None:
    rows = [flight(), flight(DEP_DELAY="9.0", ARR_DELAY=""), *ANOTHER_FLIGHT]

    fingerprints = silver.fingerprints(refine(*rows).flights).tolist()

    assert fingerprints[0] == fingerprints[1]
    assert len(set(fingerprints)) == 1 + len(ANOTHER_FLIGHT)
