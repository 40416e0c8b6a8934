"""The lake: every key is spelled here, and partitions go in and out of `file://` folders and `s3://` buckets.

Knows keys and tables; knows nothing of flights, detectors or SQL. How bytes reach a folder or a bucket is `stores`'. A
single file appears at once; silver appears with its manifest, which is written last and which `read_silver` follows.
Gold and verdicts carry the hash of what they were made from, so that leftovers of older data are known as such.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from utils.errors import DelaywatchError
from utils.settings import Settings
from utils.storage.stores import STAGING, FolderStore, Source, SourceFile, Store, make_private, open_store

Manifest = dict[str, Any]
EXPLANATIONS = ("anomaly_reasons", "anomaly_factors", "events", "event_days")  # of the published verdicts, in gold
MADE_FROM = b"made_from"  # in the metadata of a parquet file's schema: the hash of what its rows were made from


# --- keys -----------------------------------------------------------------------------------------------------------


def bronze_keys(year: int) -> tuple[str, str]:
    """The two keys that the year's CSV may have; exactly one of them must exist."""
    return f"01_bronze/{year}.csv", f"01_bronze/{year}.csv.gz"


def silver_folder(year: int) -> str:
    """The folder of the year's silver parts and their manifest; ends with a slash, as every folder does."""
    return f"02_silver/flights/year={year}/"


def manifest_key(year: int) -> str:
    """The file that names the parts of the year's silver: what it does not name is not there."""
    return silver_folder(year) + "_manifest.json"


def sums_key(year: int) -> str:
    """The year's sums per airport and day, gold.SUMS; not beside the parts, where a glob would read them as flights."""
    return f"02_silver/sums/year={year}/sums.parquet"


def rejected_key(year: int) -> str:
    """The rows of the year that could not be used, schemas.REJECTED."""
    return f"02_silver/rejected/year={year}/rejected.parquet"


def quality_key(year: int) -> str:
    """The year's quality report as JSON."""
    return f"02_silver/quality/year={year}/quality.json"


def airport_days_key(year: int) -> str:
    """The year's gold, schemas.AIRPORT_DAYS."""
    return f"03_gold/airport_days/year={year}/airport_days.parquet"


def anomalies_key(year: int, detector: str) -> str:
    """One detector's verdicts on the year, schemas.ANOMALIES."""
    return f"03_gold/anomalies/detector={detector}/year={year}/anomalies.parquet"


def explanation_key(year: int, name: str) -> str:
    """Why the year's flagged days are abnormal; `name` is one of EXPLANATIONS, as is its schema."""
    return f"03_gold/{name}/year={year}/{name}.parquet"


def plots_folder(year: int) -> str:
    """Where the year's pictures and its page are."""
    return f"04_plots/year={year}/"


