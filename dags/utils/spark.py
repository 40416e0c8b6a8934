"""The Spark engine: calls functions in the executors of a Spark cluster. The only module that imports pyspark.

Spark distributes numbers. Executors read their bytes from the lake and write their parts to it; only results return,
so no flight passes through Spark's shuffle. A task that Spark repeats, or runs twice, writes the same objects again.
"""

from __future__ import annotations

import logging
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
from itertools import islice
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
FIRST_TASKS = 16  # at most: a file whose first parts are hopeless is not read to its end
TASKS_PER_WORKER = 4  # in each later job; the results of a job are in memory at the same time
_PACKAGES = "requirements/spark.txt"
_RESULT = "result binary"
_KEYS = "month byte, key long, error binary"  # Spark has no unsigned numbers
_WRONG_PYTHON = re.compile("^(ModuleNotFoundError|ImportError)|PYTHON_VERSION_MISMATCH|PACKAGE_")

_Rows = Callable[[Any], pa.RecordBatch]

log = logging.getLogger(__name__)


class SparkEngine(Cluster):
    """Runs each call as one Spark task. Functions, items and results are pickled."""

    def __init__(self, session: SparkSession, threads: int) -> None:
        """Use the executors of `session`, and `threads` threads for what the driver does itself."""
        self.threads = threads
        self._session = session

    @override
    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
        workers, waiting = self._session.sparkContext.defaultParallelism, iter(items)
        job = list(islice(waiting, min(workers, FIRST_TASKS)))
        while job:
            for data in self._collect(self._tasks(work, job, _result_row, _RESULT))["result"].to_pylist():
                result = pickle.loads(data)  # noqa: S301 - our own executors wrote it
                if isinstance(result, DelaywatchError | SplitRecord):
                    raise result
                yield result
            job = list(islice(waiting, TASKS_PER_WORKER * workers))

    @override
    def repeated(self, keys_of: Callable[[Item], Mapping[int, np.ndarray]], items: Iterable[Item]) -> RepeatedKeys:
        from pyspark.sql.functions import expr

        keys = self._tasks(keys_of, list(items), _key_rows, _KEYS).groupBy("month", "key")
        counted = keys.agg(expr("count(*) AS rows"), expr("max(error) AS error"))
        repeated = self._collect(counted.where("rows > 1 OR error IS NOT NULL").select("month", "key", "error"))
        errors = repeated["error"].drop_null()
        if len(errors):
            raise pickle.loads(errors[0].as_py())  # noqa: S301 - our own executors wrote it
        months, hashes = (repeated[name].to_numpy() for name in ("month", "key"))
        return {int(month): np.sort(hashes[months == month].view(np.uint64)) for month in np.unique(months)}

    def _tasks(self, work: Callable[[Item], Result], items: list[Item], as_rows: _Rows, schema: str) -> DataFrame:
        """Return the rows of work(item) for each item, not computed yet."""
        work_data, item_data, versions = pickle.dumps(work), [pickle.dumps(item) for item in items], _versions()
        numbers = self._session.range(0, len(items), 1, numPartitions=len(items))

        def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                for number in batch.column(0).to_pylist():
                    yield as_rows(_result(work_data, item_data[number], versions))

        return numbers.mapInArrow(run, schema)

    @staticmethod
    def _collect(frame: DataFrame) -> pa.Table:
        """Run the tasks and return all rows. Raises Unavailable if Spark fails, InvalidInput without a package."""
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException, PythonException

        try:
            return frame.toArrow()
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
                f"Spark could not finish its tasks ({_cause(error)}); see the logs of driver and executors, give more "
                "memory to those that ran out of it, then run the step again. Nothing was committed."
            ) from error


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
    log.info("The master of Spark is %s", session.sparkContext.master)
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
    """Return the first cause of Java's exception, or else the first line of the error; at most 300 characters."""
    text = str(error).rpartition("Driver stacktrace:")[2]  # before it, the stack trace of the executor
    causes = re.findall("^Caused by: (.+)", text, re.MULTILINE) or re.findall("^: (.+)", str(error), re.MULTILINE)
    return (causes[0] if causes else str(error).strip().partition("\n")[0] or type(error).__name__)[:300]


# --- in the executors -------------------------------------------------------------------------------------------------


def _versions() -> tuple[str, str]:
    """Return the versions of Delaywatch and pyarrow. Another version could write other bytes."""
    return __version__, pa.__version__


def _result(work_data: bytes, item_data: bytes, versions: tuple[str, str]) -> Any:
    """Return work(item), or the error that the driver must raise. The arguments are pickled by our own driver."""
    pa.set_memory_pool(pa.system_memory_pool())  # as in ingest_year
    try:
        if _versions() != versions:
            raise InvalidInput(
                f"The executor {socket.gethostname()} has Delaywatch and pyarrow {', '.join(_versions())}, the driver "
                f"has {', '.join(versions)}; install the same packages on both."
            )
        return _unpickled(work_data)(pickle.loads(item_data))  # noqa: S301
    except (DelaywatchError, SplitRecord) as error:
        return error
    except MemoryError:
        return Unavailable(
            f"The executor {socket.gethostname()} is out of memory; give the executors more, or fewer cores each, then "
            "run the step again. Nothing was committed."
        )


@lru_cache(maxsize=1)
def _unpickled(work_data: bytes) -> Callable[[Any], Any]:
    """Unpickle a function once per process, because it contains a connection to the lake."""
    work: Callable[[Any], Any] = pickle.loads(work_data)  # noqa: S301
    return work


def _result_row(result: Any) -> pa.RecordBatch:
    """Return the result as a row of _RESULT."""
    return pa.record_batch([pa.array([pickle.dumps(result)], pa.binary())], names=["result"])


def _key_rows(keys: Mapping[int, np.ndarray] | Exception) -> pa.RecordBatch:
    """Return the hashes, or the error, as rows of _KEYS."""
    if isinstance(keys, Exception):
        months, hashes, errors = np.zeros(1, np.int8), np.zeros(1, np.uint64), pa.array([pickle.dumps(keys)])
    else:
        months = np.repeat(np.array(list(keys), np.int8), [len(hashes) for hashes in keys.values()])
        hashes = np.concatenate([np.zeros(0, np.uint64), *keys.values()])
        errors = pa.nulls(len(hashes), pa.binary())
    return pa.record_batch([pa.array(months), pa.array(hashes.view(np.int64)), errors], names=["month", "key", "error"])
