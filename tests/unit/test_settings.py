"""Settings from the environment and `.env`: what overrides what, and wrong or contradictory values refused by name."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url

from stack.settings import SECRET, StackSettings
from utils.errors import InvalidInput
from utils.settings import AlertSettings, Settings, WatchSettings

# --- steps ---

COMPLETE = {
    "DELAYWATCH_LAKE": "s3://lake/x",
    "DELAYWATCH_WAREHOUSE": "postgresql://u:p@h/d",
    "AWS_ENDPOINT_URL": "http://s3:8333",
}
AWS_KEYS = {"AWS_ACCESS_KEY_ID": "own", "AWS_SECRET_ACCESS_KEY": "own-secret", "AWS_SESSION_TOKEN": "own-token"}


def test_settings_come_from_the_environment_unless_they_are_given() -> None:
    found = Settings.from_environment(
        COMPLETE | {"DELAYWATCH_THREADS": "3"}, lake="file:///lake", aws_endpoint_url=None
    )

    assert (found.lake, found.warehouse, found.threads) == ("file:///lake", "postgresql://u:p@h/d", 3)
    assert (found.aws_endpoint_url, found.aws_region) == ("http://s3:8333", None)


@pytest.mark.parametrize(
    ("given_keys", "used"),
    [
        ({"aws_access_key_id": "k", "aws_secret_access_key": "s", "aws_session_token": None}, ("k", "s", None)),
        ({"aws_access_key_id": "k"}, ("k", None, None)),
        ({"aws_access_key_id": None, "aws_secret_access_key": ""}, tuple(AWS_KEYS.values())),
    ],
)
def test_given_aws_keys_are_never_mixed_with_those_of_the_environment(
    given_keys: dict[str, str | None], used: tuple[str | None, ...]
) -> None:
    in_files = {f"{name}_FILE": "/nowhere" for name in AWS_KEYS} if given_keys["aws_access_key_id"] else {}

    found = Settings.from_environment(COMPLETE | AWS_KEYS | in_files, **given_keys)

    assert (found.aws_access_key_id, found.aws_secret_access_key, found.aws_session_token) == used


@pytest.mark.parametrize("name", ["DELAYWATCH_LAKE", "DELAYWATCH_WAREHOUSE"])
@pytest.mark.parametrize("value", [{}, {"DELAYWATCH_LAKE": "", "DELAYWATCH_WAREHOUSE": ""}], ids=["unset", "empty"])
def test_a_missing_required_variable_is_named(name: str, value: dict[str, str]) -> None:
    others = {key: text for key, text in COMPLETE.items() if key != name}

    with pytest.raises(InvalidInput, match=f"{name} is not set"):
        Settings.from_environment(value | others)


def test_without_variables_no_message_is_sent_and_nothing_is_deleted() -> None:
    empty = {"DELAYWATCH_ALERT_EMAIL": "", "DELAYWATCH_SMTP": "", "DELAYWATCH_KEEP_LOGS_DAYS": ""}

    assert not AlertSettings.from_environment(empty).is_configured
    assert not WatchSettings.from_environment(empty).has_limit


@pytest.mark.parametrize("limit", ["KEEP_LOGS_DAYS", "KEEP_PLOTS_YEARS", "KEEP_SILVER_YEARS"])
def test_each_limit_alone_deletes_something(limit: str) -> None:
    assert WatchSettings.from_environment({f"DELAYWATCH_{limit}": "3"}).has_limit


def test_recipients_are_separated_by_commas_and_need_a_mail_server() -> None:
    recipients = {"DELAYWATCH_ALERT_EMAIL": "ops@here.org, boss@here.org"}

    alerts = AlertSettings.from_environment(recipients | {"DELAYWATCH_SMTP": "smtp://mail.here.org"})
    assert alerts.recipients == ("ops@here.org", "boss@here.org")
    with pytest.raises(InvalidInput, match="set DELAYWATCH_SMTP"):
        AlertSettings.from_environment(recipients)


def test_wrong_settings_of_mail_do_not_stop_a_run() -> None:
    wrong = {"DELAYWATCH_ALERT_EMAIL": "ops", "DELAYWATCH_SMTP_FILE": "/nowhere"}

    assert Settings.from_environment(COMPLETE | wrong).lake == "s3://lake/x"


# --- the stack ---

BUCKET = {"DELAYWATCH_LAKE": "s3://flights", "AWS_DEFAULT_REGION": "eu-central-1"}
KEYS = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret/key"}
RDS = {"DELAYWATCH_WAREHOUSE": "postgresql://u:p@rds/flights"}


def refusal(**environ: str) -> str:
    with pytest.raises(InvalidInput) as refused:
        StackSettings.from_environment(environ)
    return str(refused.value)


ACCEPTED = {
    "DELAYWATCH_HOST": ["localhost", "Flights.Example.com", "10.0.0.7", "[::1]", "a" * 63 + ".example"],
    "DELAYWATCH_BIND": ["127.0.0.1", "0.0.0.0", "[::]"],  # noqa: S104 - a user may want that
    "DELAYWATCH_HTTP_PORT": ["1", "65535"],
    "DELAYWATCH_ADMIN_PASSWORD": ["twelve chars", "pass wörd with ünicode"],
    "AWS_ENDPOINT_URL": ["http://s3:8333", "https://minio.lan", "http://[::1]:9000", "http://10.0.0.7:9000/"],
    "DELAYWATCH_TRUSTED_PROXY": ["10.0.0.0/23", "10.0.0.7", "fd00::/8"],
    "DELAYWATCH_BTS_URL": ["https://transtats.example.com/PREZIP", "http://my_mirror:8000"],
    "DELAYWATCH_KAGGLE_TOKEN": ["KGAT_0123456789", '{"username": "amelia", "key": "0123"}'],
    "DELAYWATCH_SMTP": ["smtp://mail.lan", "smtps://robot:p%40ss@mail.example.com:465", "smtp://[::1]:25"],
    "DELAYWATCH_ALERT_WEBHOOK": ["https://hooks.example.com/services/T0/B0/x?y=1", "http://chat_bot/x"],
    "DELAYWATCH_BACKUP": ["/mnt/backups", "/Volumes/Time Machine/delaywatch", "/b"],
    "DELAYWATCH_WAREHOUSE": [
        "postgresql://u:p@host:5432/db?sslmode=require&connect_timeout=5",
        "postgresql://user%40corp:p%3A%2F%3F%23%5B%5D%25@rds.eu-central-1.amazonaws.com/my-db",
        "postgresql://u:p@[fe80::1]:5432/db",
    ],
}
REFUSED = {
    "DELAYWATCH_LOCAL": ["yes", "2", "01"],
    "DELAYWATCH_MONTHLY": ["yes", "2", "01"],
    "DELAYWATCH_HOST": ["https://a.org", "a.org:443", "a b", "-a.org", "a..org", "999.1.1.1", "::1", "a_b", "ä.org"],
    "DELAYWATCH_BIND": ["localhost", "127.0.0.1:80", "::", "[127.0.0.1]"],
    "DELAYWATCH_HTTP_PORT": ["0", "65536", "http", "-1", "٣"],
    "DELAYWATCH_HTTPS_PORT": ["0x1bb"],
    "DELAYWATCH_EMAIL": ["ops", "a@b@c"],
    "DELAYWATCH_THREADS": ["0", "many", "1_000", "\u0663"],
    "DELAYWATCH_ADMIN_PASSWORD": ["elevenchars"],
    "DELAYWATCH_JUPYTER_TOKEN": ["short"],
    "DELAYWATCH_TRUSTED_PROXY": ["any", "10.0.0.1/23", "10.0.0.0/33", "0/0; deny all"],
    "DELAYWATCH_SILVER_JOB": ["arn:aws:glue:eu-west-1:123456789012:job/silver", "my job"],
    "DELAYWATCH_BTS_URL": ["https://u:swordfish@mirror.lan", "bts.gov", "ftp://bts.gov", "https://a b", "https://a/#b"],
    "DELAYWATCH_KAGGLE_URL": ["https://a/api?x="],
    "DELAYWATCH_BACKUP": ["backups", "~/backups", "/", "/mnt/", "s3://Backups", "ftp://host/folder"],
    "DELAYWATCH_KAGGLE_TOKEN": ["two words", '{"username": "amelia"}', "[1]"],
    "DELAYWATCH_ALERT_EMAIL": ["ops", "ops@example.com;dev@example.com", "a@b@c", "a@b c@d"],
    "DELAYWATCH_ALERT_FROM": ["a@example.com,b@example.com", "Robot <robot@example.com>"],
    "DELAYWATCH_SMTP": [
        "mail.lan:587", "http://mail.lan", "smtp://:25", "smtp://mail.lan:0", "smtp://u@mail.lan", "smtp://u:12#3@h",
        "smtp://u:1%2@h", "smtp://mail.lan/x",
    ],
    "DELAYWATCH_ALERT_WEBHOOK": ["hooks.example.com/x", "https://?a", "https://a b", "https://a/b#c", "https://u:p@a/b"],
    "DELAYWATCH_METRICS": ["collector:4318", "grpc://collector", "http://collector?x"],
    "DELAYWATCH_EXPECTED_YEAR": ["13", "last", "2013:2014"],
    "DELAYWATCH_KEEP_LOGS_DAYS": ["0", "-1", "1.5"],
    "DELAYWATCH_KEEP_RUNS_DAYS": ["199", "0", "x", "365.0"],
    "DELAYWATCH_LAKE": [
        "flights", "file:///srv/lake", "s3:flights", "s3://Flights", "s3://flights/a b", "s3://a", "s3://flights/team#1",
        "s3://flights/team?1", "s3://flights/team%231",
    ],
    "DELAYWATCH_LOGS": ["/var/log", "s3://flights/%s", "s3://flights/$HOME"],
    "AWS_DEFAULT_REGION": ["EU (Frankfurt)"],
    "AWS_ENDPOINT_URL": [
        "s3:8333", "ftp://minio", "http://", "http://a:99999", "http://u:p@minio", "http://minio#s3", "http://my_store",
    ],
    "AWS_SECRET_ACCESS_KEY": ["two words"],
    "AIRFLOW_SECRETS_BACKEND": ["SecretsManagerBackend", "a b.c"],
    "AIRFLOW_SECRETS_BACKEND_KWARGS": ["region=eu", "[1]", "{'a': 1}"],
    "DELAYWATCH_WAREHOUSE": [
        "postgres://u:p@host/db", "postgresql+psycopg2://u:p@host/db", "postgresql://u@host/db",
        "postgresql://u:@host/db", "postgresql://host/db", "postgresql://u:p@host", "postgresql://u:p@host/",
        "postgresql://u:p@host:70000/db", "postgresql://u:p@x@host/db", "postgresql://u:p/x@host/db",
        "postgresql://u:p#x@host/db", "postgresql://u:p?x@host/db", "postgresql://u:100%@host/db", "postgresql://u:p@/db",
    ],
}  # fmt: skip


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
        ({"DELAYWATCH_HTTPS_PORT": "080"}, "DELAYWATCH_HTTP_PORT"),
        ({**BUCKET, "AWS_ACCESS_KEY_ID": "AKIA"}, "AWS_SECRET_ACCESS_KEY"),
        ({"DELAYWATCH_LAKE": "s3://flights", **KEYS}, "AWS_DEFAULT_REGION"),
        ({"DELAYWATCH_LOGS": "s3://elsewhere/logs"}, "s3://elsewhere/logs"),
        ({"DELAYWATCH_ALERT_EMAIL": "ops@example.com"}, "DELAYWATCH_SMTP"),
        ({"DELAYWATCH_READER": "postgresql://r:p@rds/f"}, "DELAYWATCH_WAREHOUSE"),
        ({"DELAYWATCH_SILVER_JOB": "silver"}, "DELAYWATCH_LAKE"),
        ({**BUCKET, "AWS_ENDPOINT_URL": "http://minio:9000", "DELAYWATCH_SILVER_JOB": "silver"}, "AWS_ENDPOINT_URL"),
        ({"DELAYWATCH_BACKUP": "s3://backups"}, "AWS_DEFAULT_REGION"),
        ({"DELAYWATCH_BACKUP": "s3://backups", "AWS_ENDPOINT_URL": "http://s3:8333"}, "DELAYWATCH_BACKUP"),
        ({**BUCKET, "DELAYWATCH_BACKUP": "s3://flights"}, "DELAYWATCH_BACKUP"),
        ({**BUCKET, "DELAYWATCH_BACKUP": "s3://flights/backups"}, "DELAYWATCH_BACKUP"),
        ({**BUCKET, "DELAYWATCH_LAKE": "s3://b-1/lake/", "DELAYWATCH_BACKUP": "s3://b-1/lake"}, "DELAYWATCH_BACKUP"),
        ({**BUCKET, "DELAYWATCH_LAKE": "s3://b-1/lake", "DELAYWATCH_BACKUP": "s3://b-1"}, "DELAYWATCH_BACKUP"),
    ],
)
def test_values_that_contradict_each_other_are_refused_by_name(environ: dict[str, str], named: str) -> None:
    assert named in refusal(**environ)


@settings(max_examples=50)
@given(st.text(min_size=1))
def test_any_password_is_accepted_when_it_is_percent_encoded(password: str) -> None:
    url = f"postgresql://loader:{quote(password, safe='')}@rds:5432/flights"

    warehouse = StackSettings.from_environment({"DELAYWATCH_WAREHOUSE": url}).warehouse

    assert warehouse == url
    assert make_url(warehouse).password == password


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
