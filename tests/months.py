"""Flights of 26 months at five airports as the Bureau publishes them, and the messages that subscribers must get.

The months are 2015, 2016 and the first two of 2017. February 2016 is published after March, the first download of May
2016 is damaged, April 2016 is revised when June is published, and December 2016 when February 2017 is. The planted
events are the only abnormal days.
"""

from __future__ import annotations

import calendar
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from random import Random
from typing import NamedTuple, cast

from tests import steps
from tests.builders import Flight, cancelled, flight, hhmm
from tests.conftest import sql
from tests.servers.bureau import RETRY_AT_ONCE, Bureau
from tests.servers.receivers import Hook, webhook
from utils import detectors
from utils.pipeline import detect, refine
from utils.settings import Settings
from utils.sources import fetch
from utils.storage.lake import Lake


class Month(NamedTuple):
    year: int
    month: int


AIRPORTS = {"DFW": 12, "EWR": 12, "JFK": 14, "LAX": 14, "SEA": 10}  # departures a day
LATE_MIN = 100  # delay of each flight on a late day
LATE, DAMAGED = Month(2016, 2), Month(2016, 5)
REVISED = {Month(2016, 6): Month(2016, 4), Month(2017, 2): Month(2016, 12)}  # by the month published at the same time
FIRST_YEAR = [Month(2015, month) for month in range(1, 13)]
LATER_MONTHS = [*(Month(2016, month) for month in (1, 3, 2, *range(4, 13))), Month(2017, 1), Month(2017, 2)]

