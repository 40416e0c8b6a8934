"""The quality report: months and days that look wrong, airports that came and went, and the sentences about them."""

from __future__ import annotations

import calendar
import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa

from utils import gold, quality, schemas
from utils.refinery import Refined, StagedPart


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


def report(year: int, per_day: Mapping[date, Mapping[str, int]], **changes: Any) -> dict[str, Any]:
    kept = sum(sum(airports.values()) for airports in per_day.values())
    nulls = {name: kept // 2 if name == "dep_delay" else 0 for name in schemas.SILVER.names} | {"tail": 0}
    refined = Refined(
        **{
            "parts": [StagedPart(Path("part"), kept, 1, "aa", nulls, (1,))],
            "sums": sums(per_day),
            "rejected": schemas.REJECTED.empty_table(),
            "rows_read": kept,
            "bytes": 7,
            "sha256": "bb",
            "ignored_columns": (),
            "duplicates_per_month": {},
            "duplicates_that_differ": 0,
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


def test_a_month_that_was_in_the_file_twice_is_named_and_a_few_copies_are_no_doubled_month() -> None:
    found = report(2011, whole_year(2011), duplicates_per_month={6: 300, 7: 5})

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


def test_null_shares_are_over_the_rows_that_were_kept() -> None:
    found = report(2015, whole_year(2015))

    assert (found["null_share"]["dep_delay"], found["null_share"]["origin"]) == (0.5, 0)


def test_rejected_rows_are_counted_by_reason() -> None:
    rows = [{"line": line, "reason": reason, "raw": ""} for line, reason in ((2, "b"), (3, "a"), (4, "b"))]
    found = report(2015, whole_year(2015), rejected=pa.Table.from_pylist(rows, schema=schemas.REJECTED))

    assert (found["rows_rejected"], found["rejected_by_reason"]) == (3, {"a": 1, "b": 2})
    assert found["warnings"] == ["3 rows could not be used; see the rejected rows for the reasons."]


def test_the_report_is_one_row_of_the_warehouse() -> None:
    found = report(2009, whole_year(2009, m10=0), duplicates_per_month={9: 300})
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
