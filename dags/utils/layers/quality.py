"""The quality report of a year: row counts, rejected rows, lost values, suspicious months and days. Pure."""

from __future__ import annotations

import calendar
import json
from collections import Counter
from collections.abc import Iterable
from datetime import date, timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from utils import schemas
from utils.layers import columns, gaps, gold, rules, silver
from utils.reporting import wording

if TYPE_CHECKING:
    from utils.layers.ingest import IngestedYear

MIN_DOUBLED_SHARE = 0.5  # duplicates per flight of a month; from here on the month is in the file twice
MAX_UNREADABLE_SHARE = 0.01  # of a column's values; up to this share the report gives no warning
MAX_GAP_WARNINGS = 5  # gaps with a warning each; one warning covers the others
USUAL_RANGE = (0.7, 1.4)  # usual range of a month's flights per day, as a ratio to the median of the others


def report(year: int, bronze_key: str, ingested: IngestedYear) -> dict[str, Any]:
    """Return the report as JSON-ready values. It depends only on the file of the year."""
    stats: dict[str, Any] = {
        "year": year,
        "bronze_key": bronze_key,
        "bytes": ingested.bytes,
        "sha256": ingested.sha256,
        **_row_counts(ingested),
        **_dates(year, ingested),
        **_values(ingested),
        "gaps": [
            *gaps.find("airport", ingested.sums.select(["origin", "fl_date", "scheduled"])),
            *gaps.find("carrier", ingested.carrier_days),
        ],
        "ignored_columns": list(ingested.ignored_columns),
    }
    return {**stats, "warnings": _warnings(stats)}


def _row_counts(ingested: IngestedYear) -> dict[str, Any]:
    """Return how many rows were kept, dropped and rejected."""
    reasons = Counter(ingested.rejected["reason"].to_pylist())
    duplicates = ingested.duplicates
    return {
        "rows_read": ingested.rows_read,
        "rows_kept": ingested.rows_kept,
        "rows_duplicate": ingested.rows_duplicate,
        "rows_rejected": ingested.rejected.num_rows,
        "rejected_by_reason": dict(sorted(reasons.items())),
        "rejected_examples": dict(sorted(ingested.rejected_examples.items())),
        "duplicate_per_month": {str(month): rows for month, rows in sorted(duplicates.per_month.items())},
        "duplicates_that_differ": duplicates.differing,
        "equal_rows_without_key": duplicates.kept_without_key,
    }


def _dates(year: int, ingested: IngestedYear) -> dict[str, Any]:
    """Return the number of flights per month, and missing, doubled and unusual dates.

    `so_far_to` is the newest month of a year without flights in December, else None.
    """
    first = date(year, 1, 1)
    days = [first + timedelta(days=number) for number in range((date(year + 1, 1, 1) - first).days)]
    place = columns.to_numpy(columns.as_array(ingested.sums["fl_date"])) - (first - date(1970, 1, 1)).days
    scheduled = columns.to_numpy(columns.as_array(ingested.sums["scheduled"]))
    per_day = np.bincount(place, scheduled, minlength=len(days)).astype(int).tolist()
    per_month = dict.fromkeys(range(1, 13), 0)
    for day, flights in zip(days, per_day, strict=True):
        per_month[day.month] += flights
    months = [month for month in per_month if per_month[month]]
    repeated = ingested.duplicates.per_month
    end = max(months, default=12)  # the months after it may not be published yet, so they are not missing
    return {
        "rows_per_month": {str(month): rows for month, rows in per_month.items()},
        "so_far_to": end if end < 12 else None,
        "missing_months": [month for month in range(1, end + 1) if not per_month[month]],
        "doubled_months": [m for m in months if repeated.get(m, 0) >= MIN_DOUBLED_SHARE * per_month[m]],
        "unusual_months": _unusual(year, per_month, months),
        "missing_days": [
            day.isoformat() for day, flights in zip(days, per_day, strict=True) if not flights and day.month <= end
        ],
    }


