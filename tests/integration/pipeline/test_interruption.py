"""Real processes, really killed, out of space or two at once: the old year stays, and the next run repairs."""

from __future__ import annotations

import gzip
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders import csv_of, year_of_flights
from tests.conftest import sql
from tests.steps import BRONZE, BRONZE_KEY, OTHER_BRONZE, STEPS, YEAR, files
from utils.settings import Settings
from utils.storage.lake import Lake

ROOT = Path(__file__).parents[3]


QUICK = {"upsert"}  # it meets lake and warehouse; the others are like it


@pytest.mark.parametrize(
    "step", [step if step in QUICK else pytest.param(step, marks=pytest.mark.slow) for step in STEPS]
)
def test_a_step_that_is_killed_is_repaired_by_the_next_run(
    folder_settings: Settings, warehouse: str, step: str
) -> None:
    """SIGKILL after a growing while, until the step got through; then one run gives what an untouched lake gives."""
    settings = folder_settings.replace(warehouse=warehouse)
    store = Lake(settings).store
    store.put(BRONZE_KEY, OTHER_BRONZE)
    for run_step in STEPS.values():
        run_step(settings)
    store.put(BRONZE_KEY, BRONZE)  # every step has something to change now

    names = list(STEPS)
    for before in names[: names.index(step)]:
        STEPS[before](settings)
    killed, patience_s = 0, 0.004
    while True:
        process = multiprocessing.get_context("fork").Process(target=STEPS[step], args=(settings,))
        process.start()
        process.join(patience_s)
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        killed += 1
        patience_s *= 1.7
    assert process.exitcode == 0
    assert killed > 0
    for name in names:
        STEPS[name](settings)

    untouched = settings.replace(lake=f"{settings.lake}-untouched")
    Lake(untouched).store.put(BRONZE_KEY, BRONZE)
    for name in names:
        STEPS[name](untouched)
    assert files(settings) == files(untouched)
    assert sql(warehouse, "SELECT count(*) FROM flights.airport_days") == [(365 * 3,)]


def start_silver(settings: Settings) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "dags"), "DELAYWATCH_LAKE": settings.lake, "COLUMNS": "400"}
    line = [sys.executable, "-m", "utils", "silver", "--year", str(YEAR)]
    return subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def test_a_disk_that_fills_while_silver_is_written_keeps_the_old_year(tmp_path: Path) -> None:
    """The lake is on a small tmpfs, mounted for this process only; that needs root, as in CI and in a container."""
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    small, large = tmp_path / "small.csv", tmp_path / "large.csv.gz"
    small.write_bytes(csv_of(year_of_flights(YEAR, {"JFK": 4})))
    large.write_bytes(
        gzip.compress(csv_of(year_of_flights(YEAR, {f"AA{letter}": 20 for letter in "BCDEFGHIJKLMNOPQRSTU"})), 9)
    )
    lake = tmp_path / "lake"
    lake.mkdir()
    python = f"{sys.executable} -m utils"
    room = small.stat().st_size + large.stat().st_size + 400_000
    script = f"""
set -u
mount -t tmpfs -o size={room} tmpfs {lake}
mkdir {lake}/01_bronze && cp {small} {lake}/01_bronze/2015.csv
{python} silver --year 2015 --lake file://{lake} || exit 90
sha256sum {lake}/02_silver/flights/year=2015/* > {tmp_path}/before
rm {lake}/01_bronze/2015.csv && cp {large} {lake}/01_bronze/2015.csv.gz || exit 91
head -c {small.stat().st_size} /dev/urandom > {lake}/other-data
{python} silver --year 2015 --lake file://{lake}
code=$?
sha256sum --check --quiet {tmp_path}/before || exit 92
test -z "$(find {lake}/_staging -type f -not -name '*.lock')" || exit 93
exit $code
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "dags"), "COLUMNS": "400"}
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", script], env=environment, check=False, capture_output=True, text=True
    )

    assert done.returncode == 1, done.stderr
    assert "No space left on the disk" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_processes_that_write_one_year_at_once_do_not_mix(folder_settings: Settings, warehouse: str) -> None:
    settings = folder_settings.replace(warehouse=warehouse)
    lake = Lake(settings)
    lake.store.put(BRONZE_KEY, BRONZE)
    processes = [start_silver(settings) for _ in range(2)]
    told = [process.communicate(timeout=60)[1] for process in processes]

    for process, errors in zip(processes, told, strict=True):
        assert process.returncode == 0 or "Another run is writing 2015" in errors
    assert 0 in [process.returncode for process in processes]
    assert sum(table.num_rows for table in lake.read_silver(YEAR)) == 365 * 43
