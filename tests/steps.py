"""A small year, the steps of its run without Airflow, and the state that they leave in lake and warehouse.

The run has two detectors, the published one and the fastest; the steps do the same with more.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

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

STEPS: dict[str, Callable[[Settings], object]] = {
    "silver": lambda settings: refine.write_silver(settings, YEAR),
    "gold": lambda settings: refine.write_gold(settings, YEAR),
    "detect": lambda settings: [detect.write_anomalies(settings, YEAR, name) for name in DETECTORS],
    "explain": lambda settings: detect.explain(settings, YEAR),
    "upsert": lambda settings: publish.upsert(settings, YEAR),
    "plots": lambda settings: plots.write_plots(settings, YEAR),
    "publish": lambda settings: write_page(settings, YEAR),
}
TABLES = {
    "airport_days": "fl_date",
    "anomalies": "fl_date",
    "anomaly_reasons": "fl_date",
    "anomaly_factors": "fl_date",
    "events": "first_day",
    "event_days": "fl_date",
    "bronze_quality": "make_date(year, 1, 1)",
}  # the day of a row, by table


def write_page(settings: Settings, year: int) -> None:
    publish.publish(settings, year, f"test__{year}", datetime(2016, 1, 1, tzinfo=UTC))


def run(settings: Settings, year: int = YEAR, detectors: tuple[str, ...] = DETECTORS) -> None:
    refine.write_silver(settings, year)
    refine.write_gold(settings, year)
    for name in detectors:
        detect.write_anomalies(settings, year, name)
    detect.explain(settings, year)
    publish.upsert(settings, year)
    plots.write_plots(settings, year)
    write_page(settings, year)


def files(settings: Settings) -> dict[str, bytes | None]:
    """Return all bytes of the lake by key."""
    store = Lake(settings).store
    return {key: store.get(key) for key in store.list("") if not key.endswith(".lock")}


def rows(settings: Settings, year: int = YEAR) -> dict[str, object]:
    """Return the rows of the year with the transaction that wrote each, by table; without `runs`, which is a log."""
    return {
        table: sorted(
            sql(
                settings.warehouse,
                f"SELECT t.xmin::text, t.*::text FROM flights.{table} AS t WHERE extract(year FROM {day}) = {year}",
            )
        )
        for table, day in TABLES.items()
    }


def everything(settings: Settings) -> dict[str, object]:
    return {**files(settings), **rows(settings)}


def detectors_in(url: str) -> list[str]:
    return [name for (name,) in sql(url, "SELECT DISTINCT detector FROM flights.anomalies ORDER BY 1")]
