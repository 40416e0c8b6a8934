"""Bronze files for tests: one full flight, changed where a test says so, written as the Kaggle files are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from random import Random

from utils import schemas

HEADER: tuple[str, ...] = (*(name for name, _ in schemas.FLIGHT_COLUMNS), schemas.EMPTY_COLUMN)

Flight = Mapping[str, str]

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
                    "CRS_DEP_TIME": _hhmm(planned),
                }
                if (origin, day.isoformat()) in closed and number % 4:
                    rows.append(cancelled(**key))
                else:
                    rows.append(flight(**key, DEP_TIME=f"{_hhmm(planned + delay)}.0", DEP_DELAY=f"{delay}.0"))
        day += timedelta(days=1)
    return rows


def _hhmm(minutes: int) -> str:
    return str(minutes % 1440 // 60 * 100 + minutes % 60)