# --- flights ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """Planted abnormal days of some airports. All flights are late or cancelled; of a partial closure, three of four.

    days_of_revision: further abnormal days, which only the revised version of the month has.
    """

    airports: tuple[str, ...]
    kind: str  # late, closed or partial
    days: tuple[str, ...]
    days_of_revision: tuple[str, ...] = ()

    @property
    def months(self) -> list[Month]:
        """The months of its days."""
        return sorted({Month(int(day[:4]), int(day[5:7])) for day in (*self.days, *self.days_of_revision)})

    @property
    def name(self) -> str:
        """The name in its announcement, when days of the next month, or of the revision, are not published yet."""
        days = [day for day in self.days or self.days_of_revision if int(day[5:7]) == self.months[0].month]
        return f"{'..'.join([days[0], *(day[8:] for day in days[1:])])} {' and '.join(self.airports)}"


EVENTS = (
    Event(("EWR", "JFK"), "partial", ("2015-03-10",)),
    Event(("SEA",), "late", ("2015-06-20",)),
    Event(("DFW",), "closed", ("2015-08-31", "2015-09-01")),
    Event(("LAX",), "late", ("2015-12-24",)),
    Event(("JFK",), "closed", ("2016-01-03",)),
    Event(("SEA",), "closed", ("2016-02-16",)),
    Event(("LAX",), "late", ("2016-03-08",)),
    Event(("DFW",), "closed", ("2016-03-31", "2016-04-01")),
    Event(("EWR",), "closed", ("2016-04-12", "2016-04-13"), days_of_revision=("2016-04-14",)),
    Event(("SEA",), "late", (), days_of_revision=("2016-04-22",)),
    Event(("JFK",), "late", ("2016-05-17",)),
    Event(("JFK",), "partial", ("2016-06-08",)),
    Event(("LAX",), "closed", ("2016-06-30", "2016-07-01")),
    Event(("EWR", "JFK"), "closed", ("2016-11-24",)),
    Event(("LAX",), "late", (), days_of_revision=("2016-12-20",)),
    Event(("SEA",), "late", ("2017-01-02",)),
    Event(("DFW",), "closed", ("2017-02-14",)),
)


def flights(month: Month, *, is_revised: bool = False) -> Iterator[Flight]:
    """The flights of a month in the order of day and airport. Both versions of a month differ only in its events."""
    random, kinds = Random(month.year * 100 + month.month), _kinds(is_revised)
    for number in range(1, calendar.monthrange(*month)[1] + 1):
        day = date(*month, number).isoformat()
        for origin, departures in AIRPORTS.items():
            kind = kinds.get((origin, day))
            for place in range(departures):
                is_usual = random.random() < 0.9
                delay = max(-10, round(random.gauss(3, 9))) if is_usual else round(random.expovariate(1 / 45))
                planned = 360 + place * 900 // departures
                key = {"FL_DATE": day, "OP_CARRIER_FL_NUM": str(100 + place), "ORIGIN": origin}
                key |= {"CRS_DEP_TIME": hhmm(planned)}
                if kind == "closed" or (kind == "partial" and place % 4):
                    yield cancelled(**key)
                else:
                    delay += LATE_MIN if kind == "late" else 0
                    yield flight(**key, DEP_TIME=f"{hhmm(planned + delay)}.0", DEP_DELAY=f"{delay}.0")


def _kinds(is_revised: bool) -> dict[tuple[str, str], str]:
    """The kind of event by airport and day."""
    return {
        (origin, day): event.kind
        for event in EVENTS
        for day in (*event.days, *(event.days_of_revision if is_revised else ()))
        for origin in event.airports
    }


def publish(bureau: Bureau, month: Month) -> Month:
    """Publish the month, and what the Bureau does at the same time. Return the first month whose flights are new."""
    bureau.publish(flights(month))
    if month == DAMAGED:
        bureau.damage_next(*month)
    if revised := REVISED.get(month):
        bureau.publish(flights(revised, is_revised=True))
        return revised
    return month


# --- subscribers ------------------------------------------------------------------------------------------------------

SUBSCRIBERS = {
    "everyone": "airports: all\n  severity: mild",
    "newyork": "airports: [EWR, JFK]\n  severity: extreme",
    "west": "regions: [California, north-west]\n  severity: strong",
    "monthly": "airports: all\n  severity: strong\n  send: digest",
    "asleep": "airports: all\n  severity: mild\n  snooze_until: 2100-01-01",
}
DEFAULT = "default"  # the recipients in .env


def write_subscriptions(file: Path) -> None:
    """Write a subscriptions.yaml with SUBSCRIBERS; each has a channel with its own name."""
    file.write_text("".join(f"- name: {name}\n  channel: {name}\n  {own}\n" for name, own in SUBSCRIBERS.items()))


@contextmanager
def webhooks() -> Iterator[dict[str, Hook]]:
    """Run a webhook for each of SUBSCRIBERS, and one for the recipients in .env."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(webhook()) for name in (*SUBSCRIBERS, DEFAULT)}


def variables(hooks: Mapping[str, Hook]) -> dict[str, str]:
    """Return the environment variables that have the URLs of the webhooks."""
    channels = {f"DELAYWATCH_CHANNEL_{name.upper()}": hooks[name].url for name in SUBSCRIBERS}
    return {**channels, "DELAYWATCH_ALERT_WEBHOOK": hooks[DEFAULT].url}


def assert_announced_once(hooks: Mapping[str, Hook], months: Sequence[Month]) -> None:
    """Assert that each subscriber got each of its planted events of the months once, and nothing else."""
    events = [event for event in EVENTS if event.months[0] in months]
    extreme = [event for event in events if event.kind != "partial"]
    expected = {
        "everyone": events,
        DEFAULT: extreme,
        "newyork": [event for event in extreme if {"EWR", "JFK"} & {*event.airports}],
        "west": [event for event in events if {"LAX", "SEA"} & {*event.airports}],
        "asleep": [],
    }
    line = re.compile(r"^- (\d{4}-\S+ .+?), (?:closure|delay|mixed): ", re.MULTILINE)
    announced = {name: Counter(line.findall("\n".join(hooks[name].texts))) for name in expected}
    assert announced == {name: Counter(event.name for event in own) for name, own in expected.items()}

    titles = [text.split("\n")[0] for text in hooks["monthly"].texts]
    assert titles == [f"*Delaywatch: {calendar.month_name[month.month]} {month.year}*" for month in months]
    digests = dict(zip(months, hooks["monthly"].texts, strict=True))
    in_time = [event for event in events if event.days]
    assert [event.name for event in in_time if f"{event.name}, " not in digests[event.months[0]]] == []

    missing = f"no flights in {calendar.month_name[LATE.month]} {LATE.year}"
    warned = {name: sum(missing in text for text in hook.texts) for name, hook in hooks.items()}
    assert warned == dict.fromkeys(hooks, 0) | {DEFAULT: 1, "monthly": 1}


