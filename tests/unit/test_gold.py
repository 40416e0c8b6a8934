"""Silver flights to airport-days: every column against an independent computation in DuckDB."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from tests.builders import CANCELLED, HEADER, Flight, csv_of, flight, hhmm
from utils import schemas
from utils.layers import columns, gold, silver

YEAR = 2016  # a leap year
CAUSE_COLUMNS = ("CARRIER_DELAY", "WEATHER_DELAY", "NAS_DELAY", "SECURITY_DELAY", "LATE_AIRCRAFT_DELAY")

# The definitions of the columns, from schemas.AIRPORT_DAYS and docs/glossary.md. `delay_min` is the true delay of a
# flight: the builders below know it also where the CSV has no DEP_DELAY.
AIRPORT_DAYS_SQL = """
WITH flights AS (
    SELECT
        ORIGIN AS origin, FL_DATE::DATE AS fl_date, CANCELLED::DOUBLE = 1 AS is_cancelled,
        DIVERTED::DOUBLE = 1 AS is_diverted, CANCELLATION_CODE AS code,
        CASE WHEN NOT is_cancelled THEN delay_min END AS delay,
        CASE WHEN is_cancelled OR delay > 120 THEN 120 ELSE delay END AS effective,
        try_cast(CARRIER_DELAY AS DOUBLE) AS carrier, try_cast(WEATHER_DELAY AS DOUBLE) AS weather,
        try_cast(NAS_DELAY AS DOUBLE) AS nas, try_cast(SECURITY_DELAY AS DOUBLE) AS security,
        try_cast(LATE_AIRCRAFT_DELAY AS DOUBLE) AS late_aircraft
    FROM bronze
),
calendar AS (
    SELECT origin, unnest(generate_series(min(fl_date), max(fl_date), INTERVAL 1 DAY))::DATE AS fl_date
    FROM flights GROUP BY origin
)
SELECT
    origin,
    fl_date,
    count(is_cancelled) AS scheduled,
    count(*) FILTER (NOT is_cancelled) AS departed,
    count(*) FILTER (is_cancelled) AS cancelled,
    count(*) FILTER (is_diverted) AS diverted,
    avg(delay) AS mean_dep_delay_min,
    stddev_samp(delay) AS std_dep_delay_min,
    count(*) FILTER (delay >= 15) AS delayed_15,
    count(*) FILTER (delay >= 60) AS delayed_60,
    count(*) FILTER (is_cancelled OR delay > 60) AS disrupted,
    avg(effective) AS mean_effective_delay_min,
    stddev_samp(effective) AS std_effective_delay_min,
    max(delay) AS max_dep_delay_min,
    coalesce(sum(carrier), 0) AS carrier_min,
    coalesce(sum(weather), 0) AS weather_min,
    coalesce(sum(nas), 0) AS nas_min,
    coalesce(sum(security), 0) AS security_min,
    coalesce(sum(late_aircraft), 0) AS late_aircraft_min,
    count(*) FILTER (is_cancelled AND code = 'A') AS cancelled_carrier,
    count(*) FILTER (is_cancelled AND code = 'B') AS cancelled_weather,
    count(*) FILTER (is_cancelled AND code = 'C') AS cancelled_nas,
    count(*) FILTER (is_cancelled AND code = 'D') AS cancelled_security
