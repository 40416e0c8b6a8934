"""Connections from Secrets Manager (moto), configured as host.sh does on AWS."""

from __future__ import annotations

import json

import boto3
import pytest
from moto import mock_aws

BACKEND = "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend"
BACKEND_KWARGS = {
    "connections_prefix": "host/connections",
    "connections_lookup_pattern": "^warehouse$",
    "variables_prefix": "host/variables",
    "config_prefix": None,
    "extra_conn_words": {"schema": ["dbname"]},
    "region_name": "us-east-1",
    "aws_access_key_id": "test",
    "aws_secret_access_key": "test",
}
RDS = {"username": "loader", "engine": "postgres", "host": "127.0.0.1", "port": 5432, "dbname": "warehouse"}


@pytest.mark.usefixtures("airflow")
def test_a_new_password_in_secrets_manager_is_used_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestration import connections

    monkeypatch.delenv("AIRFLOW_CONN_WAREHOUSE")
    monkeypatch.setenv("DELAYWATCH_LAKE", "s3://lake")
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", BACKEND)
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND_KWARGS", json.dumps(BACKEND_KWARGS))

    with mock_aws():
        manager = boto3.client("secretsmanager", region_name="us-east-1")
        manager.create_secret(Name="host/connections/warehouse")
        for password in ("first", "second"):
            secret = json.dumps(RDS | {"password": password})
            manager.put_secret_value(SecretId="host/connections/warehouse", SecretString=secret)
            assert connections.settings().warehouse == f"postgresql://loader:{password}@127.0.0.1:5432/warehouse"
