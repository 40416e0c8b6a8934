"""The DAG that deletes old data: without a setting only unused parts, and never while a step of a year is running."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def old_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log of 1970."""
    path = tmp_path / "logs" / "old.log"
    path.parent.mkdir()
    path.write_text("log")
    os.utime(path, (0, 0))
    monkeypatch.setenv("DELAYWATCH_LOG_FOLDER", str(path.parent))
    return path


@pytest.mark.parametrize(("days", "is_kept"), [("", True), ("30", False)])
def test_a_run_deletes_old_logs_only_if_a_setting_limits_their_age(
    read_dags: Callable[[], Any],
    old_log: Path,
    lake: Path,
    monkeypatch: pytest.MonkeyPatch,
    days: str,
    is_kept: bool,
) -> None:
    (lake / "01_bronze/2015.csv").touch()
    unused = lake / "02_silver/flights/year=2015/part-00000-old.parquet"
    unused.parent.mkdir(parents=True)
    unused.touch()
    os.utime(unused, (0, 0))
    monkeypatch.setenv("DELAYWATCH_KEEP_LOGS_DAYS", days)

    run = read_dags()["retention"].test(mark_success_pattern="clean_metadata")  # the next test runs that command

    assert run.state == "success"
    assert old_log.exists() == is_kept
    assert not unused.exists()
    assert (lake / "01_bronze/2015.csv").is_file()


def test_a_run_deletes_old_runs_of_airflow_and_keeps_newer_ones(
    read_dags: Callable[[], Any], lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    dags, names = read_dags(), ("refresh_scores", "flight_anomalies")
    runs = {name: dags[name].test(mark_success_pattern=".*").run_id for name in names}
    with create_session() as session:
        for run in session.query(DagRun).filter(DagRun.run_id == runs["refresh_scores"]):
            run.start_date = datetime.now(UTC) - timedelta(days=400)

    assert read_dags()["retention"].test().state == "success"

    with create_session() as session:
        kept = {run.dag_id for run in session.query(DagRun).filter(DagRun.run_id.in_(runs.values()))}
    assert kept == {"flight_anomalies"}


def test_a_worker_without_airflows_database_skips_the_deletion_of_runs(
    read_dags: Callable[[], Any], lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    read_dags()
    from orchestration import metadata

    monkeypatch.setenv(metadata.BLOCKED[0], metadata.BLOCKED_VALUE)

    with pytest.raises(AirflowSkipException, match="airflow db clean"):
        metadata.clean(datetime.now(UTC))


@pytest.mark.parametrize(
    ("dag", "task"), [("flight_anomalies", "wait_for_bronze"), ("refresh_scores", "find_stale_years")]
)
def test_retention_waits_for_a_running_step_but_not_for_a_run_that_waits_for_its_file(
    read_dags: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, dag: str, task: str
) -> None:
    from airflow.sdk.definitions.dag import _run_task

    monkeypatch.setenv("DELAYWATCH_KEEP_LOGS_DAYS", "30")
    dags = read_dags()
    step = dags[dag].test(mark_success_pattern=".*").get_task_instance(task)
    waiting = dags["retention"].test(mark_success_pattern=".*").get_task_instance("wait_for_quiet")

    outcomes = {}
    for state in ("running", "up_for_retry", "up_for_reschedule"):
        step.set_state(state)
        _run_task(ti=waiting, task=dags["retention"].get_task("wait_for_quiet"))
        outcomes[state] = waiting.state.value
    step.set_state("success")

    assert outcomes == {
        "running": "up_for_reschedule",
        "up_for_retry": "up_for_reschedule",
        "up_for_reschedule": "success",
    }
