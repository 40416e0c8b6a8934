"""Airflow's connections override the environment."""

from __future__ import annotations

import json
from typing import Any

import pytest

from utils.errors import InvalidInput
from utils.settings import Settings

pytestmark = pytest.mark.usefixtures("airflow")
RDS = "delaywatch.c1.eu-central-1.rds.amazonaws.com"


@pytest.fixture(autouse=True)
def _lake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELAYWATCH_LAKE", "s3://flights")


def connect(monkeypatch: pytest.MonkeyPatch, name: str, **fields: object) -> None:
    """Create a connection of Airflow."""
    monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(fields))


def settings() -> Settings:
    from orchestration import connections

    return connections.settings()


def test_connections_override_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DELAYWATCH_WAREHOUSE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "postgresql://wrong")
    login: dict[str, Any] = {"login": "loader", "password": "p@ss/word", "host": "db", "port": 5433, "schema": "w"}
    extra = {"region_name": "eu-west-1", "endpoint_url": "http://s3:8333", "aws_session_token": "token"}
    connect(monkeypatch, "WAREHOUSE", conn_type="postgres", **login)
    connect(monkeypatch, "AWS_DEFAULT", conn_type="aws", login="key", password="secret", extra=extra)

    current = settings()

    assert current.warehouse == "postgresql://loader:p%40ss%2Fword@db:5433/w"
    assert (current.aws_access_key_id, current.aws_secret_access_key, current.aws_session_token) == (
        "key",
        "secret",
        "token",
    )
    assert (current.aws_region, current.aws_endpoint_url) == ("eu-west-1", "http://s3:8333")


def test_without_connections_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_WAREHOUSE")
    with pytest.raises(InvalidInput, match="DELAYWATCH_WAREHOUSE"):
        settings()

    monkeypatch.setenv("DELAYWATCH_WAREHOUSE", "postgresql://loader@db/w")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")

    assert (settings().warehouse, settings().aws_region) == ("postgresql://loader@db/w", "eu-west-1")


@pytest.mark.parametrize(
    ("host", "extra", "options"),
    [
        (RDS, None, "?sslmode=require"),
        (RDS.upper(), {"keepalives": 30}, "?sslmode=require&keepalives=30"),
        (RDS, {"sslmode": "verify-full"}, "?sslmode=verify-full"),
        ("postgres", None, ""),
        ("postgres", {"keepalives": 30}, "?keepalives=30"),  # Airflow's own URL hides a number in __extra__
        ("rds.amazonaws.com.example.com", None, ""),
    ],
)
def test_a_warehouse_on_rds_requires_tls_unless_the_connection_has_another_sslmode(
    monkeypatch: pytest.MonkeyPatch, host: str, extra: object, options: str
) -> None:
    fields = {"login": "l", "password": "p", "host": host, "port": 5432, "schema": "w", "extra": extra}
    connect(monkeypatch, "WAREHOUSE", conn_type="postgres", **fields)

    assert str(settings().warehouse).lower() == f"postgresql://l:p@{host.lower()}:5432/w{options}"


def test_connections_set_mail_server_and_webhook(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestration import connections

    monkeypatch.setenv("DELAYWATCH_ALERT_EMAIL", "ops@here.org")
    monkeypatch.setenv("DELAYWATCH_SMTP", "smtp://wrong")
    login = {"host": "mail.here.org", "port": 465, "login": "me@here.org", "password": "p@ss/w"}
    connect(monkeypatch, "SMTP_DEFAULT", conn_type="smtp", **login, extra={"from_email": "watch@here.org"})
    hook = {"host": "https://hooks.here.org/services/", "password": "T0/B0/x"}
    connect(monkeypatch, "ALERT_WEBHOOK", conn_type="http", **hook)

    current = connections.alerts()

    assert current.smtp == "smtps://me%40here.org:p%40ss%2Fw@mail.here.org:465"
    assert (current.sender, current.webhook) == ("watch@here.org", "https://hooks.here.org/services/T0/B0/x")

    connect(monkeypatch, "SMTP_DEFAULT", conn_type="smtp", host="relay", extra={"disable_ssl": True})

    assert connections.alerts().smtp == "smtp://relay"


def test_a_channel_is_a_connection_or_a_variable_and_a_wrong_one_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestration import connections

    monkeypatch.setenv("DELAYWATCH_CHANNEL_SLACK_NY", "https://hooks.here.org/variable")
    assert connections.channel_url("slack_ny") == "https://hooks.here.org/variable"

    connect(monkeypatch, "SLACK_NY", conn_type="http", host="https://hooks.here.org/services/", password="T0/B0/x")
    assert connections.channel_url("slack_ny") == "https://hooks.here.org/services/T0/B0/x"

    connect(monkeypatch, "SLACK_NY", conn_type="http", host="hooks.here.org", password="h4sh")
    with pytest.raises(InvalidInput, match="slack_ny") as refused:
        connections.channel_url("slack_ny")
    assert "h4sh" not in str(refused.value)
