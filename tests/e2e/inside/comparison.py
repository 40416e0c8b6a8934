"""Compare gold in S3 with the rows of Postgres, value by value, and print the differences as JSON.

The Python of the scheduler runs it. It reads both sides without `utils`, by the keys and names of the data contract.
"""

from __future__ import annotations

import io
import json
import struct
import sys
from pathlib import Path
from typing import Any

import boto3
import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq

YEAR = 2013
GOLD = "03_gold/airport_days/year=2013/airport_days.parquet"
VERDICTS = "03_gold/anomalies/"
S3 = boto3.client("s3")

Row = dict[str, Any]


def parquet(key: str) -> pa.Table:
    body = S3.get_object(Bucket="delaywatch", Key=key)["Body"].read()
    return pq.read_table(io.BytesIO(body))  # not by its path, which would add columns


def verdicts() -> pa.Table:
    """Return the verdicts of the year with their detector, which is the name of the folder."""
    keys = [one["Key"] for one in S3.list_objects_v2(Bucket="delaywatch", Prefix=VERDICTS)["Contents"]]
    tables = []
    for key in keys:
        detector = key.removeprefix(VERDICTS + "detector=").partition("/")[0]
        table = parquet(key)
        tables.append(table.append_column("detector", pa.array([detector] * table.num_rows)))
    return pa.concat_tables(tables)


def index_by(rows: list[Row], key: tuple[str, ...]) -> dict[str, Row]:
    by_key = {" ".join(str(row[name]) for name in key): row for row in rows}
    assert len(by_key) == len(rows), "a key occurs twice"
    return by_key


def report(table: str, gold: pa.Table, key: tuple[str, ...]) -> dict[str, Any]:
    """Return the number of rows and the columns of each side, and the cells that differ."""
    singles = {field.name for field in gold.schema if pa.types.is_float32(field.type)}
    with (
        psycopg2.connect(Path("/run/delaywatch/warehouse_url").read_text()) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(f"SELECT * FROM flights.{table} WHERE extract(year FROM fl_date) = %s", [YEAR])
        columns = [column.name for column in cursor.description or ()]
        rows = [dict(zip(columns, values, strict=True)) for values in cursor]
    for row in rows:  # Postgres sends a real as its shortest text, which is another double
        row.update(
            {name: struct.unpack("f", struct.pack("f", row[name]))[0] for name in singles if row[name] is not None}
        )
    in_gold, in_postgres = index_by(gold.to_pylist(), key), index_by(rows, key)
    differing = [
        f"{where} {name}: {in_gold[where].get(name)!r} in gold, {in_postgres[where].get(name)!r} in Postgres"
        for where in sorted(in_gold.keys() & in_postgres.keys())
        for name in sorted({*gold.column_names, *columns})
        if in_gold[where].get(name) != in_postgres[where].get(name)
    ]
    return {
        "rows of gold": len(in_gold),
        "rows of postgres": len(in_postgres),
        "columns of gold": sorted(gold.column_names),
        "columns of postgres": sorted(columns),
        "keys of one side": sorted(in_gold.keys() ^ in_postgres.keys())[:10],
        "differing values": differing[:10],
    }


def main() -> None:
    tables = {
        "airport_days": report("airport_days", parquet(GOLD), ("origin", "fl_date")),
        "anomalies": report("anomalies", verdicts(), ("origin", "fl_date", "detector")),
    }
    sys.stdout.write(json.dumps(tables))


if __name__ == "__main__":
    main()
