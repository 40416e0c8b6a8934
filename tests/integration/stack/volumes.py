"""The mounts of the service `setup` as folders of a test, and its commands run on them in this process."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from stack.__main__ import FOLDERS, main
from stack.settings import SECRET

ROOT = Path(__file__).resolve().parents[3]
SERVICES = ("airflow", "backup", "health", "jupyter", "nginx", "postgres", "s3", "superset")
Snapshot = dict[str, tuple[bytes, int, int]]


class Outcome(NamedTuple):
    """What a person sees of one command."""

    code: int
    out: str
    err: str
    raw: bytes


@dataclass(frozen=True)
class Volumes:
    """A machine with enough memory and the mounts of docker-compose.yaml, below `root`."""

    root: Path

    @classmethod
    def make(cls, root: Path) -> Volumes:
        """Empty volumes, and a repository that has a form and no `.env`."""
        volumes = cls(root)
        for folder in (*FOLDERS, "state/postgres", "state/s3", *(f"handed/{service}" for service in SERVICES)):
            volumes.path(folder).mkdir(parents=True, exist_ok=True)
        volumes.path("project/.env.example").write_bytes((ROOT / ".env.example").read_bytes())
        volumes.path("meminfo").write_text("MemTotal:        8000000 kB\n")
        return volumes

    def path(self, name: str) -> Path:
        """A file or folder by its place below the mounts, such as handed/airflow/fernet_key."""
        return self.root / name

    def read(self, name: str) -> str:
        """The text of a file."""
        return self.path(name).read_text()

    def put(self, name: str, content: str | bytes) -> Path:
        """Write a file, with the folders above it."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def run(self, command: str, variables: Mapping[str, str] | None = None, stdin: bytes = b"") -> Outcome:
        """`python -m stack COMMAND` with these variables: secrets in `.env`, settings as Compose passes them."""
        variables = variables or {}
        secrets = {name: value for name, value in variables.items() if name in SECRET}
        if secrets:
            self.put("project/.env", "".join(f"{name}={quoted(value)}\n" for name, value in secrets.items()))
        environ = {name: value for name, value in variables.items() if name not in SECRET}
        places = [option for name in FOLDERS for option in (f"--{name}", str(self.path(name)))]
        raw, err = io.BytesIO(), io.StringIO()
        out = io.TextIOWrapper(raw, "utf-8", write_through=True)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _reading(stdin):
            code = main([*command.split(), *places, "--meminfo", str(self.path("meminfo"))], environ)
        return Outcome(code, raw.getvalue().decode(errors="replace"), err.getvalue(), raw.getvalue())

    def setup(self, **variables: str) -> Outcome:
        """One start; a refusal fails the test."""
        outcome = self.run("setup", variables)
        assert outcome.code == 0, outcome.err
        return outcome

    def refusal(self, **variables: str) -> str:
        """What a start that is refused says: one line on stderr, nothing on stdout, nothing handed over anew."""
        before = self.snapshot("handed")
        outcome = self.run("setup", variables)
        assert (outcome.code, outcome.out) == (1, "")
        assert outcome.err.endswith(".\n") or outcome.err.endswith("?\n"), outcome.err
        assert outcome.err.count("\n") == 1
        assert self.snapshot("handed") == before
        return outcome.err.removesuffix("\n")

    def handed(self) -> dict[str, set[str]]:
        """The names of the files of every service."""
        return {service: {path.name for path in self.path(f"handed/{service}").iterdir()} for service in SERVICES}

    def snapshot(self, *folders: str) -> Snapshot:
        """Content, time and identity of every file."""
        files = [path for folder in folders for path in sorted(self.path(folder).rglob("*")) if path.is_file()]
        return {
            str(path.relative_to(self.root)): (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino)
            for path in files
        }


def quoted(value: str) -> str:
    """A value as it can stand in `.env`."""
    escaped = value.replace("'", "\\'")
    return f"'{escaped}'"


@contextlib.contextmanager
def _reading(stdin: bytes) -> Iterator[None]:
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(stdin))
    try:
        yield
    finally:
        sys.stdin = before
