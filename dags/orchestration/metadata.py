"""Delete old rows of Airflow's own database with `airflow db clean`. Contains no DAG."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from datetime import datetime

from airflow.sdk.exceptions import AirflowSkipException

from utils.errors import Unavailable

# Airflow replaces these in a task, so that its code does not use the database. The command is Airflow's own.
BLOCKED = ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__CORE__SQL_ALCHEMY_CONN")
BLOCKED_VALUE = "airflow-db-not-allowed:///"
TIMEOUT_S = 3600

log = logging.getLogger(__name__)


def clean(before: datetime) -> None:
    """Delete rows older than `before`, without an archive, except the last scheduled run of each DAG.

    No filter by DAG: Airflow 3.3 fails with one (https://github.com/apache/airflow/issues/69030).

    Skips the task if the process has no connection to the database, as on MWAA. Raises Unavailable if the command
    fails.
    """
    environment = {name: value for name, value in os.environ.items() if name not in BLOCKED}
    has_other = any(f"{BLOCKED[0]}{kind}" in environment for kind in ("_CMD", "_SECRET"))
    if os.environ.get(BLOCKED[0]) == BLOCKED_VALUE and not has_other:
        raise AirflowSkipException(
            "This worker does not know Airflow's database; run `airflow db clean` where it does."
        )
    command = [sys.executable, "-m", "airflow", "db", "clean", "--clean-before-timestamp", before.isoformat()]
    ended = subprocess.run(
        [*command, "--skip-archive", "--yes", "--error-on-cleanup-failure"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    log.info("%s", ended.stdout)
    if ended.returncode:
        last = (ended.stderr.strip() or ended.stdout.strip() or "no output").splitlines()[-1]
        raise Unavailable(
            f"`airflow db clean` ended with {ended.returncode} ({last}); see the log above, and run the task again."
        )
