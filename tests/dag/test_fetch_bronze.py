"""The DAG that fetches the year that has ended: when it waits, what it leaves alone, what it puts into bronze."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from demo.airflow_home import DAGS
from tests.builders import flight
from tests.servers.bureau import Bureau, month_path, serving, year_of_zips
from utils.errors import DelaywatchError
from utils.settings import Settings
from utils.sources.fetch import into_bronze

NEW_YEAR = datetime(2016, 1, 1, tzinfo=UTC)


@pytest.fixture
def bureau(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bureau]:
    """A Bureau that has published 2015."""
    with serving(Bureau()) as server:
        server.files = year_of_zips([flight(FL_DATE=f"2015-{month:02}-04") for month in range(1, 13)])
        monkeypatch.setenv("DELAYWATCH_BTS_URL", f"{server.url}/PREZIP")
        yield server


@pytest.fixture
def bronze(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of bronze."""
    monkeypatch.setenv("DELAYWATCH_LAKE", (tmp_path / "lake").as_uri())
    monkeypatch.setenv("DELAYWATCH_SCRATCH", str(tmp_path))
    folder = tmp_path / "lake/01_bronze"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def fetching(dags: dict[str, Any]) -> Any:
    """The DAG as Airflow reads it from the file."""
    return dags["fetch_bronze"]


def done(dag: Any, task_id: str, year: int | None = None, *, replace: bool = False) -> Any:
    """Return the task's result in a manual run of `year`, or without one in the scheduled run of 1 January 2016."""
    from airflow.sdk import BaseSensorOperator
    from airflow.sdk.execution_time.context import set_current_context

    context: Any = {
        "params": {"year": year, "source": "bts", "replace": replace, "detectors": ["three_sigma"]},
        "data_interval_start": datetime(2015, 1, 1, tzinfo=UTC),
        "dag_run": SimpleNamespace(run_after=NEW_YEAR, run_type="manual" if year else "scheduled"),
    }
    task = dag.get_task(task_id)
    with set_current_context(context):
        return task.poke(context) if isinstance(task, BaseSensorOperator) else task.python_callable()


def states(run: Any) -> dict[str, str]:
    return {instance.task_id: str(instance.state) for instance in run.get_task_instances()}


def test_the_file_is_read_without_settings_or_heavy_libraries(tmp_path: Path) -> None:
    heavy = "{'pandas', 'numpy', 'pyarrow', 'boto3', 'psycopg2'}"
    read = f"import sys, fetch_bronze; sys.exit(', '.join({heavy} & set(sys.modules)) or None)"
    nothing_set = {"PATH": os.environ["PATH"], "PYTHONPATH": str(DAGS), "AIRFLOW_HOME": str(tmp_path)}

    done = subprocess.run([sys.executable, "-c", read], env=nothing_set, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_nobody_outside_is_asked_before_somebody_switches_it_on(fetching: Any) -> None:
    assert fetching.is_paused_upon_creation


def test_it_asks_daily_from_new_year_on_for_half_a_year(fetching: Any) -> None:
    waiting = fetching.get_task("wait_for_publication")

    assert fetching.timetable.expression == "0 0 1 1 *"
    assert not fetching.catchup
    assert (waiting.mode, waiting.poke_interval, waiting.timeout) == ("reschedule", 86400, 180 * 86400)


def test_a_scheduled_run_waits_while_december_is_not_published(fetching: Any, bureau: Bureau, bronze: Path) -> None:
    del bureau.files[month_path(2015, 12)]

    assert done(fetching, "wait_for_publication") is False
    assert bureau.paths() == [month_path(2015, 12)]


def test_a_scheduled_run_fetches_the_year_once_it_is_published(fetching: Any, bureau: Bureau, bronze: Path) -> None:
    assert done(fetching, "wait_for_publication") is True
    assert done(fetching, "fetch") == "01_bronze/2015.csv"

    assert (bronze / "2015.csv").read_text().count("\n2015-") == 12


def test_a_scheduled_run_leaves_a_year_alone_that_is_there(fetching: Any, bureau: Bureau, bronze: Path) -> None:
    (bronze / "2015.csv.gz").write_bytes(b"put there by hand")

    assert done(fetching, "wait_for_publication") is True
    assert done(fetching, "fetch") == "01_bronze/2015.csv.gz"

    assert bureau.asked == []


def test_the_scheduled_run_that_waits_for_the_file_takes_the_whole_year_and_not_its_first_months(
    dag: Any, fetching: Any, bureau: Bureau, bronze: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELAYWATCH_WAREHOUSE", "postgresql://nobody@127.0.0.1:1/nothing")
    december = bureau.files.pop(month_path(2015, 12))
    into_bronze(Settings.from_environment(), 2015, so_far=True)
    assert done(dag, "wait_for_bronze").is_done is False

    bureau.files[month_path(2015, 12)] = december
    done(fetching, "fetch")

    assert done(dag, "wait_for_bronze").is_done is True


@pytest.mark.slow
def test_a_run_by_hand_fetches_its_year(fetching: Any, bureau: Bureau, bronze: Path) -> None:
    run = fetching.test(run_conf={"year": 2015})

    assert states(run) == {"wait_for_publication": "success", "fetch": "success"}
    assert (bronze / "2015.csv").read_text().count("\n2015-") == 12


def test_a_run_by_hand_does_not_wait_for_a_year_that_is_not_published(
    fetching: Any, bureau: Bureau, bronze: Path
) -> None:
    assert done(fetching, "wait_for_publication", year=2016) is True
    with pytest.raises(DelaywatchError, match=r"_2016_12\.zip is not published"):
        done(fetching, "fetch", year=2016)


def test_a_run_by_hand_replaces_the_file_of_a_person_when_asked_to(fetching: Any, bureau: Bureau, bronze: Path) -> None:
    (bronze / "2015.csv").write_bytes(b"put there by hand")

    with pytest.raises(DelaywatchError, match="--replace"):
        done(fetching, "fetch", year=2015)
    assert (bronze / "2015.csv").read_bytes() == b"put there by hand"
    done(fetching, "fetch", year=2015, replace=True)

    assert (bronze / "2015.csv").read_text().count("\n2015-") == 12
