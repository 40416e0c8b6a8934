"""The real SeaweedFS, in the version of docker-compose.yaml, as the S3 server of a test session."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from tests.servers.keys import KEYS
from tests.servers.postgres import folder_in_memory
from tests.servers.startup import free_ports, wait_until

LOOPBACK = "127.0.0.1"


@contextlib.contextmanager
def seaweedfs() -> Iterator[str]:
    """Start a server with the keys KEYS and yield its URL; kill it at the end of the block."""
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
            env={"PATH": os.environ["PATH"], **{name.upper(): key for name, key in KEYS.items()}},
        )
    url = f"http://{LOOPBACK}:{ports['s3.port']}"
    try:
        wait_until(lambda: _is_ready(url), "SeaweedFS answers")
        yield url
    finally:
        server.kill()  # SIGTERM takes 10 s, and nobody needs the data
        server.wait()
        shutil.rmtree(folder)


def _is_ready(url: str) -> bool:
    """Return True once the server stores an object."""
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **KEYS)
    try:
        client.put_object(Bucket="ready", Key="ready", Body=b"ready")
    except (BotoCoreError, ClientError):
        return False
    return True
