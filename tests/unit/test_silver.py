"""Bronze text to silver flights: what is typed, what is mended, what is set aside and why."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.builders import HEADER, ON_TIME, Flight, cancelled, csv_of, flight, line
from utils import schemas
from utils.analysis import attribution
from utils.errors import InvalidInput
from utils.layers import gold, rules, silver

YEAR = 2015
KEY = "01_bronze/2015.csv"


def header(columns: tuple[str, ...] = HEADER) -> silver.Header:
    return silver.read_header((",".join(columns) + "\n").encode(), KEY)


def refine(*rows: Flight) -> silver.TypedBlock:
    return silver.refine(csv_of(rows).split(b"\n", 1)[1], header(), YEAR)


def refine_text(text: str, **how: bool) -> silver.TypedBlock:
    return silver.refine(text.encode(), header(), YEAR, **how)


def only(refined: silver.TypedBlock, column: str) -> object:
    (value,) = refined.flights[column].to_pylist()
    return value


def only_reason(refined: silver.TypedBlock) -> str:
    assert refined.flights.num_rows == 0
    (rejected,) = refined.rejected
    return rejected.reason


def test_a_flight_becomes_a_typed_row_with_27_columns() -> None:
    refined = refine(flight())

    assert refined.flights.schema == schemas.SILVER
    assert len(schemas.SILVER) == 27
    assert refined.flights.to_pylist()[0] | {} == {
        "fl_date": date(2015, 3, 4), "op_carrier": "UA", "op_carrier_fl_num": 2429, "origin": "EWR", "dest": "DEN",
        "crs_dep_time": 1517, "dep_time": 1512, "dep_delay": -5, "taxi_out": 15, "wheels_off": 1527, "wheels_on": 1712,
        "taxi_in": 10, "crs_arr_time": 1745, "arr_time": 1722, "arr_delay": -23, "cancelled": False,
        "cancellation_code": None, "diverted": False, "crs_elapsed_time": 268, "actual_elapsed_time": 250,
        "air_time": 225, "distance": 1605, "carrier_delay": None, "weather_delay": None, "nas_delay": None,
        "security_delay": None, "late_aircraft_delay": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("planned", "actual", "delay"),
    [
        ("900", "900.0", 0),
        ("2355", "10.0", 15),
        ("5", "2358.0", -7),
        ("2400", "2400.0", 0),
        ("1517", "2400.0", 523),
        ("0", "2400.0", 0),
    ],
)
def test_an_empty_delay_of_a_flight_that_left_is_computed_from_its_times_across_midnight(
    planned: str, actual: str, delay: int
) -> None:
    assert only(refine(flight(CRS_DEP_TIME=planned, DEP_TIME=actual, DEP_DELAY="")), "dep_delay") == delay


def test_a_delay_that_is_given_is_never_recomputed() -> None:
    assert only(refine(flight(CRS_DEP_TIME="900", DEP_TIME="905.0", DEP_DELAY="1445.0")), "dep_delay") == 1445


def test_an_empty_delay_without_both_times_stays_empty() -> None:
    assert only(refine(flight(DEP_TIME="", DEP_DELAY="")), "dep_delay") is None


def test_an_empty_delay_of_a_cancelled_flight_stays_empty_though_it_has_both_times() -> None:
    assert only(refine(cancelled(CRS_DEP_TIME="900", DEP_TIME="905.0", DEP_DELAY="")), "dep_delay") is None


def test_cancelled_alone_decides_what_is_cancelled() -> None:
    came_back = refine(cancelled(DEP_TIME="1530.0", DEP_DELAY="13.0"))
    on_time_without_delay = refine(flight(DEP_TIME="", DEP_DELAY=""))

    assert only(came_back, "cancelled") is True
    assert only(on_time_without_delay, "cancelled") is False


def test_midnight_written_as_2400_is_kept() -> None:
    assert only(refine(flight(DEP_TIME="2400.0")), "dep_time") == 2400


def test_columns_are_read_by_name_in_any_order_and_case() -> None:
    shuffled = tuple(sorted(HEADER, key=lambda name: name[::-1]))
    found = silver.read_header(",".join(name.lower() for name in shuffled).encode() + b"\r\n", KEY)
    refined = silver.refine((line(flight(), shuffled) + "\r\n").encode(), found, YEAR)

    assert refined.flights.equals(refine(flight()).flights)


def test_a_byte_order_mark_in_front_of_the_header_is_no_part_of_it() -> None:
    assert silver.read_header(b"\xef\xbb\xbf" + ",".join(HEADER).encode(), KEY).names == HEADER


def test_columns_that_are_not_of_the_dataset_are_ignored_and_named() -> None:
    columns = ("TAIL_NUM", *HEADER)
    refined = silver.refine(("N123," + line(flight()) + "\n").encode(), header(columns), YEAR)

    assert header(columns).ignored == ("TAIL_NUM",)
    assert refined.flights.equals(refine(flight()).flights)


def test_a_missing_column_is_named_with_the_file_and_its_first_line() -> None:
    with pytest.raises(
        InvalidInput, match=r"01_bronze/2015.csv lacks the columns DEP_DELAY, ORIGIN|ORIGIN, DEP_DELAY"
    ) as error:
        header(tuple(name for name in HEADER if name not in ("ORIGIN", "DEP_DELAY")))
    assert "FL_DATE,OP_CARRIER" in str(error.value)


def test_a_column_that_stands_twice_is_refused() -> None:
    with pytest.raises(InvalidInput, match="has ORIGIN twice"):
        header((*HEADER, "ORIGIN"))


def test_the_header_of_the_bureaus_own_files_leads_to_fetch() -> None:
    with pytest.raises(InvalidInput, match="fetch --source bts --from"):
        silver.read_header(b'"Year","Quarter","Month","FlightDate","Reporting_Airline"', KEY)


def test_a_header_with_semicolons_is_refused_by_that_name() -> None:
    with pytest.raises(InvalidInput, match="semicolons"):
        silver.read_header(";".join(HEADER).encode(), KEY)


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (",".join(HEADER).encode() + b"\r" + line(flight()).encode(), "carriage return alone"),
        (b"\n", "begins with an empty line"),
        (b"\x00\x01\x02\n", "zero bytes"),
        (b'FL_DATE,"ORIGIN\n', "lacks the columns"),
    ],
)
def test_what_is_no_csv_is_told_in_a_sentence(first: bytes, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        silver.read_header(first, KEY)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"FL_DATE": "2015-02-30"}, "FL_DATE is not a date"),
        ({"FL_DATE": "31/1/2015"}, "FL_DATE is not a date"),
        ({"FL_DATE": "2015-03-04 05:00:00"}, "FL_DATE is not a date"),
        ({"FL_DATE": "yesterday"}, "FL_DATE is not a date"),
        ({"FL_DATE": ""}, "FL_DATE is empty"),
        ({"FL_DATE": "2014-12-31"}, "FL_DATE is not in 2015"),
        ({"FL_DATE": "1/1/2016"}, "FL_DATE is not in 2015"),
        ({"ORIGIN": ""}, "ORIGIN is empty"),
        ({"ORIGIN": " "}, "ORIGIN is empty"),
        ({"ORIGIN": "NULL"}, "ORIGIN is empty"),
        ({"ORIGIN": "J/K"}, "ORIGIN is not an airport code"),
        ({"DEST": "<b>"}, "DEST is not an airport code"),
        ({"DEST": "ß12"}, "DEST is not an airport code"),
        ({"OP_CARRIER": "=1"}, "OP_CARRIER is not a carrier code"),
        ({"OP_CARRIER_FL_NUM": "UA12"}, "OP_CARRIER_FL_NUM is not a whole number"),
        ({"CRS_DEP_TIME": "9:05"}, "CRS_DEP_TIME is not a time of day"),
        ({"CRS_DEP_TIME": "4800"}, "CRS_DEP_TIME is not a time of day"),
        ({"TAXI_IN": "1\r0"}, "a carriage return stands inside the line"),
        ({"DEP_DELAY": "5 minutes"}, "DEP_DELAY is not a possible delay"),
        ({"DEP_DELAY": "12.5"}, "DEP_DELAY is not a possible delay"),
        ({"DEP_DELAY": "9999"}, "DEP_DELAY is not a possible delay"),
        ({"DEP_DELAY": "-999"}, "DEP_DELAY is not a possible delay"),
        ({"WEATHER_DELAY": "-1"}, "WEATHER_DELAY is not a possible delay"),
        ({"CANCELLED": "2.0"}, "CANCELLED is not 0 or 1"),
        ({"CANCELLED": ""}, "CANCELLED is empty"),
        ({"DIVERTED": "maybe"}, "DIVERTED is not 0 or 1"),
        ({"DEST": "DEN,DEN"}, "wrong number of fields"),
    ],
)
def test_a_row_that_cannot_be_used_is_rejected_with_the_reason(changes: dict[str, str], reason: str) -> None:
    assert only_reason(refine(flight(**changes))) == reason


def test_columns_that_a_figure_or_the_key_of_a_flight_uses_reject_and_the_others_do_not() -> None:
    used = {*gold.COLUMNS, *attribution.FLIGHT_COLUMNS, *schemas.NATURAL_KEY}

    rejecting = {name.lower() for name, rule in rules.COLUMN_RULES.items() if rule.rejects}
    assert list(rules.COLUMN_RULES) == [name for name, _ in schemas.FLIGHT_COLUMNS]
    assert rejecting == used - {"cancellation_code"}


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        ("FL_DATE", "3/4/2015", date(2015, 3, 4)),
        ("FL_DATE", "03/04/2015 0:00", date(2015, 3, 4)),
        ("FL_DATE", "3/4/2015 12:00:00 AM", date(2015, 3, 4)),
        ("FL_DATE", "2015-03-04 00:00:00", date(2015, 3, 4)),
        ("FL_DATE", "2015-03-04T00:00:00.000", date(2015, 3, 4)),
        ("FL_DATE", "20150304", date(2015, 3, 4)),
        ("OP_CARRIER", " ua ", "UA"),
        ("OP_CARRIER", "pa (1)", "PA (1)"),
        ("ORIGIN", "jfk", "JFK"),
        ("DEST", " DEN", "DEN"),
        ("CRS_DEP_TIME", " 1517", 1517),
        ("TAXI_OUT", "NA", None),
        ("TAXI_OUT", "null", None),
        ("TAXI_OUT", r"\N", None),
        ("TAXI_OUT", " ", None),
        ("CARRIER_DELAY", "nan", None),
        ("CANCELLED", "1.00", True),
        ("CANCELLED", "TRUE", True),
        ("CANCELLED", "f", False),
        ("DIVERTED", "NULL", None),
    ],
)
def test_a_value_in_a_spelling_that_is_clear_is_read(column: str, text: str, value: object) -> None:
    refined = refine(flight(**{column: text}))

    assert only(refined, column.lower()) == value
    assert (refined.rejected, refined.tallies) == ([], {})


@pytest.mark.parametrize(
    ("text", "code"),
    [
        *((spelling, "B") for spelling in ("B", "b", "B ", " b", "Weather", "WEATHER")),
        ("a", "A"),
        ("carrier", "A"),
        ("National Air System", "C"),
        ("nas", "C"),
        ("security", "D"),
        ("", None),
        ("NA", None),
    ],
)
def test_a_cancellation_code_is_read_in_every_spelling_of_the_bureau(text: str, code: str | None) -> None:
    refined = refine(cancelled(CANCELLATION_CODE=text))

    assert only(refined, "cancellation_code") == code
    assert not refined.tallies


def test_an_unknown_cancellation_code_becomes_null_and_is_counted_for_cancelled_flights_alone() -> None:
    refined = refine(
        flight(CANCELLATION_CODE="N"), cancelled(CANCELLATION_CODE="snow"), cancelled(CANCELLATION_CODE="E")
    )

    assert refined.flights["cancellation_code"].to_pylist() == [None] * 3
    assert refined.tallies == {"CANCELLATION_CODE": silver.Tally(2, 1, "'snow'")}


UNUSED = [name for name, rule in rules.COLUMN_RULES.items() if not rule.rejects and name != "CANCELLATION_CODE"]


@pytest.mark.parametrize("column", UNUSED)
@pytest.mark.parametrize("text", ["9:05", "x", "1e9", "12.5"])
def test_an_unreadable_value_that_no_figure_uses_becomes_null_and_is_counted(column: str, text: str) -> None:
    refined = refine(flight(), flight(**{column: text}))

    assert refined.flights[column.lower()].to_pylist()[1] is None
    assert refined.flights["dep_delay"].to_pylist() == [-5, -5]
    assert refined.tallies == {column: silver.Tally(1, 1, f"'{text}'")}


def test_values_of_rejected_rows_are_not_counted_as_lost() -> None:
    refined = refine(flight(ARR_TIME="x", FL_DATE="x"), flight(ARR_TIME="y"))

    assert refined.tallies == {"ARR_TIME": silver.Tally(1, 1, "'y'")}


@pytest.mark.parametrize("column", ["CRS_DEP_TIME", "DEP_TIME", "WHEELS_OFF", "WHEELS_ON", "CRS_ARR_TIME", "ARR_TIME"])
@pytest.mark.parametrize(
    ("text", "stored"), [("2400", 2400), ("2401", 1), ("2447.0", 47), ("4759", 2359), ("2460", None), ("4800", None)]
)
def test_a_time_after_2400_is_of_the_next_day(column: str, text: str, stored: int | None) -> None:
    refined = refine(flight(**{column: text}))

    if column == "CRS_DEP_TIME" and stored is None:
        assert len(refined.rejected) == 1
    else:
        assert only(refined, column.lower()) == stored
        assert only(refined, "dep_delay") == -5


@pytest.mark.parametrize(
    ("changes", "counted"),
    [
        ({"DEP_TIME": "2447"}, 1),
        ({"CRS_DEP_TIME": "2447"}, 1),
        ({"DEP_TIME": "x"}, 1),
        ({"DEP_TIME": "2447", "CRS_DEP_TIME": ""}, 0),
        ({"DEP_TIME": "2447", "CANCELLED": "1"}, 0),
        ({"DEP_TIME": "2447", "DEP_DELAY": "77"}, 0),
    ],
)
def test_no_missing_delay_is_computed_from_a_doubtful_time_and_it_is_counted(
    changes: dict[str, str], counted: int
) -> None:
    refined = refine(flight(**{"DEP_DELAY": ""} | changes))

    tally = refined.tallies.get(silver.EMPTY_DELAY)
    assert (tally.rows if tally else 0) == counted
    assert only(refined, "dep_delay") == (77 if changes.get("DEP_DELAY") else None)


def test_a_cancelled_flight_is_not_lost_for_its_delay() -> None:
    refined = refine(cancelled(DEP_DELAY="9999"))

    assert (only(refined, "cancelled"), only(refined, "dep_delay")) == (True, None)
    assert refined.tallies == {"DEP_DELAY": silver.Tally(1, 0, "'9999'")}


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        ("FL_DATE", "31/1/2018", "'31/1/2018'"),
        ("FL_DATE", "", "empty"),
        ("CANCELLED", "yes", "'yes'"),
        ("CRS_DEP_TIME", "9:05", "'9:05'"),
        ("ORIGIN", "NULL", "'NULL'"),
        ("ORIGIN", "\x1b[31mJ", r"'\x1b[31mJ'"),
        ("DEST", "A" * 1000, f"'{'A' * 40}...'"),
        ("DEST", "=cmd|'/C calc'!A0", "'=cmd|'/C calc'!A0'"),
    ],
)
def test_a_rejected_row_tells_column_value_line_and_what_is_expected(column: str, text: str, value: str) -> None:
    refined = refine(flight(), flight(**{column: text}))

    (row,) = refined.rejected
    assert row.sentence == f"{column} is {value} in line 1; {rules.COLUMN_RULES[column].form.expected}."
    assert (row.column, row.value or "empty") == (column, value)


def test_a_line_with_too_few_fields_is_rejected_with_its_place_and_text() -> None:
    refined = refine_text(line(flight()) + "\n2015-03-04,UA,12\n" + line(flight()) + "\n")

    assert refined.flights.num_rows == 2
    (row,) = refined.rejected
    assert (row.line, row.reason, row.value) == (1, silver.WRONG_COUNT, "3 fields instead of 28")
    assert row.raw == "2015-03-04,UA,12"


NAMES = ",".join(HEADER)


@pytest.mark.parametrize(
    "again",
    [
        "\ufeff" + NAMES,
        NAMES,
        NAMES.lower(),
        NAMES.replace(",", " , "),
        '"' + NAMES.replace(",", '","') + '"',
        NAMES + "\r",
    ],
)
def test_a_header_that_is_repeated_is_a_rejected_row(again: str) -> None:
    refined = refine_text(f"{line(flight())}\n{again}\n{line(flight())}\n")

    assert [(row.line, row.reason) for row in refined.rejected] == [(1, silver.REPEATED_HEADER)]
    assert refined.flights.num_rows == 2


@pytest.mark.parametrize(
    ("again", "told"),
    [
        (NAMES.replace("ORIGIN,DEST", "DEST,ORIGIN"), "its column 4 is 'DEST', in line 1 it is 'ORIGIN'"),
        (NAMES.replace("TAXI_IN,", ""), "it lacks TAXI_IN"),
        ("TAIL_NUM," + NAMES, "it has 29 columns, line 1 has 28"),
        ("ORIGIN,DEST,DEP_DELAY", "it lacks FL_DATE, OP_CARRIER"),
    ],
)
def test_a_second_header_with_other_columns_says_what_differs(again: str, told: str) -> None:
    refined = refine_text(f"{line(flight())}\n{again}\n{line(flight())}\n")

    (row,) = refined.rejected
    assert (row.line, row.reason) == (1, silver.OTHER_HEADER)
    assert row.value.startswith(told)


@pytest.mark.parametrize("columns", [HEADER, HEADER[:-1]])
def test_a_header_behind_a_row_without_a_line_end_costs_that_row_alone(columns: tuple[str, ...]) -> None:
    row = line(flight(), columns)
    refined = silver.refine(f"{row}\n{row}{','.join(columns)}\n{row}\n".encode(), header(columns), YEAR)

    assert refined.flights.num_rows == 2
    assert [(row.line, row.reason) for row in refined.rejected] == [(1, silver.JOINED_HEADER)]


def test_a_block_with_a_zero_byte_is_refused() -> None:
    with pytest.raises(silver.ZeroBytesError):
        refine_text(line(flight()) + "\n" + line(flight()).replace("UA", "U\0") + "\n")


def test_lines_that_end_with_two_carriage_returns_are_read() -> None:
    refined = refine_text(f"{line(flight())}\r\r\n{line(flight())}\r\r\n")

    assert (refined.flights.num_rows, refined.rows, refined.lines) == (2, 2, 2)


def test_latin_1_bytes_are_rejected_and_can_be_read_in_the_rejected_row() -> None:
    block = (line(flight()) + "\n").encode().replace(b"EWR", b"ZR\xdc") + (line(flight()) + "\n").encode()
    refined = silver.refine(block, header(), YEAR)

    assert refined.flights.num_rows == 1
    assert (refined.rejected[0].reason, refined.rejected[0].value) == ("ORIGIN is not an airport code", r"'ZR\xdc'")
    assert r"ZR\xdc" in refined.rejected[0].raw


def test_windows_line_ends_and_empty_lines_change_nothing() -> None:
    rows = [flight(), cancelled()]
    windows = silver.refine(csv_of(rows, newline="\r\n\r\n").split(b"\r\n\r\n", 1)[1], header(), YEAR)

    assert windows.flights.equals(refine(*rows).flights)
    assert (windows.rows, windows.lines) == (2, 4)


def test_the_last_line_needs_no_line_end() -> None:
    assert refine_text(line(flight())).flights.num_rows == 1


def test_a_carriage_return_inside_a_line_never_makes_two_rows_of_it() -> None:
    refined = refine_text(f"{line(flight())}\r{line(flight())}\n{line(flight())}\r\n")

    assert (refined.rows, refined.lines, refined.flights.num_rows) == (2, 2, 1)
    assert [row.reason for row in refined.rejected] == ["a carriage return stands inside the line"]


def test_large_flight_numbers_stay_apart() -> None:
    refined = refine(flight(OP_CARRIER_FL_NUM="16777217"), flight(OP_CARRIER_FL_NUM="16777216"))

    assert refined.flights["op_carrier_fl_num"].to_pylist() == [16777217, 16777216]


def test_quoted_fields_are_read() -> None:
    quoted = ",".join(f'"{value}"' for value in ON_TIME.values()) + "\n"

    assert refine_text(quoted).flights.equals(refine(flight()).flights)


def test_a_quoted_field_with_a_line_break_needs_a_reading_from_the_start_and_is_one_row_then() -> None:
    text = line(flight()) + "\n" + line(flight()).removesuffix(",") + ',"two\nlines"\n' + line(flight()) + "\n"

    with pytest.raises(silver.SplitRecord):
        refine_text(text)
    refined = refine_text(text, joins_lines=True)
    assert (refined.rows, refined.lines, refined.flights.num_rows) == (3, 4, 3)


def test_a_quote_that_is_never_closed_costs_its_own_line_only() -> None:
    refined = refine_text(line(flight(DEST='"DEN')) + "\n" + (line(flight()) + "\n") * 20, joins_lines=True)

    assert refined.flights.num_rows == 20
    assert [(row.line, row.reason) for row in refined.rejected] == [(0, "a quote is not closed")]


_odd_text = st.text(
    st.sampled_from("0123456789.-+eE \tnaifx:é_") | st.characters(exclude_characters='",\r\n\0', codec="utf-8"),
    max_size=8,
)


@given(column=st.sampled_from([name for name, _ in schemas.FLIGHT_COLUMNS]), value=_odd_text)
@example(column="DEP_DELAY", value=" 7 ")
@example(column="DEP_DELAY", value="+7.")
@example(column="DISTANCE", value="1e3")
@example(column="FL_DATE", value=" 2015-03-05 ")
@example(column="FL_DATE", value="2015-3-5")
@example(column="CANCELLED", value="-0")
@example(column="OP_CARRIER_FL_NUM", value="3e9")
def test_the_fast_and_the_careful_way_accept_the_same_values(column: str, value: str) -> None:
    """A row must not be judged by whether some other row of its block is bad."""
    row = flight(**{column: value})
    alone = refine(row)
    beside_a_bad_row = refine(row, flight(FL_DATE="bad"))

    assert alone.flights.equals(beside_a_bad_row.flights)
    assert alone.rejected == beside_a_bad_row.rejected[:-1]
    assert alone.tallies == beside_a_bad_row.tallies


_odd_values = {
    "FL_DATE": ["3/4/2015", "2015-03-04 00:00:00", "20150304", " 2015-03-04", "31/1/2015", "2014-03-04", "NA"],
    "OP_CARRIER": ["ua", " UA", "NA", "?"],
    "OP_CARRIER_FL_NUM": [" 12", "12.0", "x", ""],
    "ORIGIN": ["ewr", "EWR ", "", "J/K"],
    "CRS_DEP_TIME": ["2447", "", "9:05"],
    "DEP_TIME": ["2447", "x", "", "NULL"],
    "DEP_DELAY": ["", "NA", "9999", "0"],
    "ARR_TIME": ["2447", "x", " "],
    "CANCELLED": ["1", "TRUE", "2", ""],
    "CANCELLATION_CODE": ["b", "Weather", "snow"],
    "DISTANCE": ["x", "1e9", "1e3"],
    "NAS_DELAY": ["5", "-5", "nan"],
}
_odd_value = st.sampled_from([(column, value) for column, values in _odd_values.items() for value in values])
_lines = (
    st.lists(_odd_value, max_size=2).map(lambda changes: line(flight(**dict(changes))))
    | st.just(line(flight()))
    | st.sampled_from([NAMES, NAMES.replace("ORIGIN,DEST", "DEST,ORIGIN"), "", "2015-03-04,UA", line(flight()) + "\r"])
)


@given(st.lists(st.tuples(_lines, st.booleans()), min_size=1, max_size=12))
def test_a_file_gives_the_same_wherever_it_is_cut_into_blocks(lines: list[tuple[str, bool]]) -> None:
    """A bad last row sends the whole through the careful way; most blocks alone take the fast way."""
    blocks = [""]
    for text, ends_block in lines:
        blocks[-1] += text + "\n"
        if ends_block:
            blocks.append("")
    whole = refine_text("".join([*blocks, line(flight(FL_DATE="bad"))]))
    flights, rejected, first = [], [], 0
    tallies: dict[str, silver.Tally] = {}
    for block in blocks:
        part = refine_text(block)
        flights += part.flights.to_pylist()
        rejected += [replace(row, line=first + row.line) for row in part.rejected]
        silver.add_tallies(tallies, part.tallies, first)
        first += part.lines

    assert (flights, rejected, tallies) == (whole.flights.to_pylist(), whole.rejected[:-1], whole.tallies)
    assert (first, whole.rows) == (len(lines), len(flights) + len(rejected) + 1)


_pieces = st.lists(
    st.binary(max_size=300).map(lambda text: text.replace(b"\0", b""))
    | st.sampled_from([b"\r", b'"', b"\r\n", b"\n\r", b","]),
    max_size=8,
)


def test_a_byte_order_mark_in_front_of_a_row_costs_the_row_wherever_a_block_begins() -> None:
    marked, good = "\ufeff" + line(flight()), line(flight())

    first, later = (
        silver.refine("\n".join(rows).encode(), header(), YEAR) for rows in ([marked, good], [good, marked])
    )

    assert (first.flights.num_rows, later.flights.num_rows) == (1, 1)
    assert (len(first.rejected), len(later.rejected)) == (1, 1)


@given(_pieces)
@example([b'a"', b'"'])
@example([b'\xff"', b'"'])
@example([b"\xff\r" * 27])
@example([b"\xef\xbb\xbf"])
def test_any_bytes_are_counted_as_flights_or_as_rejected_rows(pieces: list[bytes]) -> None:
    good = (line(flight()) + "\n").encode()
    refined = silver.refine(good.join(pieces), header(), YEAR, joins_lines=True)

    assert refined.flights.num_rows + len(refined.rejected) == refined.rows


def test_equal_flights_have_equal_fingerprints_in_any_block_and_different_ones_do_not() -> None:
    rows = [flight(), flight(ORIGIN="SFO", DEST="LAX"), flight(OP_CARRIER_FL_NUM="1"), flight(FL_DATE="2015-03-05")]
    forward = silver.fingerprints(refine(*rows).flights)
    backward = silver.fingerprints(refine(*rows[::-1]).flights)

    assert len(set(forward.tolist())) == 4
    assert forward.tolist() == backward.tolist()[::-1]


def test_other_columns_do_not_make_a_flight_another_flight() -> None:
    first, second = silver.fingerprints(refine(flight(), flight(DEP_DELAY="9.0", ARR_DELAY="")).flights)

    assert first == second


def test_without_a_scheduled_time_flights_are_the_same_only_when_nothing_differs() -> None:
    legs = [
        flight(CRS_DEP_TIME="", DEP_TIME="700.0"),
        flight(CRS_DEP_TIME="", DEP_TIME="1900.0"),
        flight(CRS_DEP_TIME="", DEP_TIME="700.0"),
    ]
    first, second, again = silver.fingerprints(refine(*legs).flights)

    assert first != second
    assert first == again


def test_silver_of_no_rows_has_its_types() -> None:
    assert refine_text("").flights.schema == schemas.SILVER
    assert json.dumps(refine_text("").rows) == "0"
    assert isinstance(refine_text("").flights, pa.Table)
