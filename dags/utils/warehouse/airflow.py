"""How the last run of our DAG ended, as Airflow's own database has it. Reads one table that is not ours, writes none.

The columns are those of Airflow 3.3. A run that failed is in no table of the warehouse: it never got so far.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from utils.warehouse.postgres import Postgres

DAG_ID = "flight_anomalies"
LAST_ENDED = """
    SELECT run_id, state, end_date FROM public.dag_run
    WHERE dag_id = %s AND state IN ('success', 'failed') AND end_date IS NOT NULL
    ORDER BY end_date DESC LIMIT 1
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
    server = Postgres(url, connect_timeout_s=5, lock_timeout_s=5)
    try:
        with server.transaction("reading the runs of Airflow") as cursor:
            cursor.execute(LAST_ENDED, [DAG_ID])
            found = cursor.fetchone()
    finally:
        server.engine.dispose()
    return Ended(found[0], found[1] == "success", found[2]) if found else None
