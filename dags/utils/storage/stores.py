"""Bytes in and out of folders and buckets: one object under one key, at once or not at all.

Knows bytes, and keys as they are given; which keys there are and what they hold is `lake`'s. A fault that a person can
mend (permission, space, credentials, network) becomes one sentence here.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import IO, Any, NoReturn, Protocol
from urllib.parse import unquote, urlsplit

from typing_extensions import override

from utils.errors import DelaywatchError
from utils.settings import Settings

TRIES = 4  # of one request to S3, the first included
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 5, 60  # of one try: until S3 takes the connection, and between two of its bytes
STAGING = "_staging"  # in a lake that is a folder: files on their way in; readers of hive folders skip the underscore


class Source(Protocol):
    """One object of the lake, pinned to the version that was there when it was opened; safe to read from threads."""

    key: str
    size: int  # bytes
    etag: str  # names the version; empty where the store has none and the content's hash must do
    is_remote: bool  # each read is a request that costs as much as megabytes: read much at once

    def read(self, start: int, end: int) -> bytes:
        """The bytes [start, end), fewer where the object ends before."""

    def still_the_same(self) -> bool:
        """Whether the key still holds the version that was opened."""

    def close(self) -> None:
        """Give back what the source holds open; it cannot be read afterwards."""


class Store(Protocol):
    """Objects by key below one root. Methods raise DelaywatchError for faults that a person can mend."""

    def create(self) -> bool:
        """Make the root where there is none and it is ours to make; whether that was so. Asks before it makes."""

    def get(self, key: str) -> bytes | None:
        """The whole object, None when there is none."""

    def put(self, key: str, data: bytes) -> None:
        """Make `data` the object: a reader sees the old bytes or the new ones. Equal bytes may stay unwritten."""

    def adopt(self, path: Path, key: str) -> None:
        """Make the local file the object, at once. The store may move the file: the caller is done with it."""

    def upload(self, path: Path, key: str) -> None:
        """Make a copy of the local file the object, at once, whatever the file's size; the file stays."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove the objects; a key without one is no fault."""

    def has(self, key: str) -> bool:
        """Whether there is an object under exactly this key."""

    def list(self, prefix: str) -> list[str]:
        """Every key that starts with `prefix`, sorted."""

    def open(self, key: str) -> Source:
        """The object, which must exist, pinned to its present version; the caller closes it."""


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_FOLDER_URL = re.compile(r"(?i:file)://(/.*)", re.DOTALL)
_BUCKET_URL = re.compile(r"(?i:s3)://([^/]+)/?(.*)", re.DOTALL)


def open_store(settings: Settings) -> Store:
    """Return the store at `settings.lake`: `file:///folder` or `s3://bucket[/prefix]`.

    The path of a file URL is percent-decoded, as in every file URL; bucket and prefix are taken literally, as AWS does.
    Raises DelaywatchError for another URL, and for a name that another program would cut or read differently.
    """
    lake = settings.lake
    folder, bucket = _FOLDER_URL.fullmatch(lake), _BUCKET_URL.fullmatch(lake)
    if _CONTROL.search(lake):
        raise DelaywatchError(f"DELAYWATCH_LAKE is {lake!r}; write it without tabs, line ends and control characters.")
    if (folder or bucket) and (cut := re.search("[?#]", lake)):
        rename = "write # as %23 and ? as %3F" if folder else "take a prefix without # and ?"
        raise DelaywatchError(
            f"DELAYWATCH_LAKE is {lake!r}, and {cut[0]} would end the name; {rename}. Earlier releases used "
            f"{lake[: cut.start()]!r}: write that to keep the years that are there."
        )
    if folder:
        return FolderStore(_decoded(folder[1], lake))
    if bucket:
        return BucketStore(settings, bucket[1], bucket[2].strip("/"))
    raise DelaywatchError(
        f"The lake {lake!r} is neither file:///folder nor s3://bucket[/prefix]; correct DELAYWATCH_LAKE."
    )


