"""Subscribers with webhooks of their own: each gets exactly the subscribed findings, once."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import pytest

from tests.builders import Row, airport_day_row, airport_days_table, event_day_row, table_of, verdict_row
from tests.command import utils
from tests.servers.receivers import Hook, webhook
from tests.steps import YEAR
from utils import schemas
from utils.analysis import events
from utils.analysis.airports import coordinates
from utils.errors import InvalidInput, Missing
from utils.monitoring import subscriptions
from utils.monitoring.notifications import notify_year, preview
from utils.settings import AlertSettings, Settings
from utils.storage import keys
from utils.storage.lake import Lake

NOBODY = AlertSettings()
TODAY, LATER = date(2016, 4, 1), date(2016, 6, 1)
MILD, STRONG, EXTREME = 1, 2, 3
# One event in New York in February, and three single airport-days in March.
FLAGS = {
    ("EWR", "02-08"): EXTREME,
    ("JFK", "02-08"): STRONG,
    ("JFK", "03-20"): MILD,
    ("LAX", "03-10"): MILD,
    ("SEA", "03-09"): STRONG,
}
NEW_YORK, JFK, LAX, SEA = "02-08 EWR and JFK", "03-20 JFK", "03-10 LAX", "03-09 SEA"
SUBSCRIBERS = {
    "everyone": "airports: all\n  severity: mild",
    "kennedy": "airports: [JFK]\n  severity: strong",
    "west": "regions: [California, north-west]\n  severity: mild",
    "worst": "airports: all",
    "monthly": "airports: all\n  severity: strong\n  send: digest",
    "asleep": "airports: all\n  severity: mild\n  snooze_until: 2016-05-01",
    "asleep-monthly": "airports: [LAX, SEA]\n  severity: mild\n  send: digest\n  snooze_until: 2016-05-01",
}
Flags = dict[tuple[str, str], int]


def write(settings: Settings, flags: Flags) -> None:
    """Replace the year's gold by flights at four airports until the end of March, with these flags and their events."""
    days, verdicts = [], []
    for origin in ("EWR", "JFK", "LAX", "SEA"):
        for month, last in ((1, 31), (2, 28), (3, 31)):
            for day in (f"{month:02}-{number:02}" for number in range(1, last + 1)):
                severity, place = flags.get((origin, day), 0), (origin, f"{YEAR}-{day}")
                days.append(airport_day_row(*place, scheduled=100, cancelled=20 if severity else 0))
                flag: Row = {"is_anomaly": True, "direction": "late", "severity": severity, "score": 100.0}
                verdict = verdict_row("delaywatch", *place, **(flag if severity else {}))
                verdicts.append({name: verdict[name] for name in schemas.ANOMALIES.names})
    tables = airport_days_table(*days), table_of(schemas.ANOMALIES, *verdicts)
    frames = [table.to_pandas(date_as_object=False) for table in tables]
    found, event_days = events.find(frames[1], frames[0], coordinates(["EWR", "JFK", "LAX", "SEA"]))
    lake = Lake(settings)
    lake.write_table(keys.airport_days_key(YEAR), tables[0], "")
    lake.write_table(keys.anomalies_key(YEAR, "delaywatch"), tables[1], "")
    lake.write_table(keys.explanation_key(YEAR, "events"), found, "")
    lake.write_table(keys.explanation_key(YEAR, "event_days"), event_days, "")


@pytest.fixture
def planted(done: Settings) -> Settings:
    """A finished year with the events of FLAGS."""
    write(done, FLAGS)
    return done


@pytest.fixture
def hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Hook]]:
    """The webhooks of SUBSCRIBERS, each with its own server."""
    file = tmp_path / "subscriptions.yaml"
    channels = {name: name.replace("-", "_") for name in SUBSCRIBERS}
    entries = [f"- name: {name}\n  channel: {channels[name]}\n  {own}\n" for name, own in SUBSCRIBERS.items()]
    file.write_text("".join(entries))
    monkeypatch.setattr(subscriptions, "FILE", file)
    with ExitStack() as stack:
        servers = {name: stack.enter_context(webhook()) for name in SUBSCRIBERS}
        for name, server in servers.items():
            monkeypatch.setenv(f"DELAYWATCH_CHANNEL_{channels[name].upper()}", server.url)
        yield servers


@pytest.fixture
def received(planted: Settings, hooks: dict[str, Hook]) -> Callable[..., dict[str, list[list[str]]]]:
    """A function that notifies, and returns by subscriber the events that each new message lists."""

    def notify(flags: Flags | None = None, today: date = TODAY) -> dict[str, list[list[str]]]:
        if flags:
            write(planted, flags)
        for hook in hooks.values():
            hook.texts.clear()
        notify_year(planted, NOBODY, YEAR, "Run: here", today)
        pattern = rf"{YEAR}-(\d\d-\d\d(?:\.\.\d\d)? (?:\w+ and )?\w+), delay"
        return {
            name: [sorted(re.findall(pattern, text)) for text in hook.texts]
            for name, hook in hooks.items()
            if hook.texts
        }

    return notify


