"""SQLAlchemy models of the tables of a new warehouse: comments, checks, indexes, and the view that counts feedback.

Column names and types come from `schemas.py`, keys from `tables.py`. A change here, even of a comment, needs a revision
for existing warehouses; a test compares both. The wide view for analysts is in `view.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.schema import SetColumnComment, SetTableComment

from utils import schemas
from utils.warehouse.tables import SCHEMA, TABLES

METADATA = sa.MetaData(schema=SCHEMA)
SCHEMA_COMMENT = "Delaywatch: airport-days of US flights, verdicts on them and feedback"
TYPES: dict[pa.DataType, sa.types.TypeEngine[Any]] = {
    pa.bool_(): sa.Boolean(),
    pa.date32(): sa.Date(),
    pa.float32(): sa.REAL(),
    pa.int16(): sa.SmallInteger(),
    pa.int32(): sa.Integer(),
    pa.int64(): sa.BigInteger(),
    pa.string(): sa.Text(),
    pa.timestamp("us", "UTC"): sa.TIMESTAMP(timezone=True),
}
# The rows of a year are written together, so a BRIN index finds them and costs little to maintain.
BLOCK_RANGES: dict[str, Any] = {"postgresql_using": "brin", "postgresql_with": {"autosummarize": "on"}}
# With fillfactor 50, an upsert that updates a whole year uses HOT updates: new row versions fit on the same page and no
# index is written. It takes a third of the time, and after four such upserts airport_days has 31 MB instead of 76. Rows
# of the other tables are inserted and deleted with the flags, and rarely updated.
HALF_EMPTY = ("airport_days", "anomalies")
DAY = {
    "origin": "departure airport, IATA code",
    "fl_date": "calendar day of the scheduled departure, local time",
}


def _table(
    name: str,
    comment: str,
    *,
    columns: Mapping[str, str],
    checks: Mapping[str, str] | None = None,
    indexes: Sequence[sa.Index] = (),
) -> None:
    """Add the table to METADATA. columns: comments by name. checks: conditions by name."""
    table = TABLES[name]
    sa.Table(
        name,
        METADATA,
        *(
            sa.Column(
                field.name,
                JSONB() if field.name in table.json_columns else TYPES[field.type],
                primary_key=field.name in table.key,
                autoincrement=False,
                nullable=field.nullable,
                comment=columns[field.name],
            )
            for field in table.schema
        ),
        *(sa.CheckConstraint(condition, check) for check, condition in (checks or {}).items()),
        *indexes,
        comment=comment,
    )


_table(
    "airport_days",
    "One row per airport and calendar day, from the airport's first to its last scheduled day of the year",
    columns={
        **DAY,
        "scheduled": "flights scheduled to depart",
        "departed": "flights that departed: scheduled and not cancelled",
        "cancelled": "flights cancelled",
        "diverted": "flights diverted to another airport",
        "mean_dep_delay_min": "mean departure delay of departed flights, minutes; early is negative",
        "std_dep_delay_min": "standard deviation of the departure delay, minutes",
        "delayed_15": "flights that departed 15 minutes late or more",
        "delayed_60": "flights that departed 60 minutes late or more",
        "disrupted": "flights that departed more than 60 minutes late, or were cancelled",
        "mean_effective_delay_min": "effective delay: mean departure delay of scheduled flights, minutes; a flight "
        "counts at most 120, a cancelled flight 120",
        "std_effective_delay_min": "standard deviation of the effective delay, minutes",
        "max_dep_delay_min": "longest departure delay, minutes",
        "carrier_min": "minutes of arrival delay caused by the carrier",
        "weather_min": "minutes of arrival delay caused by weather",
        "nas_min": "minutes of arrival delay caused by the national airspace system",
        "security_min": "minutes of arrival delay caused by security",
        "late_aircraft_min": "minutes of arrival delay caused by a late incoming aircraft",
        "cancelled_carrier": "flights cancelled by the carrier (code A)",
        "cancelled_weather": "flights cancelled for weather (code B)",
        "cancelled_nas": "flights cancelled by the national airspace system (code C)",
        "cancelled_security": "flights cancelled for security (code D)",
    },
    checks={
        "airport_days_counts_not_negative": "least(scheduled, departed, cancelled, diverted, delayed_15, delayed_60,"
        " disrupted, cancelled_carrier, cancelled_weather, cancelled_nas, cancelled_security) >= 0",
        "airport_days_not_above_scheduled": "greatest(departed, cancelled) <= scheduled",
        "airport_days_delayed_60_among_15": "delayed_60 <= delayed_15",
    },
    indexes=[sa.Index("airport_days_fl_date", "fl_date", **BLOCK_RANGES)],
)
_table(
    "anomalies",
    "One row per airport, day and detector: the expected value, the score and the verdict",
    columns={
        **DAY,
        "detector": "name of the detector",
        "metric": "column of airport_days that the detector scored",
        "observed": "value of the metric on this day",
        "expected": "value that the detector expected, in the unit of the metric",
        "lower": "lower end of the usual range, in the unit of the metric",
        "upper": "upper end of the usual range, in the unit of the metric",
        "score": "how unusual the day is; higher is more unusual, comparable across airports",
        "is_anomaly": "true if the detector flags the day",
        "direction": "late, early or closure if the day is flagged, else null",
        "severity": "0 not flagged, 1 mild, 2 strong, 3 extreme",
        "status": "ok, insufficient_data or no_flights",
        "params_hash": "hash of the detector's settings",
    },
    checks={
        "anomalies_direction_known": f"direction IN {schemas.DIRECTIONS}",
        "anomalies_status_known": "status IN ('ok', 'insufficient_data', 'no_flights')",
        "anomalies_severity_known": "severity BETWEEN 0 AND 3",
        "anomalies_flag_says_how": "is_anomaly = (direction IS NOT NULL) AND is_anomaly = (severity > 0)",
    },
    indexes=[
        sa.Index("anomalies_fl_date_detector", "fl_date", "detector", **BLOCK_RANGES),
        sa.Index("anomalies_flagged", "detector", "fl_date", postgresql_where=sa.text("is_anomaly")),
    ],
)
_table(
    "anomaly_reasons",
    "One row per airport-day that the published detector flags: why the day is abnormal",
    columns={
        **DAY,
        "direction": "late, early or closure",
        "severity": "1 mild, 2 strong, 3 extreme",
        "scheduled": "flights scheduled to depart",
        "effective_delay_min": "effective delay, minutes; see mean_effective_delay_min of airport_days",
        "expected_effective_delay_min": "the effective delay that the detector expected, minutes",
        "disrupted_share": "disrupted / scheduled flights, 0 to 1; see airport_days",
        "expected_disrupted_share": "the disrupted share that the detector expected, 0 to 1",
        "delay_min": "sum of the departure delays of late flights, minutes",
        "usual_delay_min": "delay_min of the same number of flights on days that are not flagged, minutes",
        "excess_delay_min": "delay_min above usual_delay_min, minutes",
        "cancelled": "flights cancelled",
        "usual_cancelled": "cancelled of the same number of flights on days that are not flagged",
        "excess_cancelled": "cancelled above usual_cancelled",
        "top_cause": "cause with the largest excess; null if every cause is at most usual",
        "top_carrier": "carrier with the largest excess; null if every carrier is at most usual",
        "top_destination": "destination with the largest excess; null if every destination is at most usual",
        "sentence": "why the day is abnormal, as text",
    },
    checks={
        "anomaly_reasons_direction_known": f"direction IN {schemas.DIRECTIONS}",
        "anomaly_reasons_severity_known": "severity BETWEEN 1 AND 3",
        "anomaly_reasons_not_above_scheduled": "cancelled BETWEEN 0 AND scheduled",
        "anomaly_reasons_shares_are_shares": "disrupted_share BETWEEN 0 AND 1 "
        "AND expected_disrupted_share BETWEEN 0 AND 1",
        "anomaly_reasons_delay_not_negative": "delay_min >= 0",
        "anomaly_reasons_cause_known": f"top_cause IN {schemas.CAUSES}",
        "anomaly_reasons_say_something": "sentence <> ''",
    },
    indexes=[sa.Index("anomaly_reasons_fl_date", "fl_date")],
)
_table(
    "anomaly_factors",
    "A flagged airport-day by cause, carrier and destination, compared with the airport's usual days",
    columns={
        **DAY,
        "dimension": "cause, carrier or destination",
        "name": "the cause, the code of the carrier, or the code of the destination airport",
        "scheduled": "flights scheduled to depart; null for a cause",
        "delay_min": "part of the day's delay, minutes; null for a cause that the year does not report",
        "usual_delay_min": "delay_min of the same number of flights on days that are not flagged, minutes",
        "excess_delay_min": "delay_min above usual_delay_min, minutes",
        "cancelled": "part of the cancelled flights; null for a cause that the year does not report",
        "usual_cancelled": "cancelled of the same number of flights on days that are not flagged",
        "excess_cancelled": "cancelled above usual_cancelled",
    },
    checks={
        "anomaly_factors_dimension_known": f"dimension IN {schemas.FACTOR_DIMENSIONS}",
        "anomaly_factors_cause_known": f"dimension <> 'cause' OR name IN {schemas.CAUSES}",
        "anomaly_factors_causes_schedule_nothing": "(dimension = 'cause') = (scheduled IS NULL)",
        "anomaly_factors_only_causes_go_unreported": "dimension = 'cause' "
        "OR (delay_min IS NOT NULL AND cancelled IS NOT NULL)",
        "anomaly_factors_not_negative": "least(delay_min, cancelled, scheduled) >= 0",
        "anomaly_factors_not_above_scheduled": "cancelled <= scheduled",
    },
    indexes=[sa.Index("anomaly_factors_fl_date", "fl_date", **BLOCK_RANGES)],
)
_table(
    "events",
    "One row per event: flagged days of nearby airports on the same or adjacent days",
    columns={
        "event_id": "first day of the event and the worst airport of that day, e.g. 20130208-LGA",
        "name": "short description of the event",
        "first_day": "first flagged day",
        "last_day": "last flagged day",
        "kind": "delay, closure or mixed",
        "airports": "number of airports with a flagged day in the event",
        "airport_days": "number of flagged airport-days in the event",
        "severity": "highest severity of the days in the event: 1 mild, 2 strong, 3 extreme",
        "scheduled": "flights scheduled to depart on the airport-days of the event",
        "cancelled": "flights cancelled on the airport-days of the event",
        "mean_effective_delay_min": "effective delay over the scheduled flights of the event, minutes; see "
        "airport_days",
        "worst_origin": "airport of the worst airport-day, IATA code",
        "latitude": "centre of the event, weighted by flights, degrees; null if the position of every airport is "
        "unknown",
        "longitude": "centre of the event, weighted by flights, degrees; null if the position of every airport is "
        "unknown",
    },
    checks={
        "events_have_names": "name <> ''",
        "events_end_after_start": "first_day <= last_day",
        "events_kind_known": f"kind IN {schemas.EVENT_KINDS}",
        "events_have_airports": "airports BETWEEN 1 AND airport_days",
        "events_severity_known": "severity BETWEEN 1 AND 3",
        "events_not_above_scheduled": "cancelled BETWEEN 0 AND scheduled",
        "events_are_on_the_globe": "latitude BETWEEN -90 AND 90 AND longitude BETWEEN -180 AND 180",
        "events_have_a_centre_or_none": "(latitude IS NULL) = (longitude IS NULL)",
    },
    indexes=[sa.Index("events_first_day", "first_day")],
)
_table(
    "event_days",
    "One row per flagged airport-day in an event; a day belongs to at most one event",
    columns={**DAY, "event_id": "event_id of the event in events"},
    indexes=[sa.Index("event_days_fl_date", "fl_date"), sa.Index("event_days_event_id", "event_id")],
)
_table(
    "verdict_changes",
    "One row per airport-day and upsert that changed the severity by the published detector; a new day has no row",
    columns={
        **DAY,
        "changed_at": "time of the upsert",
        "old_severity": "severity before: 0 not flagged, 1 mild, 2 strong, 3 extreme",
        "new_severity": "severity after the upsert",
        "new_direction": "direction after the upsert: late, early or closure; null if the day is not flagged",
    },
    checks={
        "verdict_changes_severities_known": "old_severity BETWEEN 0 AND 3 AND new_severity BETWEEN 0 AND 3",
        "verdict_changes_differ": "old_severity <> new_severity",
        "verdict_changes_direction_known": f"new_direction IN {schemas.DIRECTIONS}",
        "verdict_changes_flag_says_how": "(new_direction IS NOT NULL) = (new_severity > 0)",
    },
)
_table(
    "feedback",
    "Feedback of people on airport-days, one row per day; runs read this table and never write it",
    columns={
        **DAY,
        "opinion": "expected (the reason is known; the day is not used for fitting), wrong (a false alarm) "
        "or right (a true alarm)",
        "note": "free text; may be empty",
        "author": "name of the person",
        "given_at": "time at which the person gave the feedback",
    },
    checks={
        "feedback_opinion_known": f"opinion IN {schemas.OPINIONS}",
        "feedback_has_an_author": "author <> ''",
    },
)
_table(
    "bronze_quality",
    "One row per year: the size of the bronze file, and the rows that silver kept, dropped and rejected",
    columns={
        "year": "calendar year of the file",
        "bronze_key": "key of the file in the lake",
        "bytes": "size of the file, bytes",
        "sha256": "SHA-256 of the file, hexadecimal",
        "rows_read": "rows in the file",
        "rows_kept": "rows kept in silver",
        "rows_duplicate": "rows dropped because an earlier row has the same natural key",
        "rows_rejected": "rows rejected as invalid",
        "missing_days": "calendar days without a flight, up to the end of the newest month with flights",
        "missing_months": "months without a flight before the newest month with flights, e.g. 8 or 7,8; empty if none",
        "doubled_months": "months that the file contains twice, e.g. 10 or 10,11; empty if it contains each month once",
        "report": "the whole quality report",
    },
    checks={
        "bronze_quality_not_negative": "least(bytes, rows_kept, rows_duplicate, rows_rejected, missing_days) >= 0",
        "bronze_quality_rows_add_up": "rows_kept + rows_duplicate + rows_rejected = rows_read",
    },
)
_table(
    "runs",
    "One row per completed run of a year",
    columns={
        "run_id": "ID of the run",
        "year": "calendar year that the run processed",
        "code_version": "release of Delaywatch",
        "params_hash": "hash of the settings of all detectors",
        "started": "start of the run",
        "ended": "end of the run; a failed or killed run has no row",
        "rows": "number of rows by step and table, as JSON",
    },
    checks={"runs_end_after_start": "ended >= started"},
)

DETECTOR_FEEDBACK = """
    CREATE VIEW flights.detector_feedback AS
    SELECT counted.*,
           (right_flags::real / nullif(right_flags + wrong_flags, 0))::real AS precision_by_feedback
    FROM (
        SELECT extract(year FROM f.fl_date)::smallint AS year, a.detector,
               count(*) FILTER (WHERE a.is_anomaly AND f.opinion = 'right') AS right_flags,
               count(*) FILTER (WHERE a.is_anomaly AND f.opinion = 'wrong') AS wrong_flags,
               count(*) FILTER (WHERE a.is_anomaly AND f.opinion = 'expected') AS expected_flags,
               count(*) FILTER (WHERE NOT a.is_anomaly AND a.status = 'ok' AND f.opinion = 'right') AS right_missed
        FROM flights.feedback f JOIN flights.anomalies a ON a.origin = f.origin AND a.fl_date = f.fl_date
        GROUP BY 1, 2
    ) AS counted
