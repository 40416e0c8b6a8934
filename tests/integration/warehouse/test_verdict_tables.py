"""Reasons, factors and events in a real Postgres: kept as they are, checked, shown by the view."""

from __future__ import annotations

import pytest

from tests.builders import LATE, Row
from tests.builders import airport_day_row as day
from tests.builders import airport_days_table as days
from tests.builders import event_day_row as event_day
from tests.builders import event_row as event
from tests.builders import factor_row as factor
from tests.builders import reason_row as reason
from tests.builders import table_of as table
from tests.builders import verdict_row as verdict
from tests.builders import verdicts_table as verdicts
from tests.conftest import sql
from utils import schemas
from utils.db_handler import Changes, DBHandler
from utils.errors import InvalidInput

SCHEMAS = {
    "anomaly_reasons": schemas.ANOMALY_REASONS,
    "anomaly_factors": schemas.ANOMALY_FACTORS,
    "events": schemas.EVENTS,
    "event_days": schemas.EVENT_DAYS,
}
FULL: dict[str, Row] = {
    "anomaly_reasons": reason(
        scheduled=214, effective_delay_min=61.5, expected_effective_delay_min=18.25, disrupted_share=0.375,
        expected_disrupted_share=0.0625, delay_min=9000, usual_delay_min=2500, excess_delay_min=6500, cancelled=40,
        usual_cancelled=2, excess_cancelled=38, top_cause="weather", top_carrier="B6", top_destination="BOS",
    ),
    "anomaly_factors": factor("carrier", "B6", scheduled=90, delay_min=3000, usual_delay_min=900, cancelled=20),
    "events": event("20180101-JFK", "2018-01-01", "2018-01-02", airports=14, airport_days=20, latitude=41.5,
                    longitude=-73.25, mean_effective_delay_min=80, scheduled=900, cancelled=400, kind="mixed"),
    "event_days": event_day("20180101-JFK"),
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_was_written_is_read_back_exactly_and_twice_changes_nothing(warehouse: str, name: str) -> None:
    handler, written = DBHandler(warehouse), table(SCHEMAS[name], FULL[name])

    first, second = (handler.upsert(name, written, 2018) for _ in range(2))

    assert (first.inserted, second) == (1, Changes(inserted=0, updated=0, deleted=0, unchanged=1))
    found = handler.read(name, 2018)
    assert table(SCHEMAS[name]).from_pandas(found, SCHEMAS[name], preserve_index=False).to_pylist() == [FULL[name]]
    assert handler.read(name, 2017).empty


def test_a_cause_that_the_year_does_not_report_is_kept_as_unknown(warehouse: str) -> None:
    unknown = table(schemas.ANOMALY_FACTORS, factor("cause", "late_aircraft", delay_min=None, cancelled=None))

    DBHandler(warehouse).upsert("anomaly_factors", unknown, 2018)

    assert sql(warehouse, "SELECT delay_min, cancelled FROM flights.anomaly_factors") == [(None, None)]


@pytest.mark.parametrize(
    ("name", "row", "constraint"),
    [
        ("anomaly_reasons", reason(direction="sideways"), "anomaly_reasons_direction_known"),
        ("anomaly_reasons", reason(severity=0), "anomaly_reasons_severity_known"),
        ("anomaly_reasons", reason(scheduled=1, cancelled=2), "anomaly_reasons_not_above_scheduled"),
        ("anomaly_reasons", reason(disrupted_share=38.0), "anomaly_reasons_shares_are_shares"),
        ("anomaly_reasons", reason(expected_disrupted_share=-0.5), "anomaly_reasons_shares_are_shares"),
        ("anomaly_reasons", reason(delay_min=-1), "anomaly_reasons_delay_not_negative"),
        ("anomaly_reasons", reason(top_cause="snow"), "anomaly_reasons_cause_known"),
        ("anomaly_reasons", reason(sentence=""), "anomaly_reasons_say_something"),
        ("anomaly_factors", factor("airline", "B6"), "anomaly_factors_dimension_known"),
        ("anomaly_factors", factor("cause", "snow"), "anomaly_factors_cause_known"),
        ("anomaly_factors", factor("cause", "weather", scheduled=3), "anomaly_factors_causes_schedule_nothing"),
        ("anomaly_factors", factor("carrier", "B6", scheduled=None), "anomaly_factors_causes_schedule_nothing"),
        ("anomaly_factors", factor("carrier", "B6", cancelled=None), "anomaly_factors_only_causes_go_unreported"),
        ("anomaly_factors", factor("carrier", "B6", delay_min=None), "anomaly_factors_only_causes_go_unreported"),
        ("anomaly_factors", factor("carrier", "B6", delay_min=-1), "anomaly_factors_not_negative"),
        ("anomaly_factors", factor("cause", "weather", cancelled=-1), "anomaly_factors_not_negative"),
        ("anomaly_factors", factor("carrier", "B6", scheduled=1, cancelled=2), "anomaly_factors_not_above_scheduled"),
        ("events", event("x", name=""), "events_have_names"),
        ("events", event("x", "2018-01-02", "2018-01-01"), "events_end_after_start"),
        ("events", event("x", kind="storm"), "events_kind_known"),
        ("events", event("x", airports=0), "events_have_airports"),
        ("events", event("x", airports=2), "events_have_airports"),
        ("events", event("x", severity=4), "events_severity_known"),
        ("events", event("x", cancelled=1), "events_not_above_scheduled"),
        ("events", event("x", latitude=41.0, longitude=-500.0), "events_are_on_the_globe"),
        ("events", event("x", latitude=41.0), "events_have_a_centre_or_none"),
    ],
)
def test_the_warehouse_refuses_a_row_that_contradicts_itself(
    warehouse: str, name: str, row: Row, constraint: str
) -> None:
    with pytest.raises(InvalidInput, match=rf"refused a row .*{constraint}"):
        DBHandler(warehouse).upsert(name, table(SCHEMAS[name], row), 2018)


def test_an_event_is_of_the_year_of_its_first_day(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    over_new_year = event("20171231-JFK", "2017-12-31", "2018-01-01")
    handler.upsert("events", table(schemas.EVENTS, over_new_year), 2017)

    handler.upsert("events", table(schemas.EVENTS, event("20180105-LGA", "2018-01-05")), 2018)

    assert sql(warehouse, "SELECT event_id FROM flights.events ORDER BY 1") == [("20171231-JFK",), ("20180105-LGA",)]
    with pytest.raises(InvalidInput, match=r"holds 1 row of another year, first 20171231-JFK"):
        handler.upsert("events", table(schemas.EVENTS, over_new_year), 2018)


def test_a_day_moves_from_one_event_to_another_in_one_upsert(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    handler.upsert("event_days", table(schemas.EVENT_DAYS, event_day("a", "JFK"), event_day("a", "LGA")), 2018)

    changes = handler.upsert(
        "event_days", table(schemas.EVENT_DAYS, event_day("a", "JFK"), event_day("b", "LGA")), 2018
    )

    assert changes == Changes(inserted=0, updated=1, deleted=0, unchanged=1)
    assert list(handler.read("event_days")["event_id"]) == ["a", "b"]


def test_a_day_of_two_events_is_refused(warehouse: str) -> None:
    twice = table(schemas.EVENT_DAYS, event_day("a", "JFK"), event_day("b", "JFK"))

    with pytest.raises(InvalidInput, match=r"event_days 2018 holds 1 row more than once, first JFK, 2018-01-01"):
        DBHandler(warehouse).upsert("event_days", twice, 2018)


def test_the_view_tells_reason_and_event_of_each_day_and_keeps_one_row_per_day(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    handler.upsert("airport_days", days(*(day(origin) for origin in ("JFK", "LGA", "ORD"))), 2018)
    handler.upsert("anomalies", verdicts(*(verdict("delaywatch", origin, **LATE) for origin in ("JFK", "LGA"))), 2018)
    reasons = table(schemas.ANOMALY_REASONS, reason("JFK", sentence="Snow."), reason("LGA", sentence="More snow."))
    handler.upsert("anomaly_reasons", reasons, 2018)
    handler.upsert("events", table(schemas.EVENTS, event("20180101-JFK", name="north-east, 2 airports")), 2018)
    both = (event_day("20180101-JFK", origin) for origin in ("JFK", "LGA"))
    handler.upsert("event_days", table(schemas.EVENT_DAYS, *both), 2018)

    handler.publish_view(["three_sigma", "delaywatch"], "delaywatch")

    seen = "SELECT origin, sentence, event_id, event, opinion, is_acknowledged FROM flights.agg_dep_delay_by_date"
    assert sql(warehouse, f"{seen} ORDER BY 1") == [
        ("JFK", "Snow.", "20180101-JFK", "north-east, 2 airports", None, False),
        ("LGA", "More snow.", "20180101-JFK", "north-east, 2 airports", None, False),
        ("ORD", None, None, None, None, False),
    ]


def test_reason_event_and_feedback_stand_before_the_flags(warehouse: str) -> None:
    DBHandler(warehouse).publish_view(["three_sigma", "delaywatch"], "delaywatch")

    columns = sql(
        warehouse,
        "SELECT attname FROM pg_attribute WHERE attrelid = 'flights.agg_dep_delay_by_date'::regclass ORDER BY attnum",
    )

    assert [name for (name,) in columns][-8:] == [
        "verdict", "sentence", "event_id", "event", "opinion", "is_acknowledged", "is_anomaly_three_sigma",
        "is_anomaly_delaywatch",
    ]  # fmt: skip
