"""The command `silver --engine spark` when processes are killed, and when programs are missing or wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from subprocess import CompletedProcess
from threading import Thread

import psutil
import pytest

from tests.builders import csv_of, flight
from tests.command import utils
from tests.servers.startup import wait_until
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


def children(pid: int, word: str) -> list[psutil.Process]:
    """The children of a process, and theirs, that have the word in their command line."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if word in " ".join(process.cmdline()):
                found.append(process)
    return found


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
    program = Path(sysconfig.get_path("scripts")) / "spark-submit"
    submit: list[str | Path] = [program, "--master", "local-cluster[2,1,1024]", DAGS / "utils/__main__.py", *SILVER]
    environment = {
        **os.environ,
        "SPARK_HOME": str(spark_home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYTHONPATH": str(DAGS),
        "PYSPARK_PYTHON": sys.executable,
        "DELAYWATCH_LAKE": folder_settings.lake,
    }
    with subprocess.Popen(submit, env=environment, stderr=subprocess.PIPE, text=True) as command:
        wait_until(lambda: parts(folder_settings) or command.poll() is not None, "a part is in the lake", 300)
        assert command.poll() is None, command.communicate()
        executors = children(command.pid, "CoarseGrainedExecutorBackend")
        assert len(executors) == 2
        executors[0].kill()
        _, errors = command.communicate()

    assert command.returncode == 0, errors
    assert "Lost executor" in errors
    assert Lake(folder_settings).store.get(keys.manifest_key(YEAR)) == manifest


def test_a_step_survives_the_end_of_the_python_processes_of_executors(
    folder_settings: Settings, spark_engine: SparkEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_reader, "PIECES_PER_PART", 1)
    Lake(folder_settings).store.put(BRONZE_KEY, large_csv(40 * MIB))  # 10 parts
    manifest = manifest_by_threads(folder_settings)
    killed = []

    def kill_workers() -> None:
        wait_until(lambda: parts(folder_settings), "a part is in the lake")
        processes = children(os.getpid(), "pyspark.daemon")  # daemons, and their workers with the same command line
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                if process.parent() in processes:
                    process.kill()
                    killed.append(process)

    thread = Thread(target=kill_workers)
    thread.start()
    refine.write_silver(folder_settings, YEAR)
    thread.join()
    assert killed
    assert Lake(folder_settings).store.get(keys.manifest_key(YEAR)) == manifest


def test_the_end_of_spark_itself_has_one_message(folder_settings: Settings) -> None:
    Lake(folder_settings).store.put(BRONZE_KEY, large_csv(100 * MIB))
    environment = {**os.environ, "PYTHONPATH": str(DAGS), "DELAYWATCH_LAKE": folder_settings.lake}
    line = [sys.executable, "-m", "utils", *SILVER]
    with subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True) as command:
        wait_until(lambda: parts(folder_settings) or command.poll() is not None, "a part is in the lake", 300)
        (java,) = children(command.pid, "org.apache.spark.deploy.SparkSubmit")
        java.kill()
        _, errors = command.communicate()

    assert command.returncode == 1
    assert [line for line in errors.splitlines() if line.startswith("Error: Spark could not finish its tasks")]
    assert "Traceback" not in errors
    assert not Lake(folder_settings).store.has(keys.manifest_key(YEAR))


# --- programs that are missing or wrong -------------------------------------------------------------------------------


def refused_with(outcome: CompletedProcess[str], settings: Settings) -> str:
    """The one message of a command that has committed nothing."""
    assert outcome.returncode == 1
    (message,) = [line for line in outcome.stderr.splitlines() if line.startswith("Error: ")]
    assert "Traceback" not in outcome.stderr
    assert not Lake(settings).store.list("02_silver/")
    return message


@pytest.fixture
def settings(folder_settings: Settings) -> Settings:
    """A lake with the small year."""
    Lake(folder_settings).store.put(BRONZE_KEY, BRONZE)
    return folder_settings


def test_spark_without_pyspark_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark.errors", None)
    message = refused_with(utils(*SILVER, DELAYWATCH_LAKE=settings.lake), settings)
    assert "needs pyspark" in message
    assert "install requirements/spark.txt" in message


def java_program(printed: str) -> str:
    return f"#!/bin/sh\necho '{printed}' >&2\n"


@pytest.mark.parametrize(
    ("program", "variable", "fault"),
    [
        pytest.param(None, "PATH", "there is none on the PATH", id="no Java"),
        pytest.param(None, "JAVA_HOME", "there is none in JAVA_HOME ({folder})", id="empty JAVA_HOME"),
        pytest.param(java_program('openjdk version "11.0.2"'), "PATH", "{folder}/java, is version 11", id="11"),
        pytest.param(java_program('java version "1.8.0_392"'), "JAVA_HOME", "{folder}/bin/java, is version 8", id="8"),
        pytest.param(java_program('openjdk version "25"'), "PATH", "{folder}/java, is version 25", id="25"),
        pytest.param("", "PATH", "{folder}/java, is of an unknown version", id="not a program"),
    ],
)
def test_spark_without_a_java_that_it_can_use_is_refused(
    program: str | None, variable: str, fault: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    java = tmp_path / ("bin/java" if variable == "JAVA_HOME" else "java")
    if program is not None:
        java.parent.mkdir(exist_ok=True)
        java.write_text(program)
        java.chmod(0o755)
    message = refused_with(utils(*SILVER, DELAYWATCH_LAKE=settings.lake, **{variable: str(tmp_path)}), settings)
    assert fault.format(folder=tmp_path) in message
    assert "install Java 17" in message


@pytest.mark.parametrize(("memory", "cause"), [("1k", "JAVA_GATEWAY_EXITED"), ("100m", "INVALID_DRIVER_MEMORY")])
def test_a_spark_that_does_not_start_is_named(memory: str, cause: str, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "spark-defaults.conf").write_text(f"spark.driver.memory {memory}\n")
    environment = {
        **os.environ,
        "PYTHONPATH": str(DAGS),
        "SPARK_CONF_DIR": str(tmp_path),
        "DELAYWATCH_LAKE": settings.lake,
    }
    command = [sys.executable, "-m", "utils", *SILVER]
    message = refused_with(
        subprocess.run(command, env=environment, capture_output=True, text=True, check=False), settings
    )
    assert "Spark does not start" in message
    assert cause in message
