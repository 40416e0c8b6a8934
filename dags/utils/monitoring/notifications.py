"""Notifications about runs: read the findings of a year, send the message, remember what was told.

Joins the lake with `messages` and `channels`. `dags/orchestration/notifiers.py` calls it when a run has ended.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from utils.errors import InvalidInput
from utils.monitoring import messages
from utils.monitoring.channels import deliver
from utils.monitoring.messages import Failure, Message, Told
from utils.settings import AlertSettings, Settings
from utils.storage import keys
from utils.storage.lake import Lake
from utils.storage.parquet import encode_json

log = logging.getLogger(__name__)


def tell_year(settings: Settings, alerts: AlertSettings, year: int, where: str) -> None:
    """Send what is new in the year's findings and remember it, once any channel took it; logs a fault in a sentence.

    where: a line that says where the results are. Does nothing when nobody is to be told, or nothing is new. Raises
    DelaywatchError when the findings cannot be read or what was told cannot be kept.
    """
    if not alerts.is_configured:
        return
    lake = Lake(settings)
    message, after = _findings(lake, year, _told(lake, year), where)
    if message and _send(message, alerts):
        lake.store.put(keys.alerts_key(year), encode_json(after))


def tell_failure(alerts: AlertSettings, failure: Failure) -> None:
    """Send the message of a failed run; logs a fault in a sentence. Does nothing when nobody is to be told."""
    if alerts.is_configured:
        _send(messages.of_failure(failure), alerts)


def preview(settings: Settings, year: int, *, everything: bool) -> Message | None:
    """Return the message that a run of the year would send now, None without news. everything: as if none was sent."""
    lake = Lake(settings)
    return _findings(lake, year, None if everything else _told(lake, year), f"Lake: {lake.uri}")[0]


def send_test(alerts: AlertSettings) -> dict[str, str | None]:
    """Send a test message. Returns the fault of each channel by its name, None for a channel that took it."""
    text = "This is a test. Failed runs and the findings of finished years will be told here."
    return deliver(Message("Delaywatch: a test", text), alerts)


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
    events, days = (
        lake.read_table(keys.explanation_key(year, name)).to_pandas(date_as_object=False)
        for name in ("events", "event_days")
    )
    return messages.of_year(year, events, days, lake.read_quality(year)["warnings"], told, where)


def _told(lake: Lake, year: int) -> Told | None:
    data = lake.store.get(keys.alerts_key(year))
    if data is None:
        return None
    try:
        told = json.loads(data)
        return {"warnings": [str(one) for one in told["warnings"]], "days": [[str(a), str(b)] for a, b in told["days"]]}
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"{keys.alerts_key(year)} in {lake.uri} is damaged; delete it, and the next run of {year} tells all again."
        ) from error
