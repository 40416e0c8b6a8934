"""The Spark engine: calls functions in the executors of a Spark cluster. The only module that imports pyspark.

Spark distributes numbers. Executors read their bytes from the lake and write their parts to it; only results return,
so no flight passes through Spark's shuffle. A task that Spark repeats, or runs twice, writes the same objects again.
"""

from __future__ import annotations

import os
import pickle  # driver and executors are one program # nosec B403
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from typing_extensions import override

from utils import __version__
from utils.errors import DelaywatchError, InvalidInput, Unavailable
from utils.layers.engines import Cluster, Item, RepeatedKeys, Result
from utils.layers.silver import SplitRecord

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

JAVA_VERSIONS = (17, 21)  # of Spark 4
_PACKAGES = "requirements/spark.txt"
_RESULT = "result binary"
_KEYS = "month byte, key long"  # Spark has no unsigned numbers
_WRONG_PYTHON = re.compile("^(ModuleNotFoundError|ImportError)|PYTHON_VERSION_MISMATCH|PACKAGE_")

_Rows = Callable[[Any], pa.RecordBatch]


class SparkEngine(Cluster):
    """Runs each call as one Spark task. Functions and items are pickled, results too."""

    def __init__(self, session: SparkSession, threads: int) -> None:
        """Use the executors of `session`, and `threads` threads for what the driver does itself."""
        self.threads = threads
        self._session = session

    @override
    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
        for (data,) in self._collect(self._tasks(work, items, _pickled, _RESULT)):
            result = pickle.loads(data)  # noqa: S301 - our own executors wrote it # nosec B301
            if isinstance(result, DelaywatchError | SplitRecord):
                raise result
            yield result

    @override
    def repeated(self, keys_of: Callable[[Item], Mapping[int, np.ndarray]], items: Iterable[Item]) -> RepeatedKeys:
        keys = self._tasks(keys_of, items, _keys_as_rows, _KEYS)
        rows = self._collect(keys.groupBy("month", "key").count().where("count > 1").select("month", "key"))
        found = np.array([tuple(row) for row in rows], [("month", np.int8), ("key", np.int64)])
        months = np.unique(found["month"]).tolist()
        return {month: np.sort(found["key"][found["month"] == month].view(np.uint64)) for month in months}

    def _tasks(self, work: Callable[[Item], Result], items: Iterable[Item], as_rows: _Rows, schema: str) -> DataFrame:
        """Return the rows of work(item) for each item, not computed yet."""
        all_items = list(items)
        payload = pickle.dumps((work, all_items))
        versions = _versions()
        numbers = self._session.range(0, len(all_items), 1, numPartitions=len(all_items))
        return numbers.mapInArrow(lambda batches: _run(batches, payload, versions, as_rows), schema)

    @staticmethod
    def _collect(frame: DataFrame) -> list[Any]:
        """Run the tasks and return all rows. Raises Unavailable if Spark fails, InvalidInput without a package."""
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException, PythonException

        try:
            rows: list[Any] = frame.collect()
        except PythonException as error:
            last_line = str(error).strip().rpartition("\n")[2]
            if _WRONG_PYTHON.search(last_line):
                raise InvalidInput(
                    f"The executors of Spark have another Python or lack a package ({last_line}); give them the Python "
                    f"of the driver, {_PACKAGES} and Delaywatch, see PYSPARK_PYTHON, PYTHONPATH and --py-files."
                ) from error
            raise  # an error in our code
        except (PySparkException, Py4JError, OSError) as error:
            raise Unavailable(
                f"Spark could not finish its tasks ({_cause(error)}); see the log of its executors, give them more "
                "memory if they were killed, then run the step again. Nothing was committed."
            ) from error
        return rows


@contextmanager
def open_engine(name: str, threads: int) -> Iterator[SparkEngine]:
    """Yield an engine: with the cluster of spark-submit, or else with `threads` workers on this machine.

    name: the name of the Spark application. Raises InvalidInput without pyspark or a Java that it can use, Unavailable
    if Spark does not start.
    """
    try:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ModuleNotFoundError as error:
        raise InvalidInput(
            f"The engine spark needs pyspark, which {sys.executable} does not have; install {_PACKAGES}, or choose "
            "--engine threads."
        ) from error
    builder = SparkSession.builder.appName(name).config("spark.log.level", "ERROR")
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # otherwise spark-submit has started Java and chosen the cluster
        check_java()
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        builder = (
            builder.master(f"local[{threads},4]")  # 4 tries per task
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.ui.enabled", "false")
            .config("spark.ui.showConsoleProgress", "false")
        )
    try:
        session = builder.getOrCreate()
    except (PySparkException, Py4JError, OSError) as error:
        raise Unavailable(
            f"Spark does not start ({_cause(error)}); look at its messages above, correct its settings and run the "
            "step again."
        ) from error
    try:
        yield SparkEngine(session, threads)
    finally:
        with suppress(Py4JError, OSError):  # Java may have died, and the error of the step says so
            session.stop()


