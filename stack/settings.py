"""The variables of `.env`: the rule for each value, and the rules between them. Nothing here opens a file."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from stack.errors import StackError

LOCAL_BUCKET = "delaywatch"
LOCAL_ENDPOINT = "http://s3:8333"
LOCAL_REGION = "us-east-1"  # S3 signatures need one; the local store takes any
LEAST_PASSWORD_LENGTH = 12
PORTS = {"DELAYWATCH_HTTP_PORT": "80", "DELAYWATCH_HTTPS_PORT": "443"}

# Their values appear in no message, and `setup` reads them from `.env` itself (`form`). Others come through Compose.
SECRET = frozenset(
    {
        "AIRFLOW_SECRETS_BACKEND_KWARGS",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "DELAYWATCH_ADMIN_PASSWORD",
        "DELAYWATCH_ALERT_WEBHOOK",
        "DELAYWATCH_JUPYTER_TOKEN",
        "DELAYWATCH_KAGGLE_TOKEN",
        "DELAYWATCH_READER",
        "DELAYWATCH_SMTP",
        "DELAYWATCH_WAREHOUSE",
    }
)

# In a URL's user, password and database, whatever else would end them stands percent-encoded.
_PART = r"(?:[^\s@:/?#%\[\]]|%[0-9A-Fa-f]{2})+"
_POSTGRES = re.compile(
    rf"postgresql://{_PART}:{_PART}@(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::(\d+))?/{_PART}(?:\?[^#\s]*)?"
)
_S3 = r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/[^\s$%?#\\]*)?"
_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Settings:
    """Values that are consistent with each other. None: not given; for the AWS keys: the role of the machine is used.

    is_lake_local: the lake is in our own `s3`. Then the AWS variables are not used for the lake, because real keys must
    not reach a container that does not need them. `aws` has them as given, for a backup in a bucket.
    """

    host: str
    is_lake_local: bool
    region: str
    endpoint: str | None
    warehouse: str | None = field(repr=False)
    reader: str | None = field(repr=False)
    admin_password: str | None = field(repr=False)
    jupyter_token: str | None = field(repr=False)
    access_key: str | None = field(repr=False)
    secret_key: str | None = field(repr=False)
    session_token: str | None = field(repr=False)
    kaggle_token: str | None = field(repr=False)
    smtp: str | None = field(repr=False)
    alert_webhook: str | None = field(repr=False)
    metrics: str | None
    logs: str | None
    secrets_backend: str | None
    secrets_backend_kwargs: dict[str, Any] = field(repr=False)
    backup: str | None
    aws: dict[str, str] = field(repr=False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Read the variables; an empty one counts as absent. Raises StackError with all faults."""
        given = {name: value for name, value in environ.items() if value and name in RULES}
        faults = [_fault(name, given[name]) for name in RULES if name in given and not _accepts(name, given[name])]
        if faults := faults or list(_contradictions(given)):
            raise StackError(" ".join(faults))
        is_lake_local = "DELAYWATCH_LAKE" not in given
        aws = {} if is_lake_local else given
        return cls(
            host=_bare(given.get("DELAYWATCH_HOST", "localhost")).lower(),
            is_lake_local=is_lake_local,
            region=aws.get("AWS_DEFAULT_REGION", LOCAL_REGION),
            endpoint=LOCAL_ENDPOINT if is_lake_local else aws.get("AWS_ENDPOINT_URL"),
            warehouse=given.get("DELAYWATCH_WAREHOUSE"),
            reader=given.get("DELAYWATCH_READER"),
            admin_password=given.get("DELAYWATCH_ADMIN_PASSWORD"),
            jupyter_token=given.get("DELAYWATCH_JUPYTER_TOKEN"),
            access_key=aws.get("AWS_ACCESS_KEY_ID"),
            secret_key=aws.get("AWS_SECRET_ACCESS_KEY"),
            session_token=aws.get("AWS_SESSION_TOKEN"),
            kaggle_token=given.get("DELAYWATCH_KAGGLE_TOKEN"),
            smtp=given.get("DELAYWATCH_SMTP"),
            alert_webhook=given.get("DELAYWATCH_ALERT_WEBHOOK"),
            metrics=given.get("DELAYWATCH_METRICS"),
            logs=given.get("DELAYWATCH_LOGS"),
            secrets_backend=given.get("AIRFLOW_SECRETS_BACKEND"),
            secrets_backend_kwargs=json.loads(given.get("AIRFLOW_SECRETS_BACKEND_KWARGS", "{}")),
            backup=given.get("DELAYWATCH_BACKUP"),
            aws={name: value for name, value in given.items() if name.startswith("AWS_")},
        )


def uses_aws(environ: Mapping[str, str]) -> bool:
    """Return whether the lake or the backup is in a bucket that is not ours."""
    return bool(environ.get("DELAYWATCH_LAKE")) or environ.get("DELAYWATCH_BACKUP", "").startswith("s3://")


def unused(environ: Mapping[str, str]) -> list[str]:
    """Return the AWS variables that are given although nothing uses them."""
    if uses_aws(environ):
        return []
    return [name for name in RULES if name.startswith("AWS_") and environ.get(name)]


# --- one variable -----------------------------------------------------------------------------------------------------


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(_bare(value))
    except ValueError:
        return False
    return (":" in value) == (value != _bare(value))


def _bare(host: str) -> str:
    """Without the brackets in which an IPv6 address stands wherever a port may follow."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def _is_host(value: str) -> bool:
    labels = value.split(".")
    is_name = len(value) <= 253 and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()
    return is_name or _is_address(value)


def _is_port(value: str) -> bool:
    return re.fullmatch(r"[0-9]{1,5}", value) is not None and 1 <= int(value) <= 65535


def _is_postgres(value: str) -> bool:
    found = _POSTGRES.fullmatch(value)
    return found is not None and (found[1] is None or _is_port(found[1]))


def _is_web(value: str) -> bool:
    return _is_service(value, "http", "https")


def _is_mail_server(value: str) -> bool:
    scheme, _, rest = value.partition("://")
    login, _, place = rest.rpartition("@")
    is_login_right = not login or re.fullmatch(rf"{_PART}:{_PART}", login) is not None
    return is_login_right and "/" not in place and _is_service(f"{scheme}://{place}", "smtp", "smtps")


def _is_service(value: str, *schemes: str) -> bool:
    """Return whether it is `scheme://host[:port][/path]`, without a user, and without ? and #, which would cut it."""
    if re.search(r"[?#\s]", value):
        return False
    try:
        parts = urlsplit(value)
        is_port_right = parts.port != 0
    except ValueError:
        return False
    return is_port_right and parts.scheme in schemes and _is_host(parts.netloc.removesuffix(f":{parts.port}"))


def _is_object(value: str) -> bool:
    try:
        return isinstance(json.loads(value), dict)
    except ValueError:
        return False


def _is_long(value: str) -> bool:
    return len(value) >= LEAST_PASSWORD_LENGTH


def _matches(pattern: str) -> Callable[[str], bool]:
    return lambda value: re.fullmatch(pattern, value) is not None


def _is_network(value: str) -> bool:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        return False
    return True


def _is_kaggle_token(value: str) -> bool:
    if re.fullmatch(r"[\w.~+/=-]+", value):
        return True
    try:
        found = json.loads(value)
    except ValueError:
        return False
    return isinstance(found, dict) and {"username", "key"} <= found.keys()


