"""Whole runs of the DAG inside this process, with `dag.test()`, on a folder as lake and a real Postgres."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from demo.airflow_home import DAGS
from tests.conftest import sql
from tests.dag.conftest import STORM
from utils.errors import DelaywatchError
from utils.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore")  # Airflow's own


def states(run: Any) -> dict[str, tuple[str, int]]:
    """State and number of tries of every task instance, a mapped one under the name that the interface shows."""
    return {
        f"{instance.task_id} {instance.rendered_map_index or ''}".strip(): (str(instance.state), instance.try_number)
        for instance in run.get_task_instances()
    }


def test_a_run_brings_its_year_from_the_csv_into_postgres(
    dag: Any, lake: Path, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", empty_database)

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        run = dag.test(run_conf={"year": "2015", "detectors": ["three_sigma"]})

    detecting = ("detect three_sigma", "detect delaywatch")
    assert states(run) == dict.fromkeys(
        ("wait_for_bronze", "silver", "gold", *detecting, "explain", "upsert", "plots", "publish", "clear_scratch"),
        ("success", 1),
    )
    (days,) = sql(
        empty_database, "SELECT count(*), sum(scheduled) FROM flights.airport_days WHERE fl_date >= '2015-01-01'"
    )
    assert days == (2 * 365, 26 * 365)
    assert sql(
        empty_database, f"SELECT verdict FROM flights.agg_dep_delay_by_date WHERE id = 'BOS{STORM.replace('-', '')}'"
    ) == [("closure",)]
    assert sql(empty_database, "SELECT year, run_id FROM flights.runs") == [(2015, run.run_id)]
    assert (lake / "04_plots/year=2015/index.html").is_file()
    assert [str(warning) for warning in warned if warning.filename.startswith(str(DAGS))] == []


@pytest.mark.slow
def test_a_run_tells_its_assets_which_year_is_new(
    dag: Any, lake: Path, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session

    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", empty_database)

    run = dag.test(run_conf={"year": 2015, "detectors": ["delaywatch"]})

    with create_session() as session:
        events = session.query(AssetEvent).filter(AssetEvent.source_run_id == run.run_id).all()
        assert {event.asset.name: event.extra for event in events} == {
            "delaywatch_gold_airport_days": {"year": 2015},
            "delaywatch_warehouse_flights": {"year": 2015},
        }


def test_a_year_without_a_file_fails_at_once_and_names_the_years_that_are_there(
    dag: Any, lake: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = dag.test(run_conf={"year": 1999})

    assert states(run) == {
        **dict.fromkeys(("silver", "gold", "detect", "explain", "upsert", "plots", "publish"), ("upstream_failed", 0)),
        "wait_for_bronze": ("failed", 1),
        "clear_scratch": ("success", 1),
    }
    assert run.state == "failed"
    assert "01_bronze/1999.csv (or .csv.gz) is not in" in (said := capfd.readouterr().out)
    assert "choose another year: 2015" in said


def settings_of_a_run(year: int = 2018) -> tuple[Settings, int]:
    """Return what the DAG file gives to the pipeline in a manual run."""
    from airflow.sdk.execution_time.context import set_current_context

    import flight_anomalies

    with set_current_context({"params": {"year": year}, "dag_run": SimpleNamespace(run_type="manual")}):
        return flight_anomalies._run()


def test_the_connections_of_airflow_come_before_the_environment(airflow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELAYWATCH_LAKE", "s3://flights")
    monkeypatch.setenv("DELAYWATCH_WAREHOUSE", "postgresql://wrong")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrong")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", '{"conn_type": "postgres", "host": "db", "port": 5433, "schema": "w",'
                       ' "login": "loader", "password": "p@ss/word", "extra": {"sslmode": "require"}}')  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", '{"conn_type": "aws", "login": "key", "password": "secret",'
                       ' "extra": {"region_name": "eu-west-1", "endpoint_url": "http://s3:8333"}}')  # fmt: skip

    settings, year = settings_of_a_run()

    assert settings.warehouse == "postgresql://loader:p%40ss%2Fword@db:5433/w?sslmode=require"
    assert (settings.aws_access_key_id, settings.aws_secret_access_key) == ("key", "secret")
    assert (settings.aws_region, settings.aws_endpoint_url) == ("eu-west-1", "http://s3:8333")
    assert year == 2018


@pytest.mark.parametrize(
    ("extra", "options"),
    [("{}", ""), ('{"sslmode": "require", "keepalives": 30}', "?sslmode=require&keepalives=30")],
    ids=["none", "a number, which Airflow's own address would hide in __extra__"],
)
def test_options_of_the_warehouse_connection_reach_postgres(
    airflow: None, monkeypatch: pytest.MonkeyPatch, extra: str, options: str
) -> None:
    monkeypatch.setenv("DELAYWATCH_LAKE", "s3://flights")
    connection = f'{{"conn_type": "postgres", "host": "db", "schema": "w", "login": "loader", "extra": {extra}}}'
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", connection)

    settings, _ = settings_of_a_run()

    assert settings.warehouse == f"postgresql://loader@db/w{options}"


def test_the_environment_serves_where_airflow_has_no_connections(
    airflow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_WAREHOUSE")
    monkeypatch.setenv("DELAYWATCH_LAKE", "s3://flights")
    monkeypatch.setenv("DELAYWATCH_WAREHOUSE", "postgresql://loader@db/w")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")

    settings, year = settings_of_a_run(2011)

    assert (settings.warehouse, settings.aws_region, year) == ("postgresql://loader@db/w", "eu-west-1", 2011)


def test_a_task_without_any_warehouse_says_which_variable_to_set(
    airflow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_WAREHOUSE")
    monkeypatch.setenv("DELAYWATCH_LAKE", "s3://flights")

    with pytest.raises(DelaywatchError, match="DELAYWATCH_WAREHOUSE is not set"):
        settings_of_a_run()
