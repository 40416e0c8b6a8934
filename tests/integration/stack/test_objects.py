"""The tar of the local lake: `load` restores what `save` has written."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from moto import mock_aws

from stack import objects


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a client of an S3 without buckets."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "made-up")
    with mock_aws():
        yield boto3.client("s3", region_name="us-east-1")


def test_objects_are_restored_even_if_their_first_range_arrives_last(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(bucket: str, key: str, file: BinaryIO, **_: Any) -> None:
        content = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        file.seek(1)
        file.write(content[1:])
        file.seek(0)
        file.write(content[:1])

    monkeypatch.setattr(objects, "RANGES", TransferConfig(multipart_threshold=3))
    monkeypatch.setattr(s3, "download_fileobj", download)
    contents = {"01_bronze/2018.csv": random.Random(1).randbytes(1 << 20), "quality.json": b"{}", "empty": b""}
    s3.create_bucket(Bucket=objects.BUCKET)
    for key, content in contents.items():
        s3.put_object(Bucket=objects.BUCKET, Key=key, Body=content)
    tar = io.BytesIO()

    saved = objects.save(s3, tar, tmp_path)
    for key in contents:
        s3.delete_object(Bucket=objects.BUCKET, Key=key)
    tar.seek(0)
    loaded = objects.load(s3, tar, tmp_path)

    assert saved == loaded == len(contents)
    assert {key: s3.get_object(Bucket=objects.BUCKET, Key=key)["Body"].read() for key in contents} == contents
