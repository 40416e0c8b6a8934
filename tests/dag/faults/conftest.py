"""One Airflow of real processes for this folder, with a lake, a warehouse and a webhook."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from tests import steps
from tests.builders import csv_of, year_of_flights
from tests.conftest import at, fresh, sql
from tests.dag.processes import AirflowProcesses
from tests.servers.receivers import Hook, webhook
from utils.settings import Settings

# How fast Airflow notices a dead process. The stack uses Airflow's defaults, given behind each value.
FAST_DETECTION = {
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",  # 5
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",  # 30: silence after which a scheduler is dead
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",  # 300: between two searches for its tasks
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",  # 300: silence after which a task is dead
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",  # 10
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",  # 5
    "AIRFLOW__WORKERS__EXECUTION_API_RETRY_WAIT_MAX": "2",  # 90: between two attempts to reach the api-server
}


def results_of(settings: Settings, year: int) -> dict[str, object]:
    """Return every file and row of the year, without the numbers of transactions and the record of the run."""
    objects = {key: data for key, data in steps.files(settings).items() if f"/year={year}/" in key}
    tables = cast(dict[str, list[tuple[object, ...]]], steps.rows(settings, year))
    return {**objects, **{table: [row[1:] for row in rows] for table, rows in tables.items()}}


@dataclass(frozen=True)
class Stack:
    """A running Airflow, the settings of its tasks, and their messages. Each test uses years of its own."""

    airflow: AirflowProcesses
    settings: Settings
    hook: Hook
    folder: Path
    postgres: str

    def bronze(self, year: int, ending: str = ".csv") -> Path:
        path = self.folder / "lake" / "01_bronze" / f"{year}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write_bronze(self, year: int) -> None:
        """Write a valid CSV of the year."""
        self.bronze(year).write_bytes(csv_of(year_of_flights(year, {"BOS": 20, "ORH": 6}, seed=year)))

    def results(self, year: int) -> dict[str, object]:
        return results_of(self.settings, year)

    def undisturbed_results(self, year: int) -> dict[str, object]:
        """Return the results of the steps on the same CSV, without Airflow, in a new lake and a new warehouse."""
        name = f"undisturbed_{year}"
        sql(self.postgres, f"CREATE DATABASE {name} TEMPLATE template_warehouse")
        lake = self.folder / name
        warehouse = at(self.postgres, database=name)
        settings = Settings(lake=lake.as_uri(), warehouse=warehouse, scratch=self.folder, threads=2)
        (lake / "01_bronze").mkdir(parents=True)
        (lake / "01_bronze" / f"{year}.csv").write_bytes(self.bronze(year).read_bytes())
        steps.run(settings, year)
        return results_of(settings, year)

    def assert_ended_well(self, run_id: str, year: int) -> None:
        """Wait for the end of the run; check success, every row and byte, and one message that reports no failure."""
        assert self.airflow.final_state(run_id) == "success"
        assert self.results(year) == self.undisturbed_results(year)
        (message,) = self.messages(year)
        assert "failed" not in message.splitlines()[0]

    def tries(self, run_id: str) -> dict[str, int]:
        """Return the highest try of each task of the run."""
        tries: dict[str, int] = {}
        for (task, _), (_, number) in self.airflow.instances(run_id).items():
            tries[task] = max(number, tries.get(task, 0))
        return tries

    def messages(self, year: int) -> list[str]:
        return [text for text in self.hook.texts if text.startswith(f"*Delaywatch {year}")]


@pytest.fixture(scope="session")
def session_stack(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    metadata, warehouse = fresh(postgres, "template1"), fresh(postgres, "template_warehouse")
    with webhook() as hook:
        settings = Settings(lake=(folder / "lake").as_uri(), warehouse=next(warehouse), scratch=folder, threads=2)
        variables = {
            "AIRFLOW_CONN_WAREHOUSE": settings.warehouse,
            "DELAYWATCH_LAKE": settings.lake,
            "DELAYWATCH_ALERT_WEBHOOK": hook.url,
            "DELAYWATCH_THREADS": "2",
        }
        airflow = AirflowProcesses(folder, next(metadata), FAST_DETECTION | variables)
        try:
            airflow.run_command("db", "migrate")
            yield Stack(airflow, settings, hook, folder, postgres)
        finally:
            airflow.stop()


@pytest.fixture
def stack(session_stack: Stack) -> Stack:
    """The Airflow with all components running, also if an earlier test killed some."""
    session_stack.airflow.start()
    session_stack.airflow.wait_until_ready()
    return session_stack
