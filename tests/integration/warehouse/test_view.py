"""The wide view for analysts on a real Postgres: its rows and columns, and publishing it again."""

from __future__ import annotations

import re

import pytest

from tests.builders import LATE
from tests.builders import airport_day_row as day
from tests.builders import airport_days_table as days
from tests.builders import verdict_row as verdict
from tests.builders import verdicts_table as verdicts
from tests.conftest import sql
from utils import schemas
from utils.db_handler import DBHandler
from utils.errors import InvalidInput

# --- the view ---------------------------------------------------------------------------------------------------------

DETECTORS = ("three_sigma", "isolation_forest", "delaywatch")
WIDE = "SELECT {} FROM flights.agg_dep_delay_by_date ORDER BY id"


def columns_of_view(url: str) -> list[str]:
    found = sql(
        url,
        "SELECT attname FROM pg_attribute WHERE attrelid = 'flights.agg_dep_delay_by_date'::regclass AND attnum > 0"
        " ORDER BY attnum",
    )
    return [name for (name,) in found]


def test_the_view_has_one_row_per_airport_day_with_every_verdict(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    handler.upsert(
        "airport_days", days(*(day(name, scheduled=9) for name in ("ATL", "BOS", "CLT", "DEN", "EWR"))), 2018
    )
    closed = LATE | {"direction": "closure", "severity": 3}
    published = [
        verdict("delaywatch", "ATL", expected=10, lower=-5, upper=25, observed=60, **LATE),
        verdict("delaywatch", "BOS", **closed),
        verdict("delaywatch", "CLT"),
        verdict("delaywatch", "DEN", status="insufficient_data"),
    ]
    handler.upsert("anomalies", verdicts(*published, verdict("three_sigma", "CLT", **LATE)), 2018)

    handler.publish_view(DETECTORS, "delaywatch")

    columns = "id, scheduled, verdict, is_anomaly, severity, is_anomaly_three_sigma, is_anomaly_delaywatch"
    assert sql(warehouse, WIDE.format(columns)) == [
        ("ATL20180101", 9, "late", True, 2, None, True),
        ("BOS20180101", 9, "closure", True, 3, None, True),
        ("CLT20180101", 9, "normal", False, 0, True, False),
        ("DEN20180101", 9, "insufficient_data", False, 0, None, False),
        ("EWR20180101", 9, None, None, None, None, None),
    ]
    band = "SELECT observed, expected, lower, upper, score FROM flights.agg_dep_delay_by_date WHERE id = 'ATL20180101'"
    assert sql(warehouse, band) == [(60.0, 10.0, -5.0, 25.0, 4.5)]
    assert columns_of_view(warehouse)[:24] == ["id", *schemas.AIRPORT_DAYS.names]
    assert columns_of_view(warehouse)[-3:] == [f"is_anomaly_{name}" for name in DETECTORS]


def test_publishing_the_same_view_again_touches_nothing(warehouse: str) -> None:
    state = (
        "SELECT c.oid, c.xmin, r.xmin, d.xmin FROM pg_class c JOIN pg_rewrite r ON r.ev_class = c.oid"
        " JOIN pg_description d ON d.objoid = c.oid AND d.objsubid = 0 WHERE c.relname = 'agg_dep_delay_by_date'"
    )
    handler = DBHandler(warehouse)
    published = handler.publish_view(DETECTORS, "delaywatch")
    before = sql(warehouse, state)

    published_again = handler.publish_view(DETECTORS, "delaywatch")

    assert (published, published_again) == (True, False)
    assert len(before) == 1
    assert sql(warehouse, state) == before


def test_another_detector_keeps_the_grants_and_views_that_others_built_on_the_view(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    handler.publish_view(DETECTORS[:2], "three_sigma")
    sql(warehouse, "CREATE VIEW public.mine AS SELECT id FROM flights.agg_dep_delay_by_date")
    sql(warehouse, "GRANT SELECT ON flights.agg_dep_delay_by_date TO pg_monitor")

    handler.publish_view(DETECTORS, "delaywatch")

    assert columns_of_view(warehouse)[-1] == "is_anomaly_delaywatch"
    allowed = "SELECT has_table_privilege('pg_monitor', 'flights.agg_dep_delay_by_date', 'SELECT')"
    assert sql(warehouse, allowed) == [(True,)]


def test_a_detector_can_go_unless_a_view_of_somebody_else_stands_on_ours(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    handler.publish_view(DETECTORS, "delaywatch")
    sql(warehouse, "CREATE VIEW public.mine AS SELECT is_anomaly_isolation_forest FROM flights.agg_dep_delay_by_date")

    with pytest.raises(InvalidInput, match=r"stand in the way of publishing .*view public.mine depends on"):
        handler.publish_view(["three_sigma", "delaywatch"], "delaywatch")
    assert "is_anomaly_isolation_forest" in columns_of_view(warehouse)
    sql(warehouse, "DROP VIEW public.mine")
    handler.publish_view(["three_sigma", "delaywatch"], "delaywatch")

    assert columns_of_view(warehouse)[-2:] == ["is_anomaly_three_sigma", "is_anomaly_delaywatch"]


def test_a_view_changed_by_hand_is_put_back(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    handler.publish_view(["three_sigma"], "three_sigma")
    (definition,) = sql(warehouse, "SELECT pg_get_viewdef('flights.agg_dep_delay_by_date'::regclass)")[0]
    changed = definition.rstrip(";") + " WHERE d.origin <> 'JFK'"
    sql(warehouse, f"CREATE OR REPLACE VIEW flights.agg_dep_delay_by_date AS {changed}")
    handler.upsert("airport_days", days(day("JFK")), 2018)

    handler.publish_view(["three_sigma"], "three_sigma")

    assert sql(warehouse, WIDE.format("id")) == [("JFK20180101",)]


@pytest.mark.parametrize(
    ("asked", "scanned"),
    [
        ("mean_dep_delay_min", []),
        ("mean_dep_delay_min, is_anomaly_three_sigma", ["anomalies"]),
        ("verdict, severity, expected", ["anomalies"]),
        ("is_anomaly, sentence", ["anomalies", "anomaly_reasons"]),
        ("event_id", ["event_days"]),
        ("event", ["event_days", "events"]),
        ("opinion, is_acknowledged", ["feedback"]),
    ],
)
def test_what_nobody_asked_for_costs_a_query_nothing(warehouse: str, asked: str, scanned: list[str]) -> None:
    """Six detectors and four more joins are beyond join_collapse_limit, which must not keep the planner from it."""
    six = [*DETECTORS, "arima", "random_cut_forest", "gradient_boosting"]
    DBHandler(warehouse).publish_view(six, "delaywatch")

    plan = "\n".join(line for (line,) in sql(warehouse, "EXPLAIN " + WIDE.format(f"id, {asked}")))

    assert sorted(re.findall(r"Scan (?:using \w+ )?on (\w+)", plan)) == sorted(["airport_days", *scanned])


@pytest.mark.parametrize(
    ("detectors", "published", "sentence"),
    [
        (["three_sigma"], "delaywatch", "published detector 'delaywatch' is not among: three_sigma"),
        (['x" FROM pg_authid; --'], "three_sigma", "cannot name a column"),
    ],
)
def test_a_view_that_cannot_be_is_refused(warehouse: str, detectors: list[str], published: str, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        DBHandler(warehouse).publish_view(detectors, published)
