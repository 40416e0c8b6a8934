"""A full disk under Airflow's logs. `make test-faults`; takes minutes.

A full disk under the lake is in tests/integration/faults/test_host.py.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.dag.faults.conftest import Stack
from tests.dag.processes import wait_until
from tests.servers.machine import Disk

pytestmark = [pytest.mark.slow, pytest.mark.faults]

ON_SMALL_DISK = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=4m tmpfs "$0" && exec "$@"')


def test_a_run_continues_when_a_full_disk_of_logs_has_space_again(stack: Stack) -> None:
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user cannot mount a file system")
    airflow, logs = stack.airflow, stack.folder / "airflow" / "logs"
    stack.write_bronze(1989)
    airflow.kill("scheduler")
    airflow.start("scheduler", wrapper=[*ON_SMALL_DISK, str(logs)])
    try:
        disk = Disk(Path(f"/proc/{airflow.pid('scheduler')}/root{logs}"))
        wait_until("the disk is mounted", disk.folder.is_mount)

        disk.leave(0)
        airflow.trigger("full", year=1989, detectors=["three_sigma"])
        airflow.wait_for_task("full", "wait_for_bronze", "up_for_retry")
        disk.clear()

        stack.assert_ended_well("full", 1989)
    finally:
        airflow.kill("scheduler")  # the next test starts it on an ordinary disk
