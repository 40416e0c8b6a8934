"""A scratch Airflow of real processes: api-server, scheduler and dag-processor, LocalExecutor on a Postgres.

Tests start, kill and ask it here; what a run must have done is in the tests.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import psutil

from demo.airflow_home import DAGS
from tests.conftest import sql

COMPONENTS = ("api-server", "scheduler", "dag-processor")
DAG_ID = "flight_anomalies"
PATIENCE_S = 600
AIRFLOW = (sys.executable, "-m", "airflow")

Instances = dict[tuple[str, int], tuple[str, int]]  # state and try of a task instance, by its task and map index


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(what: str, is_so: Callable[[], bool], pause_s: float = 1) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, f"still not after {PATIENCE_S} s: {what}"
        time.sleep(pause_s)


def family(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """The processes with all their children; a task is a child, though in a process group of its own."""
    found = []
    for process in processes:
        try:
            found += [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
    return found


class ScratchAirflow:
    """An Airflow in `folder` whose own database is `metadata` (URL of an empty one); nothing runs before `start`."""

    def __init__(self, folder: Path, metadata: str, variables: Mapping[str, str]) -> None:
        """variables: what its processes find in their environment beside what makes them an Airflow."""
        port = free_port()
        self.folder, self.metadata = folder, metadata
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(DAGS),
            "AIRFLOW_HOME": str(folder / "airflow"),
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
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata.replace("postgresql://", "postgresql+psycopg2://"),
            **variables,
        }
        self._running: dict[str, psutil.Popen] = {}
        self._triggering: list[psutil.Popen] = []
        self._left: list[psutil.Process] = []  # by a component that was killed alone

    def command(self, *arguments: str) -> None:
        """`airflow ...`, which must succeed."""
        done = subprocess.run([*AIRFLOW, *arguments], env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"airflow {' '.join(arguments)}:\n{done.stderr}"

    def start(self, *names: str, by: Sequence[str] = ()) -> None:
        """Start those of the components that do not run; all of them when none is named.

        by: a command that becomes the component whose own command is appended to it.
        """
        for name in names or COMPONENTS:
            if name not in self._running:
                with (self.folder / f"{name}.log").open("ab") as log:
                    process = psutil.Popen([*by, *AIRFLOW, name], env=self.environment, stdout=log, stderr=log)
                self._running[name] = process

    def pid(self, name: str) -> int:
        return int(self._running[name].pid)

    def wait_until_ready(self) -> None:
        """Return as soon as the api-server answers and the DAG can be triggered."""
        asked = f"SELECT 1 FROM serialized_dag WHERE dag_id = '{DAG_ID}'"
        wait_until("the DAG is read", lambda: bool(sql(self.metadata, asked)))
        wait_until("the api-server answers", self._answers)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", int(self.environment["AIRFLOW__API__PORT"]))):
                return True
        except ConnectionRefusedError:
            return False

    def kill(self, name: str, *, with_children: bool = True) -> None:
        """SIGKILL for the component and at once for its children, as a container goes that is killed; or for it alone.

        Children that go on are ended by `stop`.
        """
        process = self._running.pop(name)
        process.suspend()  # so that it starts no other one meanwhile
        children = process.children(recursive=True)
        gone = [process, *children] if with_children else [process]
        for one in gone:
            one.kill()
        self._left += [] if with_children else children
        psutil.wait_procs(gone, 60)

    def stop(self) -> None:
        """End all of it, the children too."""
        everybody = family([*self._running.values(), *self._triggering])
        for process in self._running.values():
            process.terminate()
        for orphan in self._left:
            with suppress(psutil.NoSuchProcess):
                orphan.kill()
        self._running.clear()
        _, alive = psutil.wait_procs(everybody, 60)
        for straggler in alive:
            straggler.kill()
        psutil.wait_procs(alive, 60)

    # --- runs

    def trigger(self, run_id: str, **conf: object) -> None:
        """`airflow dags trigger`, whose end comes seconds after the run has begun and is not waited for."""
        arguments = ("dags", "trigger", DAG_ID, "--run-id", run_id, "--conf", json.dumps(conf))
        log = self.folder / f"trigger-{run_id}.log"
        with log.open("wb") as file:
            process = psutil.Popen([*AIRFLOW, *arguments], env=self.environment, stdout=file, stderr=file)
        self._triggering.append(process)
        asked = f"SELECT 1 FROM dag_run WHERE run_id = '{run_id}'"
        wait_until(f"{run_id} is triggered", lambda: bool(sql(self.metadata, asked)) or process.poll(), pause_s=0.05)
        assert not process.poll(), log.read_text()

    def backfill(self, years: Sequence[int], at_once: int, *, reprocess: str = "none", **conf: object) -> None:
        """Have the scheduler run the years; it takes one backfill at a time."""
        under_way = "SELECT 1 FROM backfill WHERE completed_at IS NULL"
        wait_until("the backfill before has ended", lambda: not sql(self.metadata, under_way))
        asked = ["--from-date", f"{years[0]}-01-01", "--to-date", f"{years[-1]}-01-01"]
        how = ["--max-active-runs", str(at_once), "--reprocess-behavior", reprocess, "--dag-run-conf", json.dumps(conf)]
        self.command("backfill", "create", "--dag-id", DAG_ID, *asked, *how)

    def runs(self, kind: str, years: Collection[int] | None = None) -> list[tuple[str, datetime, datetime]]:
        """State, start and end of the runs of a type, or of those whose logical date is in `years`, by this date."""
        found = sql(
            self.metadata,
            "SELECT state, start_date, end_date, extract(year FROM logical_date AT TIME ZONE 'UTC')::int FROM dag_run"
            f" WHERE dag_id = '{DAG_ID}' AND run_type = '{kind}' ORDER BY logical_date",
        )
        return [(state, start, end) for state, start, end, year in found if years is None or year in years]

    def state(self, run_id: str) -> str:
        ((state,),) = sql(self.metadata, f"SELECT state FROM dag_run WHERE run_id = '{run_id}'")
        return str(state)

    def instances(self, run_id: str) -> Instances:
        """State and try of every task instance of a run."""
        asked = f"SELECT task_id, map_index, state, try_number FROM task_instance WHERE run_id = '{run_id}'"
        return {(task, index): (state, tries) for task, index, state, tries in sql(self.metadata, asked)}

    def wait_for(self, run_id: str, task: str, state: str = "running") -> None:
        """Return as soon as an instance of the task is in the state; looks often, because steps can be short."""

        def is_so() -> bool:
            assert self.state(run_id) in {"queued", "running"}, f"{task} of {run_id} was not seen as {state}"
            return any(name == task and found == state for (name, _), (found, _) in self.instances(run_id).items())

        wait_until(f"{task} of {run_id} is {state}", is_so, pause_s=0.02)

    def end_of(self, run_id: str) -> str:
        """The state in which the run ends, once it has."""
        wait_until(f"the run {run_id} has ended", lambda: self.state(run_id) in {"success", "failed"})
        return self.state(run_id)
