"""Two hosts write to one lake on the real SeaweedFS: a year is never lost or mixed. A host is a process with a scratch
folder of its own, so no lock file is common to both.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any
from urllib.parse import quote

import pytest

from tests.builders import csv_of, flight
from tests.integration.conftest import new_bucket
from tests.servers.keys import KEYS
from tests.servers.proxy import Proxy
from tests.steps import files
from utils.errors import Busy
from utils.pipeline import refine
from utils.settings import Settings
from utils.storage import keys
from utils.storage.folder import FolderSource
from utils.storage.lake import Lake
from utils.storage.parquet import content_hash

ROOT = Path(__file__).parents[3]
YEAR = 2015
YEARS = range(2009, 2019)


@pytest.fixture
def settings(seaweedfs_url: str, tmp_path: Path) -> Settings:
    """Settings of an empty lake on SeaweedFS."""
    return new_bucket(seaweedfs_url, tmp_path / "scratch")


# --- two hosts commit different silver of one year ----------------------------------------------------------------

HOSTS = {"A": 0, "B": 1}  # rejected rows in the CSV of each host
FLIGHTS = 120
RUN: dict[str, Any] = {}  # in the process of a host: settings, csv


def start_host(settings: Settings, csv: Path, barrier: Barrier) -> None:
    """Prepare the process of a host, which has its own CSV. Its commits wait until the other host commits too."""
    RUN.update(settings=settings, csv=csv)
    commit = Lake.commit_silver

    def commit_together(*given: Any, **named: Any) -> None:
        barrier.wait(60)  # both hosts have read the version and the CSV
        commit(*given, **named)

    Lake.commit_silver = commit_together  # type: ignore[method-assign]
    Lake.open_bronze = lambda *_: FolderSource("01_bronze/2015.csv", csv)  # type: ignore[method-assign]


def write_silver(csv: bytes) -> str | None:
    """Write the silver of this host's CSV. Return the message if another run has overtaken it."""
    RUN["csv"].write_bytes(csv)
    try:
        refine.write_silver(RUN["settings"], YEAR)
    except Busy as error:
        return str(error)
    return None


@contextmanager
def two_hosts(settings: Settings, folder: Path) -> Iterator[dict[str, ProcessPoolExecutor]]:
    """Start a process per host."""
    spawn = multiprocessing.get_context("spawn")
    barrier: Barrier = spawn.Barrier(len(HOSTS))
    with ExitStack() as stack:
        hosts = {}
        for name in HOSTS:
            arguments = settings.replace(scratch=folder / name, threads=1), folder / f"{name}.csv", barrier
            host = ProcessPoolExecutor(1, spawn, initializer=start_host, initargs=arguments)
            hosts[name] = stack.enter_context(host)
        yield hosts


@pytest.mark.parametrize("races", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_one_of_two_hosts_wins_and_the_year_is_entirely_its_own(settings: Settings, tmp_path: Path, races: int) -> None:
    lake = Lake(settings)
    with two_hosts(settings, tmp_path) as hosts:
        for race in range(races):
            outcomes = {name: host.submit(write_silver, csv_of_host(name, race)) for name, host in hosts.items()}
            wait(outcomes.values(), 60, FIRST_EXCEPTION)
            messages = {name: outcome.result(0) for name, outcome in outcomes.items()}

            (winner,) = (name for name, message in messages.items() if message is None)
            (message,) = (message for message in messages.values() if message)
            assert "Another run committed 2015" in message
            assert "nothing was overwritten" in message
            check_silver(lake, winner, race)


def csv_of_host(name: str, race: int) -> bytes:
    """Return a CSV with the rejected rows of the host first; the distance is the number of the race."""
    return csv_of(
        flight(OP_CARRIER_FL_NUM=str(number), ORIGIN="JFK" if number > HOSTS[name] else "", DISTANCE=f"{race + 1}.0")
        for number in range(1, FLIGHTS + 1)
    )


def check_silver(lake: Lake, winner: str, race: int) -> None:
    """Assert that everything in silver is of the winner of this race."""
    expected = [(number, race + 1) for number in range(HOSTS[winner] + 1, FLIGHTS + 1)]
    manifest, quality = lake.manifest(YEAR), lake.read_quality(YEAR)
    rejected = lake.store.get(keys.rejected_key(YEAR)) or b""

    parts = [part.to_pydict() for part in lake.read_silver(YEAR, ["op_carrier_fl_num", "distance"])]
    assert [row for part in parts for row in zip(*part.values(), strict=True)] == expected
    assert manifest["rows"] == sum(lake.read_sums(YEAR)["scheduled"].to_pylist()) == len(expected)
    assert quality["rows_kept"] == len(expected)
    assert manifest["rejected"] == content_hash(rejected)
    assert lake.read_table(keys.rejected_key(YEAR)).num_rows == HOSTS[winner]


# --- two hosts run ten years, and one of them dies ----------------------------------------------------------------


def silver(settings: Settings, scratch: Path, years: list[int]) -> subprocess.Popen[bytes]:
    """Start `python -m utils silver` as on a host."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DELAYWATCH_"))}
    variables = {"DELAYWATCH_LAKE": settings.lake, "DELAYWATCH_SCRATCH": str(scratch), "DELAYWATCH_THREADS": "1"}
    variables |= {"AWS_ENDPOINT_URL": str(settings.aws_endpoint_url), "AWS_DEFAULT_REGION": "us-east-1"}
    variables |= {name.upper(): value for name, value in KEYS.items()} | {"PYTHONPATH": str(ROOT / "dags")}
    command = [sys.executable, "-m", "utils", "silver", "--year", ",".join(map(str, years))]
    return subprocess.Popen(command, env=others | variables, stdout=subprocess.DEVNULL)


def fill(settings: Settings) -> Settings:
    for year in YEARS:
        flights = [flight(FL_DATE=f"{year}-03-04", OP_CARRIER_FL_NUM=str(number)) for number in range(50)]
        Lake(settings).store.put(keys.bronze_keys(year)[0], csv_of(flights))
    return settings


@pytest.mark.slow
def test_a_host_finishes_ten_years_after_the_other_has_died(
    settings: Settings, seaweedfs_url: str, tmp_path: Path
) -> None:
    alone = fill(new_bucket(seaweedfs_url, tmp_path / "alone"))
    fill(settings)
    manifest = quote(f"{settings.lake.removeprefix('s3://')}/{keys.manifest_key(2012)}")
    address, port = seaweedfs_url.removeprefix("http://").split(":")

    with Proxy((address, int(port))) as proxy:
        through_proxy = settings.replace(aws_endpoint_url=f"http://127.0.0.1:{proxy.port}")
        dying = silver(through_proxy, tmp_path / "A", list(YEARS))

        def die_in_the_commit() -> None:
            if len(proxy.struck) == 2:  # the first question for the version is at the start of the year
                dying.kill()

        proxy.before(b"HEAD /" + manifest.encode(), die_in_the_commit, times=2)
        surviving = silver(settings, tmp_path / "B", list(reversed(YEARS)))
        for host in (dying, surviving):
            host.wait(120)
    assert silver(alone, tmp_path / "alone", list(YEARS)).wait(120) == 0

    assert (dying.returncode, surviving.returncode) == (-signal.SIGKILL, 0)
    assert files(settings) == files(alone)
    assert json.loads(files(settings)[keys.manifest_key(2012)] or b"")["rows"] == 50
