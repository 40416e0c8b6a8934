"""# The flights of the year that has ended, from the Bureau of Transportation Statistics into bronze

From 1 January on it asks once a day whether December is published, which takes some two months, and then fetches the
year; the run of `flight_anomalies` that waits for the file goes on by itself within the hour. A year that is in bronze
already is left alone. Paused until somebody switches it on, because it asks a host outside.

**One year by hand**: press Trigger, set `year`; the run fails at once if the year is not published. It replaces a year
that an earlier fetch wrote; a file of another source or of a person, or one with more flights, only with `replace`.
`source`: `bts`, or `kaggle`, which has 2009 to 2018 and asks for your token. **Places**: the lake as in
`flight_anomalies`; `DELAYWATCH_BTS_URL`, `DELAYWATCH_KAGGLE_URL`, `DELAYWATCH_KAGGLE_TOKEN_FILE`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow import sdk

import alerts
import connections
from retries import RetryWhatMayPass
from utils import fetch, pipeline
from utils.settings import Settings

DAY_S = 24 * 3600


def _run() -> tuple[Settings, int, str, bool]:
    """Return the run's settings, its year, its source, and whether it runs by schedule and must replace nothing."""
    context = sdk.get_current_context()
    run, params = context["dag_run"], context["params"]
    year = pipeline.year_of_run(params["year"], context.get("data_interval_start"), run.run_after)
    return connections.settings(needs_warehouse=False), year, params["source"], run.run_type == "scheduled"


with sdk.DAG(
    "fetch_bronze",
    schedule=sdk.CronDataIntervalTimetable("0 0 1 1 *", timezone="UTC"),
    start_date=datetime(1987, 1, 1, tzinfo=UTC),
    catchup=False,
    is_paused_upon_creation=True,
    max_active_runs=4,  # a run that waits must not hold up the others
    params={
        "year": sdk.Param(None, type=["null", "integer"], minimum=1987, maximum=2100),
        "source": sdk.Param("bts", type="string", enum=list(fetch.SOURCES)),
        "replace": sdk.Param(False, type="boolean", description="Replace a file that this fetch would otherwise keep."),
    },
    default_args={
        "retries": 3,
        "retry_delay": timedelta(minutes=10),
        "retry_policy": RetryWhatMayPass(),
        "on_failure_callback": alerts.note_failure,
    },
    on_failure_callback=alerts.RunFailed(),
    doc_md=__doc__,
):

    @sdk.task.sensor(mode="reschedule", poke_interval=DAY_S, timeout=180 * DAY_S)
    def wait_for_publication() -> bool:
        """Whether the year is published, asked daily on a scheduled run; any other run goes on and finds out."""
        settings, year, source, is_scheduled = _run()
        return not is_scheduled or fetch.has_whole_year(settings, year) or fetch.is_published(settings, year, source)

    @sdk.task(task_id="fetch")
    def fetch_year() -> str:
        """Put the year into bronze, at once and whole."""
        settings, year, source, is_scheduled = _run()
        if is_scheduled and fetch.has_whole_year(settings, year):
            return pipeline.bronze_key(settings, year)
        replace = sdk.get_current_context()["params"]["replace"]
        return fetch.into_bronze(settings, year, source, replace=replace)

    wait_for_publication() >> fetch_year()
