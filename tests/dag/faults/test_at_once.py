"""More runs at once than a machine can do at once: each ends well, and each row is there once.

Run it with `make test-faults`; it takes minutes.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.conftest import sql
from tests.dag.faults.conftest import Place
from tests.dag.processes import wait_until
from utils.monitoring import health
from utils.settings import WatchSettings
from utils.storage.lake import Lake

pytestmark = [pytest.mark.slow, pytest.mark.faults]

DECADE = range(2003, 2013)
FLIGHTS_A_DAY, AIRPORTS = 26, 2


def days(year: int) -> int:
    return (datetime(year + 1, 1, 1, tzinfo=UTC) - datetime(year, 1, 1, tzinfo=UTC)).days


def test_two_runs_of_one_year_at_once_both_succeed_and_leave_each_row_once(place: Place) -> None:
    airflow, year = place.airflow, 2015
    place.put(year)
    airflow.kill("scheduler")  # so that the runs begin together
    airflow.trigger("first", year=year, detectors=["three_sigma"])
    airflow.trigger("second", year=year, detectors=["three_sigma"])
    airflow.start("scheduler")

    assert [airflow.end_of(run_id) for run_id in ("first", "second")] == ["success", "success"]

    asked = "SELECT start_date, end_date FROM dag_run WHERE run_id IN ('first', 'second')"
    (one_start, one_end), (other_start, other_end) = sql(airflow.metadata, asked)
    assert max(one_start, other_start) < min(one_end, other_end)
    assert place.results(year) == place.undisturbed(year)
    recorded = f"SELECT run_id FROM flights.runs WHERE year = {year} ORDER BY 1"
    assert sql(place.settings.warehouse, recorded) == [("first",), ("second",)]
    assert [message for message in place.told(year) if "failed" in message.splitlines()[0]] == []


def test_ten_years_of_backfill_at_once_bring_every_year_whole_into_lake_and_warehouse(place: Place) -> None:
    airflow, warehouse = place.airflow, place.settings.warehouse
    for year in DECADE:
        place.put(year)

    airflow.backfill(DECADE, at_once=10, detectors=["three_sigma"])

    def ended() -> list[bool]:
        return [end is not None for _, _, end in airflow.runs("backfill", DECADE)]

    wait_until("every year has ended", lambda: ended() == [True] * 10)

    runs = airflow.runs("backfill", DECADE)
    assert {state for state, _, _ in runs} == {"success"}
    assert max(start for _, start, _ in runs) < min(end for _, _, end in runs)
    per_year = (
        "SELECT extract(year FROM fl_date)::int, count(*), sum(scheduled) FROM flights.airport_days"
        f" WHERE extract(year FROM fl_date) BETWEEN {DECADE[0]} AND {DECADE[-1]} GROUP BY 1 ORDER BY 1"
    )
    expected = [(year, AIRPORTS * days(year), FLIGHTS_A_DAY * days(year)) for year in DECADE]
    assert sql(warehouse, per_year) == expected
    recorded = f"SELECT year FROM flights.runs WHERE year BETWEEN {DECADE[0]} AND {DECADE[-1]} ORDER BY 1"
    assert sql(warehouse, recorded) == [(year,) for year in DECADE]
    found = health.check(place.settings, WatchSettings(), datetime.now(UTC))
    (of_warehouse,) = (one for one in found if one.what == "warehouse")
    assert of_warehouse.is_well, of_warehouse.sentence
    left = [key for key in Lake(place.settings).store.list("_staging/") if not key.endswith(".lock")]
    assert left == []
    assert [len(place.told(year)) for year in DECADE] == [1] * 10
