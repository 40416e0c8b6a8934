"""Copy a backup to the bucket of DELAYWATCH_BACKUP and remove old copies: `python -m stack.offsite /backups/NAME KEEP`.

The service `backup` runs it for stack/backup-daily.sh, which copies to folders itself. stack/backup.sh creates backups.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError

from utils.errors import InvalidInput
from utils.settings import WatchSettings

DAILY = re.compile(r"daily-\d{8}T\d{6}Z\.tar")
FAULTS = (BotoCoreError, ClientError, S3UploadFailedError, OSError)
PARTS = TransferConfig(multipart_chunksize=32 << 20, max_concurrency=2)  # S3 allows 10,000 parts, so up to 320 GB


def copy(s3: Any, file: Path, bucket: str, prefix: str) -> None:
    """Upload the file. S3 shows an object only when it is complete, so a copy is never partial."""
    s3.upload_file(str(file), bucket, prefix + file.name, Config=PARTS)


def remove_old(s3: Any, bucket: str, prefix: str, keep: int) -> list[str]:
    """Delete all daily backups except the newest `keep`. Return the deleted keys."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}daily-", Delimiter="/")
    keys = [listed["Key"] for page in pages for listed in page.get("Contents", [])]
    old = sorted(key for key in keys if DAILY.fullmatch(key.removeprefix(prefix)))[:-keep]
    for key in old:
        s3.delete_object(Bucket=bucket, Key=key)
    return old


def main(file: Path, keep: int, place: str) -> int:
    """Copy, then remove old copies. Return 1 if the copy failed; write-only keys are enough for a copy."""
    parts = urlsplit(place)
    bucket, prefix = parts.netloc, parts.path.strip("/")
    prefix = f"{prefix}/" if prefix else ""
    s3 = boto3.client("s3")
    try:
        copy(s3, file, bucket, prefix)
    except FAULTS as error:
        print(f"{file.name} could not be copied to {place}: {_reason(error)}", file=sys.stderr)
        return 1
    try:
        remove_old(s3, bucket, prefix, keep)
    except FAULTS as error:
        print(f"Old backups in {place} could not be removed: {_reason(error)}", file=sys.stderr)
    return 0


def _reason(error: Exception) -> str:
    text = (str(error).splitlines() or [type(error).__name__])[0]
    # Without the file and the bucket.
    return text.partition(": ")[2] if isinstance(error, S3UploadFailedError) else text


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m stack.offsite /backups/NAME KEEP; stack/backup-daily.sh calls it")
    try:
        place = WatchSettings.from_environment().backup
    except InvalidInput as error:
        sys.exit(str(error))
    if not place:
        sys.exit("DELAYWATCH_BACKUP is not set; set it in .env to s3://bucket/prefix.")
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), place))
