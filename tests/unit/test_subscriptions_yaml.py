"""dags/subscriptions.yaml: what it means, which errors name which line, and that no error shows a URL."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from tests.tracebacks import shown_by
from utils.errors import InvalidInput
from utils.monitoring import subscriptions
from utils.monitoring.subscriptions import Subscription

HUSH = "h4sh-h4sh-h4sh"
URL = f"https://h/{HUSH}"
VALID = "- name: ops\n  channel: slack\n  airports: all\n"
ORIGINS = ["ATL", "DFW", "JFK", "???"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "subscriptions.yaml"


def test_the_shipped_file_has_no_subscriber_and_its_examples_are_valid(path: Path) -> None:
    assert subscriptions.read(subscriptions.FILE) == []

    examples = subscriptions.FILE.read_text().partition("\n# - ")[2]
    path.write_text("- " + re.sub("^# ?", "", examples, flags=re.MULTILINE))
    new_york, management = subscriptions.read(path)
    assert (new_york.name, new_york.channel) == ("operations-new-york", "slack_new_york")
    assert (new_york.severity, new_york.send, new_york.snooze_until) == ("strong", "each", None)
    assert (management.send, management.snooze_until) == ("digest", date(2026, 1, 7))


def test_airports_are_all_or_a_list_or_those_of_regions(path: Path) -> None:
    def covered(area: str) -> set[str]:
        path.write_text(VALID.replace("airports: all", area))
        return subscriptions.read(path)[0].covered(ORIGINS)

    assert covered("airports: all") == {*ORIGINS}
    assert covered("airports: [JFK, OFF]") == {"JFK"}
    assert covered("regions: [Texas, north-east]") == {"DFW", "JFK"}


def test_a_subscription_is_snoozed_before_its_date() -> None:
    ops = Subscription(name="ops", channel="slack", airports=None, snooze_until=date(2026, 1, 7))

    assert [ops.is_snoozed(date(2026, 1, day)) for day in (6, 7)] == [True, False]


@pytest.mark.parametrize(
    ("text", "line", "named"),
    [
        ("name: ops\n", 1, "- name"),
        (VALID + "- ops\n", 4, "'ops'"),
        (VALID + "  adress: x\n", 4, "adress"),  # codespell:ignore
        (VALID + "- airports: all\n", 4, "name, channel"),
        (VALID + VALID, 4, "ops"),
        (VALID.replace("ops", "default"), 1, "default"),
        (VALID.replace("ops", "The boss"), 1, "'The boss'"),
        (VALID.replace("slack", ""), 2, "channel"),
        (VALID.replace("all", "JFK"), 3, "'JFK'"),
        (VALID.replace("all", "[]"), 3, "airports"),
        (VALID.replace("all", "\n  - JFK\n  - jfk\n"), 5, "'jfk'"),
        (VALID.replace("airports: all", "regions: [Texas, texas]"), 3, "'texas'"),
        (VALID + "  regions: [Texas]\n", 1, "either airports or regions"),
        (VALID.replace("  airports: all\n", ""), 1, "either airports or regions"),
        (VALID + "  severity: none\n", 4, "'none'"),
        (VALID + "  send: always\n", 4, "'always'"),
        (VALID + "  snooze_until: 2026-02-30\n", 4, "'2026-02-30'"),
        (VALID + "  snooze_until: 1767744000\n", 4, "'1767744000'"),
        (VALID + "  send: each\n  send: each\n", 5, "send"),
    ],
)
def test_an_invalid_entry_is_named_with_its_line(path: Path, text: str, line: int, named: str) -> None:
    path.write_text(text)

    with pytest.raises(InvalidInput) as caught:
        subscriptions.read(path)

    assert str(caught.value).startswith(f"{path}, line {line}: ")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.security
@pytest.mark.parametrize(
    "text",
    [
        URL,
        f"- {URL}\n",
        VALID.replace("slack", URL),
        VALID.replace("slack", HUSH.upper()),
        VALID.replace("ops", URL),
        VALID.replace("all", f"[{URL}]"),
        VALID + f"  url: {URL}\n",
        VALID + f"  {URL}: x\n",
        VALID + f"  channel: {URL}\n",
        VALID + f"  send: {URL}\n",
    ],
)
def test_a_url_in_the_file_is_refused_and_not_shown(path: Path, text: str) -> None:
    path.write_text(text)

    with pytest.raises(InvalidInput) as refused:
        subscriptions.read(path)

    assert HUSH not in shown_by(refused.value).lower()
