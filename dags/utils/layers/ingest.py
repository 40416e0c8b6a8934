"""One pass over a year's CSV: byte ranges in, staged silver parts and the sums for gold out.

The unit of work is a range, whose lines become typed flights, rejected rows and sums. A worker thread per core takes
range after range from a reader of `blocks` and gives it to `process_blocks`; `process_range` does the same for one
range by its offsets alone. Writes into a local folder that `lake.staging` gave; committing is `pipeline`'s.
"""

from __future__ import annotations

import calendar
import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from utils import schemas
from utils.errors import DelaywatchError
from utils.layers import columns, csv_reader, gaps, gold, rules, silver
from utils.layers.csv_reader import RangeReader, StreamReader
from utils.reporting import wording
from utils.storage.parquet import write_parquet

if TYPE_CHECKING:
    from utils.storage.stores import Source

MAX_REJECTED_SHARE = 0.01
MAX_UNKNOWN_CODE_SHARE = 0.01  # of the cancelled flights
EXAMPLES = 3  # reasons that a message names
MIN_VERSION_ROWS = 100  # that repeat a flight, most with other values: the month is in the file in two versions
MIN_VERSION_SHARE = 0.01  # of the month's flights; real years have single duplicates
GLANCE_LINES = 100
SAMPLE_BYTES, SAMPLE_EVERY_BYTES = 1 << 13, 1 << 16  # a sample of a CSV: how much of how much
DOUBTFUL_SHARE = MAX_REJECTED_SHARE / 2  # of the rows of a sample

Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True)
class StagedPart:
    """One written silver part; `months` are those of its flights.

    carrier_days: see gaps.carrier_days.
    """

    path: Path
    rows: int
    bytes: int
    sha256: str
    null_counts: dict[str, int]
    months: tuple[int, ...]
    carrier_days: pa.Table


@dataclass(frozen=True)
class Duplicates:
    """Rows that are in the file more than once."""

    per_month: dict[int, int]  # dropped rows by month
    differing: int  # dropped rows that differ from the kept row of the same flight in some column
    kept_without_key: int  # rows that equal another row in every column and were kept: their natural key has a null


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
    duplicates: Duplicates
    rejected_examples: Mapping[str, str] = field(default_factory=dict)  # by reason, a sentence about its first row
    tallies: Mapping[str, silver.Tally] = field(default_factory=dict)  # see silver.Refined; `line` is of the file

    @property
    def rows_kept(self) -> int:
        """The rows of all parts."""
        return sum(part.rows for part in self.parts)

    @property
    def rows_duplicate(self) -> int:
        """Rows left out because the flight is in a part already."""
        return sum(self.duplicates.per_month.values())

    @property
    def carrier_days(self) -> pa.Table:
        """What gaps.carrier_days gives of every part."""
        return pa.concat_tables(part.carrier_days for part in self.parts)


@dataclass(frozen=True)
class RangeResult:
    """What `process_range` made of the lines that begin in one byte range."""

    flights: pa.Table  # schemas.SILVER, in one piece
    rejected: list[silver.Rejected]  # `line` counts from the first line of the range
    sums: list[pa.Table]  # of gold.SUMS, to be added up
    rows: int
    lines: int
    last_line: bytes
    tallies: dict[str, silver.Tally]  # `line` counts as that of the rejected rows


# --- one range ------------------------------------------------------------------------------------------------------


def process_range(source: Source, start: int, end: int, header: silver.Header, year: int) -> RangeResult:
    """Refine the lines that begin in the bytes [start, end) of an uncompressed CSV, wherever their last line ends."""
    edges = [*range(start, end, csv_reader.PIECE_BYTES), end]
    starts = [csv_reader.line_start(source, edge) for edge in edges]
    return process_blocks((source.read(*span) for span in pairwise(starts)), header, year)


