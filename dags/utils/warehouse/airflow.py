"""How the last run of our DAG ended and which is under way, as Airflow's own database has it, which is only read.

The columns are those of Airflow 3.3. A run that failed is in no table of the warehouse: it never got so far.
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
# A run that only waits for its file is running, too, for months.
UNDER_WAY = """
    SELECT run_id FROM public.dag_run JOIN public.task_instance AS task USING (dag_id, run_id)
    WHERE dag_id = %s AND dag_run.state = 'running' AND task.task_id = 'silver' AND task.state IS NOT NULL
    ORDER BY run_id LIMIT 1
"""


class Ended(NamedTuple):
    """A run that has ended; ended: with a timezone."""

    run_id: str
    is_well: bool
    ended: datetime


def last_ended(url: str) -> Ended | None:
    """The run that ended last, None when none has. url: of Airflow's database, as Airflow itself takes it.

    Raises DelaywatchError when it cannot be reached or is no database of Airflow.
    """
    found = _first(url, LAST_ENDED)
    return Ended(found[0], found[1] == "success", found[2]) if found else None


def under_way(url: str) -> str | None:
    """The name of a run that has begun with its year, None when there is none. As `last_ended` otherwise."""
    found = _first(url, UNDER_WAY)
    return str(found[0]) if found else None


def _first(url: str, question: str) -> tuple[Any, ...] | None:
    server = Postgres(url, connect_timeout_s=5, lock_timeout_s=5, variable="DELAYWATCH_AIRFLOW_DATABASE_FILE")
    try:
        with server.transaction("reading the runs of Airflow") as cursor:
            cursor.execute(question, [DAG_ID])
            return cursor.fetchone()
    finally:
        server.engine.dispose()
