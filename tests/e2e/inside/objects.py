"""Print size, SHA-256 and first bytes of every object of the lake as JSON. The Python of the scheduler runs it."""

from __future__ import annotations

import hashlib
import json
import sys

import boto3

FIRST = 16


def main() -> None:
    objects = {}
    for listed in boto3.resource("s3").Bucket("delaywatch").objects.all():
        content = listed.get()["Body"].read()
        objects[listed.key] = [len(content), hashlib.sha256(content).hexdigest(), content[:FIRST].hex()]
    sys.stdout.write(json.dumps(objects))


if __name__ == "__main__":
    main()
