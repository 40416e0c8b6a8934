"""Why a day is abnormal, which event it belongs to, and what people say of it.

A migration is history: it spells its columns out and follows no later change of schemas.py.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

SCHEMA = "flights"
ORIGIN = "airport of departure, IATA code"
FL_DATE = "calendar day of the scheduled departure, local time"

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
    "VIEW flights.detector_feedback": "One row per year and detector that judged a day on which somebody gave feedback:"
    " how often it was right by that",
    "COLUMN flights.detector_feedback.year": "calendar year of the days",
    "COLUMN flights.detector_feedback.detector": "name of the detector that judged",
    "COLUMN flights.detector_feedback.right_flags": "days that the detector flags and a person called right",
    "COLUMN flights.detector_feedback.wrong_flags": "days that the detector flags and a person called wrong",
    "COLUMN flights.detector_feedback.expected_flags": "days that the detector flags and a person called expected; "
    "they count for and against nothing",
    "COLUMN flights.detector_feedback.right_missed": "days that a person called right and the detector calls normal",
    "COLUMN flights.detector_feedback.precision_by_feedback": "right_flags / (right_flags + wrong_flags), 0 to 1; null "
    "when both are 0; over several years divide the sums",
}


def key(name: str, kind: type[sa.types.TypeEngine[Any]], comment: str) -> sa.Column[Any]:
    """A column of the primary key."""
    return sa.Column(name, kind, primary_key=True, autoincrement=False, comment=comment)


def needed(name: str, kind: type[sa.types.TypeEngine[Any]], comment: str) -> sa.Column[Any]:
    """A column that every row fills."""
    return sa.Column(name, kind, nullable=False, comment=comment)


def optional(name: str, kind: type[sa.types.TypeEngine[Any]], comment: str) -> sa.Column[Any]:
    """A column that may be null."""
    return sa.Column(name, kind, nullable=True, comment=comment)


def upgrade() -> None:
    """Create the tables, their comments and indexes, and the view that counts feedback by detector.

    Rows of these tables come and go with the flags and are seldom changed, so their pages keep no room for that.
    """
    op.create_table(
        "anomaly_reasons",
        key("origin", sa.Text, ORIGIN),
        key("fl_date", sa.Date, FL_DATE),
        needed("direction", sa.Text, "late, early or closure"),
        needed("severity", sa.SmallInteger, "1 mild, 2 strong, 3 extreme"),
        needed("scheduled", sa.Integer, "flights scheduled to depart"),
        optional("effective_delay_min", sa.REAL, "mean over scheduled flights, minutes; see airport_days"),
        optional("expected_effective_delay_min", sa.REAL, "the effective delay that the detector expected, minutes"),
        optional("disrupted_share", sa.REAL, "disrupted flights over scheduled ones, 0 to 1; see airport_days"),
        optional("expected_disrupted_share", sa.REAL, "the disrupted share that the detector expected, 0 to 1"),
        needed("delay_min", sa.REAL, "sum of the departure delays of late flights, minutes"),
        optional("usual_delay_min", sa.REAL, "that sum for as many flights on days that are not flagged, minutes"),
        optional("excess_delay_min", sa.REAL, "delay_min beyond the usual, minutes"),
        needed("cancelled", sa.Integer, "flights cancelled"),
        optional("usual_cancelled", sa.REAL, "cancellations among as many flights on days that are not flagged"),
        optional("excess_cancelled", sa.REAL, "cancellations beyond the usual"),
        optional("top_cause", sa.Text, "cause with the largest excess; null where none exceeds the usual"),
        optional("top_carrier", sa.Text, "carrier with the largest excess; null where none exceeds the usual"),
        optional("top_destination", sa.Text, "destination with the largest excess; null where none exceeds the usual"),
        needed("sentence", sa.Text, "why the day is abnormal, in plain words"),
        sa.CheckConstraint("direction IN ('late', 'early', 'closure')", "anomaly_reasons_direction_known"),
        sa.CheckConstraint("severity BETWEEN 1 AND 3", "anomaly_reasons_severity_known"),
        sa.CheckConstraint("cancelled BETWEEN 0 AND scheduled", "anomaly_reasons_not_above_scheduled"),
        sa.CheckConstraint(
            "disrupted_share BETWEEN 0 AND 1 AND expected_disrupted_share BETWEEN 0 AND 1",
            "anomaly_reasons_shares_are_shares",
        ),
        sa.CheckConstraint("delay_min >= 0", "anomaly_reasons_delay_not_negative"),
        sa.CheckConstraint(
            "top_cause IN ('carrier', 'weather', 'nas', 'security', 'late_aircraft')", "anomaly_reasons_cause_known"
        ),
        sa.CheckConstraint("sentence <> ''", "anomaly_reasons_say_something"),
        schema=SCHEMA,
        comment="One row per day that the published detector flags: why it is abnormal",
    )
    op.create_table(
        "anomaly_factors",
        key("origin", sa.Text, ORIGIN),
        key("fl_date", sa.Date, FL_DATE),
        key("dimension", sa.Text, "cause, carrier or destination"),
        key("name", sa.Text, "the cause, or the code of the carrier or of the airport of destination"),
        optional("scheduled", sa.Integer, "flights scheduled to depart; null for a cause"),
        optional("delay_min", sa.REAL, "its part of the day's delay, minutes; null for a cause that is not reported"),
        optional("usual_delay_min", sa.REAL, "that part on days that are not flagged, for as many flights, minutes"),
        optional("excess_delay_min", sa.REAL, "delay_min beyond the usual, minutes"),
        optional("cancelled", sa.Integer, "its part of the cancelled flights; null for a cause that is not reported"),
        optional("usual_cancelled", sa.REAL, "that part on days that are not flagged, for as many flights"),
        optional("excess_cancelled", sa.REAL, "cancellations beyond the usual"),
        sa.CheckConstraint("dimension IN ('cause', 'carrier', 'destination')", "anomaly_factors_dimension_known"),
        sa.CheckConstraint(
            "dimension <> 'cause' OR name IN ('carrier', 'weather', 'nas', 'security', 'late_aircraft')",
            "anomaly_factors_cause_known",
        ),
        sa.CheckConstraint("(dimension = 'cause') = (scheduled IS NULL)", "anomaly_factors_causes_schedule_nothing"),
        sa.CheckConstraint(
            "dimension = 'cause' OR (delay_min IS NOT NULL AND cancelled IS NOT NULL)",
            "anomaly_factors_only_causes_go_unreported",
        ),
        sa.CheckConstraint("least(delay_min, cancelled, scheduled) >= 0", "anomaly_factors_not_negative"),
        sa.CheckConstraint("cancelled <= scheduled", "anomaly_factors_not_above_scheduled"),
        schema=SCHEMA,
        comment="The parts of a flagged day by cause, carrier and destination, against the airport's usual mix",
    )
    op.create_table(
        "events",
        key("event_id", sa.Text, "first day and worst airport of that day, e.g. 20130208-LGA"),
        needed("name", sa.Text, "the event in one line"),
        needed("first_day", sa.Date, "first flagged day"),
        needed("last_day", sa.Date, "last flagged day"),
        needed("kind", sa.Text, "delay, closure or mixed"),
        needed("airports", sa.Integer, "airports with a flagged day in it"),
        needed("airport_days", sa.Integer, "flagged days of airports in it"),
        needed("severity", sa.SmallInteger, "the highest of its days: 1 mild, 2 strong, 3 extreme"),
        needed("scheduled", sa.Integer, "flights scheduled to depart on its airport-days"),
        needed("cancelled", sa.Integer, "flights cancelled on its airport-days"),
        optional("mean_effective_delay_min", sa.REAL, "mean over its scheduled flights, minutes; see airport_days"),
        needed("worst_origin", sa.Text, "airport of its worst day, IATA code"),
        optional("latitude", sa.REAL, "centre, weighted by flights, degrees; null when no airport is known"),
        optional("longitude", sa.REAL, "centre, weighted by flights, degrees; null when no airport is known"),
        sa.CheckConstraint("name <> ''", "events_have_names"),
        sa.CheckConstraint("first_day <= last_day", "events_end_after_start"),
        sa.CheckConstraint("kind IN ('delay', 'closure', 'mixed')", "events_kind_known"),
        sa.CheckConstraint("airports BETWEEN 1 AND airport_days", "events_have_airports"),
        sa.CheckConstraint("severity BETWEEN 1 AND 3", "events_severity_known"),
        sa.CheckConstraint("cancelled BETWEEN 0 AND scheduled", "events_not_above_scheduled"),
        sa.CheckConstraint("latitude BETWEEN -90 AND 90 AND longitude BETWEEN -180 AND 180", "events_are_on_the_globe"),
        sa.CheckConstraint("(latitude IS NULL) = (longitude IS NULL)", "events_have_a_centre_or_none"),
        schema=SCHEMA,
        comment="One row per event: flagged days of near airports on the same or adjacent days",
    )
    op.create_table(
        "event_days",
        needed("event_id", sa.Text, "the event, a key of events"),
        key("origin", sa.Text, ORIGIN),
        key("fl_date", sa.Date, FL_DATE),
        schema=SCHEMA,
        comment="One row per flagged day that belongs to an event, and it belongs to one",
    )
    op.create_table(
        "feedback",
        key("origin", sa.Text, ORIGIN),
        key("fl_date", sa.Date, FL_DATE),
        needed(
            "opinion",
            sa.Text,
            "expected (known beforehand, nothing is learnt from the day), wrong (a false alarm) or right (a true one)",
        ),
        needed("note", sa.Text, "what the person adds; may be empty"),
        needed("author", sa.Text, "who said it"),
        sa.Column("given_at", sa.TIMESTAMP(timezone=True), nullable=False, comment="when it was said"),
        sa.CheckConstraint("opinion IN ('expected', 'wrong', 'right')", "feedback_opinion_known"),
        sa.CheckConstraint("author <> ''", "feedback_has_an_author"),
        schema=SCHEMA,
        comment="What people say of airport-days, one row each; runs read it and never write it",
    )
    # Dashboards ask for the days of a range of dates and for the days of an event. Factors are many, and a year's lie
    # together, so block ranges find them; the others are few and get the plain kind.
    op.create_index("anomaly_reasons_fl_date", "anomaly_reasons", ["fl_date"], schema=SCHEMA)
    op.create_index(
        "anomaly_factors_fl_date",
        "anomaly_factors",
        ["fl_date"],
        schema=SCHEMA,
        postgresql_using="brin",
        postgresql_with={"autosummarize": "on"},
    )
    op.create_index("events_first_day", "events", ["first_day"], schema=SCHEMA)
    op.create_index("event_days_fl_date", "event_days", ["fl_date"], schema=SCHEMA)
    op.create_index("event_days_event_id", "event_days", ["event_id"], schema=SCHEMA)
    op.execute(DETECTOR_FEEDBACK)
    for what, comment in DETECTOR_FEEDBACK_COMMENTS.items():
        op.execute(f"COMMENT ON {what} IS '{comment}'")


def downgrade() -> None:
    """Drop the tables, all feedback with them, and the views over them; 0001's release publishes its own view."""
    op.execute("DROP VIEW IF EXISTS flights.agg_dep_delay_by_date")
    op.execute("DROP VIEW flights.detector_feedback")
    for table in ("feedback", "event_days", "events", "anomaly_factors", "anomaly_reasons"):
        op.drop_table(table, schema=SCHEMA)
