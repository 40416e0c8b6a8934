"""`make rotate` on a running stack: stored data can still be read, and the old secrets open nothing.

`make test-restarts` runs these tests.
"""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from playwright.sync_api import APIRequestContext

from stack.vault import CERTIFICATE, KEY, MAKERS
from tests.e2e.installation import Installation, airflow_token, docker, end_of, put_year, superset_token, trigger
from tests.servers.startup import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LOGINS = {"airflow": "airflow", "superset": "superset", "warehouse": "delaywatch", "postgres": "postgres"}
PASSWORD = "of-a-login-of-the-analyst"
STORE = """
from airflow.models import Connection, Variable
from airflow.utils.session import create_session
with create_session() as session:
    session.query(Connection).filter_by(conn_id="kept").delete()
    session.add(Connection(conn_id="kept", conn_type="smtp", password="of the mail"))
    Variable.set("kept", "of the variable", session=session)
"""
READ = """
from airflow.models import Connection, Variable
from airflow.utils.session import create_session
with create_session() as session:
    print("read:", session.query(Connection).filter_by(conn_id="kept").one().password, "and", Variable.get("kept"))
"""


def in_airflow(stack: Installation, program: str) -> str:
    return stack.compose("exec", "-T", "airflow-scheduler", "python", "-", stdin=program.encode()).decode()


def headers(client: APIRequestContext, stack: Installation) -> dict[str, str]:
    """Return the headers of a program that has logged in to Superset with the password of `make password`."""
    token = superset_token(client, stack.password())
    csrf = client.get("/api/v1/security/csrf_token/", headers={"Authorization": f"Bearer {token}"})
    return {
        "Authorization": f"Bearer {token}",
        "X-CSRFToken": csrf.json()["result"],
        "Referer": f"{stack.url}/",
    }


def ask(client: APIRequestContext, stack: Installation, database: int) -> str:
    """Return the result of a query with a database connection that Superset stores with its password."""
    asked = {"database_id": database, "sql": "SELECT who FROM analyst.own", "runAsync": False}
    answer = client.post("/api/v1/sqllab/execute/", headers=headers(client, stack), data=asked)
    assert answer.ok, answer.text()
    return str(answer.json()["data"][0]["who"])


@pytest.fixture(scope="module")
def stored(stack: Installation) -> None:
    """A connection and a variable in Airflow, and a login with a table that only it may read."""
    in_airflow(stack, STORE)
    stack.psql("warehouse", f"CREATE ROLE analyst LOGIN PASSWORD '{PASSWORD}' IN ROLE flights_reader")
    stack.psql("warehouse", "GRANT CONNECT ON DATABASE warehouse TO analyst")
    stack.psql("warehouse", "CREATE SCHEMA analyst AUTHORIZATION analyst")
    stack.psql("warehouse", "CREATE TABLE analyst.own AS SELECT 'analyst' AS who")
    stack.psql("warehouse", "ALTER TABLE analyst.own OWNER TO analyst")


@pytest.fixture
def database(stack: Installation, stored: None, client: APIRequestContext) -> int:
    """The id of a database connection in Superset, whose password Superset stores encrypted."""
    listed = client.get("/api/v1/database/", headers=headers(client, stack)).json()["result"]
    for database in listed:
        if database["database_name"] == "Own":
            return int(database["id"])
    created = client.post(
        "/api/v1/database/",
        headers=headers(client, stack),
        data={
            "database_name": "Own",
            "sqlalchemy_uri": f"postgresql+psycopg2://analyst:{PASSWORD}@postgres:5432/warehouse",
            "expose_in_sqllab": True,
        },
    )
    assert created.ok, created.text()
    return int(created.json()["id"])


