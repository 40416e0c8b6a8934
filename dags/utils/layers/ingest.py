"""Read a year's CSV once; write staged silver parts and compute the sums for gold.

Data flow: a reader of `csv_reader` yields parts, each as blocks of whole lines (bytes). `silver.refine` converts a
block to a `TypedBlock`. `ingest_part` joins the typed blocks of a part, writes them and returns a `Part`. `_Collected`
merges the parts, `duplicates` finds the rows to drop, and the result is an `IngestedYear`.

Worker threads process parts in parallel. The caller passes the function that writes a part to a local file; `storage`
encodes parquet and moves the files to the lake.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from utils import schemas
from utils.errors import InvalidInput, Unavailable
from utils.layers import columns, csv_reader, duplicates, gaps, gold, rules, silver
from utils.layers.csv_reader import RangeReader, StreamReader
from utils.layers.duplicates import Duplicates, KeyFiles
from utils.reporting import wording

if TYPE_CHECKING:
    from utils.storage.stores import Source

MAX_REJECTED_SHARE = 0.01
MAX_UNKNOWN_CODE_SHARE = 0.01  # of the cancelled flights
MAX_EXAMPLES = 3  # rejection reasons listed in a message
MAX_FIRST_LINES = 100
SAMPLE_BYTES, SAMPLE_EVERY_BYTES = 1 << 13, 1 << 16  # sample the first 8 KB of every 64 KB
MIN_DOUBTFUL_SHARE = MAX_REJECTED_SHARE / 2  # rejected rows in a sample

Progress = Callable[[int, int], None]  # bytes done, total bytes
Writer = Callable[[pa.Table, str], None]  # writes a table to a parquet file


@dataclass(frozen=True)
class StagedPart:
    """A written silver part and figures of its rows.

    months: the months of its flights. carrier_days: see gaps.carrier_days.
    """

    path: Path
    rows: int
    bytes: int
    sha256: str
    null_counts: dict[str, int]
    months: tuple[int, ...]
    carrier_days: pa.Table


@dataclass(frozen=True)
class Part:
    """The result of one part of the CSV; line numbers start at the part's first line."""

    staged: StagedPart
    rows: int  # rows read, including rejected ones
    lines: int
    last_line: bytes
    rejected: list[silver.Rejected]
    tallies: dict[str, silver.Tally]
    sums: list[pa.Table]  # tables of gold.SUMS, not merged yet
    keys: dict[int, np.ndarray]  # silver.fingerprints of the flights, by month


@dataclass(frozen=True)
class IngestedYear:
    """An ingested year, in which rows_read == rows_kept + rows_duplicate + rejected.num_rows.

    sha256: checksum of the uncompressed text, see csv_reader; equal for a plain and a compressed copy.
    """

    parts: list[StagedPart]
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
        return sum(part.rows for part in self.parts)

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
        block = next(reader.next_part() or iter(()), b"")
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
        while (part := reader.next_part()) is not None:
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


# --- one part -------------------------------------------------------------------------------------------------------


def ingest_part(
    blocks: Iterable[bytes], header: silver.Header, year: int, path: Path, write: Writer, *, joins_lines: bool = False
) -> Part:
    """Refine the blocks of one part, write its flights to `path` and return the part's result.

    The result depends only on the part, so parts can be processed in any order by any thread or process.
    """
    tables: list[pa.Table] = []
    sums: list[pa.Table] = []
    rejected: list[silver.Rejected] = []
    tallies: dict[str, silver.Tally] = {}
    lines = rows = 0
    last_line = b""
    for block in blocks:
        typed = silver.refine(block, header, year, joins_lines=joins_lines)
        last_line = block[block.rfind(b"\n", 0, len(block) - 1) + 1 :] if block else last_line
        tables.append(typed.flights)
        sums.append(gold.day_sums(typed.flights))
        rejected += [replace(row, line=lines + row.line) for row in typed.rejected]
        silver.add_tallies(tallies, typed.tallies, lines)
        lines += typed.lines
        rows += typed.rows
        del block, typed
    flights = _in_one_piece(tables)
    staged = _stage(path, flights, write)
    return Part(staged, rows, lines, last_line, rejected, tallies, sums, _keys(flights, staged.months))


def _in_one_piece(tables: list[pa.Table]) -> pa.Table:
    """Join the tables into one table with one chunk per column, and empty the list.

    Chunk sizes would change the bytes of the written part. Columns are joined one by one to save memory.
    """
    chunked = pa.concat_tables(tables or [schemas.SILVER.empty_table()]).columns
    tables.clear()
    joined = [columns.as_array(chunked.pop(0)) for _ in schemas.SILVER]
    return pa.table(joined, schema=schemas.SILVER)


