"""E-mail and webhook against servers on this machine: what arrives, and one sentence for each way it may not."""

from __future__ import annotations

import socket
import ssl
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.servers.certificates import self_signed
from tests.servers.receivers import mail_server, webhook
from utils.errors import DelaywatchError
from utils.monitoring import channels
from utils.monitoring.channels import deliver
from utils.monitoring.messages import Message
from utils.settings import AlertSettings

MESSAGE = Message("Delaywatch 2013: 1 extreme event", "LGA & JFK, <closure>:\n- 57% cancelled – and more\n.\nThe end")
OPS, BOSS = "ops@here.org", "boss@here.org"


def by_mail(smtp: str, *recipients: str, sender: str | None = None) -> AlertSettings:
    return AlertSettings(recipients=recipients or (OPS,), sender=sender, smtp=smtp)


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The context of a server whose certificate this process trusts."""
    now = datetime.now(UTC)
    certificate, key = self_signed("127.0.0.1", now - timedelta(days=1), now + timedelta(days=1))
    pem = tmp_path / "server.pem"
    pem.write_bytes(key + certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    return context


# --- e-mail -----------------------------------------------------------------------------------------------------------


def test_a_mail_reaches_all_recipients_as_plain_text_under_its_subject() -> None:
    with mail_server() as server:
        faults = deliver(MESSAGE, by_mail(f"smtp://{server.address}", OPS, BOSS))

    assert faults == {"e-mail": None}
    (mail,) = server.mails
    assert server.recipients == [[OPS, BOSS]]
    assert (mail["Subject"], mail["To"], mail["From"]) == (MESSAGE.subject, f"{OPS}, {BOSS}", OPS)
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content_type() == "text/plain"
    # A line that is a dot alone ends a mail in SMTP, and did not end this one.
    assert mail.get_content().replace("\r\n", "\n").strip() == MESSAGE.text


def test_a_mail_comes_from_the_login_where_that_is_an_address() -> None:
    with mail_server(password="p@ss/word") as server:
        faults = deliver(MESSAGE, by_mail(f"smtp://watch%40here.org:p%40ss%2Fword@{server.address}"))

    assert faults == {"e-mail": None}
    assert server.logins == ["watch@here.org"]
    assert server.mails[0]["From"] == "watch@here.org"


def test_a_named_sender_wins_over_the_login() -> None:
    with mail_server(password="secret") as server:
        deliver(MESSAGE, by_mail(f"smtp://watch%40here.org:secret@{server.address}", sender="alerts@here.org"))

    assert server.mails[0]["From"] == "alerts@here.org"


def test_a_server_that_can_encrypt_gets_the_mail_encrypted(tls: ssl.SSLContext) -> None:
    with mail_server(starttls=tls) as server:
        faults = deliver(MESSAGE, by_mail(f"smtp://{server.address}"))

    assert (faults, server.was_encrypted) == ({"e-mail": None}, [True])


def test_smtps_is_encrypted_from_the_first_byte(tls: ssl.SSLContext) -> None:
    with mail_server(tls=tls) as server:
        faults = deliver(MESSAGE, by_mail(f"smtps://{server.address}"))

    assert (faults, server.was_encrypted) == ({"e-mail": None}, [True])


def test_a_server_with_a_certificate_that_nobody_vouches_for_gets_nothing(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with mail_server(starttls=tls) as server:
        (fault,) = deliver(MESSAGE, by_mail(f"smtp://user:secret@{server.address}")).values()

    assert fault is not None
    assert "No encrypted connection to mail server 127.0.0.1" in fault
    assert (server.mails, server.logins) == ([], [])


def test_a_password_is_not_sent_to_another_host_without_encryption(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "LOOPBACK", ())  # so that this server is another host
    with mail_server(password="secret") as server:
        (fault,) = deliver(MESSAGE, by_mail(f"smtp://user:secret@{server.address}")).values()

    assert fault is not None
    assert "offers no encryption, so the password was not sent" in fault
    assert (server.logins, server.mails) == ([], [])


def test_a_refused_login_is_told_without_the_password() -> None:
    with mail_server(password="another") as server:
        (fault,) = deliver(MESSAGE, by_mail(f"smtp://user:hunter2@{server.address}")).values()

    assert fault == (
        f"The mail server {server.address} refused the login; correct user and password in DELAYWATCH_SMTP."
    )


def test_a_refused_recipient_is_named_and_the_others_get_their_mail() -> None:
    with mail_server(refused=(BOSS,)) as server:
        (fault,) = deliver(MESSAGE, by_mail(f"smtp://{server.address}", OPS, BOSS)).values()

    assert fault is not None
    assert f"refused {BOSS}" in fault
    assert server.recipients == [[OPS]]


def test_a_server_that_refuses_everybody_is_told() -> None:
    with mail_server(refused=(OPS,)) as server:
        (fault,) = deliver(MESSAGE, by_mail(f"smtp://{server.address}")).values()

    assert fault is not None
    assert "refused every recipient" in fault


def test_a_dead_mail_server_is_one_sentence() -> None:
    with mail_server() as server:
        pass  # it is gone, its port is free

    (fault,) = deliver(MESSAGE, by_mail(f"smtp://user:hunter2@{server.address}")).values()

    assert fault == (
        f"The mail server {server.address} did not take the message (Connection refused); "
        "correct DELAYWATCH_SMTP or mend the server."
    )


def test_a_server_that_never_says_a_word_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:  # the system takes the connection, nobody answers
        (fault,) = deliver(MESSAGE, by_mail(f"smtp://127.0.0.1:{server.getsockname()[1]}")).values()

    assert fault is not None
    assert "timed out" in fault


# --- webhook ----------------------------------------------------------------------------------------------------------


def test_a_webhook_gets_what_slack_takes_with_its_three_characters_escaped() -> None:
    with webhook() as hook:
        faults = deliver(MESSAGE, AlertSettings(webhook=hook.url))

    assert faults == {"webhook": None}
    assert hook.texts == [
        "*Delaywatch 2013: 1 extreme event*\nLGA &amp; JFK, &lt;closure&gt;:\n- 57% cancelled – and more\n.\nThe end"
    ]


@pytest.mark.parametrize(
    ("status", "way_out"),
    [
        (400, "correct DELAYWATCH_ALERT_WEBHOOK, or create it again there."),
        (404, "correct DELAYWATCH_ALERT_WEBHOOK, or create it again there."),
        (429, "look at its server, and send the message again."),
        (500, "look at its server, and send the message again."),
    ],
)
def test_a_webhook_that_refuses_says_why_and_its_secret_path_is_not_repeated(status: int, way_out: str) -> None:
    with webhook(status=status) as hook:
        (fault,) = deliver(MESSAGE, AlertSettings(webhook=hook.url)).values()

    assert fault == f"The webhook at 127.0.0.1 answered {status} (no_service); {way_out}"


def test_a_webhook_that_redirects_is_not_followed_because_the_message_would_be_lost() -> None:
    with webhook(status=302) as hook:
        (fault,) = deliver(MESSAGE, AlertSettings(webhook=hook.url)).values()

    assert fault is not None
    assert "answered 302" in fault
    assert [method for method, _ in hook.requests] == ["POST"]


def test_a_dead_webhook_is_one_sentence() -> None:
    with webhook() as hook:
        pass

    (fault,) = deliver(MESSAGE, AlertSettings(webhook=hook.url)).values()

    assert fault is not None
    assert fault.startswith("The webhook at 127.0.0.1 did not take the message (Connection refused)")
    assert "secret" not in fault


# --- both -------------------------------------------------------------------------------------------------------------


def test_without_recipients_and_webhook_nothing_is_sent() -> None:
    assert deliver(MESSAGE, AlertSettings(smtp="smtp://127.0.0.1:1")) == {}


def test_a_dead_mail_server_does_not_keep_the_webhook_from_its_message() -> None:
    with webhook() as hook:
        faults = deliver(
            MESSAGE, AlertSettings(recipients=(OPS,), sender=None, smtp="smtp://127.0.0.1:1", webhook=hook.url)
        )

    assert faults["webhook"] is None
    assert faults["e-mail"] is not None
    assert len(hook.texts) == 1


def test_whoever_is_slow_is_not_waited_for_beyond_the_deadline() -> None:
    with webhook(pause_s=30) as hook:
        start = time.monotonic()
        faults = deliver(MESSAGE, AlertSettings(webhook=hook.url), deadline_s=0.3)
        waited_s = time.monotonic() - start

    assert faults == {"webhook": "The webhook did not take the message within 0 s; look at its server."}
    assert waited_s < 10


def test_a_fault_that_nobody_foresaw_is_raised_and_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(channels, "post", break_down)

    with pytest.raises(ZeroDivisionError):
        deliver(MESSAGE, AlertSettings(webhook="http://127.0.0.1:1/"))


def test_send_mail_raises_the_sentence_itself() -> None:
    with pytest.raises(DelaywatchError, match="did not take the message"):
        channels.send_mail(MESSAGE, by_mail("smtp://127.0.0.1:1"))
