"""Airflow, as server and in a task, and boto3 read the files that setup has written for them."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from botocore.credentials import SharedCredentialProvider
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url

from stack import handover, vault
from stack.certificate import Certificate
from stack.settings import StackSettings
from tests.conftest import at

# Answers each connection URI of stdin with its parts as the server and as a task read it.
AIRFLOW = """
import json, os, sys
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # Airflow logs to stdout
from airflow.models.connection import Connection
from airflow.sdk import Connection as TaskConnection

def parts(connection):
    names = ("conn_type", "login", "password", "host", "port", "schema", "extra_dejson")
    return [getattr(connection, name) for name in names]

for line in sys.stdin:
    read = Connection(conn_id="x", uri=json.loads(line)), TaskConnection.from_uri(json.loads(line), conn_id="x")
    print(json.dumps([parts(connection) for connection in read]), file=answers)
"""
READER = "passwordOfTheReader"
Airflow = Callable[[str], Any]


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """A function that returns the parts of a connection URI. Airflow has its own process, because it reads its home."""
    home = str(tmp_path_factory.mktemp("home"))
    environ = {"PATH": os.environ["PATH"], "HOME": home, "AIRFLOW_HOME": home}
    command, pipe = [sys.executable, "-c", AIRFLOW], subprocess.PIPE
    with subprocess.Popen(command, env=environ, stdin=pipe, stdout=pipe, text=True, bufsize=1) as process:
        questions, answers = process.stdin, process.stdout
        assert questions
        assert answers

        def read(uri: str) -> Any:
            questions.write(json.dumps(uri) + "\n")
            return json.loads(answers.readline())

        yield read
        questions.close()


def service_files(**environ: str) -> dict[str, dict[str, str]]:
    """Return the text of every service's files for these variables."""
    secrets = {**dict.fromkeys(vault.MAKERS, "madeUp"), "reader_password": READER}
    certificate = Certificate("own", b"", b"", until=datetime(2030, 1, 1, tzinfo=UTC), is_self_signed=True)
    table = handover.files(StackSettings.from_environment(environ), secrets, certificate)
    return {
        service: {name: str(text) for name, text in files.items() if text is not None}
        for service, files in table.items()
    }


# --- Airflow ----------------------------------------------------------------------------------------------------------


def test_airflow_writes_logs_to_the_bucket_and_sends_metrics_only_if_env_names_a_collector() -> None:
    files = service_files(DELAYWATCH_LOGS="s3://delaywatch/logs", DELAYWATCH_METRICS="http://collector:4318")
    cfg = configparser.ConfigParser()
    cfg.read_string(files["airflow"]["airflow.cfg"])

    assert cfg.getboolean("logging", "remote_logging")
    assert cfg["logging"]["remote_base_log_folder"] == "s3://delaywatch/logs"
    assert cfg.getboolean("metrics", "otel_on")
    assert "otel_on" not in service_files()["airflow"]["airflow.cfg"]


@settings(max_examples=20)
@given(st.text(min_size=1))
def test_any_password_of_a_warehouse_reaches_airflow_and_readers_get_the_same_database(
    airflow: Airflow, password: str
) -> None:
    url = f"postgresql://loader:{quote(password, safe='')}@rds.example.com:5433/flights?sslmode=require"

    files = service_files(DELAYWATCH_WAREHOUSE=url)

    expected = ["postgres", "loader", password, "rds.example.com", 5433, "flights", {"sslmode": "require"}]
    assert airflow(json.loads(files["airflow"]["connections.json"])["warehouse"]) == [expected, expected]
    assert files["jupyter"]["warehouse_url"] == at(url, username="delaywatch_reader", password=READER)
    assert make_url(files["superset"]["warehouse_url"]).drivername == "postgresql+psycopg2"


@settings(max_examples=50)
@given(st.dictionaries(st.text(), st.text()))
def test_any_argument_of_a_secrets_backend_reaches_airflow(arguments: dict[str, str]) -> None:
    """Airflow replaces %(name)s by configparser, then $NAME and ~ by the environment."""
    arguments = {"$HOME": "%(x)s", **arguments}

    files = service_files(AIRFLOW_SECRETS_BACKEND="a.B", AIRFLOW_SECRETS_BACKEND_KWARGS=json.dumps(arguments))

    cfg = configparser.ConfigParser()
    cfg.read_string(files["airflow"]["airflow.cfg"])
    assert cfg["secrets"]["backend"] == "a.B"
    kwargs = os.path.expanduser(os.path.expandvars(cfg["secrets"]["backend_kwargs"]))  # noqa: PTH111 - as Airflow
    assert json.loads(kwargs) == arguments
    assert "connections.json" not in files["airflow"]


# --- boto3 ------------------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.from_regex(r"\A[!-~]+\Z"), st.from_regex(r"\A[!-~]+\Z"))
def test_any_aws_key_reaches_boto3_and_airflow(
    tmp_path_factory: pytest.TempPathFactory, access_key: str, secret_key: str
) -> None:
    files = service_files(
        DELAYWATCH_LAKE="s3://lake",
        AWS_ENDPOINT_URL="https://minio.lan:9000",
        AWS_ACCESS_KEY_ID=access_key,
        AWS_SECRET_ACCESS_KEY=secret_key,
        AWS_SESSION_TOKEN=secret_key,
    )
    path = tmp_path_factory.getbasetemp() / "aws_credentials"
    path.write_text(files["jupyter"]["aws_credentials"])

    credentials = SharedCredentialProvider(str(path)).load()

    assert credentials
    assert (credentials.access_key, credentials.secret_key, credentials.token) == (access_key, secret_key, secret_key)
    connection = json.loads(files["airflow"]["connections.json"])["aws_default"]
    assert (connection["login"], connection["password"]) == (access_key, secret_key)
    assert connection["extra"]["aws_session_token"] == secret_key
