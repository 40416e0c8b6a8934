"""moto in place of AWS, on a port of this session, and the environment of the AWS CLI that talks to it."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.integration.cloud.templates import REGION

KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
# The AWS CLI of the venv comes before one that the machine may have.
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

Client = Callable[[str], Any]


@pytest.fixture(scope="session")
def aws_url() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def aws(aws_url: str) -> Client:
    """A function that returns the client of the named service."""
    once = Config(retries={"total_max_attempts": 1})
    return functools.cache(
        lambda name: boto3.client(name, endpoint_url=aws_url, region_name=REGION, config=once, **KEYS)
    )


def cli_environment(aws_url: str, home: Path) -> dict[str, str]:
    """The environment of a program for which moto is AWS and the internet is out of reach."""
    return {
        "PATH": PATH,
        "HOME": str(home),
        "AWS_ENDPOINT_URL": aws_url,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_PAGER": "",
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }
