"""Read a year's CSV once; write silver parts and compute the sums for gold: a map over the parts, and a reduce.

Map: `_Pass.make_part` converts one part of the CSV (a byte range) to one parquet file and returns a `PartResult`. It
depends only on the part, so an `Engine` may call it in any order, more than once, in threads or on other machines.
Reduce: `_Collected` adds the results, `duplicates` finds the rows to drop, and the result is an `IngestedYear`.

A reader of `csv_reader` yields the blocks of a part, `silver.refine` converts them. The caller passes the engine and a
`PartStore`, which encodes parquet and keeps the files.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from utils import schemas
from utils.errors import InvalidInput, Unavailable
from utils.layers import columns, csv_reader, duplicates, gaps, gold, rules, silver
from utils.layers.csv_reader import RangeReader, StreamReader
from utils.layers.duplicates import Duplicates, KeyFiles
from utils.layers.engines import Cluster, Engine, RepeatedKeys, Threads
from utils.reporting import wording

if TYPE_CHECKING:
    from utils.storage.parts import PartFile, PartStore
    from utils.storage.stores import Source

MAX_REJECTED_SHARE = 0.01
MAX_UNKNOWN_CODE_SHARE = 0.01  # of the cancelled flights
MAX_EXAMPLES = 3  # rejection reasons listed in a message
MAX_FIRST_LINES = 100
SAMPLE_BYTES, SAMPLE_EVERY_BYTES = 1 << 13, 1 << 16  # sample the first 8 KB of every 64 KB
MIN_DOUBTFUL_SHARE = MAX_REJECTED_SHARE / 2  # rejected rows in a sample
MAX_SENT_KEYS_BYTES = 3 << 30  # of CSV, about 25 million flights: 8 bytes each are sent to the driver of a cluster

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  # bytes done, total bytes


@dataclass(frozen=True)
class SilverPart:
    """A silver part and figures of its rows.

    months: the months of its flights. carrier_days: see gaps.carrier_days.
    """

    file: PartFile
    null_counts: dict[str, int]
    months: tuple[int, ...]
    carrier_days: pa.Table


@dataclass(frozen=True)
class PartResult:
    """The result of one part of the CSV; line numbers start at the part's first line."""

    number: int
    part: SilverPart
    rows: int  # rows read, including rejected ones
    lines: int
    last_line: bytes
    digests: list[bytes]  # of the blocks, see csv_reader.checksum
    rejected: list[silver.Rejected]
    tallies: dict[str, silver.Tally]
    sums: list[pa.Table]  # tables of gold.SUMS, not merged yet
    flights: dict[int, int]  # by month
    keys: dict[int, np.ndarray]  # silver.fingerprints of the flights, by month; empty if they would be too many


@dataclass(frozen=True)
class IngestedYear:
    """An ingested year, in which rows_read == rows_kept + rows_duplicate + rejected.num_rows.

    sha256: checksum of the uncompressed text, see csv_reader; equal for a plain and a compressed copy.
    """

    parts: list[SilverPart]  # in the order of the file, without empty ones
    sums: pa.Table  # gold.SUMS
    rejected: pa.Table  # schemas.REJECTED
    rows_read: int
    bytes: int
    sha256: str
    ignored_columns: tuple[str, ...]
    duplicates: Duplicates
    rejected_examples: Mapping[str, str] = field(default_factory=dict)  # a sentence about the first row, by reason
    tallies: Mapping[str, silver.Tally] = field(default_factory=dict)  # see silver.TypedBlock; lines of the file

    @property
    def rows_kept(self) -> int:
        """Rows in all parts."""
        return sum(part.file.rows for part in self.parts)

    @property
    def rows_duplicate(self) -> int:
        """Dropped duplicate rows."""
        return sum(self.duplicates.per_month.values())

    @property
    def carrier_days(self) -> pa.Table:
        """The tables of gaps.carrier_days of all parts, concatenated."""
        return pa.concat_tables(part.carrier_days for part in self.parts)


# --- before the pass ------------------------------------------------------------------------------------------------


