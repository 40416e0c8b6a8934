"""AWS as moto plays it: a server of this session's own on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest

REGION = "us-east-1"
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
Client = Callable[[str], Any]


@pytest.fixture(scope="session")
def aws_url() -> Iterator[str]:
    """Where moto answers."""
    from moto.server import ThreadedMotoServer

    from tests.cloud import gaps

    gaps.fill()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def aws(aws_url: str) -> Client:
    """Give a client of the named service."""
    return lambda service: boto3.client(service, endpoint_url=aws_url, region_name=REGION, **KEYS)


@pytest.fixture(scope="session")
def image(aws: Client) -> str:
    """The ID of an image that moto knows; it has none of Ubuntu 24.04."""
    images = aws("ec2").describe_images(Owners=["amazon"])["Images"]
    return str(images[0]["ImageId"])


@pytest.fixture(scope="session")
def certificate(aws: Client) -> str:
    """The ARN of a certificate that moto knows."""
    return str(aws("acm").request_certificate(DomainName="delays.example.com")["CertificateArn"])
