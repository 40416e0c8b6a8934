"""Gold in S3 against the rows of Postgres, value by value; prints what differs as JSON. The scheduler's Python runs it.

It reads both sides itself and by the keys and names that the data contract promises, so that a fault of `utils` shows.
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
    """The year's verdicts of all detectors, with the detector of each, which the name of its folder tells."""
    keys = [one["Key"] for one in S3.list_objects_v2(Bucket="delaywatch", Prefix=VERDICTS)["Contents"]]
    tables = []
    for key in keys:
        detector = key.removeprefix(VERDICTS + "detector=").partition("/")[0]
        table = parquet(key)
        tables.append(table.append_column("detector", pa.array([detector] * table.num_rows)))
    return pa.concat_tables(tables)


def by_key(rows: list[Row], key: tuple[str, ...]) -> dict[str, Row]:
    found = {" ".join(str(row[name]) for name in key): row for row in rows}
    assert len(found) == len(rows), "a key is there twice"
    return found


def report(table: str, gold: pa.Table, key: tuple[str, ...]) -> dict[str, Any]:
    """How many rows each side has, the columns of each, and the cells that are not the same."""
    singles = {field.name for field in gold.schema if pa.types.is_float32(field.type)}
    with (
        psycopg2.connect(Path("/run/delaywatch/warehouse_url").read_text()) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(f"SELECT * FROM flights.{table} WHERE extract(year FROM fl_date) = %s", [YEAR])
        columns = [column.name for column in cursor.description or ()]
        rows = [dict(zip(columns, values, strict=True)) for values in cursor]
    for row in rows:  # of a real Postgres sends the shortest text that means it, which is another double
        row.update(
            {name: struct.unpack("f", struct.pack("f", row[name]))[0] for name in singles if row[name] is not None}
        )
    there, here = by_key(gold.to_pylist(), key), by_key(rows, key)
    differing = [
        f"{where} {name}: {there[where].get(name)!r} in gold, {here[where].get(name)!r} in Postgres"
        for where in sorted(there.keys() & here.keys())
        for name in sorted({*gold.column_names, *columns})
        if there[where].get(name) != here[where].get(name)
    ]
    return {
        "rows of gold": len(there),
        "rows of postgres": len(here),
        "columns of gold": sorted(gold.column_names),
        "columns of postgres": sorted(columns),
        "keys of one side": sorted(there.keys() ^ here.keys())[:10],
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
