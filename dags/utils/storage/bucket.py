"""A lake in an S3 bucket. `s3_faults` maps errors of S3 to messages."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    SSLError,
)
from typing_extensions import override

from utils.errors import DelaywatchError, cannot_read
from utils.settings import Settings
from utils.storage.s3_faults import TRIES, s3_error
from utils.storage.stores import Source, Store

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 5, 60  # per try: to connect, and between two received bytes
# SeaweedFS sends 16 MiB ranges at 230 MB/s, 4 MiB ranges at 95 MB/s, and whole large objects at 7 to 11 MB/s.
RANGE_BYTES = 16 << 20
CERTIFICATE_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL
# Error codes of a conditional write that another process has overtaken; NoSuchKey: the object was deleted.
CONFLICT = "ConditionalRequestConflict"  # another write was active; it has not necessarily won
LOST_RACE = {"PreconditionFailed", CONFLICT, "NoSuchKey"}
NO_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}  # OpenSSL's reasons


class BucketSource(Source):
    """An S3 object, pinned to one ETag: the server refuses a GET of another version (If-Match)."""

    is_remote = True

    def __init__(self, store: BucketStore, key: str, size: int, etag: str) -> None:
        """Pin the object of `size` bytes; `etag` includes the quotes, as S3 sends it."""
        self.key, self.size, self.etag, self._store = key, size, etag, store

    @override
    def read(self, start: int, end: int) -> bytes:
        end = min(end, self.size)
        if end <= start:
            return b""
        with self._store.errors(f"reading {self.key}"):
            starts = range(start, end, RANGE_BYTES)
            return b"".join(
                self._store.content(self.key, at, min(at + RANGE_BYTES, end), self.etag)[0] for at in starts
            )

    @override
    def is_unchanged(self) -> bool:
        with self._store.errors(f"reading {self.key}"):
            return bool(self._store.head(self.key)["ETag"] == self.etag)

    @override
    def close(self) -> None:
        """Do nothing: no connection stays open between reads."""


class BucketStore(Store):
    """A lake in an S3 bucket or below a prefix, on AWS or at any S3-compatible endpoint."""

    is_shared = True

    def __init__(self, settings: Settings, bucket: str, prefix: str = "") -> None:
        """Store the location; the first request connects. Call `lake.open_store` instead."""
        self.bucket, self.prefix = bucket, prefix
        self._settings = settings

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the client, which cannot be pickled, and the password of the warehouse; the copy connects again."""
        attributes = {name: value for name, value in self.__dict__.items() if name != "client"}
        return {**attributes, "_settings": self._settings.replace(warehouse="")}

    @cached_property
    def client(self) -> Any:
        """The boto3 client, created on first use, inside `errors`. Thread-safe."""
        config = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"total_max_attempts": TRIES, "mode": "standard"},
            max_pool_connections=max(10, 2 * self._settings.threads),
            request_checksum_calculation="when_required",
        )
        try:
            return boto3.client(
                "s3",
                endpoint_url=self._settings.aws_endpoint_url,
                region_name=self._settings.aws_region,
                aws_access_key_id=self._settings.aws_access_key_id,
                aws_secret_access_key=self._settings.aws_secret_access_key,
                aws_session_token=self._settings.aws_session_token,
                config=config,
            )
        except BotoCoreError:  # some of its classes are also ValueErrors; `errors` converts them
            raise
        except ValueError as error:  # the endpoint is not a URL; botocore has no class for this
            raise self._error("EndpointProviderError", doing="connecting") from error

    @property
    def _endpoint(self) -> str | None:
        """The URL of an S3 server other than AWS, from the settings or from an AWS configuration file; None on AWS."""
        if self._settings.aws_endpoint_url or "client" not in self.__dict__:
            return self._settings.aws_endpoint_url
        url = str(self.client.meta.endpoint_url)
        return None if _is_aws(url) else url

    def where(self, key: str) -> dict[str, str]:
        """Return bucket and full key as arguments of boto3."""
        return {"Bucket": self.bucket, "Key": f"{self.prefix}/{key}" if self.prefix else key}

    def content(self, key: str, start: int, end: int, etag: str | None = None) -> tuple[bytes, int, str]:
        """Return the object's bytes [start, end), its size and its ETag. Raises boto3's errors.

        etag: the required version; the server refuses any other.
        """
        condition = {"IfMatch": etag} if etag else {}
        failures = 0
        while True:
            answer = self.client.get_object(**self.where(key), Range=f"bytes={start}-{end - 1}", **condition)
            try:
                data = bytes(answer["Body"].read())
            except (HTTPClientError, IncompleteReadError):  # boto3 retries only before the first byte
                failures += 1
                if failures == TRIES:
                    raise
            else:
                size = int(answer.get("ContentRange", f"/{len(data)}").rpartition("/")[2])
                return data, size, str(answer["ETag"])

    def head(self, key: str) -> dict[str, Any]:
        """Return the metadata of the object. Raises boto3's errors."""
        try:
            return dict(self.client.head_object(**self.where(key)))
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("400", "403"):
                # An answer to HEAD has no body, so the reason (such as an expired token) needs a GET.
                self.client.get_object(**self.where(key), Range="bytes=0-0")
            raise

    @contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """Convert error answers of S3 and errors of botocore to the errors of `s3_faults`."""
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
            raise self._error(code, status, doing=doing) from error
        except BotoCoreError as error:
            classes = [parent.__name__ for parent in type(error).__mro__]
            if isinstance(error, SSLError):
                classes.insert(0, _tls_fault(error))
            if isinstance(error, NoCredentialsError) and not self._endpoint:
                classes.insert(0, "NoRole")
            raise self._error(*classes, doing=doing) from error
        except RecursionError as error:  # botocore loops if a server redirects every request for a region
            raise self._error("301", doing=doing) from error

    def _error(self, *codes: str, doing: str) -> DelaywatchError:
        return s3_error(codes, self._settings, self._endpoint, doing)

    @override
    def create(self) -> bool:
        doing = "looking for the bucket"
        with self.errors(doing):
            try:
                # HEAD of the bucket does not distinguish a wrong key from missing rights; a listing does.
                self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.where("")["Key"], MaxKeys=1)
            except self.client.exceptions.NoSuchBucket as error:
                if _is_aws(self.client.meta.endpoint_url):  # the operator chooses region, owner and policies
                    raise self._error("NoSuchBucket", doing=doing) from error
            else:
                return False
        with self.errors("creating the bucket"):
            region = self.client.meta.region_name
            # S3 requires the region, except for us-east-1, where it must be absent.
            where = {} if region in ("us-east-1", "aws-global") else {"LocationConstraint": region}
            try:
                self.client.create_bucket(Bucket=self.bucket, **({"CreateBucketConfiguration": where} if where else {}))
            except (self.client.exceptions.BucketAlreadyOwnedByYou, self.client.exceptions.BucketAlreadyExists):
                return False  # another process created it
        return True

    @override
    def get(self, key: str) -> bytes | None:
        with self.errors(f"reading {key}"):
            try:
                first, size, etag = self.content(key, 0, RANGE_BYTES)
            except self.client.exceptions.NoSuchKey:
                return None
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in ("416", "InvalidRange"):
                    return b""  # an empty object has no ranges
                raise
        if len(first) == size:
            return first
        return first + BucketSource(self, key, size, etag).read(len(first), size)

    @override
    def version(self, key: str) -> str | None:
        with self.errors(f"reading {key}"):
            try:
                return str(self.head(key)["ETag"])
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in ("404", "NoSuchKey"):
                    return None
                raise

    @override
    def has(self, key: str) -> bool:
        return self.version(key) is not None

    @override
    def put(self, key: str, data: bytes) -> None:
        if self.version(key) == _etag(data):
            return
        with self.errors(f"writing {key}"):
            self.client.put_object(**self.where(key), Body=data)

    @override
    def put_if(self, key: str, data: bytes, version: str | None) -> bool:
        if self.version(key) == _etag(data):
            return True
        condition = {"IfMatch": version} if version else {"IfNoneMatch": "*"}
        with self.errors(f"writing {key}"):
            for _ in range(2):
                try:
                    self.client.put_object(**self.where(key), Body=data, **condition)
                except ClientError as error:
                    code = error.response.get("Error", {}).get("Code")
                    if code not in LOST_RACE:
                        raise
                    if code != CONFLICT:
                        break
                else:
                    return True
        # boto3 repeats a write whose answer was lost. The first try may have succeeded and changed the version.
        return self.get(key) == data

    @override
    def adopt(self, path: Path, key: str) -> None:
        self.put(key, path.read_bytes())

    @override
    def upload(self, path: Path, key: str) -> None:
        try:
            file = path.open("rb")
        except OSError as error:
            raise cannot_read(path, error) from error
        with file, self.errors(f"writing {key}"):  # upload_file would wrap the ClientError in an error of boto3
            self.client.upload_fileobj(file, *self.where(key).values())

    @override
    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            with self.errors(f"deleting {key}"):
                self.client.delete_object(**self.where(key))

    @override
    def list(self, prefix: str) -> list[str]:
        return sorted(self.modified(prefix))

    @override
    def modified(self, prefix: str) -> dict[str, datetime]:
        full = self.where(prefix)["Key"]
        skip = len(self.prefix) + 1 if self.prefix else 0
        with self.errors(f"listing {prefix}"):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=full)
            items = (item for page in pages for item in page.get("Contents", ()))
            return {item["Key"][skip:]: item["LastModified"].astimezone(UTC) for item in items}

    @override
    def open(self, key: str) -> BucketSource:
        with self.errors(f"reading {key}"):
            head = self.head(key)
            return BucketSource(self, key, int(head["ContentLength"]), str(head["ETag"]))


def _tls_fault(error: SSLError) -> str:
    """Return the key in `s3_faults` for a failed TLS handshake; botocore uses one class for all causes."""
    fault: object = error.kwargs["error"]
    while isinstance(fault, BaseException) and not isinstance(fault, ssl.SSLError):
        fault = getattr(fault, "reason", None) or next(iter(fault.args), None)  # urllib3 wraps OpenSSL's error
    if isinstance(fault, ssl.SSLCertVerificationError):
        return "CertificateExpired" if fault.verify_code == CERTIFICATE_EXPIRED else "CertificateUnknown"
    return "NoTls" if isinstance(fault, ssl.SSLError) and fault.reason in NO_TLS else "SSLError"


def _etag(data: bytes) -> str:
    """Return the ETag of an object that one PUT wrote: the MD5 of the bytes, but not if KMS encrypts the object."""
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def _is_aws(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu"))
