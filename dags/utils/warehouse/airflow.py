"""Read the last ended run and the current run of our DAG from Airflow's database, read-only.

The columns are those of Airflow 3.3. The warehouse does not record failed runs, so Airflow's database is needed.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from utils.warehouse.connection import Postgres

DAG_ID = "flight_anomalies"
LAST_ENDED = """
    SELECT run_id, state, end_date FROM public.dag_run
    WHERE dag_id = %s AND state IN ('success', 'failed') AND end_date IS NOT NULL
    ORDER BY end_date DESC LIMIT 1
"""
# `silver` has a state only after the wait for the file; a run that waits is `running` too, for months.
UNDER_WAY = """
    SELECT run_id FROM public.dag_run JOIN public.task_instance AS task USING (dag_id, run_id)
    WHERE dag_id = %s AND dag_run.state = 'running' AND task.task_id = 'silver' AND task.state IS NOT NULL
    ORDER BY run_id LIMIT 1
"""


class Ended(NamedTuple):
    """A run that has ended. ended: timezone-aware."""

    run_id: str
    is_well: bool
    ended: datetime


def last_ended(url: str) -> Ended | None:
    """Return the run that ended last, or None. url: of Airflow's database, in the form that Airflow accepts.

    Raises DelaywatchError if the database cannot be reached or is not Airflow's.
    """
    run = _first(url, LAST_ENDED)
    return Ended(run[0], run[1] == "success", run[2]) if run else None


def under_way(url: str) -> str | None:
    """Return the ID of a running run that has its file, or None. Arguments and errors: see `last_ended`."""
    run = _first(url, UNDER_WAY)
    return str(run[0]) if run else None


def _first(url: str, query: str) -> tuple[Any, ...] | None:
    server = Postgres(url, connect_timeout_s=5, lock_timeout_s=5, variable="DELAYWATCH_AIRFLOW_DATABASE_FILE")
    try:
        with server.transaction("reading the runs of Airflow") as cursor:
            cursor.execute(query, [DAG_ID])
            return cursor.fetchone()
    finally:
        server.engine.dispose()