def _values(ingested: IngestedYear) -> dict[str, Any]:
    """Return counts of missing and unreadable values."""
    sums, kept = ingested.sums, ingested.rows_kept
    nulls = {name: sum(part.null_counts[name] for part in ingested.parts) for name in schemas.SILVER.names}
    tallies = {name: tally._asdict() for name, tally in sorted(ingested.tallies.items())}
    return {
        "delays_left_empty": tallies.pop(silver.EMPTY_DELAY, None),
        "unreadable_values": tallies,
        "empty_key_columns": [name for name in schemas.NATURAL_KEY if kept and nulls[name] == kept],
        "airports": len(pc.unique(sums["origin"])),
        "cancelled": _sum(sums, "cancelled"),
        "cancelled_with_code": sum(_sum(sums, f"cancelled_{cause}") for cause in gold.CANCELLATION_CODES.values()),
        "null_share": {name: round(count / kept, 6) if kept else 0.0 for name, count in nulls.items()},
    }


def _sum(sums: pa.Table, name: str) -> int:
    return int(columns.to_numpy(columns.as_array(sums[name])).sum())


def with_airports(stats: dict[str, Any], now: Iterable[str], before: Iterable[str] | None) -> dict[str, Any]:
    """Return the report with `airports_new` and `airports_gone`: codes in only one of this year and the year before.

    now, before: airports of this year and of the year before. If `before` is None (unknown), both results are None. The
    stored report does not contain them, because it would then depend on the order in which years are run.
    """
    current, earlier = set(now), None if before is None else set(before)
    return {
        **stats,
        "airports_new": None if earlier is None else sorted(current - earlier),
        "airports_gone": None if earlier is None else sorted(earlier - current),
    }


def _unusual(year: int, per_month: dict[int, int], months: list[int]) -> list[dict[str, int]]:
    """Return the months outside USUAL_RANGE, with the number of flights that the other months suggest."""
    rates = {month: per_month[month] / calendar.monthrange(year, month)[1] for month in months}
    unusual = []
    for month, rate in rates.items():
        others = [value for other, value in rates.items() if other != month]
        if others and not USUAL_RANGE[0] <= rate / median(others) <= USUAL_RANGE[1]:
            typical = round(median(others) * calendar.monthrange(year, month)[1])
            unusual.append({"month": month, "rows": per_month[month], "typical": typical})
    return unusual


def _warnings(stats: dict[str, Any]) -> list[str]:
    """Return one sentence per suspicious fact."""
    return [
        *_date_warnings(stats),
        *_duplicate_warnings(stats),
        *_gap_warnings(stats["gaps"]),
        *_key_warnings(stats),
        *_lost_rows(stats),
        *_lost_values(stats),
        *_column_warnings(stats),
    ]


def _date_warnings(stats: dict[str, Any]) -> list[str]:
    warnings: list[str] = []

    def named(months: list[int]) -> str:
        return ", ".join(calendar.month_name[month] for month in months)

    if stats["missing_months"]:
        warnings.append(
            f"The file has no flights in {named(stats['missing_months'])} {stats['year']}; add "
            f"{'this month if it is' if len(stats['missing_months']) == 1 else 'these months if they are'} published."
        )
    if stats["doubled_months"]:
        warnings.append(
            f"{named(stats['doubled_months'])} {stats['year']} is in the file more than once; the copies were dropped."
        )
    lone = [day for day in stats["missing_days"] if int(day[5:7]) not in stats["missing_months"]]
    if lone:
        warnings.append(
            f"The file has no flights on {wording.count(len(lone), 'day')}: "
            f"{', '.join(lone[:5])}{' and more' if len(lone) > 5 else ''}."
        )
    warnings += [
        f"{calendar.month_name[month['month']]} has {month['rows']:,} flights; "
        f"the other months suggest about {month['typical']:,}."
        for month in stats["unusual_months"]
    ]
    return warnings


def _duplicate_warnings(stats: dict[str, Any]) -> list[str]:
    if not stats["duplicates_that_differ"]:
        return []
    dropped = wording.count(stats["duplicates_that_differ"], "dropped duplicate")
    return [f"{dropped} had other values than the kept row of the same flight, so figures may mix two versions."]