def check(stack: Installation, client: APIRequestContext, database: int, old: dict[str, bytes], run: str) -> None:
    """Check that stored data can be read, and that no old secret is in use or opens a login."""
    secrets = stack.secrets()
    assert secrets.keys() == {*MAKERS, CERTIFICATE, KEY}
    assert [name for name in secrets if secrets[name] == old[name]] == []
    assert "read: of the mail and of the variable" in in_airflow(stack, READ)
    assert ask(client, stack, database) == "analyst"
    assert airflow_token(client, stack.password())
    former = {"username": "admin", "password": old["admin_password"].decode()}
    refused = client.post("/airflow/auth/token", data=former)
    assert refused.status == 401
    assert [name for name in LOGINS if opens(stack, name, old[f"{name}_password"])] == []
    assert [name for name in LOGINS if not opens(stack, name, secrets[f"{name}_password"])] == []
    assert stack.certificate().encode() == secrets[CERTIFICATE]
    put_year(stack)
    trigger(stack, run)
    assert end_of(stack, run) == "success"


def opens(stack: Installation, database: str, password: bytes) -> bool:
    """Return whether Postgres accepts this password over TCP; stdin passes the password."""
    psql = f'psql -h "$(hostname -i)" -U {LOGINS[database]} -d {database} -c ""'
    program = f"read -r PGPASSWORD; export PGPASSWORD; {psql}"
    command = ["docker", "compose", "exec", "-T", "postgres", "bash", "-c", program]
    done = stack.run(command, stdin=password + b"\n")
    assert done.returncode == 0 or b"password authentication failed" in done.stderr
    return done.returncode == 0


def test_after_make_rotate_stored_data_can_be_read_and_the_old_secrets_open_nothing(
    stack: Installation, client: APIRequestContext, database: int
) -> None:
    old = stack.secrets()

    output = stack.made("rotate", "NAMES=all")

    assert "Delaywatch is up." in output
    assert not [name for name, secret in {**old, **stack.secrets()}.items() if secret.decode() in output]
    check(stack, client, database, old, "after-rotation")


def test_make_up_after_a_rotation_has_nothing_left_to_do(stack: Installation) -> None:
    before = stack.containers()

    output = stack.made("up")

    assert "rotation" not in output.lower()
    lasting = {name for name, container in before.items() if container.state == "running"}
    assert {name: stack.containers()[name].id for name in lasting} == {name: before[name].id for name in lasting}


def test_make_up_completes_a_rotation_that_was_killed(
    stack: Installation, client: APIRequestContext, database: int
) -> None:
    """Kill it when Postgres has the new passwords and Superset has not encrypted its data with the new key."""
    old = stack.secrets()
    rotating = start(stack, "make", "rotate", "NAMES=all")
    wait_until(lambda: state(stack, "superset-init") == "running", "superset-init has started", 600)
    os.killpg(rotating.pid, signal.SIGKILL)
    rotating.wait()
    code, _, message = stack.make("backup")
    assert code != 0
    assert "make up" in message

    stack.made("up")

    check(stack, client, database, old, "after-an-interrupted-rotation")


def test_no_generated_secret_is_in_docker_inspect_or_in_a_layer_of_an_image(stack: Installation) -> None:
    secrets = {name: secret.decode() for name, secret in stack.secrets().items()}
    containers = stack.containers()

    shown = {name: docker("inspect", container.id) for name, container in containers.items()}
    images = set(docker("inspect", "--format", "{{.Image}}", *(one.id for one in containers.values())).split())
    layers = "".join(docker("history", "--no-trunc", image) + docker("inspect", image) for image in images)

    assert shown.keys() >= {"setup", "postgres", "superset", "airflow-scheduler", "nginx"}
    for where, text in shown.items():
        assert [name for name, secret in secrets.items() if secret in text] == [], where
    assert [name for name, secret in secrets.items() if secret in layers] == []


def start(stack: Installation, *command: str) -> subprocess.Popen[bytes]:
    """Start a command in the clone, in a process group of its own, without waiting for its end."""
    return subprocess.Popen(
        command,
        cwd=stack.folder,
        env=stack.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def state(stack: Installation, service: str) -> str:
    container = stack.containers().get(service)
    return container.state if container else ""
