"""Notifications about runs: read the findings of a year, send the message, record its contents.

Connects the lake with `messages` and `channels`. `dags/orchestration/notifiers.py` calls it when a run ends.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from utils.errors import InvalidInput
from utils.monitoring import messages
from utils.monitoring.channels import deliver
from utils.monitoring.messages import Failure, Message, Notified
from utils.settings import AlertSettings, Settings
from utils.storage import keys
from utils.storage.lake import Lake
from utils.storage.parquet import encode_json

log = logging.getLogger(__name__)


def notify_year(settings: Settings, alerts: AlertSettings, year: int, where: str) -> None:
    """Send the new findings of the year; record them if any channel accepted the message. Logs failed deliveries.

    where: a line with the location of the results. Does nothing if no channel is configured or nothing is new. Raises
    DelaywatchError if the findings cannot be read or the record cannot be written.
    """
    if not alerts.is_configured:
        return
    lake = Lake(settings)
    message, after = _findings(lake, year, _notified(lake, year), where)
    if message and _send(message, alerts):
        lake.store.put(keys.alerts_key(year), encode_json(after))


def notify_failure(alerts: AlertSettings, failure: Failure) -> None:
    """Send the message of a failed run; log failed deliveries. Does nothing if no channel is configured."""
    if alerts.is_configured:
        _send(messages.failure_message(failure), alerts)


def preview(settings: Settings, year: int, *, everything: bool) -> Message | None:
    """Return the message that a run of the year would send now, or None. everything: ignore earlier messages."""
    lake = Lake(settings)
    return _findings(lake, year, None if everything else _notified(lake, year), f"Lake: {lake.uri}")[0]


def send_test(alerts: AlertSettings) -> dict[str, str | None]:
    """Send a test message. Returns the error message by channel, None for a channel that accepted it."""
    text = "This is a test. Delaywatch sends failed runs and the findings of finished years here."
    return deliver(Message("Delaywatch: test message", text), alerts)


def _send(message: Message, alerts: AlertSettings) -> bool:
    """Send and log the result. Return True if any channel accepted the message."""
    faults = deliver(message, alerts)
    for name, fault in faults.items():
        if fault:
            log.error("The message %r was not sent: %s", message.subject, fault)
        else:
            log.info("The message %r was sent by %s", message.subject, name)
    return None in faults.values()


def _findings(lake: Lake, year: int, notified: Notified | None, where: str) -> tuple[Message | None, dict[str, Any]]:
    events, days = (
        lake.read_table(keys.explanation_key(year, name)).to_pandas(date_as_object=False)
        for name in ("events", "event_days")
    )
    return messages.year_message(year, events, days, lake.read_quality(year)["warnings"], notified, where)


def _notified(lake: Lake, year: int) -> Notified | None:
    data = lake.store.get(keys.alerts_key(year))
    if data is None:
        return None
    try:
        record = json.loads(data)
        days = [[str(origin), str(day)] for origin, day in record["days"]]
        return {"warnings": [str(warning) for warning in record["warnings"]], "days": days}
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"{keys.alerts_key(year)} in {lake.uri} is damaged; delete it. The next run of {year} then sends all "
            "findings again."
        ) from error
