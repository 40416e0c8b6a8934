"""`python -m utils alert`: send a test message, or preview the message of a year."""

from __future__ import annotations

from typing import Annotated

import typer

from utils.cli.options import AlertYearOption, LakeOption, settings_of, years_of
from utils.cli.output import say
from utils.errors import InvalidInput
from utils.settings import AlertSettings

UNCONFIGURED = "No recipient is set; set DELAYWATCH_ALERT_EMAIL and DELAYWATCH_SMTP, or DELAYWATCH_ALERT_WEBHOOK."


def alert(
    year: AlertYearOption = None,
    lake: LakeOption = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="With --year: include findings that were already sent.")
    ] = False,
) -> None:
    """Send a test message to all recipients. With --year: print the message of the year, and send nothing."""
    from utils.monitoring import notifications

    if everything and not year:
        raise InvalidInput("--everything needs a year; add --year.")
    for single_year in years_of(year or []):
        message = notifications.preview(settings_of(lake, needs_warehouse=False), single_year, everything=everything)
        if message:
            say(f"{message.subject}\n\n{message.text}")
        else:
            say(f"{single_year} has no new findings; a run would send no message.")
    if year:
        return
    alerts = AlertSettings.from_environment()
    if not alerts.is_configured:
        raise InvalidInput(UNCONFIGURED)
    faults = notifications.send_test(alerts)
    for name, fault in faults.items():
        say(fault or f"The {name} accepted the message.")
    if any(faults.values()):
        raise typer.Exit(1)
