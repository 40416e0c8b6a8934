"""Airflow with a temporary home of this session, and a lake with one small year."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from demo import airflow_home
from tests.builders import csv_of, year_of_flights
from tests.steps import YEAR

CLOSED = "2015-01-27"  # Boston cancels three of four flights
STEPS = ("wait_for_bronze", "silver", "gold", "detect", "explain", "upsert", "plots", "publish", "clear_scratch")


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of Airflow, which reads its environment at import; so tests import it after this fixture."""
    before = dict(os.environ)
    home = tmp_path_factory.mktemp("airflow")
    airflow_home.enter(home, lake="file:///nowhere", warehouse="postgresql://nobody@127.0.0.1:1/nothing")
    airflow_home.prepare(home)
    yield home
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def read_dags(airflow: Path) -> Callable[[], Any]:
    """Parse the DAG files as Airflow does. Return the DAGs by id. `dag.test()` changes a DAG, so it needs a new one."""
    from airflow.dag_processing.dagbag import DagBag

    def read() -> Any:
        bag = DagBag(airflow_home.DAGS)
        assert bag.import_errors == {}
        return bag.dags

    return read


@pytest.fixture(scope="session")
def dags(read_dags: Callable[[], Any]) -> Any:
    """The DAGs by id, for tests that do not run them."""
    return read_dags()


@pytest.fixture(scope="session")
def dag(dags: Any) -> Any:
    return dags["flight_anomalies"]


@pytest.fixture(scope="session")
def bronze_csv() -> bytes:
    return csv_of(year_of_flights(YEAR, {"BOS": 20, "ORH": 6}, closed=[("BOS", CLOSED)]))


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty lake in a folder; Airflow's tasks use it."""
    (tmp_path / "lake" / "01_bronze").mkdir(parents=True)
    monkeypatch.setenv("DELAYWATCH_LAKE", (tmp_path / "lake").as_uri())
    monkeypatch.setenv("DELAYWATCH_SCRATCH", str(tmp_path))
    return tmp_path / "lake"


def context_of(run_type: str, year: object = None, interval_start: datetime | None = None, **params: object) -> Any:
    """Return the part of a task's context that our DAGs use."""
    run = SimpleNamespace(run_type=run_type, run_after=datetime(2016, 1, 1, tzinfo=UTC))
    defaults = {"year": year, "detectors": None, "source": "bts", "so_far": False, "replace": False}
    return {"params": defaults | params, "dag_run": run, "data_interval_start": interval_start}


def call(task: Any, context: Any, **arguments: object) -> Any:
    """Call the task's own code with a context, without Airflow around it. arguments: those of a mapped task."""
    from airflow.sdk import BaseSensorOperator
    from airflow.sdk.execution_time.context import set_current_context

    with set_current_context(context):
        return task.poke(context) if isinstance(task, BaseSensorOperator) else task.python_callable(**arguments)
