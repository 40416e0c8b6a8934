"""AWS as moto plays it, a server of this session's own on loopback; deploy.sh and the real AWS CLI against it."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

REGION = "us-east-1"
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
ROOT = Path(__file__).parents[3]
SCRIPT = Path("infra-notes/cloudformation/deploy.sh")
# The AWS CLI of the venv, before one that the machine may have.
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

Client = Callable[[str], Any]
Deploy = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def aws_url() -> Iterator[str]:
    """Where moto answers."""
    from moto.server import ThreadedMotoServer

    from tests.integration.cloud import gaps

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    gaps.fill(_clients(url))
    yield url
    server.stop()


def _clients(url: str) -> Client:
    once = Config(retries={"total_max_attempts": 1})
    return functools.cache(lambda name: boto3.client(name, endpoint_url=url, region_name=REGION, config=once, **KEYS))


@pytest.fixture(scope="session")
def aws(aws_url: str) -> Client:
    """Give a client of the named service."""
    return _clients(aws_url)


@pytest.fixture(scope="session")
def image(aws: Client) -> str:
    """The ID of an image that moto knows; it has none of Ubuntu 24.04."""
    images = aws("ec2").describe_images(Owners=["amazon"])["Images"]
    return str(images[0]["ImageId"])


@pytest.fixture(scope="session")
def certificate(aws: Client) -> str:
    """The ARN of a certificate that moto knows."""
    return str(aws("acm").request_certificate(DomainName="delays.example.com")["CertificateArn"])


def cli(aws_url: str, home: Path) -> dict[str, str]:
    """The environment of a program for which AWS is moto, and nothing else is there."""
    return {
        "PATH": PATH,
        "HOME": str(home),
        "AWS_ENDPOINT_URL": aws_url,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_PAGER": "",
        "HTTPS_PROXY": "http://127.0.0.1:9",  # nobody is there, so nothing leaves this machine
    }


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with one commit, v1, which has only what deploy.sh needs; the templates are the real ones."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / SCRIPT.parent, folder / SCRIPT.parent)
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
    for command in (["init", "--quiet"], ["add", "."], [*who, "commit", "--quiet", "-m", "One"], ["tag", "v1"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="session")
def deploy(clone: Path, aws_url: str, tmp_path_factory: pytest.TempPathFactory) -> Deploy:
    """Call deploy.sh with an environment of its own, in which AWS is moto; `typed` is what its user types."""
    own = cli(aws_url, tmp_path_factory.mktemp("home")) | {"POLL_S": "1"}
    return lambda command, typed="", **environment: subprocess.run(
        [str(clone / SCRIPT), command],
        input=typed,
        env=own | environment,
        capture_output=True,
        text=True,
        check=False,
    )
