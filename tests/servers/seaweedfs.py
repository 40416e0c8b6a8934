"""The real SeaweedFS, in the version of docker-compose.yaml, as the S3 server of a test session."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from tests.servers.postgres import folder_in_memory
from tests.servers.startup import free_ports

LOOPBACK = "127.0.0.1"
KEYS: dict[str, Any] = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}


@contextlib.contextmanager
def seaweedfs() -> Iterator[str]:
    """Start a server with the keys KEYS and yield its URL; stop it at the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix="delaywatch-weed-", dir=folder_in_memory()))
    ports = dict(
        zip(
            (f"{name}.port{kind}" for name in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")),
            free_ports(8),
            strict=True,
        )
    )
    options = ["-s3", f"-dir={folder}", f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}", "-master.telemetry=false"]
    options += ["-master.peers=none", "-master.volumeSizeLimitMB=64", "-volume.max=0", "-volume.preStopSeconds=0"]
    options += ["-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    options += [f"-{name}={port}" for name, port in ports.items()]
    program = Path(sysconfig.get_path("scripts")) / "weed"
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [program, "-logtostderr=true", "server", *options],
            stdout=log,
            stderr=log,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"},
        )
    url = f"http://{LOOPBACK}:{ports['s3.port']}"
    try:
        _wait(url, folder / "log")
        yield url
    finally:
        server.kill()  # SIGTERM takes 10 s, and nobody needs the data
        server.wait()
        shutil.rmtree(folder)


def _wait(url: str, log: Path) -> None:
    """Return once the server stores an object."""
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **KEYS)
    end = time.monotonic() + 60
    while True:
        try:
            client.put_object(Bucket="ready", Key="ready", Body=b"ready")
        except (BotoCoreError, ClientError):
            assert time.monotonic() < end, log.read_text(errors="replace")[-5000:]
            time.sleep(0.1)
        else:
            return