_MAIL = r"[!-+\--?A-~]+@[!-+\--?A-~]+"  # no comma, which separates them
_COUNT = (_matches("[1-9][0-9]{0,5}"), "write a whole number of 1 or more")
_FOLDER = r"https?://[^\s/?#@]+(?:/[^\s?#]*)?"  # no login: Compose shows settings; no query: file names follow the path
_PAGE = r"https?://[^\s/?#@]+(?:[/?][^\s#]*)?"
_URL = "postgresql://user:password@host:5432/database, with @ : / ? # % in the password as %40 %3A %2F %3F %23 %25"
RULES: dict[str, tuple[Callable[[str], bool], str]] = {
    "DELAYWATCH_ADMIN_PASSWORD": (_is_long, f"take {LEAST_PASSWORD_LENGTH} characters or more"),
    "DELAYWATCH_JUPYTER_TOKEN": (_is_long, f"take {LEAST_PASSWORD_LENGTH} characters or more"),
    "DELAYWATCH_WAREHOUSE": (_is_postgres, f"write {_URL}"),
    "DELAYWATCH_READER": (_is_postgres, f"write {_URL}"),
    "DELAYWATCH_LOCAL": (
        _matches("[01]"),
        "write 1 to run the local object store, or 0 for a lake and a warehouse elsewhere",
    ),
    "DELAYWATCH_LAKE": (_matches(_S3), "write s3://bucket or s3://bucket/prefix, without $ % ? # and blanks"),
    "DELAYWATCH_LOGS": (_matches(_S3), "write s3://bucket/prefix, without $ % ? # and blanks"),
    "DELAYWATCH_HOST": (_is_host, "write the host name or IP address alone, no https:// and no port, IPv6 in brackets"),
    "DELAYWATCH_BIND": (_is_address, "write an IP address of this machine, IPv6 in brackets; 0.0.0.0 means all"),
    "DELAYWATCH_HTTP_PORT": (_is_port, "write a number from 1 to 65535"),
    "DELAYWATCH_HTTPS_PORT": (_is_port, "write a number from 1 to 65535"),
    "DELAYWATCH_EMAIL": (_matches(r"[^\s@]+@[^\s@]+"), "write an e-mail address"),
    "DELAYWATCH_TRUSTED_PROXY": (_is_network, "write an IP address or a network such as 10.0.0.0/23"),
    "DELAYWATCH_BTS_URL": (
        _matches(_FOLDER),
        "write the https:// address of the folder, without a login, ? and #",
    ),
    "DELAYWATCH_KAGGLE_URL": (
        _matches(_FOLDER),
        "write the https:// address of the API, without a login, ? and #",
    ),
    "DELAYWATCH_KAGGLE_TOKEN": (
        _is_kaggle_token,
        "copy the API token, one word, or what is in kaggle.json, in single quotes",
    ),
    "DELAYWATCH_ALERT_EMAIL": (_matches(rf"{_MAIL}(?:, *{_MAIL})*"), "write e-mail addresses, separated by commas"),
    "DELAYWATCH_ALERT_FROM": (_matches(_MAIL), "write one e-mail address"),
    "DELAYWATCH_SMTP": (
        _is_mail_server,
        "write smtp://user:password@host:587 or smtps://user:password@host, with @ : / ? # % in the password as %40 "
        "%3A %2F %3F %23 %25",
    ),
    "DELAYWATCH_ALERT_WEBHOOK": (_matches(_PAGE), "write the whole https:// address, without a user and #"),
    "DELAYWATCH_METRICS": (_is_web, "write http://host:port of the collector"),
    "DELAYWATCH_EXPECTED_YEAR": (_matches("(?:19|20)[0-9]{2}"), "write a year such as 2018"),
    "DELAYWATCH_KEEP_LOGS_DAYS": _COUNT,
    "DELAYWATCH_KEEP_PLOTS_YEARS": _COUNT,
    "DELAYWATCH_KEEP_SILVER_YEARS": _COUNT,
    "DELAYWATCH_THREADS": (_matches("[1-9][0-9]*"), "write a whole number of 1 or more"),
    "DELAYWATCH_BACKUP": (
        _matches(rf"{_S3}|/[^\\]*[^\\/]"),
        "write s3://bucket/prefix, or the whole path of a folder of this host, such as /mnt/backups",
    ),
    "AWS_ACCESS_KEY_ID": (_matches(r"\S+"), "write it without spaces"),
    "AWS_SECRET_ACCESS_KEY": (_matches(r"\S+"), "write it without spaces"),
    "AWS_SESSION_TOKEN": (_matches(r"\S+"), "write it without spaces"),
    "AWS_DEFAULT_REGION": (_matches("[a-z0-9-]+"), "write a region such as eu-central-1"),
    "AWS_ENDPOINT_URL": (_is_web, "write http://host:port or https://host"),
    "AIRFLOW_SECRETS_BACKEND": (
        _matches(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+"),
        "write the full name of the backend's class",
    ),
    "AIRFLOW_SECRETS_BACKEND_KWARGS": (
        _is_object,
        'write a JSON object in single quotes, such as {"region_name": "eu-central-1"}',
    ),
}


def _accepts(name: str, value: str) -> bool:
    return not _CONTROL.search(value) and RULES[name][0](value)


def _fault(name: str, value: str) -> str:
    if _CONTROL.search(value):
        return f"{name} contains a line break or another control character; write the value on one line."
    has_login = "://" in value and "@" in value
    is_hidden = name in SECRET or has_login or len(value) > 80
    shown = "cannot be used" if is_hidden else f"is {value!r}"
    return f"{name} {shown}; {RULES[name][1]}."


# --- all together -----------------------------------------------------------------------------------------------------


def _contradictions(given: Mapping[str, str]) -> Iterator[str]:
    places = [name for name in ("DELAYWATCH_LAKE", "DELAYWATCH_WAREHOUSE") if name not in given]
    if given.get("DELAYWATCH_LOCAL") == "0" and places:
        yield f"DELAYWATCH_LOCAL is 0, so {' and '.join(places)} must say where they are; fill in, or set it to 1."
    ports = {name: given.get(name, default) for name, default in PORTS.items()}
    if len(set(map(int, ports.values()))) < len(ports):
        yield f"{' and '.join(ports)} are both {ports['DELAYWATCH_HTTP_PORT']}; take two different ports."
    if ("AWS_ACCESS_KEY_ID" in given) != ("AWS_SECRET_ACCESS_KEY" in given):
        yield "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belong together; give both, or none for the machine's role."
    if "AWS_SESSION_TOKEN" in given and "AWS_ACCESS_KEY_ID" not in given:
        yield "AWS_SESSION_TOKEN is given without AWS_ACCESS_KEY_ID; give the keys that belong to it."
    yield from _backup_contradictions(given)
    if "DELAYWATCH_LAKE" in given and not given.keys() & {"AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"}:
        yield (
            "DELAYWATCH_LAKE is a bucket at AWS, so AWS_DEFAULT_REGION must say in which region; fill it in, set "
            "AWS_ENDPOINT_URL for another store, or leave DELAYWATCH_LAKE empty for the local one."
        )
    if "DELAYWATCH_LAKE" not in given and urlsplit(given.get("DELAYWATCH_LOGS", "")).netloc not in {"", LOCAL_BUCKET}:
        yield (
            f"DELAYWATCH_LOGS is a bucket that the local store does not have; take s3://{LOCAL_BUCKET}/logs, or set "
            "DELAYWATCH_LAKE too."
        )
    if "DELAYWATCH_READER" in given and "DELAYWATCH_WAREHOUSE" not in given:
        yield "DELAYWATCH_READER is given without DELAYWATCH_WAREHOUSE; the local warehouse has a reader of its own."
    if "DELAYWATCH_ALERT_EMAIL" in given and not given.keys() & {"DELAYWATCH_SMTP", "AIRFLOW_SECRETS_BACKEND"}:
        yield "DELAYWATCH_ALERT_EMAIL is set, but DELAYWATCH_SMTP is not; set DELAYWATCH_SMTP."
    if "AIRFLOW_SECRETS_BACKEND_KWARGS" in given and "AIRFLOW_SECRETS_BACKEND" not in given:
        yield "AIRFLOW_SECRETS_BACKEND_KWARGS is given without AIRFLOW_SECRETS_BACKEND; name the backend's class there."


def _backup_contradictions(given: Mapping[str, str]) -> Iterator[str]:
    """A backup in the lake would be lost with it."""
    backup, lake = given.get("DELAYWATCH_BACKUP", ""), given.get("DELAYWATCH_LAKE", "")
    if not backup.startswith("s3://"):
        return
    endpoint = given.get("AWS_ENDPOINT_URL", "")
    if not endpoint and "AWS_DEFAULT_REGION" not in given:
        yield (
            "DELAYWATCH_BACKUP is a bucket at AWS, so AWS_DEFAULT_REGION must say in which region; fill it in, or set "
            "AWS_ENDPOINT_URL for another store."
        )
    if urlsplit(endpoint).hostname == urlsplit(LOCAL_ENDPOINT).hostname:
        yield (
            "DELAYWATCH_BACKUP is a bucket of the stack's own object store; a backup there would be lost with it. "
            "Name a bucket elsewhere or a folder."
        )
    folders = [f"{place.rstrip('/')}/" for place in (backup, lake)]
    if lake and (folders[0].startswith(folders[1]) or folders[1].startswith(folders[0])):
        yield (
            f"DELAYWATCH_BACKUP is {backup!r}, but the lake is in {lake!r}; a backup there would be lost with it. "
            "Name another bucket, or a prefix that neither contains the lake nor is in it."
        )
