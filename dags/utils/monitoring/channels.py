"""Deliver messages by e-mail (SMTP) and to a webhook with Slack's format.

`messages` writes the texts. An error of a failed delivery says why, and never contains a password or the path of a
webhook, which is secret too. Why not apprise: infra-notes/decisions/0036.
"""

from __future__ import annotations

import http.client
import json
import smtplib
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from http import HTTPStatus
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit

from typing_extensions import override

from utils.errors import DelaywatchError, InvalidInput, Unavailable
from utils.monitoring.messages import Message
from utils.settings import AlertSettings

TIMEOUT_S = 8  # of one network operation
# Of the whole delivery. Airflow ends a task that runs for more than 20 s after its success ([core]
# task_success_overtime), and a slow server may send one byte at a time.
DEADLINE_S = 12
CERTIFICATE_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL
DEFAULT_PORTS = {"smtp": 587, "smtps": 465}
LOOPBACK = ("localhost", "127.0.0.1", "::1")
SLACK_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}  # Slack requires only these


def deliver(sends: Mapping[str, Callable[[], None]], deadline_s: float = DEADLINE_S) -> dict[str, str | None]:
    """Send to all channels at the same time. sends: by name of the channel, a function that sends one message.

    Returns the error message by channel, None for a channel that accepted its message. A channel that is not done after
    `deadline_s` seconds counts as failed. Raises unexpected exceptions.
    """
    faults: dict[str, str | None] = {
        name: f"The {name} did not accept the message within {deadline_s:.0f} s; check its server." for name in sends
    }
    unexpected: list[Exception] = []

    def send(name: str, call: Callable[[], None]) -> None:
        try:
            call()
            faults[name] = None
        except DelaywatchError as error:
            faults[name] = str(error)
        except Exception as error:  # noqa: BLE001 - a thread's exception would be lost; it is raised below
            unexpected.append(error)

    # Daemon threads, so that a server that hangs does not keep the process alive.
    threads = [threading.Thread(target=send, args=channel, daemon=True) for channel in sends.items()]
    end = time.monotonic() + deadline_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    if unexpected:
        raise unexpected[0]
    return dict(faults)


def default_channels(message: Message, alerts: AlertSettings) -> dict[str, Callable[[], None]]:
    """Return what `deliver` takes, for the recipients in .env; empty if there are none."""
    channels: dict[str, Callable[[], None]] = {}
    if alerts.recipients:
        channels["e-mail"] = lambda: send_mail(message, alerts)
    if url := alerts.webhook:
        channels["webhook"] = lambda: post(message, url)
    return channels


# --- e-mail -----------------------------------------------------------------------------------------------------------


def send_mail(message: Message, alerts: AlertSettings) -> None:
    """Send one mail to all recipients. Raises DelaywatchError if the server refuses any of them."""
    server = urlsplit(alerts.smtp or "")
    login = unquote(server.username or "")
    sender = alerts.sender or (login if "@" in login else alerts.recipients[0])
    mail = EmailMessage(policy=SMTP)
    mail["Subject"] = " ".join(message.subject.split())
    mail["From"], mail["To"] = sender, ", ".join(alerts.recipients)
    mail["Date"], mail["Message-ID"] = formatdate(), make_msgid(domain=sender.rpartition("@")[2])
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: suppresses out-of-office replies
    mail.set_content(message.text)
    place = f"The mail server {server.hostname}:{server.port or DEFAULT_PORTS[server.scheme]}"
    try:
        with _connected(server.scheme, server.hostname or "", server.port or DEFAULT_PORTS[server.scheme]) as smtp:
            if login:
                if not isinstance(smtp.sock, ssl.SSLSocket) and server.hostname not in LOOPBACK:
                    raise InvalidInput(
                        f"{place} offers no encryption, so the password was not sent; use smtps:// or another server."
                    )
                smtp.login(login, unquote(server.password or ""))
            refused = smtp.send_message(mail)
    except (smtplib.SMTPException, OSError) as error:
        raise _mail_fault(error, place, sender) from error
    if refused:
        raise InvalidInput(f"{place} refused {', '.join(sorted(refused))}; correct DELAYWATCH_ALERT_EMAIL.")


