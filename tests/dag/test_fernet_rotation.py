"""Rotation of the Fernet key of a real Airflow on Postgres, with the commands of stack/up.sh. Takes a minute."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from cryptography.fernet import Fernet, InvalidToken

from tests.conftest import sql
from tests.dag.processes import AIRFLOW, wait_until
from tests.integration.stack.volumes import Volumes

STORE = """
from airflow.models import Connection, Variable
from airflow.utils.session import create_session
with create_session() as session:
    session.add(Connection(conn_id="mail", conn_type="smtp", password="of the mail", extra='{"key": "of the extra"}'))
    for number in range(300):  # more than Airflow reads at once
        Variable.set(f"variable {number}", f"value {number}", session=session)
"""
READ = """
import json, os
answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # Airflow logs to stdout
from airflow.models import Connection, Variable
from airflow.utils.session import create_session
with create_session() as session:
    mail = session.query(Connection).filter_by(conn_id="mail").one()
    values = {variable.key: variable.val for variable in session.query(Variable)}
    print(json.dumps([mail.password, mail.extra_dejson, values]), file=answer)
"""
STORED = ["of the mail", {"key": "of the extra"}, {f"variable {number}": f"value {number}" for number in range(300)}]
ENCRYPTED = "SELECT password FROM connection UNION ALL SELECT extra FROM connection UNION ALL SELECT val FROM variable"


def read(environment: dict[str, str]) -> Any:
    command = [sys.executable, "-c", READ]
    return json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def count_decrypted(database: str, key: str) -> int:
    """Return how many of the encrypted values the key decrypts."""
    count = 0
    for (value,) in sql(database, ENCRYPTED):
        try:
            Fernet(key).decrypt(value.encode())
            count += 1
        except InvalidToken:
            pass
    return count


def kill_a_rotation_that_writes(environment: dict[str, str], database: str) -> None:
    """Start the rotation, and kill it when it waits to update the variables, which are locked here."""
    with closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE variable IN SHARE MODE")
        rotation = subprocess.Popen([*AIRFLOW, "rotate-fernet-key"], env=environment, stdout=subprocess.DEVNULL)
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        wait_until("the rotation waits for the lock", lambda: bool(sql(database, waiting)))
        rotation.kill()
        rotation.wait()
    locks = "SELECT 1 FROM pg_locks WHERE relation = 'variable'::regclass"
    wait_until("Postgres has ended the session", lambda: not sql(database, locks))


@pytest.mark.slow
def test_airflow_reads_its_secrets_during_a_rotation_and_after_it_with_the_new_key_only(
    tmp_path: Path, empty_database: str
) -> None:
    volumes = Volumes.make(tmp_path / "stack")
    volumes.setup()
    environment = {
        "PATH": os.environ["PATH"],
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__FERNET_KEY_CMD": f"cat {volumes.path('handed/airflow/fernet_key')}",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": empty_database.replace("postgresql://", "postgresql+psycopg2://"),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    for command in ([*AIRFLOW, "db", "migrate"], [sys.executable, "-c", STORE]):
        subprocess.run(command, env=environment, check=True, capture_output=True)
    old = volumes.read("secrets/fernet_key")

    volumes.run("rotate fernet_key")
    assert read(environment) == STORED

    kill_a_rotation_that_writes(environment, empty_database)
    assert count_decrypted(empty_database, old) == 302
    assert read(environment) == STORED

    subprocess.run([*AIRFLOW, "rotate-fernet-key"], env=environment, check=True, capture_output=True)
    volumes.run("rotate --finish")
    assert "," not in volumes.read("handed/airflow/fernet_key")
    assert read(environment) == STORED
    assert count_decrypted(empty_database, volumes.read("secrets/fernet_key")) == 302
    assert count_decrypted(empty_database, old) == 0