def _decoded(path: str, lake: str) -> Path:
    """Return the folder that the path of a file URL names. Raises DelaywatchError for a % that encodes nothing."""
    try:
        decoded = unquote(path, errors="strict")
        is_encoded = not re.search("%(?![0-9A-Fa-f]{2})", path) and not _CONTROL.search(decoded)
    except UnicodeDecodeError:
        is_encoded = False
    if not is_encoded:
        raise DelaywatchError(
            f"DELAYWATCH_LAKE is {lake!r}, in which a % does not encode a character; write % itself as %25."
        )
    return Path(decoded)


class SourceFile(io.RawIOBase):
    """A source as a file to seek in, which is what pyarrow reads parquet from; closing it leaves the source open."""

    def __init__(self, source: Source) -> None:
        """Stand at the first byte."""
        super().__init__()
        self._source, self._at = source, 0

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def tell(self) -> int:
        return self._at

    @override
    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._source.size}[whence]
        self._at = start + offset
        return self._at

    @override
    def read(self, size: int | None = -1) -> bytes:
        end = self._source.size if size is None or size < 0 else min(self._at + size, self._source.size)
        data = self._source.read(self._at, end) if end > self._at else b""
        self._at += len(data)
        return data


def cannot_read(path: Path, error: OSError) -> DelaywatchError:
    """Return the error for a local file that a person named and that cannot be opened."""
    return DelaywatchError(
        f"{path} cannot be read ({error.strerror}); correct its path, or give this user the right to read it and to "
        "enter the folders above it."
    )


# --- folders --------------------------------------------------------------------------------------------------------


class FolderSource(Source):
    """A local file, pinned by its inode, size and time of change."""

    etag = ""
    is_remote = False

    def __init__(self, key: str, path: Path) -> None:
        """Open the file at `path`. Raises OSError."""
        self.key, self._path = key, path
        self._file = path.open("rb")
        self._pin = self._fingerprint(os.fstat(self._file.fileno()))
        self.size = self._pin[1]

    @staticmethod
    def _fingerprint(found: os.stat_result) -> tuple[int, int, int]:
        return found.st_ino, found.st_size, found.st_mtime_ns

    @override
    def read(self, start: int, end: int) -> bytes:
        return os.pread(self._file.fileno(), end - start, start)

    @override
    def still_the_same(self) -> bool:
        try:
            return self._fingerprint(self._path.stat()) == self._pin
        except OSError:  # gone, or no longer ours to see
            return False

    @override
    def close(self) -> None:
        self._file.close()


