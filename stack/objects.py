"""Save the objects of the stack's own bucket as a tar on stdout, and load them: `python -m stack.objects save|load`.

Used for backup and restore of a local lake; a bucket on AWS has versioning and copies of its own.
"""

from __future__ import annotations

import io
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError
from s3transfer.exceptions import RetriesExceededError, S3DownloadFailedError

from utils.errors import DelaywatchError
from utils.settings import Settings

BUCKET = "delaywatch"
FAULTS = (BotoCoreError, ClientError, RetriesExceededError, S3DownloadFailedError, tarfile.TarError, OSError)
# Large objects are read in ranges: SeaweedFS may send a whole object at only 7 MB/s. The queue holds 16 MiB.
RANGES = TransferConfig(multipart_threshold=16 << 20, multipart_chunksize=16 << 20, max_concurrency=4, max_io_queue=64)


def save(s3: Any, out: BinaryIO, scratch: Path) -> int:
    """Write every object of the bucket to `out`. Return their number."""
    count = 0
    with tarfile.open(fileobj=out, mode="w|") as tar:
        for page in _pages(s3):
            for listed in page.get("Contents", []):
                with tempfile.TemporaryFile(dir=scratch) as file:
                    if not _download(s3, listed, file):
                        continue
                    member = tarfile.TarInfo(listed["Key"])
                    member.size = file.seek(0, io.SEEK_END)  # ranges arrive in any order
                    file.seek(0)
                    tar.addfile(member, file)
                count += 1
    return count


def _download(s3: Any, listed: dict[str, Any], file: BinaryIO) -> bool:
    """Write the object to the file. Return False if a run has deleted it since it was listed."""
    try:
        if listed["Size"] > RANGES.multipart_threshold:
            s3.download_fileobj(BUCKET, listed["Key"], file, Config=RANGES)
        else:  # one request; download_fileobj needs two
            shutil.copyfileobj(s3.get_object(Bucket=BUCKET, Key=listed["Key"])["Body"], file)
    except ClientError as error:
        if error.response["Error"]["Code"] in {"404", "NoSuchKey"}:
            return False
        raise
    return True


def _pages(s3: Any) -> Iterator[dict[str, Any]]:
    """Yield the pages of the bucket's list; none before `python -m utils prepare` has created the bucket."""
    try:
        yield from s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    except s3.exceptions.NoSuchBucket:
        return


def load(s3: Any, source: BinaryIO, scratch: Path) -> int:
    """Upload every member of the tar, replacing objects with the same key. Return their number."""
    count = 0
    with tarfile.open(fileobj=source, mode="r|") as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is None:
                raise tarfile.TarError(f"{member.name} is not a regular file")
            with tempfile.TemporaryFile(dir=scratch) as whole:  # a retry needs a seekable file
                shutil.copyfileobj(content, whole)
                whole.seek(0)
                s3.upload_fileobj(whole, BUCKET, member.name)
            count += 1
    return count


def main(arguments: list[str]) -> int:
    """Save or load, and print the number of objects to stderr."""
    s3 = boto3.client("s3")
    try:
        scratch = Settings.from_environment(lake=None, warehouse=None).scratch
        if arguments == ["save"]:
            count = save(s3, sys.stdout.buffer, scratch)
        elif arguments == ["load"]:
            count = load(s3, sys.stdin.buffer, scratch)
        else:
            print("usage: python -m stack.objects save|load", file=sys.stderr)
            return 2
    except (DelaywatchError, *FAULTS) as error:
        print(f"The objects of the bucket {BUCKET} could not be copied: {error}", file=sys.stderr)
        return 1
    print(f"{count} objects", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