def check_first_lines(source: Source, year: int) -> None:
    """Check quickly, by the header and the first rows, that the file can be the CSV of `year`.

    Raises InvalidInput if the file is empty, has the wrong header or its first rows contain no flight of the year.
    """
    if not source.size:
        raise InvalidInput(f"{source.key} is empty; use the CSV of {year}.")
    reader = StreamReader(source)
    try:
        header = reader.read_header()
        block = next(iter(reader.next_part()), b"")
        begin = b"".join(block.splitlines(keepends=True)[:MAX_FIRST_LINES])
        refined = silver.refine(begin, header, year, joins_lines=True)
    except silver.ZeroBytesError as error:
        raise _zero_bytes(source) from error
    if not refined.flights.num_rows:
        if not refined.rejected:
            raise InvalidInput(f"{source.key} has a header but no rows; use the CSV of {year}.")
        first = refined.rejected[0]
        sentence = replace(first, line=first.line + 2).sentence
        if first.reason == f"FL_DATE is not in {year}":
            raise InvalidInput(f"{source.key} does not begin with flights of {year}. {sentence} Use the CSV of {year}.")
        raise InvalidInput(f"The first rows of {source.key} cannot be used. {sentence} Correct the file.")


def is_doubtful(source: Source, year: int) -> bool:
    """Return True if a sample suggests that `ingest_year` may reject the CSV; a full pass must then decide.

    The sample is 8 KB of every 64 KB and the end of the file, so it touches every bad section longer than 64 KB. The
    function reads the whole file, compressed or not.
    """
    reader = StreamReader(source)
    rows = rejected = 0
    block = b""
    try:
        header = reader.read_header()
        while part := reader.next_part():
            for block in part:
                if b"\0" in block or b"FL_DATE" in block.upper():  # broken copy or second header
                    return True
                refined = silver.refine(_sample(block), header, year, joins_lines=True)
                rows += refined.rows
                rejected += len(refined.rejected)
                if "CANCELLATION_CODE" in refined.tallies:
                    return True
    except InvalidInput:  # the full pass raises it again with the line number of the file
        return True
    may_be_cut = not block.endswith(b"\n")
    return may_be_cut or rejected > MIN_DOUBTFUL_SHARE * rows


def _sample(block: bytes) -> bytes:
    """Return a sample of whole lines of the block, including its first and its last line."""
    pieces = []
    for at in range(0, len(block), SAMPLE_EVERY_BYTES):
        start = block.find(b"\n", at) + 1 if at else 0
        pieces.append(block[start : block.rfind(b"\n", start, start + SAMPLE_BYTES) + 1])
    pieces.append(block[block.rfind(b"\n", 0, -1) + 1 :])
    return b"".join(pieces)


# --- map: one part --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pass:
    """What a worker needs to convert the parts of one CSV. Engines other than threads pickle it."""

    reader: RangeReader | StreamReader
    header: silver.Header
    year: int
    parts: PartStore
    returns_keys: bool

    def make_part(self, number: int) -> PartResult:
        """Refine the blocks of one part and write its flights."""
        tables: list[pa.Table] = []
        sums: list[pa.Table] = []
        digests: list[bytes] = []
        rejected: list[silver.Rejected] = []
        tallies: dict[str, silver.Tally] = {}
        lines = rows = 0
        last_line = b""
        for block in self.reader.blocks(number):
            digests.append(csv_reader.digest(block))
            typed = silver.refine(block, self.header, self.year, joins_lines=self.reader.joins_lines)
            last_line = block[block.rfind(b"\n", 0, len(block) - 1) + 1 :] if block else last_line
            tables.append(typed.flights)
            sums.append(gold.day_sums(typed.flights))
            rejected += [replace(row, line=lines + row.line) for row in typed.rejected]
            silver.add_tallies(tallies, typed.tallies, lines)
            lines += typed.lines
            rows += typed.rows
            del block, typed
        flights = _in_one_piece(tables)
        part = _write(self.parts, number, flights)
        keys = duplicates.keys_by_month(flights, part.months)
        counts = {month: len(hashes) for month, hashes in keys.items()}
        if not self.returns_keys:
            keys = {}
        return PartResult(number, part, rows, lines, last_line, digests, rejected, tallies, sums, counts, keys)


def _in_one_piece(tables: list[pa.Table]) -> pa.Table:
    """Join the tables into one table with one chunk per column, and empty the list.

    Chunk sizes would change the bytes of the written part. Columns are joined one by one to save memory.
    """
    chunked = pa.concat_tables(tables or [schemas.SILVER.empty_table()]).columns
    tables.clear()
    joined = [columns.as_array(chunked.pop(0)) for _ in schemas.SILVER]
    return pa.table(joined, schema=schemas.SILVER)


