"""`python -m stack` as the service `setup` runs it: first start, second start, settings of `.env`, refusals."""

from __future__ import annotations

import json
import re
import resource

import pytest
from cryptography.fernet import Fernet

from stack.settings import VARIABLES
from tests.integration.stack.volumes import Volumes

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAOFENV", "AWS_SECRET_ACCESS_KEY": "key/of+env="}
BUCKET = {"DELAYWATCH_LAKE": "s3://my-flights/lake", "AWS_DEFAULT_REGION": "eu-central-1"}
BACKUP = {"DELAYWATCH_BACKUP": "s3://backups/delaywatch", "AWS_DEFAULT_REGION": "eu-central-1"}
RDS = {"DELAYWATCH_WAREHOUSE": "postgresql://master:gEheim%40rds@rds.example.com:5433/flights?sslmode=require"}
READER = {**RDS, "DELAYWATCH_READER": "postgresql://analyst:p%25w@replica/flights"}
AIRFLOW_AND_SUPERSET = {"airflow/admin_password", "superset/admin_password"}
KEY_FILES = {
    *("airflow/aws_credentials", "airflow/connections.json", "health/aws_credentials", "jupyter/aws_credentials"),
    "site/aws_credentials",
}
READER_FILES = {"health/warehouse_url", "jupyter/warehouse_url", "site/warehouse_url", "superset/warehouse_url"}
FEEDBACK = {**READER, "DELAYWATCH_FEEDBACK": "postgresql://labels:p%26w@replica/flights"}


# --- the first start --------------------------------------------------------------------------------------------------


HOLDERS = {
    "admin_password": AIRFLOW_AND_SUPERSET,
    "airflow_password": {"airflow/database_url", "health/database_url", "postgres/airflow_password"},
    "airflow_secret_key": {"airflow/secret_key"},
    "feedback_password": {"airflow/feedback_password", "site/feedback_url"},
    "fernet_key": {"airflow/fernet_key"},
    "jupyter_token": {"jupyter/token"},
    "jwt_secret": {"airflow/jwt_secret"},
    "postgres_password": {"postgres/postgres_password"},
    "reader_password": {"airflow/reader_password", *READER_FILES},
    "s3_access_key": {"s3/access_key", *KEY_FILES},
    "s3_secret_key": {"s3/secret_key", *KEY_FILES},
    "site_key": {"site/site_key"},
    "superset_password": {"superset/database_url", "postgres/superset_password"},
    "superset_secret_key": {"superset/secret_key"},
    "warehouse_password": {"airflow/warehouse_url", "airflow/connections.json", "postgres/warehouse_password"},
}


def test_a_generated_secret_is_given_only_to_the_services_that_need_it(started: Volumes) -> None:
    generated = {path.name for path in started.path("secrets").iterdir()} - {"tls.crt", "tls.key"}

    assert {name: started.holders(started.read(f"secrets/{name}")) for name in generated} == HOLDERS


def test_secrets_are_strong_unquoted_and_only_root_can_read_the_kept_ones(started: Volumes) -> None:
    values = {path.name: path.read_text() for path in started.path("secrets").iterdir() if path.suffix == ""}

    Fernet(values.pop("fernet_key"))
    assert {name: value for name, value in values.items() if not re.fullmatch("[A-Za-z0-9]{20,}", value)} == {}
    assert {path.stat().st_mode & 0o777 for path in started.path("handed").glob("*/*")} == {0o444}
    assert {path.stat().st_mode & 0o777 for path in started.path("secrets").iterdir()} == {0o600}


# --- the next starts --------------------------------------------------------------------------------------------------


def test_a_second_start_touches_no_file(volumes: Volumes) -> None:
    volumes.setup()
    before = volumes.snapshot("secrets", "handed")

    volumes.setup(**dict.fromkeys(VARIABLES, ""))

    assert volumes.snapshot("secrets", "handed") == before


def test_a_start_repairs_changed_and_missing_files_and_removes_others(volumes: Volumes) -> None:
    volumes.setup()
    before = {name: content for name, (content, *_) in volumes.snapshot("handed").items()}
    volumes.path("handed/airflow/jwt_secret").chmod(0o400)
    volumes.path("handed/s3/access_key").unlink()
    volumes.put("handed/superset/secret_key", "other")
    volumes.put("handed/jupyter/former_secret", "of an older release")

    volumes.setup()

    assert {name: content for name, (content, *_) in volumes.snapshot("handed").items()} == before
    assert volumes.path("handed/airflow/jwt_secret").stat().st_mode & 0o777 == 0o444