def check_java() -> None:
    """Raise InvalidInput unless the Java that Spark would start has one of JAVA_VERSIONS."""
    home = os.environ.get("JAVA_HOME")
    program = shutil.which("java", path=str(Path(home, "bin")) if home else None)
    versions = " or ".join(map(str, JAVA_VERSIONS))
    place = f"in JAVA_HOME ({home})" if home else "on the PATH"
    remedy = f"install Java {versions} (Debian: openjdk-17-jre-headless), or choose --engine threads."
    if not program:
        raise InvalidInput(f"The engine spark needs Java, and there is none {place}; {remedy}")
    try:
        printed = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stderr
    except OSError:  # not a program, or one of another processor
        printed = ""
    version = re.search(r'version "(?:1\.)?(\d+)', printed)
    if not version or int(version[1]) not in JAVA_VERSIONS:
        raise InvalidInput(
            f"The Java {place}, {program}, is {f'version {version[1]}' if version else 'of an unknown version'}, but "
            f"Spark needs {versions}; {remedy}"
        )


def _cause(error: Exception) -> str:
    """Return the line of Spark's error that says most: the first cause of Java's exception, or the exception."""
    text = str(error).rpartition("Driver stacktrace:")[2]  # before it, the stack trace of the executor
    causes = re.findall("^Caused by: (.+)", text, re.MULTILINE) or re.findall("^: (.+)", str(error), re.MULTILINE)
    return (causes[0] if causes else str(error).strip().partition("\n")[0] or type(error).__name__)[:300]


# --- in the executors -------------------------------------------------------------------------------------------------


def _versions() -> tuple[str, str]:
    """Return the versions that must be equal everywhere, because parts would have other bytes."""
    return __version__, pa.__version__


def _run(batches: Iterable[pa.RecordBatch], payload: bytes, versions: tuple[str, str], as_rows: _Rows) -> Iterator[Any]:
    """Run the tasks whose numbers are in `batches`; yield the rows of their results."""
    for batch in batches:
        for number in batch.column(0).to_pylist():
            yield as_rows(_result(payload, number, versions))


def _result(payload: bytes, number: int, versions: tuple[str, str]) -> Any:
    """Return work(item), or the error that the driver must raise."""
    pa.set_memory_pool(pa.system_memory_pool())  # as in ingest_year
    try:
        if _versions() != versions:
            raise InvalidInput(
                f"The executor {socket.gethostname()} has Delaywatch and pyarrow {', '.join(_versions())}, the driver "
                f"has {', '.join(versions)}; install the same packages on both."
            )
        work, items = _unpickled(payload)
        return work(items[number])
    except (DelaywatchError, SplitRecord) as error:
        return error
    except MemoryError:
        return Unavailable(
            f"The executor {socket.gethostname()} is out of memory; give the executors more, or fewer cores each, then "
            "run the step again. Nothing was committed."
        )


@lru_cache(maxsize=1)
def _unpickled(payload: bytes) -> tuple[Callable[[Any], Any], list[Any]]:
    """Unpickle function and items once per process, because they contain a connection to the lake."""
    work, items = pickle.loads(payload)  # noqa: S301 - our own driver wrote it # nosec B301
    return work, items


def _pickled(result: Any) -> pa.RecordBatch:
    return pa.record_batch([pa.array([pickle.dumps(result)], pa.binary())], names=["result"])


def _keys_as_rows(keys: Mapping[int, np.ndarray]) -> pa.RecordBatch:
    if isinstance(keys, Exception):
        raise keys
    months = np.repeat(np.array(list(keys), np.int8), [len(hashes) for hashes in keys.values()])
    hashes = np.concatenate([np.zeros(0, np.uint64), *keys.values()]).view(np.int64)
    return pa.record_batch([pa.array(months), pa.array(hashes)], names=["month", "key"])
