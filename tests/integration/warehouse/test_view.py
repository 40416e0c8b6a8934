"""The wide view for analysts on a real Postgres: its rows and columns, and publishing it again."""

from __future__ import annotations

import re

import pytest

from tests.builders import (
    LATE,
    airport_day_row,
    airport_days_table,
    event_day_row,
    event_row,
    reason_row,
    table_of,
    verdict_row,
    verdicts_table,
)
from tests.conftest import sql
from utils import schemas
from utils.db_handler import DBHandler
from utils.errors import InvalidInput

DETECTORS = ("three_sigma", "isolation_forest", "delaywatch")
WIDE = "SELECT {} FROM flights.agg_dep_delay_by_date ORDER BY id"


def columns_of_view(url: str) -> list[str]:
    relation = "attrelid = 'flights.agg_dep_delay_by_date'::regclass AND attnum > 0"
    return [name for (name,) in sql(url, f"SELECT attname FROM pg_attribute WHERE {relation} ORDER BY attnum")]


def test_the_view_has_one_row_per_airport_day_with_verdict_flags_reason_and_event(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    days = [airport_day_row(name, scheduled=9) for name in ("ATL", "BOS", "CLT", "DEN", "EWR")]
    days.append(airport_day_row("ATL", "2018-01-02", scheduled=8))
    handler.upsert("airport_days", airport_days_table(*days), 2018)
    verdicts = verdicts_table(
        verdict_row("delaywatch", "ATL", observed=60, expected=10, lower=-5, upper=25, **LATE),
        verdict_row("delaywatch", "BOS", **(LATE | {"direction": "closure", "severity": 3})),
        verdict_row("delaywatch", "CLT"),
        verdict_row("delaywatch", "DEN", status="insufficient_data"),
        verdict_row("three_sigma", "CLT", **LATE),
    )
    handler.upsert("anomalies", verdicts, 2018)
    reasons = (reason_row("ATL", sentence="Snow."), reason_row("BOS", sentence="More snow."))
    handler.upsert("anomaly_reasons", table_of(schemas.ANOMALY_REASONS, *reasons), 2018)
    handler.upsert("events", table_of(schemas.EVENTS, event_row("20180101-ATL", name="Storm, 2 airports")), 2018)
    event_days = (event_day_row("20180101-ATL", origin) for origin in ("ATL", "BOS"))
    handler.upsert("event_days", table_of(schemas.EVENT_DAYS, *event_days), 2018)

    handler.publish_view(DETECTORS, "delaywatch")

    columns = "id, scheduled, verdict, is_anomaly, severity, is_anomaly_three_sigma, is_anomaly_delaywatch"
    assert sql(warehouse, WIDE.format(columns)) == [
        ("ATL20180101", 9, "late", True, 2, None, True),
        ("ATL20180102", 8, None, None, None, None, None),
        ("BOS20180101", 9, "closure", True, 3, None, True),
        ("CLT20180101", 9, "normal", False, 0, True, False),
        ("DEN20180101", 9, "insufficient_data", False, 0, None, False),
        ("EWR20180101", 9, None, None, None, None, None),
    ]
    assert sql(warehouse, WIDE.format("observed, expected, lower, upper, score"))[0] == (60.0, 10.0, -5.0, 25.0, 4.5)
    assert sql(warehouse, WIDE.format("sentence, event_id, event, opinion, is_acknowledged"))[:3] == [
        ("Snow.", "20180101-ATL", "Storm, 2 airports", None, False),
        (None, None, None, None, False),
        ("More snow.", "20180101-ATL", "Storm, 2 airports", None, False),
    ]
    assert columns_of_view(warehouse)[:24] == ["id", *schemas.AIRPORT_DAYS.names]
    assert columns_of_view(warehouse)[-3:] == [f"is_anomaly_{name}" for name in DETECTORS]


def test_another_detector_keeps_grants_on_the_view_and_views_on_it(warehouse: str) -> None:
    DBHandler(warehouse).publish_view(DETECTORS[:2], "three_sigma")
    sql(
        warehouse,
        "CREATE VIEW public.mine AS SELECT id FROM flights.agg_dep_delay_by_date",
        "GRANT SELECT ON flights.agg_dep_delay_by_date TO pg_monitor",
    )

    DBHandler(warehouse).publish_view(DETECTORS, "delaywatch")

    assert columns_of_view(warehouse)[-1] == "is_anomaly_delaywatch"
    allowed = "SELECT has_table_privilege('pg_monitor', 'flights.agg_dep_delay_by_date', 'SELECT')"
    assert sql(warehouse, allowed) == [(True,)]


def test_a_removed_detector_loses_its_column_unless_another_view_depends_on_it(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    handler.publish_view(DETECTORS, "delaywatch")
    sql(warehouse, "CREATE VIEW public.mine AS SELECT is_anomaly_isolation_forest FROM flights.agg_dep_delay_by_date")

    with pytest.raises(InvalidInput, match=r"public\.mine"):
        handler.publish_view(["three_sigma", "delaywatch"], "delaywatch")
    assert "is_anomaly_isolation_forest" in columns_of_view(warehouse)
    sql(warehouse, "DROP VIEW public.mine")
    handler.publish_view(["three_sigma", "delaywatch"], "delaywatch")

    assert columns_of_view(warehouse)[-2:] == ["is_anomaly_three_sigma", "is_anomaly_delaywatch"]


def test_the_same_view_is_not_written_again_unless_it_was_changed_by_hand(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    handler.publish_view(["three_sigma"], "three_sigma")
    handler.upsert("airport_days", airport_days_table(airport_day_row("JFK")), 2018)
    (definition,) = sql(warehouse, "SELECT pg_get_viewdef('flights.agg_dep_delay_by_date'::regclass)")[0]
    by_hand = f"CREATE OR REPLACE VIEW flights.agg_dep_delay_by_date AS {definition.rstrip(';')} WHERE d.origin = 'X'"

    is_written = handler.publish_view(["three_sigma"], "three_sigma")
    sql(warehouse, by_hand)
    is_corrected = handler.publish_view(["three_sigma"], "three_sigma")

    assert (is_written, is_corrected) == (False, True)
    assert sql(warehouse, WIDE.format("id")) == [("JFK20180101",)]


@pytest.mark.parametrize(
    ("columns", "scanned"),
    [
        ("mean_dep_delay_min, is_anomaly_three_sigma", ["anomalies"]),
        ("is_anomaly, sentence", ["anomalies", "anomaly_reasons"]),
        ("event", ["event_days", "events"]),
    ],
)
def test_a_query_reads_only_the_tables_of_its_columns(warehouse: str, columns: str, scanned: list[str]) -> None:
    """Six detectors and four more joins exceed join_collapse_limit, and the planner must still skip joins."""
    six = [*DETECTORS, "arima", "random_cut_forest", "gradient_boosting"]
    DBHandler(warehouse).publish_view(six, "delaywatch")

    plan = "\n".join(line for (line,) in sql(warehouse, "EXPLAIN " + WIDE.format(f"id, {columns}")))

    assert sorted(re.findall(r"Scan (?:using \w+ )?on (\w+)", plan)) == sorted(["airport_days", *scanned])
