"""Clients of moto in place of AWS, and the environment of the AWS CLI that uses it."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.integration.cloud.templates import REGION
from tests.servers.keys import KEYS

# The AWS CLI of the venv comes before one that the machine may have.
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

Client = Callable[[str], Any]


@pytest.fixture(scope="session")
def aws(moto_url: str) -> Client:
    """A function that returns the client of the named service."""
    once = Config(retries={"total_max_attempts": 1})
    return functools.cache(
        lambda name: boto3.client(name, endpoint_url=moto_url, region_name=REGION, config=once, **KEYS)
    )


def cli_environment(moto_url: str, home: Path) -> dict[str, str]:
    """The environment of a program for which moto is AWS and the internet is out of reach."""
    return {
        "PATH": PATH,
        "HOME": str(home),
        "AWS_ENDPOINT_URL": moto_url,
        "AWS_DEFAULT_REGION": REGION,
        **{name.upper(): key for name, key in KEYS.items()},
        "AWS_PAGER": "",
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }
