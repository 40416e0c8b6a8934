"""# Downloads years of flights from the Bureau of Transportation Statistics into bronze and starts their runs

The DAG is paused until you switch it on, because it needs the internet.

**Once a year** (default): from 1 January on it checks daily whether the Bureau has published December, about two months
after its end, and then downloads the year. The scheduled run of `flight_anomalies` that waits for the file continues
within the hour. A year that is already in bronze stays unchanged.

**Once a month** (`DELAYWATCH_MONTHLY=1`): from the first day after a month on, it checks daily whether the Bureau has
published the month. Then it downloads the new and the revised months of the year, and those of the year before if
bronze has it from the Bureau. A month that is missing in between is a warning. A file that a person put there stays.
Backfills do the same for the month of their data interval.

**Fetch one year by hand**: press *Trigger* and set `year`, which is required; the run fails at once if the year is not
published. With `so_far`, it accepts a year of which not all months are published. It replaces a file that an earlier
fetch wrote. With `replace`, it also replaces a file that a person put there, a file of another source, and a file with
more flights. `source`: `bts`, or `kaggle`, which has 2009 to 2018 and needs your token.

**Runs**: the task `run_year` starts `flight_anomalies` for each year whose file changed, except in a yearly scheduled
run. The name of the new run begins with the year. If you clear `run_year`, the same run is repeated.

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

DAY_S = 24 * 3600
IS_MONTHLY = run_year.is_monthly()


def _is_automatic(context: Any) -> bool:
    """Return True if the run waits for its data interval; in a monthly DAG, backfills do so too."""
    return context["dag_run"].run_type in (run_year.INTERVAL_RUN_TYPES if IS_MONTHLY else ("scheduled",))


class WaitForPublication(sdk.BaseSensorOperator):
    """In a scheduled run, check daily if the year or month is published; other runs continue and fail if it is not.

    Returns the years to fetch, each with the SHA-256 of its current CSV, so that `fetch` can report a changed year
    even if it is interrupted and repeated.
    """

    def poke(self, context: Any) -> sdk.PokeReturnValue:  # noqa: D102
        from utils.sources import fetch, record

        settings = connections.settings(needs_warehouse=False)
        year, month = run_year.require(context, settings), 12
        years = [year]
        if _is_automatic(context):
            if IS_MONTHLY:
                years, month = record.years_to_update(settings, year), context["data_interval_start"].month
            elif record.has_whole_year(settings, year):
                years = []
            if years and not fetch.is_published(settings, year, context["params"]["source"], month=month):
                return sdk.PokeReturnValue(False)
        return sdk.PokeReturnValue(
            True, [{"year": each, "before": record.csv_sha256(settings, each)} for each in years]
        )


with sdk.DAG(
    "fetch_bronze",
    description="Download flights from the Bureau of Transportation Statistics or Kaggle into bronze and run the year",
    tags=["flights", "download"],
    schedule=sdk.CronDataIntervalTimetable("0 0 1 * *" if IS_MONTHLY else "0 0 1 1 *", timezone="UTC"),
    start_date=datetime(1987, 1, 1, tzinfo=UTC),
    catchup=False,
    is_paused_upon_creation=True,
    max_active_runs=12,  # a run that waits must not block other runs; seven monthly runs can wait at once
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
        "so_far": sdk.Param(
            False, type="boolean", description="Accept a year of which not all months are published; bts only."
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

    @sdk.task(
        task_id="fetch",
        map_index_template="{{ task.op_kwargs['year'] }}",
        doc_md="Download the year and write it to bronze atomically.",
    )
    def fetch_year(year: int, before: str | None) -> dict[str, int] | None:
        """Return the parameters of a run of the year, or None if `run_year` must be skipped."""
        from utils.sources import fetch, record

        context = sdk.get_current_context()
        settings, params = connections.settings(needs_warehouse=False), context["params"]
        is_automatic = _is_automatic(context)
        so_far = params["so_far"] or (is_automatic and IS_MONTHLY)
        fetch.into_bronze(settings, year, params["source"], so_far=so_far, replace=params["replace"])
        is_awaited = is_automatic and not IS_MONTHLY  # by the scheduled run of flight_anomalies
        is_changed = record.csv_sha256(settings, year) != before
        return {"year": year} if is_changed and not is_awaited else None

    @sdk.task_group(prefix_group_id=False)
    def each_year(year: int, before: str | None) -> None:
        """Fetch a year and run it. A year that fails does not stop the others."""
        changed: Any = fetch_year(year=year, before=before)
        # Not @task.short_circuit in front of it, which skips nothing in a mapped task group of Airflow 3.3.
        run_year.RunYear(
            task_id="run_year",
            doc_md="Run the year if its file changed and no scheduled run of flight_anomalies waits for it.",
            conf=changed,
            map_index_template="{{ task.trigger_run_id or 'no run' }}",
        )

    each_year.expand_kwargs(wait_for_publication.output)
