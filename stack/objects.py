"""The objects of the stack's own bucket as a tar on standard output, and back: `python -m stack.objects save|load`.

For backup and restore of a lake on this host alone; a bucket on AWS has its versions and its own copies.
"""

from __future__ import annotations

import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from utils.errors import DelaywatchError
from utils.settings import Settings

BUCKET = "delaywatch"


def save(s3: Any, out: BinaryIO) -> int:
    """Write every object of the bucket to `out`, one after another; return their number."""
    count = 0
    with tarfile.open(fileobj=out, mode="w|") as tar:
        for page in _pages(s3):
            for listed in page.get("Contents", []):
                try:
                    found = s3.get_object(Bucket=BUCKET, Key=listed["Key"])
                except s3.exceptions.NoSuchKey:  # a run has swept it since it was listed
                    continue
                member = tarfile.TarInfo(listed["Key"])
                member.size = found["ContentLength"]
                tar.addfile(member, found["Body"])
                count += 1
    return count


def _pages(s3: Any) -> Iterator[dict[str, Any]]:
    """The pages of the bucket's list; none before `python -m utils prepare` has created the bucket."""
    try:
        yield from s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    except s3.exceptions.NoSuchBucket:
        return


def load(s3: Any, source: BinaryIO, scratch: Path) -> int:
    """Put every member of the tar into the bucket, over an object of the same key; return their number."""
    count = 0
    with tarfile.open(fileobj=source, mode="r|") as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is None:
                raise tarfile.TarError(f"{member.name} is no object")
            with tempfile.TemporaryFile(dir=scratch) as whole:  # a retry has to seek
                shutil.copyfileobj(content, whole)
                whole.seek(0)
                s3.upload_fileobj(whole, BUCKET, member.name)
            count += 1
    return count


def main(arguments: list[str]) -> int:
    """Save or load, and say how many objects on standard error."""
    s3 = boto3.client("s3")
    try:
        if arguments == ["save"]:
            count = save(s3, sys.stdout.buffer)
        elif arguments == ["load"]:
            scratch = Settings.from_environment(lake=None, warehouse=None).scratch
            count = load(s3, sys.stdin.buffer, scratch)
        else:
            print("usage: python -m stack.objects save|load", file=sys.stderr)
            return 2
    except (BotoCoreError, ClientError, DelaywatchError, tarfile.TarError, OSError) as error:
        print(f"The objects of {BUCKET} could not be copied: {error}", file=sys.stderr)
        return 1
    print(f"{count} objects", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
