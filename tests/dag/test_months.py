"""Twenty-six months under a real scheduler: the logical dates of `fetch_bronze` are the clock. Takes half an hour."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

from demo.airflow_home import DAGS
from tests import months
from tests.conftest import sql
from tests.dag.processes import TIMEOUT_S, AirflowProcesses
from tests.months import DAMAGED, FIRST_YEAR, LATE, LATER_MONTHS, Month
from tests.servers.bureau import Bureau, serving
from tests.servers.receivers import Hook
from tests.servers.startup import wait_until
from utils.settings import Settings
from utils.storage.lake import Lake

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Stack:
    """A running Airflow with monthly schedule, the settings of its tasks, the Bureau, and the subscribers' webhooks."""

    airflow: AirflowProcesses
    settings: Settings
    bureau: Bureau
    hooks: dict[str, Hook]

    def backfill(self, first: Month, last: Month) -> None:
        """Run `fetch_bronze` for these months, at most two at once. Airflow allows one backfill at a time."""
        wait_until(
            lambda: not sql(self.airflow.metadata, "SELECT 1 FROM backfill WHERE completed_at IS NULL"),
            "the backfill before is complete",
            TIMEOUT_S,
        )
        dates = {"from_date": f"{date(*first, 1)}T00:00:00Z", "to_date": f"{date(*last, 1)}T00:00:00Z"}
        self.airflow.request("POST", "backfills", dag_id="fetch_bronze", max_active_runs=2, **dates)
        query = f"SELECT 1 FROM dag_run WHERE run_id = '{run_id_of(last)}'"
        wait_until(lambda: sql(self.airflow.metadata, query), "the run exists", TIMEOUT_S)

    def clear(self, run_id: str, task: str, map_index: int = -1) -> None:
        """Repeat a task instance of `fetch_bronze` at once instead of after its pause."""
        body = {"dry_run": False, "only_failed": False, "dag_run_id": run_id, "task_ids": [[task, map_index]]}
        self.airflow.request("POST", "dags/fetch_bronze/clearTaskInstances", **body)

    def wait_for(self, run_id: str, task: tuple[str, int], state: str) -> None:
        wait_until(
            lambda: self.airflow.instances(run_id).get(task, ("", 0))[0] == state,
            f"{task} of {run_id} is {state}",
            TIMEOUT_S,
        )

    def years_run(self) -> dict[str, str]:
        """Wait until no year runs; return the state of the runs of `flight_anomalies` by name."""
        query = "SELECT run_id, state FROM dag_run WHERE dag_id = 'flight_anomalies'"

        def states() -> dict[str, str]:
            return dict(sql(self.airflow.metadata, query))

        wait_until(lambda: {*states().values()} <= {"success", "failed"}, "every year has ended", TIMEOUT_S)
        return states()


def run_id_of(month: Month) -> str:
    """Return the name of the run of `fetch_bronze` for the month. It has the end of the data interval."""
    end = date(month.year + month.month // 12, month.month % 12 + 1, 1)
    return f"backfill__{end}T00:00:00+00:00"


@pytest.fixture
def stack(tmp_path: Path, empty_database: str, warehouse: str) -> Iterator[Stack]:
    dags = shutil.copytree(DAGS, tmp_path / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    months.write_subscriptions(dags / "subscriptions.yaml")
    with serving(Bureau()) as bureau, months.webhooks() as hooks:
        settings = Settings(
            lake=(tmp_path / "lake").as_uri(),
            warehouse=warehouse,
            scratch=tmp_path,
            threads=2,
            bts_url=f"{bureau.url}/PREZIP",
        )
        Lake(settings).prepare()
        variables = {
            **months.variables(hooks),
            "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            "AIRFLOW_CONN_WAREHOUSE": warehouse,
            "DELAYWATCH_MONTHLY": "1",
            "DELAYWATCH_LAKE": settings.lake,
            "DELAYWATCH_SCRATCH": str(tmp_path),
            "DELAYWATCH_BTS_URL": settings.bts_url,
        }
        airflow = AirflowProcesses(tmp_path, empty_database, variables, dags)
        try:
            airflow.run_command("db", "migrate")
            airflow.start()
            airflow.wait_until_ready()
            airflow.request("PATCH", "dags/fetch_bronze", is_paused=False)
            yield Stack(airflow, settings, bureau, hooks)
        finally:
            airflow.stop()


def test_each_event_is_announced_once_and_a_year_ends_as_if_it_had_been_run_at_once(
    stack: Stack, other_warehouse: str, tmp_path: Path
) -> None:
    airflow, bronze, published = stack.airflow, Lake(stack.settings).store, FIRST_YEAR + LATER_MONTHS
    expected_runs: set[str] = set()
    verdicts = months.verdicts(stack.settings.warehouse)
    for month in published:
        run_id = run_id_of(month)
        before, in_bronze = verdicts, bronze.modified("01_bronze/")
        changed = months.publish(stack.bureau, month)
        if month == LATE:  # its run has been waiting since the next month was published
            assert airflow.instances(run_id)["wait_for_publication", -1][0] == "up_for_reschedule"
            stack.clear(run_id, "wait_for_publication")
        else:
            is_after_late = month == Month(LATE.year, LATE.month + 1)
            stack.backfill(LATE if is_after_late else month, month)
        if month == DAMAGED:
            stack.wait_for(run_id, ("fetch", 0), "up_for_retry")
            assert bronze.modified("01_bronze/") == in_bronze
            stack.clear(run_id, "fetch", 0)

        assert airflow.final_state(run_id) == "success"
        expected_runs.add(f"{month.year}_{run_id}")
        if changed.year < month.year:  # the run of the year before starts another run of the year
            expected_runs |= {f"{changed.year}_{run_id}", f"{month.year}_{changed.year}_{run_id}"}
        assert stack.years_run() == dict.fromkeys(expected_runs, "success")
        verdicts = months.verdicts(stack.settings.warehouse)
        months.assert_only_later_verdicts_changed(before, verdicts, month, changed)

    months.assert_announced_once(stack.hooks, published)
    months.assert_revisions_are_recorded(stack.settings.warehouse, published)
    at_once = stack.settings.replace(lake=(tmp_path / "at-once").as_uri(), warehouse=other_warehouse)
    months.assert_as_if_run_at_once(stack.settings, at_once, sorted({month.year for month in published}))
