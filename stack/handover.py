"""Write each service's files at /run/delaywatch. Generates no values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stack.certificate import Certificate
from stack.files import put
from stack.settings import LOCAL_REGION, StackSettings
from utils.errors import Missing

MOUNT = "/run/delaywatch"
READABLE = 0o444  # for any user of the service; the mount limits who sees a file
READER = "delaywatch_reader"
LABELLER = "delaywatch_feedback"
DRIVER = "postgresql+psycopg2"
LOCAL_FILES = "airflow.secrets.local_filesystem.LocalFilesystemBackend"
Content = str | bytes | None  # None: remove the file
HSTS = 'add_header Strict-Transport-Security "max-age=31536000" always;\n'


def files(
    settings: StackSettings, secrets: Mapping[str, str], certificate: Certificate
) -> dict[str, dict[str, Content]]:
    """Return the files of every service by name."""
    warehouse = settings.warehouse or f"postgresql://delaywatch:{secrets['warehouse_password']}@postgres:5432/warehouse"
    reader = settings.reader or _as_user(warehouse, READER, secrets["reader_password"])
    # With DELAYWATCH_READER, setup's login may not be able to create roles.
    has_labeller = not (settings.reader or settings.feedback)
    labeller = _as_user(warehouse, LABELLER, secrets["feedback_password"]) if has_labeller else settings.feedback
    database = f"{DRIVER}://airflow:{secrets['airflow_password']}@postgres:5432/airflow"
    admin_password = settings.admin_password or secrets["admin_password"]
    keys = _keys(settings, secrets)
    aws: dict[str, Content] = {
        "aws_config": _aws_config(settings.region, settings.endpoint),
        "aws_credentials": _aws_credentials(keys),
    }
    airflow = {"database_url": database, "admin_password": admin_password, "warehouse_url": warehouse, **aws}
    airflow["feedback_password"] = secrets["feedback_password"] if has_labeller else None
    airflow["connections.json"] = None if settings.secrets_backend else _connections(settings, warehouse, keys)
    roles = ("postgres_password", "airflow_password", "superset_password", "warehouse_password")
    return {
        "airflow": {**airflow, **_airflow_files(settings, secrets)},
        "superset": {
            "database_url": f"{DRIVER}://superset:{secrets['superset_password']}@postgres:5432/superset",
            "warehouse_url": reader.replace("postgresql", DRIVER, 1),
            "secret_key": secrets["superset_secret_key"],
            "admin_password": admin_password,
        },
        "postgres": {name: secrets[name] for name in roles},
        "s3": {"access_key": secrets["s3_access_key"], "secret_key": secrets["s3_secret_key"]},
        "nginx": _nginx_files(certificate),
        "health": {
            "database_url": database,
            "warehouse_url": reader,
            "certificate.pem": certificate.chain,
            **aws,
        },
        "site": {
            "warehouse_url": reader,
            "feedback_url": labeller or "",
            "site_key": secrets["site_key"],
            **aws,
        },
        "backup": _backup_files(settings),
        "jupyter": {"token": settings.jupyter_token or secrets["jupyter_token"], "warehouse_url": reader, **aws},
    }


def write(handed: Path, table: Mapping[str, Mapping[str, Content]]) -> tuple[list[str], list[str]]:
    """Write the services' files and remove all others. Return the written and the removed names."""
    missing = [str(handed / service) for service in table if not (handed / service).is_dir()]
    if missing:  # do not create it: a new folder would not be in a volume
        raise Missing(
            f"{', '.join(missing)} does not exist; mount the services' volumes there, as docker-compose.yaml does."
        )
    written, removed = [], []
    for service, contents in table.items():
        present = {name: content for name, content in contents.items() if content is not None}
        for name, content in present.items():
            if put(handed / service / name, content if isinstance(content, bytes) else content.encode(), READABLE):
                written.append(f"{service}/{name}")
        for path in sorted((handed / service).iterdir()):
            if path.name not in present and not path.is_dir():
                path.unlink()
                removed.append(f"{service}/{path.name}")
    return written, removed


