"""The quality report: missing, doubled and unusual months, lost rows and values, and the warnings about them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import pyarrow as pa
import pytest

from utils import schemas
from utils.layers import gold, quality, silver
from utils.layers.duplicates import Duplicates
from utils.layers.ingest import IngestedYear, SilverPart
from utils.storage.parts import PartFile

FlightsPerDay = dict[date, dict[str, int]]  # by day and airport


def whole_year(year: int, flights: int = 10, months: Mapping[int, int] | None = None) -> FlightsPerDay:
    """`flights` a day at JFK; `months` has other numbers for some months."""
    first = date(year, 1, 1)
    days = [first + timedelta(days=number) for number in range((date(year + 1, 1, 1) - first).days)]
    counts = {day: (months or {}).get(day.month, flights) for day in days}
    return {day: {"JFK": count} for day, count in counts.items() if count}


def sums(per_day: FlightsPerDay, **first_row: int) -> pa.Table:
    rows = [
        {**dict.fromkeys(gold.SUMS.names[2:], 0), "origin": origin, "fl_date": day, "scheduled": flights}
        for day, airports in per_day.items()
        for origin, flights in airports.items()
    ]
    rows[0] |= first_row
    return pa.Table.from_pylist(rows, schema=gold.SUMS)


def rejected(*reasons: str) -> pa.Table:
    rows = [
        {"line": line, "reason": reason, "column": "", "value": "", "raw": ""}
        for line, reason in enumerate(reasons, start=2)
    ]
    return pa.Table.from_pylist(rows, schema=schemas.REJECTED)


def report(per_day: FlightsPerDay, *, nulls: Mapping[str, int] | None = None, **changes: Any) -> dict[str, Any]:
    """The report of a file with these flights, all of the carrier AA, with `changes` of the ingested year."""
    kept = sum(sum(airports.values()) for airports in per_day.values())
    null_counts = dict.fromkeys(schemas.SILVER.names, 0) | dict(nulls or {})
    carrier_days = pa.Table.from_pylist(
        [{"op_carrier": "AA", "fl_date": day, "flights": sum(flights.values())} for day, flights in per_day.items()]
    )
    ingested = IngestedYear(
        **{
            "parts": [SilverPart(PartFile("part", kept, 1, "aa"), null_counts, (1,), carrier_days)],
            "sums": sums(per_day),
            "rejected": rejected(),
            "rows_read": kept,
            "bytes": 7,
            "sha256": "bb",
            "ignored_columns": (),
            "duplicates": Duplicates({}, 0, 0),
        }
        | changes
    )
    year = min(per_day).year
    return quality.report(year, f"01_bronze/{year}.csv", ingested)


def test_an_ordinary_year_has_no_warning() -> None:
    stats = report(whole_year(2015), nulls={"dep_delay": 1825})

    assert stats["warnings"] == []
    assert [stats[key] for key in ("missing_months", "doubled_months", "missing_days", "unusual_months")] == [[]] * 4
    assert (stats["rows_kept"], stats["rows_per_month"]["2"], stats["airports"]) == (3650, 280, 1)
    assert (stats["null_share"]["dep_delay"], stats["null_share"]["origin"]) == (0.5, 0)


def test_missing_months_and_days_are_named() -> None:
    days = whole_year(2012, months={10: 0})
    del days[date(2012, 12, 31)]
    stats = report(days)

    assert stats["missing_months"] == [10]
    assert (len(stats["missing_days"]), stats["missing_days"][-1]) == (32, "2012-12-31")
    month, single_day = stats["warnings"]
    assert "October 2012" in month
    assert "2012-12-31" in single_day


@pytest.mark.parametrize(
    ("empty_months", "so_far_to", "missing"),
    [((10, 11, 12), 9, []), ((5, 10, 11, 12), 9, [5]), ((5,), None, [5]), ((1, 2, 3, 5, 12), 11, [1, 2, 3, 5])],
)
def test_months_after_the_newest_are_not_missing_in_a_year_so_far(
    empty_months: tuple[int, ...], so_far_to: int | None, missing: list[int]
) -> None:
    stats = report(whole_year(2026, months=dict.fromkeys(empty_months, 0)))

    assert (stats["so_far_to"], stats["missing_months"]) == (so_far_to, missing)
    assert {int(day[5:7]) for day in stats["missing_days"]} == set(missing)
    assert len(stats["warnings"]) == bool(missing)
    assert all(name not in str(stats["warnings"]) for name in ("October", "November", "December"))


@pytest.mark.parametrize(("copies", "months"), [(149, []), (150, [6])])
def test_a_month_is_doubled_from_half_of_its_flights_on(copies: int, months: list[int]) -> None:
    stats = report(whole_year(2011), duplicates=Duplicates({6: copies, 7: 5}, 0, 0))

    assert (stats["doubled_months"], stats["duplicate_per_month"]) == (months, {"6": copies, "7": 5})
    assert ["June 2011" in warning for warning in stats["warnings"]] == [True] * len(months)


@pytest.mark.parametrize(("flights", "is_unusual"), [(69, True), (70, False), (140, False), (141, True)])
def test_a_month_far_from_the_others_is_unusual(flights: int, is_unusual: bool) -> None:
    stats = report(whole_year(2020, flights=100, months={4: flights}))

    assert stats["unusual_months"] == [{"month": 4, "rows": 30 * flights, "typical": 3000}] * is_unusual
    assert ["April" in warning and "3,000" in warning for warning in stats["warnings"]] == [True] * is_unusual


def test_gaps_are_named_the_first_in_a_warning_each() -> None:
    names = [f"A{number:02}" for number in range(30)]
    gap = [date(2013, 8, number) for number in range(5, 15)]
    days = {day: {"JFK": 1000} | ({} if day in gap else dict.fromkeys(names, 5)) for day in whole_year(2013)}
    stats = report(days)

    assert [(gap["kind"], gap["name"], gap["days"]) for gap in stats["gaps"]] == [
        ("airport", name, 10) for name in names
    ]
    assert len(stats["warnings"]) == quality.MAX_GAP_WARNINGS + 1
    assert all(part in stats["warnings"][0] for part in ("A00", "2013-08-05", "2013-08-14", "5 a day"))


@pytest.mark.parametrize(("with_code", "warnings"), [(0, 0), (1200, 1), (2375, 1), (2376, 0)])
def test_cancelled_flights_without_code_give_a_warning_unless_the_file_has_no_codes(
    with_code: int, warnings: int
) -> None:
    year = whole_year(2015)
    stats = report(year, sums=sums(year, cancelled=2400, cancelled_weather=with_code))

    assert (stats["cancelled"], stats["cancelled_with_code"]) == (2400, with_code)
    assert ["cancellation code" in warning for warning in stats["warnings"]] == [True] * warnings


def test_rows_whose_duplicates_cannot_be_recognised_give_warnings() -> None:
    nulls = {"op_carrier_fl_num": 3650, "crs_dep_time": 3650}
    stats = report(whole_year(2014), nulls=nulls, duplicates=Duplicates({}, 0, kept_without_key=7))

    assert stats["empty_key_columns"] == ["op_carrier_fl_num", "crs_dep_time"]
    assert stats["equal_rows_without_key"] == 7
    columns, rows, _ = stats["warnings"]
    assert "OP_CARRIER_FL_NUM and CRS_DEP_TIME" in columns
    assert "7 rows" in rows


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"duplicates": Duplicates({3: 9}, 7, 0)}, "7 dropped duplicates"),
        ({"ignored_columns": ("TAIL_NUM",)}, "TAIL_NUM"),
        ({"nulls": {"air_time": 3650}}, "air_time"),
        ({"rejected": rejected("b", "a", "b")}, "3 rows"),
        ({"tallies": {"TAXI_IN": silver.Tally(3650, 2, "'x'")}}, "TAXI_IN .*'x' in line 2"),
        ({"tallies": {silver.EMPTY_DELAY: silver.Tally(1, 12, "DEP_TIME '2447'")}}, "DEP_TIME '2447' in line 12"),
        ({"rejected": rejected(silver.REPEATED_HEADER)}, None),
        ({"tallies": {"TAXI_IN": silver.Tally(36, 7, "'x'")}}, None),
    ],
)
def test_lost_rows_and_values_give_a_warning_if_figures_may_change(changes: dict[str, Any], named: str | None) -> None:
    warnings = report(whole_year(2015), **changes)["warnings"]

    assert [bool(re.search(str(named), warning)) for warning in warnings] == [True] * (named is not None)


def test_the_report_is_one_row_of_the_warehouse() -> None:
    stats = report(whole_year(2009, months={10: 0}), duplicates=Duplicates({9: 300}, 0, 0))

    table = quality.row(stats)

    assert table.schema == schemas.BRONZE_QUALITY
    (row,) = table.to_pylist()
    assert (row["missing_months"], row["doubled_months"], row["missing_days"]) == ("10", "9", 31)
    assert row["rows_duplicate"] == 300
    assert json.loads(row["report"]) == stats
