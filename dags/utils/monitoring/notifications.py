"""Notifications about runs: read the findings of a year, send each subscriber's message, record its contents.

Connects the lake with `announcements`, `messages` and `channels`. `dags/orchestration/notifiers.py` calls it when a run
ends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import NamedTuple

import pandas as pd

from utils import detectors
from utils.analysis.judged_days import KEY
from utils.errors import DelaywatchError, InvalidInput, Missing
from utils.monitoring import announcements, messages, subscriptions
from utils.monitoring.announcements import Record, YearRecord
from utils.monitoring.channels import default_channels, deliver, post
from utils.monitoring.messages import Failure, Message
from utils.monitoring.subscriptions import DEFAULT, Subscription
from utils.reporting.site.links import ServedLinks
from utils.settings import AlertSettings, Settings, channel_url
from utils.storage import keys
from utils.storage.lake import Lake
from utils.storage.parquet import encode_json

log = logging.getLogger(__name__)

UrlOf = Callable[[str], str]  # the URL of a channel by its name; raises DelaywatchError


class Update(NamedTuple):
    """The message that a subscriber gets now, None for no message, and the record after it was sent."""

    message: Message | None
    after: Record


class Delivery(NamedTuple):
    """The result of one channel. fault: the error message, None if the channel accepted the message."""

    subscriber: str
    subject: str
    channel: str
    fault: str | None


@dataclass(frozen=True)
class _Findings:
    """Tables of a finished year, dates as timestamps. event_days: with the severity of each day."""

    year: int
    events: pd.DataFrame
    event_days: pd.DataFrame
    days: pd.DataFrame
    verdicts: pd.DataFrame
    warnings: list[str]


def notify_year(
    settings: Settings, alerts: AlertSettings, year: int, where: str, today: date, url_of: UrlOf = channel_url
) -> None:
    """Send each subscriber the new findings of the year, and record them. Logs failed deliveries.

    where: a line with the location of the results. today: the day of the run, for `snooze_until`. url_of: see UrlOf.
    Messages link to the pages at `alerts.site`, or name the year's page in the lake without it. A message that no
    channel of its subscriber accepted is not recorded, so the next run sends it. Does nothing if nobody is subscribed.
    Raises DelaywatchError if the findings cannot be read or the record cannot be written.
    """
    subscribers = [DEFAULT] if alerts.is_configured else []
    try:
        subscribers += subscriptions.read(subscriptions.FILE)
    except DelaywatchError as error:
        log.error("The messages to the subscribers were not sent: %s", error)
    if not subscribers:
        return
    lake = Lake(settings)
    record = _record(lake, year)
    updates = _updates(lake, year, subscribers, record, where, today, alerts.site)
    outgoing = [
        (subscription, message) for subscription in subscribers if (message := updates[subscription.name].message)
    ]
    sent = _log(_send(outgoing, alerts, url_of))
    after = {name: update.after for name, update in updates.items() if name in sent or not update.message}
    records = record.subscribers | after
    if records != record.subscribers:
        new_record = YearRecord(subscribers={name: records[name] for name in sorted(records)})
        lake.store.put(keys.alerts_key(year), encode_json(new_record.model_dump(mode="json")))


def notify_failure(alerts: AlertSettings, failure: Failure) -> None:
    """Send the message of a failed run; log failed deliveries. Does nothing if no channel is configured."""
    _log(_send([(DEFAULT, messages.failure_message(failure))], alerts, channel_url))


def preview(
    settings: Settings, year: int, today: date, *, everything: bool, site: str | None = None
) -> dict[str, Message | None]:
    """Return by subscriber the message that a run of the year would send now, or None.

    everything: ignore earlier messages. site: address of the served pages.
    """
    lake = Lake(settings)
    subscribers = [DEFAULT, *subscriptions.read(subscriptions.FILE)]
    record = YearRecord() if everything else _record(lake, year)
    updates = _updates(lake, year, subscribers, record, f"Lake: {lake.uri}", today, site)
    return {name: update.message for name, update in updates.items()}


def send_test(alerts: AlertSettings, subscribers: Sequence[Subscription]) -> list[Delivery]:
    """Send a test message to the recipients in .env and to the subscribers."""
    text = "This is a test. Delaywatch sends failed runs and the findings of finished years here."
    message = Message("Delaywatch: test message", text)
    return _send([(subscription, message) for subscription in (DEFAULT, *subscribers)], alerts, channel_url)


# --- what each subscriber gets ----------------------------------------------------------------------------------------


def _updates(
    lake: Lake,
    year: int,
    subscribers: Sequence[Subscription],
    record: YearRecord,
    where: str,
    today: date,
    site: str | None,
) -> dict[str, Update]:
    """Return by subscriber the message to send now and the record after it; arguments as in `notify_year`."""
    findings = _read(lake, year)
    links = ServedLinks(f"{site}/") if site else None
    where += f"\nYear page: {links.year(year) if links else f'{lake.uri}/{keys.site_year_key(year)}'}"
    updates = {}
    for subscription in subscribers:
        before = record.subscribers.get(subscription.name)
        if subscription.send == "digest":
            update = _digest(subscription, findings, before or Record(), where, links)
        else:
            update = _year(subscription, findings, before, where, links)
        if subscription.is_snoozed(today):
            # Its events count as announced; its digest does not count as sent, so that it comes after the snooze.
            update = Update(None, (before or Record()) if subscription.send == "digest" else update.after)
        updates[subscription.name] = update
    return updates


def _year(
    subscription: Subscription, findings: _Findings, before: Record | None, where: str, links: ServedLinks | None
) -> Update:
    """Return the message with new events; the recipients in .env also get warnings, and always a first message."""
    record = before or Record()
    event_days = _covered(findings.event_days, subscription)
    announced, after = announcements.announce(record, event_days, subscription.min_severity)
    is_default = subscription.name == DEFAULT.name
    warnings = [warning for warning in findings.warnings if is_default and warning not in record.warnings]
    after = after.model_copy(update={"warnings": tuple(sorted({*record.warnings, *warnings}))})
    if not announced and not warnings and not (is_default and before is None):
        return Update(None, after)
    message = messages.year_message(
        findings.year,
        subscription,
        findings.events,
        event_days,
        announced,
        warnings,
        is_first=before is None,
        where=where,
        links=links,
    )
    return Update(message, after)


def _digest(
    subscription: Subscription, findings: _Findings, record: Record, where: str, links: ServedLinks | None
) -> Update:
    """Return the digest of the newest month with flights that no earlier run had.

    Older months that the same run has first get no digest, so a subscriber never gets several at once.
    """
    flying = findings.days.loc[findings.days["scheduled"] > 0, "fl_date"]
    months = {int(month) for month in flying.dt.month.unique()}
    if not months - {*record.digests}:
        return Update(None, record)
    month = max(months - {*record.digests})
    days, verdicts, event_days = (
        _covered(table[table["fl_date"].dt.month == month], subscription)
        for table in (findings.days, findings.verdicts, findings.event_days)
    )
    severe = event_days.loc[event_days["severity"] >= subscription.min_severity, "event_id"]
    events = findings.events[findings.events["event_id"].isin(severe)]
    message = messages.digest_message(
        findings.year, month, subscription, days, verdicts, events, findings.warnings, where, links
    )
    return Update(message, record.model_copy(update={"digests": tuple(sorted({*record.digests, *months}))}))


def _covered(table: pd.DataFrame, subscription: Subscription) -> pd.DataFrame:
    return table[table["origin"].isin(subscription.covered(table["origin"].unique()))]


# --- sending ----------------------------------------------------------------------------------------------------------


def _send(outgoing: Sequence[tuple[Subscription, Message]], alerts: AlertSettings, url_of: UrlOf) -> list[Delivery]:
    """Send each subscriber's message to all of the subscriber's channels, at the same time."""
    owners: dict[str, tuple[str, str]] = {}
    sends: dict[str, Callable[[], None]] = {}
    for subscription, message in outgoing:
        if subscription.name == DEFAULT.name:
            channels = default_channels(message, alerts)
        else:
            channels = {f"webhook of {subscription.name}": _post(subscription, message, url_of)}
        owners |= dict.fromkeys(channels, (subscription.name, message.subject))
        sends |= channels
    return [Delivery(*owners[channel], channel, fault) for channel, fault in deliver(sends).items()]


def _post(subscription: Subscription, message: Message, url_of: UrlOf) -> Callable[[], None]:
    """Return a function that posts the message. It raises the error of `url_of`, which is called here.

    The delivery runs in a thread, and Airflow reads connections in the main thread only.
    """
    try:
        url = url_of(subscription.channel)
    except DelaywatchError as error:
        return partial(_fail, error)
    return partial(post, message, url, f"the URL of the channel {subscription.channel}")


def _fail(error: DelaywatchError) -> None:
    raise error


def _log(deliveries: Sequence[Delivery]) -> set[str]:
    """Log the results. Return the subscribers whose message a channel accepted."""
    for delivery in deliveries:
        if delivery.fault:
            log.error("The message %r was not sent: %s", delivery.subject, delivery.fault)
        else:
            log.info("The message %r was sent by the %s", delivery.subject, delivery.channel)
    return {delivery.subscriber for delivery in deliveries if not delivery.fault}


# --- reading ----------------------------------------------------------------------------------------------------------


def _read(lake: Lake, year: int) -> _Findings:
    """Read the findings of a year. Raises Missing if events and verdicts do not match."""
    events, event_days, days, verdicts = (
        lake.read_table(key).to_pandas(date_as_object=False)
        for key in (
            keys.explanation_key(year, "events"),
            keys.explanation_key(year, "event_days"),
            keys.airport_days_key(year),
            keys.anomalies_key(year, detectors.PUBLISHED),
        )
    )
    flags = verdicts.loc[verdicts["is_anomaly"], [*KEY, "severity"]]
    event_days = event_days.merge(flags, on=KEY, how="left", validate="one_to_one")
    if event_days["severity"].isna().any():
        raise Missing(f"The events of {year} do not match its verdicts; run the explain step of {year} again.")
    return _Findings(year, events, event_days, days, verdicts, lake.read_quality(year)["warnings"])


def _record(lake: Lake, year: int) -> YearRecord:
    """Return the record of earlier messages about the year, empty without one. Raises InvalidInput if it is damaged."""
    data = lake.store.get(keys.alerts_key(year))
    if data is None:
        return YearRecord()
    try:
        return announcements.read(data, DEFAULT.name)
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"{keys.alerts_key(year)} in {lake.uri} is damaged; delete it. The next run of {year} then sends all "
            "findings again."
        ) from error
