"""One Spark session on this machine for all tests, and lakes whose settings name the engine Spark.

`make test-spark` runs these tests in its own virtual environment; without PySpark they are skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.conftest import new_bucket
from utils import spark
from utils.layers import csv_reader, silver
from utils.settings import Settings
from utils.spark import SparkEngine

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def pytest_configure(config: pytest.Config) -> None:
    """Ignore that PySpark leaves the sockets of results to the garbage collector."""
    config.addinivalue_line("filterwarnings", "ignore:unclosed <socket.socket:ResourceWarning")


@pytest.fixture(scope="session", autouse=True)
def _pyspark() -> None:
    pytest.importorskip("pyspark", reason="PySpark is not installed here; `make test-spark` installs it and runs this")


@pytest.fixture(scope="session")
def session_engine(_pyspark: None) -> Iterator[SparkEngine]:
    with spark.open_engine("Tests of Delaywatch", threads=2) as engine:
        yield engine


@pytest.fixture
def spark_engine(session_engine: SparkEngine, monkeypatch: pytest.MonkeyPatch) -> SparkEngine:
    """Let the engine of the session, which takes seconds to start, be the engine of a step."""

    @contextmanager
    def open_engine(name: str, threads: int) -> Iterator[SparkEngine]:
        yield session_engine

    monkeypatch.setattr(spark, "open_engine", open_engine)
    return session_engine


@pytest.fixture
def session(spark_engine: SparkEngine) -> SparkSession:
    from pyspark.sql import SparkSession

    return SparkSession.active()


@pytest.fixture
def before_tasks(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """A function that takes what happens after a step has read the header, before the executors read."""
    engine_map = SparkEngine.map

    def set_event(event: Callable[[], object]) -> None:
        def map_after_event(*arguments: Any) -> object:
            event()
            return engine_map(*arguments)

        monkeypatch.setattr(SparkEngine, "map", map_after_event)

    return set_event


@pytest.fixture
def only_executors_parse(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function after which this process, unlike the executors, cannot parse flights."""

    def refine(*_: object, **__: object) -> object:
        raise AssertionError("the driver parses flights")

    return lambda: monkeypatch.setattr(silver, "refine", refine)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut files every 32 KiB, about 220 flights, so that a small file has many parts."""
    monkeypatch.setattr(csv_reader, "PIECE_BYTES", 16 << 10)
    monkeypatch.setattr(csv_reader, "PIECES_PER_PART", 2)


@pytest.fixture
def folder_settings(tmp_path: Path) -> Settings:
    """Settings of an empty lake in a folder, and of Spark."""
    return Settings(lake=(tmp_path / "lake").as_uri(), warehouse="", scratch=tmp_path, threads=2, engine="spark")


@pytest.fixture
def bucket_settings(seaweedfs_url: str, tmp_path: Path) -> Settings:
    """Settings of an empty lake in a bucket of SeaweedFS, and of Spark."""
    return new_bucket(seaweedfs_url, tmp_path).replace(engine="spark")


@pytest.fixture(params=["folder", "bucket"])
def lake_settings(request: pytest.FixtureRequest) -> Settings:
    """Settings of an empty lake, once in a folder and once on S3, and of Spark."""
    settings = request.getfixturevalue(f"{request.param}_settings")
    assert isinstance(settings, Settings)
    return settings
