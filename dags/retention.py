"""# Removes old logs, pictures and flights in silver, once a week

`DELAYWATCH_KEEP_LOGS_DAYS`, `DELAYWATCH_KEEP_PLOTS_YEARS` and `DELAYWATCH_KEEP_SILVER_YEARS` say how much stays;
nothing goes while they are empty. Bronze and gold never go, and what goes can be made again: a run of the year brings
it back. `python -m utils sweep --dry-run` shows what would go. It waits while a step of a year is under way.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow import sdk

import alerts
import connections
from retries import RetryWhatMayPass
from utils.watch_settings import WatchSettings

FOLLOWED = "flight_anomalies"
UNDER_WAY = ["scheduled", "queued", "running", "restarting", "up_for_retry", "deferred"]  # not what waits for a file

with sdk.DAG(
    "retention",
    schedule=sdk.CronTriggerTimetable("30 3 * * 0", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={
        "retries": 3,
        "retry_delay": timedelta(minutes=10),
        "retry_policy": RetryWhatMayPass(),
        "on_failure_callback": alerts.note_failure,
    },
    on_failure_callback=alerts.RunFailed(),
    doc_md=__doc__,
):

    @sdk.task.sensor(mode="reschedule", poke_interval=300, timeout=24 * 3600)  # seconds
    def wait_for_quiet() -> bool:
        """Wait until no step of a year is under way, if anything is ever to go."""
        if not WatchSettings.from_environment().removes_anything:
            return True
        return sdk.get_current_context()["ti"].get_ti_count(FOLLOWED, states=UNDER_WAY) == 0

    @sdk.task
    def remove() -> list[str]:
        """Remove what is older than the settings keep; the result is what went, and what had to stay and why."""
        from utils import sweep

        watch = WatchSettings.from_environment()
        if not watch.removes_anything:
            return []
        return [str(one) for one in sweep.sweep(connections.settings(needs_warehouse=False), watch, datetime.now(UTC))]

    wait_for_quiet() >> remove()
