"""A real run of the DAG whose connections, and a task whose variable, come from Secrets Manager (moto) alone.

The backend is set as infra-notes/cloudformation/host.sh sets it. Takes a minute:
`PYTHONPATH=dags .venv/bin/python -m pytest tests/integration/pipeline/test_secrets_manager.py`.
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

ROOT = Path(__file__).parents[3]
REGION = "us-east-1"
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
LOGIN, OLD, NEW = "secrets_manager_login", "the-first-password-of-all", "another-password-entirely"
BUCKET = "secrets-manager-lake"
BACKEND = "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend"

VARIABLE = """
from airflow.sdk import DAG, Variable, task

with DAG("variable"):
    @task
    def read():
        return Variable.get("greeting")
    read()
"""
# Reads its orders from argv and prints one JSON line: the state of both runs, and what a task found in the variable.
PROGRAM = """
import json, os, sys
from pathlib import Path
from demo import airflow_home
answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # Airflow logs to stdout
folder, lake = Path(sys.argv[1]), sys.argv[2]
airflow_home.enter(folder / "airflow", lake=lake, warehouse="")
del os.environ["AIRFLOW_CONN_WAREHOUSE"]
os.environ |= {
    "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
    "AIRFLOW__SECRETS__BACKEND": sys.argv[3],
    "AIRFLOW__SECRETS__BACKEND_KWARGS": sys.argv[4],
}
airflow_home.prepare(folder / "airflow")
from airflow.dag_processing.dagbag import DagBag

dags = DagBag(folder / "dags").dags
year = dags["flight_anomalies"].test(run_conf={"year": 2015, "detectors": ["three_sigma"]})
found = dags["variable"].test()
(instance,) = found.get_task_instances()
print(json.dumps([str(year.state), str(found.state), instance.xcom_pull(task_ids="read")]), file=answer)
"""


class Home(NamedTuple):
    """An Airflow that has nothing but keys to Secrets Manager."""

    run: Callable[[], tuple[Any, str]]
    manager: Any
    secret: str


@pytest.fixture
def server() -> Iterator[Server]:
    """What RDS is on AWS."""
    with listening_postgres() as server:
        sql(server.superuser, f"CREATE ROLE {LOGIN} LOGIN CREATEROLE PASSWORD '{OLD}'")
        sql(server.superuser, f"CREATE DATABASE warehouse OWNER {LOGIN}")
        DBHandler(server.url(LOGIN, OLD, "warehouse")).create()
        yield server


@pytest.fixture
def home(tmp_path: Path, s3_endpoint: str, server: Server) -> Iterator[Home]:
    """Secrets of a bucket that holds one year, and of the server's login."""

    def client(service: str) -> Any:
        return boto3.client(service, endpoint_url=s3_endpoint, region_name=REGION, **KEYS)

    client("s3").create_bucket(Bucket=BUCKET)
    rows = csv_of(year_of_flights(2015, {"BOS": 20, "ORH": 6}))
    client("s3").put_object(Bucket=BUCKET, Key="lake/01_bronze/2015.csv", Body=rows)
    warehouse = {
        "username": LOGIN,
        "password": OLD,
        "engine": "postgres",
        "host": "127.0.0.1",
        "port": server.port,
        "dbname": "warehouse",
    }
    aws = {
        "conn_type": "aws",
        "login": KEYS["aws_access_key_id"],
        "password": KEYS["aws_secret_access_key"],
        "extra": json.dumps({"region_name": REGION, "endpoint_url": s3_endpoint}),
    }
    manager = client("secretsmanager")
    secret = "airflow/connections/warehouse"
    manager.create_secret(Name=secret, SecretString=json.dumps(warehouse))
    manager.create_secret(Name="airflow/connections/aws_default", SecretString=json.dumps(aws))
    manager.create_secret(Name="airflow/variables/greeting", SecretString="from Secrets Manager")
    kwargs = {
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
    (tmp_path / "dags/variable.py").write_text(VARIABLE)

    def run() -> tuple[Any, str]:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path), f"s3://{BUCKET}/lake", BACKEND, json.dumps(kwargs)],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": f"{ROOT}:{tmp_path / 'dags'}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout), done.stderr

    yield Home(run, manager, secret)
    for name in (secret, "airflow/connections/aws_default", "airflow/variables/greeting"):
        manager.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)


@pytest.mark.slow
def test_a_year_is_run_with_secrets_of_secrets_manager_alone_before_and_after_a_new_password(
    home: Home, server: Server
) -> None:
    warehouse = at(server.superuser, database="warehouse")
    first, said = home.run()
    rows = sql(warehouse, "SELECT count(*) FROM flights.airport_days")
    sql(server.superuser, f"ALTER ROLE {LOGIN} PASSWORD '{NEW}'")
    content = json.loads(home.manager.get_secret_value(SecretId=home.secret)["SecretString"])
    home.manager.put_secret_value(SecretId=home.secret, SecretString=json.dumps(content | {"password": NEW}))
    second, said_again = home.run()

    assert first == second == ["success", "success", "from Secrets Manager"]
    assert rows == [(2 * 365,)]
    assert sql(warehouse, "SELECT count(*) FROM flights.runs") == [(2,)]
    assert OLD not in said
    assert NEW not in said_again


@pytest.mark.slow
def test_a_run_without_the_secret_fails_and_names_the_connection(home: Home) -> None:
    home.manager.delete_secret(SecretId=home.secret, ForceDeleteWithoutRecovery=True)

    (year, *_), said = home.run()

    assert year == "failed"
    assert "warehouse" in said
