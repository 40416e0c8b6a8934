"""Settings: what the environment gives, what is given wins, and a wrong value is named with the way out."""

from __future__ import annotations

import errno
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

from utils.errors import InvalidInput, Unavailable
from utils.settings import AlertSettings, EnvFile, Settings, WatchSettings, is_secret, variable_of

COMPLETE = {
    "DELAYWATCH_LAKE": "s3://lake/x",
    "DELAYWATCH_WAREHOUSE": "postgresql://u:p@h/d",
    "AWS_ENDPOINT_URL": "http://s3:8333",
}
SECRETS = sorted(variable_of(field) for field in EnvFile.model_fields.values() if is_secret(field))


def test_the_environment_decides() -> None:
    found = Settings.from_environment({**COMPLETE, "DELAYWATCH_THREADS": "3", "DELAYWATCH_SCRATCH": "/scratch"})

    assert (found.lake, found.warehouse, found.threads) == ("s3://lake/x", "postgresql://u:p@h/d", 3)
    assert (str(found.scratch), found.aws_endpoint_url, found.aws_region) == ("/scratch", "http://s3:8333", None)


def test_the_constructor_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("DELAYWATCH_LAKE", "s3://elsewhere")

    found = Settings(lake="s3://lake", warehouse="")

    assert (found.lake, found.aws_region) == ("s3://lake", None)
    assert Settings.from_environment(warehouse=None).lake == "s3://elsewhere"


def test_a_variable_named_like_an_attribute_is_not_a_setting() -> None:
    assert Settings.from_environment({**COMPLETE, "lake": "s3://other", "aws_region": "eu-west-1"}).aws_region is None


def test_what_is_given_wins_over_the_environment() -> None:
    assert Settings.from_environment(COMPLETE, lake="file:///lake", aws_endpoint_url=None).lake == "file:///lake"
    assert (
        AlertSettings.from_environment({"DELAYWATCH_SMTP": "smtp://wrong"}, smtp="smtp://right").smtp == "smtp://right"
    )


def credentials(**given: str | None) -> tuple[str | None, ...]:
    own = {"AWS_ACCESS_KEY_ID": "own", "AWS_SECRET_ACCESS_KEY": "own-secret", "AWS_SESSION_TOKEN": "own-token"}
    found = Settings.from_environment({**COMPLETE, **own}, **given)
    return found.aws_access_key_id, found.aws_secret_access_key, found.aws_session_token


def test_a_given_access_key_is_never_mixed_with_the_secret_or_token_of_the_environment(tmp_path: Path) -> None:
    given = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "aws_session_token": None}
    (tmp_path / "secret").write_text("own-secret")
    in_a_file = {**COMPLETE, "AWS_SECRET_ACCESS_KEY_FILE": str(tmp_path / "secret")}

    assert credentials(**given) == ("k", "s", None)
    assert credentials(aws_access_key_id="k") == ("k", None, None)
    assert Settings.from_environment(in_a_file, aws_access_key_id="k").aws_secret_access_key is None


def test_a_connection_without_an_access_key_leaves_the_credentials_to_the_environment() -> None:
    given = {"aws_access_key_id": None, "aws_secret_access_key": "", "aws_region": "eu-west-1"}

    assert credentials(**given) == ("own", "own-secret", "own-token")


# --- absent -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["DELAYWATCH_LAKE", "DELAYWATCH_WAREHOUSE"])
@pytest.mark.parametrize("absent", [{}, {"DELAYWATCH_LAKE": "", "DELAYWATCH_WAREHOUSE": ""}], ids=["unset", "empty"])
def test_a_missing_variable_is_named(name: str, absent: dict[str, str]) -> None:
    others = {key: value for key, value in COMPLETE.items() if key != name}

    with pytest.raises(InvalidInput, match=f"{name} is not set"):
        Settings.from_environment({**absent, **others})


def test_a_step_that_needs_no_warehouse_says_so_by_giving_none() -> None:
    assert Settings.from_environment({"DELAYWATCH_LAKE": "file:///lake"}, warehouse=None).warehouse == ""


def test_without_any_variable_nobody_is_told_and_nothing_is_removed() -> None:
    empty = {"DELAYWATCH_ALERT_EMAIL": "", "DELAYWATCH_SMTP": "", "DELAYWATCH_KEEP_LOGS_DAYS": ""}

    assert AlertSettings.from_environment(empty) == AlertSettings()
    assert not AlertSettings().is_configured
    assert WatchSettings.from_environment(empty) == WatchSettings()
    assert not WatchSettings().removes_anything


@pytest.mark.parametrize("limit", ["KEEP_LOGS_DAYS", "KEEP_PLOTS_YEARS", "KEEP_SILVER_YEARS"])
def test_each_limit_alone_removes_something(limit: str) -> None:
    assert WatchSettings.from_environment({f"DELAYWATCH_{limit}": "3"}).removes_anything