class FolderStore(Store):
    """A lake in a local folder."""

    def __init__(self, root: Path, variable: str = "DELAYWATCH_LAKE") -> None:
        """Remember the folder, which the first `put` creates, and the variable that names it in errors."""
        self.root, self._variable = root, variable

    def fail(self, error: OSError, doing: str) -> NoReturn:
        """Raise the DelaywatchError that says what `error`, met while `doing` something, asks of a person."""
        if error.errno == errno.ENOSPC:
            raise DelaywatchError(
                f"No space left on the disk of {self.root} while {doing}; free some space and run the step again, "
                "what was there before is untouched."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise DelaywatchError(
                f"No permission for {doing} in the folder {self.root}; "
                f"give this user the right to read and write there, or correct {self._variable}."
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            path = Path(error.filename or self.root)
            with suppress(PermissionError):
                path = next((place for place in (path, *path.parents) if place.is_file()), path)
            raise DelaywatchError(
                f"{path} is a file where a folder must be for {doing}; move it away or correct {self._variable}."
            ) from error
        raise DelaywatchError(
            f"The folder {self.root} failed while {doing} ({error.strerror}); mend its disk and run the step again."
        ) from error

    def _path(self, key: str) -> Path:
        path = self.root / key
        if ".." in Path(key).parts or Path(key).is_absolute():
            raise DelaywatchError(f"The key {key!r} leads out of the lake; use a plain key.")
        return path

    def own_path(self, key: str) -> Path:
        """Where `key` is written and deleted; only reading follows a link of a person's that leads elsewhere.

        Raises DelaywatchError when a link among the folders of `key` leads out of the lake.
        """
        path = self._path(key)
        try:
            is_within = path.parent.resolve().is_relative_to(self.root.resolve())
        except RuntimeError as error:  # pathlib's for links that lead in a circle
            raise DelaywatchError(
                f"Links on the way to {key} in the lake {self.root} lead in a circle; put a folder in their place."
            ) from error
        if not is_within:
            raise DelaywatchError(
                f"A link on the way to {key} leads out of the lake {self.root}, where nothing may be changed; put a "
                "folder in its place."
            )
        return path

    @override
    def create(self) -> bool:
        try:
            is_there = self.root.is_dir()
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self.fail(error, "making the lake")
        return not is_there

    @override
    def get(self, key: str) -> bytes | None:
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self.fail(error, f"reading {key}")

    @override
    def put(self, key: str, data: bytes) -> None:
        path = self.own_path(key)
        try:
            if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
                return
            with self._beside(path) as file:
                file.write(data)
        except OSError as error:
            self.fail(error, f"writing {key}")

    @contextmanager
    def _beside(self, path: Path) -> Iterator[IO[bytes]]:
        """A new file in the staging folder that takes the place of `path` at the end; see `sweep`."""
        waiting = self._waiting()
        waiting.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked_file(waiting) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).chmod(0o644)
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise

    def _waiting(self) -> Path:
        """The folder of files that are being put."""
        return self.own_path(f"{STAGING}/put/any").parent

    @staticmethod
    def _locked_file(folder: Path) -> IO[bytes]:
        """A new file that `sweep` leaves alone. One that it took before the lock was there is given up for another."""
        while True:
            file = tempfile.NamedTemporaryFile(dir=folder, delete=False)  # noqa: SIM115 - the caller closes it
            fcntl.flock(file, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), Path(file.name).stat()):
                    return file
            file.close()

    def sweep(self) -> None:
        """Remove files that were never put because their process was killed: nobody holds their lock any more."""
        for path in self._waiting().glob("*"):
            try:
                with path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink(missing_ok=True)
            except (FileNotFoundError, BlockingIOError):
                continue  # put by now, or being written

    @override
    def adopt(self, path: Path, key: str) -> None:
        target = self.own_path(key)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        except OSError as error:
            self.fail(error, f"writing {key}")

    @override
    def upload(self, path: Path, key: str) -> None:
        target = self.own_path(key)
        try:
            source = path.open("rb")
        except OSError as error:
            raise cannot_read(path, error) from error
        try:
            with source, self._beside(target) as file:
                shutil.copyfileobj(source, file, 1 << 20)
        except OSError as error:
            self.fail(error, f"copying {path} to {key}")

    @override
    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            try:
                self.own_path(key).unlink(missing_ok=True)
            except OSError as error:
                self.fail(error, f"deleting {key}")

    @override
    def has(self, key: str) -> bool:
        try:
            return _is_file(self._path(key))
        except OSError as error:
            self.fail(error, f"looking for {key}")

    @override
    def list(self, prefix: str) -> list[str]:
        base = self._path(prefix)
        folder = base if prefix.endswith("/") or not prefix else base.parent
        try:
            paths = [Path(at, name) for at, _, names in os.walk(folder, onerror=_unless_missing) for name in names]
            found = [path.relative_to(self.root).as_posix() for path in paths if _is_file(path)]
        except OSError as error:
            self.fail(error, f"listing {prefix or 'it'}")
        return sorted(key for key in found if key.startswith(prefix))

    @override
    def open(self, key: str) -> FolderSource:
        try:
            return FolderSource(key, self._path(key))
        except OSError as error:
            self.fail(error, f"reading {key}")


