"""Secrets are absent from the tracebacks and logs of stores and servers that fail."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.servers.bureau import Answer, Bureau, serving
from tests.servers.receivers import mail_server, webhook
from tests.tracebacks import shown_by
from utils.db_handler import DBHandler
from utils.errors import DelaywatchError
from utils.monitoring.channels import post, send_mail
from utils.monitoring.messages import Message
from utils.settings import AlertSettings, Settings
from utils.sources import kaggle
from utils.sources.download import Client, RetryPolicy
from utils.storage.lake import Lake

pytestmark = pytest.mark.security

HUSH = "h4sh-h4sh-h4sh"
URL = f"postgresql://loader:{HUSH}@127.0.0.1:1/warehouse"
S3 = Settings(
    lake="s3://lake",
    warehouse=URL,
    aws_access_key_id="a",
    aws_secret_access_key=HUSH,
    aws_region="x-1",
    aws_endpoint_url="http://127.0.0.1:1",
)
MESSAGE = Message("Delaywatch: test message", "Nothing.")


def by_mail(address: str) -> AlertSettings:
    return AlertSettings(recipients=("ops@here.org",), smtp=f"smtp://me:{HUSH}@{address}")


def webhook_refuses() -> None:
    with webhook(status=404) as hook:
        post(MESSAGE, f"{hook.url}/{HUSH}")


def mail_server_refuses() -> None:
    with mail_server(password="another") as server:
        send_mail(MESSAGE, by_mail(server.address))


def kaggle_refuses(token: Path) -> None:
    token.write_text(HUSH)
    with serving(Bureau()) as bureau, closing(Client(RetryPolicy(tries=1), kaggle.auth(token))) as client:
        bureau.always["/2015.csv"] = Answer(401)
        client.version(f"{bureau.url}/2015.csv")


@pytest.mark.parametrize(
    "fail",
    [
        pytest.param(lambda _: DBHandler(URL).read("runs"), id="warehouse is down"),
        pytest.param(lambda _: Lake(S3).prepare(), id="lake is down"),
        pytest.param(lambda _: webhook_refuses(), id="webhook refuses"),
        pytest.param(lambda _: post(MESSAGE, f"http://127.0.0.1:1/services/{HUSH}"), id="webhook is down"),
        pytest.param(lambda _: mail_server_refuses(), id="mail server refuses"),
        pytest.param(lambda _: send_mail(MESSAGE, by_mail("127.0.0.1:1")), id="mail server is down"),
        pytest.param(kaggle_refuses, id="Kaggle refuses"),
        pytest.param(kaggle.auth, id="token is invalid"),
    ],
)
def test_an_error_shows_no_secret_in_its_traceback_or_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fail: Callable[[Path], object]
) -> None:
    """Airflow logs an exception with its causes, and libraries put URLs into theirs."""
    caplog.set_level(logging.INFO)
    (tmp_path / "token").write_text(f'{{"key": "{HUSH}"')

    with pytest.raises(DelaywatchError) as error:
        fail(tmp_path / "token")

    assert HUSH not in shown_by(error.value) + caplog.text
