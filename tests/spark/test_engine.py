"""Silver by Spark is the silver by threads, and a failed pass commits nothing."""

from __future__ import annotations

import gzip
import json
import logging
import socket
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

import utils
from tests.builders import HEADER, Flight, csv_of, year_of_flights
from tests.integration.conftest import new_bucket
from tests.servers.seaweedfs import seaweedfs
from tests.steps import BRONZE_KEY, YEAR
from utils import spark
from utils.errors import InvalidInput, Unavailable
from utils.layers import duplicates, ingest
from utils.pipeline import refine
from utils.settings import Settings
from utils.spark import TASKS_PER_WORKER, SparkEngine
from utils.storage import keys
from utils.storage.folder import FolderStore
from utils.storage.lake import Lake

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

BAD_LINE = b"2015-03-04,UA,too few fields\n"
LINES_PER_PART = 200  # at least one line of every 200 is in each part of `small_parts`


@cache
def flights() -> list[Flight]:
    return year_of_flights(YEAR, {"JFK": 4, "ACK": 2})


def shuffled(rows: list[Flight]) -> list[Flight]:
    return Random(1).sample(rows, len(rows))


def with_copies() -> bytes:
    """The year, and far away from it copies of some rows, some of them changed."""
    changed = [{**row, "DISTANCE": "7.0"} for row in flights()[:40:3]]
    return csv_of([*flights(), *flights()[:40], *changed])


def with_bad_lines() -> bytes:
    lines = csv_of(flights()).splitlines(keepends=True)
    is_before_bad_line = [number % LINES_PER_PART == 50 for number in range(len(lines) - 1)] + [True]
    return b"".join(text + BAD_LINE * is_bad for text, is_bad in zip(lines, is_before_bad_line, strict=True))


def with_split_records() -> bytes:
    names = [*HEADER, "REMARK"]
    return csv_of(({**row, "REMARK": '"two\nlines"'} for row in flights()), names)


def put(settings: Settings, data: bytes, key: str = BRONZE_KEY) -> None:
    Lake(settings).store.put(key, data)


def committed(settings: Settings) -> dict[str, bytes | None]:
    """The bytes of the manifest and of all objects whose hashes it has, by key."""
    lake = Lake(settings)
    others = keys.manifest_key(YEAR), keys.sums_key(YEAR), keys.rejected_key(YEAR), keys.quality_key(YEAR)
    return {key: lake.store.get(key) for key in (*others, *lake.silver_parts(YEAR))}


def by_threads(settings: Settings) -> dict[str, bytes | None]:
    """What threads commit to the lake, which is left without silver."""
    refine.write_silver(settings.replace(engine="threads"), YEAR)
    objects = committed(settings)
    Lake(settings).store.delete(Lake(settings).store.list("02_silver/"))
    return objects


def report(objects: dict[str, bytes | None]) -> dict[str, int]:
    """The numbers of parts, of dropped copies and of rejected rows."""
    manifest = json.loads(objects[keys.manifest_key(YEAR)] or b"")
    quality = json.loads(objects[keys.quality_key(YEAR)] or b"")
    return {"parts": len(manifest["parts"]), **{name: quality[f"rows_{name}"] for name in ("duplicate", "rejected")}}


# --- the same silver --------------------------------------------------------------------------------------------------


FILES: dict[str, tuple[Callable[[], bytes], dict[str, int]]] = {
    "plain": (lambda: csv_of(flights()), {"parts": 9, "duplicate": 0, "rejected": 0}),
    "unsorted": (lambda: csv_of(shuffled(flights())), {"parts": 9, "duplicate": 0, "rejected": 0}),
    "CRLF": (lambda: csv_of(flights(), newline="\r\n"), {"parts": 9, "duplicate": 0, "rejected": 0}),
    "one part": (lambda: csv_of(flights()[:100]), {"parts": 1, "duplicate": 0, "rejected": 0}),
    "a bad line in each part": (with_bad_lines, {"parts": 9, "duplicate": 0, "rejected": 12}),
    "copies across parts": (with_copies, {"parts": 9, "duplicate": 54, "rejected": 0}),
}