def plot_key(year: int, origin: str, name: str) -> str:
    """`name` is `daily_flights` or `daily_delay`. Raises DelaywatchError for an origin that is no plain code."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,16}", origin):
        raise DelaywatchError(f"The origin {origin!r} cannot be part of a key; correct it in the year's bronze file.")
    return f"{plots_folder(year)}origin={origin}/{name}.png"


def year_page_key(year: int) -> str:
    """The year on one page, HTML."""
    return plots_folder(year) + "index.html"


def told_key(year: int) -> str:
    """What messages have told of the year, JSON; without it the next one tells everything again."""
    return f"05_alerts/{year}.json"


def probe_key(token: str) -> str:
    """What a check of the lake writes, reads and deletes; a token of its own for every check. Readers skip it."""
    return f"_probe-{token}"


# --- the lake -------------------------------------------------------------------------------------------------------


class Lake:
    """Partitions of one lake by year. Opens nothing before it is asked."""

    def __init__(self, settings: Settings) -> None:
        """Raises DelaywatchError when `settings.lake` names no store; see `stores.open_store`."""
        self.store: Store = open_store(settings)
        self.uri = settings.lake.rstrip("/")
        self._scratch = settings.scratch

    def prepare(self) -> bool:
        """Make sure that objects can be listed, written, read and deleted, with one that is gone afterwards.

        Returns whether the folder or the bucket had to be made; at AWS a bucket is never made. Raises DelaywatchError
        that says what is missing.
        """
        is_new = self.store.create()
        key = probe_key(secrets.token_hex(8))
        self.store.put(key, key.encode())
        try:
            found = self.store.get(key)
        finally:
            self.store.delete([key])
        if found != key.encode():
            raise DelaywatchError(
                f"{self.uri} gives back something else than was written a moment before; let DELAYWATCH_LAKE and "
                "AWS_ENDPOINT_URL lead to the store itself, not to a cache in front of it."
            )
        return is_new

    def bronze_years(self) -> list[int]:
        """The years whose CSV is in bronze, ascending."""
        names = (key.removeprefix("01_bronze/") for key in self.store.list("01_bronze/"))
        return sorted({int(found[1]) for name in names if (found := re.fullmatch(r"(\d{4})\.csv(\.gz)?", name))})

    def years(self) -> list[int]:
        """The years of which any layer has something, ascending."""
        found = {match[1] for key in self.store.list("") if (match := re.search(r"/year=(\d{4})/", key))}
        return sorted({*self.bronze_years(), *map(int, found)})

    def has(self, key: str) -> bool:
        """Whether there is something under exactly this key."""
        return self.store.has(key)

    def bronze_key(self, year: int) -> str:
        """The key of the year's CSV.

        Raises DelaywatchError when there is none, naming the years that are there, or when there are two.
        """
        there = [key for key in self.store.list(f"01_bronze/{year}.csv") if key in bronze_keys(year)]
        if len(there) == 1:
            return there[0]
        if there:
            raise DelaywatchError(
                f"Both {there[0]} and {there[1]} are in {self.uri}; remove one of them, or put the right file again "
                f"with `python -m utils bronze --year {year} --from FILE --replace`."
            )
        years = ", ".join(map(str, self.bronze_years()))
        choice = (
            f"put it there, or choose a year that is there: {years}" if years else "put it there; no year is there yet"
        )
        raise DelaywatchError(f"There is no {bronze_keys(year)[0]} (or .csv.gz) in {self.uri}; {choice}.")

    def open_bronze(self, year: int) -> Source:
        """The year's CSV as it is now; the caller closes it. Raises DelaywatchError as `bronze_key` does."""
        return self.store.open(self.bronze_key(year))

    def holds(self, key: str, source: Source) -> bool:
        """Return whether the object `key`, which must exist, has the bytes of `source`."""
        step = 8 << 20
        with closing(self.store.open(key)) as there:
            return there.size == source.size and all(
                there.read(at, at + step) == source.read(at, at + step) for at in range(0, source.size, step)
            )

    @contextmanager
    def staging(self, year: int) -> Iterator[Path]:
        """A private local folder for one write of one year, empty at first and removed at the end.

        On a `file://` lake it lies inside the lake, so that `adopt` is a rename. Raises DelaywatchError when another
        process holds the year, or when the disk is full or closed to this user.
        """
        if isinstance(self.store, FolderStore):
            base = self.store.own_path(f"{STAGING}/any").parent
        else:
            base = self._scratch / f"delaywatch-{hashlib.sha256(self.uri.encode()).hexdigest()[:12]}"
        folder = base / f"year={year}"
        is_in_lake = isinstance(self.store, FolderStore)
        keeper = FolderStore(base.parent) if is_in_lake else FolderStore(base, "DELAYWATCH_SCRATCH")
        try:
            if isinstance(self.store, FolderStore):
                base.mkdir(parents=True, exist_ok=True)
            else:  # below the system's temporary folder, which is everybody's, as long as nobody chose another
                make_private(base)
            lock = (base / f"year={year}.lock").open("a")  # were it a link, "w" would empty what it leads to
        except OSError as error:
            keeper.fail(error, "preparing a place for the new files")
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
                keeper.fail(error, f"writing the new files of {year}")
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

    def commit_silver(
        self,
        year: int,
        staged: Sequence[tuple[Path, str]],
        manifest: Manifest,
        beside: Mapping[str, bytes] | None = None,
    ) -> None:
        """Make `staged` (local file, name in the silver folder) the year's silver; the manifest names each of them.

        beside: objects by key that belong to this silver and keep their keys. They are written in their order between
        the parts and the manifest, so that a commit which fails among them leaves a manifest that they do not fit. A
        file that is there under its name in its full size is not written again: names carry the hash of the content.
        """
        folder = silver_folder(year)
        there = set(self.store.list(folder))
        for path, name in staged:
            if folder + name not in there or self._size(folder + name) != path.stat().st_size:
                self.store.adopt(path, folder + name)
        for key, data in (beside or {}).items():
            self.store.put(key, data)
        self.store.put(manifest_key(year), encode_json(manifest))
        kept = {folder + name for _, name in staged} | {manifest_key(year)}
        self.store.delete(sorted(there - kept))

    def _size(self, key: str) -> int:
        with closing(self.store.open(key)) as source:
            return source.size

    def manifest(self, year: int) -> Manifest:
        """What the year's silver consists of. Raises DelaywatchError when there is none or its manifest is damaged."""
        data = self.store.get(manifest_key(year))
        if data is None:
            raise DelaywatchError(f"There is no silver for {year} in {self.uri}; run the silver step of {year} first.")
        damaged = f"{manifest_key(year)} in {self.uri} is damaged; delete it and run the silver step of {year} again."
        try:
            manifest = json.loads(data)
        except ValueError as error:  # no JSON, or no UTF-8
            raise DelaywatchError(damaged) from error
        if not isinstance(manifest, dict) or "parts" not in manifest:
            raise DelaywatchError(damaged)
        return manifest

    def silver_parts(self, year: int) -> list[str]:
        """Keys of the year's silver files, in the order of the CSV, as the manifest names them."""
        return [silver_folder(year) + part["name"] for part in self.manifest(year)["parts"]]

    def read_silver(self, year: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """One table per row group, in the order of the CSV; `columns` of schemas.SILVER, all by default.

        Reads the bytes of one row group's columns at a time. Raises DelaywatchError when a part is gone or damaged.
        """
        for key in self.silver_parts(year):
            if not self.store.has(key):  # `sweep` leaves the manifest
                raise DelaywatchError(f"{key} is no longer in {self.uri}; run the silver step of {year} again.")
            with closing(self.store.open(key)) as source:
                try:
                    part = pq.ParquetFile(pa.PythonFile(SourceFile(source), mode="r"), pre_buffer=True)
                    for group in range(part.num_row_groups):
                        yield part.read_row_group(group, columns=list(columns) if columns else None)
                except pa.ArrowInvalid as error:
                    raise self._damaged(key) from error

    def read_sums(self, year: int) -> pa.Table:
        """Return the year's gold.SUMS, which the silver step computed while it wrote the parts.

        Raises DelaywatchError when the file is missing or is not the one that the manifest names.
        """
        sums, version = self.read_hashed(sums_key(year))
        if version != self.manifest(year)["sums"]:
            raise DelaywatchError(
                f"{sums_key(year)} in {self.uri} does not belong to the silver of {year}; "
                f"run the silver step of {year} again."
            )
        return sums

    def read_table(self, key: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The parquet file `key`, or some of its columns. Raises DelaywatchError when it is absent or damaged."""
        return self.read_hashed(key, columns)[0]

    def read_hashed(self, key: str, columns: Sequence[str] | None = None) -> tuple[pa.Table, str]:
        """What `read_table` reads, and the `content_hash` of the file's bytes."""
        data = self.store.get(key)
        if data is None:
            raise DelaywatchError(
                f"{key} is not in {self.uri}; run the steps before this one for the year, or choose one of those that "
                "`python -m utils status` shows."
            )
        try:
            table = pq.ParquetFile(pa.BufferReader(data)).read(columns=list(columns) if columns else None)
        except pa.ArrowInvalid as error:
            raise self._damaged(key) from error
        return table, content_hash(data)

    def _damaged(self, key: str) -> DelaywatchError:
        return DelaywatchError(f"{key} in {self.uri} is damaged; delete it and run the step that writes it again.")

    def write_table(self, key: str, table: pa.Table, made_from: str) -> str:
        """Replace the parquet file `key`, which carries the hash of what it was made from, and return its key."""
        self.store.put(key, encode(table.replace_schema_metadata({MADE_FROM: made_from})))
        return key

    def read_airport_days(self, year: int) -> pa.Table:
        """The year's gold, schemas.AIRPORT_DAYS. Raises DelaywatchError when it is absent or damaged."""
        return self.read_table(airport_days_key(year))

    def read_anomalies(self, year: int, detector: str) -> pa.Table:
        """One detector's verdicts, schemas.ANOMALIES. Raises DelaywatchError when they are absent or damaged."""
        return self.read_table(anomalies_key(year, detector))

    def detectors_of(self, year: int) -> list[str]:
        """Names of the detectors whose verdicts of the year are in gold."""
        keys = self.store.list("03_gold/anomalies/")
        found = (re.fullmatch(rf"03_gold/anomalies/detector=(\w+)/year={year}/anomalies\.parquet", key) for key in keys)
        return sorted(match[1] for match in found if match)

    def read_quality(self, year: int) -> dict[str, Any]:
        """The year's quality report, as the silver step made it.

        Raises DelaywatchError when there is none, and when it is not the one that the manifest names: a silver step
        ended half-way, or the file was damaged.
        """
        manifest, data = self.manifest(year), self.store.get(quality_key(year))
        if data is None:
            raise DelaywatchError(f"{quality_key(year)} is not in {self.uri}; run the silver step of {year} first.")
        if content_hash(data) != manifest.get("quality"):
            raise DelaywatchError(
                f"{quality_key(year)} in {self.uri} is damaged or of another file than silver; "
                f"run the silver step of {year} again."
            )
        return dict(json.loads(data))

    def replace_plots(
        self, year: int, plots: Iterable[tuple[str, str, bytes]], each: Callable[[], None] | None = None
    ) -> int:
        """Write every (origin, name, png), then remove the plots of origins that are no longer there.

        Calls `each` after every plot and returns how many there were.
        """
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


PRUNED_BY = ("origin", "dest", "fl_date", "op_carrier", "cancelled", "is_anomaly")  # readers skip row groups by these


def write_parquet(table: pa.Table, to: pa.NativeFile | str, row_group_rows: int = 1 << 18) -> None:
    """Write parquet with zstd level 1 to a path or an open Arrow file; the same table always gives the same bytes.

    Whole numbers are delta-packed, which writes a quarter faster than dictionaries; tests read it with DuckDB and
    pyarrow.dataset.
    """
    whole = [field.name for field in table.schema if pa.types.is_integer(field.type)]
    pq.write_table(
        table,
        to,
        compression="zstd",
        compression_level=1,
        write_statistics=[name for name in PRUNED_BY if name in table.schema.names],
        row_group_size=row_group_rows,
        use_dictionary=[field.name for field in table.schema if field.name not in whole and field.type != pa.bool_()],
        column_encoding=dict.fromkeys(whole, "DELTA_BINARY_PACKED"),
    )


def encode(table: pa.Table) -> bytes:
    """The bytes of a parquet file, as `write_parquet` makes them."""
    sink = pa.BufferOutputStream()
    write_parquet(table, sink)
    return bytes(sink.getvalue())


def content_hash(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def made_from(table: pa.Table) -> str | None:
    """The hash of what a table that `write_table` wrote was made from; None when it does not say."""
    told = (table.schema.metadata or {}).get(MADE_FROM)
    return told.decode() if told else None


def encode_json(value: object) -> bytes:
    """JSON for people: indented, UTF-8; the same value always gives the same bytes."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