FROM calendar LEFT JOIN flights USING (origin, fl_date)
GROUP BY origin, fl_date
ORDER BY origin, fl_date
"""

# --- flights with a known delay: a row of the CSV, and the column delay_min that the CSV does not have ----------------


def with_delay(planned: int, delay: int, row: Flight) -> dict[str, Any]:
    times = {"CRS_DEP_TIME": hhmm(planned), "DEP_TIME": hhmm(planned + delay) + ".0"}
    return {**row, **times, "DEP_DELAY": f"{delay}.0", "delay_min": delay}


def without_delay(planned: int, delay: int, row: Flight) -> dict[str, Any]:
    """The CSV has both times, from which silver must compute the delay."""
    return with_delay(planned, delay, row) | {"DEP_DELAY": ""}


def unknown_delay(row: Flight) -> dict[str, Any]:
    return {**row, "DEP_TIME": "", "DEP_DELAY": "", "delay_min": None}


def returned(row: dict[str, Any], code: str) -> dict[str, Any]:
    """The flight left, came back and was cancelled: it keeps its delay in the CSV."""
    return row | {"CANCELLED": "1.0", "CANCELLATION_CODE": code}


def never_left(row: Flight, code: str) -> dict[str, Any]:
    return {**row, **CANCELLED, "CANCELLATION_CODE": code, "delay_min": None}


BOUNDARIES = (-720, -61, -1, 0, 1, 14, 15, 16, 59, 60, 61, 119, 120, 121, 7200)
minutes = st.sampled_from(BOUNDARIES) | st.integers(-720, 7200)
computable_minutes = st.sampled_from([-360, *BOUNDARIES[1:-1], 1079]) | st.integers(-360, 1079)
planned_minutes = st.sampled_from([0, 1, 1439]) | st.integers(0, 1439)
codes = st.sampled_from(["A", "B", "C", "D", ""])
basic_rows = st.fixed_dictionaries(
    {
        "ORIGIN": st.sampled_from(["JFK", "LGA", "EWR"]),
        "FL_DATE": st.sampled_from(["2016-01-01", "2016-02-28", "2016-03-01", "2016-12-31"]),
        "DIVERTED": st.sampled_from(["0.0", "1.0"]),
        "CANCELLATION_CODE": codes,  # ignored unless the flight is cancelled
        **{name: st.sampled_from(["", "0.0", "1.0", "15.0", "7200.0"]) for name in CAUSE_COLUMNS},
    }
).map(lambda changes: flight(**changes))
known_rows = st.builds(with_delay, planned_minutes, minutes, basic_rows)
flights = (
    known_rows
    | st.builds(without_delay, planned_minutes, computable_minutes, basic_rows)
    | st.builds(unknown_delay, basic_rows)
    | st.builds(returned, known_rows, codes)
    | st.builds(never_left, basic_rows, codes)
)

LEAP_DAY = flight(FL_DATE="2016-02-29", CANCELLATION_CODE="A")
CAUSES = dict(zip(CAUSE_COLUMNS, ("1.0", "2.0", "3.0", "4.0", "5.0"), strict=True))
ALL_KINDS = [
    *(with_delay(600, delay, LEAP_DAY) for delay in BOUNDARIES),
    with_delay(600, 200, {**LEAP_DAY, **CAUSES, "DIVERTED": "1.0"}),
    without_delay(1439, 15, LEAP_DAY),
    unknown_delay(LEAP_DAY),
    returned(with_delay(600, 43, LEAP_DAY), "B"),
    *(never_left(LEAP_DAY, code) for code in ("A", "B", "B", "C", "D", "")),
    never_left({**LEAP_DAY, "ORIGIN": "ACK"}, "D"),
    with_delay(600, 7, {**LEAP_DAY, "ORIGIN": "BOS"}),
    with_delay(600, 7, {**LEAP_DAY, "ORIGIN": "BOS", "FL_DATE": "2016-12-31"}),
]


def airport_days(pieces: Sequence[Sequence[Flight]]) -> pd.DataFrame:
    """Run the CSV text of each piece through silver, and the sums of all pieces through gold."""
    header = silver.read_header(",".join(HEADER).encode(), "01_bronze/2016.csv")
    tables = []
    for rows in pieces:
        refined = silver.refine(csv_of(rows).split(b"\n", 1)[1], header, YEAR)
        assert refined.flights.num_rows == len(rows)
        tables.append(refined.flights)
    return pd.DataFrame(gold.airport_days(gold.year_sums(tables, YEAR), YEAR).to_pandas())


@settings(max_examples=30, phases=set(Phase) - {Phase.explain})
@given(rows=st.lists(flights, min_size=1, max_size=15), cuts=st.lists(st.integers(0, 15), max_size=3))
@example(rows=ALL_KINDS, cuts=[4, 18])
@example(rows=[with_delay(600, 30, LEAP_DAY)] * 3, cuts=[])
def test_every_column_of_gold_equals_the_sql_definition(rows: list[Flight], cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    bronze = pd.DataFrame(rows).astype({"delay_min": "Float64"})
    expected = duckdb.query_df(bronze, "bronze", AIRPORT_DAYS_SQL).df()

    days = airport_days([rows[start:end] for start, end in pairwise(edges)])

    assert list(days) == list(expected) == schemas.AIRPORT_DAYS.names
    days["fl_date"] = pd.to_datetime(days["fl_date"])
    pd.testing.assert_frame_equal(days, expected, check_dtype=False, rtol=1e-6, atol=1e-4)


def test_many_airports_keep_their_own_sums() -> None:
    """Sums have room for 512 airports at first and grow beyond."""
    rows = [flight(ORIGIN=f"A{number:03}", FL_DATE="2016-03-04") for number in range(700)]

    days = airport_days([rows, rows[::2]])

    assert days["origin"].tolist() == [row["ORIGIN"] for row in rows]
    assert days["scheduled"].tolist() == [2, 1] * 350


# --- Arrow columns to numpy arrays and back ---------------------------------------------------------------------------


KINDS = [
    (pa.int16(), st.integers(-5, 5)),
    (pa.int64(), st.integers(-(2**60), 2**60)),
    (pa.bool_(), st.booleans()),
    (pa.date32(), st.dates()),
]


@settings(max_examples=50)
@given(data=st.data(), kind=st.sampled_from(KINDS), start=st.integers(0, 12), length=st.integers(0, 20))
def test_any_slice_makes_the_round_trip(data: st.DataObject, kind: Any, start: int, length: int) -> None:
    arrow_type, elements = kind
    column = pa.array(data.draw(st.lists(st.none() | elements, max_size=24)), arrow_type).slice(start, length)

    mask, numbers = columns.is_valid(column), columns.to_numpy(column)
    copy = columns.from_numpy(numbers, arrow_type, ~mask)

    copy.validate(full=True)
    assert mask.tolist() == [value is not None for value in column.to_pylist()]
    assert numbers[~mask].tolist() == [0] * column.null_count
    assert copy.equals(column)