def _stage(path: Path, flights: pa.Table, write: Writer) -> StagedPart:
    write(flights, str(path))
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    months = tuple(month for month in sorted(pc.unique(pc.month(flights["fl_date"])).to_pylist()) if month)
    nulls = {name: flights[name].null_count for name in flights.column_names}
    return StagedPart(path, flights.num_rows, path.stat().st_size, sha256, nulls, months, gaps.carrier_days(flights))


def _keys(flights: pa.Table, months: tuple[int, ...]) -> dict[int, np.ndarray]:
    keys = silver.fingerprints(flights)
    if len(months) == 1:
        return {months[0]: keys}
    month_of_flight = columns.to_numpy(columns.as_array(pc.month(flights["fl_date"])))
    return {month: keys[month_of_flight == month] for month in months}


# --- the pass -------------------------------------------------------------------------------------------------------


class _Collected:
    """The merged results of the finished parts. Not thread-safe: the caller must hold a lock to call `add`."""

    def __init__(self, year: int, folder: Path) -> None:
        self.sums = gold.DaySums(year)
        self.keys = KeyFiles(folder)
        self.parts: dict[int, Part] = {}  # without sums and keys
        self.rows = 0
        self.headers = 0  # rejected rows that repeat the header
        self.unusable = 0  # all other rejected rows
        self.has_other_header = False

    def add(self, number: int, part: Part) -> None:
        for sums in part.sums:
            self.sums.add(sums)
        self.keys.add(part.keys)
        self.parts[number] = replace(part, sums=[], keys={})
        self.rows += part.rows
        headers = sum(row.reason == silver.REPEATED_HEADER for row in part.rejected)
        self.headers += headers
        self.unusable += len(part.rejected) - headers
        self.has_other_header |= any(row.reason == silver.OTHER_HEADER for row in part.rejected)

    def is_hopeless(self, share_done: float) -> bool:
        """Return True if the rejected rows already exceed the limit of the whole file by far; stopping saves time."""
        expected_rows = self.rows / max(share_done, 1e-9)
        return self.unusable > max(1000, 3 * MAX_REJECTED_SHARE * expected_rows)

    def in_order(self) -> list[Part]:
        """Return all parts in file order, with line numbers of the file."""
        parts, line = [], 2  # line 1 is the header
        for _, part in sorted(self.parts.items()):
            rejected = [replace(row, line=line + row.line) for row in part.rejected]
            tallies: dict[str, silver.Tally] = {}
            silver.add_tallies(tallies, part.tallies, line)
            parts.append(replace(part, rejected=rejected, tallies=tallies))
            line += part.lines
        return parts

    def rejected(self) -> list[silver.Rejected]:
        """Return all rejected rows, with line numbers of the file."""
        return [row for part in self.in_order() for row in part.rejected]

    def tallies(self) -> dict[str, silver.Tally]:
        """Return the tallies of all parts, with line numbers of the file."""
        tallies: dict[str, silver.Tally] = {}
        for part in self.in_order():
            silver.add_tallies(tallies, part.tallies, 0)
        return tallies


def ingest_year(
    source: Source, year: int, folder: Path, threads: int, write: Writer, progress: Progress | None = None
) -> IngestedYear:
    """Convert the whole CSV `source` of `year` to silver parts in `folder`, with `threads` worker threads.

    Memory does not grow with the file: every worker holds one part, and the hashes of the flights are on disk by month.
    The result does not depend on the number of workers or on how the file is cut. The order of lines changes only the
    order of rows. Raises InvalidInput if the file is empty, cut, damaged, has the wrong header or more than 1% unusable
    rows; the message names the first of these rows.
    """
    if not source.size:
        raise InvalidInput(f"{source.key} is empty; upload the file of {year} again.")
    pool = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())  # returns freed memory at once: the peak is 15% below mimalloc's
    ingest = _Pass(source, year, folder, threads, write, progress)
    try:
        if not source.key.endswith(".gz"):
            try:
                return ingest.from_ranges()
            except silver.SplitRecord:
                for path in folder.iterdir():
                    path.unlink()
        return ingest.from_start()
    except silver.ZeroBytesError as error:
        raise _zero_bytes(source) from error
    finally:
        pa.set_memory_pool(pool)