# --- verdicts ---------------------------------------------------------------------------------------------------------

Verdicts = dict[tuple[str, date, str], tuple[str, ...]]


def verdicts(warehouse: str) -> Verdicts:
    """Return the verdicts of all detectors by airport, day and detector, with the transaction that wrote each."""
    query = "SELECT origin, fl_date, detector, a.xmin::text, a.*::text FROM flights.anomalies AS a"
    return {(origin, day, detector): tuple(row) for origin, day, detector, *row in sql(warehouse, query)}


def assert_only_later_verdicts_changed(before: Verdicts, after: Verdicts, month: Month, changed: Month) -> None:
    """Assert that a run after `month` was published changed no verdict before the first month with new flights.

    In a year that is over, all verdicts may change.
    """
    is_over = month.month == 12 or changed.year < month.year
    first = date(changed.year, 1 if is_over else changed.month, 1)
    year_after = date(month.year + 1, 1, 1)
    kept = {key: row for key, row in before.items() if not first <= key[1] < year_after}
    assert [key for key, row in kept.items() if after.get(key) != row] == []
    assert before.keys() <= after.keys()
    assert max(day for _, day, _ in after) >= date(*month, calendar.monthrange(*month)[1])


def assert_revisions_are_recorded(warehouse: str, months: Sequence[Month]) -> None:
    """Assert that the warehouse has a change of the verdict for each abnormal day that a revision added."""
    query = "SELECT origin, fl_date::text FROM flights.verdict_changes WHERE old_severity = 0 AND new_severity > 0"
    revised = {REVISED[month] for month in months if month in REVISED}
    events = [event for event in EVENTS if event.months[0] in revised]
    added = {(origin, day) for event in events for day in event.days_of_revision for origin in event.airports}
    assert added <= {*sql(warehouse, query)}


def assert_as_if_run_at_once(
    settings: Settings, at_once: Settings, years: Iterable[int], names: Sequence[str] = detectors.NAMES
) -> None:
    """Fetch and run each year at once in an empty lake and warehouse; assert that the results are the same."""
    Lake(at_once).prepare()
    for year in years:
        fetch.into_bronze(at_once, year, so_far=True, policy=RETRY_AT_ONCE)
        run(at_once, year, names)
        assert results(settings, year) == results(at_once, year)


def run(settings: Settings, year: int, names: Sequence[str] = detectors.NAMES) -> None:
    """Run all steps of a year except the plots."""
    refine.write_silver(settings, year)
    refine.write_gold(settings, year)
    detect.write_all_anomalies(settings, year, names)
    for step in ("explain", "upsert", "publish"):
        steps.STEPS[step](settings, year)


def results(settings: Settings, year: int) -> dict[str, object]:
    """Return the CSV, every file of silver and gold, and every row of the year.

    Without transactions, and without the history of changed verdicts.
    """
    objects = {
        key: data
        for key, data in steps.files(settings).items()
        if key == f"01_bronze/{year}.csv" or (key.startswith(("02_silver/", "03_gold/")) and f"/year={year}/" in key)
    }
    tables = cast(dict[str, list[tuple[str, str]]], steps.rows(settings, year))
    del tables["verdict_changes"]
    return {**objects, **{table: sorted(row for _, row in rows) for table, rows in tables.items()}}