@pytest.mark.parametrize(("file", "expected"), FILES.values(), ids=FILES)
def test_spark_commits_the_bytes_that_threads_commit(
    file: Callable[[], bytes],
    expected: dict[str, int],
    folder_settings: Settings,
    small_parts: None,
    spark_engine: SparkEngine,
    only_executors_parse: Callable[[], None],
) -> None:
    put(folder_settings, file())
    objects = by_threads(folder_settings)
    assert report(objects) == expected

    only_executors_parse()
    refine.write_silver(folder_settings, YEAR)
    assert committed(folder_settings) == objects


def test_copies_are_dropped_alike_if_spark_groups_the_hashes_of_a_huge_file(
    folder_settings: Settings, small_parts: None, spark_engine: SparkEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder_settings, with_copies())
    objects = by_threads(folder_settings)

    monkeypatch.setattr(ingest, "MAX_SENT_KEYS_BYTES", 0)
    monkeypatch.setattr(duplicates.KeyFiles, "repeated", None)  # the driver has no hashes to search
    refine.write_silver(folder_settings, YEAR)
    assert committed(folder_settings) == objects


def test_spark_commits_to_a_bucket_what_threads_commit_there(
    bucket_settings: Settings, small_parts: None, spark_engine: SparkEngine, only_executors_parse: Callable[[], None]
) -> None:
    put(bucket_settings, with_copies())
    objects = by_threads(bucket_settings)

    only_executors_parse()
    refine.write_silver(bucket_settings, YEAR)
    assert committed(bucket_settings) == objects


def test_threads_read_a_file_with_line_breaks_in_quoted_fields_instead(
    folder_settings: Settings, small_parts: None, spark_engine: SparkEngine, caplog: pytest.LogCaptureFixture
) -> None:
    put(folder_settings, with_split_records())
    objects = by_threads(folder_settings)
    caplog.clear()

    with caplog.at_level(logging.INFO):
        refine.write_silver(folder_settings, YEAR)
    assert f"{BRONZE_KEY} has line breaks in quoted fields" in caplog.text
    assert committed(folder_settings) == objects


