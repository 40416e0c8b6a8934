"""Two years at once and a failed run through a real scheduler, each told of once: LocalExecutor on Postgres.

Api-server and dag-processor are processes of their own too. Takes three minutes:
`make test-slow`, or `PYTHONPATH=dags .venv/bin/python -m pytest tests/dag/test_scheduler.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import csv_of, year_of_flights
from tests.conftest import sql
from tests.dag.processes import ScratchAirflow, wait_until
from tests.servers.receivers import Hook, webhook


@pytest.fixture
def hook() -> Iterator[Hook]:
    """What is told of the runs."""
    with webhook() as hook:
        yield hook


@pytest.fixture
def airflow_processes(tmp_path: Path, empty_database: str, warehouse: str, hook: Hook) -> Iterator[ScratchAirflow]:
    """An Airflow whose lake has 2014 and 2015."""
    bronze = tmp_path / "lake" / "01_bronze"
    bronze.mkdir(parents=True)
    for year in (2014, 2015):
        (bronze / f"{year}.csv").write_bytes(csv_of(year_of_flights(year, {"BOS": 20, "ORH": 6})))
    variables = {
        "AIRFLOW_CONN_WAREHOUSE": warehouse,
        "DELAYWATCH_LAKE": bronze.parent.as_uri(),
        "DELAYWATCH_ALERT_WEBHOOK": hook.url,
    }
    processes = ScratchAirflow(tmp_path, empty_database, variables)
    try:
        processes.command("db", "migrate")
        processes.start()
        yield processes
    finally:
        processes.stop()


@pytest.mark.slow
def test_a_backfill_of_two_years_runs_them_at_once_while_a_scheduled_run_waits(
    airflow_processes: ScratchAirflow, warehouse: str, hook: Hook
) -> None:
    runs = airflow_processes.runs
    wait_until("the scheduled run waits for its file", lambda: [run[0] for run in runs("scheduled")] == ["running"])

    airflow_processes.backfill([2014, 2015], at_once=2)
    wait_until(
        "both years have ended", lambda: len(runs("backfill")) == 2 and all(end for _, _, end in runs("backfill"))
    )

    (first_state, first_start, first_end), (second_state, second_start, second_end) = runs("backfill")
    assert (first_state, second_state) == ("success", "success")
    assert max(first_start, second_start) < min(first_end, second_end)
    per_year = "SELECT extract(year FROM fl_date)::int, count(*), sum(scheduled) FROM flights.airport_days GROUP BY 1"
    assert sorted(sql(warehouse, per_year)) == [(2014, 730, 26 * 365), (2015, 730, 26 * 365)]
    assert sql(warehouse, "SELECT year FROM flights.runs ORDER BY year") == [(2014,), (2015,)]
    assert [run[0] for run in runs("scheduled")] == ["running"]
    wait_until("both years are told of", lambda: len(hook.texts) == 2)
    assert sorted(text.splitlines()[0][:18] for text in hook.texts) == ["*Delaywatch 2014: ", "*Delaywatch 2015: "]

    airflow_processes.trigger("by-hand", year=1999)
    wait_until("the run of a year without a file has failed", lambda: [run[0] for run in runs("manual")] == ["failed"])
    wait_until("its failure is told of", lambda: len(hook.texts) > 2)

    (told,) = hook.texts[2:]
    assert told.startswith("*Delaywatch 1999: wait_for_bronze failed*")
    assert "01_bronze/1999.csv (or .csv.gz) is not in" in told
