"""Print the tables of silver and gold for Athena, as Hive DDL, from the columns in dags/utils/schemas.py.

    PYTHONPATH=dags .venv/bin/python infra-notes/lakehouse/athena.py s3://BUCKET/lake

Quality reports are not included: they are multi-line JSON, which Athena cannot read. The warehouse has them.
"""

from __future__ import annotations

import sys

import pyarrow as pa

from utils import schemas
from utils.detectors import NAMES
from utils.storage import keys

DATABASE = "delaywatch"
YEAR = 2018  # any year; only the form of its keys matters
TABLES = {
    "flights": (keys.silver_folder(YEAR), schemas.SILVER),
    "rejected": (keys.rejected_key(YEAR), schemas.REJECTED),
    "airport_days": (keys.airport_days_key(YEAR), schemas.AIRPORT_DAYS),
    "anomalies": (keys.anomalies_key(YEAR, NAMES[0]), schemas.ANOMALIES),
    "anomaly_reasons": (keys.explanation_key(YEAR, "anomaly_reasons"), schemas.ANOMALY_REASONS),
    "anomaly_factors": (keys.explanation_key(YEAR, "anomaly_factors"), schemas.ANOMALY_FACTORS),
    "events": (keys.explanation_key(YEAR, "events"), schemas.EVENTS),
    "event_days": (keys.explanation_key(YEAR, "event_days"), schemas.EVENT_DAYS),
}  # name of the table: key of one of its files, columns
TYPES = {
    pa.bool_(): "boolean",
    pa.date32(): "date",
    pa.float32(): "float",
    pa.int16(): "smallint",
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.string(): "string",
    schemas.CODE: "string",
}
# The values in the names of folders, so that new years need no registration.
PARTITIONS = {
    "detector": ("string", {"type": "enum", "values": ",".join(sorted(NAMES))}),
    "year": ("int", {"type": "integer", "range": "1987,2100"}),
}


def table(name: str, root: str) -> str:
    """Return the statement that creates the table for the lake at `root`."""
    key, schema = TABLES[name]
    folders = key.split("/")[:-1]
    partitions = [folder.partition("=")[0] for folder in folders if "=" in folder]
    location = "/".join(folder for folder in folders if "=" not in folder)
    columns = ",\n".join(f"  `{field.name}` {TYPES[field.type]}" for field in schema)
    by = ", ".join(f"`{column}` {PARTITIONS[column][0]}" for column in partitions)
    properties = {"projection.enabled": "true"}
    for column in partitions:
        properties |= {f"projection.{column}.{key}": value for key, value in PARTITIONS[column][1].items()}
    property_lines = ",\n".join(f"  '{key}' = '{value}'" for key, value in properties.items())
    return (
        f"CREATE EXTERNAL TABLE IF NOT EXISTS {DATABASE}.{name} (\n{columns}\n)\nPARTITIONED BY ({by})\n"
        f"STORED AS PARQUET\nLOCATION '{root}/{location}/'\nTBLPROPERTIES (\n{property_lines}\n);"
    )


def main() -> None:
    """Print all statements for the lake on the command line."""
    if len(sys.argv) != 2 or not sys.argv[1].startswith("s3://"):
        sys.exit("The lake is missing; run: athena.py s3://BUCKET/PREFIX, with the value of DELAYWATCH_LAKE.")
    root = sys.argv[1].rstrip("/")
    statements = [f"CREATE DATABASE IF NOT EXISTS {DATABASE};", *(table(name, root) for name in TABLES)]
    sys.stdout.write("\n\n".join(statements) + "\n")


if __name__ == "__main__":
    main()
