"""Columns and types of every layer and of every warehouse table, and the check that a table has them."""

from __future__ import annotations

import pyarrow as pa

from utils.errors import DelaywatchError

CODE = pa.dictionary(pa.int32(), pa.string())

# One row of the Kaggle files and of silver: (bronze name, type in silver). Times are local HHMM from 0 to 2400, delays
# and durations are minutes, the distance is in miles. The silver name is the bronze name in lower case.
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
HHMM_COLUMNS = ("crs_dep_time", "dep_time", "wheels_off", "wheels_on", "crs_arr_time", "arr_time")
NATURAL_KEY = ("fl_date", "op_carrier", "op_carrier_fl_num", "origin", "dest", "crs_dep_time")
EMPTY_COLUMN = "Unnamed: 27"  # the Kaggle files end each line with a comma; pandas gave that column this name

SILVER = pa.schema([(name.lower(), kind) for name, kind in FLIGHT_COLUMNS])

REJECTED = pa.schema(
    [
        pa.field("line", pa.int64(), nullable=False),  # 1 is the header
        pa.field("reason", pa.string(), nullable=False),
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

DIRECTIONS = ("late", "early", "closure")  # of a flagged day; null on the others
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

# The warehouse holds gold as it is, with the detector as a column instead of a folder.
WAREHOUSE_ANOMALIES = ANOMALIES.insert(2, pa.field("detector", pa.string(), nullable=False))

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


def check(table: pa.Table, schema: pa.Schema, what: str) -> pa.Table:
    """Return `table` unchanged if it has exactly the columns, types and non-null promises of `schema`.

    Raises DelaywatchError naming `what` and the first column that differs.
    """
    if table.column_names != schema.names:
        missing = sorted(set(schema.names) - set(table.column_names))
        extra = sorted(set(table.column_names) - set(schema.names))
        raise DelaywatchError(
            f"{what} does not have the expected columns (missing: {', '.join(missing) or 'none'}; "
            f"unexpected: {', '.join(extra) or 'none'}); rebuild it from the layer below."
        )
    for field in schema:
        column = table[field.name]
        if column.type != field.type:
            raise DelaywatchError(f"{what}: column {field.name} is {column.type}, expected {field.type}; rebuild it.")
        if not field.nullable and column.null_count:
            raise DelaywatchError(
                f"{what}: column {field.name} has {column.null_count} empty values and may have none."
            )
    return table
