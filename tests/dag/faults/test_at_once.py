"""Many runs at once on a real scheduler: all succeed, and each row exists once. `make test-faults`; takes minutes."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime

import pytest

from tests.conftest import sql
from tests.dag.faults.conftest import Stack
from tests.dag.processes import wait_until
from utils.monitoring import health
from utils.settings import WatchSettings
from utils.storage.lake import Lake

pytestmark = [pytest.mark.slow, pytest.mark.faults]

DECADE = range(2003, 2013)
FLIGHTS_A_DAY, AIRPORTS = 26, 2


def test_two_runs_of_one_year_at_once_both_succeed(stack: Stack) -> None:
    airflow, year = stack.airflow, 2015
    stack.write_bronze(year)
    airflow.kill("scheduler")  # so that both runs start together
    for run_id in ("first", "second"):
        airflow.trigger(run_id, year=year, detectors=["three_sigma"])
    airflow.start("scheduler")

    assert [airflow.final_state(run_id) for run_id in ("first", "second")] == ["success", "success"]

    times = "SELECT start_date, end_date FROM dag_run WHERE run_id IN ('first', 'second')"
    first, second = sql(airflow.metadata, times)
    assert max(first[0], second[0]) < min(first[1], second[1])
    assert stack.results(year) == stack.undisturbed_results(year)
    recorded = f"SELECT run_id FROM flights.runs WHERE year = {year} ORDER BY 1"
    assert sql(stack.settings.warehouse, recorded) == [("first",), ("second",)]
    assert all("failed" not in message.splitlines()[0] for message in stack.messages(year))


def test_a_backfill_of_ten_years_at_once_publishes_each_while_a_scheduled_run_waits(stack: Stack) -> None:
    airflow, warehouse = stack.airflow, stack.settings.warehouse
    for year in DECADE:
        stack.write_bronze(year)
    wait_until("the scheduled run waits", lambda: [state for state, _, _ in airflow.runs("scheduled")] == ["running"])

    airflow.backfill(DECADE, 10, detectors=["three_sigma"])
    wait_until(
        "every run has ended", lambda: [bool(end) for _, _, end in airflow.runs("backfill", DECADE)] == [True] * 10
    )

    runs = airflow.runs("backfill", DECADE)
    assert {state for state, _, _ in runs} == {"success"}
    assert max(start for _, start, _ in runs) < min(end for _, _, end in runs)
    assert [state for state, _, _ in airflow.runs("scheduled")] == ["running"]
    per_year = (
        "SELECT extract(year FROM fl_date)::int, count(*), sum(scheduled) FROM flights.airport_days"
        f" WHERE extract(year FROM fl_date) BETWEEN {DECADE[0]} AND {DECADE[-1]} GROUP BY 1 ORDER BY 1"
    )
    days = {year: 365 + calendar.isleap(year) for year in DECADE}
    assert sql(warehouse, per_year) == [(year, AIRPORTS * days[year], FLIGHTS_A_DAY * days[year]) for year in DECADE]
    recorded = f"SELECT year FROM flights.runs WHERE year BETWEEN {DECADE[0]} AND {DECADE[-1]} ORDER BY 1"
    assert sql(warehouse, recorded) == [(year,) for year in DECADE]
    findings = {finding.what: finding for finding in health.check(stack.settings, WatchSettings(), datetime.now(UTC))}
    assert findings["warehouse"].is_well, findings["warehouse"].sentence
    staged = Lake(stack.settings).store.list("_staging/")
    assert all(key.endswith(".lock") for key in staged)
    assert [len(stack.messages(year)) for year in DECADE] == [1] * 10
