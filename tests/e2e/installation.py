"""A clone of this repository with a Compose project and ports of its own, driven by the commands that a user types.

It has no .env, and nothing of the caller's environment reaches it: what a test wants set, it says. The stack of a user
who works on the same host is not touched. What is asked of the stack over HTTPS is in the tests.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import socket
import ssl
import subprocess
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
INSIDE = Path(__file__).parent / "inside"
FOREIGN = ("AIRFLOW_", "AWS_", "COMPOSE_", "DELAYWATCH_", "MAKE", "MFLAGS")
OF = "label=com.docker.compose.project="
INNER_PORTS = (5432, 8080, 8088, 8333, 8888)
NOT_ONE_OFF = "label=com.docker.compose.oneoff=False"  # not those of `docker compose run`


@dataclass(frozen=True)
class Container:
    """One service's container as `docker ps` shows it; the same one a second later is equal, though its age is not."""

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
        """What `git clone` would give of this working tree, uncommitted changes too, and two free ports."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name in filter(None, listed.split("\0")):
            if (source := ROOT / name).is_file():  # one that was deleted is listed until that is committed
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, folder / name)
        return cls(folder, project, *free_ports(2))

    @property
    def url(self) -> str:
        return f"https://localhost:{self.https_port}"

    @property
    def environment(self) -> dict[str, str]:
        """Of every command: what makes it one of this installation's, and nothing of ours that could change it."""
        ours = {
            "COMPOSE_PROJECT_NAME": self.project,
            "DELAYWATCH_EXPECTED_YEAR": "2013",  # of the demo, else today's date would decide whether all is well
            "DELAYWATCH_HTTP_PORT": str(self.http_port),
            "DELAYWATCH_HTTPS_PORT": str(self.https_port),
        }
        return {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)} | ours

    def run(
        self, command: Sequence[str], variables: Mapping[str, str] | None = None, given: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        environment = {**self.environment, **(variables or {})}
        return subprocess.run(command, cwd=self.folder, env=environment, input=given, capture_output=True, check=False)

    def make(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        """`make ...`: its exit code, stdout and stderr."""
        done = self.run(["make", *arguments], variables)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def made(self, *arguments: str) -> str:
        """What `make ...` said on stdout, when it succeeds; else the test fails with all that was said."""
        code, said, complaint = self.make(*arguments)
        assert code == 0, f"make {' '.join(arguments)} ended with {code}:\n{said}\n{complaint}"
        return said

    def compose(self, *arguments: str, given: bytes = b"") -> bytes:
        done = self.run(["docker", "compose", *arguments], given=given)
        assert done.returncode == 0, f"docker compose {' '.join(arguments)}: {done.stderr.decode()}"
        return done.stdout

    def remove(self) -> None:
        (self.folder / ".env").unlink(missing_ok=True)
        self.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5")

    # --- what Docker has of it

    def containers(self) -> dict[str, Container]:
        """Its services' containers, those that ended too."""
        fields = ('{{.Label "com.docker.compose.service"}}', "{{.ID}}", "{{.State}}", "{{.Status}}", "{{.Ports}}")
        listed = docker(
            *("ps", "--all", "--no-trunc", "--filter", OF + self.project, "--filter", NOT_ONE_OFF),
            *("--format", "\t".join(fields)),
        )
        return {name: Container(*rest) for name, *rest in (line.split("\t") for line in listed.splitlines())}

    def volumes(self) -> set[str]:
        return set(docker("volume", "ls", "--quiet", "--filter", OF + self.project).split())

    # --- what is in it

    def psql(self, database: str, question: str) -> list[dict[str, str]]:
        """The rows of an answer as text, asked by Postgres' superuser inside its container."""
        command = ("psql", "--username=postgres", "--no-psqlrc", "--csv", f"--dbname={database}", "--command", question)
        return list(csv.DictReader(io.StringIO(self.compose("exec", "-T", "postgres", *command).decode())))

    def inside(self, program: str, service: str = "airflow-scheduler") -> Any:
        """Run a program of the folder `inside` with the Python of a service, and return the JSON that it prints."""
        source = (INSIDE / program).read_bytes()
        return json.loads(self.compose("exec", "-T", service, "python", "-", given=source))

    def secrets(self) -> dict[str, bytes]:
        """What `setup` keeps, by name."""
        packed = self.compose("run", "--rm", "--no-deps", "-T", "setup", "python", "-m", "stack", "export")
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            found = {member.name: tar.extractfile(member) for member in tar}
        return {name: file.read() for name, file in found.items() if file}

    def fingerprints(self) -> dict[str, str]:
        """What `setup` keeps, by name, in a form that may be shown."""
        return {name: hashlib.sha256(secret).hexdigest() for name, secret in self.secrets().items()}

    def password(self) -> str:
        """The password as `make password` shows it."""
        return shown(self.made("password"), "Password")

    def token(self) -> str:
        """Jupyter's token as `make password` shows it."""
        return shown(self.made("password"), "Jupyter")

    def certificate(self) -> str:
        """What nginx shows to a browser, as PEM."""
        return ssl.get_server_certificate(("localhost", self.https_port))

    def rows(self) -> dict[str, str]:
        """Every table of the warehouse: the number of its rows and a hash of all of them in order."""
        listed = self.psql("warehouse", "SELECT tablename FROM pg_tables WHERE schemaname = 'flights' ORDER BY 1")
        found = {}
        for table in [row["tablename"] for row in listed]:
            rows = self.psql("warehouse", f'SELECT t::text AS row FROM flights."{table}" t ORDER BY 1')
            text = "\n".join(row["row"] for row in rows)
            found[table] = f"{len(rows)} rows, sha256 {hashlib.sha256(text.encode()).hexdigest()}"
        return found


def shown(said: str, title: str) -> str:
    (line,) = (line for line in said.splitlines() if line.startswith(title))
    return line.split()[1]


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def answering() -> set[int]:
    """Which of the ports that the services have inside answer on this host."""
    found = set()
    for port in INNER_PORTS:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionRefusedError:
            continue
        found.add(port)
    return found


def wait_until(is_so: Callable[[], bool], what: str, patience_s: float = 60) -> None:
    """Return when it is so; the test fails, naming `what`, when patience ends; how long it took is not judged."""
    deadline = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline, f"waited {patience_s} s in vain: {what}"
        time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    """Ports of this host that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports
