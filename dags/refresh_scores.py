"""# Scores years again when labels, incidents, settings or last year's flights have changed

A label that a person gives on a page takes effect within the hour. A run looks for years whose verdicts are out of
date (`python -m utils status` shows them as stale). It repeats the steps from `gold` on, one year after the other, and
the step `silver` if retention has deleted the flights. Labels that do not change the fitting (right, wrong) change no
verdict. At the end it brings the static site in the lake up to date, which also shows these labels. While a step of
`flight_anomalies` is running, it does nothing, and the next run does the work.

Messages about new findings are sent by the next run of `flight_anomalies`. A run that fails at the same step with the
same error as the run before sends no message.

**Places**: as in `flight_anomalies`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow import sdk

from orchestration import connections, notifiers, quiet
from orchestration.retries import DEFAULT_ARGS

with sdk.DAG(
    "refresh_scores",
    description="Score the years again whose verdicts are out of date",
    tags=["flights", "detection"],
    schedule=sdk.CronTriggerTimetable("15 * * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS | {"execution_timeout": timedelta(hours=6)},
    on_failure_callback=notifiers.RunFailed(is_repeated=False),
    doc_md=__doc__,
):

    def _is_quiet() -> bool:
        return quiet.is_quiet(sdk.get_current_context(), "flight_anomalies")

    @sdk.task
    def find_stale_years() -> list[int]:
        """Return the years whose verdicts are out of date; none while a step of a year is running."""
        from utils.pipeline import refresh

        if not _is_quiet():
            return []
        return refresh.stale_years(connections.settings())

    @sdk.task(
        map_index_template="{{ task.op_kwargs['year'] }}",
        max_active_tis_per_dagrun=1,  # a year may be the history of the next one
        doc_md="Write the out-of-date verdicts of one year, explain and publish them.",
    )
    def score(year: int) -> str:
        """Return the key of the published page."""
        from utils.pipeline import refresh

        run = sdk.get_current_context()["dag_run"]
        return refresh.refresh(connections.settings(), year, run.run_id, run.start_date or run.run_after)

    @sdk.task(trigger_rule=sdk.TriggerRule.NONE_FAILED)  # also if no year is out of date
    def update_site() -> None:
        """Write the pages that changed, unless a step of a year is running."""
        from utils.pipeline import site

        if _is_quiet():
            site.write_site(connections.settings())

    score.expand(year=find_stale_years()) >> update_site()