@dataclass(frozen=True)
class _Pass:
    """One pass over a source; see `ingest_year`."""

    source: Source
    year: int
    folder: Path
    threads: int
    write: Writer
    progress: Progress | None

    def from_ranges(self) -> IngestedYear:
        """Ingest an uncompressed source; every worker reads its own byte ranges."""
        first = csv_reader.first_line(self.source)
        header = silver.read_header(first, self.source.key)
        with closing(RangeReader(self.source, first, self.threads)) as reader:
            return self._finish(self._collect(reader, header), header, reader.sha256())

    def from_start(self) -> IngestedYear:
        """Ingest the source as one stream, read by one worker at a time."""
        reader = StreamReader(self.source)
        header = reader.read_header()
        return self._finish(self._collect(reader, header), header, reader.sha256())

    def _collect(self, reader: RangeReader | StreamReader, header: silver.Header) -> _Collected:
        """Process all parts. Raises the error of a worker, or InvalidInput as soon as the file cannot be accepted."""
        collected = _Collected(self.year, self.folder)
        lock, stop = threading.Lock(), threading.Event()
        taken = 0

        def work() -> None:
            nonlocal taken
            while not stop.is_set():
                with lock:
                    blocks = reader.next_part()
                    number, taken = taken, taken + 1
                if blocks is None:
                    return
                path = self.folder / f"part-{number:05d}.parquet"
                part = ingest_part(blocks, header, self.year, path, self.write, joins_lines=reader.joins_lines)
                with lock:
                    collected.add(number, part)
                    if self.progress:
                        self.progress(reader.done(), self.source.size)
                    share_done = reader.done() / self.source.size * len(collected.parts) / taken
                    if collected.has_other_header or collected.is_hopeless(share_done):
                        stop.set()

        self._in_threads(work, stop)
        if collected.has_other_header:
            raise _other_header(collected, self.source.key)
        if stop.is_set():
            raise _too_many_rejected(collected, self.source.key)
        return collected

    def _in_threads(self, work: Callable[[], None], stop: threading.Event) -> None:
        """Run `work` in every thread. Raises the first worker's error after all workers have ended."""

        def stop_others(done: Future[None]) -> None:
            if done.exception():
                stop.set()

        with ThreadPoolExecutor(self.threads, thread_name_prefix="ingest") as pool:
            workers = [pool.submit(work) for _ in range(self.threads)]
            for worker in workers:
                worker.add_done_callback(stop_others)
        for worker in workers:
            worker.result()

    def _finish(self, collected: _Collected, header: silver.Header, sha256: str) -> IngestedYear:
        """Check the file as a whole, drop duplicates and return the year."""
        rejected, tallies = collected.rejected(), collected.tallies()
        _check_rows(collected, rejected, self.source.key)
        _check_codes(collected, tallies, self.source.key)
        if not self.source.is_unchanged():
            raise Unavailable(
                f"{self.source.key} changed while it was read; run the step again when its upload has ended."
            )
        staged = {number: part.staged for number, part in sorted(collected.parts.items())}
        repeated = duplicates.find(collected.keys, staged, self.year, self.source.key, self.threads)
        sums = collected.sums
        if repeated.rows_to_drop:
            staged, sums = self._without(repeated.rows_to_drop, staged)
        year = IngestedYear(
            parts=[part for part in staged.values() if part.rows],
            sums=sums.table(),
            rejected=_rejected_table(rejected),
            rows_read=collected.rows,
            bytes=self.source.size,
            sha256=sha256,
            ignored_columns=header.ignored,
            duplicates=repeated,
            rejected_examples={row.reason: row.sentence for row in reversed(rejected)},
            tallies=tallies,
        )
        _check_sum(year, self.source.key)
        return year

    def _without(
        self, drop: Mapping[int, np.ndarray], staged: Mapping[int, StagedPart]
    ) -> tuple[dict[int, StagedPart], gold.DaySums]:
        """Rewrite parts without the rows in `drop` (row numbers by part number) and recompute all sums."""
        kept, sums = dict(staged), gold.DaySums(self.year)
        for number, part in staged.items():
            if number in drop:
                flights = pq.ParquetFile(part.path).read()
                is_kept = np.ones(flights.num_rows, bool)
                is_kept[drop[number]] = False
                flights = _in_one_piece([flights.filter(pa.array(is_kept))])
                kept[number] = _stage(part.path, flights, self.write)
            else:
                flights = pq.ParquetFile(part.path).read(columns=list(gold.COLUMNS))
            sums.add(gold.day_sums(flights))
        return kept, sums


def _rejected_table(rejected: list[silver.Rejected]) -> pa.Table:
    lines = columns.from_numpy(np.array([row.line for row in rejected], np.int64), pa.int64())
    texts = (columns.from_strings([getattr(row, name) for row in rejected]) for name in schemas.REJECTED.names[1:])
    return pa.table([lines, *texts], schema=schemas.REJECTED)


# --- checks of the whole file ---------------------------------------------------------------------------------------


def _check_rows(collected: _Collected, rejected: list[silver.Rejected], key: str) -> None:
    """Raise InvalidInput if the file has no flights, was cut, or has too many unusable rows."""
    if collected.rows == collected.headers:
        raise InvalidInput(f"{key} has a header but no flights; upload the file again.")
    tail = next((part.last_line for _, part in sorted(collected.parts.items(), reverse=True) if part.last_line), b"")
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
    written = sum(pq.read_metadata(part.path).num_rows for part in year.parts)
    if written + year.rows_duplicate + year.rejected.num_rows != year.rows_read:
        raise AssertionError(
            f"{key}: {written} rows written + {year.rows_duplicate} duplicates + {year.rejected.num_rows} rejected "
            f"are not the {year.rows_read} rows read"
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