def test_what_mail_needs_does_not_keep_a_run_from_its_lake() -> None:
    wrong = {"DELAYWATCH_ALERT_EMAIL": "ops@here.org", "DELAYWATCH_SMTP_FILE": "/nowhere"}

    assert Settings.from_environment(COMPLETE | wrong).lake == "s3://lake/x"


# --- secrets in files -------------------------------------------------------------------------------------------------

URL = "postgresql://u:hush@db/flights"


@pytest.mark.parametrize("variable", [{}, {"DELAYWATCH_WAREHOUSE": ""}], ids=["absent", "empty"])
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_file_gives_the_warehouse_when_its_variable_does_not(
    tmp_path: Path, variable: dict[str, str], end: str
) -> None:
    (tmp_path / "url").write_bytes((URL + end).encode())
    environment = {"DELAYWATCH_LAKE": "s3://lake", "DELAYWATCH_WAREHOUSE_FILE": str(tmp_path / "url"), **variable}

    assert Settings.from_environment(environment).warehouse == URL


def test_a_warehouse_that_is_named_leaves_the_file_alone() -> None:
    environment = {**COMPLETE, "DELAYWATCH_WAREHOUSE_FILE": "/nowhere"}

    assert Settings.from_environment(environment).warehouse == COMPLETE["DELAYWATCH_WAREHOUSE"]
    assert Settings.from_environment(environment, warehouse=URL).warehouse == URL


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff\xfehush", "is not UTF-8 text"),
        (b"# hush\npostgresql://u@h/d\n", "has more than one line"),
    ],
    ids=["absent", "empty", "blank", "no text", "two lines"],
)
def test_a_file_without_a_warehouse_is_named_and_not_shown(tmp_path: Path, content: bytes | None, fault: str) -> None:
    file = tmp_path / "url"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(InvalidInput) as refused:
        Settings.from_environment({"DELAYWATCH_LAKE": "s3://lake", "DELAYWATCH_WAREHOUSE_FILE": str(file)})

    assert f"DELAYWATCH_WAREHOUSE_FILE {file} {fault}; " in str(refused.value)
    assert "hush" not in "".join(traceback.format_exception(refused.value))


def test_recipients_are_a_list_and_the_secrets_of_alerts_may_be_in_files(tmp_path: Path) -> None:
    (tmp_path / "smtp").write_text("smtps://me%40here.org:p%2Fw@mail.here.org\n")
    (tmp_path / "hook").touch()
    environ = {
        "DELAYWATCH_ALERT_EMAIL": "ops@here.org, boss@here.org",
        "DELAYWATCH_SMTP_FILE": str(tmp_path / "smtp"),
        "DELAYWATCH_ALERT_WEBHOOK_FILE": str(tmp_path / "hook"),
    }

    found = AlertSettings.from_environment(environ)

    assert found.recipients == ("ops@here.org", "boss@here.org")
    assert found.smtp == "smtps://me%40here.org:p%2Fw@mail.here.org"
    assert found.webhook is None, "setup hands out an empty file for an absent value"


# --- wrong values -----------------------------------------------------------------------------------------------------

WRONG = [
    *((Settings, "DELAYWATCH_THREADS", value) for value in ("0", "two", "-1", "1.0", "1_000", "\u0663")),
    *((WatchSettings, "DELAYWATCH_KEEP_SILVER_YEARS", value) for value in ("0", "-1", "ten", "1.5", "\u00b2", "1 0")),
    (WatchSettings, "DELAYWATCH_EXPECTED_YEAR", "18"),
    (AlertSettings, "DELAYWATCH_ALERT_EMAIL", "ops"),
    (AlertSettings, "DELAYWATCH_ALERT_FROM", "a@b.org, c@d.org"),
    *(
        (Settings, variable, address)
        for variable in ("AWS_ENDPOINT_URL", "DELAYWATCH_BTS_URL", "DELAYWATCH_KAGGLE_URL")
        for address in ("https://h/a?b", "https://h/a#b", "https://h/a b", "h:8333", "ftp://h", "https://h:0")
    ),
]


@pytest.mark.parametrize(("part", "variable", "value"), WRONG)
def test_a_wrong_value_is_named_with_the_way_out(
    part: type[Settings | AlertSettings | WatchSettings], variable: str, value: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        part.from_environment({**COMPLETE, variable: value})

    assert str(refused.value).startswith(f"{variable} is {value!r}; write ")


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "DELAYWATCH_BTS_URL", "DELAYWATCH_LAKE"])
def test_a_password_in_an_address_that_is_no_secret_is_not_shown(variable: str) -> None:
    with pytest.raises(InvalidInput, match=variable) as refused:
        EnvFile.from_environment({**COMPLETE, variable: f"https://u:{HUSH}@h/x"})

    assert HUSH not in str(refused.value)


