"""Processes of Airflow are killed during a run: the run succeeds without help and sends no message about a failure.

`make test-faults`; takes minutes, because Airflow waits before it retries.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import psutil
import psycopg2
import pytest

from tests.conftest import sql
from tests.dag.faults.conftest import Stack
from tests.dag.processes import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.faults]

STEPS = ("wait_for_bronze", "silver", "gold", "detect", "explain", "upsert", "plots", "publish", "clear_scratch")


@contextmanager
def upserts_blocked(warehouse: str) -> Iterator[None]:
    """Hold a lock for which an upsert waits, as in a long transaction of another session."""
    with closing(psycopg2.connect(warehouse)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE flights.airport_days IN SHARE MODE")
        yield


def wait_for_blocked_upserts(warehouse: str, number: int) -> None:
    query = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    wait_until(f"{number} upserts wait for the lock", lambda: len(sql(warehouse, query)) == number)


def running_pid(stack: Stack, run_id: str) -> int:
    """Return the process id of the task of a run that is running."""
    query = f"SELECT pid FROM task_instance WHERE run_id = '{run_id}' AND pid IS NOT NULL AND state = 'running'"
    ((pid,),) = sql(stack.airflow.metadata, query)
    return int(pid)


def test_a_scheduler_killed_during_every_task(stack: Stack) -> None:
    airflow = stack.airflow
    stack.write_bronze(1991)
    airflow.trigger("killed", year=1991, detectors=["three_sigma"])

    for step in STEPS:
        airflow.wait_for_task("killed", step)
        airflow.kill("scheduler")
        assert "running" in {state for (task, _), (state, _) in airflow.instances("killed").items() if task == step}
        airflow.start("scheduler")

    stack.assert_ended_well("killed", 1991)
    assert stack.tries("killed") == dict.fromkeys(STEPS, 2)


def test_a_scheduler_killed_without_its_task_which_then_runs_twice(stack: Stack) -> None:
    """The kernel kills only the scheduler if memory is short."""
    airflow, warehouse = stack.airflow, stack.settings.warehouse
    stack.write_bronze(1993)

    with upserts_blocked(warehouse):
        airflow.trigger("outlived", year=1993, detectors=["three_sigma"])
        wait_for_blocked_upserts(warehouse, 1)
        airflow.kill("scheduler", with_children=False)
        airflow.start("scheduler")
        wait_for_blocked_upserts(warehouse, 2)

    stack.assert_ended_well("outlived", 1993)
    assert stack.tries("outlived")["upsert"] == 2


def test_a_task_killed_by_the_kernel(stack: Stack) -> None:
    stack.write_bronze(1995)
    stack.airflow.trigger("memory", year=1995, detectors=["three_sigma"])
    stack.airflow.wait_for_task("memory", "silver")

    psutil.Process(running_pid(stack, "memory")).kill()

    stack.assert_ended_well("memory", 1995)
    assert stack.tries("memory")["silver"] == 2


def test_a_worker_killed_together_with_its_task(stack: Stack) -> None:
    """No process is left to report the end of the task; Airflow misses its heartbeat."""
    stack.write_bronze(1997)

    with upserts_blocked(stack.settings.warehouse):
        stack.airflow.trigger("worker", year=1997, detectors=["three_sigma"])
        wait_for_blocked_upserts(stack.settings.warehouse, 1)
        task = psutil.Process(running_pid(stack, "worker"))
        worker = task.parent()
        assert worker is not None
        worker.kill()
        task.kill()

    stack.assert_ended_well("worker", 1997)
    assert stack.tries("worker")["upsert"] == 2


def test_an_api_server_away_until_the_task_is_retried(stack: Stack) -> None:
    stack.write_bronze(2001)

    with upserts_blocked(stack.settings.warehouse):
        stack.airflow.trigger("long", year=2001, detectors=["three_sigma"])
        wait_for_blocked_upserts(stack.settings.warehouse, 1)
        stack.airflow.kill("api-server")
        stack.airflow.wait_for_task("long", "upsert", "up_for_retry")
        stack.airflow.start("api-server")

    stack.assert_ended_well("long", 2001)
    assert stack.tries("long")["upsert"] == 2
