"""The message of a finished year, from the lake to the recipient, and the command `alert`."""

from __future__ import annotations

import logging
from datetime import date

import pytest

from tests.command import utils
from tests.servers.receivers import mail_server, webhook
from tests.steps import YEAR
from utils.monitoring.notifications import notify_year
from utils.settings import AlertSettings, Settings
from utils.storage import keys
from utils.storage.lake import Lake

RUN = "Run: https://here/airflow"
TODAY = date(2016, 4, 1)
NO_SERVER = "smtp://127.0.0.1:1"


def test_a_finished_year_is_sent_once_with_its_extreme_events(done: Settings) -> None:
    with mail_server() as server:
        alerts = AlertSettings(recipients=("ops@here.org",), smtp=f"smtp://{server.address}")
        for _ in range(2):
            notify_year(done, alerts, YEAR, RUN, TODAY)

    (mail,) = server.mails
    text = mail.get_content()
    assert str(YEAR) in mail["Subject"]
    assert f"{YEAR}-02-08" in text
    assert RUN in text


def test_messages_link_to_the_served_pages_if_their_address_is_known(done: Settings) -> None:
    texts = []
    for site in ("https://here/flights", None):
        Lake(done).store.delete([keys.alerts_key(YEAR)])
        with webhook() as hook:
            notify_year(done, AlertSettings(webhook=hook.url, site=site), YEAR, RUN, TODAY)
        texts += hook.texts

    served, unserved = texts
    assert served.splitlines()[-1].endswith(f"https://here/flights/{YEAR}/")
    assert "https://here/flights/events/" in served
    assert unserved.splitlines()[-1].endswith(f"{Lake(done).uri}/{keys.site_year_key(YEAR)}")


def test_a_message_that_no_channel_accepted_is_sent_by_the_next_run(
    done: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    notify_year(done, AlertSettings(recipients=("ops@here.org",), smtp=NO_SERVER), YEAR, RUN, TODAY)

    (error,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "127.0.0.1:1" in error
    with webhook() as hook:
        notify_year(done, AlertSettings(webhook=hook.url), YEAR, RUN, TODAY)
    assert len(hook.texts) == 1


def test_the_command_tests_every_channel_and_names_the_failed_channel() -> None:
    with webhook() as hook:
        done = utils(
            "alert",
            DELAYWATCH_ALERT_WEBHOOK=hook.url,
            DELAYWATCH_ALERT_EMAIL="ops@here.org",
            DELAYWATCH_SMTP=NO_SERVER,
        )

    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stdout
    assert "webhook accepted" in done.stdout
    assert len(hook.texts) == 1


def test_the_command_shows_the_message_of_a_year_and_sends_nothing(done: Settings) -> None:
    with webhook() as hook:
        variables = {"DELAYWATCH_LAKE": done.lake, "DELAYWATCH_ALERT_WEBHOOK": hook.url}
        shown = utils("alert", "--year", str(YEAR), **variables)

    assert f"{YEAR}-02-08" in shown.stdout
    assert hook.texts == []
    assert not Lake(done).has(keys.alerts_key(YEAR))
