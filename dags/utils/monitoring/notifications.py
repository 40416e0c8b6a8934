"""What is told when a run has ended: read, put into words, sent and remembered. And `python -m utils alert`.

Joins the lake with `messages` and `channels`. `dags/orchestration/notifiers.py` calls it when a run has ended.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from utils.alert_settings import AlertSettings
from utils.cli.options import LakeOption, OnlyYearOption, settings_of, years_of
from utils.errors import DelaywatchError
from utils.monitoring.channels import deliver
from utils.settings import Settings

if TYPE_CHECKING:
    from utils.monitoring.messages import Failure, Message, Told
    from utils.storage.lake import Lake

log = logging.getLogger(__name__)

UNCONFIGURED = (
    "Nobody is told of anything: set DELAYWATCH_ALERT_EMAIL and DELAYWATCH_SMTP, or DELAYWATCH_ALERT_WEBHOOK."
)


def tell_year(settings: Settings, alerts: AlertSettings, year: int, where: str) -> None:
    """Send what is new in the year's findings and remember it, once any channel took it; logs a fault in a sentence.

    where: a line that says where the results are. Does nothing when nobody is to be told, or nothing is new. Raises
    DelaywatchError when the findings cannot be read or what was told cannot be kept.
    """
    from utils.storage import keys
    from utils.storage.lake import Lake
    from utils.storage.parquet import encode_json

    if not alerts.is_configured:
        return
    lake = Lake(settings)
    message, after = _findings(lake, year, _told(lake, year), where)
    if message and _send(message, alerts):
        lake.store.put(keys.told_key(year), encode_json(after))


def tell_failure(alerts: AlertSettings, failure: Failure) -> None:
    """Send the message of a failed run; logs a fault in a sentence. Does nothing when nobody is to be told."""
    if alerts.is_configured:
        from utils.monitoring import messages

        _send(messages.of_failure(failure), alerts)


def _send(message: Message, alerts: AlertSettings) -> bool:
    """Whether any channel took it."""
    faults = deliver(message, alerts)
    for name, fault in faults.items():
        if fault:
            log.error("%r was not told: %s", message.subject, fault)
        else:
            log.info("%r was told by %s", message.subject, name)
    return None in faults.values()


def _findings(lake: Lake, year: int, told: Told | None, where: str) -> tuple[Message | None, dict[str, Any]]:
    from utils.monitoring import messages
    from utils.storage import keys

    events, days = (
        lake.read_table(keys.explanation_key(year, name)).to_pandas(date_as_object=False)
        for name in ("events", "event_days")
    )
    return messages.of_year(year, events, days, lake.read_quality(year)["warnings"], told, where)


def _told(lake: Lake, year: int) -> Told | None:
    from utils.storage import keys

    data = lake.store.get(keys.told_key(year))
    if data is None:
        return None
    try:
        told = json.loads(data)
        return {"warnings": [str(one) for one in told["warnings"]], "days": [[str(a), str(b)] for a, b in told["days"]]}
    except (ValueError, KeyError, TypeError) as error:
        raise DelaywatchError(
            f"{keys.told_key(year)} in {lake.uri} is damaged; delete it, and the next run of {year} tells all again."
        ) from error


def alert(
    year: OnlyYearOption = None,
    lake: LakeOption = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="With --year: as if nothing of the year had been told.")
    ] = False,
) -> None:
    """Send a test message to all who are told of runs. With --year: show what a run would tell, and send nothing."""
    from utils.storage.lake import Lake

    console = Console()

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    if everything and not year:
        raise DelaywatchError("--everything is about a year; name it with --year.")
    for one in years_of(year or []):
        found = Lake(settings_of(lake, needs_warehouse=False))
        message, _ = _findings(found, one, None if everything else _told(found, one), f"Lake: {found.uri}")
        say(f"{message.subject}\n\n{message.text}" if message else f"Nothing of {one} is new; nobody would be told.")
    if year:
        return
    alerts = AlertSettings.from_environment()
    if not alerts.is_configured:
        raise DelaywatchError(UNCONFIGURED)
    from utils.monitoring.messages import Message

    text = "This is a test. Failed runs and the findings of finished years will be told here."
    faults = deliver(Message("Delaywatch: a test", text), alerts)
    for name, fault in faults.items():
        say(fault or f"The {name} took the message.")
    if any(faults.values()):
        raise typer.Exit(1)
