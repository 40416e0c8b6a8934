"""The DAG files before a run: parsing, order, schedule, trigger form, year of a run, retries."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.airflow_home import DAGS
from tests.dag.conftest import call, context_of
from utils.errors import Busy, InvalidInput, Missing, Unavailable
from utils.storage.keys import FIRST_YEAR, LAST_YEAR

PARSE = """
import sys, warnings
import airflow.exceptions, airflow.sdk.exceptions
for module in (airflow.exceptions, airflow.sdk.exceptions):
    warnings.simplefilter("error", module.RemovedInAirflow4Warning)
warnings.simplefilter("error", FutureWarning)
import fetch_bronze, flight_anomalies, retention
heavy = {"pandas", "numpy", "pyarrow", "pyspark", "sklearn", "scipy", "matplotlib", "boto3", "psycopg2"}
sys.exit(str((heavy | {"airflow.providers.amazon.aws.operators.glue"}) & set(sys.modules)))
"""


def test_parsing_needs_no_settings_no_heavy_libraries_and_nothing_deprecated(tmp_path: Path) -> None:
    """Airflow parses the files every few seconds, and each warning would be in the log of every task."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(DAGS), "AIRFLOW_HOME": str(tmp_path)}

    outcome = subprocess.run(
        [sys.executable, "-c", PARSE], env=environment, capture_output=True, text=True, check=False
    )

    assert outcome.stderr.strip().splitlines()[-1] == "set()"


def test_waiting_occupies_no_worker_and_only_fetch_bronze_is_off_until_a_person_switches_it_on(dags: Any) -> None:
    waiting = {
        "flight_anomalies": ("wait_for_bronze", timedelta(days=180)),
        "fetch_bronze": ("wait_for_publication", timedelta(days=180)),
        "retention": ("wait_for_quiet", timedelta(days=1)),
    }
    for name, (task_id, timeout) in waiting.items():
        sensor = dags[name].get_task(task_id)
        assert (sensor.mode, sensor.timeout) == ("reschedule", timeout.total_seconds())
    assert [name for name, dag in dags.items() if dag.is_paused_upon_creation] == ["fetch_bronze"]


def test_the_steps_run_in_order(dag: Any) -> None:
    assert {task.task_id: set(task.downstream_task_ids) for task in dag.tasks} == {
        "wait_for_bronze": {"silver", "detect"},  # it returns the names of the detectors
        "silver": {"gold"},
        "gold": {"detect"},
        "detect": {"explain"},
        "explain": {"upsert"},
        "upsert": {"plots"},
        "plots": {"publish"},
        "publish": {"clear_scratch"},
        "clear_scratch": set(),
    }
    assert dag.get_task("clear_scratch").is_teardown  # runs after a failure too


@pytest.mark.parametrize("name", ["flight_anomalies", "fetch_bronze"])
def test_a_scheduled_run_starts_when_its_year_is_over(dags: Any, name: str) -> None:
    from airflow.serialization.encoders import coerce_to_core_timetable

    new_year = datetime(2027, 1, 1, tzinfo=UTC)

    interval = coerce_to_core_timetable(dags[name].timetable).infer_manual_data_interval(run_after=new_year)

    assert (interval.start, interval.end) == (datetime(2026, 1, 1, tzinfo=UTC), new_year)
    assert not dags[name].catchup