def _write(parts: PartStore, number: int, flights: pa.Table) -> SilverPart:
    file = parts.write(number, flights)
    months = tuple(month for month in sorted(pc.unique(pc.month(flights["fl_date"])).to_pylist()) if month)
    nulls = {name: flights[name].null_count for name in flights.column_names}
    return SilverPart(file, nulls, months, gaps.carrier_days(flights))


def _without(
    parts: PartStore, drop: Mapping[int, np.ndarray], item: tuple[int, SilverPart]
) -> tuple[int, SilverPart, pa.Table]:
    """Rewrite a part without the rows in `drop`, if it has any; return number, part and sums (gold.SUMS).

    drop: row numbers by part number.
    """
    number, part = item
    if number not in drop:
        return number, part, gold.day_sums(parts.read(part.file.name, list(gold.COLUMNS)))
    flights = parts.read(part.file.name)
    is_kept = np.ones(flights.num_rows, bool)
    is_kept[drop[number]] = False
    flights = _in_one_piece([flights.filter(pa.array(is_kept))])
    return number, _write(parts, number, flights), gold.day_sums(flights)


# --- reduce: the whole year -----------------------------------------------------------------------------------------


class _Collected:
    """The merged results of the finished parts."""

    def __init__(self, year: int, folder: Path) -> None:
        self.sums = gold.DaySums(year)
        self.keys = KeyFiles(folder)
        self.results: dict[int, PartResult] = {}  # without sums and keys
        self.flights: Counter[int] = Counter()  # by month
        self.rows = 0
        self.headers = 0  # rejected rows that repeat the header
        self.unusable = 0  # all other rejected rows
        self.has_other_header = False

    def add(self, result: PartResult) -> None:
        for sums in result.sums:
            self.sums.add(sums)
        self.keys.add(result.keys)
        self.flights.update(result.flights)
        self.results[result.number] = replace(result, sums=[], keys={})
        self.rows += result.rows
        headers = sum(row.reason == silver.REPEATED_HEADER for row in result.rejected)
        self.headers += headers
        self.unusable += len(result.rejected) - headers
        self.has_other_header |= any(row.reason == silver.OTHER_HEADER for row in result.rejected)

    def is_hopeless(self, share_done: float) -> bool:
        """Return True if the rejected rows already exceed the limit of the whole file by far; stopping saves time."""
        expected_rows = self.rows / max(share_done, 1e-9)
        return self.unusable > max(1000, 3 * MAX_REJECTED_SHARE * expected_rows)

    def in_order(self) -> list[PartResult]:
        """Return all results in file order, with line numbers of the file."""
        results, line = [], 2  # line 1 is the header
        for _, result in sorted(self.results.items()):
            rejected = [replace(row, line=line + row.line) for row in result.rejected]
            tallies: dict[str, silver.Tally] = {}
            silver.add_tallies(tallies, result.tallies, line)
            results.append(replace(result, rejected=rejected, tallies=tallies))
            line += result.lines
        return results

    def rejected(self) -> list[silver.Rejected]:
        """Return all rejected rows, with line numbers of the file."""
        return [row for result in self.in_order() for row in result.rejected]

    def tallies(self) -> dict[str, silver.Tally]:
        """Return the tallies of all parts, with line numbers of the file."""
        tallies: dict[str, silver.Tally] = {}
        for result in self.in_order():
            silver.add_tallies(tallies, result.tallies, 0)
        return tallies

    def checksum(self, header: silver.Header) -> str:
        """Return the checksum of the text, see csv_reader."""
        digests = (digest for _, result in sorted(self.results.items()) for digest in result.digests)
        return csv_reader.checksum(header.line, digests)


def ingest_year(
    source: Source,
    year: int,
    folder: Path,
    engine: Engine,
    parts: PartStore,
    progress: Progress | None = None,
) -> IngestedYear:
    """Convert the whole CSV `source` of `year` to silver parts in `parts`, with the workers of `engine`.

    With threads, memory does not grow with the file: every worker holds one part, and the hashes of the flights are in
    `folder`, on disk by month. With a cluster, the results of some parts are in this process at the same time, with the
    hashes of their flights up to MAX_SENT_KEYS_BYTES of CSV. The result does not depend on the engine, on the number of
    workers or on how the file is cut. The order of lines changes only the order of rows. Only threads can read gzip,
    and files with line breaks in quoted fields. Raises InvalidInput if the file is empty,
    cut, damaged, has the wrong header or more than 1% unusable rows; the message names the first of these rows.
    """
    if not source.size:
        raise InvalidInput(f"{source.key} is empty; upload the file of {year} again.")
    pool = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())  # returns freed memory at once: the peak is 15% below mimalloc's
    year_pass = _Year(source, year, folder, engine, parts, progress)
    try:
        if not source.key.endswith(".gz"):
            try:
                return year_pass.from_ranges()
            except silver.SplitRecord:
                log.info("%s has line breaks in quoted fields, so one reader reads it from its start", source.key)
        return year_pass.from_start()
    except silver.ZeroBytesError as error:
        raise _zero_bytes(source) from error
    finally:
        pa.set_memory_pool(pool)


