"""How the last run ended, read from Airflow's own table as Airflow's model of it says it is."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.conftest import at, sql
from utils.errors import DelaywatchError
from utils.monitoring import health
from utils.monitoring.health import Finding
from utils.settings import Settings, WatchSettings
from utils.warehouse.airflow import last_ended, under_way

NOW = datetime(2016, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def runs_of_airflow(airflow: None, empty_database: str) -> str:
    """The URL, as Airflow writes it, of a database with its tables of runs and of their tasks."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import MetaData, create_engine

    url = empty_database.replace("postgresql://", "postgresql+psycopg2://")
    engine = create_engine(url)
    for model in (DagRun, TaskInstance):
        alone = model.__table__.to_metadata(MetaData())
        for constraint in list(alone.foreign_key_constraints):  # the tables of others are not needed
            alone.constraints.remove(constraint)
        alone.create(engine)
    engine.dispose()
    return url


def ended(url: str, run_id: str, state: str, end: str | None, dag: str = "flight_anomalies") -> None:
    when = f"'{end}'" if end else "NULL"
    sql(
        url.replace("+psycopg2", ""),
        "INSERT INTO dag_run (dag_id, run_id, state, end_date, run_type, run_after, log_template_id, clear_number)"
        f" VALUES ('{dag}', '{run_id}', '{state}', {when}, 'manual', now(), 1, 0)",
    )


def looked_at(airflow_database: str, warehouse: str, tmp_path: Path) -> list[Finding]:
    settings = Settings(lake=tmp_path.as_uri(), warehouse=warehouse, scratch=tmp_path)
    found = health.check(settings, WatchSettings(airflow_database=airflow_database), NOW)
    return [one for one in found if one.what == "run"]


def test_the_run_that_ended_last_is_told_with_how_it_ended(
    runs_of_airflow: str, warehouse: str, tmp_path: Path
) -> None:
    ended(runs_of_airflow, "manual__good", "success", "2016-02-01 10:00+00")
    ended(runs_of_airflow, "manual__bad", "failed", "2016-02-02 10:30+00")
    ended(runs_of_airflow, "manual__waits", "running", None)
    ended(runs_of_airflow, "manual__other", "success", "2016-02-03 10:00+00", dag="retention")

    found = looked_at(runs_of_airflow, warehouse, tmp_path)

    assert "manual__bad failed on 2016-02-02 10:30 UTC" in found[0].sentence
    assert [one.is_well for one in found] == [False, True]


def test_a_run_that_went_well_after_one_that_did_not_is_well(
    runs_of_airflow: str, warehouse: str, tmp_path: Path
) -> None:
    ended(runs_of_airflow, "manual__bad", "failed", "2016-02-02 10:30+00")
    ended(runs_of_airflow, "manual__good", "success", "2016-02-02 10:31+00")

    found = looked_at(runs_of_airflow, warehouse, tmp_path)

    assert found[0] == Finding("run", True, "The run manual__good succeeded on 2016-02-02 10:31 UTC.")


def test_airflow_without_an_ended_run_is_well(runs_of_airflow: str, warehouse: str, tmp_path: Path) -> None:
    found = looked_at(runs_of_airflow, warehouse, tmp_path)

    assert found[0] == Finding("run", True, "No run has ended in Airflow yet.")


def test_a_run_is_under_way_from_its_silver_step_on_and_not_while_it_waits_for_its_file(runs_of_airflow: str) -> None:
    ended(runs_of_airflow, "manual__done", "success", "2016-02-01 10:00+00")
    ended(runs_of_airflow, "manual__year", "running", None)
    columns = "id, dag_id, run_id, task_id, state, map_index, pool, pool_slots, try_number, max_tries"
    values = "gen_random_uuid(), 'flight_anomalies', '{}', 'silver', {}, -1, 'default_pool', 1, 1, 3"
    task = f"INSERT INTO task_instance ({columns}) VALUES ({values})"
    url = runs_of_airflow.replace("+psycopg2", "")
    sql(url, task.format("manual__done", "'success'"), task.format("manual__year", "NULL"))
    assert under_way(runs_of_airflow) is None

    sql(url, "UPDATE task_instance SET state = 'success'")

    assert under_way(runs_of_airflow) == "manual__year"


def test_a_database_that_is_not_airflows_is_named(empty_database: str) -> None:
    with pytest.raises(DelaywatchError, match="lacks a table"):
        last_ended(empty_database)


def test_a_database_that_does_not_answer_is_named_without_its_password(warehouse: str) -> None:
    with pytest.raises(DelaywatchError, match="No Postgres answers") as caught:
        last_ended(at(warehouse, host="127.0.0.1", port=1, username="airflow", password="hunter2"))

    assert "hunter2" not in str(caught.value)
