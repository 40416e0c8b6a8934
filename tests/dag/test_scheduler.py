"""Two years at once and a failed run through a real scheduler, each told of once: LocalExecutor on Postgres.

Api-server and dag-processor are processes of their own too. Takes three minutes:
`make test-slow`, or `PYTHONPATH=dags .venv/bin/python -m pytest tests/dag/test_scheduler.py`.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from demo.airflow_home import DAGS
from tests.bronze import csv_of, year_of_flights
from tests.conftest import sql
from tests.receivers import Hook, webhook

PATIENCE_S = 300
AIRFLOW = (sys.executable, "-m", "airflow")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(what: str, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, f"still not after {PATIENCE_S} s: {what}"
        time.sleep(1)


@pytest.fixture
def metadata(empty_database: str) -> str:
    """The URL of Airflow's own database."""
    return empty_database


@pytest.fixture
def hook() -> Iterator[Hook]:
    """What is told of the runs."""
    with webhook() as hook:
        yield hook


@pytest.fixture
def environment(tmp_path: Path, metadata: str, warehouse: str, hook: Hook) -> dict[str, str]:
    """What every process of the scratch Airflow has in common; nothing of the caller's but the PATH."""
    port = free_port()
    bronze = tmp_path / "lake" / "01_bronze"
    bronze.mkdir(parents=True)
    for year in (2014, 2015):
        (bronze / f"{year}.csv").write_bytes(csv_of(year_of_flights(year, {"BOS": 20, "ORH": 6})))
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(DAGS),
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(64),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata.replace("postgresql://", "postgresql+psycopg2://"),
        "AIRFLOW_CONN_WAREHOUSE": warehouse,
        "DELAYWATCH_LAKE": bronze.parent.as_uri(),
        "DELAYWATCH_ALERT_WEBHOOK": hook.url,
    }


@pytest.fixture
def airflow_processes(environment: dict[str, str], tmp_path: Path) -> Iterator[None]:
    """The three processes that run a DAG, ended with all their children."""
    subprocess.run([*AIRFLOW, "db", "migrate"], env=environment, check=True, capture_output=True)
    started = []
    for name in ("api-server", "scheduler", "dag-processor"):
        with (tmp_path / f"{name}.log").open("wb") as log:
            started.append(psutil.Popen([*AIRFLOW, name], env=environment, stdout=log, stderr=log))
    yield
    family = [child for process in started for child in process.children(recursive=True)]
    for process in started:
        process.terminate()
    _, alive = psutil.wait_procs([*started, *family], 60)
    for straggler in alive:
        straggler.kill()


@pytest.mark.slow
@pytest.mark.usefixtures("airflow_processes")
def test_a_backfill_of_two_years_runs_them_at_once_while_a_scheduled_run_waits(
    environment: dict[str, str], metadata: str, warehouse: str, hook: Hook
) -> None:
    def runs(kind: str) -> list[tuple[str, datetime, datetime]]:
        return sql(
            metadata,
            "SELECT state, start_date, end_date FROM dag_run"
            f" WHERE dag_id = 'flight_anomalies' AND run_type = '{kind}' ORDER BY logical_date",
        )

    wait_until("the scheduled run waits for its file", lambda: [run[0] for run in runs("scheduled")] == ["running"])

    asked = ["--from-date", "2014-01-01", "--to-date", "2015-01-01", "--max-active-runs", "2"]
    subprocess.run(
        [*AIRFLOW, "backfill", "create", "--dag-id", "flight_anomalies", *asked], env=environment, check=True
    )
    wait_until(
        "both years have ended", lambda: len(runs("backfill")) == 2 and all(end for _, _, end in runs("backfill"))
    )

    (first_state, first_start, first_end), (second_state, second_start, second_end) = runs("backfill")
    assert (first_state, second_state) == ("success", "success")
    assert max(first_start, second_start) < min(first_end, second_end)
    per_year = "SELECT extract(year FROM fl_date)::int, count(*), sum(scheduled) FROM flights.airport_days GROUP BY 1"
    assert sorted(sql(warehouse, per_year)) == [(2014, 730, 26 * 365), (2015, 730, 26 * 365)]
    assert sql(warehouse, "SELECT year FROM flights.runs ORDER BY year") == [(2014,), (2015,)]
    assert [run[0] for run in runs("scheduled")] == ["running"]
    wait_until("both years are told of", lambda: len(hook.texts) == 2)
    assert sorted(text.splitlines()[0][:18] for text in hook.texts) == ["*Delaywatch 2014: ", "*Delaywatch 2015: "]

    asked = ["dags", "trigger", "flight_anomalies", "--conf", '{"year": 1999}']
    subprocess.run([*AIRFLOW, *asked], env=environment, check=True, capture_output=True)
    wait_until("the run of a year without a file has failed", lambda: [run[0] for run in runs("manual")] == ["failed"])
    wait_until("its failure is told of", lambda: len(hook.texts) > 2)

    (told,) = hook.texts[2:]
    assert told.startswith("*Delaywatch 1999: wait_for_bronze failed*")
    assert "There is no 01_bronze/1999.csv" in told
