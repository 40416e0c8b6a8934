"""stack/postgres/health.sh on a real server that asks for passwords over TCP and not at its socket, as the image's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import sql
from tests.integration.stack.volumes import ROOT, Volumes
from tests.servers.listening import Server, listening_postgres

POSTGRES = ROOT / "stack/postgres"
LOGINS = {"airflow": "airflow", "superset": "superset", "warehouse": "delaywatch", "postgres": "postgres"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of this module's own that logs every statement, with a stand-in for `hostname` beside it."""
    with listening_postgres() as server:
        (server.folder / "bin").mkdir()
        (server.folder / "bin/hostname").write_text("#!/bin/sh\necho 127.0.0.1\n")
        (server.folder / "bin/hostname").chmod(0o755)
        sql(server.superuser, "ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()")
        yield server


@pytest.fixture
def volumes(server: Server, tmp_path: Path) -> Volumes:
    """A stack whose databases and logins the server has, made as the image makes them."""
    volumes = Volumes.make(tmp_path)
    volumes.setup()
    for database in ("airflow", "superset", "warehouse"):
        sql(server.superuser, f"DROP DATABASE IF EXISTS {database}", f"DROP ROLE IF EXISTS {LOGINS[database]}")
    script = (POSTGRES / "databases.sql").read_text().replace("/run/delaywatch", str(volumes.path("handed/postgres")))
    psql = ("psql", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--username=postgres", "--dbname=postgres")
    done = run(server, volumes, *psql, given=script)
    assert done.returncode == 0, done.stderr
    password = volumes.read("secrets/postgres_password")
    sql(server.superuser, f"ALTER ROLE postgres PASSWORD '{password}'")
    return volumes


def run(server: Server, volumes: Volumes, *command: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """A program as in Postgres' container: it finds the server's programs, socket and port."""
    own = {
        "PATH": f"{server.folder / 'bin'}:{server.programs}:{os.environ['PATH']}",
        "PGHOST": str(server.folder),
        "PGPORT": str(server.port),
        "DELAYWATCH_HANDED": str(volumes.path("handed/postgres")),
    }
    return subprocess.run(command, env=own, input=given, capture_output=True, text=True, check=False)


def health(server: Server, volumes: Volumes) -> tuple[int, str]:
    done = run(server, volumes, "bash", str(POSTGRES / "health.sh"))
    return done.returncode, done.stderr


def lets_in(server: Server, database: str, password: str) -> bool:
    return server.lets_in(LOGINS[database], password, database)


@pytest.mark.parametrize("database", ["postgres", "warehouse"])
def test_a_rotated_password_is_the_only_one_that_opens_its_database(
    server: Server, volumes: Volumes, database: str
) -> None:
    old = volumes.read(f"secrets/{database}_password")
    volumes.run(f"rotate {database}_password")
    assert lets_in(server, database, old)

    assert health(server, volumes) == (0, "")

    assert lets_in(server, database, volumes.read(f"secrets/{database}_password.next"))
    assert not lets_in(server, database, old)
    others = [name for name in LOGINS if name != database]
    assert [name for name in others if not lets_in(server, name, volumes.read(f"secrets/{name}_password"))] == []


def test_all_passwords_at_once_and_the_server_stays_healthy_to_the_end(server: Server, volumes: Volumes) -> None:
    volumes.run("rotate all")

    assert health(server, volumes) == (0, "")
    assert health(server, volumes) == (0, "")
    volumes.run("rotate --finish")

    assert health(server, volumes) == (0, "")
    assert [name for name in LOGINS if not lets_in(server, name, volumes.read(f"secrets/{name}_password"))] == []


def test_a_rotation_that_another_one_follows_takes_the_second_value_too(server: Server, volumes: Volumes) -> None:
    for _ in range(2):
        volumes.run("rotate airflow_password")
        assert health(server, volumes) == (0, "")
        volumes.run("rotate --finish")

    assert lets_in(server, "airflow", volumes.read("secrets/airflow_password"))


def test_no_password_stands_in_the_log_of_a_server_that_logs_every_statement(server: Server, volumes: Volumes) -> None:
    volumes.run("rotate all")
    health(server, volumes)
    volumes.run("rotate --finish")

    log = (server.folder / "log").read_text()

    assert "SELECT 1" in log
    assert [name for name in LOGINS if volumes.read(f"secrets/{name}_password") in log] == []


def test_a_wrong_password_that_nobody_rotates_is_told_and_not_set(server: Server, volumes: Volumes) -> None:
    """Such a database is of another installation."""
    old = volumes.read("secrets/airflow_password")
    volumes.run("rotate superset_password")
    volumes.path("handed/postgres/airflow_password").write_text("of-another-installation")

    code, said = health(server, volumes)

    assert code == 1
    assert said.startswith("Postgres does not know airflow with this password")
    assert said.count("\n") == 1
    assert lets_in(server, "airflow", old)
