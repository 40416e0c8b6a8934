"""Processes of Airflow that are killed under a run: it ends by itself as if nothing had happened, and nobody is woken.

Run it with `make test-faults`; it takes minutes, because Airflow
waits before it tries again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import psutil
import psycopg2
import pytest

from tests.conftest import sql
from tests.dag.faults.conftest import Place
from tests.dag.processes import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.faults]

STEPS = ("wait_for_bronze", "silver", "gold", "detect", "explain", "upsert", "plots", "publish", "clear_scratch")


@contextmanager
def upserts_held_up(warehouse: str) -> Iterator[None]:
    """Until the end of this, an upsert waits for a lock, as it would behind somebody's long transaction."""
    with closing(psycopg2.connect(warehouse)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE flights.airport_days IN SHARE MODE")
        yield


def waiting_for_locks(warehouse: str) -> int:
    asked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return int(sql(warehouse, asked)[0][0])


def test_a_run_whose_scheduler_is_killed_in_each_of_its_tasks_ends_as_if_nothing_had_happened(place: Place) -> None:
    airflow = place.airflow
    place.put(1991)
    airflow.trigger("killed", year=1991, detectors=["three_sigma"])

    for step in STEPS:
        airflow.wait_for("killed", step)
        airflow.kill("scheduler")
        assert "running" in {state for (task, _), (state, _) in airflow.instances("killed").items() if task == step}
        airflow.start("scheduler")

    place.assert_ended_well("killed", 1991)
    assert place.tries("killed") == dict.fromkeys(STEPS, 2)


def test_a_task_that_outlives_its_scheduler_and_its_second_try_leave_each_row_once(place: Place) -> None:
    """As when the kernel, out of memory, takes the scheduler alone."""
    airflow, warehouse = place.airflow, place.settings.warehouse
    place.put(1993)

    with upserts_held_up(warehouse):
        airflow.trigger("outlived", year=1993, detectors=["three_sigma"])
        wait_until("the first upsert waits", lambda: waiting_for_locks(warehouse) == 1)
        airflow.kill("scheduler", with_children=False)
        airflow.start("scheduler")
        wait_until("the second one waits too", lambda: waiting_for_locks(warehouse) == 2)

    place.assert_ended_well("outlived", 1993)
    assert place.tries("outlived")["upsert"] == 2


def test_a_task_that_the_kernel_kills_for_its_memory_is_tried_again(place: Place) -> None:
    airflow = place.airflow
    place.put(1995)
    airflow.trigger("memory", year=1995, detectors=["three_sigma"])
    airflow.wait_for("memory", "silver")

    ((pid,),) = sql(airflow.metadata, "SELECT pid FROM task_instance WHERE run_id = 'memory' AND task_id = 'silver'")
    psutil.Process(pid).kill()

    place.assert_ended_well("memory", 1995)
    assert place.tries("memory")["silver"] == 2


def test_a_worker_that_is_killed_with_its_task_is_missed_and_the_task_is_tried_again(place: Place) -> None:
    """Nobody is left to tell of the task then; its heartbeat fails to come."""
    airflow, warehouse = place.airflow, place.settings.warehouse
    place.put(1997)

    with upserts_held_up(warehouse):
        airflow.trigger("worker", year=1997, detectors=["three_sigma"])
        wait_until("the upsert waits", lambda: waiting_for_locks(warehouse) == 1)
        ((pid,),) = sql(airflow.metadata, "SELECT pid FROM task_instance WHERE run_id = 'worker' AND pid IS NOT NULL"
                        " AND state = 'running'")  # fmt: skip
        task = psutil.Process(pid)
        worker = task.parent()
        assert worker is not None
        worker.kill()
        task.kill()

    place.assert_ended_well("worker", 1997)
    assert place.tries("worker")["upsert"] == 2


def test_an_api_server_that_is_killed_during_a_task_and_started_again_keeps_no_run_from_its_end(place: Place) -> None:
    airflow = place.airflow
    place.put(1999)
    airflow.trigger("short", year=1999, detectors=["three_sigma"])
    airflow.wait_for("short", "silver")

    airflow.kill("api-server")
    airflow.start("api-server")

    place.assert_ended_well("short", 1999)


def test_an_api_server_that_stays_away_until_the_task_is_given_up_costs_a_try(place: Place) -> None:
    airflow, warehouse = place.airflow, place.settings.warehouse
    place.put(2001)

    with upserts_held_up(warehouse):
        airflow.trigger("long", year=2001, detectors=["three_sigma"])
        wait_until("the upsert waits", lambda: waiting_for_locks(warehouse) == 1)
        airflow.kill("api-server")
        airflow.wait_for("long", "upsert", "up_for_retry")
        airflow.start("api-server")

    place.assert_ended_well("long", 2001)
    assert place.tries("long")["upsert"] == 2
