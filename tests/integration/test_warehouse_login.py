"""A new password for the warehouse's login in Secrets Manager, with moto and a Postgres that asks for passwords."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import psycopg2
import pytest
from sqlalchemy import make_url

from stack import warehouse_login
from stack.errors import StackError
from tests.conftest import at, sql

REGION = "us-east-1"
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
NUMBERS = itertools.count(1)
OLD = "the-first-password-of-all"


@pytest.fixture(scope="session")
def manager(s3_endpoint: str) -> Any:
    return boto3.client("secretsmanager", endpoint_url=s3_endpoint, region_name=REGION, **KEYS)


@pytest.fixture
def login(empty_database: str, ask_password_of: Callable[[str], None]) -> Iterator[str]:
    """A login without any right but to log in, which is asked for its password."""
    name = f"rotated_{next(NUMBERS)}"
    sql(empty_database, f"CREATE ROLE {name} LOGIN PASSWORD '{OLD}'")
    ask_password_of(name)
    yield name
    sql(empty_database, f"DROP ROLE {name}")


@pytest.fixture
def secret(manager: Any, login: str, empty_database: str) -> str:
    """The name of the secret, with all that RDS puts into it."""
    url = make_url(empty_database)
    content = {
        "username": login,
        "password": OLD,
        "engine": "postgres",
        "host": url.query["host"],
        "port": 5432,
        "dbname": url.database,
        "dbInstanceIdentifier": "delaywatch",
    }
    name = f"airflow-{login}/connections/warehouse"
    manager.create_secret(Name=name, SecretString=json.dumps(content))
    return name


def content(manager: Any, name: str, stage: str = "AWSCURRENT") -> Any:
    return json.loads(manager.get_secret_value(SecretId=name, VersionStage=stage)["SecretString"])


def stages(manager: Any, name: str) -> list[str]:
    """The labels of all versions."""
    versions = manager.list_secret_version_ids(SecretId=name, IncludeDeprecated=True)["Versions"]
    return sorted(stage for version in versions for stage in version.get("VersionStages", []))


def lets_in(database: str, login: str, password: str) -> bool:
    try:
        sql(at(database, username=login, password=password))
    except psycopg2.OperationalError as error:
        assert "password authentication failed" in str(error)
        return False
    return True


class PowerCutError(Exception):
    """What ends a rotation in the middle here."""


def cut_at(manager: Any, call: int) -> Any:
    """A client whose computer goes off before its writing call of this number."""
    client = boto3.client("secretsmanager", endpoint_url=manager.meta.endpoint_url, region_name=REGION, **KEYS)
    count = itertools.count(1)

    def before(**_: Any) -> None:
        if next(count) == call:
            raise PowerCutError

    for name in ("PutSecretValue", "UpdateSecretVersionStage"):
        client.meta.events.register(f"before-call.secrets-manager.{name}", before)
    return client


def test_the_new_password_is_in_the_secret_and_the_only_one_that_opens_the_warehouse(
    manager: Any, secret: str, login: str, empty_database: str
) -> None:
    before = content(manager, secret)

    said = warehouse_login.rotate(manager, secret)

    after = content(manager, secret)
    assert said.startswith(f"The login {login} of {before['dbname']} at {before['host']} has a new password, ")
    assert not {before["password"], after["password"]} & set(said.split())
    assert after == before | {"password": after["password"]}
    assert len(after["password"]) == 40
    assert lets_in(empty_database, login, after["password"])
    assert not lets_in(empty_database, login, OLD)
    assert stages(manager, secret) == ["AWSCURRENT", "AWSPREVIOUS"]


def test_a_second_rotation_is_one_more(manager: Any, secret: str, login: str, empty_database: str) -> None:
    warehouse_login.rotate(manager, secret)
    first = content(manager, secret)["password"]

    warehouse_login.rotate(manager, secret)

    second = content(manager, secret)["password"]
    assert second != first
    assert lets_in(empty_database, login, second)


@pytest.mark.parametrize(
    ("call", "where"), [(1, "nothing is written"), (2, "Postgres has it"), (3, "the secret has it too")]
)
def test_after_an_interruption_the_secret_holds_what_opens_the_warehouse_and_a_second_call_ends_it(
    manager: Any, secret: str, login: str, empty_database: str, call: int, where: str
) -> None:
    with pytest.raises(PowerCutError):
        warehouse_login.rotate(cut_at(manager, call), secret)

    labels = ["AWSCURRENT", "AWSPENDING"] if "AWSPENDING" in stages(manager, secret) else ["AWSCURRENT"]
    passwords = [content(manager, secret, label)["password"] for label in labels]
    assert lets_in(empty_database, login, passwords[-1]), where
    warehouse_login.rotate(manager, secret)
    assert lets_in(empty_database, login, content(manager, secret)["password"])
    assert stages(manager, secret) == ["AWSCURRENT", "AWSPREVIOUS"]


def test_a_pending_password_that_postgres_never_got_is_the_one_that_is_set(
    manager: Any, secret: str, login: str, empty_database: str
) -> None:
    pending = content(manager, secret) | {"password": "pending-and-not-yet-set"}
    manager.put_secret_value(SecretId=secret, SecretString=json.dumps(pending), VersionStages=["AWSPENDING"])

    warehouse_login.rotate(manager, secret)

    assert content(manager, secret) == pending
    assert lets_in(empty_database, login, "pending-and-not-yet-set")


def test_when_neither_password_opens_the_warehouse_both_are_kept_and_the_way_out_is_told(
    manager: Any, secret: str, login: str, empty_database: str
) -> None:
    sql(empty_database, f"ALTER ROLE {login} PASSWORD 'somebody-changed-it'")

    with pytest.raises(StackError, match="takes neither the current nor the pending password of the secret") as refused:
        warehouse_login.rotate(manager, secret)

    pending = content(manager, secret, "AWSPENDING")["password"]
    assert "master password" in str(refused.value)
    assert OLD not in str(refused.value)
    assert pending not in str(refused.value)
    assert content(manager, secret)["password"] == OLD
    sql(empty_database, f"ALTER ROLE {login} PASSWORD '{pending}'")
    warehouse_login.rotate(manager, secret)
    assert content(manager, secret)["password"] == pending


def test_a_pending_version_of_another_server_is_not_used(manager: Any, secret: str) -> None:
    other = content(manager, secret) | {"host": "elsewhere.example.com", "password": "theirs"}
    manager.put_secret_value(SecretId=secret, SecretString=json.dumps(other), VersionStages=["AWSPENDING"])

    with pytest.raises(StackError, match="has a version AWSPENDING of another login or server; remove that label"):
        warehouse_login.rotate(manager, secret)


@pytest.mark.parametrize("text", ['{"username": "u", "password": "p"}', "[]", "postgresql://u:p@h/d"])
def test_a_secret_that_rds_has_not_completed_is_refused_and_not_shown(manager: Any, secret: str, text: str) -> None:
    manager.put_secret_value(SecretId=secret, SecretString=text)

    with pytest.raises(StackError, match="nothing was changed") as refused:
        warehouse_login.rotate(manager, secret)

    assert text not in str(refused.value)
    assert "AWSPENDING" not in stages(manager, secret)


def test_a_warehouse_that_does_not_answer_keeps_its_password_and_the_pending_one_for_the_next_call(
    manager: Any, secret: str
) -> None:
    gone = content(manager, secret) | {"host": "127.0.0.1", "port": 1}
    manager.put_secret_value(SecretId=secret, SecretString=json.dumps(gone))

    with pytest.raises(StackError, match=r"at 127\.0\.0\.1 cannot be reached .*; call this again\.$"):
        warehouse_login.rotate(manager, secret)

    assert content(manager, secret) == gone
    assert "AWSPENDING" in stages(manager, secret)


def test_the_command_says_what_it_did_and_shows_no_password(
    manager: Any, secret: str, login: str, empty_database: str
) -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "AWS_ENDPOINT_URL": manager.meta.endpoint_url,
        "AWS_DEFAULT_REGION": REGION,
        **{name.upper(): key for name, key in KEYS.items()},
    }

    def run(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "stack.warehouse_login", name]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)

    done, failed = run(secret), run("airflow/no/such/secret")

    assert (done.returncode, done.stderr) == (0, "")
    password = content(manager, secret)["password"]
    assert lets_in(empty_database, login, password)
    assert password not in done.stdout
    assert failed.returncode == 1
    assert failed.stderr.startswith("Secrets Manager did not do it (")
    assert failed.stderr.count("\n") == 1
