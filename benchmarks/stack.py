"""Measure the stack in containers: seconds to the first login, memory idle and at a full-size year, cost of a task.

Run as `python benchmarks/stack.py` with a Docker engine; images are built before the clock starts. A year is run by the
DAG and, for comparison, by `python -m utils run` in the same container on the same data. Memory is the value of `docker
stats` once a second (without the page cache), from the upload of the full-size year to the end of its run. The
benchmark fails if a container was killed. It creates a Compose project of its own and removes it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "dags")]

from benchmarks.refinery import YEAR, make_year

PROJECT = "delaywatch-benchmark"
DEMO_YEAR = 2013
UNITS = {"B": 1 / 2**20, "KiB": 1 / 2**10, "MiB": 1.0, "GiB": 2.0**10}
TASKS = "SELECT count(*) FROM task_instance WHERE run_id = '{run}'"
EACH_TASK = (
    "SELECT string_agg(task_id || ' ' || round(extract(epoch FROM end_date - start_date)::numeric, 1), ', ' "
    "ORDER BY start_date) FROM task_instance WHERE run_id = '{run}'"
)
RUN = "SELECT state, extract(epoch FROM end_date - start_date) FROM dag_run WHERE run_id = '{run}'"


def free_ports() -> tuple[int, int]:
    """Return two free ports of this host."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return int(one.getsockname()[1]), int(other.getsockname()[1])


class Stack:
    """The measured Compose project."""

    def __init__(self) -> None:
        """Choose its ports; start nothing."""
        http, self.https = free_ports()
        foreign = ("AIRFLOW_", "AWS_", "COMPOSE_", "DELAYWATCH_", "MAKE", "MFLAGS")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | {
            "COMPOSE_PROJECT_NAME": PROJECT,
            "DELAYWATCH_HTTP_PORT": str(http),
            "DELAYWATCH_HTTPS_PORT": str(self.https),
        }

    def run(self, *command: str) -> str:
        """Return the output of a command; exit if it fails."""
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def compose(self, *arguments: str) -> str:
        """Return the output of `docker compose ...`."""
        return self.run("docker", "compose", *arguments)

    def ask(self, database: str, question: str) -> list[str]:
        """Return the first row of a Postgres query."""
        command = ("psql", "--username=postgres", "-At", f"--dbname={database}", "--command", question)
        return self.compose("exec", "-T", "postgres", *command).strip().split("|")

    def killed(self) -> list[str]:
        """Return the names of the containers that restarted or in which the kernel killed a process."""
        ids = self.compose("ps", "--all", "--quiet").split()
        shown = self.run("docker", "inspect", "--format", "{{.Name}} {{.State.OOMKilled}} {{.RestartCount}}", *ids)
        return [line for line in shown.splitlines() if not line.endswith(" false 0")]

    def log_in(self, password: str) -> bool:
        """Return True if Airflow returns a token for the password, through nginx."""
        request = urllib.request.Request(
            f"https://localhost:{self.https}/airflow/auth/token",
            json.dumps({"username": "admin", "password": password}).encode(),
            {"Content-Type": "application/json"},
        )
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the certificate is self-signed
        try:
            with urllib.request.urlopen(request, timeout=10, context=context) as answer:  # noqa: S310
                return bool(json.load(answer)["access_token"])
        except (urllib.error.URLError, OSError):
            return False

    def run_dag(self, year: int) -> tuple[float, int]:
        """Run the DAG for a year. Return its seconds and its number of tasks."""
        run = f"benchmark_{year}"
        conf = json.dumps({"year": year})
        command = ("airflow", "dags", "trigger", "flight_anomalies", "--run-id", run, "--conf", conf)
        self.compose("exec", "-T", "airflow-scheduler", *command)
        while (answer := self.ask("airflow", RUN.format(run=run)))[0] not in {"success", "failed"}:
            time.sleep(1)
        if answer[0] == "failed":
            sys.exit(f"The run of {year} failed; see {self.compose('logs', '--tail', '20', 'airflow-scheduler')}")
        return float(answer[1]), int(self.ask("airflow", TASKS.format(run=run))[0])


