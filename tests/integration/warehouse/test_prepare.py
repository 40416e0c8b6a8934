"""`python -m utils prepare`: what a first year, dashboards and their reader need is there; twice changes nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.command import utils
from tests.conftest import at, sql
from tests.integration.conftest import BUCKET_WHEN_SLOW
from utils import detectors
from utils.db_handler import TABLES
from utils.errors import DelaywatchError
from utils.pipeline import inputs
from utils.pipeline import prepare as pipeline
from utils.settings import CREDENTIALS, Settings
from utils.storage.lake import Lake

ROOT = Path(__file__).parents[3]
OURS = {"aws_endpoint_url": "AWS_ENDPOINT_URL", "aws_region": "AWS_DEFAULT_REGION", **CREDENTIALS}


def prepare(settings: Settings, *line: str, **changed: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a container does: lake and S3 in the environment, the warehouse's URL in a file."""
    (settings.scratch / "warehouse_url").write_text(f"{settings.warehouse}\n")
    environment = {
        "DELAYWATCH_LAKE": settings.lake,
        "DELAYWATCH_WAREHOUSE_FILE": str(settings.scratch / "warehouse_url"),
    }
    environment |= {name: value for setting, name in OURS.items() if (value := getattr(settings, setting))}
    return utils("prepare", *line, **environment | changed)


def error_of(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that the command left on stderr when it failed."""
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


@pytest.fixture
def settings(lake_settings: Settings, empty_database: str) -> Settings:
    """An empty lake, and a database without our tables."""
    return lake_settings.replace(warehouse=empty_database)


@pytest.fixture
def reader(settings: Settings, ask_password_of: Callable[[str], None]) -> Iterator[tuple[str, Path]]:
    """The URL of a login that does not exist yet, and the file with its password, for which the server will ask."""
    ask_password_of("dashboards")
    file = settings.scratch / "reader_password"
    file.write_text("it's: hush\n")
    yield at(settings.warehouse, username="dashboards", password="it's: hush"), file
    if sql(settings.warehouse, "SELECT 1 FROM pg_roles WHERE rolname = 'dashboards'"):
        sql(settings.warehouse, "DROP OWNED BY dashboards", "DROP ROLE dashboards")


def everything(settings: Settings) -> list[object]:
    """The keys of the lake, and what the warehouse's catalogue says of tables, view, rights and logins, and when."""
    questions = (
        "SELECT oid, xmin::text, relname, relacl::text FROM pg_class WHERE relnamespace = 'flights'::regnamespace",
        "SELECT oid, xmin::text, rolname, rolpassword FROM pg_authid",
        "SELECT oid, xmin::text FROM pg_auth_members",
        "SELECT setdatabase, setrole, xmin::text, setconfig FROM pg_db_role_setting",
        "SELECT oid, xmin::text FROM pg_rewrite",
        "SELECT oid, xmin::text, defaclacl::text FROM pg_default_acl",
    )
    return [Lake(settings).store.list(""), *(sql(settings.warehouse, f"{one} ORDER BY 1, 2") for one in questions)]


def test_an_empty_lake_and_an_empty_database_are_made_ready_for_dashboards(
    settings: Settings, reader: tuple[str, Path]
) -> None:
    login, file = reader

    done = prepare(settings, "--reader", "dashboards", "--reader-password-file", str(file))

    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(" ")[0] for line in done.stdout.splitlines()] == ["Lake", "Tables", "View", "Login"]
    view = sql(login, "SELECT * FROM flights.agg_dep_delay_by_date")
    names = sql(login, "SELECT attname FROM pg_attribute WHERE attrelid = 'flights.agg_dep_delay_by_date'::regclass")
    assert view == []
    flags = {f"is_anomaly_{name}" for name in detectors.read_settings(inputs.DETECTORS_FILE)}
    assert {name for (name,) in names} >= {"id", "origin", "fl_date", "verdict", "severity", *flags}
    assert [sql(login, f"SELECT count(*) FROM flights.{table}") for table in TABLES] == [[(0,)]] * len(TABLES)
    assert "hush" not in done.stdout + done.stderr


@BUCKET_WHEN_SLOW
def test_a_second_time_changes_nothing_and_says_so(settings: Settings, reader: tuple[str, Path]) -> None:
    line = ("--reader", "dashboards", "--reader-password-file", str(reader[1]))
    prepare(settings, *line)
    before = everything(settings)

    done = prepare(settings, *line)

    assert done.returncode == 0, done.stderr
    assert everything(settings) == before
    assert [line for line in done.stdout.splitlines() if "already" not in line] == [
        f"Lake {settings.lake}: can be listed, written, read and deleted from."
    ]


