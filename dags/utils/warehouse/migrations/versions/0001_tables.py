"""The first tables: airport_days, anomalies, bronze_quality and runs.

A migration is history: it spells its columns out and follows no later change of schemas.py.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

SCHEMA = "flights"

# Half of every page stays empty for the next version of its rows. An upsert that changes a whole year then writes no
# index and leaves each row where it lies: its UPDATE takes a third of the time, and after four such upserts the table
# has 31 MB instead of 76.
ROOM = "fillfactor = 50"

# (column, comment); all of them integer and not null
TOTALS = (
    ("scheduled", "flights scheduled to depart"),
    ("departed", "flights that departed: scheduled and not cancelled"),
    ("cancelled", "flights cancelled"),
    ("diverted", "flights that landed elsewhere"),
    ("delayed_15", "flights that departed 15 minutes late or more"),
    ("delayed_60", "flights that departed 60 minutes late or more"),
    ("disrupted", "flights that departed more than 60 minutes late, or were cancelled"),
    ("carrier_min", "minutes of arrival delay caused by the carrier"),
    ("weather_min", "minutes of arrival delay caused by weather"),
    ("nas_min", "minutes of arrival delay caused by the national airspace system"),
    ("security_min", "minutes of arrival delay caused by security"),
    ("late_aircraft_min", "minutes of arrival delay caused by a late incoming aircraft"),
    ("cancelled_carrier", "flights cancelled by the carrier (code A)"),
    ("cancelled_weather", "flights cancelled for weather (code B)"),
    ("cancelled_nas", "flights cancelled by the national airspace system (code C)"),
    ("cancelled_security", "flights cancelled for security (code D)"),
)


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
    """Create the tables, their comments and indexes."""
    total = {name: needed(name, sa.Integer, comment) for name, comment in TOTALS}
    names = list(total)
    flights = [name for name in names if not name.endswith("_min")]
    op.create_table(
        "airport_days",
        key("origin", sa.Text, "airport of departure, IATA code"),
        key("fl_date", sa.Date, "calendar day of the scheduled departure, local time"),
        *(total[name] for name in names[:4]),
        optional("mean_dep_delay_min", sa.REAL, "mean departure delay of departed flights, minutes; early is negative"),
        optional("std_dep_delay_min", sa.REAL, "standard deviation of the departure delay, minutes"),
        *(total[name] for name in names[4:7]),
        optional(
            "mean_effective_delay_min",
            sa.REAL,
            "mean over scheduled flights, minutes: delay capped at 120, a cancelled flight counts as 120",
        ),
        optional("std_effective_delay_min", sa.REAL, "standard deviation of the effective delay, minutes"),
        optional("max_dep_delay_min", sa.SmallInteger, "longest departure delay, minutes"),
        *(total[name] for name in names[7:]),
        sa.CheckConstraint(f"least({', '.join(flights)}) >= 0", "airport_days_counts_not_negative"),
        sa.CheckConstraint("greatest(departed, cancelled) <= scheduled", "airport_days_not_above_scheduled"),
        sa.CheckConstraint("delayed_60 <= delayed_15", "airport_days_delayed_60_among_15"),
        schema=SCHEMA,
        comment="One row per airport and calendar day between its first and its last scheduled day of the year",
    )
    op.create_table(
        "anomalies",
        key("origin", sa.Text, "airport of departure, IATA code"),
        key("fl_date", sa.Date, "calendar day of the scheduled departure, local time"),
        key("detector", sa.Text, "name of the detector that judged"),
        needed("metric", sa.Text, "column of airport_days that was judged"),
        optional("observed", sa.REAL, "the metric on this day, in its own unit"),
        optional("expected", sa.REAL, "what the detector expected, in the metric's unit"),
        optional("lower", sa.REAL, "lower end of the range that counts as normal, in the metric's unit"),
        optional("upper", sa.REAL, "upper end of the range that counts as normal, in the metric's unit"),
        optional("score", sa.REAL, "how abnormal the day is; higher is more abnormal, comparable across airports"),
        needed("is_anomaly", sa.Boolean, "the detector's verdict"),
        optional("direction", sa.Text, "late, early or closure on an abnormal day, null otherwise"),
        needed("severity", sa.SmallInteger, "0 none, 1 mild, 2 strong, 3 extreme"),
        needed("status", sa.Text, "ok, insufficient_data or no_flights"),
        needed("params_hash", sa.Text, "the detector's settings, as in runs"),
        sa.CheckConstraint("direction IN ('late', 'early', 'closure')", "anomalies_direction_known"),
        sa.CheckConstraint("status IN ('ok', 'insufficient_data', 'no_flights')", "anomalies_status_known"),
        sa.CheckConstraint("severity BETWEEN 0 AND 3", "anomalies_severity_known"),
        sa.CheckConstraint(
            "is_anomaly = (direction IS NOT NULL) AND is_anomaly = (severity > 0)", "anomalies_flag_says_how"
        ),
        schema=SCHEMA,
        comment="One row per airport, day and detector: what the detector expected and what it says of the day",
    )
    for table in ("airport_days", "anomalies"):
        op.execute(f"ALTER TABLE {SCHEMA}.{table} SET ({ROOM})")
    op.create_table(
        "bronze_quality",
        key("year", sa.SmallInteger, "calendar year of the file"),
        needed("bronze_key", sa.Text, "key of the file in the lake"),
        needed("bytes", sa.BigInteger, "size of the file, bytes"),
        needed("sha256", sa.Text, "SHA-256 of the file, hexadecimal"),
        needed("rows_read", sa.BigInteger, "rows in the file"),
        needed("rows_kept", sa.BigInteger, "rows that became silver"),
        needed("rows_duplicate", sa.BigInteger, "rows that were there before, by natural key"),
        needed("rows_rejected", sa.BigInteger, "rows that could not be used"),
        needed("missing_days", sa.SmallInteger, "calendar days without a flight"),
        needed("missing_months", sa.Text, "months without a flight, as 10 or 10,11; empty when none"),
        needed("doubled_months", sa.Text, "months whose rows were in the file twice; empty when none"),
        needed("report", JSONB, "the whole quality report"),
        sa.CheckConstraint(
            "least(bytes, rows_kept, rows_duplicate, rows_rejected, missing_days) >= 0", "bronze_quality_not_negative"
        ),
        sa.CheckConstraint("rows_kept + rows_duplicate + rows_rejected = rows_read", "bronze_quality_rows_add_up"),
        schema=SCHEMA,
        comment="One row per year: what came in as bronze and what silver kept of it",
    )
    op.create_table(
        "runs",
        key("run_id", sa.Text, "identifier of the run"),
        needed("year", sa.SmallInteger, "calendar year that the run worked on"),
        optional("code_version", sa.Text, "release that ran"),
        optional("params_hash", sa.Text, "the detectors' settings"),
        sa.Column("started", sa.DateTime(timezone=True), comment="start of the run"),
        sa.Column(
            "ended", sa.DateTime(timezone=True), comment="end of the run; one that failed or was killed has no row"
        ),
        sa.Column("rows", JSONB, comment="rows in and out per step"),
        sa.CheckConstraint("ended >= started", "runs_end_after_start"),
        schema=SCHEMA,
        comment="One row per run of a year",
    )
    # A year is written together and its rows stay together, so block ranges find it with next to no index to keep up.
    # Flagged days are few, and dashboards list them.
    brin: dict[str, Any] = {"postgresql_using": "brin", "postgresql_with": {"autosummarize": "on"}}
    op.create_index("airport_days_fl_date", "airport_days", ["fl_date"], schema=SCHEMA, **brin)
    op.create_index("anomalies_fl_date_detector", "anomalies", ["fl_date", "detector"], schema=SCHEMA, **brin)
    op.create_index(
        "anomalies_flagged", "anomalies", ["detector", "fl_date"], schema=SCHEMA, postgresql_where=sa.text("is_anomaly")
    )
    # Default privileges let loaders write whatever the owner makes; the revision is not theirs to change.
    op.execute("REVOKE INSERT, UPDATE, DELETE ON flights.alembic_version FROM flights_loader")


def downgrade() -> None:
    """Drop the tables and the view over them."""
    op.execute("DROP VIEW IF EXISTS flights.agg_dep_delay_by_date")
    for table in ("runs", "bronze_quality", "anomalies", "airport_days"):
        op.drop_table(table, schema=SCHEMA)
