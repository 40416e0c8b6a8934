"""An Airflow of real processes: a backfill of several years at once, and a scheduler that is killed during a run.

`make test-faults`; takes minutes, because Airflow waits before it retries.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from tests import steps
from tests.builders import csv_of, year_of_flights
from tests.conftest import at, fresh, sql
from tests.dag.conftest import STEPS
from tests.dag.processes import TIMEOUT_S, AirflowProcesses
from tests.servers.receivers import Hook, webhook
from tests.servers.startup import wait_until
from utils.monitoring import health
from utils.settings import Settings, WatchSettings

pytestmark = [pytest.mark.slow, pytest.mark.faults]

YEARS = range(2003, 2008)
FLIGHTS_A_DAY, AIRPORTS = 26, 2

# How fast Airflow notices a dead process. The stack uses Airflow's defaults, given behind each value.
FAST_DETECTION = {
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",  # 5
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",  # 30: silence after which a scheduler is dead
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",  # 300: between two searches for its tasks
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",  # 300: silence after which a task is dead
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",  # 10
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",  # 5
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

    def bronze(self, year: int) -> Path:
        return self.folder / "lake" / "01_bronze" / f"{year}.csv"

    def write_bronze(self, year: int) -> None:
        """Write a valid CSV of the year."""
        self.bronze(year).parent.mkdir(parents=True, exist_ok=True)
        self.bronze(year).write_bytes(csv_of(year_of_flights(year, {"BOS": 20, "ORH": 6}, seed=year)))

    def undisturbed_results(self, year: int) -> dict[str, object]:
        """Return the results of the steps on the same CSV, without Airflow, in a new lake and a new warehouse."""
        name = f"undisturbed_{year}"
        sql(self.postgres, f"CREATE DATABASE {name} TEMPLATE template_warehouse")
        lake, warehouse = self.folder / name, at(self.postgres, database=name)
        settings = Settings(lake=lake.as_uri(), warehouse=warehouse, scratch=self.folder, threads=2)
        (lake / "01_bronze").mkdir(parents=True)
        (lake / "01_bronze" / f"{year}.csv").write_bytes(self.bronze(year).read_bytes())
        steps.run(settings, year)
        return results_of(settings, year)

    def assert_ended_well(self, run_id: str, year: int) -> None:
        """Wait for the end of the run; check success, every row and byte, and one message that reports no failure."""
        assert self.airflow.final_state(run_id) == "success"
        assert results_of(self.settings, year) == self.undisturbed_results(year)
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


@pytest.fixture(scope="module")
def module_stack(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> Iterator[Stack]:
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
def stack(module_stack: Stack) -> Stack:
    """The Airflow with all components running, also if an earlier test killed some."""
    module_stack.airflow.start()
    module_stack.airflow.wait_until_ready()
    return module_stack


def test_two_runs_of_one_year_at_once_both_succeed(stack: Stack) -> None:
    airflow, year = stack.airflow, 2015
    stack.write_bronze(year)
    airflow.kill("scheduler")  # so that both runs start together
    for run_id in ("first", "second"):
        airflow.trigger(run_id, year=year, detectors=["three_sigma"])
    airflow.start("scheduler")

    assert [airflow.final_state(run_id) for run_id in ("first", "second")] == ["success", "success"]

    times = "SELECT start_date, end_date FROM dag_run WHERE run_id IN ('first', 'second')"
    first, second = sql(airflow.metadata, times)
    assert max(first[0], second[0]) < min(first[1], second[1])
    assert results_of(stack.settings, year) == stack.undisturbed_results(year)
    recorded = f"SELECT run_id FROM flights.runs WHERE year = {year} ORDER BY 1"
    assert sql(stack.settings.warehouse, recorded) == [("first",), ("second",)]
    titles = [message.splitlines()[0] for message in stack.messages(year)]
    assert 1 <= len(titles) <= 2  # the second run sends one only if the first has sent none yet
    assert [title for title in titles if "failed" in title] == []


def test_a_backfill_of_five_years_at_once_publishes_each_while_a_scheduled_run_waits(stack: Stack) -> None:
    airflow, warehouse = stack.airflow, stack.settings.warehouse
    for year in YEARS:
        stack.write_bronze(year)
    wait_until(
        lambda: [state for state, _, _ in airflow.runs("scheduled")] == ["running"],
        "the scheduled run waits",
        TIMEOUT_S,
    )

    airflow.backfill(YEARS, detectors=["three_sigma"])
    wait_until(
        lambda: [bool(end) for _, _, end in airflow.runs("backfill")] == [True] * 5, "every run has ended", TIMEOUT_S
    )

    runs = airflow.runs("backfill")
    assert {state for state, _, _ in runs} == {"success"}
    assert max(start for _, start, _ in runs) < min(end for _, _, end in runs)
    assert [state for state, _, _ in airflow.runs("scheduled")] == ["running"]
    per_year = (
        "SELECT extract(year FROM fl_date)::int, count(*), sum(scheduled) FROM flights.airport_days"
        f" WHERE extract(year FROM fl_date) BETWEEN {YEARS[0]} AND {YEARS[-1]} GROUP BY 1 ORDER BY 1"
    )
    days = {year: 365 + calendar.isleap(year) for year in YEARS}
    assert sql(warehouse, per_year) == [(year, AIRPORTS * days[year], FLIGHTS_A_DAY * days[year]) for year in YEARS]
    findings = {finding.what: finding for finding in health.check(stack.settings, WatchSettings(), datetime.now(UTC))}
    assert findings["warehouse"].is_well, findings["warehouse"].sentence
    assert [len(stack.messages(year)) for year in YEARS] == [1] * 5


def test_a_scheduler_killed_during_every_task(stack: Stack) -> None:
    airflow = stack.airflow
    stack.write_bronze(1991)
    airflow.trigger("killed", year=1991, detectors=["three_sigma"])

    for step in STEPS:
        airflow.wait_for_task("killed", step)
        airflow.kill("scheduler")
        assert airflow.is_running("killed", step)
        airflow.start("scheduler")

    stack.assert_ended_well("killed", 1991)
    assert stack.tries("killed") == dict.fromkeys(STEPS, 2)
