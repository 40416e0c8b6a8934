"""Settings from the environment: what overrides what, and wrong values named with the way out."""

from __future__ import annotations

import pytest

from utils.errors import InvalidInput
from utils.settings import AlertSettings, Settings, WatchSettings

COMPLETE = {
    "DELAYWATCH_LAKE": "s3://lake/x",
    "DELAYWATCH_WAREHOUSE": "postgresql://u:p@h/d",
    "AWS_ENDPOINT_URL": "http://s3:8333",
}
AWS_KEYS = {"AWS_ACCESS_KEY_ID": "own", "AWS_SECRET_ACCESS_KEY": "own-secret", "AWS_SESSION_TOKEN": "own-token"}


def test_settings_come_from_the_environment_unless_they_are_given() -> None:
    settings = Settings.from_environment(
        COMPLETE | {"DELAYWATCH_THREADS": "3"}, lake="file:///lake", aws_endpoint_url=None
    )

    assert (settings.lake, settings.warehouse, settings.threads) == ("file:///lake", "postgresql://u:p@h/d", 3)
    assert (settings.aws_endpoint_url, settings.aws_region) == ("http://s3:8333", None)


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


@pytest.mark.parametrize("name", ["DELAYWATCH_LAKE", "DELAYWATCH_WAREHOUSE"])
@pytest.mark.parametrize("value", [{}, {"DELAYWATCH_LAKE": "", "DELAYWATCH_WAREHOUSE": ""}], ids=["unset", "empty"])
def test_a_missing_required_variable_is_named(name: str, value: dict[str, str]) -> None:
    others = {key: text for key, text in COMPLETE.items() if key != name}

    with pytest.raises(InvalidInput, match=f"{name} is not set"):
        Settings.from_environment(value | others)


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


@pytest.mark.parametrize("control", ["\n", "\u202e"])
def test_a_value_with_a_control_character_is_refused(control: str) -> None:
    with pytest.raises(InvalidInput, match="DELAYWATCH_ALERT_EMAIL"):
        AlertSettings.from_environment({"DELAYWATCH_ALERT_EMAIL": f"a@b{control}c@d", "DELAYWATCH_SMTP": "smtp://h"})
