"""Who is told and how: nobody by default, and what cannot be used is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils.alert_settings import AlertSettings
from utils.errors import DelaywatchError


def test_without_any_variable_nobody_is_told() -> None:
    assert AlertSettings.from_environment({"DELAYWATCH_ALERT_EMAIL": "", "DELAYWATCH_SMTP": ""}) == AlertSettings()


def test_recipients_are_a_list_and_secrets_may_be_in_files(tmp_path: Path) -> None:
    (tmp_path / "smtp").write_text("smtps://me%40here.org:p%2Fw@mail.here.org\n")
    (tmp_path / "hook").write_text("https://hooks.here.org/services/T/B/x\n")

    found = AlertSettings.from_environment(
        {
            "DELAYWATCH_ALERT_EMAIL": "ops@here.org, boss@here.org",
            "DELAYWATCH_SMTP_FILE": str(tmp_path / "smtp"),
            "DELAYWATCH_ALERT_WEBHOOK_FILE": str(tmp_path / "hook"),
        }
    )

    assert found.recipients == ("ops@here.org", "boss@here.org")
    assert (found.smtp, found.webhook) == (
        "smtps://me%40here.org:p%2Fw@mail.here.org",
        "https://hooks.here.org/services/T/B/x",
    )
    assert "p%2Fw" not in repr(found)
    assert "services" not in repr(found)


def test_what_is_given_wins_over_the_environment() -> None:
    found = AlertSettings.from_environment({"DELAYWATCH_SMTP": "smtp://wrong"}, smtp="smtp://right", sender=None)

    assert found.smtp == "smtp://right"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"DELAYWATCH_ALERT_EMAIL": "ops@here.org"}, "there is no mail server; set DELAYWATCH_SMTP"),
        ({"DELAYWATCH_ALERT_EMAIL": "ops", "DELAYWATCH_SMTP": "smtp://h"}, "'ops' is no e-mail address"),
        ({"DELAYWATCH_ALERT_EMAIL": "a@b\nBcc: c@d", "DELAYWATCH_SMTP": "smtp://h"}, "is no e-mail address"),
        ({"DELAYWATCH_SMTP": "mail.here.org:secret"}, "DELAYWATCH_SMTP cannot be used"),
        ({"DELAYWATCH_SMTP": "smtp://h:secret"}, "DELAYWATCH_SMTP cannot be used"),
        ({"DELAYWATCH_SMTP": "smtp://u:12#3@h"}, "DELAYWATCH_SMTP cannot be used"),
        ({"DELAYWATCH_SMTP": "smtp://u:12/3@h"}, "DELAYWATCH_SMTP cannot be used"),
        ({"DELAYWATCH_SMTP": "smtp://u:1%@h"}, "DELAYWATCH_SMTP cannot be used"),
        ({"DELAYWATCH_SMTP": "smtp://h?x"}, "DELAYWATCH_SMTP cannot be used"),
        ({"DELAYWATCH_ALERT_WEBHOOK": "https://h/secret#x"}, "DELAYWATCH_ALERT_WEBHOOK cannot be used"),
        ({"DELAYWATCH_ALERT_WEBHOOK": "https://u:secret@h/x"}, "DELAYWATCH_ALERT_WEBHOOK cannot be used"),
        ({"DELAYWATCH_ALERT_WEBHOOK": "file:///etc/secret"}, "DELAYWATCH_ALERT_WEBHOOK cannot be used"),
        ({"DELAYWATCH_SMTP_FILE": "/nowhere/secret.txt"}, "DELAYWATCH_SMTP_FILE /nowhere/secret.txt cannot be read"),
    ],
)
def test_what_cannot_be_used_is_named(environ: dict[str, str], said: str) -> None:
    with pytest.raises(DelaywatchError, match=said):
        AlertSettings.from_environment(environ)


def test_a_url_that_cannot_be_used_is_not_repeated_because_it_may_hold_a_password() -> None:
    with pytest.raises(DelaywatchError) as caught:
        AlertSettings.from_environment({"DELAYWATCH_SMTP": "http://user:hunter2@host"})

    assert "hunter2" not in str(caught.value)
