"""Find gaps in a year: airports and carriers with almost no flights for some days, but usual service around them.

A gap is a run of at least MIN_GAP_DAYS days with almost no flights, or a calendar month with at most MAX_MONTH_SHARE
of the flights of the two adjacent months. On both sides of a gap there are flights on every day, in the usual number.
This excludes seasonal service: a seasonal airport has no flights on one side of its season, and an airport with two
seasons pauses for more than MAX_SMALL_GAP_DAYS days. Large airports are not seasonal, so their gaps may be longer.
Days on which the whole file has no flights are ignored. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from utils.layers import columns

MIN_GAP_DAYS = 5
MAX_MONTH_SHARE = 0.3  # of the flights per day of the months before and after
MIN_USUAL_PER_DAY = 3  # flights; below that, schedules pause for a week
MIN_MONTH_USUAL_PER_DAY = 5  # flights; below that, schedules change from month to month
MIN_LARGE_PER_DAY = 20  # flights
MAX_SMALL_GAP_DAYS = 31  # for names with fewer than MIN_LARGE_PER_DAY flights a day
MAX_EMPTY_SHARE = 0.05  # of the usual flights; days up to this share count as empty
NEAR_DAYS, WIDE_DAYS = 7, 28  # on each side of a gap: flights every near day, the usual number on wide days
MIN_WIDE_DAYS = 14
MIN_FLOWN_SHARE = 0.7  # of the wide days, which may contain a second gap
MIN_MONTH_FLOWN_SHARE = 0.9  # of the days of each adjacent month
MIN_USUAL_SHARE = 0.6  # of the usual flights, on each side of a gap


def carrier_days(flights: pa.Table) -> pa.Table:
    """Return the number of flights per carrier and day: op_carrier (string), fl_date and flights, in any order.

    flights: op_carrier and fl_date of schemas.SILVER. Flights without a carrier are skipped.
    """
    carrier = columns.as_array(flights["op_carrier"])
    day = columns.to_numpy(columns.as_array(flights["fl_date"])).astype(np.int64)
    is_known = columns.is_valid(carrier)
    first = day.min() if len(day) else 0
    days = day.max() - first + 1 if len(day) else 1
    number = np.bincount(columns.to_numpy(carrier)[is_known] * days + day[is_known] - first)
    cells = np.flatnonzero(number)
    return pa.table(
        {
            "op_carrier": carrier.dictionary.take(columns.from_numpy(cells // days, pa.int64())),
            "fl_date": columns.from_numpy(cells % days + first, pa.date32()),
            "flights": columns.from_numpy(number[cells], pa.int64()),
        }
    )


def find(kind: str, flights: pa.Table) -> list[dict[str, Any]]:
    """Return the gaps of all airports or carriers as JSON-ready values, most missing flights first.

    kind: `airport` or `carrier`, copied into every gap. flights: three columns: name, date and number of flights. A
    name and date may occur in several rows. Rows without a name only mark the date as covered by the file.
    """
    name, day, number = (columns.as_array(column) for column in flights.columns)
    name = name.dictionary_encode()
    covered, day_at = np.unique(columns.to_numpy(day), return_inverse=True)
    counts = np.zeros((len(name.dictionary), len(covered)), np.int64)
    is_named = columns.is_valid(name)
    np.add.at(counts, (columns.to_numpy(name)[is_named], day_at[is_named]), columns.to_numpy(number)[is_named])
    days = covered.astype("datetime64[D]")
    gaps = []
    for label, per_day in zip(name.dictionary.to_pylist(), counts, strict=True):
        usual = float(np.median(per_day[per_day > 0]))
        if usual < MIN_USUAL_PER_DAY:
            continue
        gaps += [
            {
                "kind": kind,
                "name": label,
                "first_day": str(days[start]),
                "last_day": str(days[stop - 1]),
                "days": stop - start,
                "flights": int(per_day[start:stop].sum()),
                "usual_per_day": round(usual),
            }
            for start, stop in _gaps(per_day, days, usual)
        ]
    return sorted(gaps, key=lambda gap: (gap["flights"] - gap["days"] * gap["usual_per_day"], gap["name"]))


def _gaps(per_day: np.ndarray, days: np.ndarray, usual: float) -> list[tuple[int, int]]:
    """Return the gaps of one name as half-open ranges of `days`, without months that overlap an empty run."""
    runs = list(_empty_runs(per_day, usual))
    months = [
        (start, stop)
        for start, stop in _low_months(per_day, days, usual)
        if not any(first < stop and last > start for first, last in runs)
    ]
    return runs + months


def _empty_runs(per_day: np.ndarray, usual: float) -> Iterator[tuple[int, int]]:
    is_flown = per_day > MAX_EMPTY_SHARE * usual
    edges = np.flatnonzero(np.diff(np.concatenate([[True], is_flown, [True]]).astype(np.int8)))
    longest = MAX_SMALL_GAP_DAYS if usual < MIN_LARGE_PER_DAY else len(per_day)
    runs = [
        (start, stop)
        for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
        if MIN_GAP_DAYS <= stop - start <= longest
    ]
    is_in_run = np.zeros(len(per_day), bool)
    for start, stop in runs:
        is_in_run[start:stop] = True
    for start, stop in runs:
        before, after = slice(start - 1, None, -1) if start else slice(0, 0), slice(stop, None)
        if all(_is_in_service(per_day[side], is_in_run[side], usual) for side in (before, after)):
            yield start, stop


def _is_in_service(per_day: np.ndarray, is_in_run: np.ndarray, usual: float) -> bool:
    """Return True if one side of a gap (nearest day first) has daily flights in the usual number.

    is_in_run: mask of the days that belong to another empty run, which may be a gap too.
    """
    wide = per_day[:WIDE_DAYS]
    is_flown = wide > MAX_EMPTY_SHARE * usual
    return bool(
        len(wide) >= MIN_WIDE_DAYS
        and is_flown[~is_in_run[:WIDE_DAYS]][:NEAR_DAYS].all()
        and is_flown.mean() >= MIN_FLOWN_SHARE
        and np.median(wide[is_flown]) >= MIN_USUAL_SHARE * usual
    )


def _low_months(per_day: np.ndarray, days: np.ndarray, usual: float) -> Iterator[tuple[int, int]]:
    if usual < MIN_MONTH_USUAL_PER_DAY:
        return
    months = days.astype("datetime64[M]")
    starts = np.flatnonzero(np.concatenate([[True], months[1:] != months[:-1]])).tolist()
    ranges = list(zip(starts, [*starts[1:], len(months)], strict=True))
    means = [per_day[start:stop].mean() for start, stop in ranges]
    are_usual = [
        mean >= MIN_USUAL_SHARE * usual and (per_day[start:stop] > 0).mean() >= MIN_MONTH_FLOWN_SHARE
        for mean, (start, stop) in zip(means, ranges, strict=True)
    ]
    for place in range(1, len(ranges) - 1):
        around = (means[place - 1] + means[place + 1]) / 2
        if are_usual[place - 1] and are_usual[place + 1] and means[place] <= MAX_MONTH_SHARE * around:
            yield ranges[place]
