"""`python -m utils alert`: send a test message, or preview the messages of a year."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from utils.cli.options import AlertYearOption, LakeOption, settings_of, years_of
from utils.cli.output import say
from utils.errors import InvalidInput
from utils.settings import AlertSettings

UNCONFIGURED = (
    "No recipient is set; set DELAYWATCH_ALERT_EMAIL and DELAYWATCH_SMTP, or DELAYWATCH_ALERT_WEBHOOK, or add a "
    "subscriber to subscriptions.yaml."
)


def alert(
    year: AlertYearOption = None,
    lake: LakeOption = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="With --year: include findings that were already sent.")
    ] = False,
) -> None:
    """Send a test message to all recipients and subscribers. With --year: print each one's message, and send nothing.

    A test uses the URLs of the environment, not those of Airflow's connections.
    """
    from utils.monitoring import notifications, subscriptions

    if everything and not year:
        raise InvalidInput("--everything needs a year; add --year.")
    for single_year in years_of(year or []):
        previews = notifications.preview(
            settings_of(lake, needs_warehouse=False),
            single_year,
            datetime.now(UTC).date(),
            everything=everything,
            site=AlertSettings.from_environment().site,
        )
        for name, message in previews.items():
            if message:
                say(f"To {name}: {message.subject}\n\n{message.text}\n")
            else:
                say(f"To {name}: {single_year} has nothing new; a run would send no message.")
    if year:
        return
    alerts, subscribers = AlertSettings.from_environment(), subscriptions.read(subscriptions.FILE)
    if not alerts.is_configured and not subscribers:
        raise InvalidInput(UNCONFIGURED)
    deliveries = notifications.send_test(alerts, subscribers)
    for delivery in deliveries:
        say(delivery.fault or f"The {delivery.channel} accepted the message.")
    if any(delivery.fault for delivery in deliveries):
        raise typer.Exit(1)
