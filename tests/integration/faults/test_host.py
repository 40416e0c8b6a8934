"""A host that fails in the middle of a step: a killed process, a full disk, two runs at once.

Every object of the lake stays in its old or its new version, the warehouse changes in one transaction, and the next run
gives the same result as a run without a failure. test_postgres.py tests a lost connection to the warehouse.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import fresh
from tests.servers import machine
from tests.servers.machine import Disk
from tests.steps import BRONZE_KEY, OTHER_BRONZE, STEPS, YEAR, files, rows
from utils.errors import Busy, Unavailable
from utils.pipeline import refine
from utils.settings import Settings
from utils.storage import keys
from utils.storage.lake import Lake

pytestmark = pytest.mark.faults

MB = 1 << 20
GROWTH = 1.7  # of time or room from one attempt to the next, so that a step fails at many places
NAMES = list(STEPS)

Step = Callable[[], object]
Attempts = Iterator[None]  # one item per failed attempt; ends when the step succeeds
State = tuple[dict[str, str], dict[str, Any]]


def state_of(settings: Settings) -> State:
    """Hash of every object in the lake, and the rows of the warehouse without their transactions."""
    objects = {key: hashlib.sha256(data or b"").hexdigest() for key, data in files(settings).items()}
    tables: dict[str, Any] = rows(settings)
    return objects, {name: [row for _, row in table] for name, table in tables.items()}


@pytest.fixture
def settings(done: Settings) -> Settings:
    """A finished year with a new file in bronze, so that every step has something to change."""
    Lake(done).store.put(BRONZE_KEY, OTHER_BRONZE)
    return done


@pytest.fixture(scope="module")
def expected(finished_year: tuple[Path, str], postgres: str, tmp_path_factory: pytest.TempPathFactory) -> State:
    """The state after a run of the new file without a fault."""
    folder, template = finished_year
    lake = tmp_path_factory.mktemp("expected") / "lake"
    shutil.copytree(folder, lake)
    databases = fresh(postgres, template)
    settings = Settings(lake=lake.as_uri(), warehouse=next(databases), scratch=lake.parent, threads=2)
    Lake(settings).store.put(BRONZE_KEY, OTHER_BRONZE)
    for step in STEPS.values():
        step(settings)
    state = state_of(settings)
    databases.close()  # type: ignore[attr-defined]
    return state


def check_survival(settings: Settings, name: str, expected: State, fail: Callable[[Step], Attempts]) -> None:
    """Let the step fail until it succeeds; check the lake and the warehouse after each failure and after a new run."""
    for earlier in NAMES[: NAMES.index(name)]:
        STEPS[earlier](settings)
    old_objects, old_rows = state_of(settings)
    new_objects, new_rows = expected
    failures = 0
    for _ in fail(lambda: STEPS[name](settings)):
        failures += 1
        objects, tables = state_of(settings)
        objects = {key: sha256 for key, sha256 in objects.items() if not key.startswith("_staging/")}
        other = {key for key in objects if objects[key] not in (old_objects.get(key), new_objects.get(key))}
        assert other <= {keys.site_key("site.json")}  # while pages are written, it names the unfinished years
        assert old_objects.keys() & new_objects.keys() <= objects.keys()
        assert tables in (old_rows, new_rows)
    assert failures
    for step in STEPS.values():
        step(settings)
    assert state_of(settings) == expected


def steps(*quick: str, without: str = "") -> pytest.MarkDecorator:
    """Parametrize with the steps; only the `quick` ones run in `make test`."""
    names = [name for name in NAMES if name != without]
    return pytest.mark.parametrize(
        "step", [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]
    )


@steps("upsert")  # it uses lake and warehouse
def test_a_killed_step_loses_nothing(settings: Settings, expected: State, step: str) -> None:
    def kill_ever_later(call: Step) -> Attempts:
        patience_s = 0.004
        while True:
            process = multiprocessing.get_context("fork").Process(target=call)
            process.start()
            process.join(patience_s)
            process.kill()
            process.join()
            if process.exitcode != -signal.SIGKILL:
                break
            yield
            patience_s *= GROWTH
        assert process.exitcode == 0

    check_survival(settings, step, expected, kill_ever_later)


@steps("silver", without="upsert")  # which writes nothing into the lake
def test_a_full_disk_loses_nothing(settings: Settings, expected: State, tmp_path: Path, step: str) -> None:
    def run(disk: Disk) -> bool:
        shutil.copytree(tmp_path / "lake", disk.folder / "lake")

        def leave_ever_more_room(call: Step) -> Attempts:
            room = 0
            while True:
                disk.leave(room)
                try:
                    call()
                except Unavailable as error:
                    assert str(disk.folder) in str(error)
                else:
                    break
                yield
                room = max(4096, int(room * GROWTH))
            disk.clear()

        on_disk = settings.replace(lake=(disk.folder / "lake").as_uri())
        check_survival(on_disk, step, expected, leave_ever_more_room)
        return True

    machine.with_small_disk(tmp_path / "disk", 64 * MB, run)


def write_silver_or_find_it_busy(settings: Settings) -> str:
    try:
        return refine.write_silver(settings, YEAR)
    except Busy:
        return "busy"


def test_two_processes_that_write_the_same_year_do_not_mix(settings: Settings, expected: State) -> None:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        results = pool.map(write_silver_or_find_it_busy, [settings] * 2, chunksize=1)

    assert set(results) - {"busy"}
    for name in NAMES[1:]:
        STEPS[name](settings)
    assert state_of(settings) == expected
