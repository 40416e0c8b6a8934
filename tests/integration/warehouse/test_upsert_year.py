"""Several tables of a year go into the warehouse in one transaction: all of them change, or none does."""

from __future__ import annotations

import pytest

from tests.builders import LATE
from tests.builders import airport_day_row as day
from tests.builders import airport_days_table as days
from tests.builders import verdict_row as verdict
from tests.builders import verdicts_table as verdicts
from tests.conftest import sql
from utils.db_handler import Changes, DBHandler
from utils.errors import InvalidInput

STATE = (
    "SELECT xmin::text, origin, scheduled FROM flights.airport_days",
    "SELECT xmin::text, origin, severity FROM flights.anomalies",
)


def test_all_batches_come_in_at_once_and_their_changes_in_order(warehouse: str) -> None:
    changes = DBHandler(warehouse).upsert_year(
        [
            ("airport_days", days(day("JFK"), day("LGA")), {}),
            ("anomalies", verdicts(verdict("three_sigma", **LATE)), {"detector": "three_sigma"}),
            ("anomalies", verdicts(verdict("delaywatch")), {"detector": "delaywatch"}),
        ],
        2018,
    )

    assert changes == [Changes(2, 0, 0, 0), Changes(1, 0, 0, 0), Changes(1, 0, 0, 0)]
    written_by = sql(warehouse, "SELECT xmin FROM flights.airport_days UNION SELECT xmin FROM flights.anomalies")
    assert len(written_by) == 1


def test_a_row_that_the_last_table_refuses_leaves_the_first_as_it_was(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    handler.upsert("airport_days", days(day("JFK", scheduled=1)), 2018)
    before = [sql(warehouse, question) for question in STATE]

    with pytest.raises(InvalidInput, match=r"refused a row while writing anomalies 2018 .*nothing was changed"):
        handler.upsert_year(
            [
                ("airport_days", days(day("JFK", scheduled=2), day("LGA")), {}),
                ("anomalies", verdicts(verdict("three_sigma", severity=1)), {}),
            ],
            2018,
        )

    assert [sql(warehouse, question) for question in STATE] == before


def test_a_frame_that_does_not_fit_is_refused_before_anything_is_asked_of_the_server() -> None:
    nowhere = DBHandler("postgresql://nobody@127.0.0.1:1/nothing")

    with pytest.raises(InvalidInput, match="anomalies 2018"):
        nowhere.upsert("anomalies", days(day("JFK")), 2018)


def test_a_last_batch_that_does_not_fit_leaves_the_first_table_as_it_was(warehouse: str) -> None:
    with pytest.raises(InvalidInput, match="anomalies 2018"):
        DBHandler(warehouse).upsert_year(
            [("airport_days", days(day("JFK")), {}), ("anomalies", days(day("JFK")), {})], 2018
        )

    assert sql(warehouse, "SELECT count(*) FROM flights.airport_days") == [(0,)]
