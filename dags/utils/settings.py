"""All settings: variable, type, validation rule, help text, and whether the value is a secret.

Each of three models is read separately, so that an invalid mail address does not stop a run: `Settings` (lake and
warehouse), `AlertSettings` (notifications), `WatchSettings` (health and retention). `EnvFile` has all variables of
`.env`; `stack/settings.py` checks their combinations. This module opens no connection.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.sources.utils import parse_env_vars
from typing_extensions import override

from utils.errors import InvalidInput, Missing, cannot_read, printable

CREDENTIALS = {
    "aws_access_key_id": "AWS_ACCESS_KEY_ID",
    "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "aws_session_token": "AWS_SESSION_TOKEN",
}
BTS_URL = "https://transtats.bts.gov/PREZIP"
KAGGLE_URL = "https://www.kaggle.com/api/v1"
KAGGLE_TOKEN_FILE = Path("~/.kaggle/kaggle.json")  # the default path of Kaggle's own tools
CHANNEL_PREFIX = "DELAYWATCH_CHANNEL_"  # of the variables with the URLs of subscribers
URL_HINT = "write the full https:// URL, without a user and #"
MIN_PASSWORD_LENGTH = 12
MIN_RUN_DAYS = 200
MAX_SHOWN_LENGTH = 80  # characters of a value in an error message
EXAMPLES = {
    "lake": "file:///home/me/lake or s3://bucket/prefix",
    "warehouse": "postgresql://user:password@host:5432/database",
    "key": "64 random letters and digits",
}  # for settings without a default
MAIL_ADDRESSES = {"recipients", "sender", "email"}  # an @ in any other value may follow a password


def cores() -> int:
    """Return the number of CPUs in this process's affinity, or of all CPUs if the system does not report it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_secret(path: Path, what: str, *, may_be_empty: bool = False) -> str:
    """Return the single line of a file with a secret, such as a password that a container gets as a file.

    what: name of the file in errors. Raises Missing if the file does not exist, InvalidInput if this user may not read
    it or it is not one line, Unavailable if the disk fails.
    """
    try:
        line = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise cannot_read(path, error, what) from error
    except UnicodeDecodeError:  # it contains the secret
        raise InvalidInput(f"{what} {path} is not UTF-8 text; save it in UTF-8.") from None
    if not line.strip() and not may_be_empty:
        raise InvalidInput(f"{what} {path} is empty; write one line into it.")
    if len(line.splitlines()) > 1:
        raise InvalidInput(f"{what} {path} has more than one line; remove the other lines.")
    return line


def channel_url(name: str, environ: Mapping[str, str] | None = None) -> str:
    """Return the URL of a channel of dags/subscriptions.yaml: DELAYWATCH_CHANNEL_NAME, else the line of its _FILE.

    name: lower case. Raises InvalidInput or Missing, without the URL, if there is no valid one.
    """
    variables = os.environ if environ is None else environ
    variable = f"{CHANNEL_PREFIX}{name.upper()}"
    url = variables.get(variable)
    if not url and (file := variables.get(f"{variable}_FILE")):
        url = read_secret(Path(file), f"{variable}_FILE").strip()
    if not url:
        raise Missing(
            f"The channel {name} has no URL; set {variable}, or create the connection {name} in Airflow, which only "
            "runs of the DAGs read."
        )
    return checked_webhook(url, variable)


def checked_webhook(url: str, place: str) -> str:
    """Return the URL of a webhook. place: its setting, for the error. Raises InvalidInput, without the URL."""
    if not _is_webhook(url):
        raise InvalidInput(f"{place} cannot be used; {URL_HINT}.")
    return url


# --- rules for one value; each raises ValueError with a hint -----------------------------------------------------