@dataclass(frozen=True)
class _Year:
    """The driver of one pass; see `ingest_year`."""

    source: Source
    year: int
    folder: Path
    engine: Engine
    parts: PartStore
    progress: Progress | None

    def from_ranges(self) -> IngestedYear:
        """Ingest an uncompressed source; every worker reads its own byte ranges."""
        first = csv_reader.first_line(self.source)
        header = silver.read_header(first, self.source.key)
        readers = self.engine.threads if isinstance(self.engine, Threads) else 0
        with closing(RangeReader(self.source, first, readers)) as reader:
            return self._ingest(self.engine, reader, header)

    def from_start(self) -> IngestedYear:
        """Ingest the source as one stream, read by this process."""
        reader = StreamReader(self.source)
        return self._ingest(Threads(self.engine.threads), reader, reader.read_header())

    def _ingest(self, engine: Engine, reader: RangeReader | StreamReader, header: silver.Header) -> IngestedYear:
        """Process all parts, check the file as a whole, drop duplicates and return the year."""
        collected = self._collect(engine, reader, header)
        rejected, tallies = collected.rejected(), collected.tallies()
        _check_rows(collected, rejected, self.source.key)
        _check_codes(collected, tallies, self.source.key)
        if not self.source.is_unchanged():
            raise Unavailable(
                f"{self.source.key} changed while it was read; run the step again when its upload has ended."
            )
        parts = {number: result.part for number, result in sorted(collected.results.items())}
        keys = self._repeated_keys(engine, collected, parts)
        repeated = duplicates.find(keys, collected.flights, parts, self.parts, engine, self.source.key)
        sums = self._drop(engine, repeated.rows_to_drop, parts) if repeated.rows_to_drop else collected.sums
        year = IngestedYear(
            parts=[part for part in parts.values() if part.file.rows],
            sums=sums.table(),
            rejected=_rejected_table(rejected),
            rows_read=collected.rows,
            bytes=self.source.size,
            sha256=collected.checksum(header),
            ignored_columns=header.ignored,
            duplicates=repeated,
            rejected_examples={row.reason: row.sentence for row in reversed(rejected)},
            tallies=tallies,
        )
        _check_sum(year, self.source.key)
        return year

    def _collect(self, engine: Engine, reader: RangeReader | StreamReader, header: silver.Header) -> _Collected:
        """Process all parts. Raises the error of a worker, or InvalidInput as soon as the file cannot be accepted."""
        collected = _Collected(self.year, self.folder)
        make_part = _Pass(reader, header, self.year, self.parts, not self._groups_keys(engine)).make_part
        with closing(engine.map(make_part, reader.numbers())) as results:
            for result in results:
                collected.add(result)
                share_done = reader.done() / self.source.size * len(collected.results) / reader.taken
                if self.progress:
                    self.progress(round(share_done * self.source.size), self.source.size)
                if collected.has_other_header:
                    raise _other_header(collected, self.source.key)
                if collected.is_hopeless(share_done):
                    raise _too_many_rejected(collected, self.source.key)
        return collected

    def _groups_keys(self, engine: Engine) -> TypeGuard[Cluster]:
        """Return True if the engine must find repeated hashes, because they are too many for this process."""
        return not isinstance(engine, Threads) and self.source.size > MAX_SENT_KEYS_BYTES

    def _repeated_keys(self, engine: Engine, collected: _Collected, parts: Mapping[int, SilverPart]) -> RepeatedKeys:
        if self._groups_keys(engine):
            return engine.repeated(partial(duplicates.keys_of, self.parts), parts.values())
        with ThreadPoolExecutor(engine.threads, thread_name_prefix="duplicates") as pool:
            return dict(zip(collected.flights, pool.map(collected.keys.repeated, collected.flights), strict=True))

    def _drop(self, engine: Engine, rows: Mapping[int, np.ndarray], parts: dict[int, SilverPart]) -> gold.DaySums:
        """Replace parts by parts without `rows` (row numbers by part number); return the sums of the year."""
        sums = gold.DaySums(self.year)
        for number, part, part_sums in engine.map(partial(_without, self.parts, rows), list(parts.items())):
            parts[number] = part
            sums.add(part_sums)
        return sums


