"""The values of `.env`: each is looked at before anything starts, and what contradicts another is told."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from stack.settings import SECRET, StackSettings
from utils.errors import DelaywatchError

AWS = {"DELAYWATCH_LAKE": "s3://flights", "AWS_DEFAULT_REGION": "eu-central-1"}
KEYS = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret/key"}
RDS = {"DELAYWATCH_WAREHOUSE": "postgresql://u:p@rds/flights"}


def refusal(**environ: str) -> str:
    with pytest.raises(DelaywatchError) as refused:
        StackSettings.from_environment(environ)
    return str(refused.value)


def test_without_anything_all_is_local() -> None:
    found = StackSettings.from_environment({"PATH": "/bin"})

    assert (found.host, found.is_lake_local) == ("localhost", True)
    assert (found.endpoint, found.region) == ("http://s3:8333", "us-east-1")
    assert (found.warehouse, found.reader, found.logs, found.secrets_backend) == ("", None, None, None)


def test_on_aws_nothing_is_local() -> None:
    found = StackSettings.from_environment({"DELAYWATCH_LOCAL": "0", **AWS, **RDS, **KEYS})

    assert (found.is_lake_local, found.endpoint, found.region) == (False, None, "eu-central-1")
    assert found.aws_keys == {"aws_access_key_id": "AKIA", "aws_secret_access_key": "secret/key"}
    assert found.warehouse == RDS["DELAYWATCH_WAREHOUSE"]


def test_a_store_that_is_not_aws_needs_no_region() -> None:
    found = StackSettings.from_environment(
        {"DELAYWATCH_LAKE": "s3://flights", "AWS_ENDPOINT_URL": "https://minio.lan:9000"}
    )

    assert (found.endpoint, found.region) == ("https://minio.lan:9000", "us-east-1")


ACCEPTED = {
    "DELAYWATCH_LOCAL": ["1"],
    "DELAYWATCH_HOST": ["localhost", "Flights.Example.com", "10.0.0.7", "[::1]", "a" * 63 + ".example"],
    "DELAYWATCH_BIND": ["127.0.0.1", "0.0.0.0", "[::]"],  # noqa: S104 a user may want that
    "DELAYWATCH_HTTP_PORT": ["1", "8080", "65535"],
    "DELAYWATCH_EMAIL": ["ops@example.com"],
    "DELAYWATCH_THREADS": ["1", "16"],
    "DELAYWATCH_ADMIN_PASSWORD": ["twelve chars", "pass wörd with ünicode"],
    "AWS_ENDPOINT_URL": ["http://s3:8333", "https://minio.lan", "http://[::1]:9000", "http://10.0.0.7:9000/"],
    "DELAYWATCH_LOGS": ["s3://delaywatch/logs"],
    "DELAYWATCH_TRUSTED_PROXY": ["10.0.0.0/23", "10.0.0.7", "fd00::/8"],
    "DELAYWATCH_BTS_URL": ["https://transtats.example.com/PREZIP", "http://my_mirror:8000"],
    "DELAYWATCH_KAGGLE_TOKEN": ["KGAT_0123456789", '{"username": "amelia", "key": "0123"}'],
    "DELAYWATCH_ALERT_FROM": ["robot@example.com"],
    "DELAYWATCH_SMTP": ["smtp://mail.lan", "smtps://robot:p%40ss@mail.example.com:465", "smtp://[::1]:25"],
    "DELAYWATCH_ALERT_WEBHOOK": ["https://hooks.example.com/services/T0/B0/x?y=1", "http://chat_bot/x"],
    "DELAYWATCH_METRICS": ["http://collector:4318"],
    "DELAYWATCH_EXPECTED_YEAR": ["2013"],
    "DELAYWATCH_BACKUP": ["/mnt/backups", "/Volumes/Time Machine/delaywatch", "/b"],
    "DELAYWATCH_KEEP_LOGS_DAYS": ["1", "365"],
    "DELAYWATCH_WAREHOUSE": [
        "postgresql://u:p@host/db",
        "postgresql://u:p@host:5432/db?sslmode=require&connect_timeout=5",
        "postgresql://user%40corp:p%3A%2F%3F%23%5B%5D%25@rds.eu-central-1.amazonaws.com/my-db",
        "postgresql://u:p@[fe80::1]:5432/db",
    ],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in ACCEPTED.items() for value in values])
def test_a_sensible_value_is_accepted(name: str, value: str) -> None:
    StackSettings.from_environment({name: value})


REFUSED = {
    "DELAYWATCH_LOCAL": ["yes", "2", "01", "true"],
    "DELAYWATCH_HOST": [
        "https://a.org",
        "a.org:443",
        "a b",
        "-a.org",
        "a..org",
        "999.1.1.1",
        "::1",
        "a.org/",
        "a_b",
        "ä.org",
    ],
    "DELAYWATCH_BIND": ["localhost", "127.0.0.1:80", "::", "[127.0.0.1]"],
    "DELAYWATCH_HTTP_PORT": ["0", "65536", "http", "80/tcp", "-1", "٣"],
    "DELAYWATCH_HTTPS_PORT": ["0x1bb"],
    "DELAYWATCH_EMAIL": ["ops", "a@b@c"],
    "DELAYWATCH_THREADS": ["0", "many", "-2"],
    "DELAYWATCH_ADMIN_PASSWORD": ["short", "elevenchars"],
    "DELAYWATCH_JUPYTER_TOKEN": ["short"],
    "DELAYWATCH_TRUSTED_PROXY": ["any", "10.0.0.1/23", "10.0.0.0/33", "0/0; deny all"],
    "DELAYWATCH_BTS_URL": [
        "https://user:swordfish@mirror.lan/zips",
        "transtats.bts.gov",
        "ftp://transtats.bts.gov",
        "https://a b",
        "https://a/PREZIP?x=",
        "https://a/#b",
    ],
    "DELAYWATCH_KAGGLE_URL": ["https://a/api?x=", "https://a/#v1", "https://amelia:key@kaggle.example.com"],
    "DELAYWATCH_BACKUP": ["backups", "~/backups", "/", "/mnt/", "s3://Backups", "ftp://host/folder"],
    "DELAYWATCH_KAGGLE_TOKEN": ["two words", '{"username": "amelia"}', "[1]"],
    "DELAYWATCH_ALERT_EMAIL": ["ops", "ops@example.com;dev@example.com", "a@b@c"],
    "DELAYWATCH_ALERT_FROM": ["a@example.com,b@example.com", "Robot <robot@example.com>"],
    "DELAYWATCH_SMTP": [
        "mail.lan:587",
        "http://mail.lan",
        "smtp://:25",
        "smtp://mail.lan:0",
        "smtp://u@mail.lan",
        "smtp://u:12#3@h",
        "smtp://u:12/3@h",
        "smtp://u:1%2@h",
        "smtp://mail.lan#x",
        "smtp://mail.lan/x",
    ],
    "DELAYWATCH_ALERT_WEBHOOK": [
        "hooks.example.com/x",
        "https://?a",
        "https://a b",
        "https://a/b#c",
        "https://u:p@a/b",
    ],
    "DELAYWATCH_METRICS": ["collector:4318", "grpc://collector", "http://collector?x", "http://collector#x"],
    "DELAYWATCH_EXPECTED_YEAR": ["13", "last", "2013:2014"],
    "DELAYWATCH_KEEP_LOGS_DAYS": ["0", "-1", "forever", "1.5"],
    "DELAYWATCH_LAKE": [
        "flights",
        "file:///srv/lake",
        "s3:flights",
        "s3://Flights",
        "s3://flights/a b",
        "s3://a",
        "s3://flights/team#1",
        "s3://flights/team?1",
        "s3://flights/team%231",
    ],
    "DELAYWATCH_LOGS": ["/var/log", "s3://flights/%s", "s3://flights/$HOME"],
    "AWS_DEFAULT_REGION": ["EU (Frankfurt)"],
    "AWS_ENDPOINT_URL": [
        "s3:8333",
        "minio.lan",
        "ftp://minio",
        "http://",
        "http://a:99999",
        "http://u:p@minio",
        "http://minio#s3",
        "http://my_store:9000",
    ],
    "AWS_SECRET_ACCESS_KEY": ["two words"],
    "AIRFLOW_SECRETS_BACKEND": ["SecretsManagerBackend", "a b.c", "a.b-c"],
    "AIRFLOW_SECRETS_BACKEND_KWARGS": ["region=eu", "[1]", "{'a': 1}"],
    "DELAYWATCH_WAREHOUSE": [
        "postgres://u:p@host/db",
        "postgresql+psycopg2://u:p@host/db",
        "mysql://u:p@host/db",
        "postgresql://u@host/db",
        "postgresql://u:@host/db",
        "postgresql://host/db",
        "postgresql://u:p@host",
        "postgresql://u:p@host/",
        "postgresql://u:p@host:0/db",
        "postgresql://u:p@host:70000/db",
        "postgresql://u:p@x@host/db",
        "postgresql://u:p/x@host/db",
        "postgresql://u:p#x@host/db",
        "postgresql://u:p?x@host/db",
        "postgresql://u:100%@host/db",
        "postgresql://u:p@/db",
    ],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in REFUSED.items() for value in values])
def test_a_value_that_cannot_be_meant_is_refused_by_name(name: str, value: str) -> None:
    said = refusal(**{name: value})

    assert said.startswith(f"{name} ")
    has_login = "://" in value and "@" in value
    assert (value in said) == (name not in SECRET and not has_login)


@pytest.mark.parametrize("name", sorted(SECRET))
def test_a_line_break_in_a_value_is_refused_and_the_value_not_repeated(name: str) -> None:
    assert "swordfish" not in refusal(**{name: "swordfish-swordfish\nx"})


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (
            {"DELAYWATCH_LOCAL": "0"},
            "DELAYWATCH_LOCAL is 0, so DELAYWATCH_LAKE and DELAYWATCH_WAREHOUSE must say where",
        ),
        ({"DELAYWATCH_LOCAL": "0", **AWS}, "DELAYWATCH_LOCAL is 0, so DELAYWATCH_WAREHOUSE must say where"),
        ({"DELAYWATCH_LOCAL": "0", **RDS}, "DELAYWATCH_LOCAL is 0, so DELAYWATCH_LAKE must say where"),
        ({"DELAYWATCH_HTTP_PORT": "8443", "DELAYWATCH_HTTPS_PORT": "8443"}, "are both 8443; take two different ports."),
        ({"DELAYWATCH_HTTP_PORT": "443"}, "are both 443; take two different ports."),
        ({"DELAYWATCH_HTTPS_PORT": "080"}, "are both 80; take two different ports."),
        ({**AWS, "AWS_ACCESS_KEY_ID": "AKIA"}, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belong together"),
        ({**AWS, "AWS_SECRET_ACCESS_KEY": "secret"}, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belong together"),
        ({**AWS, "AWS_SESSION_TOKEN": "token"}, "AWS_SESSION_TOKEN is given without AWS_ACCESS_KEY_ID"),
        ({"DELAYWATCH_LAKE": "s3://flights", **KEYS}, "AWS_DEFAULT_REGION must say in which region"),
        ({"DELAYWATCH_LOGS": "s3://elsewhere/logs"}, "DELAYWATCH_LOGS is a bucket that the local store does not have"),
        ({"DELAYWATCH_ALERT_EMAIL": "ops@example.com"}, "DELAYWATCH_SMTP"),
        ({"DELAYWATCH_READER": "postgresql://r:p@rds/f"}, "DELAYWATCH_READER is given without DELAYWATCH_WAREHOUSE"),
        ({"AIRFLOW_SECRETS_BACKEND_KWARGS": "{}"}, "is given without AIRFLOW_SECRETS_BACKEND"),
        ({"DELAYWATCH_BACKUP": "s3://backups"}, "AWS_DEFAULT_REGION must say in which region"),
        ({"DELAYWATCH_BACKUP": "s3://backups", "AWS_ENDPOINT_URL": "http://s3:8333"}, "the stack's own object store"),
        ({**AWS, "DELAYWATCH_BACKUP": "s3://flights"}, "DELAYWATCH_BACKUP is 's3://flights', but the lake is in"),
        ({**AWS, "DELAYWATCH_BACKUP": "s3://flights/backups"}, "would be lost with it"),
        (
            {
                "AWS_DEFAULT_REGION": "eu",
                "DELAYWATCH_LAKE": "s3://bucket/lake/",
                "DELAYWATCH_BACKUP": "s3://bucket/lake",
            },
            "would be lost with it",
        ),
        (
            {"AWS_DEFAULT_REGION": "eu", "DELAYWATCH_LAKE": "s3://bucket/lake", "DELAYWATCH_BACKUP": "s3://bucket"},
            "would be lost with it",
        ),
    ],
)
def test_what_contradicts_another_is_refused(environ: dict[str, str], said: str) -> None:
    assert said in refusal(**environ)


def test_recipients_need_no_mail_server_in_env_if_a_secrets_backend_may_hold_it() -> None:
    StackSettings.from_environment(
        {"DELAYWATCH_ALERT_EMAIL": "ops@example.com", "AIRFLOW_SECRETS_BACKEND": "a.Backend"}
    )


def test_a_backup_may_be_beside_the_lake_in_its_bucket_or_in_a_bucket_of_a_similar_name() -> None:
    for place in ("s3://flights/backups", "s3://flights/lake-backups", "s3://flights-backups"):
        lake = {"DELAYWATCH_LAKE": "s3://flights/lake", "AWS_DEFAULT_REGION": "eu-central-1"}
        assert StackSettings.from_environment({**lake, "DELAYWATCH_BACKUP": place}).backup == place


def test_all_values_that_are_wrong_are_told_at_once() -> None:
    said = refusal(DELAYWATCH_LOCAL="yes", DELAYWATCH_HTTP_PORT="0")

    assert "DELAYWATCH_LOCAL is 'yes'" in said
    assert "DELAYWATCH_HTTP_PORT is '0'" in said


def test_settings_do_not_show_their_secrets() -> None:
    shown = repr(StackSettings.from_environment({**AWS, **RDS, **KEYS, "DELAYWATCH_ADMIN_PASSWORD": "twelve chars"}))

    assert "flights" not in shown.replace("s3://flights", "")
    assert "secret/key" not in shown
    assert "twelve chars" not in shown


@given(st.text(min_size=1))
def test_any_password_may_stand_in_a_warehouse_url_once_it_is_percent_encoded(password: str) -> None:
    url = f"postgresql://loader:{quote(password, safe='')}@rds:5432/flights"

    found = StackSettings.from_environment({"DELAYWATCH_WAREHOUSE": url}).warehouse

    assert found == url
    assert make_url(found).password == password


@given(st.text(min_size=1))
def test_a_password_that_is_not_encoded_is_read_as_it_was_meant_or_refused(password: str) -> None:
    url = f"postgresql://loader:{password}@rds:5432/flights"

    try:
        found = StackSettings.from_environment({"DELAYWATCH_WAREHOUSE": url})
    except DelaywatchError as refused:
        assert str(refused).startswith("DELAYWATCH_WAREHOUSE c")
        assert f":{password}@" not in str(refused)
    else:
        parsed = make_url(str(found.warehouse))
        meant = password if "%" not in password else parsed.password
        assert (parsed.password, parsed.host, parsed.database) == (meant, "rds", "flights")
