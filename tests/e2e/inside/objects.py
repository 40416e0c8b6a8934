"""Every object of the lake: size, SHA-256 and first bytes; prints them as JSON. The scheduler's Python runs it."""

from __future__ import annotations

import hashlib
import json
import sys

import boto3

FIRST = 16


def main() -> None:
    found = {}
    for listed in boto3.resource("s3").Bucket("delaywatch").objects.all():
        content = listed.get()["Body"].read()
        found[listed.key] = [len(content), hashlib.sha256(content).hexdigest(), content[:FIRST].hex()]
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
