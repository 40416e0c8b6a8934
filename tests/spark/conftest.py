"""Collect the tests of the Spark engine only where PySpark is installed: `make test-spark`."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

collect_ignore_glob = [] if find_spec("pyspark") else ["*.py"]


def pytest_configure(config: pytest.Config) -> None:
    """Ignore that PySpark leaves the sockets of results to the garbage collector."""
    config.addinivalue_line("filterwarnings", "ignore:unclosed <socket.socket:ResourceWarning")