def test_with_monthly_runs_one_run_is_active_and_may_start_one_of_the_next_year(
    read_dags: Callable[[], Any], dag: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELAYWATCH_MONTHLY", "1")

    monthly = read_dags()["flight_anomalies"]

    assert (dag.max_active_runs, monthly.max_active_runs) == (4, 1)
    assert {*monthly.task_ids} - {*dag.task_ids} == {"run_next_year"}
    assert monthly.get_task("run_next_year").upstream_task_ids == {"publish"}


def test_a_run_that_waits_for_its_file_ends_after_the_switch_to_monthly_runs(
    read_dags: Callable[[], Any], lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELAYWATCH_MONTHLY", "1")
    task = read_dags()["flight_anomalies"].get_task("wait_for_bronze")

    with pytest.raises(Missing, match="1999"):
        call(task, context_of("scheduled", interval_start=datetime(1999, 1, 1, tzinfo=UTC)))


# --- the trigger form and the year of a run ---------------------------------------------------------------------------


@given(st.integers(0, 9999) | st.sampled_from([FIRST_YEAR - 1, FIRST_YEAR, LAST_YEAR, LAST_YEAR + 1]))
@settings(max_examples=30)
def test_the_form_accepts_the_years_of_the_dataset_as_text_and_as_a_number(airflow: Path, year: int) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    from orchestration import run_year

    accepted = []
    for value in (year, str(year)):
        with suppress(ParamValidationError):
            accepted.append(run_year.field("").resolve(value))

    assert accepted == ([year, str(year)] if FIRST_YEAR <= year <= LAST_YEAR else [])


def test_only_scheduled_runs_and_backfills_take_the_year_of_their_data_interval(airflow: Path) -> None:
    from airflow.utils.types import DagRunType

    from orchestration import run_year

    start = datetime(2018, 1, 1, tzinfo=UTC)
    taken = {kind.value: run_year.find(context_of(kind.value, interval_start=start)) for kind in DagRunType}
    set_by_hand = [run_year.find(context_of(kind, year, start)) for kind in taken for year in (2013, "2013")]

    assert {kind for kind, year in taken.items() if year} == {"scheduled", "backfill"}
    assert {year for year in taken.values() if year} == {2018}
    assert set(set_by_hand) == {2013}


@pytest.mark.parametrize(
    ("dag_id", "task_id"), [("flight_anomalies", "wait_for_bronze"), ("fetch_bronze", "wait_for_publication")]
)
def test_a_manual_run_without_a_year_is_an_error_that_lists_the_years_in_bronze(
    dags: Any, lake: Path, dag_id: str, task_id: str
) -> None:
    for name in ("2011.csv.gz", "2015.csv"):
        (lake / "01_bronze" / name).touch()

    with pytest.raises(InvalidInput, match=r"2011, 2015\."):
        call(dags[dag_id].get_task(task_id), context_of("manual", interval_start=datetime(2018, 1, 1, tzinfo=UTC)))


def test_without_its_file_a_scheduled_run_waits_and_a_backfill_fails(dag: Any, lake: Path) -> None:
    start = datetime(1999, 1, 1, tzinfo=UTC)
    task = dag.get_task("wait_for_bronze")

    assert not call(task, context_of("scheduled", interval_start=start)).is_done
    with pytest.raises(Missing, match="1999"):
        call(task, context_of("backfill", interval_start=start))


# --- retries ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "is_final"),
    [
        (InvalidInput("x"), True),
        (Missing("x"), True),
        (Unavailable("x"), False),
        (Busy("x"), False),
        (MemoryError(), False),
    ],
)
def test_only_errors_that_a_person_must_correct_fail_at_once(dags: Any, error: Exception, is_final: bool) -> None:
    from airflow.sdk import RetryAction

    tasks = [task for dag in dags.values() for task in dag.tasks if not task.is_teardown]

    actions = {task.retry_policy.evaluate(error).action for task in tasks}

    assert actions == {RetryAction.FAIL if is_final else RetryAction.DEFAULT}


def test_every_task_retries_and_every_step_has_a_time_limit(dags: Any) -> None:
    tasks = [task for dag in dags.values() for task in dag.tasks if not task.is_teardown]
    steps = [task for task in dags["flight_anomalies"].tasks if not task.is_teardown]

    assert {task.retries for task in tasks} == {3}
    assert {(task.retry_exponential_backoff, task.execution_timeout) for task in steps} == {(2, timedelta(hours=6))}
