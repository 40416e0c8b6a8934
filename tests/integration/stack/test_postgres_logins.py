"""stack/postgres on a real server, which asks for passwords over TCP and not at its socket, like the image's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import sql
from tests.integration.stack.volumes import ROOT, Volumes
from tests.servers.postgres import Server, running_server

POSTGRES = ROOT / "stack/postgres"
LOGINS = {"airflow": "airflow", "superset": "superset", "warehouse": "delaywatch", "postgres": "postgres"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Start a server that logs every statement."""
    with running_server(has_port=True) as server:
        sql(server.url, "ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()")
        yield server


@pytest.fixture
def volumes(server: Server, volumes: Volumes) -> Volumes:
    """Return a stack's volumes, with its databases and logins in the server, and a stand-in for `hostname -i`."""
    volumes.setup()
    volumes.put("bin/hostname", "#!/bin/sh\necho 127.0.0.1\n").chmod(0o755)
    for database in ("airflow", "superset", "warehouse"):
        sql(server.url, f"DROP DATABASE IF EXISTS {database}", f"DROP ROLE IF EXISTS {LOGINS[database]}")
    script = (POSTGRES / "databases.sql").read_text().replace("/run/delaywatch", str(volumes.path("handed/postgres")))
    psql = ("psql", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--username=postgres", "--dbname=postgres")
    created = run(server, volumes, *psql, stdin=script)
    assert created.returncode == 0, created.stderr
    sql(server.url, f"ALTER ROLE postgres PASSWORD '{volumes.read('secrets/postgres_password')}'")
    return volumes


def run(server: Server, volumes: Volumes, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program with the paths and variables that it has in the container of Postgres."""
    environ = {
        "PATH": f"{volumes.path('bin')}:{server.programs}:{os.environ['PATH']}",
        "PGHOST": str(server.data),
        "PGPORT": str(server.port),
        "DELAYWATCH_HANDED": str(volumes.path("handed/postgres")),
    }
    return subprocess.run(command, env=environ, input=stdin, capture_output=True, text=True, check=False)


def health(server: Server, volumes: Volumes) -> tuple[int, str]:
    ended = run(server, volumes, "bash", str(POSTGRES / "health.sh"))
    return ended.returncode, ended.stderr


def accepted(server: Server, volumes: Volumes, suffix: str = "") -> list[str]:
    """Return the databases that accept the password in the volume `secrets`."""
    passwords = {name: volumes.read(f"secrets/{name}_password{suffix}") for name in LOGINS}
    return [name for name in LOGINS if server.accepts(LOGINS[name], passwords[name], name)]


def test_after_a_rotation_postgres_accepts_only_the_new_passwords_and_logs_none(
    server: Server, volumes: Volumes
) -> None:
    volumes.run("rotate all")
    assert accepted(server, volumes) == list(LOGINS), "the old passwords work until the health check"

    assert health(server, volumes) == (0, "")
    assert accepted(server, volumes, ".next") == list(LOGINS)
    assert accepted(server, volumes) == []
    assert health(server, volumes) == (0, "")
    volumes.run("rotate --finish")
    assert health(server, volumes) == (0, "")
    assert accepted(server, volumes) == list(LOGINS)

    log = server.log.read_text()
    assert "SELECT 1" in log
    assert [name for name in LOGINS if volumes.read(f"secrets/{name}_password") in log] == []


def test_a_wrong_password_without_a_rotation_is_reported_and_not_set(server: Server, volumes: Volumes) -> None:
    volumes.run("rotate superset_password")
    volumes.path("handed/postgres/airflow_password").write_text("of-another-installation")

    code, output = health(server, volumes)

    assert code == 1
    assert "password of airflow" in output
    assert output.count("\n") == 1
    assert server.accepts("airflow", volumes.read("secrets/airflow_password"), "airflow")
