"""Airflow, as server and in a task, and boto3 read the files that setup has written for them."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import boto3
import pytest
import yaml
from botocore.credentials import SharedCredentialProvider
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url

from stack import handover, vault
from stack.certificate import Certificate
from stack.settings import StackSettings
from tests.conftest import at
from tests.integration.stack.volumes import ROOT, Volumes
from tests.servers.receivers import WebServer

# Prints one JSON line about airflow.cfg and connections.json, sends a metric, then answers each connection URI of stdin
# with its parts as the server and as a task read it. SUPERVISOR_COMMS makes Airflow believe that it runs in a task.
AIRFLOW = """
import json, os, sys
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # Airflow logs to stdout
from airflow.configuration import conf, ensure_secrets_loaded
from airflow.models.connection import Connection
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.sdk import Connection as TaskConnection
from airflow.sdk._shared.observability.metrics import stats
from airflow.sdk.execution_time import task_runner
from airflow.sdk.observability.metrics import stats_utils
from opentelemetry import metrics

def parts(connection):
    names = ("conn_type", "login", "password", "host", "port", "schema", "extra_dejson")
    return [getattr(connection, name) for name in names]

ensure_secrets_loaded()
names = ["warehouse", "aws_default"]
answer = {
    "server": {name: parts(Connection.get_connection_from_secrets(name)) for name in names},
    "logs": conf.getboolean("logging", "remote_logging") and conf.get("logging", "remote_base_log_folder"),
}
task_runner.SUPERVISOR_COMMS = object()
answer["task"] = {name: parts(TaskConnection.get(name)) for name in names}
answer["s3"] = S3Hook("aws_default").get_conn().meta.endpoint_url
stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)
stats.incr("counted_by_a_test")
metrics.get_meter_provider().force_flush()
print(json.dumps(answer), file=answers)
for line in sys.stdin:
    read = Connection(conn_id="x", uri=json.loads(line)), TaskConnection.from_uri(json.loads(line), conn_id="x")
    print(json.dumps([parts(connection) for connection in read]), file=answers)
"""
READER = "passwordOfTheReader"


class Airflow(NamedTuple):
    """A process of Airflow. answer: its first line. collector: the server that gets its metrics."""

    process: subprocess.Popen[str]
    answer: dict[str, Any]
    collector: WebServer
    volumes: Volumes

    def read(self, uri: str) -> Any:
        """Return the parts of the connection URI as the server and as a task read it."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(uri) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """Start Airflow in its own process, because it reads its settings at import."""
    volumes = Volumes.make(tmp_path_factory.mktemp("volumes"))
    handed, home = volumes.path("handed/airflow"), volumes.path("home")
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    environment = services["airflow-scheduler"]["environment"]
    with WebServer("127.0.0.1", 0) as collector:
        collector.expect_request("/v1/metrics").respond_with_data()
        url = collector.url_for("")
        volumes.setup(DELAYWATCH_LOGS="s3://delaywatch/logs", DELAYWATCH_METRICS=url)
        cfg = volumes.read("handed/airflow/airflow.cfg").replace(handover.MOUNT, str(handed))
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW_CONFIG": str(volumes.put("home/airflow.cfg", cfg)),
            "AIRFLOW__CORE__FERNET_KEY_CMD": f"cat {handed}/fernet_key",
            **{name: value for name, value in environment.items() if name.startswith("OTEL_")},
            "OTEL_EXPORTER_OTLP_ENDPOINT": environment["OTEL_EXPORTER_OTLP_ENDPOINT"].replace(
                "${DELAYWATCH_METRICS:-}", url
            ),
        }
        command, pipe = [sys.executable, "-c", AIRFLOW], subprocess.PIPE
        with subprocess.Popen(command, env=environ, stdin=pipe, stdout=pipe, text=True) as process:
            assert process.stdin
            assert process.stdout
            yield Airflow(process, json.loads(process.stdout.readline()), collector, volumes)
            process.stdin.close()


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


def test_airflow_reads_its_connections_and_sends_metrics_as_server_and_in_a_task(
    airflow: Airflow, started: Volumes
) -> None:
    warehouse, aws = airflow.answer["server"]["warehouse"], airflow.answer["server"]["aws_default"]
    bodies = [request.get_data() for request, _ in airflow.collector.log if request.path == "/v1/metrics"]
    names = ("warehouse_password", "s3_access_key", "s3_secret_key")
    password, access_key, secret_key = (airflow.volumes.read(f"secrets/{name}") for name in names)

    assert warehouse == ["postgres", "delaywatch", password, "postgres", 5432, "warehouse", {}]
    assert aws[:3] == ["aws", access_key, secret_key]
    assert aws[-1] == {"region_name": "us-east-1", "endpoint_url": "http://s3:8333"}
    assert airflow.answer["task"] == airflow.answer["server"]
    assert airflow.answer["s3"] == "http://s3:8333"
    assert airflow.answer["logs"] == "s3://delaywatch/logs"
    assert any(b"counted_by_a_test" in body and b"delaywatch" in body for body in bodies)
    assert "otel_on" not in started.read("handed/airflow/airflow.cfg"), "no metrics without a collector in .env"


@settings(max_examples=20)
@given(st.text(min_size=1))
def test_any_password_of_a_warehouse_reaches_airflow_and_readers_get_the_same_database(
    airflow: Airflow, password: str
) -> None:
    url = f"postgresql://loader:{quote(password, safe='')}@rds.example.com:5433/flights?sslmode=require"

    files = service_files(DELAYWATCH_WAREHOUSE=url)

    expected = ["postgres", "loader", password, "rds.example.com", 5433, "flights", {"sslmode": "require"}]
    assert airflow.read(json.loads(files["airflow"]["connections.json"])["warehouse"]) == [expected, expected]
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


def test_boto3_uses_the_local_store_for_s3_and_aws_for_everything_else(
    started: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    folder: Path = started.path("handed/airflow")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "aws_config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "aws_credentials"))

    session = boto3.Session()

    s3 = session.client("s3").meta
    assert (s3.endpoint_url, s3.region_name) == ("http://s3:8333", "us-east-1")
    assert session.get_credentials().access_key == started.read("secrets/s3_access_key")
    assert session.client("secretsmanager").meta.endpoint_url == "https://secretsmanager.us-east-1.amazonaws.com"
