"""# Downloads the year that has ended from the Bureau of Transportation Statistics into bronze

The DAG is paused until you switch it on, because it needs the internet. From 1 January on it checks daily whether the
Bureau has published December, about two months after its end, and then downloads the year. The scheduled run of
`flight_anomalies` that waits for the file continues within the hour. A year that is already in bronze stays unchanged.

**Fetch one year by hand**: press *Trigger* and set `year`, which is required; the run fails at once if the year is not
published. It replaces a file that an earlier fetch wrote. With `replace`, it also replaces a file that a person put
there, a file of another source, and a file with more flights. `source`: `bts`, or `kaggle`, which has 2009 to 2018 and
needs your token.

**Places**: the lake as in `flight_anomalies`; `DELAYWATCH_BTS_URL`, `DELAYWATCH_KAGGLE_URL`,
`DELAYWATCH_KAGGLE_TOKEN_FILE`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow import sdk

from orchestration import connections, notifiers, run_year
from orchestration.retries import DEFAULT_ARGS
from utils import sources
from utils.settings import Settings

DAY_S = 24 * 3600


def _run() -> tuple[Settings, int, str, bool]:
    """Return settings, year and source of the run, and True if it is scheduled and must not replace a file."""
    context = sdk.get_current_context()
    settings = connections.settings(needs_warehouse=False)
    is_scheduled = context["dag_run"].run_type == "scheduled"
    return settings, run_year.require(context, settings), context["params"]["source"], is_scheduled


class WaitForPublication(sdk.BaseSensorOperator):
    """In a scheduled run, check daily if the year is published; other runs continue and fail if it is not."""

    def poke(self, context: Any) -> bool:  # noqa: D102
        from utils.sources import fetch, record

        settings, year, source, is_scheduled = _run()
        return not is_scheduled or record.has_whole_year(settings, year) or fetch.is_published(settings, year, source)


with sdk.DAG(
    "fetch_bronze",
    description="Download one year of flights from the Bureau of Transportation Statistics or Kaggle into bronze",
    tags=["flights", "download"],
    schedule=sdk.CronDataIntervalTimetable("0 0 1 1 *", timezone="UTC"),
    start_date=datetime(1987, 1, 1, tzinfo=UTC),
    catchup=False,
    is_paused_upon_creation=True,
    max_active_runs=4,  # a run that waits must not block other runs
    params={
        "year": run_year.field(
            "Year to download. Required in a single run, empty in a backfill. Choose one of the list or type another."
        ),
        "source": sdk.Param(
            "bts",
            description="bts: Bureau of Transportation Statistics, no login. kaggle: 2009 to 2018, needs your token.",
            type="string",
            enum=list(sources.SOURCES),
        ),
        "replace": sdk.Param(False, type="boolean", description="Replace a file that this fetch would otherwise keep."),
    },
    default_args=DEFAULT_ARGS,
    on_failure_callback=notifiers.RunFailed(),
    doc_md=__doc__,
):
    wait_for_publication = WaitForPublication(
        task_id="wait_for_publication",
        doc_md=WaitForPublication.__doc__,
        mode="reschedule",
        poke_interval=DAY_S,
        timeout=180 * DAY_S,
    )

    @sdk.task(task_id="fetch")
    def fetch_year() -> str:
        """Download the year and write it to bronze atomically."""
        from utils.pipeline import refine
        from utils.sources import fetch, record

        settings, year, source, is_scheduled = _run()
        if is_scheduled and record.has_whole_year(settings, year):
            return refine.bronze_key(settings, year)
        replace = sdk.get_current_context()["params"]["replace"]
        return fetch.into_bronze(settings, year, source, replace=replace)

    wait_for_publication >> fetch_year()
