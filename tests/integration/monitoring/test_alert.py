"""A finished year's message from lake to recipient, once for what it tells; and the command that tries it out."""

from __future__ import annotations

import logging
import os

import pytest
from typer.testing import CliRunner, Result

from tests.servers.receivers import mail_server, webhook
from tests.steps import YEAR
from utils.cli import app as cli
from utils.errors import DelaywatchError
from utils.monitoring import notifications
from utils.settings import AlertSettings, Settings
from utils.storage import keys
from utils.storage.lake import Lake

WHERE = "Run: https://here/airflow"


def test_a_finished_year_is_told_once_however_often_it_is_run(done: Settings) -> None:
    with webhook() as hook:
        for _ in range(2):
            notifications.notify_year(done, AlertSettings(webhook=hook.url), YEAR, WHERE)

    (text,) = hook.texts
    assert text.startswith(f"*Delaywatch {YEAR}: ")
    assert WHERE in text


def test_the_closed_airports_of_the_year_are_told(done: Settings) -> None:
    with mail_server() as server:
        notifications.notify_year(
            done, AlertSettings(recipients=("ops@here.org",), sender=None, smtp=f"smtp://{server.address}"), YEAR, WHERE
        )

    text = server.mails[0].get_content()
    assert "Extreme events, largest first:" in text
    assert f"{YEAR}-02-08" in text


def test_a_year_that_nobody_could_be_told_of_is_told_by_its_next_run(
    done: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    dead = AlertSettings(recipients=("ops@here.org",), sender=None, smtp="smtp://127.0.0.1:1")

    notifications.notify_year(done, dead, YEAR, WHERE)

    (said,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "was not sent: The mail server 127.0.0.1:1 did not take the message" in said
    with webhook() as hook:
        notifications.notify_year(done, AlertSettings(webhook=hook.url), YEAR, WHERE)
    assert len(hook.texts) == 1


def test_without_anybody_to_tell_the_lake_is_not_even_read() -> None:
    notifications.notify_year(Settings(lake="file:///nowhere", warehouse=""), AlertSettings(), YEAR, WHERE)


def test_a_damaged_record_of_what_was_told_is_named(done: Settings) -> None:
    Lake(done).store.put(keys.alerts_key(YEAR), b"{}")

    with pytest.raises(DelaywatchError, match=f"05_alerts/{YEAR}.json in .* is damaged; delete it"):
        notifications.notify_year(done, AlertSettings(webhook="http://127.0.0.1:1/"), YEAR, WHERE)


def utils(*line: str, **environ: str) -> Result:
    nothing = {name: "" for name in os.environ if name.startswith("DELAYWATCH_")}
    return CliRunner().invoke(cli.app, line, env={**nothing, **environ})


def test_the_command_sends_a_test_and_says_who_took_it() -> None:
    with webhook() as hook:
        tried = utils(
            "alert",
            DELAYWATCH_ALERT_WEBHOOK=hook.url,
            DELAYWATCH_ALERT_EMAIL="ops@here.org",
            DELAYWATCH_SMTP="smtp://127.0.0.1:1",
        )

    assert tried.exit_code == 1
    assert tried.stdout.splitlines()[1] == "The webhook took the message."
    assert tried.stdout.splitlines()[0].startswith("The mail server 127.0.0.1:1 did not take the message")
    assert "This is a test." in hook.texts[0]


def test_the_command_says_what_to_set_when_nobody_is_told() -> None:
    tried = utils("alert")

    assert (tried.exit_code, tried.stdout) == (1, "")
    assert "set DELAYWATCH_ALERT_EMAIL and DELAYWATCH_SMTP, or DELAYWATCH_ALERT_WEBHOOK" in str(tried.exception)


def test_the_command_shows_what_a_year_would_tell_and_sends_nothing(done: Settings) -> None:
    with webhook() as hook:
        shown = utils("alert", "--year", str(YEAR), DELAYWATCH_LAKE=done.lake, DELAYWATCH_ALERT_WEBHOOK=hook.url)

    assert shown.exit_code == 0, shown.stderr
    assert f"The flights of {YEAR} are done" in shown.stdout
    assert hook.texts == []
    assert not Lake(done).has(keys.alerts_key(YEAR))
