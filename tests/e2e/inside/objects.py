"""Print size and SHA-256 of every object of the lake as JSON. The Python of the scheduler runs it."""

from __future__ import annotations

import hashlib
import json
import sys

import boto3


def main() -> None:
    objects = {}
    for listed in boto3.resource("s3").Bucket("delaywatch").objects.all():
        content = listed.get()["Body"].read()
        objects[listed.key] = [len(content), hashlib.sha256(content).hexdigest()]
    sys.stdout.write(json.dumps(objects))


if __name__ == "__main__":
    main()
