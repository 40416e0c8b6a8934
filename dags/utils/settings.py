"""Where the lake and the warehouse are, read once from the environment. The only reader of os.environ."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from utils.errors import DelaywatchError

CREDENTIALS = {
    "aws_access_key_id": "AWS_ACCESS_KEY_ID",
    "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "aws_session_token": "AWS_SESSION_TOKEN",
}


def cores() -> int:
    """How many processors this process may use; a container's or a user's limit counts where the system tells it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Settings:
    """Plain values that the steps of a run need; nothing here opens a connection.

    lake: `file:///folder` or `s3://bucket[/prefix]`. warehouse: `postgresql://user:password@host:5432/database`.
    aws_*: None leaves the choice to boto3 (instance profile, shared credentials file).
    """

    lake: str
    warehouse: str = field(repr=False)  # it may hold a password
    scratch: Path = Path(tempfile.gettempdir())
    threads: int = field(default_factory=cores)
    aws_endpoint_url: str | None = None
    aws_region: str | None = None
    aws_access_key_id: str | None = None
    aws_secret_access_key: str | None = field(default=None, repr=False)
    aws_session_token: str | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, **given: str | None) -> Settings:
        """Read the variables of `.env.example`; a value in `given` that is not None wins over its variable.

        Access key, secret key and session token belong together: a given access key comes with the given others alone.
        Raises DelaywatchError naming the variable that is missing or unreadable.
        """
        env = os.environ if environ is None else environ

        def value(name: str, variable: str) -> str | None:
            return given.get(name) or env.get(variable) or None

        required = {"lake": "DELAYWATCH_LAKE", "warehouse": "DELAYWATCH_WAREHOUSE"}
        for name, variable in required.items():
            if not value(name, variable) and name not in given:
                raise DelaywatchError(f"{variable} is not set; set it as .env.example shows, or pass --{name}.")
        threads = value("threads", "DELAYWATCH_THREADS") or str(cores())
        if not threads.isdigit() or int(threads) < 1:
            raise DelaywatchError(f"DELAYWATCH_THREADS is {threads!r}; set it to a whole number of 1 or more.")
        keys = {name: value(name, variable) for name, variable in CREDENTIALS.items()}
        if given.get("aws_access_key_id"):
            keys = {name: given.get(name) or None for name in CREDENTIALS}
        return cls(
            lake=value("lake", "DELAYWATCH_LAKE") or "",
            warehouse=value("warehouse", "DELAYWATCH_WAREHOUSE") or "",
            scratch=Path(env.get("DELAYWATCH_SCRATCH") or tempfile.gettempdir()),
            threads=int(threads),
            aws_endpoint_url=value("aws_endpoint_url", "AWS_ENDPOINT_URL"),
            aws_region=value("aws_region", "AWS_DEFAULT_REGION"),
            **keys,
        )
