"""The values of `.env`: each is checked before anything starts, and values that contradict each other are refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url

from stack.settings import SECRET, StackSettings
from utils.errors import InvalidInput

BUCKET = {"DELAYWATCH_LAKE": "s3://flights", "AWS_DEFAULT_REGION": "eu-central-1"}
KEYS = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret/key"}
RDS = {"DELAYWATCH_WAREHOUSE": "postgresql://u:p@rds/flights"}


def refusal(**environ: str) -> str:
    with pytest.raises(InvalidInput) as refused:
        StackSettings.from_environment(environ)
    return str(refused.value)


@pytest.mark.parametrize(
    ("environ", "is_local", "endpoint", "region"),
    [
        ({"PATH": "/bin"}, True, "http://s3:8333", "us-east-1"),
        ({"DELAYWATCH_LOCAL": "0", **BUCKET, **RDS, **KEYS}, False, None, "eu-central-1"),
        (
            {"DELAYWATCH_LAKE": "s3://f-1", "AWS_ENDPOINT_URL": "http://minio:9000"},
            False,
            "http://minio:9000",
            "us-east-1",
        ),
    ],
)
def test_the_lake_decides_store_and_region(
    environ: dict[str, str], is_local: bool, endpoint: str | None, region: str
) -> None:
    found = StackSettings.from_environment(environ)

    assert (found.is_lake_local, found.endpoint, found.region) == (is_local, endpoint, region)


ACCEPTED = {
    "DELAYWATCH_HOST": ["localhost", "Flights.Example.com", "10.0.0.7", "[::1]", "a" * 63 + ".example"],
    "DELAYWATCH_BIND": ["127.0.0.1", "0.0.0.0", "[::]"],  # noqa: S104 - a user may want that
    "DELAYWATCH_ADMIN_PASSWORD": ["twelve chars", "pass wörd with ünicode"],
    "AWS_ENDPOINT_URL": ["http://s3:8333", "https://minio.lan", "http://[::1]:9000"],
    "DELAYWATCH_TRUSTED_PROXY": ["10.0.0.0/23", "10.0.0.7", "fd00::/8"],
    "DELAYWATCH_SMTP": ["smtp://mail.lan", "smtps://robot:p%40ss@mail.example.com:465", "smtp://[::1]:25"],
    "DELAYWATCH_WAREHOUSE": [
        "postgresql://u:p@host:5432/db?sslmode=require&connect_timeout=5",
        "postgresql://user%40corp:p%3A%2F%3F%23%5B%5D%25@rds.eu-central-1.amazonaws.com/my-db",
        "postgresql://u:p@[fe80::1]:5432/db",
    ],
}
REFUSED = {
    "DELAYWATCH_LOCAL": ["yes"],
    "DELAYWATCH_HOST": ["https://a.org", "a.org:443", "a b", "-a.org", "999.1.1.1", "::1"],
    "DELAYWATCH_BIND": ["localhost", "127.0.0.1:80", "::"],
    "DELAYWATCH_HTTP_PORT": ["0", "65536", "http", "٣"],
    "DELAYWATCH_ADMIN_PASSWORD": ["elevenchars"],
    "DELAYWATCH_JUPYTER_TOKEN": ["short"],
    "DELAYWATCH_TRUSTED_PROXY": ["any", "10.0.0.1/23", "0/0; deny all"],
    "DELAYWATCH_BTS_URL": ["https://u:swordfish@mirror.lan", "ftp://bts.gov", "https://a/#b"],
    "DELAYWATCH_BACKUP": ["backups", "~/backups", "/", "s3://Backups"],
    "DELAYWATCH_KAGGLE_TOKEN": ["two words", '{"username": "amelia"}'],
    "DELAYWATCH_ALERT_EMAIL": ["ops@example.com;dev@example.com"],
    "DELAYWATCH_SMTP": ["mail.lan:587", "http://mail.lan", "smtp://u@mail.lan", "smtp://u:12#3@h", "smtp://u:1%2@h"],
    "DELAYWATCH_ALERT_WEBHOOK": ["hooks.example.com/x", "https://a/b#c", "https://u:p@a/b"],
    "DELAYWATCH_KEEP_LOGS_DAYS": ["0"],
    "DELAYWATCH_LAKE": ["file:///srv/lake", "s3://Flights", "s3://flights/a b", "s3://flights/team#1"],
    "DELAYWATCH_LOGS": ["/var/log", "s3://flights/$HOME"],
    "AWS_ENDPOINT_URL": ["s3:8333", "http://a:99999", "http://u:p@minio", "http://my_store"],
    "AWS_SECRET_ACCESS_KEY": ["two words"],
    "AIRFLOW_SECRETS_BACKEND_KWARGS": ["region=eu", "[1]"],
    "DELAYWATCH_WAREHOUSE": [
        "postgresql+psycopg2://u:p@host/db",
        "postgresql://u@host/db",
        "postgresql://u:p@host/",
        "postgresql://u:p@host:70000/db",
        "postgresql://u:p@x@host/db",
        "postgresql://u:p/x@host/db",
        "postgresql://u:p#x@host/db",
        "postgresql://u:100%@host/db",
    ],
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_valid_values_are_accepted(name: str) -> None:
    for value in ACCEPTED[name]:
        StackSettings.from_environment({name: value})


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in REFUSED.items() for value in values])
def test_an_invalid_value_is_refused_by_name_and_shown_unless_it_may_be_secret(name: str, value: str) -> None:
    message = refusal(**{name: value})

    has_login = "://" in value and "@" in value
    assert message.startswith(f"{name} ")
    assert (value in message) == (name not in SECRET and not has_login)


@pytest.mark.parametrize("name", sorted(SECRET))
def test_a_secret_with_a_line_break_is_refused_and_not_shown(name: str) -> None:
    assert "swordfish" not in refusal(**{name: "swordfish-swordfish\nx"})


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"DELAYWATCH_LOCAL": "0"}, "DELAYWATCH_LAKE and DELAYWATCH_WAREHOUSE"),
        ({"DELAYWATCH_HTTP_PORT": "443"}, "DELAYWATCH_HTTPS_PORT"),
        ({**BUCKET, "AWS_ACCESS_KEY_ID": "AKIA"}, "AWS_SECRET_ACCESS_KEY"),
        ({"DELAYWATCH_LAKE": "s3://flights", **KEYS}, "AWS_DEFAULT_REGION"),
        ({"DELAYWATCH_LOGS": "s3://elsewhere/logs"}, "s3://elsewhere/logs"),
        ({"DELAYWATCH_ALERT_EMAIL": "ops@example.com"}, "DELAYWATCH_SMTP"),
        ({"DELAYWATCH_READER": "postgresql://r:p@rds/f"}, "DELAYWATCH_WAREHOUSE"),
        ({"AIRFLOW_SECRETS_BACKEND_KWARGS": "{}"}, "AIRFLOW_SECRETS_BACKEND is not"),
        ({"DELAYWATCH_BACKUP": "s3://backups", "AWS_ENDPOINT_URL": "http://s3:8333"}, "DELAYWATCH_BACKUP"),
        ({**BUCKET, "DELAYWATCH_BACKUP": "s3://flights/backups"}, "DELAYWATCH_BACKUP"),
        ({**BUCKET, "DELAYWATCH_LAKE": "s3://b-1/lake/", "DELAYWATCH_BACKUP": "s3://b-1/lake"}, "DELAYWATCH_BACKUP"),
        ({**BUCKET, "DELAYWATCH_LAKE": "s3://b-1/lake", "DELAYWATCH_BACKUP": "s3://b-1"}, "DELAYWATCH_BACKUP"),
    ],
)
def test_values_that_contradict_each_other_are_refused_by_name(environ: dict[str, str], named: str) -> None:
    assert named in refusal(**environ)


@pytest.mark.parametrize("backup", ["s3://flights/backups", "s3://flights/lake-backups", "s3://flights-backups"])
def test_a_backup_may_be_next_to_the_lake(backup: str) -> None:
    environ = {**BUCKET, "DELAYWATCH_LAKE": "s3://flights/lake", "DELAYWATCH_BACKUP": backup}

    assert StackSettings.from_environment(environ).backup == backup


def test_settings_do_not_show_their_secrets() -> None:
    shown = repr(StackSettings.from_environment({**BUCKET, **RDS, **KEYS, "DELAYWATCH_ADMIN_PASSWORD": "twelve chars"}))

    assert [secret for secret in ("@rds", "secret/key", "twelve chars") if secret in shown] == []


@settings(max_examples=50)
@given(st.text(min_size=1))
def test_a_password_that_is_not_encoded_is_read_literally_or_refused(password: str) -> None:
    try:
        found = StackSettings.from_environment({"DELAYWATCH_WAREHOUSE": f"postgresql://loader:{password}@rds/flights"})
    except InvalidInput as refused:
        assert f":{password}@" not in str(refused)
    else:
        url = make_url(found.warehouse)
        assert (url.host, url.database) == ("rds", "flights")
        assert "%" in password or url.password == password
