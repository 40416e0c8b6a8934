"""The DAG that removes what is old: nothing until it is asked to, and never under a step that is under way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from demo.airflow_home import DAGS

pytestmark = pytest.mark.filterwarnings("ignore")  # Airflow's own
FILE = DAGS / "retention.py"


@pytest.fixture(scope="session")
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


def test_the_file_is_wiring_of_no_more_than_80_lines() -> None:
    assert len(FILE.read_text().splitlines()) <= 80


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


def test_it_waits_for_steps_that_are_under_way_and_not_for_a_run_that_waits_for_its_file(
    retention: Any, airflow: None
) -> None:
    import retention as wiring

    assert {"running", "queued", "scheduled", "up_for_retry"} <= set(wiring.UNDER_WAY)
    assert "up_for_reschedule" not in wiring.UNDER_WAY
    assert set(retention.get_task("wait_for_quiet").downstream_task_ids) == {"remove"}
