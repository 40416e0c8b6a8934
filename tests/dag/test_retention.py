"""The DAG that removes what is old: nothing until it is asked to, and never under a step that is under way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.filterwarnings("ignore")  # Airflow's own


@pytest.fixture
def retention(dags: Any) -> Any:
    return dags["retention"]


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of logs with one of 1970."""
    import os

    old = tmp_path / "logs" / "old.log"
    old.parent.mkdir()
    old.write_text("log")
    os.utime(old, (0, 0))
    monkeypatch.setenv("DELAYWATCH_LOG_FOLDER", str(old.parent))
    return old.parent


@pytest.fixture(scope="module")
def run_of_a_year(read_dags: Callable[[], Any]) -> Any:
    """A run of a year whose steps nobody carried out, all marked as done."""
    return read_dags()["flight_anomalies"].test(mark_success_pattern=".*")


def test_without_a_setting_a_run_removes_nothing(retention: Any, logs: Path) -> None:
    run = retention.test()

    assert run.state == "success"
    assert [path.name for path in logs.iterdir()] == ["old.log"]


def test_a_run_removes_what_the_settings_do_not_keep(
    retention: Any, logs: Path, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELAYWATCH_KEEP_LOGS_DAYS", "30")

    run = retention.test()

    assert run.state == "success"
    assert list(logs.iterdir()) == []
    assert (lake / "01_bronze/2015.csv").is_file()


@pytest.mark.parametrize(
    ("state_of_the_other", "then"),
    [
        ("running", "up_for_reschedule"),
        ("queued", "up_for_reschedule"),
        ("up_for_retry", "up_for_reschedule"),
        ("up_for_reschedule", "success"),
    ],
)
def test_it_waits_for_a_step_that_is_under_way_and_not_for_a_run_that_waits_for_its_file(
    retention: Any,
    run_of_a_year: Any,
    logs: Path,
    monkeypatch: pytest.MonkeyPatch,
    state_of_the_other: str,
    then: str,
) -> None:
    from airflow.sdk.definitions.dag import _run_task

    monkeypatch.setenv("DELAYWATCH_KEEP_LOGS_DAYS", "30")
    step = run_of_a_year.get_task_instance("wait_for_bronze")
    waiting = retention.test(mark_success_pattern=".*").get_task_instance("wait_for_quiet")

    step.set_state(state_of_the_other)
    try:
        _run_task(ti=waiting, task=retention.get_task("wait_for_quiet"))
    finally:
        step.set_state("success")

    assert waiting.state == then