def make_private(folder: Path) -> None:
    """Make a folder for this user alone, if it is not there; those above it as usual.

    Raises DelaywatchError when it is a link or somebody else's, who could have put links into it; OSError as mkdir.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise DelaywatchError(
            f"{folder} is a link or another user's, so nothing is put there; let DELAYWATCH_SCRATCH name a folder of "
            "your own."
        )


def _is_file(path: Path) -> bool:
    # Path.is_file also says no where it was not allowed to look, or where a parent is a file.
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return False


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


# --- buckets --------------------------------------------------------------------------------------------------------


class BucketSource(Source):
    """An S3 object, pinned to one ETag: a GET of another version is refused by the server (If-Match)."""

    is_remote = True

    def __init__(self, store: BucketStore, key: str, size: int, etag: str) -> None:
        """An object of `size` bytes whose `etag` is as S3 wrote it, in quotes."""
        self.key, self.size, self.etag, self._store = key, size, etag, store

    @override
    def read(self, start: int, end: int) -> bytes:
        end = min(end, self.size)
        if end <= start:
            return b""
        with self._store.errors(f"reading {self.key}"):
            return self._store.content(self.key, Range=f"bytes={start}-{end - 1}", IfMatch=self.etag)

    @override
    def still_the_same(self) -> bool:
        with self._store.errors(f"reading {self.key}"):
            return bool(self._store.head(self.key)["ETag"] == self.etag)

    @override
    def close(self) -> None:
        """Nothing stays open between two reads."""


class BucketStore(Store):
    """A lake in an S3 bucket or below a prefix of it, at AWS or at any endpoint that speaks S3."""

    def __init__(self, settings: Settings, bucket: str, prefix: str = "") -> None:
        """Remember where the lake is; the first request opens the connection. Use `open_store`."""
        self.bucket, self.prefix = bucket, prefix
        self._settings = settings

    @cached_property
    def client(self) -> Any:
        """The boto3 client, made when it is first needed, inside `errors`; safe to use from threads."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self._settings.aws_endpoint_url,
            region_name=self._settings.aws_region,
            aws_access_key_id=self._settings.aws_access_key_id,
            aws_secret_access_key=self._settings.aws_secret_access_key,
            aws_session_token=self._settings.aws_session_token,
            config=Config(
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=READ_TIMEOUT_S,
                retries={"total_max_attempts": TRIES, "mode": "standard"},
                max_pool_connections=max(10, 2 * self._settings.threads),
                request_checksum_calculation="when_required",
            ),
        )

    @property
    def _endpoint(self) -> str | None:
        """The address of an S3 that is not AWS, as it was set or as the client found it in a file of AWS."""
        if self._settings.aws_endpoint_url or "client" not in self.__dict__:
            return self._settings.aws_endpoint_url
        found = str(self.client.meta.endpoint_url)
        return None if _is_aws(found) else found

    def where(self, key: str) -> dict[str, str]:
        """Bucket and full key, as boto3 takes them."""
        return {"Bucket": self.bucket, "Key": f"{self.prefix}/{key}" if self.prefix else key}

    def content(self, key: str, **options: str) -> bytes:
        """The object's bytes, or those of it that `options` of GetObject ask for. Raises boto3's errors."""
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        tries = 0
        while True:
            answer = self.client.get_object(**self.where(key), **options)
            try:
                return bytes(answer["Body"].read())
            except (HTTPClientError, IncompleteReadError):  # boto3 itself tries again only before the first byte
                tries += 1
                if tries == TRIES:
                    raise

    def head(self, key: str) -> dict[str, Any]:
        """What S3 knows of the object without its bytes. Raises boto3's errors."""
        from botocore.exceptions import ClientError

        try:
            return dict(self.client.head_object(**self.where(key)))
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("400", "403"):
                # An answer to HEAD has no body and so no reason, such as an expired token: one to GET has.
                self.client.get_object(**self.where(key), Range="bytes=0-0")
            raise

    @contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """Turn what S3 answers, and what keeps boto3 from asking it, into one sentence."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
            raise DelaywatchError(self._sentence(code, status, doing=doing)) from error
        except BotoCoreError as error:
            kinds = [kind.__name__ for kind in type(error).__mro__]
            if "certificate has expired" in str(error):  # of OpenSSL; botocore has no class of its own for it
                kinds.insert(0, "CertificateExpired")
            raise DelaywatchError(self._sentence(*kinds, doing=doing)) from error
        except RecursionError as error:  # botocore asks a server that redirects every request for a region, and again
            raise DelaywatchError(self._sentence("301", doing=doing)) from error
        except ValueError as error:
            if "endpoint" not in str(error):  # boto3 has no class of its own for an endpoint that is no URL
                raise
            raise DelaywatchError(self._sentence("EndpointProviderError", doing=doing)) from error

    def _sentence(self, *kinds: str, doing: str) -> str:
        return _sentence(kinds, self._settings, self._endpoint, doing)

    @override
    def create(self) -> bool:
        doing = "looking for the bucket"
        with self.errors(doing):
            try:
                # A listing, as a HEAD of the bucket cannot tell a wrong key from one without rights.
                self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.where("")["Key"], MaxKeys=1)
            except self.client.exceptions.NoSuchBucket as error:
                if _is_aws(self.client.meta.endpoint_url):  # its region, owner and policies are the operator's choice
                    raise DelaywatchError(self._sentence("NoSuchBucket", doing=doing)) from error
            else:
                return False
        with self.errors("making the bucket"):
            region = self.client.meta.region_name
            # S3 wants the region spelled out unless it is the one that it had first.
            where = {} if region in ("us-east-1", "aws-global") else {"LocationConstraint": region}
            try:
                self.client.create_bucket(Bucket=self.bucket, **({"CreateBucketConfiguration": where} if where else {}))
            except (self.client.exceptions.BucketAlreadyOwnedByYou, self.client.exceptions.BucketAlreadyExists):
                return False  # somebody else was first
        return True

    @override
    def get(self, key: str) -> bytes | None:
        with self.errors(f"reading {key}"):
            try:
                return self.content(key)
            except self.client.exceptions.NoSuchKey:
                return None

    def _etag(self, key: str) -> str | None:
        from botocore.exceptions import ClientError

        with self.errors(f"reading {key}"):
            try:
                return str(self.head(key)["ETag"]).strip('"')
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in ("404", "NoSuchKey"):
                    return None
                raise

    @override
    def has(self, key: str) -> bool:
        return self._etag(key) is not None

    @override
    def put(self, key: str, data: bytes) -> None:
        # The ETag of a plain PUT is the MD5 of its bytes; where it is not (KMS), the object is simply written again.
        if self._etag(key) == hashlib.md5(data, usedforsecurity=False).hexdigest():
            return
        with self.errors(f"writing {key}"):
            self.client.put_object(**self.where(key), Body=data)

    @override
    def adopt(self, path: Path, key: str) -> None:
        self.put(key, path.read_bytes())

    @override
    def upload(self, path: Path, key: str) -> None:
        try:
            file = path.open("rb")
        except OSError as error:
            raise cannot_read(path, error) from error
        with file, self.errors(f"writing {key}"):  # upload_file would hide the ClientError in one of boto3's own
            self.client.upload_fileobj(file, *self.where(key).values())

    @override
    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            with self.errors(f"deleting {key}"):
                self.client.delete_object(**self.where(key))

    @override
    def list(self, prefix: str) -> list[str]:
        full = self.where(prefix)["Key"]
        skip = len(self.prefix) + 1 if self.prefix else 0
        with self.errors(f"listing {prefix}"):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=full)
            return sorted(item["Key"][skip:] for page in pages for item in page.get("Contents", ()))

    @override
    def open(self, key: str) -> BucketSource:
        with self.errors(f"reading {key}"):
            head = self.head(key)
            return BucketSource(self, key, int(head["ContentLength"]), str(head["ETag"]))


def _is_aws(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu"))


def _sentence(kinds: Sequence[str], settings: Settings, endpoint: str | None, doing: str) -> str:
    """What a fault asks of a person. `kinds` names it, narrowest first: an error code of S3 and the HTTP status, which
    is all that there is of an answer to HEAD, or classes of botocore.
    """
    lake, at = settings.lake, f" at {endpoint}" if endpoint else ""
    silent = f"S3{at} does not answer while {doing}; start it or correct AWS_ENDPOINT_URL."
    broken = f"S3{at} broke the connection while {doing}; run the step again."
    busy = f"S3{at} is busy or at fault ({kinds[0]}) in {TRIES} tries of {doing}; wait a while and run the step again."
    endpoint = f"The S3 endpoint{at} is no URL; correct AWS_ENDPOINT_URL, for example to http://localhost:8333."
    encryption = (
        f"No encrypted connection to S3{at} while {doing}; write http:// into AWS_ENDPOINT_URL if it speaks no TLS, "
        "else let AWS_CA_BUNDLE name its certificate."
    )
    region = f"{settings.aws_region or 'The default'} is no region of S3; correct AWS_DEFAULT_REGION or aws_default."
    elsewhere = (
        f"{lake} is in another region or at another address{at}; "
        "correct AWS_DEFAULT_REGION and AWS_ENDPOINT_URL, or aws_default."
    )
    name = f"S3 allows no such name of a bucket as in {lake}; correct DELAYWATCH_LAKE."
    keys = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the connection aws_default."
    token = f"The S3 session token is not valid, or no longer; renew the credentials of {lake}."
    denied = f"No permission on {lake} while {doing}; allow this key to list, read, write and delete there."
    closed = f"S3{at} has closed the bucket or the account of {lake}; ask who provides it."
    full = f"No space left on S3{at} while {doing}; free some space and run the step again."
    changed = f"The object changed while {doing}; run the step again when its upload has ended."
    gone = f"An object that was there is gone while {doing}; put it back and run the step again."
    sentences = {
        "ConnectionError": silent,
        "ReadTimeoutError": silent,
        "HTTPClientError": broken,
        "IncompleteReadError": broken,
        "CertificateExpired": f"The certificate of S3{at} has expired; renew it there, then run the step again.",
        "SSLError": encryption,
        "EndpointProviderError": endpoint,
        "InvalidRegionError": region,
        "NoCredentialsError": f"No S3 credentials for {lake}; {keys}",
        "PartialCredentialsError": f"Only half of the S3 credentials for {lake}; {keys}",
        "ProfileNotFound": "The profile that AWS_PROFILE names is not in ~/.aws; correct AWS_PROFILE.",
        "ParamValidationError": name,
        "InvalidBucketName": name,
        "NoSuchBucket": f"The bucket of the lake {lake} does not exist{at}; correct DELAYWATCH_LAKE, or create it with "
        f"`aws s3 mb s3://{lake.partition('://')[2].partition('/')[0]}`.",
        "InvalidAccessKeyId": f"S3{at} does not know this access key; correct AWS_ACCESS_KEY_ID or aws_default.",
        "SignatureDoesNotMatch": f"S3{at} refuses the secret key; correct AWS_SECRET_ACCESS_KEY or aws_default.",
        "InvalidToken": token,
        "ExpiredToken": token,
        "TokenRefreshRequired": token,
        "RequestTimeTooSkewed": "This machine's clock is wrong for S3; set the time (for example with chrony).",
        "AuthorizationHeaderMalformed": elsewhere,
        "PermanentRedirect": elsewhere,
        "301": elsewhere,
        "AccessDenied": denied,
        "403": denied,
        "Forbidden": denied,
        "AllAccessDisabled": closed,
        "AccountProblem": closed,
        "InsufficientStorage": full,
        "507": full,
        "NoSuchKey": gone,
        "404": gone,
        "InvalidObjectState": f"An object is in an archive of S3 while {doing}; restore it and run the step again.",
        "PreconditionFailed": changed,
        "412": changed,
        "SlowDown": busy,
        "ServiceUnavailable": busy,
        "InternalError": busy,
        "RequestTimeout": busy,
        "500": busy,
        "502": busy,
        "503": busy,
        "504": busy,
    }
    unknown = f"S3{at} failed while {doing} ({kinds[0]}); look that up in its manual and run the step again."
    return next((sentences[kind] for kind in kinds if kind in sentences), unknown)