def _mail_fault(error: Exception, place: str, sender: str) -> DelaywatchError:
    """Return the exception for a failed mail. place: the server, as the beginning of a sentence."""
    addresses = "correct DELAYWATCH_ALERT_FROM and DELAYWATCH_ALERT_EMAIL"
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return InvalidInput(f"{place} refused the login; correct user and password in DELAYWATCH_SMTP.")
    if isinstance(error, smtplib.SMTPSenderRefused):
        return InvalidInput(f"{place} refused the sender {sender}; {addresses}.")
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return InvalidInput(f"{place} refused every recipient; {addresses}.")
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code == CERTIFICATE_EXPIRED:
        return InvalidInput(f"The certificate of the{place[3:]} has expired; renew it on that server.")
    if isinstance(error, ssl.SSLError):
        return InvalidInput(
            f"{place} offers no valid encrypted connection ({error.reason or 'certificate'}); use the host name "
            "in its certificate, or set SSL_CERT_FILE to the certificate of its authority."
        )
    return Unavailable(
        f"{place} did not accept the message ({_why(error)}); correct DELAYWATCH_SMTP or repair the server."
    )


def _connected(scheme: str, host: str, port: int) -> smtplib.SMTP:
    """Return a connection: with TLS for smtps, else with STARTTLS if the server offers it."""
    context = ssl.create_default_context()
    if scheme == "smtps":
        return smtplib.SMTP_SSL(host, port, timeout=TIMEOUT_S, context=context)
    smtp = smtplib.SMTP(host, port, timeout=TIMEOUT_S)
    try:
        smtp.ehlo_or_helo_if_needed()
        if smtp.has_extn("starttls"):
            smtp.starttls(context=context)
            smtp.ehlo()
    except BaseException:
        smtp.close()
        raise
    return smtp


# --- webhook ----------------------------------------------------------------------------------------------------------


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuse redirects, because urllib would turn the POST into a GET without the message."""

    @override
    def redirect_request(self, *_: object, **__: object) -> None:
        return None


def post(message: Message, url: str, setting: str = "DELAYWATCH_ALERT_WEBHOOK") -> None:
    """Post `{"text": ...}` with the subject in bold. Raises DelaywatchError for any status except 2xx.

    setting: the name of the setting that has the URL, for the message of an error.
    """
    body = json.dumps({"text": f"*{_escaped(message.subject)}*\n{_escaped(message.text)}"}).encode()
    headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "delaywatch"}
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")  # noqa: S310 - settings allow http
    place = f"The webhook at {urlsplit(url).hostname}"
    correct = f"correct {setting}"
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT_S):
            return
    except HTTPError as error:
        body_text = ""
        with error, suppress(OSError, http.client.HTTPException):  # the status suffices without a body
            body_text = " ".join(error.read(200).decode(errors="replace").split())
        answer = f"{place} answered {error.code}{f' ({body_text})' if body_text else ''}"
        if error.code == HTTPStatus.TOO_MANY_REQUESTS or error.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Unavailable(f"{answer}; check its server, then test it with `python -m utils alert`.") from error
        raise InvalidInput(f"{answer}; {correct}, or create a new webhook.") from error
    except (OSError, http.client.HTTPException) as error:
        cause = error.reason if isinstance(error, URLError) else error
        if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code == CERTIFICATE_EXPIRED:
            raise InvalidInput(f"The certificate of the{place[3:]} has expired; renew it on that server.") from error
        raise Unavailable(f"{place} did not accept the message ({_why(error)}); {correct}.") from error


def _escaped(text: str) -> str:
    return "".join(SLACK_ESCAPES.get(character, character) for character in text)


def _why(error: BaseException) -> str:
    """Return a short reason for a failed connection."""
    if isinstance(error, URLError) and isinstance(error.reason, BaseException):
        return _why(error.reason)
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_S} s"
    if isinstance(error, smtplib.SMTPResponseException):
        text = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        return f"{error.smtp_code} {' '.join(str(text).split())}"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
