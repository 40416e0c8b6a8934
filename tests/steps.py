"""A small year, the steps of its run without Airflow, and the state that they leave in lake and warehouse.

The steps run two detectors, the published one and the fastest, unless a test gives others.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from tests.builders import csv_of, flight, year_of_flights
from tests.conftest import sql
from utils.pipeline import detect, plots, publish, refine
from utils.settings import Settings
from utils.storage.lake import Lake

YEAR = 2015
CLOSED = [("JFK", "2015-02-08"), ("EWR", "2015-02-08")]
BRONZE = csv_of(year_of_flights(YEAR, {"JFK": 24, "EWR": 16, "ACK": 3}, closed=CLOSED))
OTHER_BRONZE = csv_of([*year_of_flights(YEAR, {"JFK": 12}, seed=2), flight(ORIGIN="")])  # one rejected row
BRONZE_KEY = f"01_bronze/{YEAR}.csv"
DETECTORS = ("delaywatch", "three_sigma")


class Step(Protocol):
    """A step of a year."""

    def __call__(self, settings: Settings, year: int = YEAR, detectors: Sequence[str] = DETECTORS) -> object: ...


def detect_all(settings: Settings, year: int, names: Sequence[str]) -> None:
    for name in names:
        detect.write_anomalies(settings, year, name)


def write_page(settings: Settings, year: int) -> None:
    publish.publish(settings, year, f"test__{year}", datetime(2016, 1, 1, tzinfo=UTC))


STEPS: dict[str, Step] = {
    "silver": lambda settings, year=YEAR, detectors=DETECTORS: refine.write_silver(settings, year),
    "gold": lambda settings, year=YEAR, detectors=DETECTORS: refine.write_gold(settings, year),
    "detect": lambda settings, year=YEAR, detectors=DETECTORS: detect_all(settings, year, detectors),
    "explain": lambda settings, year=YEAR, detectors=DETECTORS: detect.explain(settings, year),
    "upsert": lambda settings, year=YEAR, detectors=DETECTORS: publish.upsert(settings, year),
    "plots": lambda settings, year=YEAR, detectors=DETECTORS: plots.write_plots(settings, year),
    "publish": lambda settings, year=YEAR, detectors=DETECTORS: write_page(settings, year),
}
TABLES = {
    "airport_days": "fl_date",
    "anomalies": "fl_date",
    "anomaly_reasons": "fl_date",
    "anomaly_factors": "fl_date",
    "events": "first_day",
    "event_days": "fl_date",
    "verdict_changes": "fl_date",
    "bronze_quality": "make_date(year, 1, 1)",
}  # the day of a row, by table


def run(settings: Settings, year: int = YEAR, detectors: Sequence[str] = DETECTORS) -> None:
    for step in STEPS.values():
        step(settings, year, detectors)


def files(settings: Settings) -> dict[str, bytes | None]:
    """Return all bytes of the lake by key."""
    store = Lake(settings).store
    return {key: store.get(key) for key in store.list("") if not key.endswith(".lock")}


def rows(settings: Settings, year: int = YEAR) -> dict[str, object]:
    """Return the rows of the year with the transaction that wrote each, by table.

    Without `runs`, which is a log, and without the time of verdict_changes, which differs between equal runs.
    """
    return {
        table: sorted(
            sql(
                settings.warehouse,
                f"SELECT t.xmin::text, (to_jsonb(t) - 'changed_at')::text FROM flights.{table} AS t"
                f" WHERE extract(year FROM {day}) = {year}",
            )
        )
        for table, day in TABLES.items()
    }


def everything(settings: Settings) -> dict[str, object]:
    return {**files(settings), **rows(settings)}


def detectors_in(url: str) -> list[str]:
    return [name for (name,) in sql(url, "SELECT DISTINCT detector FROM flights.anomalies ORDER BY 1")]
