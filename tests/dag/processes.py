"""An Airflow of real processes for tests: api-server, scheduler and dag-processor, LocalExecutor on a Postgres."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import requests

from demo.airflow_home import DAGS
from tests.conftest import sql
from tests.servers.startup import free_ports, wait_until

COMPONENTS = ("api-server", "scheduler", "dag-processor")
DAG_ID = "flight_anomalies"
TIMEOUT_S = 600
AIRFLOW = (sys.executable, "-m", "airflow")

Instances = dict[tuple[str, int], tuple[str, int]]  # (task, map index): (state, try)


class AirflowProcesses:
    """An Airflow in `folder` with its own database `metadata` (URL of an empty one). `start` starts its processes."""

    def __init__(self, folder: Path, metadata: str, variables: Mapping[str, str], dags: Path = DAGS) -> None:
        """variables: additions to the environment of the processes. dags: the folder of DAG files and `utils`."""
        port, log_port = free_ports(2)
        self.folder, self.metadata = folder, metadata
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(dags),
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",  # for `request`
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(64),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(log_port),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata.replace("postgresql://", "postgresql+psycopg2://"),
            **variables,
        }
        self._components: dict[str, psutil.Popen] = {}
        self._triggers: list[psutil.Popen] = []

    def run_command(self, *arguments: str) -> None:
        """Run `airflow ...`; fail if it fails."""
        command = [*AIRFLOW, *arguments]
        outcome = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert outcome.returncode == 0, outcome.stderr

    def start(self, *names: str) -> None:
        """Start these components, or all, unless they run."""
        for name in names or COMPONENTS:
            if name not in self._components:
                with (self.folder / f"{name}.log").open("ab") as log:
                    command = [*AIRFLOW, name]
                    self._components[name] = psutil.Popen(command, env=self.environment, stdout=log, stderr=log)

    def wait_until_ready(self) -> None:
        """Return when the api-server answers and Airflow has parsed the DAG."""
        query = f"SELECT 1 FROM serialized_dag WHERE dag_id = '{DAG_ID}'"
        wait_until(lambda: sql(self.metadata, query), "the DAG is parsed", TIMEOUT_S)
        wait_until(self._answers, "the api-server answers", TIMEOUT_S)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", int(self.environment["AIRFLOW__API__PORT"]))) == 0

    def request(self, method: str, path: str, **body: Any) -> None:
        """Send a request to Airflow's API; fail if it fails."""
        url = f"http://127.0.0.1:{self.environment['AIRFLOW__API__PORT']}/api/v2/{path}"
        answer = requests.request(method, url, json=body, timeout=60)
        assert answer.ok, answer.text

    def kill(self, name: str) -> None:
        """Kill a component with all its children, as when a container is killed."""
        process = self._components.pop(name)
        process.suspend()  # so that it starts no further child
        killed = [process, *process.children(recursive=True)]
        for each in killed:
            each.kill()
        psutil.wait_procs(killed, 60)

    def stop(self) -> None:
        """Kill all processes and their children."""
        for name in list(self._components):
            self.kill(name)
        for trigger in self._triggers:
            with suppress(psutil.NoSuchProcess):
                trigger.kill()
        psutil.wait_procs(self._triggers, 60)

    # --- runs

    def trigger(self, run_id: str, **conf: object) -> None:
        """Run `airflow dags trigger` and return when the run exists; the command itself ends seconds later."""
        command = [*AIRFLOW, "dags", "trigger", DAG_ID, "--run-id", run_id, "--conf", json.dumps(conf)]
        log = self.folder / f"trigger-{run_id}.log"
        with log.open("wb") as file:
            process = psutil.Popen(command, env=self.environment, stdout=file, stderr=file)
        self._triggers.append(process)
        query = f"SELECT 1 FROM dag_run WHERE run_id = '{run_id}'"
        wait_until(lambda: sql(self.metadata, query) or process.poll(), f"{run_id} exists", TIMEOUT_S)
        assert not process.poll(), log.read_text()

    def backfill(self, years: Sequence[int], **conf: object) -> None:
        """Create a backfill that runs all the years at once."""
        command = ["backfill", "create", "--dag-id", DAG_ID, "--max-active-runs", str(len(years))]
        command += ["--from-date", f"{years[0]}-01-01", "--to-date", f"{years[-1]}-01-01"]
        self.run_command(*command, "--dag-run-conf", json.dumps(conf))

    def runs(self, run_type: str) -> list[tuple[str, datetime, datetime]]:
        """Return state, start and end of the runs of a type."""
        runs = f"dag_id = '{DAG_ID}' AND run_type = '{run_type}'"
        return sql(self.metadata, f"SELECT state, start_date, end_date FROM dag_run WHERE {runs}")

    def state(self, run_id: str) -> str:
        ((state,),) = sql(self.metadata, f"SELECT state FROM dag_run WHERE run_id = '{run_id}'")
        return str(state)

    def instances(self, run_id: str) -> Instances:
        """Return state and try of every task instance of a run."""
        query = f"SELECT task_id, map_index, state, try_number FROM task_instance WHERE run_id = '{run_id}'"
        return {(task, index): (state, tries) for task, index, state, tries in sql(self.metadata, query)}

    def is_running(self, run_id: str, task_id: str) -> bool:
        return (task_id, "running") in {(task, state) for (task, _), (state, _) in self.instances(run_id).items()}

    def wait_for_task(self, run_id: str, task_id: str) -> None:
        """Return when an instance of the task is running."""

        def has_started() -> bool:
            assert self.state(run_id) in {"queued", "running"}, f"{task_id} of {run_id} was never running"
            return self.is_running(run_id, task_id)

        wait_until(has_started, f"{task_id} of {run_id} is running", TIMEOUT_S)

    def final_state(self, run_id: str) -> str:
        """Wait for the end of the run and return its state."""
        wait_until(lambda: self.state(run_id) in {"success", "failed"}, f"{run_id} has ended", TIMEOUT_S)
        return self.state(run_id)
