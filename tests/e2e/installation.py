"""A clone of this repository with its own Compose project and ports, used by the commands that a user types.

The clone has no .env and inherits no setting of the caller. It does not touch another stack on the same host.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import ssl
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import APIRequestContext

from tests.servers.startup import free_ports, wait_until

ROOT = Path(__file__).parents[2]
INSIDE = Path(__file__).parent / "inside"
FOREIGN = ("AIRFLOW_", "AWS_", "COMPOSE_", "DELAYWATCH_", "MAKE", "MFLAGS")
PROJECT_LABEL = "label=com.docker.compose.project="
NOT_ONE_OFF = "label=com.docker.compose.oneoff=False"  # without containers of `docker compose run`
YEAR = 2013  # of the demo
TIMEOUT_S = 900  # of a run of the DAG


@dataclass(frozen=True)
class Container:
    """The container of a service as `docker ps` shows it. Equality ignores the status, which has the age."""

    id: str
    state: str
    status: str = field(compare=False)
    ports: str

    @property
    def is_healthy(self) -> bool:
        return self.state == "running" and "(healthy)" in self.status


@dataclass(frozen=True)
class Installation:
    """The clone in `folder`, started as the Compose project `project`."""

    folder: Path
    project: str
    http_port: int
    https_port: int

    @classmethod
    def fresh(cls, folder: Path, project: str) -> Installation:
        """Copy this working tree with uncommitted changes, without ignored files, and choose two free ports."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name in filter(None, listed.split("\0")):
            if (source := ROOT / name).is_file():  # git lists a deleted file until the commit
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, folder / name)
        return cls(folder, project, *free_ports(2))

    @property
    def url(self) -> str:
        return f"https://localhost:{self.https_port}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every command of this installation, without settings of the caller."""
        ours = {
            "COMPOSE_PROJECT_NAME": self.project,
            "DELAYWATCH_EXPECTED_YEAR": "2013",  # the year of the demo, so that health does not depend on the date
            "DELAYWATCH_HTTP_PORT": str(self.http_port),
            "DELAYWATCH_HTTPS_PORT": str(self.https_port),
        }
        return {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)} | ours

    def run(
        self, command: Sequence[str], variables: Mapping[str, str] | None = None, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        environment = {**self.environment, **(variables or {})}
        return subprocess.run(command, cwd=self.folder, env=environment, input=stdin, capture_output=True, check=False)

    def make(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        """Run `make ...` and return the exit code, stdout and stderr."""
        done = self.run(["make", *arguments], variables)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def made(self, *arguments: str) -> str:
        """Run `make ...` and return stdout; the test fails if the command fails."""
        code, stdout, stderr = self.make(*arguments)
        assert code == 0, f"make {' '.join(arguments)} ended with {code}:\n{stdout}\n{stderr}"
        return stdout

    def compose(self, *arguments: str, stdin: bytes = b"") -> bytes:
        done = self.run(["docker", "compose", *arguments], stdin=stdin)
        assert done.returncode == 0, f"docker compose {' '.join(arguments)}: {done.stderr.decode()}"
        return done.stdout

    def remove(self) -> None:
        (self.folder / ".env").unlink(missing_ok=True)
        self.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5")

    # --- as Docker shows it

    def containers(self) -> dict[str, Container]:
        """Return the containers of the services, also those that have ended, by service."""
        fields = ('{{.Label "com.docker.compose.service"}}', "{{.ID}}", "{{.State}}", "{{.Status}}", "{{.Ports}}")
        listed = docker(
            *("ps", "--all", "--no-trunc", "--filter", PROJECT_LABEL + self.project, "--filter", NOT_ONE_OFF),
            *("--format", "\t".join(fields)),
        )
        return {name: Container(*rest) for name, *rest in (line.split("\t") for line in listed.splitlines())}

    def volumes(self) -> set[str]:
        return set(docker("volume", "ls", "--quiet", "--filter", PROJECT_LABEL + self.project).split())

    # --- contents

    def psql(self, database: str, query: str) -> list[dict[str, str]]:
        """Run a query as superuser inside the container of Postgres and return the rows as text."""
        command = ("psql", "--username=postgres", "--no-psqlrc", "--csv", f"--dbname={database}", "--command", query)
        return list(csv.DictReader(io.StringIO(self.compose("exec", "-T", "postgres", *command).decode())))

    def inside(self, program: str, service: str = "airflow-scheduler") -> Any:
        """Run a program of the folder `inside` with the Python of a service, and return the JSON that it prints."""
        source = (INSIDE / program).read_bytes()
        return json.loads(self.compose("exec", "-T", service, "python", "-", stdin=source))

    def secrets(self) -> dict[str, bytes]:
        """Return the generated secrets by name."""
        packed = self.compose("run", "--rm", "--no-deps", "-T", "setup", "python", "-m", "stack", "export")
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            files = {member.name: tar.extractfile(member) for member in tar}
        return {name: file.read() for name, file in files.items() if file}

    def fingerprints(self) -> dict[str, str]:
        """Return the hashes of the generated secrets by name."""
        return {name: hashlib.sha256(secret).hexdigest() for name, secret in self.secrets().items()}

    def password(self) -> str:
        """Return the password that `make password` prints."""
        return value_after(self.made("password"), "Password")

    def token(self) -> str:
        """Return the token of Jupyter that `make password` prints."""
        return value_after(self.made("password"), "Jupyter")

    def certificate(self) -> str:
        """Return the certificate that nginx sends to a browser, as PEM."""
        return ssl.get_server_certificate(("localhost", self.https_port))

    def rows(self) -> dict[str, str]:
        """Return the number of rows and a hash of all rows, by table of the warehouse."""
        listed = self.psql("warehouse", "SELECT tablename FROM pg_tables WHERE schemaname = 'flights' ORDER BY 1")
        tables = {}
        for table in [row["tablename"] for row in listed]:
            rows = self.psql("warehouse", f'SELECT t::text AS row FROM flights."{table}" t ORDER BY 1')
            text = "\n".join(row["row"] for row in rows)
            tables[table] = f"{len(rows)} rows, sha256 {hashlib.sha256(text.encode()).hexdigest()}"
        return tables


def value_after(output: str, title: str) -> str:
    (line,) = (line for line in output.splitlines() if line.startswith(title))
    return line.split()[1]


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout


# --- runs of the DAG --------------------------------------------------------------------------------------------------


def put_year(stack: Installation) -> None:
    """Write the year of the demo to bronze."""
    put = ("python", "-m", "utils", "bronze", "--year", str(YEAR), "--from", "/opt/delaywatch/2013.csv.gz")
    stack.compose("exec", "-T", "airflow-scheduler", *put)


def trigger(stack: Installation, run: str) -> None:
    conf = json.dumps({"year": YEAR})
    command = ("airflow", "dags", "trigger", "flight_anomalies", "--run-id", run, "--conf", conf)
    stack.compose("exec", "-T", "airflow-scheduler", *command)


def is_running(stack: Installation, run: str, task: str) -> bool:
    states = stack.psql("airflow", f"SELECT state FROM task_instance WHERE run_id = '{run}' AND task_id = '{task}'")
    return any(row["state"] == "running" for row in states)


def end_of(stack: Installation, run: str) -> str:
    def state() -> str:
        return stack.psql("airflow", f"SELECT state FROM dag_run WHERE run_id = '{run}'")[0]["state"]

    wait_until(lambda: state() in {"success", "failed"}, f"the run {run} has ended", TIMEOUT_S)
    return state()


def results(stack: Installation) -> dict[str, str]:
    """Return a hash of every table, except the table of runs."""
    return {table: rows for table, rows in stack.rows().items() if table != "runs"}


# --- logins -----------------------------------------------------------------------------------------------------------


def airflow_token(client: APIRequestContext, password: str, name: str = "admin") -> str:
    answer = client.post("/airflow/auth/token", data={"username": name, "password": password})
    assert answer.status == 201, answer.text()
    return str(answer.json()["access_token"])


def superset_credentials(password: str) -> dict[str, Any]:
    return {"username": "admin", "password": password, "provider": "db", "refresh": False}


def superset_token(client: APIRequestContext, password: str) -> str:
    answer = client.post("/api/v1/security/login", data=superset_credentials(password))
    assert answer.status == 200, answer.text()
    return str(answer.json()["access_token"])
