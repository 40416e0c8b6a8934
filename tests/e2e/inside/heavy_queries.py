"""Send heavy queries to the warehouse with Superset's own login; print the SQLSTATE of each as JSON.

The Python of Superset runs it. A connection that stays open shows whether Postgres restarted.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg2

URL = Path("/run/delaywatch/warehouse_url").read_text().strip().replace("postgresql+psycopg2", "postgresql")
NUMBERS = (
    "(SELECT generate_series(1, 100000000) AS a) AS numbers"  # a subquery, so that Postgres does not store it first
)
QUERIES = {  # name: connections at once, statements
    "one long text": (16, "SELECT repeat('x', 300000000)"),
    "one long array": (16, f"SELECT array_length(array_agg(a), 1) FROM {NUMBERS}"),
    "a large hash table": (
        4,
        f"SET work_mem = '1GB'; SELECT count(*) FROM (SELECT DISTINCT md5(a::text) FROM {NUMBERS}) AS texts",
    ),
    "a large sort": (
        1,
        f"SELECT count(*) FROM (SELECT repeat(md5(a::text), 20) AS t FROM {NUMBERS} ORDER BY t) AS texts",
    ),
}


def sqlstate(statements: str) -> str:
    connection = psycopg2.connect(URL)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statements)
    except psycopg2.Error as error:
        return error.pgcode or "the connection was lost"
    finally:
        connection.close()
    return "00000"


def main() -> None:
    bystander = psycopg2.connect(URL)
    outcomes = {}
    for name, (connections, statements) in QUERIES.items():
        with ThreadPoolExecutor(connections) as pool:
            outcomes[name] = sorted(set(pool.map(sqlstate, [statements] * connections)))
    with bystander.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM flights.airport_days")
        (rows,) = cursor.fetchall()
    sys.stdout.write(json.dumps({"outcomes": outcomes, "rows of the bystander": rows[0]}))


if __name__ == "__main__":
    main()
