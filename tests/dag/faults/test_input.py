"""Files that are no year of flights, in a backfill: each run fails at once with a sentence, and a good file mends it.

Run it with `make test-faults`; it takes minutes.
Every kind of damage is in test_refinery.py and test_silver.py, in milliseconds each.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass

import pytest

from tests.builders import HEADER, Flight, csv_of, flight, year_of_flights
from tests.conftest import sql
from tests.dag.faults.conftest import Place, bronze
from tests.dag.processes import wait_until
from utils.pipeline import refine

pytestmark = [pytest.mark.slow, pytest.mark.faults]


@dataclass(frozen=True)
class Bad:
    """A file that is no year, and the sentence that it must bring; `task` is the step that says it."""

    sentence: str
    data: bytes | None = None
    ending: str = ".csv"
    task: str = "silver"


def january(year: int) -> list[Flight]:
    return [flight(FL_DATE=f"{year}-01-{day:02}") for day in range(1, 32)]


WITHOUT_DELAY = [name for name in HEADER if name != "DEP_DELAY"]
BAD = {
    2016: Bad("01_bronze/2016.csv (or .csv.gz) is not in ", task="wait_for_bronze"),
    2017: Bad("01_bronze/2017.csv is empty", b""),
    2018: Bad("01_bronze/2018.csv has a header but no flights", csv_of([])),
    2019: Bad("01_bronze/2019.csv lacks the column DEP_DELAY", csv_of(january(2019), WITHOUT_DELAY)),
    2020: Bad("01_bronze/2020.csv ends in the middle of line 32", csv_of(january(2020))[:-60]),
    2021: Bad("01_bronze/2021.csv: 31 of 31 rows cannot be used", csv_of(january(2011))),
    2022: Bad("01_bronze/2022.csv.gz is not readable as gzip", csv_of(january(2022)), ".csv.gz"),
    2023: Bad("01_bronze/2023.csv.gz ends in the middle of its", gzip.compress(csv_of(january(2023)))[:-20], ".csv.gz"),
    2024: Bad("01_bronze/2024.csv is compressed with gzip", gzip.compress(csv_of(january(2024)))),
}  # by year
YEARS = list(BAD)


def test_every_bad_file_of_a_backfill_fails_at_once_with_its_sentence_and_a_good_one_mends_it(place: Place) -> None:
    airflow, before = place.airflow, {}
    for year, file in BAD.items():
        bronze(place.settings, year).write_bytes(csv_of(year_of_flights(year, {"BOS": 3})))
        refine.write_silver(place.settings, year)
        before[year] = place.results(year)
        bronze(place.settings, year).unlink()
        if file.data is not None:
            bronze(place.settings, year, file.ending).write_bytes(file.data)

    def states() -> list[str]:
        return [state for state, _, _ in airflow.runs("backfill", YEARS)]

    airflow.backfill(YEARS, at_once=9, detectors=["three_sigma"])
    wait_until("every run has failed", lambda: states() == ["failed"] * 9)

    asked = (
        "SELECT extract(year FROM logical_date AT TIME ZONE 'UTC')::int, task_id, try_number"
        " FROM task_instance JOIN dag_run USING (dag_id, run_id)"
        " WHERE task_instance.state = 'failed' AND run_type = 'backfill'"
    )
    failed = {(year, task, tries) for year, task, tries in sql(airflow.metadata, asked) if year in BAD}
    assert failed == {(year, file.task, 1) for year, file in BAD.items()}
    wait_until("every failure is told of", lambda: all(place.told(year) for year in YEARS))
    for year, file in BAD.items():
        (message,) = place.told(year)
        assert message.startswith(f"*Delaywatch {year}: {file.task} failed*")
        assert file.sentence in message
        assert place.results(year) == before[year]

    for year, file in BAD.items():
        bronze(place.settings, year, file.ending).unlink(missing_ok=True)
        place.put(year)
    airflow.backfill(YEARS, at_once=9, reprocess="failed", detectors=["three_sigma"])
    wait_until("every run has succeeded", lambda: states() == ["success"] * 9)

    counted = (
        "SELECT extract(year FROM fl_date)::int, sum(scheduled) / count(DISTINCT fl_date) FROM flights.airport_days"
    )
    found = dict(sql(place.settings.warehouse, f"{counted} GROUP BY 1"))
    assert {year: found[year] for year in YEARS} == dict.fromkeys(YEARS, 26)
