"""The lake: every key is spelled here, and partitions go in and out of `file://` folders and `s3://` buckets.

Knows bytes, keys and tables; knows nothing of flights, detectors or SQL. A single file appears at once (written beside and
renamed, or one PUT); silver appears with its manifest, which is written last and which `read_silver` follows.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any, NoReturn, Protocol
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from utils.errors import DelaywatchError
from utils.settings import Settings

Manifest = dict[str, Any]
STAGING = "_staging"  # in a lake that is a folder: files on their way in; readers of hive folders skip the underscore


# --- keys -----------------------------------------------------------------------------------------------------------


def bronze_keys(year: int) -> tuple[str, str]:
    """The two keys that the year's CSV may have; exactly one of them must exist."""
    return f"01_bronze/{year}.csv", f"01_bronze/{year}.csv.gz"


def silver_folder(year: int) -> str:
    return f"02_silver/flights/year={year}/"


def manifest_key(year: int) -> str:
    return silver_folder(year) + "_manifest.json"


def rejected_key(year: int) -> str:
    return f"02_silver/rejected/year={year}/rejected.parquet"


def quality_key(year: int) -> str:
    return f"02_silver/quality/year={year}/quality.json"


def airport_days_key(year: int) -> str:
    return f"03_gold/airport_days/year={year}/airport_days.parquet"


def anomalies_key(year: int, detector: str) -> str:
    return f"03_gold/anomalies/detector={detector}/year={year}/anomalies.parquet"


def plots_folder(year: int) -> str:
    return f"04_plots/year={year}/"


def plot_key(year: int, origin: str, name: str) -> str:
    """`name` is `daily_flights` or `daily_delay`. Raises DelaywatchError for an origin that is no plain code."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,16}", origin):
        raise DelaywatchError(f"The origin {origin!r} cannot be part of a key; correct it in the year's bronze file.")
    return f"{plots_folder(year)}origin={origin}/{name}.png"


def year_page_key(year: int) -> str:
    return plots_folder(year) + "index.html"


# --- stores: bytes in and out ---------------------------------------------------------------------------------------


class Source(Protocol):
    """One object of the lake, pinned to the version that was there when it was opened; safe to read from threads."""

    key: str
    size: int  # bytes
    etag: str  # names the version; empty where the store has none and the content's hash must do

    def read(self, start: int, end: int) -> bytes: ...

    def still_the_same(self) -> bool: ...

    def close(self) -> None: ...


class Store(Protocol):
    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, data: bytes) -> None: ...

    def adopt(self, path: Path, key: str) -> None: ...

    def upload(self, path: Path, key: str) -> None: ...

    def delete(self, keys: Iterable[str]) -> None: ...

    def has(self, key: str) -> bool: ...

    def list(self, prefix: str) -> list[str]: ...

    def open(self, key: str) -> Source: ...

    def url(self, key: str) -> str: ...


class FolderSource:
    """A local file, pinned by its inode, size and time of change."""

    etag = ""

    def __init__(self, key: str, path: Path) -> None:
        self.key, self._path = key, path
        self._file = path.open("rb")
        self._pin = self._fingerprint(os.fstat(self._file.fileno()))
        self.size = self._pin[1]

    @staticmethod
    def _fingerprint(stat: os.stat_result) -> tuple[int, int, int]:
        return stat.st_ino, stat.st_size, stat.st_mtime_ns

    def read(self, start: int, end: int) -> bytes:
        return os.pread(self._file.fileno(), end - start, start)

    def still_the_same(self) -> bool:
        try:
            return self._fingerprint(self._path.stat()) == self._pin
        except FileNotFoundError:
            return False

    def close(self) -> None:
        self._file.close()


class FolderStore:
    """A lake in a local folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _fail(self, error: OSError, doing: str) -> NoReturn:
        if error.errno == errno.ENOSPC:
            raise DelaywatchError(
                f"No space left on the disk of {self.root} while {doing}; free some space and run the step again, "
                "what was there before is untouched."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise DelaywatchError(
                f"No permission for {doing} in the lake {self.root}; give this user the right to read and write that folder."
            ) from error
        raise DelaywatchError(f"The lake {self.root} failed while {doing}: {error.strerror}.") from error

    def _path(self, key: str) -> Path:
        path = self.root / key
        if ".." in Path(key).parts or Path(key).is_absolute():
            raise DelaywatchError(f"The key {key!r} leads out of the lake; use a plain key.")
        return path

    def get(self, key: str) -> bytes | None:
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._fail(error, f"reading {key}")

    def put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        try:
            if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
                return
            with self._beside(path) as file:
                file.write(data)
        except OSError as error:
            self._fail(error, f"writing {key}")

    @contextmanager
    def _beside(self, path: Path) -> Iterator[IO[bytes]]:
        """A new file in the staging folder that takes the place of `path` at the end; see `sweep`."""
        waiting = self.root / STAGING / "put"
        waiting.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=waiting, delete=False) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).chmod(0o644)
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise

    def sweep(self) -> None:
        """Remove files that were never put because their process was killed: nobody holds their lock any more."""
        for path in (self.root / STAGING / "put").glob("*"):
            try:
                with path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink(missing_ok=True)
            except (FileNotFoundError, BlockingIOError):
                continue  # put by now, or being written

    def adopt(self, path: Path, key: str) -> None:
        target = self._path(key)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        except OSError as error:
            self._fail(error, f"writing {key}")

    def upload(self, path: Path, key: str) -> None:
        target = self._path(key)
        try:
            with path.open("rb") as source, self._beside(target) as file:
                shutil.copyfileobj(source, file, 1 << 20)
        except OSError as error:
            self._fail(error, f"copying {path} to {key}")

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            try:
                self._path(key).unlink(missing_ok=True)
            except OSError as error:
                self._fail(error, f"deleting {key}")

    def has(self, key: str) -> bool:
        return self._path(key).is_file()

    def list(self, prefix: str) -> list[str]:
        base = self._path(prefix)
        folder = base if prefix.endswith("/") or not prefix else base.parent
        try:
            found = [path.relative_to(self.root).as_posix() for path in folder.rglob("*") if path.is_file()]
        except OSError as error:
            self._fail(error, f"listing {prefix}")
        return sorted(key for key in found if key.startswith(prefix))

    def open(self, key: str) -> FolderSource:
        try:
            return FolderSource(key, self._path(key))
        except OSError as error:
            self._fail(error, f"reading {key}")

    def url(self, key: str) -> str:
        return (self.root / key).as_uri() if self.root.is_absolute() else str(self.root / key)


