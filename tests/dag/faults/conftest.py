"""One Airflow of real processes for the tests of this folder, a lake, a warehouse, and whom it tells of its runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from tests.builders import csv_of, year_of_flights
from tests.conftest import at, fresh, sql
from tests.dag.processes import ScratchAirflow
from tests.servers.receivers import Hook, webhook
from tests.steps import DETECTORS, files, rows
from tests.steps import run as run_steps
from utils.settings import Settings

# How soon Airflow notices that a process is gone. The stack leaves it at Airflow's own values, which are written behind
# these: too slow for a test, and nothing else depends on them.
SECONDS = {
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",  # 5
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",  # 30: then a silent scheduler counts as dead
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",  # 300: how often another one looks for its tasks
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",  # 300: then a silent task counts as dead
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",  # 10
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",  # 5
    "AIRFLOW__WORKERS__EXECUTION_API_RETRY_WAIT_MAX": "2",  # 90: between two tries to reach the api-server
}


@dataclass(frozen=True)
class Place:
    """A running Airflow, the settings of its tasks, and what they tell; every test has years of its own."""

    airflow: ScratchAirflow
    settings: Settings
    hook: Hook
    scratch: Path
    postgres: str

    def put(self, year: int) -> None:
        """A good CSV of the year into bronze."""
        bronze(self.settings, year).write_bytes(csv_of(year_of_flights(year, {"BOS": 20, "ORH": 6}, seed=year)))

    def results(self, year: int) -> dict[str, object]:
        """All that a run of the year leaves, but for the record of the run itself."""
        return of_year(self.settings, year)

    def undisturbed(self, year: int) -> dict[str, object]:
        """What the steps, called one after the other on the same CSV, leave in an untouched lake and warehouse."""
        name = f"undisturbed_{year}"
        sql(self.postgres, f"CREATE DATABASE {name} TEMPLATE template_warehouse")
        elsewhere = Settings(
            lake=(self.scratch / name).as_uri(),
            warehouse=at(self.postgres, database=name),
            scratch=self.scratch,
            threads=2,
        )
        bronze(elsewhere, year).write_bytes(bronze(self.settings, year).read_bytes())
        run_steps(elsewhere, year, DETECTORS)
        return of_year(elsewhere, year)

    def assert_ended_well(self, run_id: str, year: int) -> None:
        """Wait for the run's end: success, every row and byte as ever, and one message, which is of no failure."""
        assert self.airflow.end_of(run_id) == "success"
        assert self.results(year) == self.undisturbed(year)
        (message,) = self.told(year)
        assert "failed" not in message.splitlines()[0]

    def tries(self, run_id: str) -> dict[str, int]:
        """The highest try of each task of the run."""
        found: dict[str, int] = {}
        for (task, _), (_, number) in self.airflow.instances(run_id).items():
            found[task] = max(number, found.get(task, 0))
        return found

    def told(self, year: int) -> list[str]:
        """The messages of the year."""
        return [text for text in self.hook.texts if text.startswith(f"*Delaywatch {year}")]


def bronze(settings: Settings, year: int, ending: str = ".csv") -> Path:
    """Where the year's CSV is in a lake that is a folder."""
    folder = Path(settings.lake.removeprefix("file://")) / "01_bronze"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{year}{ending}"


def of_year(settings: Settings, year: int) -> dict[str, object]:
    objects = {key: data for key, data in files(settings).items() if f"/year={year}/" in key}
    found = cast(dict[str, list[tuple[object, ...]]], rows(settings, year))
    without_transaction = {table: [row[1:] for row in of_table] for table, of_table in found.items()}
    return {**objects, **without_transaction}


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("runs")
    metadata, warehouse = fresh(postgres, "template1"), fresh(postgres, "template_warehouse")
    with webhook() as hook:
        settings = Settings(lake=(folder / "lake").as_uri(), warehouse=next(warehouse), scratch=folder, threads=2)
        variables = {
            "AIRFLOW_CONN_WAREHOUSE": settings.warehouse,
            "DELAYWATCH_LAKE": settings.lake,
            "DELAYWATCH_ALERT_WEBHOOK": hook.url,
            "DELAYWATCH_THREADS": "2",
        }
        airflow = ScratchAirflow(folder, next(metadata), SECONDS | variables)
        try:
            airflow.command("db", "migrate")
            yield Place(airflow, settings, hook, folder, postgres)
        finally:
            airflow.stop()


@pytest.fixture
def place(running: Place) -> Place:
    """The Airflow with all of its components up, also when the test before has killed some."""
    running.airflow.start()
    running.airflow.wait_until_ready()
    return running