def process_blocks(
    of_range: Iterable[bytes], header: silver.Header, year: int, *, joins_lines: bool = False
) -> RangeResult:
    """Refine the blocks of whole lines that make up one range; see silver.refine."""
    tables: list[pa.Table] = []
    sums: list[pa.Table] = []
    rejected: list[silver.Rejected] = []
    tallies: dict[str, silver.Tally] = {}
    lines = rows = 0
    last_line = b""
    for block in of_range:
        refined = silver.refine(block, header, year, joins_lines=joins_lines)
        last_line = block[block.rfind(b"\n", 0, len(block) - 1) + 1 :] if block else last_line
        tables.append(refined.flights)
        sums.append(gold.day_sums(refined.flights))
        rejected += [replace(row, line=lines + row.line) for row in refined.rejected]
        silver.add_tallies(tallies, refined.tallies, lines)
        lines += refined.lines
        rows += refined.rows
        del block, refined
    flights = _in_one_piece(pa.concat_tables(tables)) if tables else schemas.SILVER.empty_table()
    tables.clear()
    return RangeResult(flights, rejected, sums, rows, lines, last_line, tallies)


def glance(source: Source, year: int) -> None:
    """Refuse at once what cannot be the CSV of `year`, by its header and its first rows.

    Raises DelaywatchError for a file that is empty, has the wrong header or begins without a single flight of the year.
    """
    if not source.size:
        raise DelaywatchError(f"{source.key} is empty; give the CSV of {year}.")
    reader = StreamReader(source)
    try:
        header = silver.read_header(reader.header(), source.key)
        reader.knows_header(header)
        block = next(reader.next_part() or iter(()), b"")
        begin = b"".join(block.splitlines(keepends=True)[:GLANCE_LINES])
        refined = silver.refine(begin, header, year, joins_lines=True)
    except silver.ZeroBytesError as error:
        raise _zero_bytes(source) from error
    if not refined.flights.num_rows:
        if not refined.rejected:
            raise DelaywatchError(f"{source.key} has a header and no rows; give the CSV of {year}.")
        first = refined.rejected[0]
        sentence = replace(first, line=first.line + 2).sentence
        if first.reason == f"FL_DATE is not in {year}":
            raise DelaywatchError(f"{source.key} does not begin with flights of {year}. {sentence}")
        raise DelaywatchError(f"The first rows of {source.key} cannot be used. {sentence} Correct the file.")


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
                if b"\0" in block or b"FL_DATE" in block.upper():  # a broken copy, or a second header
                    return True
                refined = silver.refine(_sample(block), header, year, joins_lines=True)
                rows += refined.rows
                rejected += len(refined.rejected)
                if "CANCELLATION_CODE" in refined.tallies:
                    return True
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
    unusable: int = 0  # rejected rows without repeated headers
    headers: int = 0  # repeated ones
    has_other_header: bool = False
    tallies: dict[int, dict[str, silver.Tally]] = field(default_factory=dict)
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
    or more than 1% rows that cannot be used; it then names the first of them.
    """
    pool = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())  # gives freed pieces back at once: 15% less at the peak than mimalloc
    try:
        if source.key.endswith(".gz"):
            return _refine(source, year, folder, threads, progress, from_start=True)
        try:
            return _refine(source, year, folder, threads, progress, from_start=False)
        except silver.SplitRecord:
            for path in folder.iterdir():
                path.unlink()
            return _refine(source, year, folder, threads, progress, from_start=True)
    except silver.ZeroBytesError as error:
        raise _zero_bytes(source) from error
    finally:
        pa.set_memory_pool(pool)


def _zero_bytes(source: Source) -> DelaywatchError:
    line, zeros = csv_reader.count_zero_bytes(source)
    return DelaywatchError(
        f"{source.key} contains {wording.count(zeros, 'zero byte')}, the first in line {line}, so it was not "
        "copied completely; upload the whole file again."
    )


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
        first = csv_reader.first_line(source)
        header = silver.read_header(first, source.key)
        reader = RangeReader(source, len(first), first, threads)

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
                if found.has_other_header or _is_hopeless(
                    found, reader.done() / source.size * len(found.parts) / taken
                ):
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
        raise _other_header(found, source.key) if found.has_other_header else _too_many_rejected(found, source.key)
    return _finish(source, reader.sha256(), header, year, found)


def _keep(result: RangeResult, number: int, found: _Collected) -> None:
    """Write one part and add what else came out of its range."""
    part = _write_part(found.folder / f"part-{number:05d}.parquet", result.flights)
    keys = silver.fingerprints(result.flights)
    month = columns.values(columns.one(pc.month(result.flights["fl_date"])))
    with found.lock:
        found.parts[number], found.lines[number], found.rejected[number] = part, result.lines, result.rejected
        found.rows += result.rows
        found.tallies[number] = result.tallies
        headers = sum(row.reason == silver.REPEATED_HEADER for row in result.rejected)
        found.headers += headers
        found.unusable += len(result.rejected) - headers
        found.has_other_header |= any(row.reason == silver.OTHER_HEADER for row in result.rejected)
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
    return StagedPart(path, flights.num_rows, path.stat().st_size, sha256, nulls, months, gaps.carrier_days(flights))


def _is_hopeless(found: _Collected, share_done: float) -> bool:
    """Whether far more rows are rejected already than the whole file may have; stopping then saves time and memory."""
    expected_rows = found.rows / max(share_done, 1e-9)
    return found.unusable > max(1000, 3 * MAX_REJECTED_SHARE * expected_rows)


def _too_many_rejected(found: _Collected, key: str) -> DelaywatchError:
    rows = [row for row in _rejected_rows(found) if row.reason != silver.REPEATED_HEADER]
    examples = {row.reason: row.sentence for row in reversed(rows)}
    counted = Counter(row.reason for row in rows).most_common(EXAMPLES)
    kinds = " ".join(f"{wording.count(count, 'row')}, the first: {examples[reason]}" for reason, count in counted)
    return DelaywatchError(
        f"{key}: {found.unusable:,} of {wording.count(found.rows - found.headers, 'row')} cannot be used, more than "
        f"{MAX_REJECTED_SHARE:.0%}. {kinds} Correct the file and put it into bronze again."
    )


def _other_header(found: _Collected, key: str) -> DelaywatchError:
    header = next(row for row in _rejected_rows(found) if row.reason == silver.OTHER_HEADER)
    return DelaywatchError(
        f"{key} names its columns again in line {header.line}, and they differ from line 1: {header.value}. Give all "
        "parts of the file the same columns in the same order and put it into bronze again."
    )


def _unknown_codes(tally: silver.Tally, cancelled: int, key: str) -> DelaywatchError:
    return DelaywatchError(
        f"{key}: {tally.rows:,} of {cancelled:,} cancelled flights have an unknown code, more than "
        f"{MAX_UNKNOWN_CODE_SHARE:.0%}. CANCELLATION_CODE is {tally.value} in line {tally.line}; "
        f"{rules.CAUSE.expected}. Correct the file and put it into bronze again."
    )


def _first_lines(found: _Collected) -> dict[int, int]:
    """The line of the file with which each part begins; every part that was begun must be in."""
    first, line = {}, 2  # line 1 is the header
    for number in sorted(found.lines):
        first[number] = line
        line += found.lines[number]
    return first


def _rejected_rows(found: _Collected) -> list[silver.Rejected]:
    """All rejected rows with the line numbers of the file."""
    return [
        replace(row, line=first + row.line)
        for number, first in _first_lines(found).items()
        for row in found.rejected[number]
    ]


def _tallies(found: _Collected) -> dict[str, silver.Tally]:
    """The tallies of all parts with the line numbers of the file."""
    tallies: dict[str, silver.Tally] = {}
    for number, first in _first_lines(found).items():
        silver.add_tallies(tallies, found.tallies[number], first)
    return tallies


def _finish(source: Source, sha256: str, header: silver.Header, year: int, found: _Collected) -> Refined:
    rejected = _rejected_rows(found)
    if found.rows == found.headers:
        raise DelaywatchError(f"{source.key} has a header but no flights; upload the file of {year} again.")
    tail = found.last_line[1]
    ends_early = not tail.endswith(b"\n") and silver.is_incomplete(rejected[-1:])
    if ends_early and rejected[-1].raw == tail.decode("utf-8", errors="backslashreplace"):
        last = rejected[-1]
        raise DelaywatchError(
            f"{source.key} ends in the middle of line {last.line} ({last.value or last.reason}), so it was cut; "
            "upload the whole file again."
        )
    if found.unusable > MAX_REJECTED_SHARE * (found.rows - found.headers):
        raise _too_many_rejected(found, source.key)
    tallies = _tallies(found)
    if unknown := tallies.get("CANCELLATION_CODE"):
        cancelled = int(columns.values(columns.one(found.sums.table()["cancelled"])).sum())
        if unknown.rows > MAX_UNKNOWN_CODE_SHARE * cancelled:
            raise _unknown_codes(unknown, cancelled, source.key)
    if not source.still_the_same():
        raise DelaywatchError(f"{source.key} changed while it was read; run the step again when its upload has ended.")

    duplicates = _drop_duplicates(found, year, source.key)
    parts = [found.parts[number] for number in sorted(found.parts) if found.parts[number].rows]
    written = sum(pq.read_metadata(part.path).num_rows for part in parts)
    dropped = sum(duplicates.per_month.values())
    if written + dropped + len(rejected) != found.rows:
        raise AssertionError(
            f"{source.key}: {written} rows written + {dropped} duplicates + {len(rejected)} rejected "
            f"are not the {found.rows} rows read"
        )
    rejected_columns = [
        columns.column(np.array([row.line for row in rejected], np.int64), pa.int64()),
        *(columns.text([getattr(row, name) for row in rejected]) for name in schemas.REJECTED.names[1:]),
    ]
    return Refined(
        parts=parts,
        sums=found.sums.table(),
        rejected=pa.table(rejected_columns, schema=schemas.REJECTED),
        rows_read=found.rows,
        bytes=source.size,
        sha256=sha256,
        ignored_columns=header.ignored,
        duplicates=duplicates,
        rejected_examples={row.reason: row.sentence for row in reversed(rejected)},
        tallies=tallies,
    )


# --- duplicates -----------------------------------------------------------------------------------------------------


def _drop_duplicates(found: _Collected, year: int, key: str) -> Duplicates:
    """Keep one row of every flight and rewrite the parts and sums that held others.

    Months are searched one after the other, since a flight's date is part of its natural key. Of several rows of one
    flight the one with the smallest hash over all columns stays, so that the order of the file does not decide; of
    equal rows the first. A row whose natural key has a null may be any flight, so it always stays. Raises
    DelaywatchError when a month is in the file in two versions.
    """
    per_month: dict[int, int] = {}
    differing = kept_without_key = 0
    drop: dict[int, list[np.ndarray]] = {}
    for month in found.months():
        rows = _repeated_rows(found, month)
        kept = _kept_row_of_each(rows)
        is_repeated = kept != np.arange(len(rows))
        kept_without_key += int((is_repeated & ~rows["has_key"]).sum())
        is_dropped = is_repeated & rows["has_key"]
        if not is_dropped.any():
            continue
        is_different = is_dropped & (rows["content"] != rows["content"][kept])
        per_month[month] = int(is_dropped.sum())
        differing += int(is_different.sum())
        flights = found.keys_file(month).stat().st_size // 8 - per_month[month]
        if _are_versions(per_month[month], int(is_different.sum()), flights):
            places = np.flatnonzero(is_different)
            example = places[np.lexsort((rows["row"][places], rows["part"][places]))[0]]  # the first in the file
            raise _two_versions(found, key, f"{calendar.month_name[month]} {year}", rows[[kept[example], example]])
        for part in np.unique(rows["part"][is_dropped]):
            drop.setdefault(int(part), []).append(rows["row"][is_dropped & (rows["part"] == part)])
    if drop:
        _rewrite(found, year, {number: np.concatenate(places) for number, places in drop.items()})
    return Duplicates(per_month, differing, kept_without_key)


def _kept_row_of_each(rows: np.ndarray) -> np.ndarray:
    """For every row of `_repeated_rows` the place of the first row of the same flight; int64 of shape (rows,)."""
    is_first = np.ones(len(rows), bool)
    is_first[1:] = (rows["key"][1:] != rows["key"][:-1]) | (rows["second"][1:] != rows["second"][:-1])
    kept: np.ndarray = np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
    return kept


def _are_versions(duplicates: int, differing: int, flights: int) -> bool:
    return duplicates >= max(MIN_VERSION_ROWS, MIN_VERSION_SHARE * flights) and differing > duplicates / 2


def _two_versions(found: _Collected, key: str, month: str, pair: np.ndarray) -> DelaywatchError:
    """The error for two rows of one flight that differ."""
    parts = (pq.ParquetFile(found.parts[int(row["part"])].path).read() for row in pair)
    one, other = (part.slice(int(row["row"]), 1).to_pylist()[0] for part, row in zip(parts, pair, strict=True))
    column = next(name for name in schemas.SILVER.names if one[name] != other[name])
    values = " and ".join(str(row[column]) if row[column] is not None else "no value" for row in (one, other))
    flight = f"{one['op_carrier']} {one['op_carrier_fl_num']} from {one['origin']} to {one['dest']} on {one['fl_date']}"
    return DelaywatchError(
        f"{key} has two versions of {month}: most of its repeated flights have other values, for example {flight} with "
        f"{column.upper()} {values}. Keep one version of the month and put the file into "
        "bronze again."
    )


def _rewrite(found: _Collected, year: int, drop: dict[int, np.ndarray]) -> None:
    """Write the parts again without the rows in `drop` (places by part number), and compute all sums again."""
    sums = gold.DaySums(year)
    for number in sorted(found.parts):
        part = found.parts[number]
        if number in drop:
            flights = pq.ParquetFile(part.path).read()
            keep = np.ones(flights.num_rows, bool)
            keep[drop[number]] = False
            flights = _in_one_piece(flights.filter(pa.array(keep)))
            found.parts[number] = _write_part(part.path, flights)
        else:
            flights = pq.ParquetFile(part.path).read(columns=list(gold.COLUMNS))
        sums.add(gold.day_sums(flights))
    found.sums = sums


_ROW = np.dtype(
    [
        ("key", np.uint64),  # hash of the natural key; of all columns where the natural key has a null
        ("second", np.uint64),  # another hash of the same columns, which tells equal keys from a collision
        ("content", np.uint64),  # hash of all columns
        ("has_key", bool),
        ("part", np.int32),
        ("row", np.int32),
    ]
)


def _repeated_rows(found: _Collected, month: int) -> np.ndarray:
    """Return the rows of the month whose key occurs more than once, as _ROW of shape (rows,), flight by flight.

    The rows of one flight stand together, in the order of their content and then of the file.
    """
    keys = np.fromfile(found.keys_file(month), np.uint64)
    keys.sort()
    repeated = np.unique(keys[1:][keys[1:] == keys[:-1]])
    del keys
    pieces = [np.empty(0, _ROW)]
    for number, part in found.parts.items():
        if len(repeated) and month in part.months:
            pieces.append(_rows_with(repeated, number, part))
    rows = np.concatenate(pieces)
    return rows[np.lexsort((rows["row"], rows["part"], rows["content"], rows["second"], rows["key"]))]


def _rows_with(keys: np.ndarray, number: int, part: StagedPart) -> np.ndarray:
    """The rows of one part that have one of the sorted `keys`."""
    file = pq.ParquetFile(part.path)
    flights = file.read(columns=list(schemas.NATURAL_KEY))
    key = silver.fingerprints(flights if silver.has_key(flights).all() else file.read())
    place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
    at = np.flatnonzero(keys[place] == key)
    rows = np.empty(len(at), _ROW)
    if not len(at):
        return rows
    chosen = file.read().take(pa.array(at))
    rows["key"], rows["row"], rows["part"] = key[at], at, number
    rows["second"] = silver.fingerprints(chosen, seed=1)
    rows["content"] = silver.fingerprints(chosen, chosen.column_names)
    rows["has_key"] = silver.has_key(chosen)
    return rows
