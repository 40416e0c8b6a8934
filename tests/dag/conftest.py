"""Airflow on a scratch home of this session's own, and a lake with one small year in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from demo import airflow_home
from tests.builders import csv_of, year_of_flights

STORM = "2015-01-27"  # Boston cancels three flights of four


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Airflow of a scratch home; import it after asking for this, because it reads its environment then."""
    before = dict(os.environ)
    home = tmp_path_factory.mktemp("airflow")
    airflow_home.enter(home, lake="file:///nowhere", warehouse="postgresql://nobody@127.0.0.1:1/nothing")
    airflow_home.prepare(home)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def read_dags(airflow: None) -> Callable[[], Any]:
    """Read the folder as Airflow does; the answer is every DAG by its name."""
    from airflow.dag_processing.dagbag import DagBag

    def read() -> Any:
        bag = DagBag(airflow_home.DAGS)
        assert bag.import_errors == {}
        return bag.dags

    return read


@pytest.fixture
def dags(read_dags: Callable[[], Any]) -> Any:
    """Every DAG by its name, read for this test alone: `dag.test()` leaves the run's configuration in the params."""
    return read_dags()


@pytest.fixture
def dag(dags: Any) -> Any:
    """The DAG of a year."""
    return dags["flight_anomalies"]


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lake whose bronze has 2015: Boston and Worcester, every day."""
    bronze = tmp_path / "lake" / "01_bronze"
    bronze.mkdir(parents=True)
    rows = year_of_flights(2015, {"BOS": 20, "ORH": 6}, closed=[("BOS", STORM)])
    (bronze / "2015.csv").write_bytes(csv_of(rows))
    monkeypatch.setenv("DELAYWATCH_LAKE", bronze.parent.as_uri())
    return bronze.parent
