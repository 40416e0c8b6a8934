"""The health check and retention read the last run from the tables that Airflow's own models define."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.conftest import sql
from utils.monitoring import health
from utils.settings import Settings, WatchSettings
from utils.warehouse.airflow import under_way

NOW = datetime(2016, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def airflow_database(airflow: Path, empty_database: str) -> str:
    """The URL of a database with Airflow's tables of runs and task instances."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import MetaData, create_engine

    engine = create_engine(empty_database)
    for model in (DagRun, TaskInstance):
        table = model.__table__.to_metadata(MetaData())
        for constraint in list(table.foreign_key_constraints):  # they refer to tables that the test does not need
            table.constraints.remove(constraint)
        table.create(engine)
    engine.dispose()
    return empty_database


def add_run(url: str, run_id: str, state: str, end: str | None = None, dag: str = "flight_anomalies") -> None:
    end_date = f"'{end}'" if end else "NULL"
    columns = "dag_id, run_id, state, end_date, run_type, run_after, log_template_id, clear_number"
    values = f"'{dag}', '{run_id}', '{state}', {end_date}, 'manual', now(), 1, 0"
    sql(url, f"INSERT INTO dag_run ({columns}) VALUES ({values})")


def add_silver_step(url: str, run_id: str, state: str) -> None:
    columns = "id, dag_id, run_id, task_id, state, map_index, pool, pool_slots, try_number, max_tries"
    values = f"gen_random_uuid(), 'flight_anomalies', '{run_id}', 'silver', {state}, -1, 'default_pool', 1, 1, 3"
    sql(url, f"INSERT INTO task_instance ({columns}) VALUES ({values})")


def health_of_run(airflow_database: str, warehouse: str, tmp_path: Path) -> tuple[bool, str]:
    settings = Settings(lake=tmp_path.as_uri(), warehouse=warehouse, scratch=tmp_path)
    # Airflow writes the URL with its driver.
    watch = WatchSettings(airflow_database=airflow_database.replace("postgresql://", "postgresql+psycopg2://"))
    finding = next(finding for finding in health.check(settings, watch, NOW) if finding.what == "run")
    return finding.is_well, finding.sentence


def test_health_reports_the_run_of_flight_anomalies_that_ended_last(
    airflow_database: str, warehouse: str, tmp_path: Path
) -> None:
    add_run(airflow_database, "good", "success", "2016-02-01 10:00+00")
    add_run(airflow_database, "bad", "failed", "2016-02-02 10:30+00")
    add_run(airflow_database, "waiting", "running")
    add_run(airflow_database, "other", "success", "2016-02-03 10:00+00", dag="retention")
    is_well, sentence = health_of_run(airflow_database, warehouse, tmp_path)
    assert not is_well
    assert "bad" in sentence
    assert "2016-02-02 10:30" in sentence

    add_run(airflow_database, "better", "success", "2016-02-02 10:31+00")
    is_well, sentence = health_of_run(airflow_database, warehouse, tmp_path)
    assert is_well
    assert "better" in sentence


def test_a_run_is_under_way_from_its_silver_step_on(airflow_database: str) -> None:
    add_run(airflow_database, "ended", "success", "2016-02-01 10:00+00")
    add_run(airflow_database, "running", "running")
    add_silver_step(airflow_database, "ended", "'success'")
    add_silver_step(airflow_database, "running", "NULL")
    assert under_way(airflow_database) is None  # it still waits for its file

    sql(airflow_database, "UPDATE task_instance SET state = 'success'")

    assert under_way(airflow_database) == "running"
