"""What is handed over is read by those who get it: Airflow, as server and in a task, and boto3; both run for real."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
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
from tests.integration.stack.volumes import Volumes

# Answers one JSON line per line of stdin: the parts of a connection URI as the server and as a task reads it. The first
# answer is what airflow.cfg and connections.json gave. SUPERVISOR_COMMS is what tells Airflow that it runs in a task.
AIRFLOW = """
import json, os, sys
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # Airflow logs to stdout
from airflow.configuration import conf, ensure_secrets_loaded
from airflow.models.connection import Connection
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.sdk import Connection as TaskConnection
from airflow.sdk.execution_time import task_runner

def parts(found):
    return [found.conn_type, found.login, found.password, found.host, found.port, found.schema, found.extra_dejson]

names = ["warehouse", "aws_default"]
answer = {
    "backends": [type(backend).__name__ for backend in ensure_secrets_loaded()],
    "server": {name: parts(Connection.get_connection_from_secrets(name)) for name in names},
    "kwargs": conf.getjson("secrets", "backend_kwargs"),
    "logging": {key: conf.get("logging", key)
                for key in ("remote_logging", "remote_base_log_folder", "remote_log_conn_id")},
}
task_runner.SUPERVISOR_COMMS = object()
answer["task"] = {name: parts(TaskConnection.get(name)) for name in names}
answer["s3"] = S3Hook("aws_default").get_conn().meta.endpoint_url
print(json.dumps(answer), file=answers)
for line in sys.stdin:
    read = Connection(conn_id="x", uri=json.loads(line)), TaskConnection.from_uri(json.loads(line), conn_id="x")
    print(json.dumps([parts(found) for found in read]), file=answers)
"""
LOGS = {"DELAYWATCH_LOGS": "s3://delaywatch/logs"}
Ask = Callable[[str | None], Any]


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Volumes:
    volumes = Volumes.make(tmp_path_factory.mktemp("volumes"))
    volumes.setup(**LOGS)
    return volumes


@pytest.fixture(scope="module")
def airflow(volumes: Volumes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Airflow with what was handed to it, in a process of its own because it reads its settings when it is imported."""
    home = tmp_path_factory.mktemp("airflow")
    handed = volumes.path("handed/airflow")
    (home / "airflow.cfg").write_text((handed / "airflow.cfg").read_text().replace(handover.MOUNT, str(handed)))
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW_CONFIG": str(home / "airflow.cfg"),
        "AIRFLOW__CORE__FERNET_KEY_CMD": f"cat {handed}/fernet_key",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", AIRFLOW], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    questions, answers = process.stdin, process.stdout
    assert questions
    assert answers
    first = answers.readline()
    assert first, "Airflow ended; what it said is above"

    def ask(uri: str | None) -> Any:
        if uri is None:
            return json.loads(first)
        questions.write(json.dumps(uri) + "\n")
        questions.flush()
        return json.loads(answers.readline())

    yield ask
    with process:
        questions.close()


def test_airflow_finds_its_connections_in_the_file_as_server_and_in_a_task(airflow: Ask, volumes: Volumes) -> None:
    found = airflow(None)

    read = volumes.read
    warehouse = [
        "postgres",
        "delaywatch",
        read("handed/postgres/warehouse_password"),
        "postgres",
        5432,
        "warehouse",
        {},
    ]
    keys = [read("handed/s3/access_key"), read("handed/s3/secret_key")]
    store = {"region_name": "us-east-1", "endpoint_url": "http://s3:8333"}
    assert found["backends"][0] == "LocalFilesystemBackend"
    assert found["server"] == {"warehouse": warehouse, "aws_default": ["aws", *keys, None, None, None, store]}
    assert found["task"] == found["server"]


def test_airflow_keeps_its_logs_where_env_says(airflow: Ask) -> None:
    found = airflow(None)

    assert found["logging"] == {
        "remote_logging": "True",
        "remote_base_log_folder": "s3://delaywatch/logs",
        "remote_log_conn_id": "aws_default",
    }
    assert found["s3"] == "http://s3:8333"


