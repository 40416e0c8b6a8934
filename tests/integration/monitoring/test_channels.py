"""E-mail and webhook against servers on this machine: what arrives, and the error of each failed delivery."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.servers.receivers import mail_server, webhook
from utils.errors import DelaywatchError, InvalidInput, Unavailable
from utils.monitoring import channels
from utils.monitoring.channels import default_channels, deliver, post, send_mail
from utils.monitoring.messages import Message
from utils.settings import AlertSettings

MESSAGE = Message("Delaywatch 2013: 1 extreme event", "LGA & JFK, <closure>:\n- 57% cancelled – and more\n.\nThe end")
OPS, BOSS = "ops@here.org", "boss@here.org"
ACCEPTED = {"e-mail": None}


def by_mail(smtp: str, *recipients: str, sender: str | None = None) -> AlertSettings:
    return AlertSettings(recipients=recipients or (OPS,), sender=sender, smtp=smtp)


# --- e-mail -----------------------------------------------------------------------------------------------------------


def test_a_mail_reaches_all_recipients_as_plain_text() -> None:
    with mail_server() as server:
        assert deliver(default_channels(MESSAGE, by_mail(f"smtp://{server.address}", OPS, BOSS))) == ACCEPTED

    (mail,) = server.mails
    assert server.recipients == [[OPS, BOSS]]
    assert (mail["Subject"], mail["To"], mail["From"]) == (MESSAGE.subject, f"{OPS}, {BOSS}", OPS)
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content_type() == "text/plain"
    # In SMTP, a line with a single dot would end the mail.
    assert mail.get_content().replace("\r\n", "\n").strip() == MESSAGE.text


@pytest.mark.parametrize(("scheme", "offer"), [("smtp", "starttls"), ("smtps", "tls")])
def test_a_mail_is_encrypted_if_the_server_can(
    tls_context: Callable[..., ssl.SSLContext], scheme: str, offer: str
) -> None:
    encryption: dict[str, Any] = {offer: tls_context()}
    with mail_server(**encryption) as server:
        assert deliver(default_channels(MESSAGE, by_mail(f"{scheme}://{server.address}"))) == ACCEPTED

    assert server.was_encrypted == [True]


def test_a_server_with_an_untrusted_certificate_gets_no_password_and_no_mail(
    tls_context: Callable[..., ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with mail_server(starttls=tls_context()) as server, pytest.raises(InvalidInput, match=r"127\.0\.0\.1"):
        send_mail(MESSAGE, by_mail(f"smtp://user:secret@{server.address}"))

    assert (server.logins, server.mails) == ([], [])


def test_a_password_is_not_sent_unencrypted_to_another_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "LOOPBACK", ())  # so that this server counts as another host
    with mail_server(password="secret") as server, pytest.raises(InvalidInput, match="smtps://"):
        send_mail(MESSAGE, by_mail(f"smtp://user:secret@{server.address}"))

    assert (server.logins, server.mails) == ([], [])


def test_a_refused_recipient_is_named_and_the_others_get_the_mail() -> None:
    with mail_server(refused=(BOSS,)) as server, pytest.raises(InvalidInput, match=BOSS):
        send_mail(MESSAGE, by_mail(f"smtp://{server.address}", OPS, BOSS))

    assert server.recipients == [[OPS]]


def test_a_refused_login_is_invalid_and_a_server_that_is_down_or_silent_is_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channels, "TIMEOUT_S", 0.2)
    with mail_server(password="another") as refusing, pytest.raises(InvalidInput, match="DELAYWATCH_SMTP"):
        send_mail(MESSAGE, by_mail(f"smtp://user:secret@{refusing.address}"))

    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts connections but never answers
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(Unavailable, match=address):
            send_mail(MESSAGE, by_mail(f"smtp://user:secret@{address}"))

    with pytest.raises(Unavailable, match=address):
        send_mail(MESSAGE, by_mail(f"smtp://user:secret@{address}"))


# --- webhook ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error"),
    [(302, InvalidInput), (400, InvalidInput), (404, InvalidInput), (429, Unavailable), (500, Unavailable)],
)
def test_a_webhook_that_refuses_is_named_without_its_secret_path(status: int, error: type[DelaywatchError]) -> None:
    with webhook(status=status) as hook, pytest.raises(error, match=rf"127\.0\.0\.1.*{status}") as refused:
        post(MESSAGE, hook.url)

    assert "secret" not in str(refused.value)
    assert [method for method, _ in hook.requests] == ["POST"]  # a redirect is not followed


# --- both -------------------------------------------------------------------------------------------------------------


def test_the_webhook_gets_its_message_escaped_although_the_mail_server_is_down() -> None:
    with webhook() as hook:
        alerts = AlertSettings(recipients=(OPS,), smtp="smtp://127.0.0.1:1", webhook=hook.url)
        faults = deliver(default_channels(MESSAGE, alerts))

    assert faults["webhook"] is None
    assert "127.0.0.1:1" in str(faults["e-mail"])
    assert hook.texts == [
        "*Delaywatch 2013: 1 extreme event*\nLGA &amp; JFK, &lt;closure&gt;:\n- 57% cancelled – and more\n.\nThe end"
    ]


def test_a_slow_channel_fails_at_the_deadline() -> None:
    with webhook(pause_s=30) as hook:
        start = time.monotonic()
        faults = deliver(default_channels(MESSAGE, AlertSettings(webhook=hook.url)), deadline_s=0.2)
        waited_s = time.monotonic() - start

    assert faults["webhook"] is not None
    assert waited_s < 10
