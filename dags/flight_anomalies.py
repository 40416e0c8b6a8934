"""# One calendar year of flights, from the CSV to the published verdicts

**Year**: the parameter `year`, else the year of the data interval (the run that starts by itself on 1 January 2027 is
for 2026). **Detectors**: empty means every detector of `detectors.yaml`.

**One year by hand**: put `2018.csv` or `2018.csv.gz` into `01_bronze/` of the lake, press Trigger, set `year`. **Many
years**, two at once, both ends included (`--reprocess-behavior completed` repeats those that have run):

    airflow backfill create --dag-id flight_anomalies --from-date 2009-01-01 --to-date 2018-01-01 --max-active-runs 2

A run that starts by itself waits up to 180 days for its file; any other fails at once and lists the years there are.
**When a step fails**, its log says in a sentence what is wrong and what to do. Do it, then clear the failed task; the
run goes on from there. A step replaces its whole partition or upserts on the key, so clearing is always safe. Faults of
network, disk or lock get three more tries within 15 minutes; faults of the file or of a parameter fail at once.

**Places**: lake `DELAYWATCH_LAKE`; warehouse the connection `warehouse`, else `DELAYWATCH_WAREHOUSE`; S3 the connection
`aws_default` (login, password; extra `region_name`, `endpoint_url`, `aws_session_token`), else `AWS_*` or the own role.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow import sdk

import alerts
import connections
from retries import RetryWhatMayPass
from utils import fetch, pipeline
from utils.settings import Settings

GOLD, WAREHOUSE = sdk.Asset("delaywatch_gold_airport_days"), sdk.Asset("delaywatch_warehouse_flights")
BACKOFF = {"retries": 3, "retry_delay": timedelta(minutes=1), "retry_exponential_backoff": 2}
LONGEST = timedelta(hours=6)  # of one try; minutes do for a year, a server that falls silent would take for ever


def _run(context: Any = None) -> tuple[Settings, int]:
    """Return a run's settings, Airflow's connections before the environment, and its year."""
    context = context or sdk.get_current_context()
    asked, interval_start = context["params"]["year"], context.get("data_interval_start")
    return connections.settings(), pipeline.year_of_run(asked, interval_start, context["dag_run"].run_after)


def _step(
    task_id: str, call: Callable[[Settings, int], str | None], outlet: sdk.Asset | None = None, **options: Any
) -> Any:
    """Return the task that is one call of the pipeline, whose docstring it shows in the UI; its result is a key."""

    @sdk.task(task_id=task_id, doc_md=call.__doc__, outlets=[outlet] if outlet else [], **options)
    def step() -> str | None:
        settings, year = _run()
        if outlet:
            sdk.get_current_context()["outlet_events"][outlet].extra = {"year": year}
        return call(settings, year)

    return step()


with sdk.DAG(
    "flight_anomalies",
    schedule=sdk.CronDataIntervalTimetable("0 0 1 1 *", timezone="UTC"),
    start_date=datetime(1987, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=4,  # a run that waits for its file must not hold up the others; a backfill has a limit of its own
    params={
        "year": sdk.Param(None, type=["null", "integer"], minimum=1987, maximum=2100),
        "detectors": sdk.Param(None, type=["null", "array"], items={"type": "string"}),
    },
    default_args={
        **BACKOFF,
        "execution_timeout": LONGEST,
        "retry_policy": RetryWhatMayPass(),
        "on_failure_callback": alerts.note_failure,
    },
    on_failure_callback=alerts.RunFailed(),
    doc_md=__doc__,
):

    @sdk.task.sensor(mode="reschedule", poke_interval=3600, timeout=180 * 24 * 3600)  # seconds
    def wait_for_bronze() -> sdk.PokeReturnValue:
        """Wait for the whole year's CSV on a scheduled run, insist on one on any other; gives the detectors to run."""
        context, (settings, year) = sdk.get_current_context(), _run()
        is_scheduled = context["dag_run"].run_type == "scheduled"
        is_there = fetch.has_whole_year(settings, year) if is_scheduled else bool(pipeline.bronze_key(settings, year))
        return sdk.PokeReturnValue(is_there, pipeline.detector_names(settings, context["params"]["detectors"]))

    @sdk.task(map_index_template="{{ task.op_kwargs['detector'] }}", doc_md=pipeline.write_anomalies.__doc__)
    def detect(detector: str) -> str:  # noqa: D103
        return pipeline.write_anomalies(*_run(), detector)

    @sdk.task(on_success_callback=alerts.YearFinished(_run))
    def publish() -> str:
        """Year page and record of the run, once Postgres and gold hold the same rows."""
        run = sdk.get_current_context()["dag_run"]
        return pipeline.publish(*_run(), run.run_id, run.start_date or run.run_after)

    silver, gold = _step("silver", pipeline.write_silver), _step("gold", pipeline.write_gold, GOLD)
    explain, upsert = _step("explain", pipeline.explain), _step("upsert", pipeline.upsert, WAREHOUSE)
    plots, clear = _step("plots", pipeline.write_plots), _step("clear_scratch", pipeline.clear_scratch, retries=0)
    (names := wait_for_bronze()) >> silver >> gold >> (verdicts := detect.expand(detector=names))
    verdicts >> explain >> upsert >> plots >> publish() >> clear.as_teardown()
