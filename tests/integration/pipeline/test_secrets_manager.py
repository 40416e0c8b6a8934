"""A DAG run with connections from Secrets Manager (moto) only, configured as host.sh does on AWS.

Takes a minute: `.venv/bin/python -m pytest -m slow tests/integration/pipeline/test_secrets_manager.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.conftest import sql
from tests.servers.listening import listening_postgres
from tests.steps import BRONZE, BRONZE_KEY
from utils.db_handler import DBHandler
from utils.settings import Settings
from utils.storage.lake import Lake

ROOT = Path(__file__).parents[3]
OLD, NEW = "the-first-password-of-all", "another-password-entirely"
PROGRAM = """
import os, sys
from pathlib import Path
from demo import airflow_home
home, lake, backend_kwargs = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
airflow_home.enter(home, lake=lake, warehouse="")
del os.environ["AIRFLOW_CONN_WAREHOUSE"]
os.environ |= {
    "AIRFLOW__SECRETS__BACKEND": "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend",
    "AIRFLOW__SECRETS__BACKEND_KWARGS": backend_kwargs,
}
airflow_home.prepare(home)
from airflow.dag_processing.dagbag import DagBag

run = DagBag().dags["flight_anomalies"].test(run_conf={"year": 2015, "detectors": ["three_sigma"]})
sys.exit(run.state != "success")
"""


@pytest.mark.slow
def test_a_year_runs_with_secrets_of_secrets_manager_before_and_after_a_new_password(
    tmp_path: Path, s3_endpoint: str, bucket_settings: Settings
) -> None:
    keys: dict[str, Any] = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    place = {"region_name": "us-east-1", "endpoint_url": s3_endpoint}
    manager = boto3.client("secretsmanager", **place, **keys)
    backend_kwargs = {
        "connections_prefix": "airflow/connections",
        "connections_lookup_pattern": "^(warehouse|aws_default)$",
        "variables_prefix": "airflow/variables",
        "config_prefix": None,
        "extra_conn_words": {"schema": ["dbname"]},
    } | (place | keys)
    aws = {"conn_type": "aws", "login": "test", "password": "test", "extra": json.dumps(place)}
    manager.create_secret(Name="airflow/connections/aws_default", SecretString=json.dumps(aws))
    manager.create_secret(Name="airflow/connections/warehouse")
    Lake(bucket_settings).store.put(BRONZE_KEY, BRONZE)

    with listening_postgres() as server:  # asks for passwords, as RDS does
        sql(server.superuser, "CREATE ROLE loader LOGIN CREATEROLE", "CREATE DATABASE warehouse OWNER loader")
        warehouse = {"username": "loader", "engine": "postgres", "host": "127.0.0.1", "dbname": "warehouse"}
        for password in (OLD, NEW):
            sql(server.superuser, f"ALTER ROLE loader PASSWORD '{password}'")
            secret = json.dumps(warehouse | {"port": server.port, "password": password})
            manager.put_secret_value(SecretId="airflow/connections/warehouse", SecretString=secret)
            with DBHandler(server.url("loader", password, "warehouse")) as handler:
                handler.create()

            done = subprocess.run(
                [sys.executable, "-c", PROGRAM, tmp_path / "home", bucket_settings.lake, json.dumps(backend_kwargs)],
                env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": f"{ROOT}:{ROOT / 'dags'}"},
                capture_output=True,
                text=True,
                check=False,
            )

            assert done.returncode == 0, done.stderr[-3000:]
            assert password not in done.stdout + done.stderr
        runs = sql(server.url("loader", NEW, "warehouse"), "SELECT count(*) FROM flights.runs")
    assert runs == [(2,)]
