"""The quality report: months and days that look wrong, airports that came and went, and the sentences about them."""

from __future__ import annotations

import calendar
import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from utils import schemas
from utils.layers import gold, quality, silver
from utils.layers.duplicates import Duplicates
from utils.layers.ingest import IngestedYear, StagedPart

GAP = [date(2013, 8, day) for day in range(5, 15)]


def sums(per_day: Mapping[date, Mapping[str, int]]) -> pa.Table:
    rows = [
        {**dict.fromkeys(gold.SUMS.names[2:], 0), "origin": origin, "fl_date": day, "scheduled": flights}
        for day, airports in per_day.items()
        for origin, flights in airports.items()
    ]
    return pa.Table.from_pylist(rows, schema=gold.SUMS)


def whole_year(year: int, flights: int = 10, **changes: int) -> dict[date, dict[str, int]]:
    """`flights` at JFK on every day, another number in the months that `changes` names, such as m02=0."""
    days = {}
    for month in range(1, 13):
        for day in range(1, calendar.monthrange(year, month)[1] + 1):
            if count := changes.get(f"m{month:02}", flights):
                days[date(year, month, day)] = {"JFK": count}
    return days


def carriers(per_day: Mapping[date, Mapping[str, int]]) -> pa.Table:
    """All flights are of AA."""
    rows = [{"op_carrier": "AA", "fl_date": day, "flights": sum(flights.values())} for day, flights in per_day.items()]
    return pa.Table.from_pylist(rows)