class BucketSource:
    """An S3 object, pinned to one ETag: a GET of another version is refused by the server (If-Match)."""

    def __init__(self, store: BucketStore, key: str, size: int, etag: str) -> None:
        self.key, self.size, self.etag, self._store = key, size, etag, store

    def read(self, start: int, end: int) -> bytes:
        end = min(end, self.size)
        if end <= start:
            return b""
        with self._store.errors(f"reading {self.key}"):
            answer = self._store.client.get_object(
                **self._store.where(self.key), Range=f"bytes={start}-{end - 1}", IfMatch=self.etag
            )
            return bytes(answer["Body"].read())

    def still_the_same(self) -> bool:
        with self._store.errors(f"reading {self.key}"):
            return bool(self._store.client.head_object(**self._store.where(self.key))["ETag"] == self.etag)

    def close(self) -> None:
        """Nothing stays open between two reads."""


class BucketStore:
    """A lake in an S3 bucket or below a prefix of it, at AWS or at any endpoint that speaks S3."""

    def __init__(self, settings: Settings) -> None:
        parts = urlsplit(settings.lake)
        self.bucket, self.prefix = parts.netloc, parts.path.strip("/")
        self._settings = settings

    @cached_property
    def client(self) -> Any:
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
                connect_timeout=5,
                read_timeout=60,
                retries={"total_max_attempts": 4, "mode": "standard"},
                max_pool_connections=max(10, 2 * self._settings.threads),
                request_checksum_calculation="when_required",
            ),
        )

    def where(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": f"{self.prefix}/{key}" if self.prefix else key}

    @contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """Turn what S3 answers into one sentence; what is not listed here is a fault of ours and passes."""
        from botocore import exceptions as boto

        lake = self._settings.lake
        at = f" at {self._settings.aws_endpoint_url}" if self._settings.aws_endpoint_url else ""
        try:
            yield
        except (
            boto.EndpointConnectionError,
            boto.ConnectTimeoutError,
            boto.ReadTimeoutError,
            boto.ConnectionClosedError,
        ) as error:
            raise DelaywatchError(
                f"S3{at} does not answer while {doing}; start it or correct AWS_ENDPOINT_URL."
            ) from error
        except (boto.ResponseStreamingError, boto.IncompleteReadError) as error:
            raise DelaywatchError(f"S3{at} broke the connection while {doing}; run the step again.") from error
        except (boto.NoCredentialsError, boto.PartialCredentialsError) as error:
            raise DelaywatchError(
                f"No S3 credentials for {lake}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the connection aws_default."
            ) from error
        except boto.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            sentence = {
                "NoSuchBucket": f"The bucket of the lake {lake} does not exist{at}; create it or correct DELAYWATCH_LAKE.",
                "InvalidAccessKeyId": f"S3{at} does not know this access key; correct AWS_ACCESS_KEY_ID or aws_default.",
                "SignatureDoesNotMatch": f"S3{at} refuses the secret key; correct AWS_SECRET_ACCESS_KEY or aws_default.",
                "ExpiredToken": f"The S3 session token has expired; renew the credentials of {lake}.",
                "RequestTimeTooSkewed": "This machine's clock is wrong for S3; set the time (for example with chrony).",
                "PreconditionFailed": f"The object changed while {doing}; run the step again when its upload has ended.",
                "412": f"The object changed while {doing}; run the step again when its upload has ended.",
            }.get(code)
            if sentence is None and code in ("AccessDenied", "403", "Forbidden"):
                sentence = (
                    f"No permission on {lake} while {doing}; allow this key to list, read, write and delete there."
                )
            if sentence is None:
                raise
            raise DelaywatchError(sentence) from error

    def get(self, key: str) -> bytes | None:
        with self.errors(f"reading {key}"):
            try:
                return bytes(self.client.get_object(**self.where(key))["Body"].read())
            except self.client.exceptions.NoSuchKey:
                return None

    def _etag(self, key: str) -> str | None:
        from botocore.exceptions import ClientError

        with self.errors(f"reading {key}"):
            try:
                return str(self.client.head_object(**self.where(key))["ETag"]).strip('"')
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in ("404", "NoSuchKey"):
                    return None
                raise

    def has(self, key: str) -> bool:
        return self._etag(key) is not None

    def put(self, key: str, data: bytes) -> None:
        # The ETag of a plain PUT is the MD5 of its bytes; where it is not (KMS), the object is simply written again.
        if self._etag(key) == hashlib.md5(data, usedforsecurity=False).hexdigest():
            return
        with self.errors(f"writing {key}"):
            self.client.put_object(**self.where(key), Body=data)

    def adopt(self, path: Path, key: str) -> None:
        self.put(key, path.read_bytes())

    def upload(self, path: Path, key: str) -> None:
        with self.errors(f"writing {key}"):
            self.client.upload_file(str(path), *self.where(key).values())

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            with self.errors(f"deleting {key}"):
                self.client.delete_object(**self.where(key))

    def list(self, prefix: str) -> list[str]:
        full = self.where(prefix)["Key"]
        skip = len(self.prefix) + 1 if self.prefix else 0
        with self.errors(f"listing {prefix}"):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=full)
            return sorted(item["Key"][skip:] for page in pages for item in page.get("Contents", ()))

    def open(self, key: str) -> BucketSource:
        with self.errors(f"reading {key}"):
            head = self.client.head_object(**self.where(key))
            return BucketSource(self, key, int(head["ContentLength"]), str(head["ETag"]))

    def url(self, key: str) -> str:
        return f"s3://{self.bucket}/{self.where(key)['Key']}"