def test_a_start_completes_the_secrets_of_an_interrupted_one(volumes: Volumes) -> None:
    volumes.setup()
    kept = volumes.read("secrets/admin_password")
    volumes.path("secrets/warehouse_password").rename(volumes.path("secrets/.warehouse_password.new"))
    volumes.put("secrets/jwt_secret", "")

    volumes.setup()

    assert volumes.read("secrets/admin_password") == kept
    assert len(volumes.read("secrets/jwt_secret")) >= 64
    assert not list(volumes.path("secrets").glob(".*"))


# --- settings of .env -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "secret", "holders"),
    [
        ({"DELAYWATCH_ADMIN_PASSWORD": "correct horse battery"}, "correct horse battery", AIRFLOW_AND_SUPERSET),
        ({"DELAYWATCH_JUPYTER_TOKEN": "a token of my own"}, "a token of my own", {"jupyter/token"}),
        ({"DELAYWATCH_KAGGLE_TOKEN": "KGAT_0123456789"}, "KGAT_0123456789", {"airflow/kaggle_token"}),
        ({"DELAYWATCH_SMTP": "smtps://robot:p%40ss@mail.lan"}, "p%40ss", {"airflow/smtp_url"}),
        ({"DELAYWATCH_ALERT_WEBHOOK": "https://hooks.example.com/T/B/x"}, "T/B/x", {"airflow/alert_webhook"}),
        (RDS, "gEheim%40rds", {"airflow/warehouse_url", "airflow/connections.json"}),
        (READER, "p%25w", READER_FILES),
        (FEEDBACK, "p%26w", {"site/feedback_url"}),
        ({**BUCKET, **KEYS}, "key/of+env=", KEY_FILES),
        ({**BACKUP, **KEYS}, "key/of+env=", {"backup/aws_credentials"}),
        ({**KEYS, "DELAYWATCH_BACKUP": "/mnt/backups"}, "key/of+env=", set()),
        (
            {"AIRFLOW_SECRETS_BACKEND": "a.Backend", "AIRFLOW_SECRETS_BACKEND_KWARGS": '{"token": "t0ken"}'},
            "t0ken",
            {"airflow/airflow.cfg"},
        ),
    ],
)
def test_a_secret_of_env_is_given_only_to_the_services_that_need_it_and_is_withdrawn_with_it(
    volumes: Volumes, variables: dict[str, str], secret: str, holders: set[str]
) -> None:
    outcome = volumes.setup(**variables)
    assert volumes.holders(secret) == holders
    assert secret not in outcome.out + outcome.err

    volumes.put("project/.env", "")
    volumes.setup()
    assert volumes.holders(secret) == set()


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_refused_start_writes_nothing(volumes: Volumes) -> None:
    assert "DELAYWATCH_LOCAL" in volumes.refusal(DELAYWATCH_LOCAL="2")
    assert volumes.snapshot("secrets", "handed") == {}


def test_a_machine_of_4_gib_is_refused(volumes: Volumes) -> None:
    volumes.put("meminfo", "MemTotal:        3984588 kB\nMemFree:  1000000 kB\n")

    assert "3.8 GiB" in volumes.refusal()


def test_a_full_disk_leaves_no_partial_file(volumes: Volumes) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30, limit[1]))  # the kernel refuses longer files, as with a quota
    try:
        outcome = volumes.run("setup")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)

    assert outcome.code == 1
    assert str(volumes.path("secrets/airflow_password")) in outcome.err
    kept = [path.name for path in volumes.path("secrets").iterdir() if not path.name.startswith(".")]
    assert kept == ["admin_password"]


# --- other commands ---------------------------------------------------------------------------------------------------


def test_a_restart_keeps_the_record_of_backups_and_a_copy_clears_the_failure(volumes: Volumes) -> None:
    volumes.setup()
    folder = {"DELAYWATCH_BACKUP": "/mnt/backups"}
    assert volumes.run("backup made delaywatch-20261130T033000Z.tar").code == 0
    assert volumes.run("backup failed disk-full", folder).code == 0
    failed = json.loads(volumes.read("handed/health/backup.json"))["failed"]
    assert volumes.run("backup copied daily-20261130T043000Z.tar", folder).code == 0

    volumes.setup()

    record = json.loads(volumes.read("handed/health/backup.json"))
    assert failed["text"] == "disk-full"
    assert record.keys() == {"made", "copied"}
    assert record["made"]["at"] == "2026-11-30T03:30:00+00:00", "the time in the name"
    assert (record["copied"]["text"], record["copied"]["place"]) == ("daily-20261130T043000Z.tar", "/mnt/backups")
    assert b"backup.json" not in volumes.run("export").raw