def test_all_wrong_values_are_told_at_once(tmp_path: Path) -> None:
    wrong = {"DELAYWATCH_THREADS": "0", "AWS_ENDPOINT_URL": "minio", "DELAYWATCH_WAREHOUSE_FILE": str(tmp_path / "no")}

    with pytest.raises(InvalidInput) as refused:
        Settings.from_environment(wrong)

    assert all(name in str(refused.value) for name in [*wrong, "DELAYWATCH_LAKE is not set"])


def test_a_secret_in_a_file_that_a_failing_disk_holds_may_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_text", fail)

    with pytest.raises(Unavailable, match="DELAYWATCH_WAREHOUSE_FILE"):
        Settings.from_environment({"DELAYWATCH_LAKE": "s3://lake", "DELAYWATCH_WAREHOUSE_FILE": str(tmp_path)})


def test_a_value_with_a_line_break_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"DELAYWATCH_ALERT_EMAIL .* on one line"):
        AlertSettings.from_environment({"DELAYWATCH_ALERT_EMAIL": "a@b\nBcc: c@d", "DELAYWATCH_SMTP": "smtp://h"})


def test_recipients_need_a_mail_server() -> None:
    with pytest.raises(InvalidInput, match="set DELAYWATCH_SMTP"):
        AlertSettings.from_environment({"DELAYWATCH_ALERT_EMAIL": "ops@here.org"})


def test_an_address_may_have_a_path_with_percent_encoded_characters() -> None:
    found = Settings.from_environment({**COMPLETE, "DELAYWATCH_BTS_URL": "https://mirror/a%23b/"})

    assert found.bts_url == "https://mirror/a%23b"


# --- secrets in output ------------------------------------------------------------------------------------------------

HUSH = "h4sh-h4sh-h4sh"
WRONG_SECRETS = {
    "AIRFLOW_SECRETS_BACKEND_KWARGS": [f'{{"key": "{HUSH}"', f'["{HUSH}"]'],
    "AWS_ACCESS_KEY_ID": [f"{HUSH} {HUSH}"],
    "AWS_SECRET_ACCESS_KEY": [f"{HUSH} {HUSH}"],
    "AWS_SESSION_TOKEN": [f"{HUSH} {HUSH}"],
    "DELAYWATCH_ADMIN_PASSWORD": [HUSH[:9]],
    "DELAYWATCH_AIRFLOW_DATABASE": [],
    "DELAYWATCH_ALERT_WEBHOOK": [f"https://h/{HUSH}#x", f"https://u:{HUSH}@h", f"file:///{HUSH}", f"https://h/ {HUSH}"],
    "DELAYWATCH_JUPYTER_TOKEN": [HUSH[:9]],
    "DELAYWATCH_KAGGLE_TOKEN": [f"{HUSH} {HUSH}", f'{{"key": "{HUSH}"}}'],
    "DELAYWATCH_READER": [f"postgresql://u:{HUSH}@h:many/d", f"mysql://u:{HUSH}@h/d", HUSH],
    "DELAYWATCH_SMTP": [
        f"http://u:{HUSH}@h", f"h:{HUSH}", f"smtp://h:{HUSH}", f"smtp://u:{HUSH}#3@h", f"smtp://u:{HUSH}/3@h",
        f"smtp://u:{HUSH}%@h", f"smtp://h?{HUSH}", f"smtp://{HUSH}@h",
    ],
    "DELAYWATCH_WAREHOUSE": [f"postgresql://u:{HUSH}@h:many/d", f"mysql://u:{HUSH}@h/d", HUSH],
}  # fmt: skip


@pytest.mark.parametrize("variable", SECRETS)
def test_no_output_shows_a_wrong_value_of_a_secret(
    variable: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "secret"
    file.write_text(f"{HUSH}\n{HUSH}\n")
    readings = [{variable: value} for value in (*WRONG_SECRETS[variable], f"{HUSH}\n{HUSH}")]

    for environ in [*readings, {f"{variable}_FILE": str(file)}]:
        with pytest.raises(InvalidInput, match=variable) as fault:
            EnvFile.from_environment(environ, lake=None, warehouse=None)
        # Source lines are those of this test, so the errors alone.
        shown = "".join(traceback.format_exception_only(fault.value)) + repr(fault.value)
        assert HUSH[:9] not in shown + caplog.text
        assert fault.value.__cause__ is fault.value.__context__ is None


def test_every_secret_of_the_model_has_wrong_values_in_this_test_and_hides_its_value() -> None:
    assert sorted(WRONG_SECRETS) == SECRETS
    values: dict[str, Any] = {name: HUSH for name, field in EnvFile.model_fields.items() if is_secret(field)}
    url = f"postgresql://u:{HUSH}@h/d"
    values |= {"smtp": f"smtp://u:{HUSH}@h", "webhook": f"https://h/{HUSH}", "warehouse": url, "reader": url}

    settings = EnvFile(**{**values, "secrets_backend_kwargs": f'{{"key": "{HUSH}"}}', "lake": ""})

    assert HUSH not in f"{settings!r} {settings} {[settings]}"
