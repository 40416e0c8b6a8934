"""Empty lakes on a folder and on S3, where moto stands in for AWS: it speaks the protocol and can check keys."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from utils.settings import Settings

BUCKETS = itertools.count(1)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket_settings(s3_endpoint: str, tmp_path: Path) -> Settings:
    """Settings of an empty lake below a prefix of a fresh bucket."""
    name = f"lake-{next(BUCKETS)}"
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1", **keys).create_bucket(Bucket=name)
    return Settings(
        lake=f"s3://{name}/delaywatch",
        warehouse="",
        scratch=tmp_path,
        threads=2,
        aws_endpoint_url=s3_endpoint,
        aws_region="us-east-1",
        **keys,
    )


@pytest.fixture
def folder_settings(tmp_path: Path) -> Settings:
    """Settings of an empty lake in a folder."""
    return Settings(lake=(tmp_path / "lake").as_uri(), warehouse="", scratch=tmp_path, threads=2)


@pytest.fixture(params=["folder", "bucket"])
def lake_settings(request: pytest.FixtureRequest) -> Settings:
    """The same test on a folder and on S3."""
    found = request.getfixturevalue(f"{request.param}_settings")
    assert isinstance(found, Settings)
    return found
