"""A DAG run with connections and a variable from Secrets Manager (moto) only, configured as host.sh does on AWS.

Takes a minute: `.venv/bin/python -m pytest -m slow tests/integration/pipeline/test_secrets_manager.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest

from tests.builders import csv_of, year_of_flights
from tests.conftest import at, sql
from tests.servers.listening import Server, listening_postgres
from utils.db_handler import DBHandler

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
REGION = "us-east-1"
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
LOGIN, OLD, NEW = "secrets_manager_login", "the-first-password-of-all", "another-password-entirely"
BUCKET = "secrets-manager-lake"
WAREHOUSE, AWS, GREETING = (
    "airflow/connections/warehouse",
    "airflow/connections/aws_default",
    "airflow/variables/greeting",
)

DAG_WITH_VARIABLE = """
from airflow.sdk import DAG, Variable, task

with DAG("variable"):
    @task
    def read():
        return Variable.get("greeting")
    read()
"""
# Prints one JSON line: the states of both runs, and the variable as the task read it.
PROGRAM = """
import json, os, sys
from pathlib import Path
from demo import airflow_home
answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # Airflow logs to stdout
folder, lake, backend_kwargs = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
airflow_home.enter(folder / "airflow", lake=lake, warehouse="")
del os.environ["AIRFLOW_CONN_WAREHOUSE"]
os.environ |= {
    "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
    "AIRFLOW__SECRETS__BACKEND": "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend",
    "AIRFLOW__SECRETS__BACKEND_KWARGS": backend_kwargs,
}
airflow_home.prepare(folder / "airflow")
from airflow.dag_processing.dagbag import DagBag

dags = DagBag(folder / "dags").dags
year = dags["flight_anomalies"].test(run_conf={"year": 2015, "detectors": ["three_sigma"]})
variable = dags["variable"].test()
(task,) = variable.get_task_instances()
print(json.dumps([str(year.state), str(variable.state), task.xcom_pull(task_ids="read")]), file=answer)
"""


class Home(NamedTuple):
    """An Airflow that has only the keys of Secrets Manager. run: returns PROGRAM's answer and the log."""

    run: Callable[[], tuple[Any, str]]
    manager: Any


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that asks for passwords, as RDS does."""
    with listening_postgres() as server:
        sql(server.superuser, f"CREATE ROLE {LOGIN} LOGIN CREATEROLE PASSWORD '{OLD}'")
        sql(server.superuser, f"CREATE DATABASE warehouse OWNER {LOGIN}")
        DBHandler(server.url(LOGIN, OLD, "warehouse")).create()
        yield server


@pytest.fixture
def home(tmp_path: Path, s3_endpoint: str, server: Server) -> Iterator[Home]:
    """A bucket with one year, and its secrets."""
    s3, manager = (
        boto3.client(name, endpoint_url=s3_endpoint, region_name=REGION, **KEYS) for name in ("s3", "secretsmanager")
    )
    s3.create_bucket(Bucket=BUCKET)
    rows = csv_of(year_of_flights(2015, {"BOS": 20, "ORH": 6}))
    s3.put_object(Bucket=BUCKET, Key="lake/01_bronze/2015.csv", Body=rows)
    warehouse = {"username": LOGIN, "password": OLD, "engine": "postgres", "host": "127.0.0.1", "port": server.port}
    aws = {
        "conn_type": "aws",
        "login": KEYS["aws_access_key_id"],
        "password": KEYS["aws_secret_access_key"],
        "extra": json.dumps({"region_name": REGION, "endpoint_url": s3_endpoint}),
    }
    manager.create_secret(Name=WAREHOUSE, SecretString=json.dumps(warehouse | {"dbname": "warehouse"}))
    manager.create_secret(Name=AWS, SecretString=json.dumps(aws))
    manager.create_secret(Name=GREETING, SecretString="from Secrets Manager")
    backend_kwargs = {
        "connections_prefix": "airflow/connections",
        "connections_lookup_pattern": "^(warehouse|aws_default)$",
        "variables_prefix": "airflow/variables",
        "config_prefix": None,
        "extra_conn_words": {"schema": ["dbname"]},
        "region_name": REGION,
        "endpoint_url": s3_endpoint,
        **KEYS,
    }
    shutil.copytree(ROOT / "dags", tmp_path / "dags")
    (tmp_path / "dags/variable.py").write_text(DAG_WITH_VARIABLE)

    def run() -> tuple[Any, str]:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path), f"s3://{BUCKET}/lake", json.dumps(backend_kwargs)],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": f"{ROOT}:{tmp_path / 'dags'}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout), done.stderr

    yield Home(run, manager)
    for name in (WAREHOUSE, AWS, GREETING):
        manager.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)


def test_a_year_runs_with_secrets_of_secrets_manager_before_and_after_a_new_password(
    home: Home, server: Server
) -> None:
    warehouse = at(server.superuser, database="warehouse")
    first, log = home.run()
    rows = sql(warehouse, "SELECT count(*) FROM flights.airport_days")
    sql(server.superuser, f"ALTER ROLE {LOGIN} PASSWORD '{NEW}'")
    content = json.loads(home.manager.get_secret_value(SecretId=WAREHOUSE)["SecretString"])
    home.manager.put_secret_value(SecretId=WAREHOUSE, SecretString=json.dumps(content | {"password": NEW}))
    second, second_log = home.run()

    assert first == second == ["success", "success", "from Secrets Manager"]
    assert rows == [(2 * 365,)]
    assert sql(warehouse, "SELECT count(*) FROM flights.runs") == [(2,)]
    assert OLD not in log
    assert NEW not in second_log


def test_a_run_without_the_secret_fails_and_names_the_connection(home: Home) -> None:
    home.manager.delete_secret(SecretId=WAREHOUSE, ForceDeleteWithoutRecovery=True)

    (year, *_), log = home.run()

    assert year == "failed"
    assert "warehouse" in log