@settings(max_examples=50)
@given(st.text(min_size=1))
def test_any_password_of_a_warehouse_reaches_airflow_and_the_readers_url_keeps_the_place(
    airflow: Ask, password: str
) -> None:
    url = f"postgresql://loader:{quote(password, safe='')}@rds.example.com:5433/flights?sslmode=require"
    table = files({"DELAYWATCH_WAREHOUSE": url})

    uri = json.loads(str(table["airflow"]["connections.json"]))["warehouse"]

    expected = ["postgres", "loader", password, "rds.example.com", 5433, "flights", {"sslmode": "require"}]
    assert airflow(uri) == [expected, expected]
    assert str(table["jupyter"]["warehouse_url"]) == at(url, username="delaywatch_reader", password=READER)
    assert make_url(str(table["superset"]["warehouse_url"])).drivername == "postgresql+psycopg2"


@given(st.from_regex(r"\A[!-~]+\Z"), st.from_regex(r"\A[!-~]+\Z"))
def test_any_key_reaches_boto3_by_its_file(
    tmp_path_factory: pytest.TempPathFactory, access_key: str, secret_key: str
) -> None:
    given_by_env = {
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_SESSION_TOKEN": secret_key,
    }
    table = files({"DELAYWATCH_LAKE": "s3://lake", "AWS_ENDPOINT_URL": "https://minio.lan:9000", **given_by_env})
    credentials = tmp_path_factory.getbasetemp() / "aws_credentials"
    credentials.write_text(str(table["jupyter"]["aws_credentials"]))

    found = SharedCredentialProvider(str(credentials)).load()

    assert found
    assert (found.access_key, found.secret_key, found.token) == (access_key, secret_key, secret_key)


def test_boto3_finds_the_store_by_the_files_and_other_services_stay_at_aws(volumes: Volumes) -> None:
    handed = volumes.path("handed/airflow")
    code = (
        "import boto3; s3 = boto3.client('s3'); print(s3.meta.endpoint_url, s3.meta.region_name, "
        "boto3.Session().get_credentials().access_key, boto3.client('secretsmanager').meta.endpoint_url)"
    )
    environ = {
        "PATH": os.environ["PATH"],
        "AWS_CONFIG_FILE": str(handed / "aws_config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(handed / "aws_credentials"),
    }

    found = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True).stdout

    assert found.split() == [
        "http://s3:8333", "us-east-1", volumes.read("handed/s3/access_key"),
        "https://secretsmanager.us-east-1.amazonaws.com",
    ]  # fmt: skip


def test_a_secrets_backend_of_env_takes_the_place_of_the_file(tmp_path: Path) -> None:
    volumes = Volumes.make(tmp_path)
    volumes.setup()
    backend = "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend"

    volumes.setup(AIRFLOW_SECRETS_BACKEND=backend, AIRFLOW_SECRETS_BACKEND_KWARGS='{"region_name": "eu"}')

    found = configparser.ConfigParser()
    found.read(volumes.path("handed/airflow/airflow.cfg"))
    assert found["secrets"]["backend"] == backend
    assert json.loads(found["secrets"]["backend_kwargs"]) == {"region_name": "eu"}
    assert not volumes.path("handed/airflow/connections.json").exists()


@given(st.dictionaries(st.text(), st.text()))
def test_any_argument_of_a_secrets_backend_survives_what_airflow_does_to_its_settings(kwargs: dict[str, str]) -> None:
    """Airflow replaces %(name)s by configparser, then $NAME and ~ by the environment."""
    table = files(
        {"AIRFLOW_SECRETS_BACKEND": "a.B", "AIRFLOW_SECRETS_BACKEND_KWARGS": json.dumps({"$HOME": "%(x)s", **kwargs})}
    )

    found = configparser.ConfigParser()
    found.read_string(str(table["airflow"]["airflow.cfg"]))
    read = os.path.expanduser(os.path.expandvars(found["secrets"]["backend_kwargs"]))  # noqa: PTH111 as Airflow does it

    assert json.loads(read) == {"$HOME": "%(x)s", **kwargs}


READER = "passwordOfTheReader"


def files(environ: dict[str, str]) -> dict[str, dict[str, handover.Content]]:
    """Every file for these variables, with made-up secrets."""
    secrets = {**dict.fromkeys(vault.MAKERS, "madeUp"), "reader_password": READER}
    shown = Certificate("own", b"", b"", until=datetime(2030, 1, 1, tzinfo=UTC), is_self_signed=True)
    return handover.files(StackSettings.from_environment(environ), secrets, shown)
