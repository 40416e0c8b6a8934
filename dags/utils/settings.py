"""Where the lake and the warehouse are, read once from the environment."""

from __future__ import annotations

import os
import re
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
BTS_URL = "https://transtats.bts.gov/PREZIP"
KAGGLE_URL = "https://www.kaggle.com/api/v1"
_WEB_ADDRESS = re.compile(r"(?i:https?)://[^\s/?#@]+(?:/[^\s?#]*)?")
KAGGLE_TOKEN_FILE = Path("~/.kaggle/kaggle.json")  # where Kaggle's own programs look for it


def cores() -> int:
    """How many processors this process may use; a container's or a user's limit counts where the system tells it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_secret(path: Path, what: str) -> str:
    """The line that a file holds, for example a password that a container is handed as a file.

    Raises DelaywatchError, which calls the file `what`, when it cannot be read or does not hold one line.
    """
    try:
        line = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise DelaywatchError(
            f"{what} {path} cannot be read ({error.strerror}); correct its path or rights."
        ) from error
    except UnicodeDecodeError:  # it carries the secret
        raise DelaywatchError(f"{what} {path} is not UTF-8 text; write the file again.") from None
    if not line.strip():
        raise DelaywatchError(f"{what} {path} is empty; write one line into it.")
    if len(line.splitlines()) > 1:
        raise DelaywatchError(f"{what} {path} has more than one line; leave in it the one that counts.")
    return line


def web_address(variable: str, value: str) -> str:
    """Return the address without a slash at its end.

    Raises DelaywatchError for one that is no http(s) address, or that has a part which a longer address would lose.
    """
    if not _WEB_ADDRESS.fullmatch(value):
        shown = "cannot be used" if "@" in value else f"is {value!r}"  # a user in front of @ comes with a password
        raise DelaywatchError(f"{variable} {shown}; write https://host:port/path, without a user, ? and #.")
    return value.rstrip("/")


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
    bts_url: str = BTS_URL
    kaggle_url: str = KAGGLE_URL
    kaggle_token_file: Path = KAGGLE_TOKEN_FILE

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, **given: str | None) -> Settings:
        """Read the variables below; an empty one is an absent one. What is not None in `given` wins over its variable.

        | variable | what | when absent |
        |---|---|---|
        | DELAYWATCH_LAKE | root of the lake, `file:///folder` or `s3://bucket[/prefix]`; see `open_store` | an error |
        | DELAYWATCH_WAREHOUSE | `postgresql://user:password@host:5432/database` | DELAYWATCH_WAREHOUSE_FILE |
        | DELAYWATCH_WAREHOUSE_FILE | a file that holds this URL | an error where it is needed |
        | DELAYWATCH_SCRATCH | folder for files on their way into an S3 lake | the system's temporary folder |
        | DELAYWATCH_THREADS | worker threads | as many as there are cores |
        | AWS_ENDPOINT_URL | S3 that is not AWS, for example http://localhost:8333 | AWS_CONFIG_FILE, else AWS |
        | AWS_DEFAULT_REGION | region of the bucket | AWS_CONFIG_FILE |
        | AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN | credentials | boto3 looks for them |
        | DELAYWATCH_BTS_URL | folder of the Bureau's monthly zips, or of a mirror with the same names | the Bureau's |
        | DELAYWATCH_KAGGLE_URL | Kaggle's API | Kaggle's |
        | DELAYWATCH_KAGGLE_TOKEN_FILE | kaggle.json, or a file with an API token alone | ~/.kaggle/kaggle.json |

        Where this says nothing, boto3 decides by variables of its own (AWS_PROFILE, AWS_SHARED_CREDENTIALS_FILE,
        AWS_CONFIG_FILE, AWS_CA_BUNDLE), by ~/.aws and by the role of the machine. Access key, secret key and session
        token belong together: a given access key comes with the given others alone.
        Raises DelaywatchError naming the variable or the file that is missing or unreadable.
        """
        env = os.environ if environ is None else environ

        def value(name: str, variable: str) -> str | None:
            return given.get(name) or env.get(variable) or None

        warehouse, file = value("warehouse", "DELAYWATCH_WAREHOUSE"), env.get("DELAYWATCH_WAREHOUSE_FILE")
        if file and not warehouse:
            warehouse = read_secret(Path(file), "DELAYWATCH_WAREHOUSE_FILE").strip()
        found = {"lake": value("lake", "DELAYWATCH_LAKE"), "warehouse": warehouse}
        required = {"lake": "DELAYWATCH_LAKE", "warehouse": "DELAYWATCH_WAREHOUSE"}
        for name, variable in required.items():
            if not found[name] and name not in given:
                raise DelaywatchError(f"{variable} is not set; set it as .env.example shows, or pass --{name}.")
        endpoint = value("aws_endpoint_url", "AWS_ENDPOINT_URL")
        threads = value("threads", "DELAYWATCH_THREADS") or str(cores())
        if not threads.isdigit() or int(threads) < 1:
            raise DelaywatchError(f"DELAYWATCH_THREADS is {threads!r}; set it to a whole number of 1 or more.")
        keys = {name: value(name, variable) for name, variable in CREDENTIALS.items()}
        if given.get("aws_access_key_id"):
            keys = {name: given.get(name) or None for name in CREDENTIALS}
        return cls(
            lake=found["lake"] or "",
            warehouse=found["warehouse"] or "",
            scratch=Path(env.get("DELAYWATCH_SCRATCH") or tempfile.gettempdir()),
            threads=int(threads),
            aws_endpoint_url=web_address("AWS_ENDPOINT_URL", endpoint) if endpoint else None,
            aws_region=value("aws_region", "AWS_DEFAULT_REGION"),
            **keys,
            bts_url=web_address("DELAYWATCH_BTS_URL", env.get("DELAYWATCH_BTS_URL") or BTS_URL),
            kaggle_url=web_address("DELAYWATCH_KAGGLE_URL", env.get("DELAYWATCH_KAGGLE_URL") or KAGGLE_URL),
            kaggle_token_file=Path(env.get("DELAYWATCH_KAGGLE_TOKEN_FILE") or KAGGLE_TOKEN_FILE),
        )
