"""The DAG as its operators meet it, before anything runs: file, order, schedule, form, retries, assets, manual."""

from __future__ import annotations

import copy
import os
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from demo.airflow_home import DAGS
from utils import detectors
from utils.errors import Busy, DelaywatchError, InvalidInput, Missing, Unavailable

MEET_THE_NETWORK = ("wait_for_bronze", "silver", "gold", "detect", "explain", "upsert", "plots", "publish")


def test_the_file_is_read_without_settings_connections_or_heavy_libraries(tmp_path: Path) -> None:
    heavy = "{'pandas', 'numpy', 'pyarrow', 'sklearn', 'scipy', 'matplotlib', 'boto3', 'psycopg2'}"
    read = f"import sys, flight_anomalies; sys.exit(', '.join({heavy} & set(sys.modules)) or None)"
    nothing_set = {"PATH": os.environ["PATH"], "PYTHONPATH": str(DAGS), "AIRFLOW_HOME": str(tmp_path)}

    done = subprocess.run([sys.executable, "-c", read], env=nothing_set, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_reading_the_dag_files_uses_nothing_of_airflow_that_is_deprecated(tmp_path: Path) -> None:
    """Each warning would be in the log of every task and of every parse."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(DAGS), "AIRFLOW_HOME": str(tmp_path)}
    read = [sys.executable, "-W", "error::FutureWarning", "-c", "import fetch_bronze, flight_anomalies, retention"]

    done = subprocess.run(read, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_the_steps_follow_one_another(dag: Any) -> None:
    assert {task.task_id: set(task.downstream_task_ids) for task in dag.tasks} == {
        "wait_for_bronze": {"silver", "detect"},  # detect, because the names that it is mapped over come from there
        "silver": {"gold"},
        "gold": {"detect"},
        "detect": {"explain"},
        "explain": {"upsert"},
        "upsert": {"plots"},
        "plots": {"publish"},
        "publish": {"clear_scratch"},
        "clear_scratch": set(),
    }


def test_a_run_starts_when_its_calendar_year_is_over(dag: Any) -> None:
    from airflow.serialization.encoders import coerce_to_core_timetable

    new_year = datetime(2027, 1, 1, tzinfo=UTC)

    interval = coerce_to_core_timetable(dag.timetable).infer_manual_data_interval(run_after=new_year)

    assert (interval.start, interval.end) == (datetime(2026, 1, 1, tzinfo=UTC), new_year)
    assert not dag.catchup


def test_a_run_that_waits_for_its_file_holds_up_neither_a_worker_nor_other_runs(dag: Any) -> None:
    sensor = dag.get_task("wait_for_bronze")

    assert sensor.mode == "reschedule"
    assert sensor.timeout >= 90 * 24 * 3600
    assert dag.max_active_runs > 1


@pytest.mark.parametrize("form", [{}, {"year": 2018}, {"year": "2018"}, {"year": None, "detectors": ["three_sigma"]}])
def test_the_trigger_form_takes_what_can_be_run(dag: Any, form: dict[str, object]) -> None:
    params = copy.deepcopy(dag.params)

    params.update(form)

    assert params.validate() == {"year": None, "detectors": None, **form}


@pytest.mark.parametrize("form", [{"year": 1886}, {"year": 3000}, {"year": "abc"}, {"detectors": "three_sigma"}])
def test_the_trigger_form_refuses_what_cannot_be_run(dag: Any, form: dict[str, object]) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError, match="Invalid input for param"):
        copy.deepcopy(dag.params).update(form)


def test_a_backfill_of_a_year_without_its_file_fails_and_a_scheduled_run_waits(dag: Any, lake: Path) -> None:
    def is_there(run_type: str) -> bool:
        context = {
            "params": {"year": 1999, "detectors": None},
            "dag_run": SimpleNamespace(run_type=run_type),
        }
        return bool(dag.get_task("wait_for_bronze").poke(context).is_done)

    assert not is_there("scheduled")
    with pytest.raises(DelaywatchError, match="1999"):
        is_there("backfill")


@pytest.mark.parametrize("task_id", MEET_THE_NETWORK)
def test_a_step_that_meets_the_network_is_tried_again_with_growing_delays(dag: Any, task_id: str) -> None:
    task = dag.get_task(task_id)

    assert task.retries == 3
    assert task.retry_exponential_backoff > 1
    assert task.retry_policy is not None


def test_no_step_waits_for_ever(dag: Any) -> None:
    assert {task.execution_timeout for task in dag.tasks} == {timedelta(hours=6)}


@pytest.mark.parametrize(
    ("kind", "is_final"), [(InvalidInput, True), (Missing, True), (Unavailable, False), (Busy, False)]
)
def test_what_a_person_must_correct_fails_at_once_and_what_may_pass_is_retried(
    airflow: None, kind: type[DelaywatchError], is_final: bool
) -> None:
    from airflow.sdk import RetryAction

    from orchestration.retries import RetryWhatMayPass

    decision = RetryWhatMayPass().evaluate(kind("a message"))

    assert decision.action == (RetryAction.FAIL if is_final else RetryAction.DEFAULT)


def test_a_fault_that_nobody_foresaw_is_tried_again(airflow: None) -> None:
    from airflow.sdk import RetryAction

    from orchestration.retries import RetryWhatMayPass

    assert RetryWhatMayPass().evaluate(MemoryError()).action == RetryAction.DEFAULT


def test_scratch_space_is_cleared_whatever_happened(dag: Any) -> None:
    assert dag.get_task("clear_scratch").is_teardown


def test_gold_and_the_warehouse_are_assets_that_other_dags_can_follow(dag: Any) -> None:
    outlets = {task.task_id: [asset.name for asset in task.outlets] for task in dag.tasks if task.outlets}

    assert outlets == {"gold": ["delaywatch_gold_airport_days"], "upsert": ["delaywatch_warehouse_flights"]}


def test_every_step_and_every_parameter_says_in_the_ui_what_it_does(dags: dict[str, Any]) -> None:
    for dag in dags.values():
        assert [task.task_id for task in dag.tasks if not task.doc_md] == []
        assert [name for name, param in dag.params.items() if not dag.params.get_param(name).description] == []
        assert dag.description
        assert dag.tags


def test_every_task_but_the_teardown_retries_what_may_pass(dags: dict[str, Any]) -> None:
    tasks = [task for dag in dags.values() for task in dag.tasks if not task.is_teardown]

    assert {type(task.retry_policy).__name__ for task in tasks} == {"RetryWhatMayPass"}
    assert {task.retries for task in tasks} == {3}


def test_the_form_offers_every_detector(dag: Any) -> None:
    assert dag.params.get_param("detectors").schema["examples"] == list(detectors.NAMES)


def test_the_backfill_command_of_the_manual_is_one_that_airflow_takes(dag: Any) -> None:
    from airflow.cli.cli_parser import get_parser

    (command,) = (line.strip() for line in dag.doc_md.splitlines() if line.startswith("    airflow backfill"))

    asked = get_parser().parse_args(shlex.split(command)[1:])

    assert asked.dag_id == dag.dag_id
    assert (asked.from_date.year, asked.to_date.year, asked.max_active_runs) == (2009, 2018, 2)
