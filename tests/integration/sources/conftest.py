"""A Bureau and a Kaggle that have published 1987, and an empty lake."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.builders import csv_of, flight
from tests.servers.bureau import Bureau, serving, year_of_zips
from utils.settings import Settings

YEAR = 1987  # the Bureau's data begin in October of this year, so it has three months
FLIGHTS = [flight(FL_DATE=f"1987-{month}-{day:02}") for month in (10, 11, 12) for day in range(1, 31)]
KAGGLE = "/api/v1/datasets/download/yuanyuwendymu/airline-delay-and-cancellation-data-2009-2018/1987.csv"


@pytest.fixture
def bureau() -> Iterator[Bureau]:
    with serving(Bureau()) as server:
        server.files = {**year_of_zips(FLIGHTS), KAGGLE: csv_of(FLIGHTS)}
        yield server


def settings_for(bureau: Bureau, settings: Settings) -> Settings:
    """Return the settings with the addresses of the server and a Kaggle token."""
    token = settings.scratch / "kaggle.json"
    token.write_text('{"username": "amelia", "key": "s3cret"}')
    return settings.replace(bts_url=f"{bureau.url}/PREZIP", kaggle_url=f"{bureau.url}/api/v1", kaggle_token_file=token)


@pytest.fixture
def settings(bureau: Bureau, folder_settings: Settings) -> Settings:
    return settings_for(bureau, folder_settings)