# --- contents ---------------------------------------------------------------------------------------------------------


def _as_user(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{user}:{password}@{parts.netloc.rpartition('@')[2]}").geturl()


def _keys(settings: StackSettings, secrets: Mapping[str, str]) -> dict[str, str]:
    """Return the S3 keys by their names in AWS's files; empty if the machine's role is used."""
    if settings.is_lake_local:
        return {"aws_access_key_id": secrets["s3_access_key"], "aws_secret_access_key": secrets["s3_secret_key"]}
    return settings.aws_keys


def _airflow_files(settings: StackSettings, secrets: Mapping[str, str]) -> dict[str, Content]:
    """Return the files for Airflow only. An empty file means that the value is not set."""
    return {
        "fernet_key": secrets["fernet_key"],
        "secret_key": secrets["airflow_secret_key"],
        "jwt_secret": secrets["jwt_secret"],
        "reader_password": None if settings.reader else secrets["reader_password"],
        "smtp_url": settings.smtp or "",
        "alert_webhook": settings.webhook or "",
        "kaggle_token": settings.kaggle_token or "",
        "airflow.cfg": _airflow_cfg(settings),
    }


def _nginx_files(certificate: Certificate) -> dict[str, Content]:
    return {
        "tls.crt": certificate.chain,
        "tls.key": certificate.key,
        "hsts.conf": "" if certificate.is_self_signed else HSTS,
    }


def _ini(section: str, options: Mapping[str, str]) -> str:
    return f"[{section}]\n" + "".join(f"{name} = {value}\n" for name, value in options.items())


def _aws_config(region: str, endpoint: str | None) -> str:
    """Return the region and the endpoint for S3; Secrets Manager stays on AWS."""
    if not endpoint:
        return _ini("default", {"region": region})
    services = f"[services delaywatch]\ns3 =\n    endpoint_url = {endpoint}\n"
    return _ini("default", {"region": region, "services": "delaywatch"}) + "\n" + services


def _aws_credentials(keys: Mapping[str, str]) -> str | None:
    return _ini("default", keys) if keys else None


def _backup_files(settings: StackSettings) -> dict[str, Content]:
    """Return the files for copying a backup to a bucket. The keys are those of `.env`, also if the lake is local."""
    if not (settings.backup or "").startswith("s3://"):
        return {}
    return {
        "aws_config": _aws_config(settings.aws_region or LOCAL_REGION, settings.aws_endpoint_url),
        "aws_credentials": _aws_credentials(settings.aws_keys),
    }


def _connections(settings: StackSettings, warehouse: str, keys: Mapping[str, str]) -> str:
    extra = {
        "region_name": settings.region,
        "endpoint_url": settings.endpoint,
        "aws_session_token": keys.get("aws_session_token"),
    }
    aws: dict[str, Any] = {
        "conn_type": "aws",
        "login": keys.get("aws_access_key_id"),
        "password": keys.get("aws_secret_access_key"),
        "extra": {name: value for name, value in extra.items() if value},
    }
    connections = {"warehouse": warehouse, "aws_default": {name: value for name, value in aws.items() if value}}
    return json.dumps(connections, indent=2) + "\n"


def _airflow_cfg(settings: StackSettings) -> str:
    """Return Airflow's options that depend on `.env`. Airflow expands $NAME and %(name)s in this file."""
    backend = settings.secrets_backend or LOCAL_FILES
    own = {"connections_file_path": f"{MOUNT}/connections.json"}
    kwargs = json.dumps((settings.secrets_backend_kwargs or {}) if settings.secrets_backend else own)
    content = _ini("secrets", {"backend": backend, "backend_kwargs": kwargs.replace("$", "\\u0024").replace("%", "%%")})
    if settings.logs:
        options = {
            "remote_logging": "True",
            "remote_base_log_folder": settings.logs,
            "remote_log_conn_id": "aws_default",
        }
        content += "\n" + _ini("logging", options)
    if settings.metrics:  # OTEL_EXPORTER_OTLP_ENDPOINT sets the destination
        content += "\n" + _ini("metrics", {"otel_on": "True"})
    return content