def _key_warnings(stats: dict[str, Any]) -> list[str]:
    """Return warnings about rows whose duplicates cannot be recognised."""
    warnings = []
    if stats["empty_key_columns"]:
        names = " and ".join(name.upper() for name in stats["empty_key_columns"])
        are = "is" if len(stats["empty_key_columns"]) == 1 else "are"
        warnings.append(f"{names} {are} empty in the whole file, so duplicates cannot be recognised; all were kept.")
    if stats["equal_rows_without_key"]:
        rows = wording.count(stats["equal_rows_without_key"], "row")
        warnings.append(
            f"{rows} without a complete natural key ({', '.join(schemas.NATURAL_KEY).upper()}) "
            "equal another row in every column; they were kept."
        )
    return warnings


def _column_warnings(stats: dict[str, Any]) -> list[str]:
    warnings = []
    if stats["ignored_columns"]:
        warnings.append(
            f"Columns that are not part of the dataset were ignored: {', '.join(stats['ignored_columns'])}."
        )
    empty = [name for name, share in stats["null_share"].items() if share == 1.0]
    if empty:
        warnings.append(f"Columns without values: {', '.join(empty)}.")
    return warnings


def _lost_rows(stats: dict[str, Any]) -> list[str]:
    by_reason = Counter(stats["rejected_by_reason"])
    by_reason.pop(silver.REPEATED_HEADER, None)  # loses no flight
    if not by_reason:
        return []
    ((most, _),) = by_reason.most_common(1)
    sentence = f"{wording.count(by_reason.total(), 'row')} could not be used; see the rejected rows for the reasons."
    return [f"{sentence} {stats['rejected_examples'].get(most, '')}".rstrip()]


def _lost_values(stats: dict[str, Any]) -> list[str]:
    """Return warnings about values that became null in rows that were kept."""

    def first(tally: dict[str, Any]) -> str:
        return f"the first is {tally['value']} in line {tally['line']}"

    warnings = []
    if tally := stats["delays_left_empty"]:
        delays = wording.count(tally["rows"], "missing delay")
        warnings.append(f"{delays} could not be computed from times after 2400 or unreadable times: {first(tally)}.")
    if 0 < stats["cancelled_with_code"] < (1 - MAX_UNREADABLE_SHARE) * stats["cancelled"]:
        without = stats["cancelled"] - stats["cancelled_with_code"]
        warnings.append(
            f"{without:,} of {stats['cancelled']:,} cancelled flights have no cancellation code, so cancellations by "
            "cause are incomplete."
        )
    for name, tally in stats["unreadable_values"].items():
        if name == "CANCELLATION_CODE" or tally["rows"] > MAX_UNREADABLE_SHARE * stats["rows_kept"]:
            rows = wording.count(tally["rows"], "cancelled flight" if name == "CANCELLATION_CODE" else "row")
            expected = rules.COLUMN_RULES[name].form.expected
            warnings.append(f"{name} cannot be read in {rows}: {first(tally)}; {expected}.")
    return warnings


def _gap_warnings(all_gaps: list[dict[str, Any]]) -> list[str]:
    """Return a sentence for each of the first MAX_GAP_WARNINGS gaps, and one for all others."""
    warnings = [
        f"{gap['kind'].capitalize()} {gap['name']} has {wording.count(gap['flights'], 'flight')} on {gap['days']} days "
        f"from {gap['first_day']} to {gap['last_day']}, but about {gap['usual_per_day']:,} a day before and after; "
        "compare the file with its source."
        for gap in all_gaps[:MAX_GAP_WARNINGS]
    ]
    others = all_gaps[MAX_GAP_WARNINGS:]
    if others:
        names = ", ".join(f"{gap['kind']} {gap['name']}" for gap in others[:MAX_GAP_WARNINGS])
        more = " and more" if len(others) > MAX_GAP_WARNINGS else ""
        warnings.append(f"{wording.count(len(others), 'other gap')} of the same kind: {names}{more}.")
    return warnings


def row(stats: dict[str, Any]) -> pa.Table:
    """Return the report as a table of one row, schemas.BRONZE_QUALITY."""
    values = {
        **{name: stats[name] for name in schemas.BRONZE_QUALITY.names if name in stats},
        "missing_days": len(stats["missing_days"]),
        "missing_months": ",".join(map(str, stats["missing_months"])),
        "doubled_months": ",".join(map(str, stats["doubled_months"])),
        "report": json.dumps(stats, sort_keys=True),
    }
    return pa.Table.from_pylist([values], schema=schemas.BRONZE_QUALITY)