def test_each_subscriber_gets_exactly_the_subscribed_events(
    received: Callable[..., dict[str, list[list[str]]]], hooks: dict[str, Hook]
) -> None:
    assert received() == {
        "everyone": [[NEW_YORK, SEA, LAX, JFK]],
        "kennedy": [[NEW_YORK]],
        "west": [[SEA, LAX]],
        "worst": [[NEW_YORK]],
        "monthly": [[SEA]],
    }

    assert "strong at JFK" in hooks["kennedy"].texts[0]
    (digest,) = hooks["monthly"].texts
    assert digest.startswith(f"*Delaywatch: March {YEAR}*\nFlights: 12,400 at 4 airports\nCancelled: under 1% (60)\n")
    assert f"Worst days: SEA on Mon 9 Mar {YEAR}" in digest
    assert keys.site_year_key(YEAR) in digest


def test_a_second_run_of_the_same_year_sends_nothing_and_writes_nothing(
    planted: Settings, received: Callable[..., dict[str, list[list[str]]]]
) -> None:
    received()
    written = Lake(planted).store.modified("")

    assert received() == {}
    assert Lake(planted).store.modified("") == written


def test_warnings_about_the_data_reach_the_recipients_in_env_and_are_in_digests(
    planted: Settings, hooks: dict[str, Hook], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lake, "read_quality", lambda *_: {"warnings": ["May is doubled."]})
    with webhook() as ours:
        notify_year(planted, AlertSettings(webhook=ours.url), YEAR, "Run: here", TODAY)

    assert "- May is doubled." in ours.texts[0]
    assert [name for name, hook in hooks.items() for text in hook.texts if "May is doubled." in text] == ["monthly"]


def test_a_revision_is_sent_only_to_those_whose_event_is_new_or_rose(
    received: Callable[..., dict[str, list[list[str]]]],
) -> None:
    received()

    assert received(FLAGS | {("SEA", "03-10"): STRONG, ("LAX", "03-11"): MILD}) == {}, "one day longer"
    assert received(FLAGS | {("SEA", "03-10"): EXTREME}) == {
        "everyone": [["03-09..10 SEA"]],
        "west": [["03-09..10 SEA"]],
        "worst": [["03-09..10 SEA"]],
    }
    assert received(FLAGS | {("EWR", "02-08"): STRONG}) == {}, "milder"


def test_a_snoozed_subscriber_gets_later_events_and_the_digest_but_no_event_from_before(
    received: Callable[..., dict[str, list[list[str]]]],
) -> None:
    received()

    after = received(FLAGS | {("LAX", "03-25"): MILD}, LATER)

    assert after["asleep"] == [["03-25 LAX"]]
    assert after["asleep-monthly"] == [[SEA, LAX, "03-25 LAX"]]
    assert received(None, LATER) == {}


def test_a_digest_of_another_month_comes_with_its_first_flights(
    planted: Settings, received: Callable[..., dict[str, list[list[str]]]], hooks: dict[str, Hook]
) -> None:
    received()
    lake = Lake(planted)
    days = lake.read_airport_days(YEAR).to_pylist()
    april = airport_day_row("JFK", f"{YEAR}-04-01", scheduled=7)
    lake.write_table(keys.airport_days_key(YEAR), airport_days_table(*days, april), "")

    assert received() == {"monthly": [[]]}
    assert hooks["monthly"].texts[0].startswith(f"*Delaywatch: April {YEAR}*\nFlights: 7 at 1 airport\n")


def test_a_month_that_is_published_after_the_next_one_gets_its_digest(
    planted: Settings, received: Callable[..., dict[str, list[list[str]]]], hooks: dict[str, Hook]
) -> None:
    lake, key = Lake(planted), keys.airport_days_key(YEAR)
    days = lake.read_airport_days(YEAR).to_pylist()
    lake.write_table(key, airport_days_table(*(day for day in days if day["fl_date"].month != 2)), "")
    received()
    assert hooks["monthly"].texts[0].startswith(f"*Delaywatch: March {YEAR}*\n")

    lake.write_table(key, airport_days_table(*days), "")

    assert received() == {"monthly": [[NEW_YORK]]}
    assert hooks["monthly"].texts[0].startswith(f"*Delaywatch: February {YEAR}*\n")
    assert received() == {}, "January was there before the first digest"


