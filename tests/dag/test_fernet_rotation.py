"""The Fernet key of a real Airflow on Postgres, rotated as stack/up.sh does it: `airflow rotate-fernet-key` with both.

Takes a minute: `PYTHONPATH=dags .venv/bin/python -m pytest tests/dag/test_fernet_rotation.py`.
"""

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
from tests.dag.processes import wait_until
from tests.integration.stack.volumes import Volumes

AIRFLOW = (sys.executable, "-m", "airflow")
STORE = """
from airflow.models import Connection, Variable
from airflow.utils.session import create_session
with create_session() as session:
    session.add(Connection(conn_id="mail", conn_type="smtp", password="of the mail", extra='{"key": "of the extra"}'))
    for number in range(300):  # more than Airflow takes at once
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
SEALED = "SELECT password FROM connection UNION ALL SELECT extra FROM connection UNION ALL SELECT val FROM variable"


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    volumes = Volumes.make(tmp_path / "stack")
    volumes.setup()
    return volumes


@pytest.fixture
def environ(volumes: Volumes, tmp_path: Path, empty_database: str) -> dict[str, str]:
    """As docker-compose.yaml gives it to Airflow's containers, with an Airflow that has something encrypted."""
    environ = {
        "PATH": os.environ["PATH"],
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__FERNET_KEY_CMD": f"cat {volumes.path('handed/airflow/fernet_key')}",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": empty_database.replace("postgresql://", "postgresql+psycopg2://"),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    for command in ([*AIRFLOW, "db", "migrate"], [sys.executable, "-c", STORE]):
        subprocess.run(command, env=environ, check=True, capture_output=True)
    return environ


def read(environ: dict[str, str]) -> Any:
    done = subprocess.run([sys.executable, "-c", READ], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def sealed_with(database: str, key: str) -> list[bool]:
    """Whether the key opens it, for every encrypted value of the database."""

    def is_opened(value: str) -> bool:
        try:
            Fernet(key).decrypt(value.encode())
        except InvalidToken:
            return False
        return True

    return [is_opened(value) for (value,) in sql(database, SEALED)]


def kill_while_it_writes(environ: dict[str, str], database: str) -> None:
    """Start the rotation, and end it without a word when it has come to the variables, which are locked here."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE variable IN SHARE MODE")
        rotating = subprocess.Popen([*AIRFLOW, "rotate-fernet-key"], env=environ, stdout=subprocess.DEVNULL)
        wait_until("it waits for the lock", lambda: bool(sql(database, waiting)))
        rotating.kill()
        rotating.wait()
    locks = "SELECT 1 FROM pg_locks WHERE relation = 'variable'::regclass"
    wait_until("Postgres knows that it is gone", lambda: not sql(database, locks))


@pytest.mark.slow
def test_what_airflow_encrypted_is_read_all_the_way_and_at_the_end_with_the_new_key_alone(
    volumes: Volumes, environ: dict[str, str], empty_database: str
) -> None:
    old = volumes.read("secrets/fernet_key")
    volumes.run("rotate fernet_key")
    assert read(environ) == STORED

    kill_while_it_writes(environ, empty_database)
    assert sealed_with(empty_database, old) == [True] * 302
    assert read(environ) == STORED

    done = subprocess.run([*AIRFLOW, "rotate-fernet-key"], env=environ, capture_output=True, text=True, check=False)
    volumes.run("rotate --finish")

    assert done.returncode == 0, done.stderr
    assert "," not in volumes.read("handed/airflow/fernet_key")
    assert read(environ) == STORED
    assert sealed_with(empty_database, volumes.read("secrets/fernet_key")) == [True] * 302
    assert sealed_with(empty_database, old) == [False] * 302
