"""`python -m utils silver --engine spark` on this machine and under spark-submit, with processes that die or are wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from subprocess import CompletedProcess
from threading import Thread

import psutil
import pytest

from tests.builders import csv_of, flight
from tests.command import utils
from tests.conftest import wait_until
from tests.steps import BRONZE, BRONZE_KEY, YEAR
from utils.layers import csv_reader
from utils.pipeline import refine
from utils.settings import Settings
from utils.spark import SparkEngine
from utils.storage import keys
from utils.storage.lake import Lake

DAGS = Path(__file__).parents[2] / "dags"
SILVER = ["silver", "--year", str(YEAR), "--engine", "spark"]
MIB = 1 << 20


def large_csv(size: int) -> bytes:
    """A year of about `size` bytes in date order, quickly: every day has the same flights."""
    header, _, one = csv_of([flight()]).partition(b"\n")
    flights = max(1, size // 365 // len(one))
    day = b"".join(one.replace(b"2429", b"%d" % (1000 + number)) for number in range(flights))
    days = (date(YEAR, 1, 1) + timedelta(number) for number in range(365))
    return header + b"\n" + b"".join(day.replace(b"2015-03-04", str(today).encode()) for today in days)


def manifest_by_threads(settings: Settings) -> bytes | None:
    """The manifest that threads write to the lake, which is left without silver."""
    refine.write_silver(settings.replace(engine="threads"), YEAR)
    manifest = Lake(settings).store.get(keys.manifest_key(YEAR))
    Lake(settings).store.delete(Lake(settings).store.list("02_silver/"))
    return manifest


def parts(settings: Settings) -> list[str]:
    return [key for key in Lake(settings).store.list(keys.silver_folder(YEAR)) if key.endswith(".parquet")]


# --- processes that die -----------------------------------------------------------------------------------------------


@pytest.fixture
def spark_home(tmp_path: Path) -> Path:
    """The installation of PySpark, as links in a folder where its cluster may write the logs of executors."""
    import pyspark

    home = tmp_path / "spark"
    home.mkdir()
    for path in Path(pyspark.__file__).parent.iterdir():
        (home / path.name).symlink_to(path)
    return home


def test_a_step_under_spark_submit_survives_an_executor_that_is_killed_in_the_middle_of_a_part(
    folder_settings: Settings, spark_home: Path
) -> None:
    Lake(folder_settings).store.put(BRONZE_KEY, large_csv(100 * MIB))  # 4 parts
    manifest = manifest_by_threads(folder_settings)
    submit = [Path(sysconfig.get_path("scripts"), "spark-submit"), "--master", "local-cluster[2,1,1024]"]
    environment = {
        **os.environ,
        "SPARK_HOME": str(spark_home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYTHONPATH": str(DAGS),
        "PYSPARK_PYTHON": sys.executable,
        "DELAYWATCH_LAKE": folder_settings.lake,
    }
    with subprocess.Popen(
        [*submit, DAGS / "utils/__main__.py", *SILVER], env=environment, stderr=subprocess.PIPE, text=True
    ) as command:
        while not parts(folder_settings):
            assert command.poll() is None, command.communicate()
            time.sleep(0.05)
        executors = [process for process in psutil.Process(command.pid).children(recursive=True) if is_executor(process)]
        assert len(executors) == 2
        executors[0].kill()
        _, errors = command.communicate()

    assert command.returncode == 0, errors
    assert "Lost executor" in errors
    assert Lake(folder_settings).store.get(keys.manifest_key(YEAR)) == manifest


def is_executor(process: psutil.Process) -> bool:
    return any("CoarseGrainedExecutorBackend" in word for word in process.cmdline())


def test_a_step_survives_the_end_of_the_python_processes_of_executors(
    folder_settings: Settings, spark_engine: SparkEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_reader, "PIECES_PER_PART", 1)
    Lake(folder_settings).store.put(BRONZE_KEY, large_csv(40 * MIB))  # 10 parts
    manifest = manifest_by_threads(folder_settings)
    killed = []

    def kill_workers() -> None:
        wait_until(lambda: bool(parts(folder_settings)))
        for process in psutil.Process().children(recursive=True):
            if "pyspark.daemon" in process.cmdline() and "pyspark.daemon" in process.parent().cmdline():
                process.kill()
                killed.append(process.pid)

    thread = Thread(target=kill_workers)
    thread.start()
    refine.write_silver(folder_settings, YEAR)
    thread.join()
    assert killed
    assert Lake(folder_settings).store.get(keys.manifest_key(YEAR)) == manifest
