"""The DAG that downloads a year: when it waits, which files it keeps, what it writes to bronze."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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


@pytest.fixture
def wait(dags: Any) -> Callable[[Any], Any]:
    return lambda context: call(dags["fetch_bronze"].get_task("wait_for_publication"), context)


@pytest.fixture
def fetch(dags: Any) -> Callable[[Any], Any]:
    return lambda context: call(dags["fetch_bronze"].get_task("fetch"), context)


def is_whole_year(path: Path) -> bool:
    return path.read_text().count("\n2015-") == 12


def test_a_scheduled_run_waits_until_december_is_published_and_then_fetches(
    wait: Callable[[Any], Any], fetch: Callable[[Any], Any], bureau: Bureau, lake: Path
) -> None:
    december = bureau.files.pop(month_path(2015, 12))
    assert wait(SCHEDULED) is False

    bureau.files[month_path(2015, 12)] = december

    assert wait(SCHEDULED) is True
    assert fetch(SCHEDULED) == "01_bronze/2015.csv"
    assert is_whole_year(lake / "01_bronze/2015.csv")


def test_a_scheduled_run_keeps_a_file_that_is_there_and_sends_no_request(
    wait: Callable[[Any], Any], fetch: Callable[[Any], Any], bureau: Bureau, lake: Path
) -> None:
    (lake / "01_bronze/2015.csv.gz").write_bytes(BY_HAND)

    assert wait(SCHEDULED) is True
    assert fetch(SCHEDULED) == "01_bronze/2015.csv.gz"
    assert bureau.requests == []


def test_a_scheduled_run_of_flight_anomalies_waits_while_bronze_has_only_the_first_months(
    dag: Any, fetch: Callable[[Any], Any], bureau: Bureau, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELAYWATCH_WAREHOUSE", "postgresql://nobody@127.0.0.1:1/nothing")
    december = bureau.files.pop(month_path(2015, 12))
    into_bronze(Settings.from_environment(), 2015, so_far=True)
    assert call(dag.get_task("wait_for_bronze"), SCHEDULED).is_done is False

    bureau.files[month_path(2015, 12)] = december
    fetch(SCHEDULED)

    assert call(dag.get_task("wait_for_bronze"), SCHEDULED).is_done is True


@pytest.mark.slow
def test_a_manual_run_fetches_its_year(read_dags: Callable[[], Any], bureau: Bureau, lake: Path) -> None:
    run = read_dags()["fetch_bronze"].test(run_conf={"year": 2015})

    assert run.state == "success"
    assert is_whole_year(lake / "01_bronze/2015.csv")


def test_a_manual_run_fails_instead_of_waiting_if_the_year_is_not_published(
    wait: Callable[[Any], Any], fetch: Callable[[Any], Any], bureau: Bureau, lake: Path
) -> None:
    assert wait(context_of("manual", 2016)) is True
    with pytest.raises(Missing, match=r"_2016_12\.zip"):
        fetch(context_of("manual", 2016))


def test_a_manual_run_replaces_the_file_of_a_person_only_with_replace(
    fetch: Callable[[Any], Any], bureau: Bureau, lake: Path
) -> None:
    bronze = lake / "01_bronze/2015.csv"
    bronze.write_bytes(BY_HAND)

    with pytest.raises(InvalidInput, match="replace"):
        fetch(context_of("manual", 2015))
    assert bronze.read_bytes() == BY_HAND

    fetch(context_of("manual", 2015, replace=True))

    assert is_whole_year(bronze)
