"""A host that loses power during a run of the DAG: the stack restarts without help and loses no data.

The test kills and starts the Docker engine of this host, with all containers, so it needs permission:
`DELAYWATCH_MAY_RESTART_DOCKER=1 make test-restarts`, as root.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import APIRequestContext

from tests.e2e.installation import TIMEOUT_S, Installation, docker, end_of, is_running, put_year, results, trigger
from tests.servers.startup import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("DELAYWATCH_MAY_RESTART_DOCKER") != "1",
        reason="it restarts this host's Docker engine; DELAYWATCH_MAY_RESTART_DOCKER=1 allows that",
    ),
]

PID_FILE = Path("/var/run/docker.pid")
ONE_SHOT = {"setup", "airflow-init", "superset-init"}


def engine_answers() -> bool:
    return subprocess.run(["docker", "info"], check=False, capture_output=True).returncode == 0


def cut_power(stack: Installation, log: Path) -> None:
    """Kill the engine and all processes of the stack at once, then start the engine with the same command."""
    engine = psutil.Process(int(PID_FILE.read_text()))
    command, environment, folder = engine.cmdline(), engine.environ(), engine.cwd()
    ids = [container.id for container in stack.containers().values() if container.state == "running"]
    pids = map(int, docker("inspect", "--format", "{{.State.Pid}}", *ids).split())
    inits = [psutil.Process(pid) for pid in pids]
    for process in (engine, *inits):
        process.kill()
    psutil.wait_procs([engine, *inits], 60)
    if not restarts_by_itself():
        PID_FILE.unlink(missing_ok=True)
        with log.open("wb") as file:  # the engine must outlive the test
            subprocess.Popen(command, env=environment, cwd=folder, stdout=file, stderr=file, start_new_session=True)
    wait_until(engine_answers, "the engine answers", 120)


def restarts_by_itself() -> bool:
    """Return whether a service manager, such as systemd, restarts the engine."""
    try:
        wait_until(engine_answers, "the engine answers", 20)
    except AssertionError:
        return False
    return True


def test_the_stack_restarts_after_a_power_cut_and_loses_no_data(
    stack: Installation, client: APIRequestContext, tmp_path: Path
) -> None:
    trigger(stack, "before-the-cut")
    assert end_of(stack, "before-the-cut") == "success"
    rows, secrets, certificate = results(stack), stack.fingerprints(), stack.certificate()
    containers = stack.containers()
    trigger(stack, "in-the-cut")
    wait_until(lambda: is_running(stack, "in-the-cut", "silver"), "silver has started", TIMEOUT_S)

    cut_power(stack, tmp_path / "dockerd.log")

    lasting = containers.keys() - ONE_SHOT
    wait_until(
        lambda: {name for name, container in stack.containers().items() if container.is_healthy} == lasting,
        f"{', '.join(sorted(lasting))} are healthy",
        TIMEOUT_S,
    )
    assert {name: container.id for name, container in stack.containers().items()} == {
        name: container.id for name, container in containers.items()
    }
    assert results(stack) == rows
    assert (stack.fingerprints(), stack.certificate()) == (secrets, certificate)
    assert client.get("/airflow/api/v2/monitor/health").ok
    assert end_of(stack, "in-the-cut") in {"success", "failed"}

    put_year(stack)
    trigger(stack, "after-the-cut")
    assert end_of(stack, "after-the-cut") == "success"
    assert results(stack) == rows
