"""`python -m utils prepare`: it creates lake, tables, view and reader; a second run changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from subprocess import CompletedProcess

import pytest

from tests.command import error_of, utils
from tests.conftest import at, sql
from tests.integration.conftest import BUCKET_WHEN_SLOW
from utils import detectors
from utils.db_handler import TABLES
from utils.pipeline import prepare as pipeline
from utils.settings import CREDENTIALS, Settings
from utils.storage.lake import Lake

AWS_VARIABLES = {"aws_endpoint_url": "AWS_ENDPOINT_URL", "aws_region": "AWS_DEFAULT_REGION", **CREDENTIALS}


def prepare(settings: Settings, *line: str, **variables: str) -> CompletedProcess[str]:
    """Run the command as a container does: lake and S3 in the environment, the warehouse's URL in a file."""
    url_file = settings.scratch / "warehouse_url"
    url_file.write_text(f"{settings.warehouse}\n")
    environment = {name: value for setting, name in AWS_VARIABLES.items() if (value := getattr(settings, setting))}
    environment |= {"DELAYWATCH_LAKE": settings.lake, "DELAYWATCH_WAREHOUSE_FILE": str(url_file)}
    return utils("prepare", *line, **environment | variables)


@pytest.fixture
def settings(lake_settings: Settings, empty_database: str) -> Settings:
    """An empty lake, and a database without tables."""
    return lake_settings.replace(warehouse=empty_database)


@pytest.fixture
def reader(settings: Settings, ask_password_of: Callable[[str], None]) -> Iterator[tuple[str, list[str]]]:
    """The URL of a login that does not exist yet, and the options that create it."""
    ask_password_of("dashboards")
    file = settings.scratch / "reader_password"
    file.write_text("it's: hush\n")
    url = at(settings.warehouse, username="dashboards", password="it's: hush")
    yield url, ["--reader", "dashboards", "--reader-password-file", str(file)]
    if sql(settings.warehouse, "SELECT 1 FROM pg_roles WHERE rolname = 'dashboards'"):
        sql(settings.warehouse, "DROP OWNED BY dashboards", "DROP ROLE dashboards")


def state(settings: Settings) -> list[object]:
    """The keys of the lake; tables, view, rights and logins of the warehouse with the transactions that wrote them."""
    questions = (
        "SELECT oid, xmin::text, relname, relacl::text FROM pg_class WHERE relnamespace = 'flights'::regnamespace",
        "SELECT oid, xmin::text, rolname, rolpassword FROM pg_authid",
        "SELECT oid, xmin::text FROM pg_auth_members",
        "SELECT setdatabase, setrole, xmin::text, setconfig FROM pg_db_role_setting",
        "SELECT oid, xmin::text FROM pg_rewrite",
        "SELECT oid, xmin::text, defaclacl::text FROM pg_default_acl",
    )
    return [Lake(settings).store.list(""), *(sql(settings.warehouse, f"{one} ORDER BY 1, 2") for one in questions)]


@BUCKET_WHEN_SLOW
def test_the_first_run_creates_all_for_dashboards_and_the_second_changes_nothing(
    settings: Settings, reader: tuple[str, list[str]]
) -> None:
    login, options = reader

    first = prepare(settings, *options)
    before = state(settings)
    second = prepare(settings, *options)

    for done in (first, second):
        assert (done.returncode, done.stderr) == (0, "")
        assert [line.split(" ")[0] for line in done.stdout.splitlines()] == ["Lake", "Tables", "View", "Login"]
        assert "hush" not in done.stdout
    assert ["already" in line for line in second.stdout.splitlines()] == [True] * 4
    assert state(settings) == before
    assert [sql(login, f"SELECT count(*) FROM flights.{table}") for table in TABLES] == [[(0,)]] * len(TABLES)
    names = sql(login, "SELECT attname FROM pg_attribute WHERE attrelid = 'flights.agg_dep_delay_by_date'::regclass")
    assert {name for (name,) in names} >= {f"is_anomaly_{name}" for name in detectors.NAMES}


def test_a_member_of_flights_loader_can_run_it_again(
    folder_settings: Settings, warehouse: str, login: Callable[[str], str]
) -> None:
    pipeline.prepare(folder_settings.replace(warehouse=warehouse), None)
    lines: list[str] = []

    pipeline.prepare(folder_settings.replace(warehouse=login("flights_loader")), None, lines.append)

    assert ["already" in line for line in lines[1:]] == [True, True]
    assert sql(warehouse, "SELECT 1 FROM pg_roles WHERE rolname = 'dashboards'") == []


def test_a_wrong_s3_key_is_an_error_before_the_warehouse_changes(checking_keys: Settings, empty_database: str) -> None:
    settings = checking_keys.replace(warehouse=empty_database, aws_secret_access_key="wrong-and-secret")

    message = error_of(prepare(settings))

    assert "secret key" in message
    assert "wrong-and-secret" not in message
    assert sql(empty_database, "SELECT to_regnamespace('flights')") == [(None,)]


@pytest.mark.parametrize(
    ("line", "warehouse_url", "named"),
    [
        ("", "postgresql://u:hush@127.0.0.1:9/d", "127.0.0.1:9"),
        ("--reader x --reader-password-file {folder}/passwords", None, "passwords"),
        ("--reader x", None, "--reader-password-file"),
    ],
)
def test_an_error_names_the_option_file_or_server(
    folder_settings: Settings, warehouse: str, line: str, warehouse_url: str | None, named: str
) -> None:
    settings = folder_settings.replace(warehouse=warehouse if warehouse_url is None else warehouse_url)
    (settings.scratch / "password").write_text("hush")

    message = error_of(prepare(settings, *line.format(folder=settings.scratch).split()))

    assert named in message
    assert "hush" not in message
