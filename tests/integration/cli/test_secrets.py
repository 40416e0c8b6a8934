"""Secrets in what people and logs get to see: representations, whole tracebacks, `docker compose config`."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stack.settings import StackSettings
from tests.servers.bureau import Answer, Bureau, serving
from tests.servers.receivers import mail_server, webhook
from utils.db_handler import DBHandler
from utils.errors import DelaywatchError
from utils.monitoring.channels import post, send_mail
from utils.monitoring.messages import Message
from utils.settings import AlertSettings, Settings, WatchSettings
from utils.sources import kaggle
from utils.sources.download import Client, RetryPolicy
from utils.storage.lake import Lake

pytestmark = pytest.mark.security

HUSH = "h4sh-h4sh"
MESSAGE = Message("Delaywatch: a test", "Nothing.")


# --- representations --------------------------------------------------------------------------------------------------


def pipeline_settings(tmp_path: Path) -> Settings:
    return Settings.from_environment(
        {
            "DELAYWATCH_LAKE": "s3://lake",
            "DELAYWATCH_WAREHOUSE": f"postgresql://loader:{HUSH}@host/warehouse",
            "AWS_ACCESS_KEY_ID": "AKIA",
            "AWS_SECRET_ACCESS_KEY": HUSH,
            "AWS_SESSION_TOKEN": HUSH,
        }
    )


def alert_settings(tmp_path: Path) -> AlertSettings:
    mail = {"DELAYWATCH_ALERT_EMAIL": "ops@here.org", "DELAYWATCH_SMTP": f"smtp://me:{HUSH}@host"}
    return AlertSettings.from_environment(mail | {"DELAYWATCH_ALERT_WEBHOOK": f"https://hooks.here.org/T0/{HUSH}"})


def watch_settings(tmp_path: Path) -> WatchSettings:
    (tmp_path / "url").write_text(f"postgresql://airflow:{HUSH}@host/airflow")
    return WatchSettings.from_environment({"DELAYWATCH_AIRFLOW_DATABASE_FILE": str(tmp_path / "url")})


def settings_of_the_stack(tmp_path: Path) -> StackSettings:
    secret = {
        "AIRFLOW_SECRETS_BACKEND": "a.Backend",
        "AIRFLOW_SECRETS_BACKEND_KWARGS": json.dumps({"key": HUSH}),
        "AWS_ACCESS_KEY_ID": HUSH,
        "AWS_SECRET_ACCESS_KEY": HUSH,
        "AWS_SESSION_TOKEN": HUSH,
        "DELAYWATCH_ADMIN_PASSWORD": HUSH * 2,
        "DELAYWATCH_JUPYTER_TOKEN": HUSH * 2,
        "DELAYWATCH_READER": f"postgresql://reader:{HUSH}@host/warehouse",
        "DELAYWATCH_WAREHOUSE": f"postgresql://loader:{HUSH}@host/warehouse",
    }
    return StackSettings.from_environment(
        secret | {"DELAYWATCH_LAKE": "s3://lake", "AWS_DEFAULT_REGION": "eu-central-1"}
    )


def warehouse(tmp_path: Path) -> DBHandler:
    return DBHandler(f"postgresql://loader:{HUSH}@host/warehouse")


def token(tmp_path: Path) -> object:
    (tmp_path / "token").write_text(HUSH)
    return kaggle.auth(tmp_path / "token")


def client(tmp_path: Path) -> Client:
    return Client(RetryPolicy(), kaggle.auth(tmp_path / "token"))


def lake(tmp_path: Path) -> Lake:
    return Lake(pipeline_settings(tmp_path))


@pytest.mark.parametrize(
    "make",
    [pipeline_settings, alert_settings, watch_settings, settings_of_the_stack, warehouse, token, client, lake],
    ids=lambda make: make.__name__,
)
def test_nothing_that_holds_a_secret_shows_it(tmp_path: Path, make: Callable[[Path], object]) -> None:
    (tmp_path / "token").write_text(HUSH)

    found = make(tmp_path)

    assert HUSH not in f"{found!r} {found} {[found]} {vars(found) if isinstance(found, DBHandler) else ''}"


# --- tracebacks -------------------------------------------------------------------------------------------------------


def warehouse_is_down() -> None:
    with closing(DBHandler(f"postgresql://loader:{HUSH}@127.0.0.1:1/warehouse")) as down:
        down.read("runs")


def warehouse_url_is_none() -> None:
    DBHandler(f"postgresql://loader:{HUSH}@host:many/warehouse")


def lake_is_down() -> None:
    secret = Settings(
        lake="s3://lake", warehouse="", aws_access_key_id="a", aws_secret_access_key=HUSH, aws_session_token=HUSH
    )
    Lake(secret.replace(aws_endpoint_url="http://127.0.0.1:1", aws_region="us-east-1")).prepare()


def webhook_refuses() -> None:
    with webhook(status=404) as hook:
        post(MESSAGE, f"{hook.url}/{HUSH}")


def webhook_is_down() -> None:
    post(MESSAGE, f"http://127.0.0.1:1/services/{HUSH}")


def webhook_has_a_blank() -> None:
    AlertSettings.from_environment({"DELAYWATCH_ALERT_WEBHOOK": f"https://hooks.here.org/services/ {HUSH}"})


def mail_server_refuses() -> None:
    with mail_server(password="another") as server:
        send_mail(
            MESSAGE, AlertSettings(recipients=("ops@here.org",), sender=None, smtp=f"smtp://me:{HUSH}@{server.address}")
        )


def mail_server_is_down() -> None:
    send_mail(MESSAGE, AlertSettings(recipients=("ops@here.org",), sender=None, smtp=f"smtp://me:{HUSH}@127.0.0.1:1"))


def kaggle_refuses(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(HUSH)
    with serving(Bureau()) as bureau, closing(Client(RetryPolicy(tries=1), kaggle.auth(tmp_path / "token"))) as asking:
        bureau.always["/2015.csv"] = Answer(401)
        asking.version(f"{bureau.url}/2015.csv")


def kaggle_token_is_none(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f'{{"key": "{HUSH}"')
    kaggle.auth(tmp_path / "token")


def setting_of_the_stack_is_wrong() -> None:
    StackSettings.from_environment({"DELAYWATCH_WAREHOUSE": f"postgresql://loader:{HUSH}@host:many/warehouse"})


@pytest.mark.parametrize(
    "fail",
    [
        warehouse_is_down, warehouse_url_is_none, lake_is_down, webhook_refuses, webhook_is_down, webhook_has_a_blank,
        mail_server_refuses, mail_server_is_down, kaggle_refuses, kaggle_token_is_none, setting_of_the_stack_is_wrong,
    ],
    ids=lambda fail: fail.__name__,
)  # fmt: skip
def test_a_fault_shows_no_secret_in_its_whole_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fail: Callable[..., Any]
) -> None:
    """Airflow logs an exception with all that caused it, and libraries put addresses into theirs."""
    needs = {"tmp_path": tmp_path} if fail.__code__.co_argcount else {}
    with caplog.at_level("DEBUG"), pytest.raises(DelaywatchError) as caught:
        fail(**needs)

    # Without the lines of source code, which here are those of this test.
    shown = "".join(line for error in chain(caught.value) for line in traceback.format_exception_only(error))
    assert HUSH not in shown
    assert HUSH not in "".join(record.getMessage() for record in caplog.records if record.levelname != "DEBUG")


def chain(error: BaseException | None) -> list[BaseException]:
    """The errors that a traceback shows, the last one first."""
    found = []
    while error:
        found.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return found
