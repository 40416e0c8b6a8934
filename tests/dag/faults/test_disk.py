"""A disk without space for Airflow's own logs: the run goes on once there is space.

Run it with `make test-faults`; it takes minutes. A full disk under
the lake is in tests/integration/faults/test_host.py, under Postgres in tests/integration/faults/test_postgres.py.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.dag.faults.conftest import Place
from tests.dag.processes import wait_until
from tests.servers.machine import Disk

pytestmark = [pytest.mark.slow, pytest.mark.faults]

ON_SMALL_DISK = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=4m tmpfs "$0" && exec "$@"')


def test_a_full_disk_of_logs_keeps_a_run_from_its_end_only_until_there_is_space(place: Place) -> None:
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    airflow, logs = place.airflow, place.scratch / "airflow" / "logs"
    place.put(1989)
    airflow.kill("scheduler")
    airflow.start("scheduler", by=[*ON_SMALL_DISK, str(logs)])
    try:
        disk = Disk(Path(f"/proc/{airflow.pid('scheduler')}/root{logs}"))
        wait_until("the disk is there", disk.folder.is_mount)

        disk.leave(0)
        airflow.trigger("full", year=1989, detectors=["three_sigma"])
        airflow.wait_for("full", "wait_for_bronze", "up_for_retry")
        disk.clear()

        place.assert_ended_well("full", 1989)
    finally:
        airflow.kill("scheduler")  # the next test gets one on an ordinary disk
