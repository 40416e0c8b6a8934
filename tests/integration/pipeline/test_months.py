"""The Bureau publishes month after month: each event is announced once, and a year ends as if it were run at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest

from tests import months
from tests.months import DAMAGED, FIRST_YEAR, LATE, LATER_MONTHS, Month
from tests.servers.bureau import RETRY_AT_ONCE, Bureau, serving
from tests.steps import DETECTORS
from utils import detectors
from utils.errors import Unavailable
from utils.monitoring import subscriptions
from utils.monitoring.notifications import notify_year
from utils.pipeline import status
from utils.settings import AlertSettings, Settings
from utils.sources import fetch, record
from utils.storage.lake import Lake


def fetch_and_run(settings: Settings, month: Month, alerts: AlertSettings, names: Sequence[str]) -> list[int]:
    """Do what the DAGs do after the month is published. Return the years that were run, in this order."""
    ran = []

    def run_year(year: int) -> None:
        months.run(settings, year, names)
        notify_year(settings, alerts, year, "Run: here", date(2017, 5, 1))
        ran.append(year)
        if status.has_old_history(settings, year + 1):
            run_year(year + 1)

    for year in record.years_to_update(settings, month.year):
        before = record.csv_sha256(settings, year)
        fetch.into_bronze(settings, year, so_far=True, policy=RETRY_AT_ONCE)
        if record.csv_sha256(settings, year) != before:
            run_year(year)
    return ran


@pytest.mark.parametrize(
    ("published_before", "published", "names"),
    [
        pytest.param(FIRST_YEAR[-4:], LATER_MONTHS[:6], DETECTORS, id="six months"),
        pytest.param([], FIRST_YEAR + LATER_MONTHS, detectors.NAMES, id="26 months", marks=pytest.mark.slow),
    ],
)
def test_each_event_is_announced_once_and_a_year_ends_as_if_it_had_been_run_at_once(
    published_before: Sequence[Month],
    published: Sequence[Month],
    names: Sequence[str],
    folder_settings: Settings,
    warehouse: str,
    other_warehouse: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(subscriptions, "FILE", tmp_path / "subscriptions.yaml")
    months.write_subscriptions(subscriptions.FILE)
    with serving(Bureau()) as bureau, months.webhooks() as hooks:
        for name, value in months.variables(hooks).items():
            monkeypatch.setenv(name, value)
        alerts = AlertSettings.from_environment()
        settings = folder_settings.replace(bts_url=f"{bureau.url}/PREZIP", warehouse=warehouse)
        Lake(settings).prepare()
        for month in published_before:
            months.publish(bureau, month)
        for year in sorted({month.year for month in published_before}):
            fetch.into_bronze(settings, year, so_far=True, policy=RETRY_AT_ONCE)
            months.run(settings, year, names)

        verdicts = months.verdicts(warehouse)
        for month in published:
            changed = months.publish(bureau, month)
            if month == DAMAGED:
                bronze = Lake(settings).store.modified("01_bronze/")
                with pytest.raises(Unavailable, match=r"_2016_5\.zip"):
                    fetch_and_run(settings, month, alerts, names)
                assert Lake(settings).store.modified("01_bronze/") == bronze
            is_year_before = changed.year < month.year
            expected_years = [month.year, month.year - 1, month.year] if is_year_before else [month.year]
            assert fetch_and_run(settings, month, alerts, names) == expected_years
            before, verdicts = verdicts, months.verdicts(warehouse)
            months.assert_only_later_verdicts_changed(before, verdicts, month, changed)

        months.assert_announced_once(hooks, published)
        months.assert_revisions_are_recorded(warehouse, published)
        at_once = settings.replace(lake=(tmp_path / "at-once").as_uri(), warehouse=other_warehouse)
        years = sorted({month.year for month in (*published_before, *published)})
        months.assert_as_if_run_at_once(settings, at_once, years, names)
    assert f"Not published: February {LATE.year}" in caplog.text
