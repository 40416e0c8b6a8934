"""The DAG that scores years again: nothing to do, a label that changes the fitting, and a step that is running."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import sql
from tests.dag.test_run import states
from tests.steps import YEAR
from utils.db_handler import DBHandler

STORM = date(YEAR, 1, 27)  # Boston cancels three of four flights


@pytest.fixture
def finished(
    read_dags: Callable[[], Any],
    lake: Path,
    bronze_csv: bytes,
    empty_database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """The URL of the warehouse after a run of the year."""
    (lake / f"01_bronze/{YEAR}.csv").write_bytes(bronze_csv)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", empty_database)
    run = read_dags()["flight_anomalies"].test(run_conf={"year": YEAR, "detectors": ["three_sigma"]})
    assert run.state == "success"
    return empty_database


def test_a_label_that_changes_the_fitting_takes_effect_in_the_next_run_and_the_one_after_does_nothing(
    read_dags: Callable[[], Any], finished: str
) -> None:
    hashes = "SELECT detector, array_agg(DISTINCT params_hash) FROM flights.anomalies GROUP BY 1 ORDER BY 1"
    before = sql(finished, hashes)
    idle = read_dags()["refresh_scores"].test()
    DBHandler(finished).give_feedback("BOS", STORM, "expected", "storm", "ann")

    run = read_dags()["refresh_scores"].test()
    after = sql(finished, hashes)
    last = read_dags()["refresh_scores"].test()

    assert states(idle)["score"][0] == "skipped"
    done = ("success", 1)
    assert states(run) == {"find_stale_years": done, f"score {YEAR}": done, "update_site": done}
    assert [name for name, _ in after] == [name for name, _ in before], "no other detector was added"
    assert not {tuple(old) for _, old in before} & {tuple(new) for _, new in after}
    assert sql(finished, "SELECT run_id FROM flights.runs ORDER BY ended DESC LIMIT 1") == [(run.run_id,)]
    assert states(last)["score"][0] == "skipped"


def test_a_label_that_does_not_change_the_fitting_is_only_written_to_the_static_site(
    read_dags: Callable[[], Any], finished: str, lake: Path
) -> None:
    DBHandler(finished).give_feedback("BOS", STORM, "right", "", "ann")
    page = lake / f"04_plots/airports/BOS/{YEAR}.html"
    assert "ann" not in page.read_text()

    run = read_dags()["refresh_scores"].test()

    assert states(run)["score"][0] == "skipped"
    assert "Labelled right by ann" in page.read_text()


def test_nothing_is_scored_while_a_step_of_a_year_is_running(read_dags: Callable[[], Any], finished: str) -> None:
    DBHandler(finished).give_feedback("BOS", STORM, "expected", "", "ann")
    step = read_dags()["flight_anomalies"].test(mark_success_pattern=".*").get_task_instance("silver")
    step.set_state("running")

    blocked = read_dags()["refresh_scores"].test()
    step.set_state("success")
    free = read_dags()["refresh_scores"].test()

    assert states(blocked)["score"][0] == "skipped"
    assert states(free)[f"score {YEAR}"] == ("success", 1)
