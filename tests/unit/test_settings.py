"""Settings from the environment: what overrides what, and wrong values named with the way out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.errors import InvalidInput
from utils.settings import AlertSettings, EnvFile, Settings, WatchSettings

COMPLETE = {
    "DELAYWATCH_LAKE": "s3://lake/x",
    "DELAYWATCH_WAREHOUSE": "postgresql://u:p@h/d",
    "AWS_ENDPOINT_URL": "http://s3:8333",
}
AWS_KEYS = {"AWS_ACCESS_KEY_ID": "own", "AWS_SECRET_ACCESS_KEY": "own-secret", "AWS_SESSION_TOKEN": "own-token"}


def test_settings_come_from_the_environment() -> None:
    variables = {"DELAYWATCH_THREADS": "3", "DELAYWATCH_SCRATCH": "/scratch", "DELAYWATCH_BTS_URL": "https://h/a%23b/"}

    settings = Settings.from_environment(COMPLETE | variables)

    assert (settings.lake, settings.warehouse, settings.threads) == ("s3://lake/x", "postgresql://u:p@h/d", 3)
    assert (str(settings.scratch), settings.aws_endpoint_url) == ("/scratch", "http://s3:8333")
    assert (settings.aws_region, settings.bts_url) == (None, "https://h/a%23b")


def test_the_constructor_does_not_read_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("DELAYWATCH_LAKE", "s3://elsewhere")

    settings = Settings(lake="s3://lake", warehouse="")

    assert (settings.lake, settings.aws_region) == ("s3://lake", None)
    assert Settings.from_environment(warehouse=None).lake == "s3://elsewhere"


def test_a_variable_named_like_an_attribute_is_ignored() -> None:
    assert Settings.from_environment(COMPLETE | {"aws_region": "eu-west-1"}).aws_region is None


def test_given_values_override_the_environment_and_none_does_not() -> None:
    settings = Settings.from_environment(COMPLETE, lake="file:///lake", aws_endpoint_url=None)

    assert (settings.lake, settings.aws_endpoint_url) == ("file:///lake", "http://s3:8333")


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

    settings = Settings.from_environment(COMPLETE | AWS_KEYS | in_files, **given_keys)

    assert (settings.aws_access_key_id, settings.aws_secret_access_key, settings.aws_session_token) == used


# --- absent -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["DELAYWATCH_LAKE", "DELAYWATCH_WAREHOUSE"])
@pytest.mark.parametrize("value", [{}, {"DELAYWATCH_LAKE": "", "DELAYWATCH_WAREHOUSE": ""}], ids=["unset", "empty"])
def test_a_missing_required_variable_is_named(name: str, value: dict[str, str]) -> None:
    others = {key: text for key, text in COMPLETE.items() if key != name}

    with pytest.raises(InvalidInput, match=f"{name} is not set"):
        Settings.from_environment(value | others)


def test_a_step_without_a_warehouse_gives_none() -> None:
    assert Settings.from_environment({"DELAYWATCH_LAKE": "file:///lake"}, warehouse=None).warehouse == ""


def test_without_variables_no_message_is_sent_and_nothing_is_deleted() -> None:
    empty = {"DELAYWATCH_ALERT_EMAIL": "", "DELAYWATCH_SMTP": "", "DELAYWATCH_KEEP_LOGS_DAYS": ""}

    assert not AlertSettings.from_environment(empty).is_configured
    assert not WatchSettings.from_environment(empty).removes_anything


@pytest.mark.parametrize("limit", ["KEEP_LOGS_DAYS", "KEEP_PLOTS_YEARS", "KEEP_SILVER_YEARS"])
def test_each_limit_alone_deletes_something(limit: str) -> None:
    assert WatchSettings.from_environment({f"DELAYWATCH_{limit}": "3"}).removes_anything


def test_recipients_are_separated_by_commas_and_need_a_mail_server() -> None:
    recipients = {"DELAYWATCH_ALERT_EMAIL": "ops@here.org, boss@here.org"}

    alerts = AlertSettings.from_environment(recipients | {"DELAYWATCH_SMTP": "smtp://mail.here.org"})
    assert alerts.recipients == ("ops@here.org", "boss@here.org")
    with pytest.raises(InvalidInput, match="set DELAYWATCH_SMTP"):
        AlertSettings.from_environment(recipients)


def test_wrong_settings_of_mail_do_not_stop_a_run() -> None:
    wrong = {"DELAYWATCH_ALERT_EMAIL": "ops", "DELAYWATCH_SMTP_FILE": "/nowhere"}

    assert Settings.from_environment(COMPLETE | wrong).lake == "s3://lake/x"


# --- wrong values -----------------------------------------------------------------------------------------------------

WRONG = {
    "DELAYWATCH_THREADS": ["0", "two", "-1", "1.0", "1_000", "\u0663"],
    "DELAYWATCH_KEEP_LOGS_DAYS": ["0", "-1", "ten", "1.5", "\u00b2", "1 0"],
    "DELAYWATCH_EXPECTED_YEAR": ["18", "2101"],
    "DELAYWATCH_ALERT_EMAIL": ["ops", ","],
    "DELAYWATCH_ALERT_FROM": ["a@b.org, c@d.org"],
    "DELAYWATCH_HOST": ["https://h", "h:443", "h_h", "-h"],
    "DELAYWATCH_HTTP_PORT": ["0", "65536", "http"],
    "DELAYWATCH_BACKUP": ["backups", "/"],
    "AWS_ENDPOINT_URL": ["http://h_h", "h:8333"],
    "DELAYWATCH_BTS_URL": ["https://h/a?b", "https://h/a#b", "https://h/a b", "h:8333", "ftp://h", "https://h:0"],
}


@pytest.mark.parametrize(("variable", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_is_shown_with_what_to_write(variable: str, value: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        EnvFile.from_environment(COMPLETE | {variable: value})

    assert str(refused.value).startswith(f"{variable} is {value!r}; write ")


@given(st.integers(1, 65535))
def test_a_whole_number_in_its_range_is_accepted(number: int) -> None:
    settings = EnvFile.from_environment(
        COMPLETE | {"DELAYWATCH_THREADS": str(number), "DELAYWATCH_HTTP_PORT": str(number)}
    )

    assert (settings.threads, settings.http_port) == (number, number)


@pytest.mark.parametrize("control", ["\n", "\r", "\t", "\x1b", "\u202e"])
def test_a_value_with_a_control_character_is_refused(control: str) -> None:
    with pytest.raises(InvalidInput, match="DELAYWATCH_ALERT_EMAIL"):
        AlertSettings.from_environment({"DELAYWATCH_ALERT_EMAIL": f"a@b{control}c@d", "DELAYWATCH_SMTP": "smtp://h"})


def test_all_wrong_values_are_reported_at_once() -> None:
    wrong = {"DELAYWATCH_THREADS": "0", "AWS_ENDPOINT_URL": "minio", "DELAYWATCH_WAREHOUSE_FILE": "/nowhere"}

    with pytest.raises(InvalidInput) as refused:
        Settings.from_environment(wrong)

    assert [name for name in [*wrong, "DELAYWATCH_LAKE"] if name not in str(refused.value)] == []
