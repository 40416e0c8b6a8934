"""# Deletes old logs, plots, silver flights, and old runs of Airflow once a week

`DELAYWATCH_KEEP_LOGS_DAYS`, `DELAYWATCH_KEEP_PLOTS_YEARS` and `DELAYWATCH_KEEP_SILVER_YEARS` set how much is kept. If
they are empty, a run deletes only parts of silver that no manifest has named for 7 days: a changed year leaves its
earlier parts in a bucket. Bronze and gold are always kept, and a run of a year creates its silver and plots again.
`python -m utils sweep --dry-run` lists what a run would delete. With a limit, a run waits while a step of a year is
running.

`airflow db clean` deletes runs, tasks and log entries in Airflow's own database that are older than
`DELAYWATCH_KEEP_RUNS_DAYS`, 365 days by default and at least 200, because a run may wait for its file for 180 days. The
last scheduled run of each DAG is kept.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow import sdk

from orchestration import connections, metadata, notifiers, quiet
from orchestration.retries import DEFAULT_ARGS
from utils.settings import WatchSettings
from utils.storage.keys import SITE_FOLDER


class WaitForQuiet(sdk.BaseSensorOperator):
    """Wait until no step of a year is running; skip the wait if no setting limits how much is kept."""

    def poke(self, context: Any) -> bool:  # noqa: D102
        if not WatchSettings.from_environment().has_limit:
            return True
        return quiet.is_quiet(context, "flight_anomalies", "refresh_scores")


with sdk.DAG(
    "retention",
    description="Delete unused parts of silver, and logs, plots and flights beyond the limits in DELAYWATCH_KEEP_*",
    tags=["maintenance"],
    schedule=sdk.CronTriggerTimetable("30 3 * * 0", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    on_failure_callback=notifiers.RunFailed(),
    doc_md=__doc__,
):
    wait_for_quiet = WaitForQuiet(
        task_id="wait_for_quiet",
        doc_md=WaitForQuiet.__doc__,
        mode="reschedule",
        poke_interval=300,  # seconds
        timeout=24 * 3600,
    )

    @sdk.task
    def remove() -> list[str]:
        """Delete unused parts of silver and data that is older than the settings keep.

        Return what was deleted, and what was kept and why. Without their plots, pages are written again.
        """
        from utils.monitoring import retention
        from utils.pipeline import site

        settings = connections.settings(needs_warehouse=False)
        groups = retention.sweep(settings, WatchSettings.from_environment(), datetime.now(UTC))
        if any(key.startswith(SITE_FOLDER) for group in groups for key in group.keys):
            site.write_site(connections.settings())
        return [str(group) for group in groups]

    @sdk.task
    def clean_metadata() -> None:
        """Delete old runs and other old rows of Airflow's own database."""
        days = WatchSettings.from_environment().keep_runs_days
        metadata.clean(datetime.now(UTC) - timedelta(days=days))

    wait_for_quiet >> remove()
    clean_metadata()