def test_a_message_that_a_webhook_refused_is_sent_to_its_subscriber_by_the_next_run(
    received: Callable[..., dict[str, list[list[str]]]], hooks: dict[str, Hook]
) -> None:
    hooks["worst"].status = 500
    received()
    hooks["worst"].status = 200

    assert received() == {"worst": [[NEW_YORK]]}
    assert received() == {}


@pytest.mark.security
def test_no_url_of_a_subscriber_is_in_the_lake_a_message_or_the_log(
    planted: Settings,
    received: Callable[..., dict[str, list[list[str]]]],
    hooks: dict[str, Hook],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    hooks["worst"].status = 404
    monkeypatch.setenv("DELAYWATCH_CHANNEL_WEST", "ftp://h/secret")
    monkeypatch.setenv("DELAYWATCH_CHANNEL_KENNEDY", "http://127.0.0.1:1/services/secret")
    monkeypatch.delenv("DELAYWATCH_CHANNEL_EVERYONE")

    received()

    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    places = ("DELAYWATCH_CHANNEL_EVERYONE", "channel kennedy", "DELAYWATCH_CHANNEL_WEST", "channel worst")
    assert [place for place, error in zip(places, errors, strict=True) if place not in error] == []
    shown = [caplog.text, str(Lake(planted).store.get(keys.alerts_key(YEAR)))]
    assert "secret" not in " ".join([*shown, *(text for hook in hooks.values() for text in hook.texts)])


def test_a_mistake_in_the_file_does_not_stop_the_message_to_the_recipients_in_env(
    planted: Settings, hooks: dict[str, Hook], caplog: pytest.LogCaptureFixture
) -> None:
    subscriptions.FILE.write_text("- name: everyone\n")

    with webhook() as ours:
        notify_year(planted, AlertSettings(webhook=ours.url), YEAR, "Run: here", TODAY)

    assert len(ours.texts) == 1
    assert f"{subscriptions.FILE}, line 1" in caplog.text


def test_the_record_of_an_earlier_release_counts_for_the_recipients_in_env(
    planted: Settings, hooks: dict[str, Hook]
) -> None:
    lake = Lake(planted)
    days = f'[["EWR", "{YEAR}-02-08"], ["JFK", "{YEAR}-02-08"]]'
    warnings = str(lake.read_quality(YEAR)["warnings"]).replace("'", '"')
    lake.store.put(keys.alerts_key(YEAR), f'{{"warnings": {warnings}, "days": {days}}}'.encode())

    with webhook() as ours:
        notify_year(planted, AlertSettings(webhook=ours.url), YEAR, "Run: here", TODAY)

    assert ours.texts == []
    assert len(hooks["worst"].texts) == 1


@pytest.mark.parametrize("record", ["{", "5", "{}", '{"subscribers": {"ops": {"announced": 1}}}'])
def test_a_damaged_record_is_named(planted: Settings, record: str) -> None:
    Lake(planted).store.put(keys.alerts_key(YEAR), record.encode())

    with pytest.raises(InvalidInput, match=keys.alerts_key(YEAR)):
        preview(planted, YEAR, TODAY, everything=False)


def test_events_that_do_not_match_the_verdicts_are_refused(planted: Settings) -> None:
    lake, key = Lake(planted), keys.explanation_key(YEAR, "event_days")
    days = lake.read_table(key).to_pylist()
    lake.write_table(key, table_of(schemas.EVENT_DAYS, *days, event_day_row("other", "LAX", f"{YEAR}-01-01")), "")

    with pytest.raises(Missing, match="explain"):
        preview(planted, YEAR, TODAY, everything=False)


def test_the_command_previews_the_message_of_each_subscriber_and_sends_nothing(
    planted: Settings, hooks: dict[str, Hook]
) -> None:
    shown = utils("alert", "--year", str(YEAR), DELAYWATCH_LAKE=planted.lake).stdout

    for name in ("default", *SUBSCRIBERS):
        assert f"To {name}: " in shown
    assert f"Delaywatch: March {YEAR}" in shown
    assert [hook.texts for hook in hooks.values()] == [[]] * len(hooks)
    assert not Lake(planted).has(keys.alerts_key(YEAR))


def test_the_command_sends_a_test_message_to_each_subscriber_with_a_url(hooks: dict[str, Hook]) -> None:
    urls = {f"DELAYWATCH_CHANNEL_{name.upper()}": hooks[name].url for name in ("kennedy", "west")}

    done = utils("alert", **urls)

    assert done.returncode == 1
    assert "webhook of kennedy accepted" in done.stdout
    assert "DELAYWATCH_CHANNEL_WORST" in done.stdout
    assert [name for name, hook in hooks.items() if hook.texts] == ["kennedy", "west"]
