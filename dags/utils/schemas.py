"""Arrow schemas of every layer and warehouse table, and the check of a table against its schema."""

from __future__ import annotations

import pyarrow as pa

from utils.errors import InvalidInput

CODE = pa.dictionary(pa.int32(), pa.string())

# Columns of the Kaggle files and of silver: (bronze name, type in silver). Times are local HHMM from 0 to 2400, delays
# and durations are minutes, the distance is in miles. The silver name is the bronze name in lower case.
# `rules.COLUMN_RULES` has the valid values of each column.
FLIGHT_COLUMNS: tuple[tuple[str, pa.DataType], ...] = (
    ("FL_DATE", pa.date32()),
    ("OP_CARRIER", CODE),
    ("OP_CARRIER_FL_NUM", pa.int32()),
    ("ORIGIN", CODE),
    ("DEST", CODE),
    ("CRS_DEP_TIME", pa.int16()),
    ("DEP_TIME", pa.int16()),
    ("DEP_DELAY", pa.int16()),
    ("TAXI_OUT", pa.int16()),
    ("WHEELS_OFF", pa.int16()),
    ("WHEELS_ON", pa.int16()),
    ("TAXI_IN", pa.int16()),
    ("CRS_ARR_TIME", pa.int16()),
    ("ARR_TIME", pa.int16()),
    ("ARR_DELAY", pa.int16()),
    ("CANCELLED", pa.bool_()),
    ("CANCELLATION_CODE", CODE),
    ("DIVERTED", pa.bool_()),
    ("CRS_ELAPSED_TIME", pa.int16()),
    ("ACTUAL_ELAPSED_TIME", pa.int16()),
    ("AIR_TIME", pa.int16()),
    ("DISTANCE", pa.int16()),
    ("CARRIER_DELAY", pa.int16()),
    ("WEATHER_DELAY", pa.int16()),
    ("NAS_DELAY", pa.int16()),
    ("SECURITY_DELAY", pa.int16()),
    ("LATE_AIRCRAFT_DELAY", pa.int16()),
)
NATURAL_KEY = ("fl_date", "op_carrier", "op_carrier_fl_num", "origin", "dest", "crs_dep_time")
EMPTY_COLUMN = "Unnamed: 27"  # pandas' name for the empty column after the comma that ends each line of Kaggle's files

SILVER = pa.schema([(name.lower(), kind) for name, kind in FLIGHT_COLUMNS])

REJECTED = pa.schema(
    [
        pa.field("line", pa.int64(), nullable=False),  # 1 is the header
        pa.field("reason", pa.string(), nullable=False),  # the same text for all rows with the same fault
        pa.field("column", pa.string(), nullable=False),  # empty if the whole line is wrong
        pa.field("value", pa.string(), nullable=False),  # quoted, its first 40 characters
        pa.field("raw", pa.string(), nullable=False),
    ]
)

AIRPORT_DAYS = pa.schema(
    [
        pa.field("origin", pa.string(), nullable=False),
        pa.field("fl_date", pa.date32(), nullable=False),
        pa.field("scheduled", pa.int32(), nullable=False),
        pa.field("departed", pa.int32(), nullable=False),
        pa.field("cancelled", pa.int32(), nullable=False),
        pa.field("diverted", pa.int32(), nullable=False),
        pa.field("mean_dep_delay_min", pa.float32()),
        pa.field("std_dep_delay_min", pa.float32()),
        pa.field("delayed_15", pa.int32(), nullable=False),  # departed 15 minutes late or more
        pa.field("delayed_60", pa.int32(), nullable=False),  # departed 60 minutes late or more
        pa.field("disrupted", pa.int32(), nullable=False),  # departed more than 60 minutes late, or cancelled
        pa.field("mean_effective_delay_min", pa.float32()),
        pa.field("std_effective_delay_min", pa.float32()),
        pa.field("max_dep_delay_min", pa.int16()),
        pa.field("carrier_min", pa.int32(), nullable=False),
        pa.field("weather_min", pa.int32(), nullable=False),
        pa.field("nas_min", pa.int32(), nullable=False),
        pa.field("security_min", pa.int32(), nullable=False),
        pa.field("late_aircraft_min", pa.int32(), nullable=False),
        pa.field("cancelled_carrier", pa.int32(), nullable=False),
        pa.field("cancelled_weather", pa.int32(), nullable=False),
        pa.field("cancelled_nas", pa.int32(), nullable=False),
        pa.field("cancelled_security", pa.int32(), nullable=False),
    ]
)

DIRECTIONS = ("late", "early", "closure")  # of a flagged day; null on other days
SEVERITIES = ("none", "mild", "strong", "extreme")  # stored as 0, 1, 2, 3

ANOMALIES = pa.schema(
    [
        pa.field("origin", pa.string(), nullable=False),
        pa.field("fl_date", pa.date32(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),  # the column of AIRPORT_DAYS that was judged
        pa.field("observed", pa.float32()),
        pa.field("expected", pa.float32()),
        pa.field("lower", pa.float32()),
        pa.field("upper", pa.float32()),
        pa.field("score", pa.float32()),
        pa.field("is_anomaly", pa.bool_(), nullable=False),
        pa.field("direction", pa.string()),
        pa.field("severity", pa.int16(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("params_hash", pa.string(), nullable=False),
    ]
)

# The warehouse has the columns of gold, and the detector as a column instead of a folder.
WAREHOUSE_ANOMALIES = ANOMALIES.insert(2, pa.field("detector", pa.string(), nullable=False))

# Reasons: one row per day that the published detector flags.
ANOMALY_REASONS = pa.schema(
    [
        pa.field("origin", pa.string(), nullable=False),
        pa.field("fl_date", pa.date32(), nullable=False),
        pa.field("direction", pa.string(), nullable=False),
        pa.field("severity", pa.int16(), nullable=False),
        pa.field("scheduled", pa.int32(), nullable=False),
        pa.field("effective_delay_min", pa.float32()),
        pa.field("expected_effective_delay_min", pa.float32()),
        pa.field("disrupted_share", pa.float32()),  # of the scheduled flights, 0 to 1
        pa.field("expected_disrupted_share", pa.float32()),
        pa.field("delay_min", pa.float32(), nullable=False),  # sum over late departures, minutes; early ones count 0
        pa.field("usual_delay_min", pa.float32()),  # for as many flights on days that are not flagged
        pa.field("excess_delay_min", pa.float32()),
        pa.field("cancelled", pa.int32(), nullable=False),
        pa.field("usual_cancelled", pa.float32()),
        pa.field("excess_cancelled", pa.float32()),
        pa.field("top_cause", pa.string()),  # the name with the largest excess; null if none exceeds
        pa.field("top_carrier", pa.string()),
        pa.field("top_destination", pa.string()),
        pa.field("sentence", pa.string(), nullable=False),
    ]
)

FACTOR_DIMENSIONS = ("cause", "carrier", "destination")
CAUSES = ("carrier", "weather", "nas", "security", "late_aircraft")
# Delay and cancellations of a flagged day by cause, carrier and destination, against the airport's usual mix.
ANOMALY_FACTORS = pa.schema(
    [
        pa.field("origin", pa.string(), nullable=False),
        pa.field("fl_date", pa.date32(), nullable=False),
        pa.field("dimension", pa.string(), nullable=False),  # of FACTOR_DIMENSIONS
        pa.field("name", pa.string(), nullable=False),  # of CAUSES, or a code of a carrier or of an airport
        pa.field("scheduled", pa.int32()),  # null for a cause
        pa.field("delay_min", pa.float32()),  # null if the year does not report delay by cause
        pa.field("usual_delay_min", pa.float32()),
        pa.field("excess_delay_min", pa.float32()),
        pa.field("cancelled", pa.int32()),  # also null for late_aircraft, which has no cancellation code
        pa.field("usual_cancelled", pa.float32()),
        pa.field("excess_cancelled", pa.float32()),
    ]
)

EVENT_KINDS = ("delay", "closure", "mixed")
# One row per event: flagged days of near airports on the same or adjacent days.
EVENTS = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),  # first day and worst airport of that day: 20130208-LGA
        pa.field("name", pa.string(), nullable=False),  # 2013-02-08..09 north-east, 14 airports, closure
        pa.field("first_day", pa.date32(), nullable=False),
        pa.field("last_day", pa.date32(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),  # of EVENT_KINDS
        pa.field("airports", pa.int32(), nullable=False),
        pa.field("airport_days", pa.int32(), nullable=False),
        pa.field("severity", pa.int16(), nullable=False),  # the highest of its days
        pa.field("scheduled", pa.int32(), nullable=False),  # flights on its airport-days
        pa.field("cancelled", pa.int32(), nullable=False),
        pa.field("mean_effective_delay_min", pa.float32()),  # over those flights
        # Airport of its rarest day: the highest severity, then the highest score (once in N days).
        pa.field("worst_origin", pa.string(), nullable=False),
        pa.field("latitude", pa.float32()),  # centre, weighted by flights; degrees; null when no airport is known
        pa.field("longitude", pa.float32()),
    ]
)
EVENT_DAYS = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("origin", pa.string(), nullable=False),
        pa.field("fl_date", pa.date32(), nullable=False),
    ]
)

