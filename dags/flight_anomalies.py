"""# One calendar year of flights, from the CSV in bronze to the published verdicts

**Start a year by hand**: put `2018.csv` or `2018.csv.gz` into `01_bronze/` of the lake, press *Trigger* and set `year`.
A run that is started by hand, by the API or by another DAG needs `year`; without it, or without the year's file, it
fails at once and lists the years in bronze. **Start many years**, one after the other because each is compared with the
year before, both ends included (`--reprocess-behavior completed` repeats years that have run):

    airflow backfill create --dag-id flight_anomalies --from-date 2009-01-01 --to-date 2018-01-01 --max-active-runs 1

**Scheduled runs** start on 1 January for the year that has ended and wait up to 180 days for its file. Scheduled runs
and backfills take the year of their data interval. With `DELAYWATCH_MONTHLY=1` this DAG has no schedule and no
backfills; `fetch_bronze` starts a run for each year whose file changed. One run is active at a time. It starts a run of
the next year if that was judged with other days of this year. `detectors` chooses detectors of
`detectors.yaml`; empty means all.

**When a step fails**, its log says what is wrong and what to do. Do it, then clear the failed task; the run continues
from there. A step replaces its whole partition or upserts on the key, so clearing is always safe. Faults of network,
disk or lock are retried three times within 15 minutes; faults of the file or of a parameter fail at once.

**Places**: lake `DELAYWATCH_LAKE`; warehouse the connection `warehouse`, else `DELAYWATCH_WAREHOUSE`; S3 the connection
`aws_default` (login, password; extra `region_name`, `endpoint_url`, `aws_session_token`), else `AWS_*` or the
role of the machine. `DELAYWATCH_SILVER_JOB` names a Glue job that runs the step `silver` with Spark.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow import sdk

from orchestration import connections, notifiers, run_year
from orchestration.retries import DEFAULT_ARGS
from utils import detectors
from utils.settings import Settings

IS_MONTHLY = run_year.is_monthly()
GOLD, WAREHOUSE = sdk.Asset("delaywatch_gold_airport_days"), sdk.Asset("delaywatch_warehouse_flights")
BACKOFF = {"retry_delay": timedelta(minutes=1), "retry_exponential_backoff": 2}
MAX_TIME = timedelta(hours=6)  # of one attempt; a year takes minutes, a server that stops answering would block forever


def _run(context: Any = None) -> tuple[Settings, int]:
    """Return the settings (Airflow's connections override the environment) and the year of a run."""
    settings = connections.settings()
    return settings, run_year.require(context or sdk.get_current_context(), settings)


def _announce(outlet: sdk.Asset, year: int) -> None:
    """Add the year to the asset event of the task."""
    sdk.get_current_context()["outlet_events"][outlet].extra = {"year": year}


class WaitForBronze(sdk.BaseSensorOperator):
    """Wait for the complete year's CSV in a scheduled run, require a CSV in other runs; return the detectors to run."""

    # Not @task.sensor, which logs a deprecation in every task: https://github.com/apache/airflow/pull/62746
    def poke(self, context: Any) -> sdk.PokeReturnValue:  # noqa: D102
        from utils.pipeline import inputs, refine
        from utils.sources.record import has_whole_year

        settings, year = _run(context)
        # A run that waits since before the switch to monthly runs must not block these.
        is_scheduled = context["dag_run"].run_type == "scheduled" and not IS_MONTHLY
        is_there = has_whole_year(settings, year) if is_scheduled else bool(refine.bronze_key(settings, year))
        return sdk.PokeReturnValue(is_there, inputs.detector_names(settings, context["params"]["detectors"]))


class RunNextYear(run_year.RunYear):
    """Run the next year if it was judged with other days of this year, which is its history."""

    def execute(self, context: Any) -> None:  # noqa: D102
        from utils.pipeline import status

        settings, year = _run(context)
        self.conf = {"year": year + 1} if status.has_old_history(settings, year + 1) else None
        super().execute(context)


with sdk.DAG(
    "flight_anomalies",
    description="One year of flights: from the CSV in bronze to verdicts in Postgres, plots and the site",
    tags=["flights", "detection"],
    schedule=None if IS_MONTHLY else sdk.CronDataIntervalTimetable("0 0 1 1 *", timezone="UTC"),
    start_date=datetime(1987, 1, 1, tzinfo=UTC),
    catchup=False,
    # 4: a run that waits for its file must not block other runs; a backfill has its own limit. 1: the run that
    # RunNextYear starts must not disturb another run of that year.
    max_active_runs=1 if IS_MONTHLY else 4,
    params={
        "year": run_year.field(
            "Year to process; its CSV must be in bronze. Required in a single run, empty in a backfill. Choose one of"
            " the list or type another."
        ),
        "detectors": sdk.Param(
            None,
            description="Detectors to run beside the published one, delaywatch. Leave empty to run all.",
            type=["null", "array"],
            items={"type": "string"},
            examples=list(detectors.NAMES),
        ),
    },
    default_args=DEFAULT_ARGS | BACKOFF | {"execution_timeout": MAX_TIME},
    on_failure_callback=notifiers.RunFailed(),
    doc_md=__doc__,
):
    wait_for_bronze = WaitForBronze(
        task_id="wait_for_bronze",
        doc_md=WaitForBronze.__doc__,
        mode="reschedule",
        poke_interval=3600,  # seconds
        timeout=180 * 24 * 3600,
    )

    if job_name := os.environ.get("DELAYWATCH_SILVER_JOB"):
        from orchestration.glue_job import SilverJob

        silver: Any = SilverJob(
            task_id="silver",
            job_name=job_name,
            run=_run,
            doc_md="Replace the year's silver, rejected rows and quality report from its CSV, in a run of a Glue job.",
        )
    else:

        @sdk.task(task_id="silver")
        def write_silver() -> str:
            """Replace the year's silver, rejected rows and quality report from its CSV, in one pass."""
            from utils.pipeline import refine

            return refine.write_silver(*_run())

        silver = write_silver()

    @sdk.task(outlets=[GOLD])
    def gold() -> str:
        """Replace the year's airport-days, computed from the sums that the silver step wrote."""
        from utils.pipeline import refine

        settings, year = _run()
        _announce(GOLD, year)
        return refine.write_gold(settings, year)

    @sdk.task(
        map_index_template="{{ task.op_kwargs['detector'] }}",
        # Airflow does not show the docstring of a mapped task.
        doc_md="Replace one detector's verdicts on every airport and day of the year.",
    )
    def detect(detector: str) -> str:  # noqa: D103
        from utils.pipeline import detect

        return detect.write_anomalies(*_run(), detector)

    @sdk.task
    def explain() -> str:
        """Replace reasons, factors and events of the published detector's flagged days."""
        from utils.pipeline import detect

        return detect.explain(*_run())

    @sdk.task(outlets=[WAREHOUSE])
    def upsert() -> str:
        """Upsert airport-days, verdicts, explanations and quality report in one transaction; skip equal rows."""
        from utils.pipeline import publish

        settings, year = _run()
        _announce(WAREHOUSE, year)
        return publish.upsert(settings, year)

    @sdk.task
    def plots() -> str:
        """Replace the year's two plots per airport."""
        from utils.pipeline import plots

        return plots.write_plots(*_run())

    @sdk.task(on_success_callback=notifiers.YearFinished(_run))
    def publish() -> str:
        """Write the pages that changed and the record of the run, if Postgres and gold have the same rows."""
        from utils.pipeline import publish

        run = sdk.get_current_context()["dag_run"]
        return publish.publish(*_run(), run.run_id, run.start_date or run.run_after)

    @sdk.task(retries=0)
    def clear_scratch() -> None:
        """Delete the files that an interrupted step of the year left in scratch space."""
        from utils.pipeline import refine

        if run_year.find(sdk.get_current_context()):  # a run without a year wrote no files
            refine.clear_scratch(*_run())

    verdicts = detect.expand(detector=wait_for_bronze.output)
    wait_for_bronze >> silver >> gold() >> verdicts
    published = publish()
    verdicts >> explain() >> upsert() >> plots() >> published >> clear_scratch().as_teardown()
    if IS_MONTHLY:
        published >> RunNextYear(task_id="run_next_year", doc_md=RunNextYear.__doc__)
