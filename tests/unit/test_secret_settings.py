"""Secrets of the settings: read from files, and absent from representations and errors."""

from __future__ import annotations

import errno
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.tracebacks import shown_by
from utils.db_handler import DBHandler
from utils.errors import InvalidInput, Missing, Unavailable
from utils.settings import AlertSettings, EnvFile, Settings, channel_url, is_secret, variable_of
from utils.sources import kaggle
from utils.sources.download import Client, RetryPolicy
from utils.storage.lake import Lake

pytestmark = pytest.mark.security

HUSH = "h4sh-h4sh-h4sh"
URL = f"postgresql://loader:{HUSH}@host/warehouse"


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_secret_is_read_from_its_file_unless_its_variable_is_set(tmp_path: Path) -> None:
    (tmp_path / "url").write_bytes(f"{URL}\r\n".encode())
    environment = {"DELAYWATCH_LAKE": "s3://lake", "DELAYWATCH_WAREHOUSE_FILE": str(tmp_path / "url")}

    assert Settings.from_environment(environment).warehouse == URL
    assert Settings.from_environment(environment | {"DELAYWATCH_WAREHOUSE": ""}).warehouse == URL
    assert Settings.from_environment(environment | {"DELAYWATCH_WAREHOUSE": f"{URL}2"}).warehouse == f"{URL}2"

    (tmp_path / "url").write_text("")  # setup mounts an empty file for an optional secret that is not set
    assert AlertSettings.from_environment({"DELAYWATCH_ALERT_WEBHOOK_FILE": str(tmp_path / "url")}).webhook is None


@pytest.mark.parametrize("content", [b" \n", b"\xff\xfe" + HUSH.encode(), f"# {HUSH}\n{URL}\n".encode()])
def test_a_file_without_a_valid_secret_is_named_and_not_shown(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "url"
    file.write_bytes(content)

    with pytest.raises(InvalidInput, match=f"DELAYWATCH_WAREHOUSE_FILE {file}") as refused:
        Settings.from_environment({"DELAYWATCH_LAKE": "s3://lake", "DELAYWATCH_WAREHOUSE_FILE": str(file)})

    assert HUSH not in shown_by(refused.value)


def test_a_file_on_a_failing_disk_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_text", fail)

    with pytest.raises(Unavailable, match="DELAYWATCH_WAREHOUSE_FILE"):
        Settings.from_environment({"DELAYWATCH_LAKE": "s3://lake", "DELAYWATCH_WAREHOUSE_FILE": str(tmp_path)})


def test_the_url_of_a_channel_is_read_from_its_variable_or_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(f"https://h/{HUSH}\n")
    file = {"DELAYWATCH_CHANNEL_OPS_NY_FILE": str(tmp_path / "url")}

    assert channel_url("ops_ny", file) == f"https://h/{HUSH}"
    assert channel_url("ops_ny", file | {"DELAYWATCH_CHANNEL_OPS_NY": "https://h/x"}) == "https://h/x"
    with pytest.raises(Missing, match="DELAYWATCH_CHANNEL_BOSS"):
        channel_url("boss", file)


@pytest.mark.parametrize("url", [f"ftp://h/{HUSH}", f"https://u:{HUSH}@h", HUSH])
def test_a_wrong_url_of_a_channel_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(InvalidInput, match="DELAYWATCH_CHANNEL_OPS") as refused:
        channel_url("ops", {"DELAYWATCH_CHANNEL_OPS": url})

    assert HUSH not in shown_by(refused.value)


# --- wrong values -----------------------------------------------------------------------------------------------------

SECRETS = sorted(variable_of(field) for field in EnvFile.model_fields.values() if is_secret(field))
TWO_WORDS, TOO_SHORT = f"{HUSH} {HUSH}", HUSH[:9]
WRONG_URLS = [f"postgresql://u:{HUSH}@h:many/d", f"mysql://u:{HUSH}@h/d", HUSH]
WRONG_VALUES = {
    "AIRFLOW_SECRETS_BACKEND_KWARGS": [f'{{"key": "{HUSH}"', f'["{HUSH}"]'],
    "AWS_ACCESS_KEY_ID": [TWO_WORDS],
    "AWS_SECRET_ACCESS_KEY": [TWO_WORDS],
    "AWS_SESSION_TOKEN": [TWO_WORDS],
    "DELAYWATCH_ADMIN_PASSWORD": [TOO_SHORT],
    "DELAYWATCH_AIRFLOW_DATABASE": [],
    "DELAYWATCH_ALERT_WEBHOOK": [f"https://h/{HUSH}#x", f"https://u:{HUSH}@h", f"file:///{HUSH}", f"https://h/ {HUSH}"],
    "DELAYWATCH_FEEDBACK": WRONG_URLS,
    "DELAYWATCH_JUPYTER_TOKEN": [TOO_SHORT],
    "DELAYWATCH_KAGGLE_TOKEN": [TWO_WORDS, f'{{"key": "{HUSH}"}}'],
    "DELAYWATCH_READER": WRONG_URLS,
    "DELAYWATCH_SMTP": [
        f"http://u:{HUSH}@h", f"h:{HUSH}", f"smtp://h:{HUSH}", f"smtp://u:{HUSH}#3@h", f"smtp://u:{HUSH}/3@h",
        f"smtp://u:{HUSH}%@h", f"smtp://h?{HUSH}", f"smtp://{HUSH}@h",
    ],
    "DELAYWATCH_WAREHOUSE": WRONG_URLS,
}  # fmt: skip


@pytest.mark.parametrize("variable", SECRETS)
def test_a_wrong_value_of_a_secret_is_refused_and_not_shown(
    variable: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "secret").write_text(f"{HUSH}\n{HUSH}\n")
    environments = [{variable: value} for value in (*WRONG_VALUES[variable], f"{HUSH}\n{HUSH}")]

    for environment in [*environments, {f"{variable}_FILE": str(tmp_path / "secret")}]:
        with pytest.raises(InvalidInput, match=variable) as refused:
            EnvFile.from_environment(environment, lake=None, warehouse=None)
        assert TOO_SHORT not in shown_by(refused.value) + caplog.text


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "DELAYWATCH_BTS_URL", "DELAYWATCH_LAKE"])
def test_a_password_in_another_url_is_not_shown(variable: str) -> None:
    with pytest.raises(InvalidInput, match=variable) as refused:
        EnvFile.from_environment({"DELAYWATCH_WAREHOUSE": URL, variable: f"https://u:{HUSH}@h/x"}, lake=None)

    assert HUSH not in shown_by(refused.value)


# --- representations --------------------------------------------------------------------------------------------------


def all_secrets() -> EnvFile:
    values: dict[str, Any] = {name: HUSH for name, field in EnvFile.model_fields.items() if is_secret(field)}
    values |= {"smtp": f"smtp://u:{HUSH}@h", "webhook": f"https://h/{HUSH}"}
    values |= dict.fromkeys(["warehouse", "reader", "feedback"], URL)
    return EnvFile(**{**values, "secrets_backend_kwargs": json.dumps({"key": HUSH}), "lake": ""})


S3 = Settings(lake="s3://lake", warehouse=URL, aws_access_key_id="a", aws_secret_access_key=HUSH, aws_region="x-1")


def test_a_representation_shows_no_secret(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(HUSH)
    auth = kaggle.auth(tmp_path / "token")

    for item in (all_secrets(), DBHandler(URL), vars(DBHandler(URL)), Lake(S3), auth, Client(RetryPolicy(), auth)):
        assert HUSH not in f"{item!r} {item}"