# Changed severities of the published detector on days that the warehouse had before. Only the warehouse has them.
VERDICT_CHANGES = pa.schema(
    [
        pa.field("origin", pa.string(), nullable=False),
        pa.field("fl_date", pa.date32(), nullable=False),
        pa.field("changed_at", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("old_severity", pa.int16(), nullable=False),  # index in SEVERITIES
        pa.field("new_severity", pa.int16(), nullable=False),
        pa.field("new_direction", pa.string()),  # null if the day is no longer flagged
    ]
)

OPINIONS = ("expected", "wrong", "right")
# People's opinions on airport-days. Only the warehouse has them.
FEEDBACK = pa.schema(
    [
        pa.field("origin", pa.string(), nullable=False),
        pa.field("fl_date", pa.date32(), nullable=False),
        pa.field("opinion", pa.string(), nullable=False),  # of OPINIONS
        pa.field("note", pa.string(), nullable=False),  # may be empty
        pa.field("author", pa.string(), nullable=False),
        pa.field("given_at", pa.timestamp("us", "UTC"), nullable=False),
    ]
)

BRONZE_QUALITY = pa.schema(
    [
        pa.field("year", pa.int16(), nullable=False),
        pa.field("bronze_key", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("rows_read", pa.int64(), nullable=False),
        pa.field("rows_kept", pa.int64(), nullable=False),
        pa.field("rows_duplicate", pa.int64(), nullable=False),
        pa.field("rows_rejected", pa.int64(), nullable=False),
        pa.field("missing_days", pa.int16(), nullable=False),
        pa.field("missing_months", pa.string(), nullable=False),  # "10" or "10,11", empty when none
        pa.field("doubled_months", pa.string(), nullable=False),
        pa.field("report", pa.string(), nullable=False),  # the whole quality report as JSON
    ]
)


def check(table: pa.Table, schema: pa.Schema, name: str) -> pa.Table:
    """Return `table` unchanged if its columns and types match `schema` and required columns have no nulls.

    name: the name of the table, for the message. Raises InvalidInput with the first column that differs.
    """
    if table.column_names != schema.names:
        missing = sorted(set(schema.names) - set(table.column_names))
        extra = sorted(set(table.column_names) - set(schema.names))
        raise InvalidInput(
            f"{name} does not have the expected columns (missing: {', '.join(missing) or 'none'}; "
            f"unexpected: {', '.join(extra) or 'none'}); rebuild it from the layer below."
        )
    for field in schema:
        column = table[field.name]
        if column.type != field.type:
            raise InvalidInput(f"{name}: column {field.name} is {column.type}, expected {field.type}; rebuild it.")
        if not field.nullable and column.null_count:
            raise InvalidInput(
                f"{name}: column {field.name} has {column.null_count} empty values but must not be empty; rebuild it."
            )
    return table
