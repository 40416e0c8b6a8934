"""A small year and the steps of its run, as a test calls them without Airflow; and all that they leave behind.

Two detectors judge it, the published one and the fastest: what the steps do is the same for any number of them.
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
OTHER_BRONZE = csv_of([*year_of_flights(YEAR, {"JFK": 12}, seed=2), flight(ORIGIN="")])  # one row that is rejected
BRONZE_KEY = f"01_bronze/{YEAR}.csv"
DETECTORS = ("delaywatch", "three_sigma")

# By name, in their order.
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
}  # by table, its day


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
    """Every byte of the lake, by key."""
    store = Lake(settings).store
    return {key: store.get(key) for key in store.list("") if not key.endswith(".lock")}


def rows(settings: Settings, year: int = YEAR) -> dict[str, object]:
    """Every row of the year in the warehouse with the transaction that wrote it, by table; runs are a log."""
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
