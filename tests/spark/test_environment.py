"""Check that PySpark, Java and the locked pyarrow of `.venv-spark` work together."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession


def versions(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield pa.RecordBatch.from_pydict({"version": [pa.__version__] * batch.num_rows})


def test_an_executor_has_the_pyarrow_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    with SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate() as spark:
        rows = spark.range(2, numPartitions=2).mapInArrow(versions, "version string").collect()
    assert [row["version"] for row in rows] == [pa.__version__] * 2
