"""The DAG that downloads a year: when it waits, which files it keeps, what it writes to bronze."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.builders import flight
from tests.dag.conftest import call, context_of
from tests.servers.bureau import Bureau, month_path, serving, year_of_zips
from utils.errors import InvalidInput, Missing
from utils.settings import Settings
from utils.sources.fetch import into_bronze

SCHEDULED = context_of("scheduled", interval_start=datetime(2015, 1, 1, tzinfo=UTC))
BY_HAND = b"a file that a person put there"


@pytest.fixture
def bureau(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bureau]:
    """A Bureau that has published 2015."""
    with serving(Bureau()) as server:
        server.files = year_of_zips([flight(FL_DATE=f"2015-{month:02}-04") for month in range(1, 13)])
        monkeypatch.setenv("DELAYWATCH_BTS_URL", f"{server.url}/PREZIP")
        yield server


def wait(dags: Any, context: Any) -> Any:
    return call(dags["fetch_bronze"].get_task("wait_for_publication"), context)


def fetch(dags: Any, context: Any) -> Any:
    return call(dags["fetch_bronze"].get_task("fetch"), context)


def test_a_scheduled_run_waits_until_december_is_published_and_then_fetches(
    dags: Any, bureau: Bureau, lake: Path
) -> None:
    december = bureau.files.pop(month_path(2015, 12))
    assert wait(dags, SCHEDULED) is False

    bureau.files[month_path(2015, 12)] = december

    assert wait(dags, SCHEDULED) is True
    assert fetch(dags, SCHEDULED) == "01_bronze/2015.csv"
    assert (lake / "01_bronze/2015.csv").read_text().count("\n2015-") == 12


def test_a_scheduled_run_keeps_a_file_that_is_there_and_sends_no_request(dags: Any, bureau: Bureau, lake: Path) -> None:
    (lake / "01_bronze/2015.csv.gz").write_bytes(BY_HAND)

    assert wait(dags, SCHEDULED) is True
    assert fetch(dags, SCHEDULED) == "01_bronze/2015.csv.gz"
    assert bureau.requests == []


def test_a_scheduled_run_of_flight_anomalies_waits_while_bronze_has_only_the_first_months(
    dags: Any, bureau: Bureau, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELAYWATCH_WAREHOUSE", "postgresql://nobody@127.0.0.1:1/nothing")
    december = bureau.files.pop(month_path(2015, 12))
    into_bronze(Settings.from_environment(), 2015, so_far=True)
    assert call(dags["flight_anomalies"].get_task("wait_for_bronze"), SCHEDULED).is_done is False

    bureau.files[month_path(2015, 12)] = december
    fetch(dags, SCHEDULED)

    assert call(dags["flight_anomalies"].get_task("wait_for_bronze"), SCHEDULED).is_done is True


def test_a_manual_run_fails_instead_of_waiting_if_the_year_is_not_published(
    dags: Any, bureau: Bureau, lake: Path
) -> None:
    assert wait(dags, context_of("manual", 2016)) is True
    with pytest.raises(Missing, match=r"_2016_12\.zip"):
        fetch(dags, context_of("manual", 2016))


def test_a_manual_run_replaces_the_file_of_a_person_only_with_replace(dags: Any, bureau: Bureau, lake: Path) -> None:
    bronze = lake / "01_bronze/2015.csv"
    bronze.write_bytes(BY_HAND)

    with pytest.raises(InvalidInput, match="replace"):
        fetch(dags, context_of("manual", 2015))
    assert bronze.read_bytes() == BY_HAND

    fetch(dags, context_of("manual", 2015, replace=True))

    assert bronze.read_bytes() != BY_HAND
