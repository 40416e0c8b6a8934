"""A host that runs out of disk or memory in a step.

The old year stays, the sentence is clear, and the next run brings what a run without a fault brings. Processes that
are killed in each step are in tests/integration/pipeline/test_interruption.py, a host that is started anew in
tests/e2e/test_reboot.py.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.airflow_home import DAGS
from tests.conftest import fresh
from tests.integration.faults.conftest import OLD
from tests.servers import machine
from tests.servers.machine import Disk
from tests.servers.postgres import Server
from tests.steps import BRONZE, BRONZE_KEY, STEPS, YEAR, files
from utils.errors import DelaywatchError
from utils.settings import Settings
from utils.storage.lake import Lake

pytestmark = [pytest.mark.slow, pytest.mark.faults]

MB = 1 << 20
ROOM_GROWS_BY = 1.7
NAMES = list(STEPS)
WRITING = [name for name in NAMES if name != "upsert"]  # into the lake

Hashes = dict[str, str]  # of every object of a lake, by key


def hashes(settings: Settings) -> Hashes:
    return {key: hashlib.sha256(data or b"").hexdigest() for key, data in files(settings).items()}


def with_new_file(old_year: Path, lake: Path, warehouse: str) -> Settings:
    """A copy of the old year's lake with the new file in bronze: every step has something to change."""
    shutil.copytree(old_year, lake)
    settings = Settings(lake=lake.as_uri(), warehouse=warehouse, scratch=lake.parent, threads=2)
    Lake(settings).store.put(BRONZE_KEY, BRONZE)
    return settings


def sentence_of(step: Callable[[Settings], object], settings: Settings) -> str | None:
    """What the step failed with, None when it did not."""
    try:
        step(settings)
    except DelaywatchError as error:
        return str(error)
    return None


@pytest.fixture(scope="module")
def untouched(old_year: Path, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Hashes:
    """What a run of the new file leaves in the lake when nothing happens to it."""
    database = fresh(server.url, OLD)
    settings = with_new_file(old_year, tmp_path_factory.mktemp("untouched") / "lake", next(database))
    for step in STEPS.values():
        step(settings)
    return hashes(settings)


# --- disk -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Filled:
    """What was in the lake before the step, what every try said and left, what was there in the end."""

    before: Hashes
    tries: list[tuple[str, Hashes]]
    after: Hashes


@pytest.mark.parametrize("step", WRITING)
def test_a_disk_that_fills_in_a_step_costs_no_object_and_once_there_is_space_the_year_is_as_ever(
    old_year: Path, database: str, untouched: Hashes, tmp_path: Path, step: str
) -> None:
    """With a little more space at every try, so that it ends at every place of the step."""

    def run(disk: Disk) -> Filled:
        settings = with_new_file(old_year, disk.folder / "lake", database)
        for name in NAMES[: NAMES.index(step)]:
            STEPS[name](settings)
        before, tries, room = hashes(settings), [], 0
        while True:
            disk.leave(room)
            told = sentence_of(STEPS[step], settings)
            if told is None:
                break
            tries.append((told, hashes(settings)))
            room = max(4096, int(room * ROOM_GROWS_BY))
        disk.clear()
        for name in NAMES[NAMES.index(step) :]:
            STEPS[name](settings)
        return Filled(before, tries, hashes(settings))

    found = machine.with_small_disk(tmp_path / "disk", 64 * MB, run)

    assert found.tries
    for told, there in found.tries:
        assert told.startswith(f"No space left on the disk of {tmp_path}/disk/lake while ")
        assert "free some space" in told
        assert {key for key, data in there.items() if data not in (found.before.get(key), untouched.get(key))} == set()
        assert found.before.keys() & untouched.keys() <= there.keys()
    assert found.after == untouched


# --- memory -----------------------------------------------------------------------------------------------------------

# The command line in a process that may have 25 MiB of addresses more than it has with its libraries; the sums of
# a year alone need 30.
CONFINED = """
import resource, psutil
from utils.pipeline import refine
from utils.cli.app import app
most = psutil.Process().memory_info().vms + (25 << 20)
resource.setrlimit(resource.RLIMIT_AS, (most, most))
app()
"""


def test_a_step_that_is_refused_memory_ends_with_one_sentence_and_the_old_year_stays(
    old_year: Path, database: str, tmp_path: Path
) -> None:
    settings = with_new_file(old_year, tmp_path / "lake", database)
    before = hashes(settings)

    done = subprocess.run(
        [sys.executable, "-c", CONFINED, "silver", "--year", str(YEAR), "--lake", settings.lake],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(DAGS)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: Out of memory while processing {YEAR}; raise the memory limit")
    assert hashes(settings) == before


@pytest.mark.parametrize("step", NAMES)
def test_a_step_that_the_kernel_kills_for_its_memory_costs_no_object_and_the_next_one_is_as_ever(
    old_year: Path, database: str, untouched: Hashes, tmp_path: Path, step: str
) -> None:
    """With a little more memory at every try, so that it ends at every place of the step."""
    settings = with_new_file(old_year, tmp_path / "lake", database)
    for name in NAMES[: NAMES.index(step)]:
        STEPS[name](settings)
    before, limit = hashes(settings), 2 * MB
    codes: list[int | None] = []

    with machine.memory_group(f"delaywatch-test-{os.getpid()}") as group:
        while not codes or codes[-1]:
            codes.append(machine.within(group, limit, lambda: STEPS[step](settings)))
            there = {key: data for key, data in hashes(settings).items() if not key.startswith("_staging/")}
            assert {key for key, data in there.items() if data not in (before.get(key), untouched.get(key))} == set()
            assert before.keys() & untouched.keys() <= there.keys()
            limit = int(limit * ROOM_GROWS_BY)

    assert set(codes[:-1]) == {-signal.SIGKILL}
    for name in NAMES:
        STEPS[name](settings)
    assert hashes(settings) == untouched
