"""DELAYWATCH_METRICS makes Airflow send its metrics to a collector: a real Airflow, a played collector."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from typing_extensions import override

from tests.integration.stack.volumes import ROOT, Volumes

COUNT = """
from airflow.sdk._shared.observability.metrics import stats
from airflow.sdk.observability.metrics import stats_utils
stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)
stats.incr("counted_by_a_test")
from opentelemetry import metrics
flush = getattr(metrics.get_meter_provider(), "force_flush", None)
print("sent" if flush and flush() else "kept")
"""


@pytest.mark.parametrize("is_on", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_metrics_go_to_the_collector_that_env_names_and_nowhere_without_one(tmp_path: Path, is_on: bool) -> None:
    volumes = Volumes.make(tmp_path)
    with collector() as (url, received):
        metrics = url if is_on else ""
        volumes.setup(DELAYWATCH_METRICS=metrics)
        compose = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]["airflow-scheduler"]
        told = {name: value for name, value in compose["environment"].items() if name.startswith("OTEL_")}
        environ = {
            **{name: value.replace("${DELAYWATCH_METRICS:-}", metrics) for name, value in told.items()},
            "PATH": os.environ["PATH"],
            "AIRFLOW_HOME": str(tmp_path / "home"),
            "AIRFLOW_CONFIG": str(volumes.path("handed/airflow/airflow.cfg")),
        }
        done = subprocess.run([sys.executable, "-c", COUNT], env=environ, capture_output=True, text=True, check=True)

    assert done.stdout.split()[-1] == ("sent" if is_on else "kept")
    assert {path for path, _ in received} == ({"/v1/metrics"} if is_on else set())
    assert any(b"counted_by_a_test" in body for _, body in received) == is_on
    assert all(b"delaywatch" in body for _, body in received), "the name of the service"


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Its address, and the paths and bodies that came; as OTLP over HTTP has it."""
    received: list[tuple[str, bytes]] = []

    class Taker(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        @override
        def log_message(self, format: str, *args: object) -> None:
            """pytest's output is for its tests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Taker) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()
