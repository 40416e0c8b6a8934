"""Invalid bronze files in a backfill: each run fails at once with an error, and a valid file repairs it.

`make test-faults`; takes minutes. tests/integration/pipeline and tests/unit/test_silver.py have every kind of damage.
"""

from __future__ import annotations

import gzip
from typing import NamedTuple

import pytest

from tests.builders import HEADER, Flight, csv_of, flight, year_of_flights
from tests.conftest import sql
from tests.dag.faults.conftest import Stack
from tests.dag.processes import wait_until
from utils.pipeline import refine

pytestmark = [pytest.mark.slow, pytest.mark.faults]


class Invalid(NamedTuple):
    """An invalid file, None if it is missing, and the fact that its error must name."""

    named: str
    data: bytes | None = None
    ending: str = ".csv"
    task: str = "silver"


def january(year: int) -> list[Flight]:
    return [flight(FL_DATE=f"{year}-01-{day:02}") for day in range(1, 32)]


INVALID = {
    2016: Invalid("01_bronze/2016.csv", task="wait_for_bronze"),
    2017: Invalid("empty", b""),
    2018: Invalid("no flights", csv_of([])),
    2019: Invalid("DEP_DELAY", csv_of(january(2019), [name for name in HEADER if name != "DEP_DELAY"])),
    2020: Invalid("line 32", csv_of(january(2020))[:-60]),
    2021: Invalid("31 of 31", csv_of(january(2011))),
    2022: Invalid("gzip", csv_of(january(2022)), ".csv.gz"),
    2023: Invalid("ends in the middle", gzip.compress(csv_of(january(2023)))[:-20], ".csv.gz"),
    2024: Invalid("gzip", gzip.compress(csv_of(january(2024)))),
}  # by year
YEARS = list(INVALID)


def test_invalid_files_fail_at_once_with_an_error_and_valid_ones_repair_them(stack: Stack) -> None:
    airflow, before = stack.airflow, {}
    for year, file in INVALID.items():
        stack.bronze(year).write_bytes(csv_of(year_of_flights(year, {"BOS": 3})))
        refine.write_silver(stack.settings, year)
        before[year] = stack.results(year)
        stack.bronze(year).unlink()
        if file.data is not None:
            stack.bronze(year, file.ending).write_bytes(file.data)

    def states() -> list[str]:
        return [state for state, _, _ in airflow.runs("backfill", YEARS)]

    airflow.backfill(YEARS, 9, detectors=["three_sigma"])
    wait_until("every run has failed", lambda: states() == ["failed"] * 9)

    failed = sql(
        airflow.metadata,
        "SELECT extract(year FROM logical_date AT TIME ZONE 'UTC')::int, task_id, try_number"
        " FROM task_instance JOIN dag_run USING (dag_id, run_id)"
        " WHERE task_instance.state = 'failed' AND run_type = 'backfill'",
    )
    assert {row for row in failed if row[0] in INVALID} == {(year, file.task, 1) for year, file in INVALID.items()}
    wait_until("every failure has a message", lambda: all(stack.messages(year) for year in YEARS))
    for year, file in INVALID.items():
        (message,) = stack.messages(year)
        assert message.startswith(f"*Delaywatch {year}: {file.task} failed*")
        assert file.named in message
        assert stack.results(year) == before[year]

    for year, file in INVALID.items():
        stack.bronze(year, file.ending).unlink(missing_ok=True)
        stack.write_bronze(year)
    airflow.backfill(YEARS, 9, reprocess="failed", detectors=["three_sigma"])
    wait_until("every run has succeeded", lambda: states() == ["success"] * 9)

    per_day = (
        "SELECT extract(year FROM fl_date)::int, sum(scheduled) / count(DISTINCT fl_date) FROM flights.airport_days"
    )
    flights_a_day = dict(sql(stack.settings.warehouse, f"{per_day} GROUP BY 1"))
    assert {year: flights_a_day[year] for year in YEARS} == dict.fromkeys(YEARS, 26)
