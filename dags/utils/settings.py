"""Where the lake and the warehouse are, read once from the environment. The only reader of os.environ."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from utils.errors import DelaywatchError

CREDENTIALS = {
    "aws_access_key_id": "AWS_ACCESS_KEY_ID",
    "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "aws_session_token": "AWS_SESSION_TOKEN",
}
BTS_URL = "https://transtats.bts.gov/PREZIP"
KAGGLE_URL = "https://www.kaggle.com/api/v1"
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
        raise DelaywatchError(f"{what} {path} is not UTF-8 text; write it anew.") from None
    if not line.strip():
        raise DelaywatchError(f"{what} {path} is empty; write one line into it.")
    if len(line.splitlines()) > 1:
        raise DelaywatchError(f"{what} {path} has more than one line; leave in it the one that counts.")
    return line


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
        | DELAYWATCH_LAKE | root of the lake, `file:///folder` or `s3://bucket[/prefix]` | an error |
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
            aws_endpoint_url=value("aws_endpoint_url", "AWS_ENDPOINT_URL"),
            aws_region=value("aws_region", "AWS_DEFAULT_REGION"),
            **keys,
            bts_url=(env.get("DELAYWATCH_BTS_URL") or BTS_URL).rstrip("/"),
            kaggle_url=(env.get("DELAYWATCH_KAGGLE_URL") or KAGGLE_URL).rstrip("/"),
            kaggle_token_file=Path(env.get("DELAYWATCH_KAGGLE_TOKEN_FILE") or KAGGLE_TOKEN_FILE).expanduser(),
        )


@dataclass(frozen=True)
class AlertSettings:
    """Where messages go; nobody is told of anything while there is neither a recipient nor a webhook.

    recipients: e-mail addresses. smtp: `smtp://[user:password@]host[:port]`, which encrypts where the server offers it
    and never sends a password without, or `smtps://...`, encrypted from the first byte. webhook: a URL that takes what
    Slack takes.
    """

    recipients: tuple[str, ...] = ()
    sender: str | None = None  # None: the login at the mail server where that is an address, else the first recipient
    smtp: str | None = field(default=None, repr=False)
    webhook: str | None = field(default=None, repr=False)

    @property
    def is_configured(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self.recipients or self.webhook)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, **given: str | None) -> AlertSettings:
        """Read the variables below; none is needed. What is not None in `given` wins over its variable.

        | variable | what |
        |---|---|
        | DELAYWATCH_ALERT_EMAIL | recipients, separated by commas |
        | DELAYWATCH_ALERT_FROM | the sender's address |
        | DELAYWATCH_SMTP, or DELAYWATCH_SMTP_FILE | the mail server's URL, or a file that holds it |
        | DELAYWATCH_ALERT_WEBHOOK, or DELAYWATCH_ALERT_WEBHOOK_FILE | the URL to post to, or a file that holds it |

        An empty file is an absent one, so that whoever hands files out need not know who reads them.
        Raises DelaywatchError for recipients without a mail server, and for an address or URL that is none.
        """
        env = os.environ if environ is None else environ

        def secret(name: str, variable: str) -> str | None:
            file = Path(env.get(f"{variable}_FILE") or os.devnull)
            if found := given.get(name) or env.get(variable):
                return found
            is_empty = file == Path(os.devnull) or (file.is_file() and not file.stat().st_size)
            return None if is_empty else read_secret(file, f"{variable}_FILE").strip()

        asked = given.get("recipients") or env.get("DELAYWATCH_ALERT_EMAIL") or ""
        recipients = tuple(address.strip() for address in asked.split(",") if address.strip())
        sender = given.get("sender") or env.get("DELAYWATCH_ALERT_FROM") or None
        for address in (*recipients, *([sender] if sender else [])):
            if not re.fullmatch(r"[!-?A-~]+@[!-?A-~]+", address):
                raise DelaywatchError(
                    f"{address!r} is no e-mail address; correct DELAYWATCH_ALERT_EMAIL and DELAYWATCH_ALERT_FROM."
                )
        smtp, webhook = secret("smtp", "DELAYWATCH_SMTP"), secret("webhook", "DELAYWATCH_ALERT_WEBHOOK")
        if recipients and not smtp:
            raise DelaywatchError(
                "DELAYWATCH_ALERT_EMAIL names recipients, but there is no mail server; set DELAYWATCH_SMTP."
            )
        if smtp and not _is_url(smtp, "smtp", "smtps"):
            raise DelaywatchError("DELAYWATCH_SMTP cannot be used; write smtp://user:password@host:587, or smtps://.")
        # A blank in it would come back in an error of Python's that shows the path, which is the secret.
        if webhook and (not _is_url(webhook, "https", "http") or re.search(r"[\x00-\x20\x7f]", webhook)):
            raise DelaywatchError("DELAYWATCH_ALERT_WEBHOOK cannot be used; write the whole https:// address.")
        return cls(recipients, sender, smtp, webhook)


@dataclass(frozen=True)
class WatchSettings:
    """What `health` looks at beside lake and warehouse, and what `sweep` may remove; None: not looked at, or kept.

    certificate: PEM file of the edge. log_folder: Airflow's logs of tasks. airflow_database: URL of Airflow's own
    database. expected_year: whose bronze must be there, None for the last one that is complete. keep_*: how much
    of each `sweep` leaves.
    """

    certificate: Path | None = None
    log_folder: Path | None = None
    airflow_database: str | None = field(default=None, repr=False)
    expected_year: int | None = None
    keep_logs_days: int | None = None
    keep_plots_years: int | None = None
    keep_silver_years: int | None = None

    @property
    def removes_anything(self) -> bool:
        """Whether `sweep` may ever remove anything."""
        return bool(self.keep_logs_days or self.keep_plots_years or self.keep_silver_years)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> WatchSettings:
        """Read the variables below; none is needed, and without the last three nothing is ever removed.

        | variable | what |
        |---|---|
        | DELAYWATCH_CERTIFICATE | PEM file whose days are counted |
        | DELAYWATCH_LOG_FOLDER | folder of Airflow's logs |
        | DELAYWATCH_AIRFLOW_DATABASE_FILE | a file with the URL of Airflow's Postgres |
        | DELAYWATCH_EXPECTED_YEAR | the year whose bronze must be there; empty: the last complete one |
        | DELAYWATCH_KEEP_LOGS_DAYS | logs that were written to within so many days stay |
        | DELAYWATCH_KEEP_PLOTS_YEARS | pictures and pages of the newest so many years stay |
        | DELAYWATCH_KEEP_SILVER_YEARS | flights in silver of the newest so many years stay |

        Raises DelaywatchError naming the variable that is not a whole number from 1 on, or the unreadable file.
        """
        env = os.environ if environ is None else environ

        def path(variable: str) -> Path | None:
            return Path(env[variable]) if env.get(variable) else None

        def number(variable: str) -> int | None:
            given = env.get(variable) or ""
            if given and not (re.fullmatch(r"[0-9]{1,6}", given) and int(given)):
                raise DelaywatchError(f"{variable} is {given!r}; set it to a whole number from 1 on, or to nothing.")
            return int(given) if given else None

        database = path("DELAYWATCH_AIRFLOW_DATABASE_FILE")
        return cls(
            certificate=path("DELAYWATCH_CERTIFICATE"),
            log_folder=path("DELAYWATCH_LOG_FOLDER"),
            airflow_database=read_secret(database, "DELAYWATCH_AIRFLOW_DATABASE_FILE").strip() if database else None,
            expected_year=number("DELAYWATCH_EXPECTED_YEAR"),
            keep_logs_days=number("DELAYWATCH_KEEP_LOGS_DAYS"),
            keep_plots_years=number("DELAYWATCH_KEEP_PLOTS_YEARS"),
            keep_silver_years=number("DELAYWATCH_KEEP_SILVER_YEARS"),
        )


def _is_url(value: str, *schemes: str) -> bool:
    """Whether it is a URL of one of the schemes that names a host, and a port only if that is one."""
    try:
        parts = urlsplit(value)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0 and value.isascii()
    except ValueError:
        return False