def _rejected_table(rejected: list[silver.Rejected]) -> pa.Table:
    lines = columns.from_numpy(np.array([row.line for row in rejected], np.int64), pa.int64())
    texts = (columns.from_strings([getattr(row, name) for row in rejected]) for name in schemas.REJECTED.names[1:])
    return pa.table([lines, *texts], schema=schemas.REJECTED)


# --- checks of the whole file ---------------------------------------------------------------------------------------


def _check_rows(collected: _Collected, rejected: list[silver.Rejected], key: str) -> None:
    """Raise InvalidInput if the file has no flights, was cut, or has too many unusable rows."""
    if collected.rows == collected.headers:
        raise InvalidInput(f"{key} has a header but no flights; upload the file again.")
    results = sorted(collected.results.items(), reverse=True)
    tail = next((result.last_line for _, result in results if result.last_line), b"")
    ends_early = not tail.endswith(b"\n") and silver.is_incomplete(rejected[-1:])
    if ends_early and rejected[-1].raw == tail.decode("utf-8", errors="backslashreplace"):
        last = rejected[-1]
        raise InvalidInput(
            f"{key} ends in the middle of line {last.line} ({last.value or last.reason}), so it was cut; "
            "upload the whole file again."
        )
    if collected.unusable > MAX_REJECTED_SHARE * (collected.rows - collected.headers):
        raise _too_many_rejected(collected, key)


def _check_codes(collected: _Collected, tallies: Mapping[str, silver.Tally], key: str) -> None:
    """Raise InvalidInput if too many cancelled flights have an unknown cancellation code."""
    unknown = tallies.get("CANCELLATION_CODE")
    if not unknown:
        return
    cancelled = int(columns.to_numpy(columns.as_array(collected.sums.table()["cancelled"])).sum())
    if unknown.rows > MAX_UNKNOWN_CODE_SHARE * cancelled:
        raise InvalidInput(
            f"{key}: {unknown.rows:,} of {cancelled:,} cancelled flights have an unknown code, more than "
            f"{MAX_UNKNOWN_CODE_SHARE:.0%}. CANCELLATION_CODE is {unknown.value} in line {unknown.line}; "
            f"{rules.CAUSE.expected}. Correct the file and put it into bronze again."
        )


def _check_sum(year: IngestedYear, key: str) -> None:
    """Raise AssertionError unless each row read was written, dropped as a duplicate or rejected."""
    if year.rows_kept + year.rows_duplicate + year.rejected.num_rows != year.rows_read:
        raise AssertionError(
            f"{key}: {year.rows_kept} rows written + {year.rows_duplicate} duplicates + {year.rejected.num_rows} "
            f"rejected are not the {year.rows_read} rows read"
        )


def _zero_bytes(source: Source) -> InvalidInput:
    line, zeros = csv_reader.count_zero_bytes(source)
    return InvalidInput(
        f"{source.key} contains {wording.count(zeros, 'zero byte')}, the first in line {line}, so it was not "
        "copied completely; upload the whole file again."
    )


def _too_many_rejected(collected: _Collected, key: str) -> InvalidInput:
    rows = [row for row in collected.rejected() if row.reason != silver.REPEATED_HEADER]
    examples = {row.reason: row.sentence for row in reversed(rows)}
    counted = Counter(row.reason for row in rows).most_common(MAX_EXAMPLES)
    kinds = " ".join(f"{wording.count(count, 'row')}, the first: {examples[reason]}" for reason, count in counted)
    return InvalidInput(
        f"{key}: {collected.unusable:,} of {wording.count(collected.rows - collected.headers, 'row')} cannot be used, "
        f"more than {MAX_REJECTED_SHARE:.0%}. {kinds} Correct the file and put it into bronze again."
    )


def _other_header(collected: _Collected, key: str) -> InvalidInput:
    header = next(row for row in collected.rejected() if row.reason == silver.OTHER_HEADER)
    return InvalidInput(
        f"{key} has a second header in line {header.line} that differs from line 1: {header.value}. Give all "
        "parts of the file the same columns in the same order and put it into bronze again."
    )