"""
DETECTOR_FEEDBACK_COMMENTS = {
    "VIEW flights.detector_feedback": "One row per year and detector that scored a day with feedback: how often "
    "feedback confirms the detector",
    "COLUMN flights.detector_feedback.year": "calendar year of the days",
    "COLUMN flights.detector_feedback.detector": "name of the detector",
    "COLUMN flights.detector_feedback.right_flags": "flagged days with the feedback right",
    "COLUMN flights.detector_feedback.wrong_flags": "flagged days with the feedback wrong",
    "COLUMN flights.detector_feedback.expected_flags": "flagged days with the feedback expected; they do not "
    "count for the precision",
    "COLUMN flights.detector_feedback.right_missed": "days with the feedback right that the detector calls normal",
    "COLUMN flights.detector_feedback.precision_by_feedback": "right_flags / (right_flags + wrong_flags), 0 to 1; null "
    "if both are 0; for several years, divide the sums",
}


def create(connection: sa.Connection) -> None:
    """Create all tables and the view in an empty schema; see also `comment`."""
    METADATA.create_all(connection)
    for table in HALF_EMPTY:
        connection.exec_driver_sql(f"ALTER TABLE {SCHEMA}.{table} SET (fillfactor = 50)")
    connection.exec_driver_sql(DETECTOR_FEEDBACK)


def comment(connection: sa.Connection) -> None:
    """Write the comments of schema, tables, columns and view, which replace those of an older release."""
    connection.exec_driver_sql(f"COMMENT ON SCHEMA {SCHEMA} IS '{SCHEMA_COMMENT}'")
    for table in METADATA.sorted_tables:
        connection.execute(SetTableComment(table))
        for column in table.columns:
            connection.execute(SetColumnComment(column))
    for target, text in DETECTOR_FEEDBACK_COMMENTS.items():
        connection.exec_driver_sql(f"COMMENT ON {target} IS '{text}'")