class Memory(threading.Thread):
    """Peak memory in MiB of every container of the project, and of all at once, while it is watched."""

    def __init__(self) -> None:
        """Create the thread; it watches nothing before it starts."""
        super().__init__(daemon=True)
        self.most: dict[str, float] = {}
        self.most_together = 0.0
        self._stopped = threading.Event()

    def run(self) -> None:
        """Sample until `stop`."""
        while not self._stopped.is_set():
            command = ["docker", "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}"]
            shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            now = {
                name: float(amount) * UNITS[unit]
                for name, amount, unit in re.findall(rf"^{PROJECT}-(\S+)-1 ([\d.]+)(\w+) /", shown, re.MULTILINE)
            }
            for name, mebibytes in now.items():
                self.most[name] = max(mebibytes, self.most.get(name, 0.0))
            self.most_together = max(self.most_together, sum(now.values()))
            self._stopped.wait(1)

    def stop(self) -> None:
        """Stop sampling and print the peaks."""
        self._stopped.set()
        self.join()
        for name, mebibytes in sorted(self.most.items(), key=lambda item: -item[1]):
            print(f"  {name:24} {mebibytes:6.0f} MiB")
        print(f"  {'all at once, at most':24} {self.most_together:6.0f} MiB")


def watched(seconds: float) -> None:
    """Print the memory of the next seconds."""
    memory = Memory()
    memory.start()
    time.sleep(seconds)
    memory.stop()


def start(stack: Stack) -> None:
    """Start the stack from nothing and print the waiting time."""
    stack.compose("build", "--quiet")
    begun = time.perf_counter()
    making = subprocess.Popen(
        ["make", "up"], cwd=ROOT, env=stack.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    password = ""
    while making.poll() is None:
        if not password:
            shown = subprocess.run(
                ["make", "password"], cwd=ROOT, env=stack.environment, capture_output=True, text=True, check=False
            )
            password = "".join(re.findall(r"^Password +(\S+)$", shown.stdout, re.MULTILINE))
        elif stack.log_in(password):
            print(f"first login to Airflow through nginx after {time.perf_counter() - begun:.0f} s")
            break
        time.sleep(1)
    _, complaint = making.communicate()
    if making.returncode:
        sys.exit(complaint.decode()[-2000:])
    print(f"make up: everything healthy and the demo year in the lake after {time.perf_counter() - begun:.0f} s")
    begun = time.perf_counter()
    stack.run("make", "up")
    print(f"make up again, nothing to do: {time.perf_counter() - begun:.0f} s")


def compare(stack: Stack, year: int) -> None:
    """Run a year by the DAG and by the command line; print both and the ratio."""
    dag_s, tasks = stack.run_dag(year)
    begun = time.perf_counter()
    stack.compose("exec", "-T", "airflow-scheduler", "python", "-m", "utils", "run", "--year", str(year))
    alone_s = time.perf_counter() - begun
    print(
        f"{year}: by the DAG {dag_s:.1f} s for {tasks} tasks, by the command line {alone_s:.1f} s, "
        f"ratio {dag_s / alone_s:.2f}, {(dag_s - alone_s) / tasks:.1f} s more for each task"
    )


def run_full_year(stack: Stack, rows: int) -> None:
    """Upload a full-size year, run the DAG for it, and print the seconds and the memory of every container."""
    print(f"{rows:,} flights:")
    with tempfile.TemporaryDirectory() as folder:
        csv = make_year(Path(folder), rows)
        Path(folder).chmod(0o755)
        memory = Memory()
        memory.start()
        put = ("python", "-m", "utils", "bronze", "--year", str(YEAR), "--from", f"/from/{csv.name}")
        begun = time.perf_counter()
        stack.compose("run", "--rm", "--no-deps", "-T", "-v", f"{folder}:/from:ro", "airflow-scheduler", *put)
        print(f"  the upload took {time.perf_counter() - begun:.0f} s")
    seconds, _ = stack.run_dag(YEAR)
    (tasks,) = stack.ask("airflow", EACH_TASK.format(run=f"benchmark_{YEAR}"))
    print(f"  the run took {seconds:.0f} s; seconds of each task: {tasks}")
    memory.stop()
    if killed := stack.killed():
        sys.exit(f"A process was killed for lack of memory, or a container restarted: {', '.join(killed)}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=7_000_000, help="flights of the full-size year; 0 leaves it out")
    arguments = parser.parse_args()
    if not shutil.which("docker") or subprocess.run(["docker", "version"], capture_output=True, check=False).returncode:
        print("No Docker engine answers; the stack is not measured.")
        return
    stack = Stack()
    try:
        start(stack)
        print("idle, 30 s:")
        watched(30)
        compare(stack, DEMO_YEAR)
        if arguments.rows:
            run_full_year(stack, arguments.rows)
    finally:
        stack.compose("--profile", "*", "down", "--volumes", "--timeout", "5")


if __name__ == "__main__":
    main()
