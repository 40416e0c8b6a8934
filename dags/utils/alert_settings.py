"""Who is told of a run and how, read once from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from utils.errors import DelaywatchError
from utils.settings import read_secret

# Of user and password: every character that would end them is percent-encoded, and every % encodes one.
_PART = r"(?:[^\s@:/?#%\[\]]|%[0-7][0-9A-Fa-f]|(?:%[89A-Fa-f][0-9A-Fa-f])+)"
_MAIL_SERVER = re.compile(rf"smtps?://(?:{_PART}+(?::{_PART}*)?@)?[^\s@/?#]+/?")
_WEBHOOK = re.compile(r"https?://[^\s/?#@]+(?:[/?][^\s#\x00-\x1f\x7f]*)?")


@dataclass(frozen=True)
class AlertSettings:
    """Where messages go; nobody is told of anything while there is neither a recipient nor a webhook.

    recipients: e-mail addresses. smtp: `smtp://[user:password@]host[:port]`, which encrypts where the server offers it
    and never sends a password without, or `smtps://...`, encrypted from the first byte. webhook: a URL that takes what
    Slack takes.
    """

    recipients: tuple[str, ...] = ()
    sender: str | None = None  # None: the login at the mail server where that is an address, else the first recipient
    smtp: str | None = field(default=None, repr=False)
    webhook: str | None = field(default=None, repr=False)

    @property
    def is_configured(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self.recipients or self.webhook)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, **given: str | None) -> AlertSettings:
        """Read the variables below; none is needed. What is not None in `given` wins over its variable.

        | variable | what |
        |---|---|
        | DELAYWATCH_ALERT_EMAIL | recipients, separated by commas |
        | DELAYWATCH_ALERT_FROM | the sender's address |
        | DELAYWATCH_SMTP, or DELAYWATCH_SMTP_FILE | the mail server's URL, or a file that holds it |
        | DELAYWATCH_ALERT_WEBHOOK, or DELAYWATCH_ALERT_WEBHOOK_FILE | the URL to post to, or a file that holds it |

        An empty file is an absent one, so that whoever hands files out need not know who reads them.
        Raises DelaywatchError for recipients without a mail server, and for an address or URL that is none.
        """
        env = os.environ if environ is None else environ

        def secret(name: str, variable: str) -> str | None:
            file = Path(env.get(f"{variable}_FILE") or os.devnull)
            if found := given.get(name) or env.get(variable):
                return found
            try:
                is_empty = file == Path(os.devnull) or (file.is_file() and not file.stat().st_size)
            except OSError:
                is_empty = False  # reading it says what is wrong
            return None if is_empty else read_secret(file, f"{variable}_FILE").strip()

        asked = given.get("recipients") or env.get("DELAYWATCH_ALERT_EMAIL") or ""
        recipients = tuple(address.strip() for address in asked.split(",") if address.strip())
        sender = given.get("sender") or env.get("DELAYWATCH_ALERT_FROM") or None
        for address in (*recipients, *([sender] if sender else [])):
            if not re.fullmatch(r"[!-?A-~]+@[!-?A-~]+", address):
                raise DelaywatchError(
                    f"{address!r} is no e-mail address; correct DELAYWATCH_ALERT_EMAIL and DELAYWATCH_ALERT_FROM."
                )
        smtp, webhook = secret("smtp", "DELAYWATCH_SMTP"), secret("webhook", "DELAYWATCH_ALERT_WEBHOOK")
        if recipients and not smtp:
            raise DelaywatchError(
                "DELAYWATCH_ALERT_EMAIL names recipients, but there is no mail server; set DELAYWATCH_SMTP."
            )
        if smtp and not (_MAIL_SERVER.fullmatch(smtp) and _is_url(smtp, "smtp", "smtps")):
            raise DelaywatchError(
                "DELAYWATCH_SMTP cannot be used; write smtp://user:password@host:587, or smtps://, with "
                "@ : / ? # % in user and password as %40 %3A %2F %3F %23 %25."
            )
        # A blank in it would come back in an error of Python's that shows the path, which is the secret.
        if webhook and not (_WEBHOOK.fullmatch(webhook) and _is_url(webhook, "https", "http")):
            raise DelaywatchError(
                "DELAYWATCH_ALERT_WEBHOOK cannot be used; write the whole https:// address, without a user and #."
            )
        return cls(recipients, sender, smtp, webhook)


def _is_url(value: str, *schemes: str) -> bool:
    """Whether it is a URL of one of the schemes that names a host, and a port only if that is one."""
    try:
        parts = urlsplit(value)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0 and value.isascii()
    except ValueError:
        return False
