"""Health check: this container's DAG processor has a heartbeat, and the DAG was imported without an error.

`airflow jobs check` takes seconds of CPU for the first half; this queries the same tables in a tenth of a second.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import psycopg2

DAG_ID = "flight_anomalies"
HEARTBEAT = """
    SELECT 1 FROM job
    WHERE job_type = 'DagProcessorJob' AND state = 'running' AND hostname = %s
      AND latest_heartbeat > now() - interval '60 s'
"""
PARSED = "SELECT 1 FROM dag WHERE dag_id = %s AND NOT is_stale"
BROKEN = "SELECT filename, stacktrace FROM import_error ORDER BY filename LIMIT 1"


def fault() -> str | None:
    """Return the fault as a sentence, or None."""
    url = Path("/run/delaywatch/database_url").read_text().replace("postgresql+psycopg2", "postgresql", 1)
    with psycopg2.connect(url, connect_timeout=5) as connection, connection.cursor() as cursor:
        cursor.execute(HEARTBEAT, [socket.gethostname()])
        if not cursor.fetchone():
            return "The DAG processor has had no heartbeat for a minute; see its log."
        cursor.execute(BROKEN)
        if broken := cursor.fetchone():
            return f"{broken[0]} cannot be imported: {str(broken[1]).strip().splitlines()[-1]}"
        cursor.execute(PARSED, [DAG_ID])
        return (
            None
            if cursor.fetchone()
            else f"The DAG {DAG_ID} has not been parsed yet; wait, or see the log of the DAG processor."
        )


if __name__ == "__main__":
    sys.exit(fault())