# User, password and database of a URL: delimiters must be percent-encoded.
_PART = r"(?:[^\s@:/?#%\[\]]|%[0-9A-Fa-f]{2})+"
# User and password of a mail server are also decoded to text, so the bytes must be valid UTF-8.
_MAIL_PART = r"(?:[^\s@:/?#%\[\]]|%[0-7][0-9A-Fa-f]|(?:%[89A-Fa-f][0-9A-Fa-f])+)+"
_POSTGRES = re.compile(
    rf"postgresql://{_PART}:{_PART}@(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d+))?/{_PART}(?:\?[^#\s]*)?"
)
_S3 = r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/[^\s$%?#\\]*)?"
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")  # names of compose services may contain _
_MAIL = r"[!-+\--?A-~]+@[!-+\--?A-~]+"  # without a comma, which separates addresses


def _rule(accepts: Callable[[str], object], hint: str) -> AfterValidator:
    """Return a rule for text. accepts: predicate of a valid value. hint: the error, which says what to write."""

    def check(value: str) -> str:
        if not accepts(value):
            raise ValueError(hint)
        return value

    return AfterValidator(check)


def _number(accepts: Callable[[str], object], hint: str) -> BeforeValidator:
    """Return a rule for the text of an integer. Without it, pydantic also accepts 1.0, 1_000 and blanks."""

    def check(value: object) -> int:
        if not accepts(str(value)):
            raise ValueError(hint)
        return int(str(value))

    return BeforeValidator(check)


def _matches(pattern: str) -> Callable[[str], object]:
    return re.compile(pattern).fullmatch


def _is_port(value: str) -> bool:
    return re.fullmatch(r"[0-9]{1,5}", value) is not None and 1 <= int(value) <= 65535


def _bare(host: str) -> str:
    """Return the host without the brackets around an IPv6 address."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(_bare(value))
    except ValueError:
        return False
    return (":" in value) == (value != _bare(value))


def _is_host(value: str) -> bool:
    labels = value.split(".")
    is_name = len(value) <= 253 and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()
    return is_name or _is_address(value)


def _is_network(value: str) -> bool:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        return False
    return True


def _is_url(value: str, *schemes: str) -> bool:
    """Return True for a URL with one of the schemes, a valid host, a valid or no port, and no user."""
    try:
        parts = urlsplit(value)
        is_port_valid = parts.port != 0
    except ValueError:
        return False
    has_host = parts.scheme in schemes and _is_host(parts.netloc.removesuffix(f":{parts.port}"))
    return value.isascii() and is_port_valid and has_host and not re.search(r"\s", value)


def _is_web(value: str) -> bool:
    """Return True for a URL to which a path can be appended, so without query and fragment."""
    return not re.search("[?#]", value) and _is_url(value, "http", "https")


def _is_webhook(value: str) -> bool:
    return "#" not in value and _is_url(value, "http", "https")


def _is_mail_server(value: str) -> bool:
    scheme, _, rest = value.partition("://")
    login, _, place = rest.rpartition("@")
    is_login_valid = not login or re.fullmatch(rf"{_MAIL_PART}:{_MAIL_PART}", login) is not None
    is_place_valid = not re.search("[/?#]", place.removesuffix("/")) and _is_url(f"{scheme}://{place}", "smtp", "smtps")
    return is_login_valid and is_place_valid


def _is_postgres(value: str) -> bool:
    match = _POSTGRES.fullmatch(value)
    return match is not None and (match["port"] is None or _is_port(match["port"]))


def _is_kaggle_token(value: str) -> bool:
    if re.fullmatch(r"[\w.~+/=-]+", value):
        return True
    try:
        token = json.loads(value)
    except ValueError:
        return False
    return isinstance(token, dict) and {"username", "key"} <= token.keys()


def _addresses(value: object) -> object:
    """Split the text at commas."""
    if not isinstance(value, str):
        return value
    addresses = tuple(address.strip() for address in value.split(",") if address.strip())
    if not addresses or not all(re.fullmatch(_MAIL, address) for address in addresses):
        raise ValueError("write e-mail addresses, separated by commas")
    return addresses


def _object(value: object) -> object:
    """Parse the text as a JSON object."""
    hint = 'write a JSON object in single quotes, such as {"region_name": "eu-central-1"}'
    try:
        parsed = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError(hint) from None
    if not isinstance(parsed, dict):
        raise ValueError(hint)
    return parsed


_POSTGRES_HINT = (
    "write postgresql://user:password@host:5432/database, with @ : / ? # % in the password as %40 %3A %2F %3F %23 %25"
)
_S3_HINT = "write s3://bucket/prefix, without $ % ? # and blanks"
_MAIL_SERVER_HINT = (
    "write smtp://user:password@host:587 or smtps://user:password@host, with @ : / ? # % in user and password as %40 "
    "%3A %2F %3F %23 %25"
)
_PASSWORD_HINT = f"write {MIN_PASSWORD_LENGTH} characters or more"
Web = Annotated[
    str,
    _rule(_is_web, "write https://host:port/path, without a user, ? and #"),
    AfterValidator(lambda url: url.rstrip("/")),
]
Endpoint = Annotated[
    Web, _rule(lambda url: "_" not in urlsplit(url).netloc, "write a host name without _, which boto3 refuses")
]
Webhook = Annotated[str, _rule(_is_webhook, URL_HINT)]
MailServer = Annotated[str, _rule(_is_mail_server, _MAIL_SERVER_HINT)]
Address = Annotated[str, _rule(_matches(_MAIL), "write one e-mail address")]
Addresses = Annotated[tuple[str, ...], BeforeValidator(_addresses)]
Postgres = Annotated[str, _rule(_is_postgres, _POSTGRES_HINT)]
S3 = Annotated[str, _rule(_matches(_S3), _S3_HINT)]
Password = Annotated[str, _rule(lambda value: len(value) >= MIN_PASSWORD_LENGTH, _PASSWORD_HINT)]
Word = Annotated[str, _rule(_matches(r"\S+"), "write it without spaces")]
Port = Annotated[int, _number(_is_port, "write a number from 1 to 65535")]
Count = Annotated[int, _number(_matches("[1-9][0-9]{0,5}"), "write a whole number of 1 or more")]
RunDays = Annotated[
    int,
    _number(
        lambda value: re.fullmatch("[1-9][0-9]{0,5}", value) and int(value) >= MIN_RUN_DAYS,
        f"write a whole number of {MIN_RUN_DAYS} or more, because a run may wait for its file for 180 days",
    ),
]
Region = Annotated[str, _rule(_matches("[a-z0-9-]+"), "write a region such as eu-central-1")]
Switch = Annotated[
    str, _rule(_matches("[01]"), "write 1 to run the local object store, or 0 for a lake and a warehouse elsewhere")
]
OnOff = Annotated[int, _number(_matches("[01]"), "write 1 for on, or 0 for off")]
Host = Annotated[
    str,
    _rule(
        lambda host: "_" not in host and _is_host(host),
        "write only the host name (letters, digits, - and .) or IP address, without https:// or port; IPv6 in brackets",
    ),
    AfterValidator(lambda host: _bare(host).lower()),
]
Bind = Annotated[str, _rule(_is_address, "write an IP address of this machine, IPv6 in brackets; 0.0.0.0 means all")]
Network = Annotated[str, _rule(_is_network, "write an IP address or a network such as 10.0.0.0/23")]
Contact = Annotated[str, _rule(_matches(r"[^\s@]+@[^\s@]+"), "write an e-mail address")]
JobName = Annotated[
    str, _rule(_matches(r"[A-Za-z0-9_.-]{1,255}"), "write the name of the Glue job: letters, digits, _, . and -")
]
ClassName = Annotated[
    str, _rule(_matches(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+"), "write the full name of the backend's class")
]
JsonObject = Annotated[dict[str, Any], BeforeValidator(_object)]
KaggleToken = Annotated[
    str, _rule(_is_kaggle_token, "write the API token, one word, or the line in kaggle.json in single quotes")
]
Place = Annotated[
    str,
    _rule(
        _matches(rf"{_S3}|/[^\\]*[^\\/]"),
        "write s3://bucket/prefix, or the absolute path of a folder of this host, such as /mnt/backups",
    ),
]
EngineName = Annotated[str, _rule(_matches("threads|spark"), "write threads or spark")]
UserId = Annotated[int, _number(_matches("[0-9]{1,9}"), "write the number that `id -u` prints")]
Year = Annotated[int, _number(_matches("(?:19|20)[0-9]{2}|2100"), "write a year such as 2018")]


# --- the model --------------------------------------------------------------------------------------------------------


def variable(name: str, help: str = "", *, is_secret: bool = False, default: Any = None) -> Any:  # noqa: A002
    """Declare a variable. help: its comment in .env.example; empty if the previous variable's comment covers it."""
    return Field(default, validation_alias=name, description=help, repr=not is_secret)


def variable_of(field: FieldInfo) -> str:
    """Return the name of the field's variable."""
    return str(field.validation_alias)


def is_secret(field: FieldInfo) -> bool:
    """Return True if the value must not appear in messages, logs or representations."""
    return not field.repr


class _Variables(EnvSettingsSource):
    """Read the environment variables. If a secret NAME has no value, use the path in NAME_FILE."""

    @override
    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[str | Path | None, str, bool]:
        name = variable_of(field)
        value = self.env_vars.get(name)
        file = self.env_vars.get(f"{name}_FILE") if is_secret(field) else None
        return (Path(file) if file and not value else value), name, False


class _Model(BaseSettings):
    """Base class of the models. The constructor takes values by attribute and does not read the environment."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        case_sensitive=True,
        env_ignore_empty=True,
        enable_decoding=False,  # our rules parse lists and objects
        hide_input_in_errors=True,  # otherwise pydantic's errors contain the values, including secrets
        validate_by_name=True,
        validate_by_alias=True,
    )

    @classmethod
    @override
    def settings_customise_sources(cls, *_: Any, **sources: Any) -> tuple[PydanticBaseSettingsSource, ...]:
        return (sources["init_settings"],)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, **given: str | None) -> Self:
        """Read the variables; an empty variable counts as absent. given: overrides by attribute; None is ignored.

        A required variable may be absent if it is a key of `given`, even with None. Raises InvalidInput with all
        faults: the variable, its value unless it may be secret, and what to write.
        """
        source = _Variables(cls)
        if environ is not None:
            source.env_vars = parse_env_vars(environ, case_sensitive=True, ignore_empty=True)
        optional = {variable_of(cls.model_fields[name]): "" for name in given if cls.model_fields[name].is_required()}
        overlaid = {variable_of(cls.model_fields[name]): value for name, value in given.items() if value}
        values = {**optional, **source(), **overlaid}
        try:
            settings = cls(**values)
        except ValidationError as error:
            faults = list(cls._faults(error, values))
        else:
            faults = list(settings.contradictions())
        if faults:  # outside `except`, so that pydantic's error does not become the context
            raise InvalidInput(" ".join(faults))
        return settings

    def contradictions(self) -> Iterator[str]:
        """Yield a sentence for each pair of conflicting values."""
        yield from ()

    def replace(self, **changes: Any) -> Self:
        """Return a validated copy with these values."""
        return type(self)(**{**dict(self), **changes})

    @field_validator("*", mode="before")
    @classmethod
    def _read_text(cls, value: object, info: ValidationInfo) -> object:
        """Refuse control characters, and replace the path of a secret's file with the file's line.

        An empty file counts as absent if the secret is optional, so that `setup` can always mount every file.
        """
        field = cls.model_fields[str(info.field_name)]
        if isinstance(value, Path) and is_secret(field):
            try:
                value = read_secret(value, f"{variable_of(field)}_FILE", may_be_empty=not field.is_required()).strip()
            except (InvalidInput, Missing) as error:
                raise ValueError(str(error).removesuffix(".")) from None
            value = value or None
        if isinstance(value, str) and (printable(value) != value or re.search(r"[\n\t]", value)):
            raise ValueError("write it on one line, without control characters")
        return value

    @classmethod
    def _faults(cls, error: ValidationError, values: Mapping[str, object]) -> Iterator[str]:
        """Yield a sentence for each variable that pydantic refused."""
        fields = {variable_of(field): (name, field) for name, field in cls.model_fields.items()}
        for fault in error.errors(include_input=False):
            variable = str(fault["loc"][0])
            name, field = fields[variable]
            if fault["type"] == "missing":
                yield f"{variable} is not set; export it ({EXAMPLES[name]}), or pass --{name}."
                continue
            value = str(values[variable])
            may_have_login = "@" in value and name not in MAIL_ADDRESSES
            is_hidden = is_secret(field) or may_have_login or len(value) > MAX_SHOWN_LENGTH
            shown = "cannot be used" if is_hidden else f"is {value!r}"
            yield f"{variable} {shown}; {fault['msg'].removeprefix('Value error, ')}."


class Settings(_Model):
    """Settings of a run's steps: lake, warehouse, downloads. With None for an AWS variable, boto3 chooses the value.

    boto3 also reads AWS_PROFILE, AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE and AWS_CA_BUNDLE, ~/.aws, and the role
    of the machine.
    """

    warehouse: str = variable(
        "DELAYWATCH_WAREHOUSE",
        "A warehouse outside the stack, such as RDS: postgresql://user:password@host:5432/database; the user must be "
        "allowed to create schemas and roles.",
        is_secret=True,
        default=...,
    )
    aws_access_key_id: Word | None = variable(
        "AWS_ACCESS_KEY_ID",
        "Keys of the bucket. Empty with a bucket on AWS: the role of the machine is used; containers reach it if the "
        "hop limit of the machine's metadata service is 2.",
        is_secret=True,
    )
    aws_secret_access_key: Word | None = variable("AWS_SECRET_ACCESS_KEY", is_secret=True)
    aws_session_token: Word | None = variable("AWS_SESSION_TOKEN", is_secret=True)
    lake: str = variable("DELAYWATCH_LAKE", "s3://bucket[/prefix], without $ % ? # and blanks", default=...)
    aws_region: Region | None = variable("AWS_DEFAULT_REGION")
    aws_endpoint_url: Endpoint | None = variable(
        "AWS_ENDPOINT_URL", "Only for a store that is not AWS: http://host:port"
    )
    scratch: Path = variable("DELAYWATCH_SCRATCH", "", default=Path(tempfile.gettempdir()))
    threads: Count = Field(
        default_factory=cores,
        validation_alias="DELAYWATCH_THREADS",
        description="Worker threads of a task. Empty: one per core.",
    )
    engine: EngineName = variable("DELAYWATCH_ENGINE", default="threads")
    silver_job: JobName | None = variable(
        "DELAYWATCH_SILVER_JOB",
        "Name of an AWS Glue job that runs the step silver in the DAG, see infra-notes/spark.md; the lake must be in a "
        "bucket on AWS. Empty: the step runs in Airflow.",
    )
    monthly: OnOff = variable(
        "DELAYWATCH_MONTHLY",
        "1: the DAG fetch_bronze fetches each month when the Bureau has published it and starts flight_anomalies, "
        "which then has no schedule of its own. Empty or 0: once a year.",
        default=0,
    )
    bts_url: Web = variable(
        "DELAYWATCH_BTS_URL",
        "URL of the Bureau's folder of monthly zips, or of a mirror. Empty: the Bureau's own.",
        default=BTS_URL,
    )
    kaggle_url: Web = variable(
        "DELAYWATCH_KAGGLE_URL",
        "URL of Kaggle's API, and the token from kaggle.com, Settings, API: one word, or the line in kaggle.json in "
        "single quotes.",
        default=KAGGLE_URL,
    )
    kaggle_token_file: Path = variable("DELAYWATCH_KAGGLE_TOKEN_FILE", default=KAGGLE_TOKEN_FILE)

    @classmethod
    @override
    def from_environment(cls, environ: Mapping[str, str] | None = None, **given: str | None) -> Self:
        """Extend the base method: if `given` has an access key, ignore all AWS credentials of the environment."""
        if given.get("aws_access_key_id"):
            own = CREDENTIALS.values()
            variables = os.environ if environ is None else environ
            environ = {name: value for name, value in variables.items() if name.removesuffix("_FILE") not in own}
        return super().from_environment(environ, **given)


class AlertSettings(_Model):
    """Recipients of notifications. Without a recipient and a webhook, no notification is sent."""

    recipients: Addresses = variable(
        "DELAYWATCH_ALERT_EMAIL",
        "Recipients of mail about failed runs and new findings, separated by commas, and the sender.",
        default=(),
    )
    sender: Address | None = variable("DELAYWATCH_ALERT_FROM")  # None: the login at the server, or the first recipient
    smtp: MailServer | None = variable(
        "DELAYWATCH_SMTP",
        "smtp://user:password@host:587, encrypted if the server offers it, or smtps://user:password@host, with "
        "@ : / ? # % in user and password as %40 %3A %2F %3F %23 %25",
        is_secret=True,
    )
    webhook: Webhook | None = variable(
        "DELAYWATCH_ALERT_WEBHOOK",
        "A URL that accepts the messages of Slack's incoming webhooks.",
        is_secret=True,
    )
    site: Web | None = variable("DELAYWATCH_SITE")  # address of the served pages; None: messages name files of the lake

    @property
    def is_configured(self) -> bool:
        """Return True if a recipient or a webhook is set."""
        return bool(self.recipients or self.webhook)

    @override
    def contradictions(self) -> Iterator[str]:
        if self.recipients and not self.smtp:
            yield "DELAYWATCH_ALERT_EMAIL is set, but DELAYWATCH_SMTP is not; set DELAYWATCH_SMTP."


class SiteSettings(_Model):
    """Settings of the served pages, besides lake and warehouse.

    feedback: URL of the login that writes feedback; None: the pages take no feedback. key: signs the forms.
    """

    superset: Web = variable("DELAYWATCH_SUPERSET", default="http://superset:8088")
    feedback: str | None = variable("DELAYWATCH_FEEDBACK", is_secret=True)
    key: Password = variable("DELAYWATCH_SITE_KEY", is_secret=True, default=...)


class WatchSettings(_Model):
    """Settings of `health` (besides lake and warehouse) and of `sweep`. None: do not check, or keep everything.

    log_folder: Airflow's task logs. backup_record: JSON file about the last backups (stack/backup.sh).
    """

    certificate: Path | None = variable("DELAYWATCH_CERTIFICATE")
    log_folder: Path | None = variable("DELAYWATCH_LOG_FOLDER")
    airflow_database: str | None = variable("DELAYWATCH_AIRFLOW_DATABASE", is_secret=True)
    backup_record: Path | None = variable("DELAYWATCH_BACKUP_RECORD")
    expected_year: Year | None = variable(
        "DELAYWATCH_EXPECTED_YEAR",
        "The year that /health expects in bronze. Empty: the last complete year, or with DELAYWATCH_MONTHLY the newest "
        "month that ended at least 92 days ago.",
    )
    keep_logs_days: Count | None = variable(
        "DELAYWATCH_KEEP_LOGS_DAYS",
        "How much the DAG retention keeps, 1 or more: task logs in days, plots and silver flights in years. "
        "Empty: all.",
    )
    keep_runs_days: RunDays = variable(
        "DELAYWATCH_KEEP_RUNS_DAYS",
        f"Days for which the DAG retention keeps runs in Airflow's database, {MIN_RUN_DAYS} or more. Empty: 365.",
        default=365,
    )
    keep_plots_years: Count | None = variable("DELAYWATCH_KEEP_PLOTS_YEARS")
    keep_silver_years: Count | None = variable("DELAYWATCH_KEEP_SILVER_YEARS")
    backup: Place | None = variable(
        "DELAYWATCH_BACKUP",
        "Where the daily backup is copied to: s3://bucket/prefix (private: a backup contains every secret) or the "
        "absolute path of a folder of this host, on another disk. It must not be in the lake. The newest 7 copies are "
        "kept. The AWS_* keys above are used for the bucket. Empty: off.",
    )

    @property
    def has_limit(self) -> bool:
        """Return True if `sweep` may delete logs, plots or flights."""
        return bool(self.keep_logs_days or self.keep_plots_years or self.keep_silver_years)


class EnvFile(Settings, AlertSettings, WatchSettings):
    """All variables of `.env`. Compose reads it too, so the lake must be in S3 and the warehouse a complete URL."""

    admin_password: Password | None = variable(
        "DELAYWATCH_ADMIN_PASSWORD",
        f"Password of the user admin in Airflow and Superset, {MIN_PASSWORD_LENGTH} characters or more. It is used "
        "when the user is created; to change it later, run make reset-password.",
        is_secret=True,
    )
    jupyter_token: Password | None = variable(
        "DELAYWATCH_JUPYTER_TOKEN", "The token that Jupyter asks for.", is_secret=True
    )
    reader: Postgres | None = variable(
        "DELAYWATCH_READER",
        "A read-only login of that warehouse for Superset, Jupyter and the pages, as a URL. Empty: the login "
        "delaywatch_reader is created.",
        is_secret=True,
    )
    feedback: Postgres | None = variable(
        "DELAYWATCH_FEEDBACK",
        "A login of that warehouse that may write flights.feedback, for the pages, as a URL. Empty: the login "
        "delaywatch_feedback is created; with DELAYWATCH_READER, the pages take no feedback.",
        is_secret=True,
    )
    local: Switch | None = variable(
        "DELAYWATCH_LOCAL",
        "0 switches off the stack's own object store; DELAYWATCH_LAKE and DELAYWATCH_WAREHOUSE must be set then. "
        "Postgres stays for Airflow and Superset.",
    )
    host: Host = variable(
        "DELAYWATCH_HOST",
        "The host name that browsers use, for the certificate and redirects. Empty: localhost.",
        default="localhost",
    )
    trusted_proxy: Network | None = variable(
        "DELAYWATCH_TRUSTED_PROXY",
        "The network of a load balancer in front, such as 10.0.0.0/23; X-Forwarded-For then names the client. "
        "Empty: none.",
    )
    bind: Bind | None = variable(
        "DELAYWATCH_BIND",
        "The address on which ports are published. Empty: 127.0.0.1, only this host; 0.0.0.0: all its networks.",
    )
    http_port: Port = variable("DELAYWATCH_HTTP_PORT", "Empty: 80, which only redirects, and 443.", default=80)
    https_port: Port = variable("DELAYWATCH_HTTPS_PORT", default=443)
    email: Contact | None = variable("DELAYWATCH_EMAIL", "E-mail address for Let's Encrypt, see nginx/README.md.")
    logs: S3 | None = variable("DELAYWATCH_LOGS", "s3://bucket/prefix for task logs. Empty: a Docker volume.")
    secrets_backend: ClassName | None = variable(
        "AIRFLOW_SECRETS_BACKEND",
        "Where Airflow's connections come from: the class of a secrets backend, and its arguments as a JSON object.",
    )
    secrets_backend_kwargs: JsonObject | None = variable("AIRFLOW_SECRETS_BACKEND_KWARGS", is_secret=True)
    kaggle_token: KaggleToken | None = variable("DELAYWATCH_KAGGLE_TOKEN", is_secret=True)
    metrics: Web | None = variable(
        "DELAYWATCH_METRICS",
        "An OpenTelemetry collector for Airflow's metrics: http://host:4318. Empty: no metrics.",
    )
    uid: UserId | None = variable(
        "DELAYWATCH_UID",
        "The ID of the user on this host who owns notebooks/ (`id -u`), so that Jupyter can save there. Empty: 50000.",
    )

    @field_validator("lake")
    @classmethod
    def _check_lake(cls, value: str) -> str:
        if value and not re.fullmatch(_S3, value):
            raise ValueError(_S3_HINT)
        return value

    @field_validator("warehouse")
    @classmethod
    def _check_warehouse(cls, value: str) -> str:
        if value and not _is_postgres(value):
            raise ValueError(_POSTGRES_HINT)
        return value