def report(year: int, per_day: Mapping[date, Mapping[str, int]], **changes: Any) -> dict[str, Any]:
    kept = sum(sum(airports.values()) for airports in per_day.values())
    nulls = {name: kept // 2 if name == "dep_delay" else 0 for name in schemas.SILVER.names} | {"tail": 0}
    refined = IngestedYear(
        **{
            "parts": [StagedPart(Path("part"), kept, 1, "aa", nulls, (1,), carriers(per_day))],
            "sums": sums(per_day),
            "rejected": schemas.REJECTED.empty_table(),
            "rows_read": kept,
            "bytes": 7,
            "sha256": "bb",
            "ignored_columns": (),
            "duplicates": Duplicates({}, 0, 0),
        }
        | changes
    )
    return quality.report(year, f"01_bronze/{year}.csv", refined)


def test_an_ordinary_year_has_no_warning() -> None:
    found = report(2015, whole_year(2015))

    assert found["warnings"] == []
    assert (found["missing_months"], found["doubled_months"], found["missing_days"], found["unusual_months"]) == (
        [],
        [],
        [],
        [],
    )
    assert (found["rows_kept"], found["rows_per_month"]["2"], found["airports"]) == (3650, 280, 1)


def test_a_missing_month_and_a_missing_day_are_named() -> None:
    days = whole_year(2009, m10=0)
    del days[date(2009, 9, 11)]
    found = report(2009, days)

    assert found["missing_months"] == [10]
    assert len(found["missing_days"]) == 32
    assert found["warnings"] == [
        "No flights at all in October 2009: this month is missing from the file.",
        "No flights on 1 single day: 2009-09-11.",
    ]


def test_the_last_day_of_a_leap_year_is_missed_like_any_other() -> None:
    days = whole_year(2012)
    del days[date(2012, 12, 31)]

    assert report(2012, days)["missing_days"] == ["2012-12-31"]


def test_a_month_that_was_in_the_file_twice_is_named_and_a_few_copies_are_no_doubled_month() -> None:
    found = report(2011, whole_year(2011), duplicates=Duplicates({6: 300, 7: 5}, 0, 0))

    assert (found["doubled_months"], found["duplicate_per_month"]) == ([6], {"6": 300, "7": 5})
    assert found["warnings"] == ["June 2011 was in the file more than once; the copies were left out."]


def test_a_month_far_from_the_others_is_named_with_what_they_suggest() -> None:
    found = report(2020, whole_year(2020, flights=100, m04=40))

    assert found["unusual_months"] == [{"month": 4, "rows": 1200, "typical": 3000}]
    assert found["warnings"] == ["April has 1,200 flights where the other months suggest about 3,000."]


def test_the_short_february_is_not_unusual() -> None:
    assert report(2015, whole_year(2015, flights=50))["unusual_months"] == []


def test_airports_are_compared_with_the_previous_year_when_there_is_one() -> None:
    told = report(2018, {date(2018, 1, 1): {"JFK": 1, "ACK": 1}})

    without = quality.with_airports(told, now=["JFK", "ACK"], before=None)
    against = quality.with_airports(told, now=["JFK", "ACK"], before=["JFK", "PIR"])

    assert without == told | {"airports_new": None, "airports_gone": None}
    assert against == told | {"airports_new": ["ACK"], "airports_gone": ["PIR"]}


def test_an_airport_with_a_gap_is_named_in_the_warnings() -> None:
    days = {day: {"JFK": 10} | ({} if day in GAP else {"EWR": 10}) for day in whole_year(2013)}
    found = report(2013, days)

    assert [(gap["kind"], gap["name"], gap["days"]) for gap in found["gaps"]] == [("airport", "EWR", 10)]
    (warning,) = found["warnings"]
    assert all(part in warning for part in ("EWR", "2013-08-05", "2013-08-14", "10 a day"))


@pytest.mark.parametrize(("with_code", "warns"), [(0, False), (1200, True), (2399, False)])
def test_cancelled_flights_without_a_code_are_a_warning_unless_the_file_has_no_codes(
    with_code: int, warns: bool
) -> None:
    rows = sums(whole_year(2015)).to_pylist()
    rows[0] |= {"cancelled": 2400, "cancelled_weather": with_code}
    found = report(2015, whole_year(2015), sums=pa.Table.from_pylist(rows, schema=gold.SUMS))

    assert (found["cancelled"], found["cancelled_with_code"]) == (2400, with_code)
    assert any("cancellation code" in warning for warning in found["warnings"]) == warns


def test_many_gaps_are_a_few_sentences() -> None:
    names = [f"A{number:02}" for number in range(30)]
    days = {day: {"JFK": 1000} | ({} if day in GAP else dict.fromkeys(names, 5)) for day in whole_year(2013)}
    found = report(2013, days)

    assert len(found["gaps"]) == 30
    assert len(found["warnings"]) == quality.MAX_GAP_WARNINGS + 1


def test_key_columns_without_any_value_and_equal_rows_that_were_kept_are_named() -> None:
    days = whole_year(2014)
    nulls = dict.fromkeys(schemas.SILVER.names, 0) | {"op_carrier_fl_num": 3650, "crs_dep_time": 3650}
    part = StagedPart(Path("part"), 3650, 1, "aa", nulls, (1,), carriers(days))
    found = report(2014, days, parts=[part], duplicates=Duplicates({}, 0, kept_without_key=7))

    assert found["empty_key_columns"] == ["op_carrier_fl_num", "crs_dep_time"]
    assert found["equal_rows_without_key"] == 7
    assert any("OP_CARRIER_FL_NUM and CRS_DEP_TIME" in warning for warning in found["warnings"])
    assert any(warning.startswith("7 rows") for warning in found["warnings"])


def test_null_shares_are_over_the_rows_that_were_kept() -> None:
    found = report(2015, whole_year(2015))

    assert (found["null_share"]["dep_delay"], found["null_share"]["origin"]) == (0.5, 0)


def test_rejected_rows_are_counted_by_reason() -> None:
    rows = [
        {"line": line, "reason": reason, "column": "", "value": "", "raw": ""}
        for line, reason in ((2, "b"), (3, "a"), (4, "b"))
    ]
    found = report(2015, whole_year(2015), rejected=pa.Table.from_pylist(rows, schema=schemas.REJECTED))

    assert (found["rows_rejected"], found["rejected_by_reason"]) == (3, {"a": 1, "b": 2})
    assert len(found["warnings"]) == 1


def test_a_repeated_header_is_counted_without_a_warning() -> None:
    rows = [{"line": 9, "reason": silver.REPEATED_HEADER, "column": "", "value": "", "raw": ""}]
    found = report(2015, whole_year(2015), rejected=pa.Table.from_pylist(rows, schema=schemas.REJECTED))

    assert found["rejected_by_reason"] == {silver.REPEATED_HEADER: 1}
    assert found["warnings"] == []


def test_values_that_no_figure_uses_are_counted_and_a_column_of_nonsense_gives_a_warning() -> None:
    few = report(2015, whole_year(2015), tallies={"TAXI_IN": silver.Tally(36, 7, "'x'")})
    many = report(2015, whole_year(2015), tallies={"TAXI_IN": silver.Tally(3650, 2, "'x'")})

    assert few["unreadable_values"] == {"TAXI_IN": {"rows": 36, "line": 7, "value": "'x'"}}
    assert few["warnings"] == []
    (warning,) = many["warnings"]
    assert "TAXI_IN" in warning
    assert "'x' in line 2" in warning


@pytest.mark.parametrize("what", ["CANCELLATION_CODE", silver.EMPTY_DELAY])
def test_one_lost_value_that_a_figure_uses_gives_a_warning(what: str) -> None:
    (warning,) = report(2015, whole_year(2015), tallies={what: silver.Tally(1, 12, "'snow'")})["warnings"]

    assert "'snow' in line 12" in warning


def test_the_report_is_one_row_of_the_warehouse() -> None:
    found = report(2009, whole_year(2009, m10=0), duplicates=Duplicates({9: 300}, 0, 0))
    table = quality.row(found)

    assert table.schema == schemas.BRONZE_QUALITY
    (row,) = table.to_pylist()
    assert (row["missing_months"], row["doubled_months"], row["missing_days"], row["rows_duplicate"]) == (
        "10",
        "9",
        31,
        300,
    )
    assert json.loads(row["report"]) == found
