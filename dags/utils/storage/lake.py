"""Read and write the partitions of the lake, a folder or bucket named by `DELAYWATCH_LAKE`.

The module handles tables, but not flights, detectors or SQL. Each file is replaced atomically. Silver is committed by
its manifest; `read_silver` reads only files in the manifest, and the sums, the quality report and the rejected rows
count only if the manifest has their hash. In a bucket the manifest is also the lock of the year (decision 0037). Gold
tables and verdicts carry the hash of their source; `freshness` compares it with the files in the lake.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from utils.errors import Busy, InvalidInput, Missing, Unavailable
from utils.settings import Settings
from utils.storage import keys
from utils.storage.folder import FolderStore, staging
from utils.storage.parquet import MADE_FROM, content_hash, encode, encode_json, made_from
from utils.storage.stores import Source, SourceFile, Store

log = logging.getLogger(__name__)

_OTHER_ETAG = f'"{"0" * 32}"'  # of no object
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # after decoding; settings reject plain control characters
_FOLDER_URL = re.compile(r"(?i:file)://(/.*)", re.DOTALL)
_BUCKET_URL = re.compile(r"(?i:s3)://([^/]+)/?(.*)", re.DOTALL)

Manifest = dict[str, Any]


class Damaged(InvalidInput):
    """A file in the lake cannot be decoded."""


class TableSummary(NamedTuple):
    """What a parquet file says without being decoded."""

    rows: int
    made_from: str  # hash of its source; empty if there is none
    first: str  # the first value of a column; empty without rows or column


class Lake:
    """The partitions of one lake by year. Connections open on first use."""

    def __init__(self, settings: Settings) -> None:
        """Raises InvalidInput if `settings.lake` is not a valid URL; see `open_store`."""
        self.store: Store = open_store(settings)
        self.uri = settings.lake.rstrip("/")
        self._scratch = settings.scratch

    def prepare(self) -> bool:
        """Check that objects can be listed, written, read and deleted, with a temporary object.

        Create the folder or bucket if it is missing, but never a bucket on AWS. Return True if it was created. Log a
        warning if the bucket ignores the condition of a write, so that two hosts could damage a year.
        """
        is_new = self.store.create()
        key = keys.probe_key(secrets.token_hex(8))
        self.store.put(key, key.encode())
        try:
            content = self.store.get(key)
            for header, version in {"If-None-Match": None, "If-Match": _OTHER_ETAG}.items():
                if self.store.is_shared and self.store.put_if(key, header.encode(), version):
                    log.warning(
                        "%s ignores the condition %s of a write. Run the steps on one host only.", self.uri, header
                    )
        finally:
            self.store.delete([key])
        if content != key.encode():
            raise InvalidInput(
                f"{self.uri} returned other bytes than Delaywatch had just written; set DELAYWATCH_LAKE and "
                "AWS_ENDPOINT_URL to the store itself, not to a cache in front of it."
            )
        return is_new

    def bronze_years(self) -> list[int]:
        """Return the years whose CSV is in bronze, ascending."""
        names = (key.removeprefix("01_bronze/") for key in self.store.list("01_bronze/"))
        return sorted({int(match[1]) for name in names if (match := re.fullmatch(r"(\d{4})\.csv(\.gz)?", name))})

    def years(self) -> list[int]:
        """Return the years that have an object in any layer, ascending."""
        names = {match[1] for key in self.store.list("") if (match := re.search(r"/year=(\d{4})/", key))}
        return sorted({*self.bronze_years(), *map(int, names)})

    def has(self, key: str) -> bool:
        """Return True if an object with exactly this key exists."""
        return self.store.has(key)

    def bronze_key(self, year: int) -> str:
        """Return the key of the year's CSV.

        Raises Missing, which lists the available years, or InvalidInput if both .csv and .csv.gz exist.
        """
        files = [key for key in self.store.list(f"01_bronze/{year}.csv") if key in keys.bronze_keys(year)]
        if len(files) == 1:
            return files[0]
        if files:
            raise InvalidInput(
                f"Both {files[0]} and {files[1]} are in {self.uri}; delete one of them, or replace both "
                f"with `python -m utils bronze --year {year} --from FILE --replace`."
            )
        years = ", ".join(map(str, self.bronze_years()))
        raise Missing(
            f"{keys.bronze_keys(year)[0]} (or .csv.gz) is not in {self.uri}; load it with "
            f"`python -m utils bronze --year {year} --from FILE`"
            + (f", or choose another year: {years}." if years else ".")
        )

    def open_bronze(self, year: int) -> Source:
        """Open the year's CSV; the caller closes it. Raises the errors of `bronze_key`."""
        return self.store.open(self.bronze_key(year))

    def holds(self, key: str, source: Source) -> bool:
        """Return True if the object `key`, which must exist, has the same bytes as `source`."""
        step = 16 << 20
        with closing(self.store.open(key)) as stored:
            return stored.size == source.size and all(
                stored.read(at, at + step) == source.read(at, at + step) for at in range(0, source.size, step)
            )

    @contextmanager
    def staging(self, year: int) -> Iterator[Path]:
        """Lock the year and yield a private local folder for its new files. Raises the errors of `folder.staging`."""
        with staging(self.store, self.uri, self._scratch, year) as folder:
            yield folder

    def clear_staging(self, year: int) -> None:
        """Delete the staging files of a killed run of the year; do nothing while a run is writing."""
        with suppress(Busy), self.staging(year):
            pass

    def silver_version(self, year: int) -> str | None:
        """Return the version of the year's silver, for `commit_silver`; call it before the CSV is read."""
        return self.store.version(keys.manifest_key(year))

    def commit_silver(
        self,
        year: int,
        staged: Sequence[tuple[Path | None, str]],
        manifest: Manifest,
        beside: Mapping[str, bytes] | None = None,
        *,
        version: str | None,
    ) -> None:
        """Replace the year's silver by `staged` if it still has `version`, the result of `silver_version`.

        staged: local file and name in the silver folder of each part; the path of a part that is in the lake already is
        None. The manifest names each part. Names contain the content hash, so a part with the same name and size is not
        written again. beside: further objects of this silver by key, with fixed keys. They are written after the
        manifest, so that only the run that wrote the manifest writes them; until then readers refuse the old ones.

        Raises Busy if another run has committed other silver of the year since, in a store that several hosts share.
        Nothing is overwritten then, or the message says that the step must run again. Such a store keeps the parts of
        earlier silver, because another host may be about to commit them; retention deletes them later.
        """
        folder, key, data = keys.silver_folder(year), keys.manifest_key(year), encode_json(manifest)
        existing = set(self.store.list(folder))
        self._store_parts(year, staged, existing)
        if not self.store.put_if(key, data, version):
            raise self._lost_race(
                year,
                f"nothing was overwritten. Its silver of {year} is complete; run the silver step again only if bronze "
                "has a newer CSV.",
            )
        for other_key, other_data in (beside or {}).items():
            self.store.put(other_key, other_data)
        parts = {folder + name for _, name in staged}
        if self.store.is_shared:
            self._check_commit(year, data, parts)
        else:
            self.store.delete(sorted(existing - parts - {key}))

    def _store_parts(self, year: int, staged: Sequence[tuple[Path | None, str]], existing: set[str]) -> None:
        for path, name in staged:
            key = keys.silver_folder(year) + name
            if path is None and key not in existing:
                raise Unavailable(f"{key} was uploaded and is not in {self.uri}; run the silver step of {year} again.")
            if path and (key not in existing or self._size(key) != path.stat().st_size):
                self.store.adopt(path, key)

    def _check_commit(self, year: int, manifest: bytes, parts: set[str]) -> None:
        """Raise Busy if another host has changed the year between the writes of a commit."""
        if self.store.get(keys.manifest_key(year)) != manifest:
            raise self._lost_race(
                year,
                "this run had committed earlier, and its sums or quality report may have replaced those of the other. "
                f"Run the silver step of {year} again.",
            )
        if missing := sorted(parts - set(self.store.list(keys.silver_folder(year)))):
            raise Busy(
                f"{missing[0]} was deleted from {self.uri} while this run was writing {year}; run the silver step of "
                f"{year} again."
            )

    def _lost_race(self, year: int, remedy: str) -> Busy:
        """Return the error for a run that another run of the year, on another host, has overtaken."""
        key = keys.manifest_key(year)
        time = self.store.modified(key).get(key)
        if time is None:
            return Busy(
                f"{key} was deleted from {self.uri} while this run was writing {year}; run the silver step of {year} "
                "again."
            )
        return Busy(f"Another run committed {year} to {self.uri} at {time:%H:%M} UTC; {remedy}")

    def _size(self, key: str) -> int:
        with closing(self.store.open(key)) as source:
            return source.size

    def manifest(self, year: int) -> Manifest:
        """Return the manifest of the year's silver. Raises Missing or Damaged."""
        key = keys.manifest_key(year)
        data = self.store.get(key)
        if data is None:
            raise Missing(f"The silver of {year} is not in {self.uri}; run the silver step of {year} first.")
        try:
            manifest = json.loads(data)
            _ = manifest["parts"]
        except (ValueError, KeyError, TypeError) as error:  # not JSON, not UTF-8, or JSON without parts
            raise Damaged(
                f"{key} in {self.uri} is damaged; delete it and run the silver step of {year} again."
            ) from error
        return dict(manifest)

    def silver_parts(self, year: int) -> list[str]:
        """Return the keys of the silver files in the manifest, in the order of the CSV."""
        return [keys.silver_folder(year) + part["name"] for part in self.manifest(year)["parts"]]

    def read_silver(self, year: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield one table per row group, in the order of the CSV, with `columns` of schemas.SILVER (default: all).

        Only the selected columns of one row group are in memory at a time. Raises Missing or Damaged.
        """
        for key in self.silver_parts(year):
            if not self.store.has(key):  # retention deletes parts and keeps the manifest
                raise Missing(f"{key} is no longer in {self.uri}; run the silver step of {year} again.")
            with closing(self.store.open(key)) as source:
                try:
                    part = pq.ParquetFile(pa.PythonFile(SourceFile(source), mode="r"), pre_buffer=True)
                    for group in range(part.num_row_groups):
                        yield part.read_row_group(group, columns=list(columns) if columns else None)
                except pa.ArrowInvalid as error:
                    raise self.damaged(key) from error

    def read_sums(self, year: int) -> pa.Table:
        """Return the year's gold.SUMS, computed by the silver step.

        Raises Damaged, or Missing if the file is absent or does not match the manifest.
        """
        sums, version = self.read_hashed(keys.sums_key(year))
        if version != self.manifest(year)["sums"]:
            raise Missing(
                f"{keys.sums_key(year)} in {self.uri} does not match the manifest of {year}; run the silver step of "
                f"{year} again."
            )
        return sums

    def read_table(self, key: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read the parquet file `key`, or some of its columns. Raises Missing or Damaged."""
        return self.read_hashed(key, columns)[0]

    def read_hashed(self, key: str, columns: Sequence[str] | None = None) -> tuple[pa.Table, str]:
        """Read like `read_table`; return the table and the `content_hash` of the file."""
        data = self.store.get(key)
        if data is None:
            raise Missing(
                f"{key} is not in {self.uri}; run the earlier steps of the year, or choose a year that "
                "`python -m utils status` lists."
            )
        try:
            table = pq.ParquetFile(pa.BufferReader(data)).read(columns=list(columns) if columns else None)
        except pa.ArrowInvalid as error:
            raise self.damaged(key) from error
        return table, content_hash(data)

    def summary(self, key: str, column: str | None = None) -> TableSummary:
        """Return rows, source hash and the first value of `column` of the parquet file `key`.

        Reads the footer and decodes one value, so memory does not grow with the rows.
        """
        with closing(self.store.open(key)) as source:
            try:
                file = pq.ParquetFile(pa.PythonFile(SourceFile(source), mode="r"))
                rows, first = int(file.metadata.num_rows), ""
                if column and rows:
                    batch = next(file.iter_batches(batch_size=1, row_groups=[0], columns=[column], use_threads=False))
                    first = str(batch[column][0].as_py())
            except pa.ArrowInvalid as error:
                raise self.damaged(key) from error
        return TableSummary(rows, made_from(file.schema_arrow) or "", first)

    def damaged(self, key: str) -> Damaged:
        """Return the error for a parquet file that cannot be decoded."""
        return Damaged(f"{key} in {self.uri} is damaged; delete it and run the step that writes it again.")

    def write_table(self, key: str, table: pa.Table, made_from: str) -> str:
        """Write the parquet file `key` with `made_from`, the hash of its source, as metadata; return the key."""
        self.store.put(key, encode(table.replace_schema_metadata({MADE_FROM: made_from})))
        return key

    def read_airport_days(self, year: int) -> pa.Table:
        """Read the year's airport-days, schemas.AIRPORT_DAYS. Raises Missing or Damaged."""
        return self.read_table(keys.airport_days_key(year))

    def read_anomalies(self, year: int, detector: str) -> pa.Table:
        """Read one detector's verdicts, schemas.ANOMALIES. Raises Missing or Damaged."""
        return self.read_table(keys.anomalies_key(year, detector))

    def detectors_with_verdicts(self, year: int) -> list[str]:
        """Return the names of the detectors with verdicts of the year in gold."""
        pattern = re.compile(rf"03_gold/anomalies/detector=(\w+)/year={year}/anomalies\.parquet")
        matches = map(pattern.fullmatch, self.store.list("03_gold/anomalies/"))
        return sorted(match[1] for match in matches if match)

    def read_quality(self, year: int) -> dict[str, Any]:
        """Read the year's quality report, as the silver step wrote it.

        Raises Missing if the report is absent or does not match the manifest, as after an interrupted silver step.
        """
        manifest, data = self.manifest(year), self.store.get(keys.quality_key(year))
        if data is None:
            raise Missing(f"{keys.quality_key(year)} is not in {self.uri}; run the silver step of {year} first.")
        if content_hash(data) != manifest.get("quality"):
            raise Missing(
                f"{keys.quality_key(year)} in {self.uri} is damaged or does not match the manifest of {year}; run the "
                f"silver step of {year} again."
            )
        return dict(json.loads(data))

    def replace_plots(
        self, year: int, plots: Iterable[tuple[str, str, bytes]], each: Callable[[], None] | None = None
    ) -> int:
        """Write every (origin, name, png), then delete all other plots of the year.

        Calls `each` after every plot. Returns the number of plots.
        """
        stale = {key for key in self.store.list(keys.plots_folder(year)) if key.endswith(".png")}
        count = 0
        for origin, name, png in plots:
            key = keys.plot_key(year, origin, name)
            self.store.put(key, png)
            stale.discard(key)
            count += 1
            if each:
                each()
        self.store.delete(sorted(stale))
        return count

    def read_plots(self, year: int) -> Iterator[tuple[str, str, bytes]]:
        """Yield every (origin, name, png) of the year, sorted by key."""
        for key in self.store.list(keys.plots_folder(year)):
            if match := re.fullmatch(rf"{keys.plots_folder(year)}origin=([^/]+)/(\w+)\.png", key):
                data = self.store.get(key)
                if data is not None:
                    yield match[1], match[2], data


def open_store(settings: Settings) -> Store:
    """Return the store at `settings.lake`: `file:///folder` or `s3://bucket[/prefix]`.

    The path of a file URL is percent-decoded; bucket and prefix are used literally, as AWS does. Raises InvalidInput
    for any other URL, and for names with # or ?, which other programs would cut.
    """
    lake = settings.lake
    folder, bucket = _FOLDER_URL.fullmatch(lake), _BUCKET_URL.fullmatch(lake)
    if (folder or bucket) and (cut := re.search("[?#]", lake)):
        rename = "write # as %23 and ? as %3F" if folder else "choose a prefix without # and ?"
        raise InvalidInput(
            f"DELAYWATCH_LAKE is {lake!r}, and other programs would ignore the text from {cut[0]} on; {rename}. "
            f"Earlier releases used {lake[: cut.start()]!r}; set DELAYWATCH_LAKE to it to keep the existing years."
        )
    if folder:
        return FolderStore(_decoded(folder[1], lake))
    if bucket:
        # Imported here, because boto3 uses 30 MB that a lake in a folder does not need.
        from utils.storage.bucket import BucketStore

        return BucketStore(settings, bucket[1], bucket[2].strip("/"))
    raise InvalidInput(
        f"DELAYWATCH_LAKE is {lake!r}; it must look like file:///folder or s3://bucket/prefix. Correct it."
    )


def _decoded(path: str, lake: str) -> Path:
    """Return the percent-decoded path of a file URL. Raises InvalidInput for an invalid % escape."""
    try:
        decoded = unquote(path, errors="strict")
        is_encoded = not re.search("%(?![0-9A-Fa-f]{2})", path) and not _CONTROL.search(decoded)
    except UnicodeDecodeError:
        is_encoded = False
    if not is_encoded:
        raise InvalidInput(
            f"DELAYWATCH_LAKE is {lake!r}, but a % in it does not encode a character; write a literal % as %25."
        )
    return Path(decoded)
