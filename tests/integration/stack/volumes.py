"""The mounts of the service `setup` as folders of a test, and `python -m stack` on them in this process."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from stack.__main__ import FOLDERS, main
from stack.settings import SECRET

ROOT = Path(__file__).resolve().parents[3]
SERVICES = ("airflow", "backup", "health", "jupyter", "nginx", "postgres", "s3", "site", "superset")
Snapshot = dict[str, tuple[bytes, int, int]]


class Outcome(NamedTuple):
    """Exit code and output of a command. raw: stdout as bytes."""

    code: int
    out: str
    err: str
    raw: bytes


@dataclass(frozen=True)
class Volumes:
    """The mounts of docker-compose.yaml below `root`, on a host with enough memory."""

    root: Path

    @classmethod
    def make(cls, root: Path) -> Volumes:
        """Create empty volumes, and a repository that has an `.env.example` and no `.env`."""
        volumes = cls(root)
        for folder in (*FOLDERS, "state/postgres", "state/s3", *(f"handed/{service}" for service in SERVICES)):
            volumes.path(folder).mkdir(parents=True, exist_ok=True)
        volumes.put("project/.env.example", (ROOT / ".env.example").read_bytes())
        volumes.put("meminfo", "MemTotal:        8000000 kB\n")
        return volumes

    def path(self, name: str) -> Path:
        """Return a path below the mounts, such as handed/airflow/fernet_key."""
        return self.root / name

    def read(self, name: str) -> str:
        """Return the text of a file."""
        return self.path(name).read_text()

    def put(self, name: str, content: str | bytes) -> Path:
        """Write a file and create its folders."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def run(self, command: str, variables: Mapping[str, str] | None = None, stdin: bytes = b"") -> Outcome:
        """Run a command. Variables that are secrets are written to `.env`; Compose passes the others."""
        variables = variables or {}
        secrets = {name: value for name, value in variables.items() if name in SECRET}
        if secrets:
            self.put("project/.env", "".join(f"{name}={quoted(value)}\n" for name, value in secrets.items()))
        environ = {name: value for name, value in variables.items() if name not in SECRET}
        mounts = [option for name in FOLDERS for option in (f"--{name}", str(self.path(name)))]
        raw, err = io.BytesIO(), io.StringIO()
        out = io.TextIOWrapper(raw, "utf-8", write_through=True)
        given = io.TextIOWrapper(io.BytesIO(stdin))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), mock.patch.object(sys, "stdin", given):
            code = main([*command.split(), *mounts, "--meminfo", str(self.path("meminfo"))], environ)
        return Outcome(code, raw.getvalue().decode(errors="replace"), err.getvalue(), raw.getvalue())

    def setup(self, **variables: str) -> Outcome:
        """Run `setup`, which must succeed."""
        outcome = self.run("setup", variables)
        assert outcome.code == 0, outcome.err
        return outcome

    def refusal(self, **variables: str) -> str:
        """Run `setup`, which must fail with one line on stderr and write no service's file. Return the line."""
        before = self.snapshot("handed")
        outcome = self.run("setup", variables)
        assert (outcome.code, outcome.out) == (1, "")
        assert self.snapshot("handed") == before
        (line,) = outcome.err.splitlines()
        return line

    def snapshot(self, *folders: str) -> Snapshot:
        """Return content, time and inode of every file."""
        files = [path for folder in folders for path in sorted(self.path(folder).rglob("*")) if path.is_file()]
        return {
            str(path.relative_to(self.root)): (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino)
            for path in files
        }

    def holders(self, secret: str) -> set[str]:
        """Return the services' files that contain the text, such as jupyter/token."""
        files = {name.removeprefix("handed/"): content for name, (content, *_) in self.snapshot("handed").items()}
        return {name for name, content in files.items() if secret.encode() in content}


def quoted(value: str) -> str:
    """Return the value in single quotes, as `.env` needs it."""
    escaped = value.replace("'", "\\'")
    return f"'{escaped}'"