def test_without_a_reader_none_is_made(settings: Settings) -> None:
    count = "SELECT count(*) FROM pg_roles"
    pipeline.prepare(settings, None)
    before = sql(settings.warehouse, count)
    told: list[str] = []

    pipeline.prepare(settings, None, told.append)

    assert len(told) == 3
    assert sql(settings.warehouse, count) == before


def test_a_loader_who_may_create_nothing_finds_all_that_the_first_time_made(
    folder_settings: Settings, warehouse: str, ask_password_of: Callable[[str], None]
) -> None:
    ask_password_of("dashboards")
    pipeline.prepare(folder_settings.replace(warehouse=warehouse), ("dashboards", "hush"))
    sql(warehouse, "CREATE ROLE nightly LOGIN IN ROLE flights_loader")
    told: list[str] = []

    nightly = folder_settings.replace(warehouse=at(warehouse, username="nightly"))
    pipeline.prepare(nightly, ("dashboards", "hush"), told.append)

    assert ["already" in line for line in told] == [False, True, True, True]
    sql(warehouse, "DROP OWNED BY nightly, dashboards", "DROP ROLE nightly, dashboards")


def test_a_server_that_the_aws_config_file_names_gets_its_bucket(bucket_settings: Settings, warehouse: str) -> None:
    config = bucket_settings.scratch / "config"
    config.write_text(f"[default]\nregion = us-east-1\nendpoint_url = {bucket_settings.aws_endpoint_url}\n")
    settings = bucket_settings.replace(
        lake="s3://from-a-file", warehouse=warehouse, aws_endpoint_url=None, aws_region=None
    )

    done = prepare(settings, AWS_CONFIG_FILE=str(config))
    config.write_text("[default]\nregion = us-east-1\nendpoint_url = http://127.0.0.1:9\n")
    silent = prepare(settings, AWS_CONFIG_FILE=str(config))

    assert done.stdout.startswith("Lake s3://from-a-file: made, can be listed"), done.stderr
    assert "S3 at http://127.0.0.1:9 does not answer" in error_of(silent)


def test_a_wrong_s3_key_ends_before_the_warehouse_is_touched(checking_keys: Settings, empty_database: str) -> None:
    settings = checking_keys.replace(warehouse=empty_database, aws_secret_access_key="wrong-and-secret")

    told = error_of(prepare(settings))

    assert "secret key" in told
    assert "wrong-and-secret" not in told
    assert sql(empty_database, "SELECT to_regnamespace('flights')") == [(None,)]


def test_a_wrong_password_of_the_warehouse_is_told_without_being_shown(
    folder_settings: Settings, warehouse: str, ask_password_of: Callable[[str], None]
) -> None:
    ask_password_of("loader")
    url = at(warehouse, username="loader", password="wrong-and-secret")

    told = error_of(prepare(folder_settings.replace(warehouse=url)))

    assert "refused user loader or its password; correct them in the warehouse URL" in told
    assert "wrong-and-secret" not in told


@pytest.mark.parametrize(
    ("line", "warehouse_url", "told"),
    [
        ([], "postgresql://u:hush@127.0.0.1:9/d", "No Postgres answers at the warehouse d at 127.0.0.1:9; start it"),
        ([], "", "warehouse_url is empty; write one line into it."),
        (["--reader", "x", "--reader-password-file", "{password}s"], None, "passwords cannot be read (No such file"),
        (["--reader", "x", "--reader-password-file", "/dev/null"], None, "/dev/null is empty; write one line into it."),
        (["--reader", "x"], None, "--reader and --reader-password-file belong together"),
        (["--reader", "", "--reader-password-file", "{password}"], None, "The reader '' cannot name a login"),
    ],
)  # fmt: skip
def test_what_is_missing_is_one_sentence(
    folder_settings: Settings, warehouse: str, line: list[str], warehouse_url: str | None, told: str
) -> None:
    settings = folder_settings.replace(warehouse=warehouse if warehouse_url is None else warehouse_url)
    password = settings.scratch / "password"
    password.write_text("hush")

    assert told in error_of(prepare(settings, *(word.format(password=password) for word in line)))


def test_a_mistake_in_detectors_yaml_is_told_before_anything_is_made(
    folder_settings: Settings, empty_database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "detectors.yaml").write_text("three_sigmas: {}\n")
    monkeypatch.setattr(inputs, "DETECTORS_FILE", tmp_path / "detectors.yaml")

    with pytest.raises(DelaywatchError, match="three_sigmas"):
        pipeline.prepare(folder_settings.replace(warehouse=empty_database), None)

    assert sql(empty_database, "SELECT to_regnamespace('flights')") == [(None,)]
