"""One pass over a year's CSV: byte ranges in, staged silver parts and the sums for gold out.

The unit of work is a range, whose lines become typed flights, rejected rows and sums. A worker thread per core takes
range after range from a reader of `blocks` and gives it to `process_blocks`; `process_range` does the same for one
range by its offsets alone. Writes into a local folder that `lake.staging` gave; committing is `pipeline`'s.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from utils import blocks, columns, gold, schemas, silver
from utils.blocks import RangeReader, StreamReader
from utils.errors import DelaywatchError
from utils.lake import write_parquet

if TYPE_CHECKING:
    from utils.stores import Source

MAX_REJECTED_SHARE = 0.01
LONGEST_HEADER_BYTES = 1 << 20
GLANCE_LINES = 100
SAMPLE_BYTES, SAMPLE_EVERY_BYTES = 1 << 13, 1 << 16  # a sample of a CSV: how much of how much
DOUBTFUL_SHARE = MAX_REJECTED_SHARE / 2  # of the rows of a sample

Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True)
class StagedPart:
    """One written silver part; `months` are those of its flights."""

    path: Path
    rows: int
    bytes: int
    sha256: str
    null_counts: dict[str, int]
    months: tuple[int, ...]


@dataclass(frozen=True)
class Refined:
    """A refined year: rows_read == rows_kept + rows_duplicate + rejected.num_rows, which `refine_year` has checked."""

    parts: list[StagedPart]
    sums: pa.Table  # gold.SUMS
    rejected: pa.Table  # schemas.REJECTED
    rows_read: int
    bytes: int
    sha256: str
    ignored_columns: tuple[str, ...]
    duplicates_per_month: dict[int, int]
    duplicates_that_differ: int  # same flight, but another value in some column

    @property
    def rows_kept(self) -> int:
        """The rows of all parts."""
        return sum(part.rows for part in self.parts)

    @property
    def rows_duplicate(self) -> int:
        """Rows left out because the flight is in a part already."""
        return sum(self.duplicates_per_month.values())


@dataclass(frozen=True)
class RangeResult:
    """What `process_range` made of the lines that begin in one byte range."""

    flights: pa.Table  # schemas.SILVER, in one piece
    rejected: list[silver.Rejected]  # `line` counts from the first line of the range
    sums: list[pa.Table]  # of gold.SUMS, to be added up
    rows: int
    lines: int
    last_line: bytes


# --- one range ------------------------------------------------------------------------------------------------------


def process_range(source: Source, start: int, end: int, header: silver.Header, year: int) -> RangeResult:
    """Refine the lines that begin in the bytes [start, end) of an uncompressed CSV, wherever their last line ends."""
    edges = [*range(start, end, blocks.PIECE_BYTES), end]
    starts = [blocks.line_start(source, edge) for edge in edges]
    return process_blocks((source.read(*span) for span in pairwise(starts)), header, year)


def process_blocks(
    of_range: Iterable[bytes], header: silver.Header, year: int, *, joins_lines: bool = False
) -> RangeResult:
    """Refine the blocks of whole lines that make up one range; see silver.refine."""
    tables: list[pa.Table] = []
    sums: list[pa.Table] = []
    rejected: list[silver.Rejected] = []
    lines = rows = 0
    last_line = b""
    for block in of_range:
        refined = silver.refine(block, header, year, joins_lines=joins_lines)
        last_line = block[block.rfind(b"\n", 0, len(block) - 1) + 1 :] if block else last_line
        tables.append(refined.flights)
        sums.append(gold.day_sums(refined.flights))
        rejected += [silver.Rejected(lines + row.line, row.reason, row.raw) for row in refined.rejected]
        lines += refined.lines
        rows += refined.rows
        del block, refined
    flights = _in_one_piece(pa.concat_tables(tables)) if tables else schemas.SILVER.empty_table()
    tables.clear()
    return RangeResult(flights, rejected, sums, rows, lines, last_line)


def glance(source: Source, year: int) -> None:
    """Refuse at once what cannot be the CSV of `year`, by its header and its first rows.

    Raises DelaywatchError for a file that is empty, has the wrong header or begins without a single flight of the year.
    """
    if not source.size:
        raise DelaywatchError(f"{source.key} is empty; give the CSV of {year}.")
    reader = StreamReader(source)
    header = silver.read_header(reader.header(), source.key)
    reader.knows_header(header)
    block = next(reader.next_part() or iter(()), b"")
    begin = b"".join(block.splitlines(keepends=True)[:GLANCE_LINES])
    refined = silver.refine(begin, header, year, joins_lines=True)
    if not refined.flights.num_rows:
        why = refined.rejected[0].reason if refined.rejected else "it has none"
        raise DelaywatchError(f"{source.key} does not begin with flights of {year} ({why}); give the CSV of {year}.")


def is_doubtful(source: Source, year: int) -> bool:
    """Return whether a sample says that the CSV may break the rules of `refine_year`, so that a whole pass must decide.

    The sample is 8 KB of every 64 KB and the end of the file, so it meets every longer bad stretch. The file is
    read from start to end for it, compressed or not.
    """
    reader = StreamReader(source)
    rows = rejected = 0
    block = b""
    try:
        header = silver.read_header(reader.header(), source.key)
        reader.knows_header(header)
        while (part := reader.next_part()) is not None:
            for block in part:
                if b"\0" in block or b"FL_DATE" in block:  # a broken copy, or a second header
                    return True
                refined = silver.refine(_sample(block), header, year, joins_lines=True)
                rows += refined.rows
                rejected += len(refined.rejected)
    except DelaywatchError:  # the whole pass raises it again, with the line of the file and not of a sample
        return True
    may_be_cut = not block.endswith(b"\n")
    return may_be_cut or rejected > DOUBTFUL_SHARE * rows


def _sample(block: bytes) -> bytes:
    """Return some lines of the block, each whole, from its first to its last one."""
    pieces = []
    for at in range(0, len(block), SAMPLE_EVERY_BYTES):
        start = block.find(b"\n", at) + 1 if at else 0
        pieces.append(block[start : block.rfind(b"\n", start, start + SAMPLE_BYTES) + 1])
    pieces.append(block[block.rfind(b"\n", 0, -1) + 1 :])
    return b"".join(pieces)


# --- the pass -------------------------------------------------------------------------------------------------------


@dataclass
class _Collected:
    """What the workers have brought together so far; every change happens under `lock`."""

    folder: Path
    sums: gold.DaySums
    lock: threading.Lock = field(default_factory=threading.Lock)
    parts: dict[int, StagedPart] = field(default_factory=dict)
    lines: dict[int, int] = field(default_factory=dict)
    rejected: dict[int, list[silver.Rejected]] = field(default_factory=dict)
    rejected_count: int = 0
    rows: int = 0
    last_line: tuple[int, bytes] = (-1, b"")  # of the last part

    def months(self) -> list[int]:
        return sorted({month for part in self.parts.values() for month in part.months})

    def keys_file(self, month: int) -> Path:
        return self.folder / f"keys-{month:02}.u64"


def refine_year(source: Source, year: int, folder: Path, threads: int, progress: Progress | None = None) -> Refined:
    """Refine the whole CSV `source` of `year` into parts below `folder`, with `threads` workers.

    Memory does not grow with the file: every worker holds one part, the identities of the flights wait on disk by
    month. The result depends neither on the number of workers nor on how the file is cut, and but for the order of rows
    not on the order of its lines. Raises DelaywatchError for a file that is empty, cut, damaged, has the wrong header,
    or more than 1 % rows that cannot be used; it then names the first of them.
    """
    pool = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())  # gives freed pieces back at once: 15 % less at the peak than mimalloc
    try:
        return _refine(source, year, folder, threads, progress, from_start=source.key.endswith(".gz"))
    except silver.SplitRecord:
        for path in folder.iterdir():
            path.unlink()
        return _refine(source, year, folder, threads, progress, from_start=True)
    finally:
        pa.set_memory_pool(pool)


def _refine(
    source: Source, year: int, folder: Path, threads: int, progress: Progress | None, *, from_start: bool
) -> Refined:
    if not source.size:
        raise DelaywatchError(f"{source.key} is empty; upload the file of {year} again.")
    reader: RangeReader | StreamReader
    if from_start:
        reader = StreamReader(source)
        first = reader.header()
        header = silver.read_header(first, source.key)
        reader.knows_header(header)
    else:
        end = blocks.line_start(source, 1)
        first = source.read(0, min(end, LONGEST_HEADER_BYTES))
        header = silver.read_header(first, source.key)
        reader = RangeReader(source, end, first, threads)

    found = _Collected(folder, gold.DaySums(year))
    taken = 0
    stop = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        nonlocal taken
        while not stop.is_set():
            with found.lock:
                of_range = reader.next_part()
                number, taken = taken, taken + 1
            if of_range is None:
                return
            _keep(process_blocks(of_range, header, year, joins_lines=reader.joins_lines), number, found)
            with found.lock:
                if progress:
                    progress(reader.done(), source.size)
                if _is_hopeless(found, reader.done() / source.size * len(found.parts) / taken):
                    stop.set()

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again when all threads have ended
            failures.append(error)
            stop.set()
            reader.give_up()

    with ThreadPoolExecutor(threads, thread_name_prefix="refinery") as pool:
        for _ in range(threads):
            pool.submit(guarded)
    if failures:
        raise failures[0]
    if stop.is_set():
        raise _too_many_rejected(found, source.key)
    return _finish(source, reader.sha256(), header, year, found)


def _keep(result: RangeResult, number: int, found: _Collected) -> None:
    """Write one part and add what else came out of its range."""
    part = _write_part(found.folder / f"part-{number:05d}.parquet", result.flights)
    keys = silver.fingerprints(result.flights)
    month = columns.values(columns.one(pc.month(result.flights["fl_date"])))
    with found.lock:
        found.parts[number], found.lines[number], found.rejected[number] = part, result.lines, result.rejected
        found.rows += result.rows
        found.rejected_count += len(result.rejected)
        for sums in result.sums:
            found.sums.add(sums)
        for one in part.months:
            with found.keys_file(one).open("ab") as file:
                file.write((keys if len(part.months) == 1 else keys[month == one]).tobytes())
        if result.last_line:
            found.last_line = max(found.last_line, (number, result.last_line))


def _in_one_piece(flights: pa.Table) -> pa.Table:
    """The same rows without chunks, on which the bytes of the part would otherwise depend."""
    return flights.unify_dictionaries().combine_chunks()


def _write_part(path: Path, flights: pa.Table) -> StagedPart:
    write_parquet(flights, str(path))
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    months = tuple(month for month in sorted(pc.unique(pc.month(flights["fl_date"])).to_pylist()) if month)
    nulls = {name: flights[name].null_count for name in flights.column_names}
    return StagedPart(path, flights.num_rows, path.stat().st_size, sha256, nulls, months)


def _is_hopeless(found: _Collected, share_done: float) -> bool:
    """Whether far more rows are rejected already than the whole file may have; stopping then saves time and memory."""
    expected_rows = found.rows / max(share_done, 1e-9)
    return found.rejected_count > max(1000, 3 * MAX_REJECTED_SHARE * expected_rows)


def _too_many_rejected(found: _Collected, key: str) -> DelaywatchError:
    rows = _rejected_rows(found)
    examples = "; ".join(f"line {row.line}: {row.reason}: {row.raw[:120]!r}" for row in rows[:3])
    return DelaywatchError(
        f"{key}: {found.rejected_count:,} of {found.rows:,} rows cannot be used, more than {MAX_REJECTED_SHARE:.0%}; "
        f"correct the file and put it into bronze again. First lines: {examples}."
    )


def _rejected_rows(found: _Collected) -> list[silver.Rejected]:
    """All rejected rows with the line numbers of the file; every part that was begun must be in."""
    rows: list[silver.Rejected] = []
    base = 2  # line 1 is the header
    for number in sorted(found.lines):
        rows += [silver.Rejected(base + row.line, row.reason, row.raw) for row in found.rejected[number]]
        base += found.lines[number]
    return rows


def _finish(source: Source, sha256: str, header: silver.Header, year: int, found: _Collected) -> Refined:
    rejected = _rejected_rows(found)
    if not found.rows:
        raise DelaywatchError(f"{source.key} has a header but no flights; upload the file of {year} again.")
    tail = found.last_line[1]
    ends_early = not tail.endswith(b"\n") and silver.is_incomplete(rejected[-1:])
    if ends_early and rejected[-1].raw == tail.decode("utf-8", errors="backslashreplace"):
        raise DelaywatchError(
            f"{source.key} ends in the middle of line {rejected[-1].line} ({rejected[-1].reason}), so it was cut; "
            "upload the whole file again."
        )
    if len(rejected) > MAX_REJECTED_SHARE * found.rows:
        raise _too_many_rejected(found, source.key)
    if not source.still_the_same():
        raise DelaywatchError(f"{source.key} changed while it was read; run the step again when its upload has ended.")

    duplicates, differing = _drop_duplicates(found, year)
    parts = [found.parts[number] for number in sorted(found.parts) if found.parts[number].rows]
    written = sum(pq.read_metadata(part.path).num_rows for part in parts)
    dropped = sum(duplicates.values())
    if written + dropped + len(rejected) != found.rows:
        raise AssertionError(
            f"{source.key}: {written} rows written + {dropped} duplicates + {len(rejected)} rejected "
            f"are not the {found.rows} rows read"
        )
    rejected_columns = [
        columns.column(np.array([row.line for row in rejected], np.int64), pa.int64()),
        columns.text([row.reason for row in rejected]),
        columns.text([row.raw for row in rejected]),
    ]
    return Refined(
        parts=parts,
        sums=found.sums.table(),
        rejected=pa.table(rejected_columns, schema=schemas.REJECTED),
        rows_read=found.rows,
        bytes=source.size,
        sha256=sha256,
        ignored_columns=header.ignored,
        duplicates_per_month=duplicates,
        duplicates_that_differ=differing,
    )


# --- duplicates -----------------------------------------------------------------------------------------------------


def _drop_duplicates(found: _Collected, year: int) -> tuple[dict[int, int], int]:
    """Keep one of every flight; returns the number dropped per month, and how many of those differed from the one kept.

    Months are looked at one after the other, since a flight's date is part of its identity. Of several rows of one
    flight the one with the smallest hash over all columns stays, so that the order of the file does not decide; of
    equal rows the first.
    """
    per_month: dict[int, int] = {}
    differing = 0
    drop: dict[int, list[np.ndarray]] = {}
    for month in found.months():
        keys = np.fromfile(found.keys_file(month), np.uint64)
        keys.sort()
        doubled = np.unique(keys[1:][keys[1:] == keys[:-1]])
        del keys
        if not len(doubled):
            continue
        rows = _rows_of(found, month, doubled)
        order = np.lexsort((rows["row"], rows["part"], rows["content"], rows["second"], rows["key"]))
        rows = rows[order]
        is_again = np.zeros(len(rows), bool)
        is_again[1:] = (rows["key"][1:] == rows["key"][:-1]) & (rows["second"][1:] == rows["second"][:-1])
        if not is_again.any():
            continue
        group = np.cumsum(~is_again) - 1
        kept_content = rows["content"][~is_again][group]
        differing += int((is_again & (rows["content"] != kept_content)).sum())
        per_month[month] = int(is_again.sum())
        for part in np.unique(rows["part"][is_again]):
            drop.setdefault(int(part), []).append(rows["row"][is_again & (rows["part"] == part)])
    if drop:
        sums = gold.DaySums(year)
        for number in sorted(found.parts):
            part = found.parts[number]
            if number in drop:
                flights = pq.ParquetFile(part.path).read()
                keep = np.ones(flights.num_rows, bool)
                keep[np.concatenate(drop[number])] = False
                flights = _in_one_piece(flights.filter(pa.array(keep)))
                found.parts[number] = _write_part(part.path, flights)
            else:
                flights = pq.ParquetFile(part.path).read(columns=list(gold.COLUMNS))
            sums.add(gold.day_sums(flights))
        found.sums = sums
    return per_month, differing


_ROW = np.dtype(
    [("key", np.uint64), ("second", np.uint64), ("content", np.uint64), ("part", np.int32), ("row", np.int32)]
)


def _rows_of(found: _Collected, month: int, keys: np.ndarray) -> np.ndarray:
    """Where the flights with one of the sorted `keys` stand; a second hash tells real duplicates from chance."""
    pieces = []
    for number, part in found.parts.items():
        if month not in part.months:
            continue
        flights = pq.ParquetFile(part.path).read(columns=list(schemas.NATURAL_KEY))
        key = (
            silver.fingerprints(flights)
            if not _has_null_key(flights)
            else silver.fingerprints(pq.ParquetFile(part.path).read())
        )
        place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
        rows = np.flatnonzero(keys[place] == key)
        if not len(rows):
            continue
        chosen = pq.ParquetFile(part.path).read().take(pa.array(rows))
        piece = np.empty(len(rows), _ROW)
        piece["key"], piece["row"], piece["part"] = key[rows], rows, number
        piece["second"] = silver.fingerprints(chosen, seed=1)
        piece["content"] = silver.fingerprints(chosen, chosen.column_names)
        pieces.append(piece)
    return np.concatenate(pieces)


def _has_null_key(flights: pa.Table) -> bool:
    return any(flights[name].null_count for name in schemas.NATURAL_KEY)