# --- the lake -------------------------------------------------------------------------------------------------------


class Lake:
    """Partitions of one lake by year. Opens nothing before it is asked."""

    def __init__(self, settings: Settings) -> None:
        parts = urlsplit(settings.lake)
        if parts.scheme == "file" and parts.path and not parts.netloc:
            self.store: Store = FolderStore(Path(unquote(parts.path)))
        elif parts.scheme == "s3" and parts.netloc:
            self.store = BucketStore(settings)
        else:
            raise DelaywatchError(
                f"The lake {settings.lake!r} is neither file:///folder nor s3://bucket[/prefix]; correct DELAYWATCH_LAKE."
            )
        self.uri = settings.lake.rstrip("/")
        self._scratch = settings.scratch

    def bronze_years(self) -> list[int]:
        """The years whose CSV is in bronze, ascending."""
        names = (key.removeprefix("01_bronze/") for key in self.store.list("01_bronze/"))
        return sorted({int(found[1]) for name in names if (found := re.fullmatch(r"(\d{4})\.csv(\.gz)?", name))})

    def years(self) -> list[int]:
        """The years of which any layer has something, ascending."""
        found = {match[1] for key in self.store.list("") if (match := re.search(r"/year=(\d{4})/", key))}
        return sorted({*self.bronze_years(), *map(int, found)})

    def has(self, key: str) -> bool:
        return self.store.has(key)

    def bronze_key(self, year: int) -> str:
        """The key of the year's CSV. Raises DelaywatchError when there is none (naming those there are) or there are two."""
        there = [key for key in self.store.list(f"01_bronze/{year}.csv") if key in bronze_keys(year)]
        if len(there) == 1:
            return there[0]
        if there:
            raise DelaywatchError(
                f"Both {there[0]} and {there[1]} are in {self.uri}; remove the one that is not the year."
            )
        years = ", ".join(map(str, self.bronze_years())) or "none"
        raise DelaywatchError(
            f"There is no {bronze_keys(year)[0]} (or .csv.gz) in {self.uri}; put it there, or choose a year that is there: {years}."
        )

    def open_bronze(self, year: int) -> Source:
        return self.store.open(self.bronze_key(year))

    @contextmanager
    def staging(self, year: int) -> Iterator[Path]:
        """A private local folder for one write of one year, empty at first and removed at the end.

        On a `file://` lake it lies inside the lake, so that `adopt` is a rename. Raises DelaywatchError when another
        process holds the year, or when the disk is full or closed to this user.
        """
        if isinstance(self.store, FolderStore):
            base = self.store.root / STAGING
        else:
            base = self._scratch / f"delaywatch-{hashlib.sha256(self.uri.encode()).hexdigest()[:12]}"
        folder = base / f"year={year}"
        keeper = FolderStore(base if base.name != STAGING else base.parent)
        try:
            base.mkdir(parents=True, exist_ok=True)
            lock = (base / f"year={year}.lock").open("w")
        except OSError as error:
            keeper._fail(error, "preparing a place for the new files")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DelaywatchError(
                    f"Another run is writing {year} into {self.uri}; wait until it has ended."
                ) from error
            try:
                shutil.rmtree(folder, ignore_errors=True)  # what a killed run left
                keeper.sweep()
                folder.mkdir(parents=True)
                yield folder
            except OSError as error:
                keeper._fail(error, f"writing the new files of {year}")
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def clear_staging(self, year: int) -> None:
        """Remove what a killed run of the year left in the staging folder; does nothing while a run is writing."""
        try:
            with self.staging(year):
                pass
        except DelaywatchError as error:
            if not isinstance(error.__cause__, BlockingIOError):
                raise

    def commit_silver(self, year: int, staged: Sequence[tuple[Path, str]], manifest: Manifest) -> None:
        """Make `staged` (local file, name in the silver folder) the year's silver; the manifest names every one of them.

        A file whose name is there already is not written again: names carry the hash of their content.
        """
        folder = silver_folder(year)
        there = set(self.store.list(folder))
        for path, name in staged:
            if folder + name not in there:
                self.store.adopt(path, folder + name)
        self.store.put(manifest_key(year), _json(manifest))
        kept = {folder + name for _, name in staged} | {manifest_key(year)}
        self.store.delete(sorted(there - kept))

    def manifest(self, year: int) -> Manifest:
        data = self.store.get(manifest_key(year))
        if data is None:
            raise DelaywatchError(f"There is no silver for {year} in {self.uri}; run the silver step of {year} first.")
        return dict(json.loads(data))

    def silver_parts(self, year: int) -> list[str]:
        """Keys of the year's silver files, in the order of the CSV, as the manifest names them."""
        return [silver_folder(year) + part["name"] for part in self.manifest(year)["parts"]]

    def read_silver(self, year: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """One table per part, in the order of the CSV; `columns` of schemas.SILVER, all by default."""
        for key in self.silver_parts(year):
            yield self.read_table(key, columns)

    def read_sums(self, year: int) -> pa.Table:
        """The sums per airport and day that were taken while silver was written."""
        return self.read_table(silver_folder(year) + self.manifest(year)["sums"])

    def read_table(self, key: str, columns: Sequence[str] | None = None) -> pa.Table:
        data = self.store.get(key)
        if data is None:
            raise DelaywatchError(f"{key} is not in {self.uri}; run the step that writes it for this year.")
        try:
            return pq.ParquetFile(pa.BufferReader(data)).read(columns=list(columns) if columns else None)
        except pa.ArrowInvalid as error:
            raise DelaywatchError(
                f"{key} in {self.uri} is damaged; delete it and run the step that writes it again."
            ) from error

    def write_table(self, key: str, table: pa.Table) -> str:
        self.store.put(key, encode(table))
        return key

    def read_airport_days(self, year: int) -> pa.Table:
        return self.read_table(airport_days_key(year))

    def read_anomalies(self, year: int, detector: str) -> pa.Table:
        return self.read_table(anomalies_key(year, detector))

    def detectors_of(self, year: int) -> list[str]:
        """Names of the detectors whose verdicts of the year are in gold."""
        keys = self.store.list("03_gold/anomalies/")
        found = (re.fullmatch(rf"03_gold/anomalies/detector=(\w+)/year={year}/anomalies\.parquet", key) for key in keys)
        return sorted(match[1] for match in found if match)

    def read_quality(self, year: int) -> dict[str, Any]:
        data = self.store.get(quality_key(year))
        if data is None:
            raise DelaywatchError(f"{quality_key(year)} is not in {self.uri}; run the silver step of {year} first.")
        return dict(json.loads(data))

    def write_quality(self, year: int, report: dict[str, Any]) -> str:
        self.store.put(quality_key(year), _json(report))
        return quality_key(year)

    def replace_plots(
        self, year: int, plots: Iterable[tuple[str, str, bytes]], each: Callable[[], None] | None = None
    ) -> int:
        """Write every (origin, name, png) and remove plots of origins that are no longer there; returns how many were written."""
        stale = {key for key in self.store.list(plots_folder(year)) if key.endswith(".png")}
        count = 0
        for origin, name, png in plots:
            key = plot_key(year, origin, name)
            self.store.put(key, png)
            stale.discard(key)
            count += 1
            if each:
                each()
        self.store.delete(sorted(stale))
        return count

    def read_plots(self, year: int) -> Iterator[tuple[str, str, bytes]]:
        """Every (origin, name, png) of the year, by key."""
        for key in self.store.list(plots_folder(year)):
            if found := re.fullmatch(rf"{plots_folder(year)}origin=([^/]+)/(\w+)\.png", key):
                data = self.store.get(key)
                if data is not None:
                    yield found[1], found[2], data


def encode(table: pa.Table, row_group_rows: int = 1 << 18) -> bytes:
    """Parquet with zstd level 1; the same table always gives the same bytes.

    Whole numbers are delta-packed, which writes a quarter faster than dictionaries and is read by Spark, Athena and DuckDB.
    """
    whole = [field.name for field in table.schema if pa.types.is_integer(field.type)]
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=1,
        row_group_size=row_group_rows,
        use_dictionary=[field.name for field in table.schema if field.name not in whole and field.type != pa.bool_()],
        column_encoding=dict.fromkeys(whole, "DELTA_BINARY_PACKED"),
    )
    return bytes(sink.getvalue())


def content_hash(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
