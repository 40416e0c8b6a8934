"""The settings of the stack: the variables of `.env`, the rules between them, and derived values.

`utils.settings` defines the variables, their types and their rules. This module opens no file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Self
from urllib.parse import urlsplit

from typing_extensions import override

from utils.settings import CREDENTIALS, EnvFile, is_secret, variable_of

LOCAL_BUCKET = "delaywatch"
LOCAL_ENDPOINT = "http://s3:8333"
LOCAL_REGION = "us-east-1"  # S3 signatures need a region; the local store accepts any

# The sections of .env.example: title and variables in order. A variable without a section is not set in `.env`.
FORM = {
    "Secrets. If the password or the token is empty, the first start creates it; `make password` shows it.": (
        "admin_password", "jupyter_token", "warehouse", "reader", "feedback", "aws_access_key_id",
        "aws_secret_access_key", "aws_session_token",
    ),
    "Lake and warehouse": ("local", "lake", "aws_region", "aws_endpoint_url"),
    "Address": ("host", "trusted_proxy", "bind", "http_port", "https_port", "email"),
    "Airflow": ("logs", "secrets_backend", "secrets_backend_kwargs", "threads", "silver_job"),
    "Downloads by the DAG fetch_bronze and `python -m utils fetch`": (
        "monthly", "bts_url", "kaggle_url", "kaggle_token",
    ),
    "Monitoring. Notifications need a recipient or a webhook.": (
        "recipients", "sender", "smtp", "webhook", "metrics", "expected_year", "keep_logs_days", "keep_plots_years",
        "keep_silver_years", "keep_runs_days",
    ),
    "Backup": ("backup",),
    "Jupyter": ("uid",),
}  # fmt: skip

FIELDS = {name: EnvFile.model_fields[name] for names in FORM.values() for name in names}
VARIABLES = tuple(variable_of(field) for field in FIELDS.values())
# Secrets: no message shows their values, and `setup` reads them from `.env` itself (`form`), not through Compose.
SECRET = frozenset(variable_of(field) for field in FIELDS.values() if is_secret(field))


class StackSettings(EnvFile):
    """Settings that are consistent with each other. Without AWS keys the machine's role is used."""

    @classmethod
    @override
    def from_environment(cls, environ: Mapping[str, str] | None = None, **given: str | None) -> Self:
        """Read only the variables of `.env` from `environ`, and no files. Raises InvalidInput with all faults."""
        known = {name: value for name, value in (environ or {}).items() if name in VARIABLES}
        return super().from_environment(known, **{"lake": None, "warehouse": None, **given})

    @property
    def is_lake_local(self) -> bool:
        """True if the lake is in the stack's own `s3`. Its containers must not get AWS keys."""
        return not self.lake

    @property
    def region(self) -> str:
        """The region of the lake."""
        return LOCAL_REGION if self.is_lake_local else self.aws_region or LOCAL_REGION

    @property
    def endpoint(self) -> str | None:
        """The URL of the lake's store, None for AWS."""
        return LOCAL_ENDPOINT if self.is_lake_local else self.aws_endpoint_url

    @property
    def aws_keys(self) -> dict[str, str]:
        """The AWS keys by their names in AWS's files, as set: for a lake or a backup in a bucket."""
        return {name: value for name in CREDENTIALS if (value := getattr(self, name))}

    @override
    def contradictions(self) -> Iterator[str]:
        yield from self._place_contradictions()
        yield from self._key_contradictions()
        yield from self._backup_contradictions()
        if self.reader and not self.warehouse:
            yield (
                "DELAYWATCH_READER is set, but DELAYWATCH_WAREHOUSE is not; set both, or leave both empty for the "
                "local warehouse."
            )
        if self.feedback and not self.warehouse:
            yield (
                "DELAYWATCH_FEEDBACK is set, but DELAYWATCH_WAREHOUSE is not; set both, or leave both empty for the "
                "local warehouse."
            )
        if not self.secrets_backend:  # the backend may contain the mail server
            yield from super().contradictions()
        if self.secrets_backend_kwargs is not None and not self.secrets_backend:
            yield (
                "AIRFLOW_SECRETS_BACKEND_KWARGS is set, but AIRFLOW_SECRETS_BACKEND is not; set it to the class of the "
                "backend."
            )

    def _place_contradictions(self) -> Iterator[str]:
        given = {"DELAYWATCH_LAKE": self.lake, "DELAYWATCH_WAREHOUSE": self.warehouse}
        places = [name for name, value in given.items() if not value]
        if self.local == "0" and places:
            yield f"DELAYWATCH_LOCAL is 0; set {' and '.join(places)} too, or set DELAYWATCH_LOCAL to 1."
        if self.http_port == self.https_port:
            yield f"DELAYWATCH_HTTP_PORT and DELAYWATCH_HTTPS_PORT are both {self.http_port}; set two different ports."
        if self.lake and not (self.aws_endpoint_url or self.aws_region):
            yield (
                "DELAYWATCH_LAKE is a bucket on AWS, but AWS_DEFAULT_REGION is not set; set it, set AWS_ENDPOINT_URL "
                "for another store, or leave DELAYWATCH_LAKE empty for the local store."
            )
        if self.is_lake_local and urlsplit(self.logs or "").netloc not in {"", LOCAL_BUCKET}:
            yield (
                f"DELAYWATCH_LOGS is {self.logs!r}, a bucket that the local store does not have; set it to "
                f"s3://{LOCAL_BUCKET}/logs, or set DELAYWATCH_LAKE too."
            )
        if self.silver_job and (self.is_lake_local or self.aws_endpoint_url):
            yield (
                f"DELAYWATCH_SILVER_JOB is {self.silver_job!r}, but Glue reads only buckets on AWS; set "
                "DELAYWATCH_LAKE to one and leave AWS_ENDPOINT_URL empty, or leave DELAYWATCH_SILVER_JOB empty."
            )

    def _key_contradictions(self) -> Iterator[str]:
        if bool(self.aws_access_key_id) != bool(self.aws_secret_access_key):
            yield (
                "Only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set; set both, or leave both empty to use "
                "the role of the machine."
            )
        if self.aws_session_token and not self.aws_access_key_id:
            yield "AWS_SESSION_TOKEN is set, but AWS_ACCESS_KEY_ID is not; set the keys that belong to the token."

    def _backup_contradictions(self) -> Iterator[str]:
        """Yield the faults of a backup destination; a backup inside the lake would be lost with it."""
        backup = self.backup or ""
        if not backup.startswith("s3://"):
            return
        if not (self.aws_endpoint_url or self.aws_region):
            yield (
                "DELAYWATCH_BACKUP is a bucket on AWS, but AWS_DEFAULT_REGION is not set; set it, or set "
                "AWS_ENDPOINT_URL for another store."
            )
        if urlsplit(self.aws_endpoint_url or "").hostname == urlsplit(LOCAL_ENDPOINT).hostname:
            yield (
                "DELAYWATCH_BACKUP is a bucket of the stack's own object store; a backup there would be lost with it. "
                "Set it to a folder or a bucket of another store."
            )
        folders = [f"{place.rstrip('/')}/" for place in (backup, self.lake)]
        if self.lake and (folders[0].startswith(folders[1]) or folders[1].startswith(folders[0])):
            yield (
                f"DELAYWATCH_BACKUP is {backup!r}, but the lake is in {self.lake!r}; a backup there would be lost with "
                "it. Use another bucket, or a prefix that neither contains the lake nor is in it."
            )


def uses_aws(environ: Mapping[str, str]) -> bool:
    """Return True if the lake or the backup is in a bucket outside the stack."""
    return bool(environ.get("DELAYWATCH_LAKE")) or environ.get("DELAYWATCH_BACKUP", "").startswith("s3://")


def unused(environ: Mapping[str, str]) -> list[str]:
    """Return the AWS variables that are set but not used."""
    if uses_aws(environ):
        return []
    return [name for name in VARIABLES if name.startswith("AWS_") and environ.get(name)]
