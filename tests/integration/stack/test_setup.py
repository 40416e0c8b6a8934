"""`python -m stack` as the service `setup` runs it: first start, second start, what `.env` changes, what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cryptography.fernet import Fernet

from stack.settings import SECRET, VARIABLES
from tests.integration.stack.volumes import ROOT, Volumes

PACKAGES = os.environ | {"PYTHONPATH": "dags"}
HANDED = {
    "airflow": {
        "admin_password", "airflow.cfg", "alert_webhook", "aws_config", "aws_credentials", "connections.json",
        "database_url", "fernet_key", "jwt_secret", "kaggle_token", "reader_password", "secret_key", "smtp_url",
        "warehouse_url",
    },
    "backup": set(),
    "health": {"aws_config", "aws_credentials", "certificate.pem", "database_url", "warehouse_url"},
    "jupyter": {"aws_config", "aws_credentials", "token", "warehouse_url"},
    "nginx": {"hsts.conf", "tls.crt", "tls.key"},
    "postgres": {"airflow_password", "postgres_password", "superset_password", "warehouse_password"},
    "s3": {"access_key", "secret_key"},
    "superset": {"admin_password", "database_url", "secret_key", "warehouse_url"},
}  # fmt: skip


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    return Volumes.make(tmp_path)


def test_the_first_start_needs_no_env_and_hands_every_service_its_files(volumes: Volumes) -> None:
    outcome = volumes.setup()

    assert volumes.handed() == HANDED
    assert re.fullmatch(
        r"Setup: 13 secrets created, self-signed certificate for localhost until 20\d\d-\d\d-\d\d, "
        r"36 files handed over\.\n",
        outcome.out,
    )
    assert outcome.err == ""


def test_a_second_start_touches_no_file(volumes: Volumes) -> None:
    volumes.setup()
    first = volumes.snapshot("secrets", "handed")

    outcome = volumes.setup()

    assert outcome.out == "Setup: nothing to do.\n"
    assert volumes.snapshot("secrets", "handed") == first


def test_what_belongs_together_is_the_same_in_every_service(volumes: Volumes) -> None:
    volumes.setup()
    read = volumes.read
    reader = read("handed/airflow/reader_password")

    assert read("handed/airflow/database_url") == (
        f"postgresql+psycopg2://airflow:{read('handed/postgres/airflow_password')}@postgres:5432/airflow"
    )
    assert read("handed/superset/database_url") == (
        f"postgresql+psycopg2://superset:{read('handed/postgres/superset_password')}@postgres:5432/superset"
    )
    assert read("handed/airflow/warehouse_url") == (
        f"postgresql://delaywatch:{read('handed/postgres/warehouse_password')}@postgres:5432/warehouse"
    )
    assert read("handed/jupyter/warehouse_url") == f"postgresql://delaywatch_reader:{reader}@postgres:5432/warehouse"
    assert read("handed/superset/warehouse_url") == (
        f"postgresql+psycopg2://delaywatch_reader:{reader}@postgres:5432/warehouse"
    )
    assert read("handed/superset/admin_password") == read("handed/airflow/admin_password")
    for service in ("airflow", "health", "jupyter"):
        credentials = read(f"handed/{service}/aws_credentials")
        assert f"aws_access_key_id = {read('handed/s3/access_key')}\n" in credentials
        assert f"aws_secret_access_key = {read('handed/s3/secret_key')}\n" in credentials


def test_secrets_are_strong_and_need_no_quoting_anywhere(volumes: Volumes) -> None:
    volumes.setup()
    made = {path.name: path.read_text() for path in volumes.path("secrets").iterdir() if path.suffix == ""}

    Fernet(made.pop("fernet_key"))  # raises for a key that is none
    assert re.fullmatch("[A-Z0-9]{20}", made["s3_access_key"])
    assert len(made["jwt_secret"]) >= 64
    assert {name: value for name, value in made.items() if not re.fullmatch("[A-Za-z0-9]{20,}", value)} == {}
    assert len(set(made.values())) == len(made)


def test_two_installations_share_no_secret(tmp_path: Path) -> None:
    one, other = Volumes.make(tmp_path / "one"), Volumes.make(tmp_path / "other")
    one.setup()
    other.setup()

    assert {path.read_bytes() for path in one.path("secrets").iterdir()}.isdisjoint(
        path.read_bytes() for path in other.path("secrets").iterdir()
    )


def test_a_service_can_read_its_files_whatever_user_it_is_and_nobody_else_the_kept_ones(volumes: Volumes) -> None:
    volumes.setup()

    assert {path.stat().st_mode & 0o777 for path in volumes.path("handed").glob("*/*")} == {0o444}
    assert {path.stat().st_mode & 0o777 for path in volumes.path("secrets").iterdir()} == {0o600}


def test_a_file_that_somebody_changed_or_hid_is_put_right(volumes: Volumes) -> None:
    volumes.setup()
    first = {name: content for name, (content, *_) in volumes.snapshot("handed").items()}
    volumes.path("handed/airflow/jwt_secret").chmod(0o400)
    volumes.path("handed/s3/access_key").unlink()
    volumes.put("handed/superset/secret_key", "other")

    outcome = volumes.setup()

    assert outcome.out == "Setup: 3 files handed over.\n"
    assert {name: content for name, (content, *_) in volumes.snapshot("handed").items()} == first
    assert volumes.path("handed/airflow/jwt_secret").stat().st_mode & 0o777 == 0o444


GIVEN = {
    "DELAYWATCH_ADMIN_PASSWORD": "correct horse battery",
    "DELAYWATCH_JUPYTER_TOKEN": "a token of my own",
    "DELAYWATCH_WAREHOUSE": "postgresql://master:gEheim%40rds@rds.example.com:5433/flights?sslmode=require",
    "DELAYWATCH_LAKE": "s3://my-flights/lake",
    "DELAYWATCH_LOCAL": "0",
    "AWS_ACCESS_KEY_ID": "AKIAGIVENBYENV",
    "AWS_SECRET_ACCESS_KEY": "given/by+env=",
    "AWS_SESSION_TOKEN": "session-of-env",
    "AWS_DEFAULT_REGION": "eu-central-1",
}


def test_what_env_gives_wins_over_what_was_made(volumes: Volumes) -> None:
    volumes.setup()
    kept = volumes.snapshot("secrets")

    volumes.setup(**GIVEN)

    read, reader = volumes.read, volumes.read("secrets/reader_password")
    assert read("handed/airflow/admin_password") == read("handed/superset/admin_password") == "correct horse battery"
    assert read("handed/jupyter/token") == "a token of my own"
    assert read("handed/airflow/warehouse_url") == GIVEN["DELAYWATCH_WAREHOUSE"]
    place = "rds.example.com:5433/flights?sslmode=require"
    assert read("handed/jupyter/warehouse_url") == f"postgresql://delaywatch_reader:{reader}@{place}"
    assert read("handed/superset/warehouse_url") == f"postgresql+psycopg2://delaywatch_reader:{reader}@{place}"
    assert read("handed/airflow/aws_credentials") == (
        "[default]\naws_access_key_id = AKIAGIVENBYENV\naws_secret_access_key = given/by+env=\n"
        "aws_session_token = session-of-env\n"
    )
    assert read("handed/airflow/aws_config") == "[default]\nregion = eu-central-1\n"
    assert volumes.snapshot("secrets") == kept


def test_who_is_told_and_what_asks_outside_is_handed_to_airflow_alone_and_empty_when_there_is_none(
    volumes: Volumes,
) -> None:
    given = {
        "DELAYWATCH_SMTP": "smtps://robot:p%40ss@mail.example.com",
        "DELAYWATCH_ALERT_WEBHOOK": "https://hooks.example.com/T/B/x",
        "DELAYWATCH_KAGGLE_TOKEN": '{"username": "amelia", "key": "0123"}',
    }
    names = ("smtp_url", "alert_webhook", "kaggle_token")
    volumes.setup()
    assert [volumes.read(f"handed/airflow/{name}") for name in names] == ["", "", ""]

    outcome = volumes.setup(**given)

    assert [volumes.read(f"handed/airflow/{name}") for name in names] == list(given.values())
    assert outcome.out == "Setup: 3 files handed over.\n"


def test_a_reader_of_env_is_handed_on_as_it_is_and_the_made_one_withdrawn(volumes: Volumes) -> None:
    volumes.setup(**GIVEN)

    outcome = volumes.setup(**GIVEN, DELAYWATCH_READER="postgresql://analyst:p%25w@replica/flights")

    assert outcome.out == "Setup: 3 files handed over, 1 files removed.\n"
    assert volumes.read("handed/jupyter/warehouse_url") == "postgresql://analyst:p%25w@replica/flights"
    assert volumes.read("handed/superset/warehouse_url") == "postgresql+psycopg2://analyst:p%25w@replica/flights"
    assert not volumes.path("handed/airflow/reader_password").exists()


def test_without_keys_for_a_lake_at_aws_the_role_of_the_machine_decides(volumes: Volumes) -> None:
    volumes.setup()

    volumes.setup(DELAYWATCH_LAKE="s3://my-flights", AWS_DEFAULT_REGION="eu-central-1")

    assert not volumes.path("handed/airflow/aws_credentials").exists()
    assert not volumes.path("handed/jupyter/aws_credentials").exists()
    assert "login" not in volumes.read("handed/airflow/connections.json")
    assert "8333" not in volumes.read("handed/airflow/connections.json") + volumes.read("handed/airflow/aws_config")


def test_keys_of_the_calling_shell_do_not_reach_the_local_store(volumes: Volumes) -> None:
    volumes.setup()
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION")

    outcome = volumes.setup(**dict.fromkeys(names, "of-the-shell"))

    assert f"{', '.join(names)} are not used" in outcome.err
    assert outcome.out == "Setup: nothing to do.\n"
    assert not any(b"of-the-shell" in content for content, *_ in volumes.snapshot("handed").values())
    assert volumes.read("handed/s3/access_key") in volumes.read("handed/airflow/aws_credentials")


def test_an_empty_variable_counts_as_absent(volumes: Volumes) -> None:
    volumes.setup()

    assert volumes.setup(**dict.fromkeys(VARIABLES, "")).out == "Setup: nothing to do.\n"


def test_no_secret_is_printed_by_setup_whether_it_was_made_or_given(volumes: Volumes) -> None:
    outcomes = [volumes.setup(), volumes.setup(**GIVEN), volumes.run("setup", GIVEN | {"DELAYWATCH_HOST": "a b"})]
    said = "".join(outcome.out + outcome.err for outcome in outcomes)
    made = [path.read_text().strip() for path in volumes.path("secrets").iterdir()]
    given = [value for name, value in GIVEN.items() if name not in {"DELAYWATCH_LOCAL", "DELAYWATCH_LAKE"}]

    assert outcomes[-1].code == 1
    assert [secret for secret in made + given if secret in said] == []


def test_a_refused_start_writes_nothing(volumes: Volumes) -> None:
    volumes.refusal(DELAYWATCH_LOCAL="2")

    assert volumes.snapshot("secrets", "handed") == {}


@pytest.mark.parametrize("lost", ["handed/jupyter", "secrets", "state/postgres", "state/s3"])
def test_a_mount_that_is_not_there_is_named(volumes: Volumes, lost: str) -> None:
    volumes.path(lost).rmdir()

    said = volumes.refusal()

    assert str(volumes.path(lost)) in said
    assert "docker-compose.yaml" in said


def test_password_shows_what_the_services_have_and_how_to_change_it(volumes: Volumes) -> None:
    volumes.setup(DELAYWATCH_ADMIN_PASSWORD="correct horse battery")

    outcome = volumes.run("password")

    assert outcome.code == 0
    assert re.search(r"^User +admin", outcome.out, re.MULTILINE)
    assert re.search(r"^Password +correct horse battery$", outcome.out, re.MULTILINE)
    assert re.search(rf"^Jupyter +{volumes.read('handed/jupyter/token')}$", outcome.out, re.MULTILINE)
    assert "DELAYWATCH_ADMIN_PASSWORD" in outcome.out


def test_password_before_the_first_start_says_what_to_do(volumes: Volumes) -> None:
    outcome = volumes.run("password")

    assert (outcome.code, outcome.err) == (1, "There is no password yet; start the stack once (make up).\n")


def test_a_full_disk_is_one_sentence_and_leaves_no_half_file(volumes: Volumes) -> None:
    """The disk is a limit on the size of a file, which the system enforces as it does a quota."""
    limited = (
        "import resource, signal, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (30, 30)); "
        "from stack.__main__ import main; sys.exit(main(sys.argv[1:], {}))"
    )
    places = [f"--{name}={volumes.path(name)}" for name in ("project", "secrets", "handed", "state", "meminfo")]

    found = subprocess.run(
        [sys.executable, "-c", limited, "setup", *places],
        env=PACKAGES,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )

    assert found.returncode == 1
    assert re.fullmatch(r"\S+/secrets/airflow_password cannot be used \(File too large\); .+\n", found.stderr)
    assert [path.name for path in volumes.path("secrets").iterdir() if not path.name.startswith(".")] == [
        "admin_password"
    ]


def test_the_next_start_completes_what_a_broken_one_began(volumes: Volumes) -> None:
    volumes.setup()
    kept = volumes.read("secrets/admin_password")
    volumes.path("secrets/warehouse_password").rename(volumes.path("secrets/.warehouse_password.new"))
    volumes.put("secrets/jwt_secret", "")

    outcome = volumes.setup()

    assert outcome.out.startswith("Setup: 2 secrets created,")
    assert volumes.read("secrets/admin_password") == kept
    assert len(volumes.read("secrets/jwt_secret")) >= 64
    assert [path.name for path in volumes.path("secrets").iterdir() if path.name.startswith(".")] == []


def test_the_package_starts_without_the_heavy_libraries() -> None:
    heavy = "{'airflow', 'boto3', 'numpy', 'pandas', 'pyarrow', 'sqlalchemy'}"
    code = f"import sys, stack.__main__; print({heavy} & {{name.partition('.')[0] for name in sys.modules}})"

    found = subprocess.run(
        [sys.executable, "-c", code], env=PACKAGES, capture_output=True, text=True, cwd=ROOT, check=True
    )

    assert found.stdout == "set()\n"


def test_compose_gives_setup_every_variable_and_folder_that_it_reads() -> None:
    service = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]["setup"]
    mounts = {entry.split(":")[1] for entry in service["volumes"]}

    *settings, last = service["environment"]
    seen = last.removeprefix("DELAYWATCH_SECRETS_SEEN=")
    assert set(settings) == set(VARIABLES) - SECRET, "by name alone, so with the value of the shell or of .env"
    assert set(seen.split()) == {f"${{{name}:+{name}}}" for name in SECRET}, "names alone"
    assert mounts == {
        "/project", "/secrets", "/letsencrypt", "/state/postgres", "/state/s3", *(f"/handed/{name}" for name in HANDED)
    }  # fmt: skip


@pytest.mark.parametrize(("given", "said"), [("", "local"), ("s3://flights/year", "s3://flights/year")])
def test_lake_says_whether_the_lake_is_the_stacks_own(volumes: Volumes, given: str, said: str) -> None:
    outcome = volumes.run("lake", {"DELAYWATCH_LAKE": given, "AWS_DEFAULT_REGION": "eu-central-1"})

    assert (outcome.code, outcome.out) == (0, f"{said}\n")


# --- the daily backup -------------------------------------------------------------------------------------------------


BUCKET = {
    "DELAYWATCH_BACKUP": "s3://backups/delaywatch",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_ACCESS_KEY_ID": "AKIAGIVENBYENV",
    "AWS_SECRET_ACCESS_KEY": "given/by+env=",
}


def test_the_keys_of_a_bucket_for_backups_go_to_the_service_that_copies_and_to_no_other(volumes: Volumes) -> None:
    outcome = volumes.setup(**BUCKET)

    holders = [name for name, (content, *_) in volumes.snapshot("handed").items() if b"given/by+env=" in content]
    assert holders == ["handed/backup/aws_credentials"]
    assert volumes.read("handed/backup/aws_config") == "[default]\nregion = eu-central-1\n"
    assert outcome.err == "", "the keys are used, so there is no note that they are not"


def test_the_keys_are_withdrawn_when_backups_go_to_a_folder(volumes: Volumes) -> None:
    volumes.setup(**BUCKET)

    volumes.setup(DELAYWATCH_BACKUP="/mnt/backups")

    assert volumes.handed()["backup"] == set()


def test_a_restart_keeps_the_record_of_the_last_backups_and_a_copy_ends_a_failure(volumes: Volumes) -> None:
    volumes.setup()
    folder = {"DELAYWATCH_BACKUP": "/mnt/backups"}
    assert volumes.run("backup made delaywatch-20261130T033000Z.tar").code == 0
    assert volumes.run("backup failed disk-full", folder).code == 0
    failed = json.loads(volumes.read("handed/health/backup.json"))
    assert volumes.run("backup copied daily-20261130T043000Z.tar", folder).code == 0

    volumes.setup()

    record = json.loads(volumes.read("handed/health/backup.json"))
    assert failed["failed"]["text"] == "disk-full"
    assert record.keys() == {"made", "copied"}
    assert record["made"]["text"] == "delaywatch-20261130T033000Z.tar"
    assert (record["copied"]["text"], record["copied"]["place"]) == ("daily-20261130T043000Z.tar", "/mnt/backups")
    assert b"backup.json" not in volumes.run("export").raw


@pytest.mark.parametrize("place", ["", "/mnt/back ups", "s3://backups/delaywatch"])
def test_the_place_of_the_daily_backup_is_printed(volumes: Volumes, place: str) -> None:
    outcome = volumes.run("backup place", {**BUCKET, "DELAYWATCH_BACKUP": place})

    assert (outcome.code, outcome.out) == (0, f"{place}\n")
