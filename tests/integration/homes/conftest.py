"""A lake in a folder with two small years in silver and gold, for other readers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import steps
from tests.builders import csv_of, flight, year_of_flights
from utils.pipeline import detect, refine
from utils.settings import Settings
from utils.storage.lake import Lake

FLIGHTS = {"JFK": 24, "EWR": 16}  # per day
CLOSED_MONTH_AND_DAY = "02-08"


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The lake has 2017 and 2018 with a closed day each, and a rejected row of 2018. Tests only read it."""
    folder = tmp_path_factory.mktemp("homes")
    settings = Settings(lake=(folder / "lake").as_uri(), warehouse="", scratch=folder, threads=2)
    for year in (2017, 2018):
        closed = [(origin, f"{year}-{CLOSED_MONTH_AND_DAY}") for origin in FLIGHTS]
        rows = year_of_flights(year, FLIGHTS, seed=year, closed=closed)
        rejected = [flight(ORIGIN="", FL_DATE="2018-03-01")] if year == 2018 else []
        Lake(settings).store.put(f"01_bronze/{year}.csv", csv_of([*rows, *rejected]))
        Lake(settings).store.put(f"01_bronze/_{year}.csv.json", b"{}")  # the record of a fetched year
        refine.write_silver(settings, year)
        refine.write_gold(settings, year)
        for detector in steps.DETECTORS:
            detect.write_anomalies(settings, year, detector)
        detect.explain(settings, year)
    return settings


@pytest.fixture(scope="session")
def folder(settings: Settings) -> Path:
    return Path(settings.lake.removeprefix("file://"))