def test_threads_read_a_gzip_and_spark_is_not_started(
    folder_settings: Settings, small_parts: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(folder_settings, gzip.compress(with_copies()), f"{BRONZE_KEY}.gz")
    objects = by_threads(folder_settings)
    monkeypatch.setattr(spark, "open_engine", None)

    with caplog.at_level(logging.INFO):
        refine.write_silver(folder_settings, YEAR)
    assert f"{BRONZE_KEY}.gz is compressed, so threads" in caplog.text
    assert committed(folder_settings) == objects


# --- a pass that fails ------------------------------------------------------------------------------------------------


@pytest.fixture
def old_silver(lake_settings: Settings, small_parts: None) -> Settings:
    """A lake with silver, and another CSV in bronze."""
    put(lake_settings, csv_of(flights()[:300]))
    refine.write_silver(lake_settings.replace(engine="threads"), YEAR)
    put(lake_settings, csv_of(flights()))
    return lake_settings


def test_a_file_that_is_replaced_before_the_executors_read_it_is_not_committed(
    old_silver: Settings, spark_engine: SparkEngine, before_tasks: Callable[[Callable[[], object]], None]
) -> None:
    before_tasks(lambda: put(old_silver, csv_of(shuffled(flights()))))  # of the same size
    objects = committed(old_silver)
    with pytest.raises(Unavailable, match=f"{BRONZE_KEY} is another version|changed while reading {BRONZE_KEY}"):
        refine.write_silver(old_silver, YEAR)
    assert committed(old_silver) == objects


def test_a_file_of_another_year_is_refused_before_its_later_parts_are_read(
    folder_settings: Settings, small_parts: None, spark_engine: SparkEngine
) -> None:
    data = csv_of([{**flight, "FL_DATE": flight["FL_DATE"].replace(str(YEAR), "2014")} for flight in flights() * 6])
    put(folder_settings, data)

    with pytest.raises(InvalidInput, match="FL_DATE is '2014-01-01' in line 2"):
        refine.write_silver(folder_settings, YEAR)
    assert len(Lake(folder_settings).store.list("02_silver/")) == 2 + 2 * TASKS_PER_WORKER  # of 54


def test_a_part_that_is_missing_when_spark_groups_the_hashes_is_named(
    folder_settings: Settings, small_parts: None, spark_engine: SparkEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    repeated = SparkEngine.repeated

    def repeated_without_parts(*arguments: Any) -> object:
        store = Lake(folder_settings).store
        store.delete(store.list("02_silver/"))
        return repeated(*arguments)

    put(folder_settings, csv_of(flights()))
    monkeypatch.setattr(ingest, "MAX_SENT_KEYS_BYTES", 0)
    monkeypatch.setattr(SparkEngine, "repeated", repeated_without_parts)

    with pytest.raises(Unavailable, match=r"part-.*\.parquet disappeared during the silver step"):
        refine.write_silver(folder_settings, YEAR)


@pytest.fixture
def executors_import_from(
    session: SparkSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str, str], None]:
    """A function that puts a file with this text in front of the packages of the executors."""
    environment = session.sparkContext.environment

    def write(name: str, text: str) -> None:
        path = tmp_path / "executors" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
        monkeypatch.setitem(environment, "PYTHONPATH", str(tmp_path / "executors"))

    return write


def test_executors_with_another_pyarrow_are_refused(
    folder_settings: Settings, executors_import_from: Callable[[str, str], None]
) -> None:
    put(folder_settings, csv_of(flights()))
    executors_import_from("sitecustomize.py", "import pyarrow; pyarrow.__version__ = '99.1.2'")
    with pytest.raises(InvalidInput) as error:
        refine.write_silver(folder_settings, YEAR)
    assert f"{socket.gethostname()} has Delaywatch and pyarrow {utils.__version__}, 99.1.2" in str(error.value)
    assert f"the driver has {utils.__version__}, {pa.__version__}" in str(error.value)
    assert not Lake(folder_settings).store.list("02_silver/")


def test_executors_without_our_packages_are_refused(
    folder_settings: Settings, executors_import_from: Callable[[str, str], None]
) -> None:
    put(folder_settings, csv_of(flights()))
    executors_import_from("utils/__init__.py", "")  # and nothing else
    with pytest.raises(InvalidInput, match=r"No module named 'utils\.spark'"):
        refine.write_silver(folder_settings, YEAR)
    assert not Lake(folder_settings).store.list("02_silver/")


REFINE = """
import os, signal
from utils.layers import silver
def refine(*_, **__):
    {end}
silver.refine = refine
"""


@pytest.mark.parametrize(
    ("end", "fault"),
    [
        ("raise MemoryError", f"The executor {socket.gethostname()} is out of memory"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "Python worker exited unexpectedly"),
    ],
)
def test_executors_that_run_out_of_memory_are_named(
    end: str, fault: str, folder_settings: Settings, executors_import_from: Callable[[str, str], None]
) -> None:
    put(folder_settings, csv_of(flights()))
    executors_import_from("sitecustomize.py", REFINE.format(end=end))
    with pytest.raises(Unavailable, match=fault):
        refine.write_silver(folder_settings, YEAR)
    assert not Lake(folder_settings).store.list("02_silver/")


def test_executors_that_cannot_see_the_folder_of_the_lake_are_named(
    folder_settings: Settings, spark_engine: SparkEngine, before_tasks: Callable[[Callable[[], object]], None]
) -> None:
    put(folder_settings, csv_of(flights()))
    lake = Lake(folder_settings).store
    assert isinstance(lake, FolderStore)
    before_tasks(lambda: lake.root.rename(lake.root.with_name("mounted elsewhere")))
    with pytest.raises(Unavailable) as error:
        refine.write_silver(folder_settings, YEAR)
    assert str(lake.root / BRONZE_KEY) in str(error.value)
    assert socket.gethostname() in str(error.value)
    assert not list(lake.root.with_name("mounted elsewhere").rglob("*.parquet"))


def test_a_bucket_that_does_not_answer_the_executors_is_named(
    tmp_path: Path, spark_engine: SparkEngine, before_tasks: Callable[[Callable[[], object]], None]
) -> None:
    with ExitStack() as server:
        url = server.enter_context(seaweedfs())
        settings = new_bucket(url, tmp_path).replace(engine="spark")
        put(settings, csv_of(flights()))
        before_tasks(server.close)
        with pytest.raises(Unavailable, match=url):
            refine.write_silver(settings, YEAR)
