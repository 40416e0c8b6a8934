"""Bronze text to silver flights: the header, the typed rows, the rows that cannot be used, a flight's identity.

Pure: bytes and Arrow tables in, Arrow tables out. Reading ranges lives in `blocks`, threads in `refinery`, keys in
`lake`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from utils import columns, schemas
from utils.errors import DelaywatchError, printable

_PARSE_BYTES = 1 << 20  # what Arrow parses at a time: small enough to stay in the processor's cache
_STEP_BYTES = 1 << 16  # whose line ends are counted at a time
LONGEST_LINE_BYTES = 2 * _STEP_BYTES  # a longer line has no line end in some step; it is no flight
LONGEST_RECORD_LINES = 10  # a quoted field may hold line breaks; one that needs more lines than this is a lost quote
_NUMERIC = {name.lower() for name, kind in schemas.FLIGHT_COLUMNS if pa.types.is_integer(kind) or kind == pa.bool_()}
_TEXT = [name for name in schemas.SILVER.names if pa.types.is_dictionary(schemas.SILVER.field(name).type)]
_READ_TYPES = {  # Kaggle writes whole numbers as 1512.0; float32 is exact for 16 bits, flight numbers have more
    name: kind if name.lower() not in _NUMERIC else pa.float64() if kind == pa.int32() else pa.float32()
    for name, kind in schemas.FLIGHT_COLUMNS
}
_NO_CSV = {
    b"\x1f\x8b": "is compressed with gzip although its name says it is not; rename it to end in .csv.gz",
    b"PK\x03\x04": "is a zip archive; unpack the CSV that it holds",
}
_OPEN_QUOTE = "a quote is not closed"
_AIRPORT = re.compile(r"[A-Z0-9]{3,4}")
# The Bureau writes 9E, or PA (1) where a code went to another carrier. Names of carriers stand in sentences, pages and
# messages, so none can be a formula, a tag or half a file.
_CARRIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ()]{0,15}")
_BARE_RETURN = re.compile(rb"\r(?!\n|$)")  # what Arrow would take for the end of a row


class SplitRecord(Exception):  # noqa: N818 - a signal to the reader, not an error of the file
    """A line of the block opens a quote that another line closes: only reading from the start tells rows apart."""


@dataclass(frozen=True)
class Header:
    """The columns of one bronze file, in its own order and spelling."""

    names: tuple[str, ...]  # as schemas.FLIGHT_COLUMNS spells them; columns that are not of the schema keep their own
    ignored: tuple[str, ...]


@dataclass(frozen=True)
class Rejected:
    """One row that could not be used; `line` counts from the start of its block, 0 is the first."""

    line: int
    reason: str
    raw: str


@dataclass(frozen=True)
class Refined:
    """One block of bronze: `rows` == flights.num_rows + len(rejected); `lines` includes empty ones."""

    flights: pa.Table  # schemas.SILVER, in the order of the file
    rejected: list[Rejected]
    rows: int
    lines: int


def read_header(line: bytes, key: str) -> Header:
    """Match the first line of a bronze file with the 27 columns by name, in any order and case.

    Raises DelaywatchError that names `key` and the columns which are missing or doubled, with the line itself.
    """
    for first, what in _NO_CSV.items():
        if line.startswith(first):
            raise DelaywatchError(f"{key} {what}.")
    text = line.decode("utf-8-sig", errors="replace").strip("\r\n")
    if not text:
        raise DelaywatchError(f"{key} begins with an empty line; its first line must name the columns.")
    if len(line) > LONGEST_LINE_BYTES:
        raise DelaywatchError(
            f"{key} begins with a line of more than {LONGEST_LINE_BYTES:,} bytes; its first line must name the columns."
        )
    if "\r" in text:
        raise DelaywatchError(f"{key} ends its lines with a carriage return alone; convert them to line feeds.")
    found = [name.strip() for name in next(csv.reader([text.replace("\0", "")]))]
    known = {name for name, _ in schemas.FLIGHT_COLUMNS}
    names = tuple(name.upper() if name.upper() in known else name for name in found)
    missing = [name for name, _ in schemas.FLIGHT_COLUMNS if name not in names]
    doubled = sorted({name for name in names if names.count(name) > 1 and name in known})
    if missing:
        what = f"lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
    else:
        what = f"has {', '.join(doubled)} twice"
    if missing or doubled:
        # A line that names no column is of some other file, perhaps of one that a link leads to: it may be a secret.
        is_header = any(name in text.upper() for name in known)
        raise DelaywatchError(
            f"{key} {what}; its first line must name the 27 columns of the Kaggle dataset separated by commas, "
            f"but it {f'is: {text[:200]!r}' if is_header else 'names none of them'}."
        )
    ignored = tuple(printable(name) for name in names if name and name not in known and name != schemas.EMPTY_COLUMN)
    return Header(names, ignored)


def refine(block: bytes, header: Header, year: int, *, joins_lines: bool = False) -> Refined:
    """Type the rows of `block` (whole lines of a bronze file, not its header) and set aside those that cannot be used.

    A block in which every row is good, which is nearly every block, is parsed once by Arrow. Any doubt sends it through
    `_refine_with_care`, which accepts exactly the same rows and names a reason for each of the others. With
    `joins_lines` a quoted field may hold line breaks; without it such a block raises SplitRecord.
    """
    if b'"' in block and any(count % 2 for count in _quotes_per_line(block)):
        if not joins_lines:
            raise SplitRecord
        return _refine_with_care(block, header, year)
    line_ends = _line_ends(block)
    if 0 in line_ends[:-1] or (b"\r" in block and block.count(b"\r") != block.count(b"\r\n")):
        return _refine_with_care(block, header, year)
    try:
        table = _parse(block, header, _READ_TYPES)
    except pa.ArrowInvalid:
        return _refine_with_care(block, header, year)
    flights = _typed(table)
    if flights is None or _suspicious(flights, year):
        return _refine_with_care(block, header, year)
    lines = rows = sum(line_ends) + _has_open_line(block)
    if rows != flights.num_rows:
        rows -= sum(line in (b"", b"\r") for line in block.removesuffix(b"\n").split(b"\n"))
    if rows != flights.num_rows:
        return _refine_with_care(block, header, year)
    return Refined(_with_recomputed_delay(flights), [], rows, lines)


def _line_ends(block: bytes) -> list[int]:
    """How many line ends each _STEP_BYTES of the block have: steps that stay in the cache, four times bytes.count."""
    text, step = np.frombuffer(block, np.uint8), _STEP_BYTES
    return [int(np.count_nonzero(text[at : at + step] == ord("\n"))) for at in range(0, len(text), step)]


def _has_open_line(block: bytes) -> bool:
    return bool(block) and not block.endswith(b"\n")


def _parse(
    block: bytes,
    header: Header,
    types: dict[str, pa.DataType],
    on_invalid: Callable[[pa_csv.InvalidRow], str] | None = None,
    *,
    newlines: bool = False,
) -> pa.Table:
    names = [name if name in types else f"{name} {place}" for place, name in enumerate(header.names)]
    return pa_csv.read_csv(
        pa.BufferReader(block),
        read_options=pa_csv.ReadOptions(column_names=names, use_threads=False, block_size=_PARSE_BYTES),
        parse_options=pa_csv.ParseOptions(newlines_in_values=newlines, invalid_row_handler=on_invalid),
        convert_options=pa_csv.ConvertOptions(
            column_types=types, include_columns=list(types), strings_can_be_null=True, null_values=[""]
        ),
    ).combine_chunks()


def _typed(table: pa.Table) -> pa.Table | None:
    """Columns as read (float32 for every number) to schemas.SILVER; None when a number does not fit its type."""
    typed = []
    try:
        for name, kind in schemas.FLIGHT_COLUMNS:
            column = columns.one(table[name])
            if kind == pa.bool_():
                column = column.cast(pa.int16())
                span = pc.min_max(column).as_py()
                if (span["min"] or 0) < 0 or (span["max"] or 0) > 1:
                    return None
            typed.append(column.cast(kind))
    except pa.ArrowInvalid:
        return None
    return pa.table(typed, schema=schemas.SILVER)


def _suspicious(flights: pa.Table, year: int) -> bool:
    """Whether any row breaks a rule that its types alone do not say."""
    if not flights.num_rows:
        return False
    if any(flights[name].null_count for name in ("fl_date", "origin", "cancelled")):
        return True
    span = pc.min_max(flights["fl_date"]).as_py()
    if span["min"] < date(year, 1, 1) or span["max"] > date(year, 12, 31):
        return True
    codes = {code for name in ("origin", "dest") for code in columns.one(flights[name]).dictionary.to_pylist()}
    carriers = columns.one(flights["op_carrier"]).dictionary.to_pylist()
    if not (all(map(_AIRPORT.fullmatch, codes)) and all(map(_CARRIER.fullmatch, carriers))):
        return True
    return any(_is_no_time(columns.values(columns.one(flights[name]))).any() for name in schemas.HHMM_COLUMNS)


def _is_no_time(hhmm: np.ndarray) -> np.ndarray:
    """Which numbers are no time of day; 0 and 2400 both are midnight."""
    return (hhmm < 0) | (hhmm > 2400) | (hhmm % 100 > 59)


def _with_recomputed_delay(flights: pa.Table) -> pa.Table:
    """Fill a null dep_delay of a flight that was not cancelled from its two HHMM times, across midnight.

    The dataset leaves the delay of some on-time flights empty. The difference is taken as the one between 6 hours early
    and 18 hours late; longer delays always carry their value in the data.
    """
    delay = columns.one(flights["dep_delay"])
    if not delay.null_count:
        return flights
    planned, actual = columns.one(flights["crs_dep_time"]), columns.one(flights["dep_time"])
    unknown = ~columns.valid(delay)
    fill = unknown & columns.valid(planned) & columns.valid(actual) & ~columns.values(columns.one(flights["cancelled"]))
    if not fill.any():
        return flights
    rows = np.flatnonzero(fill)
    planned_min, actual_min = (
        hhmm // 100 * 60 + hhmm % 100 for hhmm in (columns.values(planned)[rows], columns.values(actual)[rows])
    )
    filled = columns.values(delay).copy()
    filled[rows] = (actual_min - planned_min + 360) % 1440 - 360
    place = flights.schema.get_field_index("dep_delay")
    return flights.set_column(place, flights.schema.field(place), columns.column(filled, pa.int16(), unknown & ~fill))


# --- the careful way ------------------------------------------------------------------------------------------------


def _quotes_per_line(block: bytes) -> np.ndarray:
    text = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(text == ord("\n"))
    return np.bincount(np.searchsorted(ends, np.flatnonzero(text == ord('"'))), minlength=1)


def _fields_in(record: bytes) -> int:
    """How many fields `record` has; 0 when its quotes leave a line break outside, so that it is no single record."""
    rows = list(csv.reader(io.StringIO(record.decode("latin-1"), newline="")))
    return len(rows[0]) if len(rows) == 1 else 0


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def records(block: bytes, fields: int, *, is_last: bool = True) -> tuple[list[tuple[int, bytes, bool]], int]:
    """Cut `block` into (first line, record, whether its quotes close), empty lines left out, and say how far it got.

    A line with an odd number of quotes is joined with the lines after it, up to LONGEST_RECORD_LINES, as soon as that
    gives a record of `fields` fields; when nothing does, the line stands alone as one whose quote never closes. Unless
    the block `is_last` of its file, it stops in front of a record that lines behind the block could still complete.
    """
    lines = block.split(b"\n")
    if not lines[-1]:
        lines.pop()
    odd = set(np.flatnonzero(_quotes_per_line(block) % 2).tolist()) if b'"' in block else set()
    found: list[tuple[int, bytes, bool]] = []
    at = 0
    while at < len(lines):
        text, step, closes = lines[at], 1, True
        if at in odd:
            closes = False
            for stop in range(at + 2, min(at + LONGEST_RECORD_LINES, len(lines)) + 1):
                joined = b"\n".join(lines[at:stop])
                if len(joined) > LONGEST_LINE_BYTES:
                    break
                if not joined.count(b'"') % 2 and _fields_in(joined.removesuffix(b"\r")) == fields:
                    text, step, closes = joined, stop - at, True
                    break
            if not closes and not is_last and at + LONGEST_RECORD_LINES > len(lines):
                return found, sum(len(line) + 1 for line in lines[:at])
        if text.removesuffix(b"\r"):
            found.append((at, text, closes))
        at += step
    return found, len(block)


def _refine_with_care(block: bytes, header: Header, year: int) -> Refined:
    lines = sum(_line_ends(block)) + _has_open_line(block)
    found, _ = records(block, len(header.names))
    reasons: dict[int, str] = {}  # by place in `found`
    all_utf8 = _is_utf8(block)
    for place, (_, record, closes) in enumerate(found):
        if len(record) > LONGEST_LINE_BYTES:
            reasons[place] = f"the line has more than {LONGEST_LINE_BYTES:,} bytes"
        elif not closes:
            reasons[place] = _OPEN_QUOTE
        elif _BARE_RETURN.search(record):
            reasons[place] = "a carriage return stands inside the line"
        elif not all_utf8 and not _is_utf8(record) and (fields := _fields_in(record)) != len(header.names):
            reasons[place] = _wrong_count(fields, len(header.names))  # Arrow cannot hand over such a row

    parsed = [place for place in range(len(found)) if place not in reasons]
    wrong: list[tuple[int, str]] = []

    def skip(row: pa_csv.InvalidRow) -> str:
        wrong.append((row.number - 1, _wrong_count(row.actual_columns, row.expected_columns)))
        return "skip"

    text = b"".join(found[place][1] + b"\n" for place in parsed)
    raw_types = {name: pa.binary() for name, _ in schemas.FLIGHT_COLUMNS}
    table = (
        _parse(text, header, raw_types, skip, newlines=True)
        if text
        else pa.schema(list(raw_types.items())).empty_table()
    )
    reasons.update((parsed[row], reason) for row, reason in wrong)
    parsed = [place for place in parsed if place not in reasons]

    faults = _faults(table, year)
    good = np.ones(len(parsed), bool)
    for row, reason in faults.items():
        reasons[parsed[row]] = reason
        good[row] = False
    typed = _typed(_read_as_numbers(table.filter(pa.array(good))))
    if typed is None:
        raise AssertionError("a row without a fault did not take its type")
    rejected = [
        Rejected(
            found[place][0],
            reason,
            found[place][1][:LONGEST_LINE_BYTES].removesuffix(b"\r").decode("utf-8", errors="backslashreplace"),
        )
        for place, reason in sorted(reasons.items())
    ]
    return Refined(_with_recomputed_delay(typed), rejected, len(found), lines)


def is_incomplete(rejected: Sequence[Rejected]) -> bool:
    """Whether there are rows, all rejected because a part of them is missing or a quote is still open."""
    return bool(rejected) and all(row.reason == _OPEN_QUOTE or " instead of " in row.reason for row in rejected)


def _wrong_count(fields: int, expected: int) -> str:
    return f"{fields} field{'s' if fields != 1 else ''} instead of {expected}"


def _readable(column: pa.Array, kind: pa.DataType) -> np.ndarray:
    """Which values of a text column Arrow can read as `kind`, by halving the column around those that it cannot."""
    ok = np.ones(len(column), bool)
    spans = [(0, len(column))]
    while spans:
        start, stop = spans.pop()
        try:
            column[start:stop].cast(kind)
        except pa.ArrowInvalid:
            if stop - start == 1:
                ok[start] = False
            else:
                middle = (start + stop) // 2
                spans += [(start, middle), (middle, stop)]
    return ok


def _trimmed(column: pa.Array) -> pa.Array:
    return pc.utf8_trim(column, characters=" \t")  # Arrow's reader forgives blanks around numbers and dates


def _read_as_numbers(table: pa.Table) -> pa.Table:
    """Binary columns without faults to the types in which the fast way reads them."""
    read = {}
    for name, kind in _READ_TYPES.items():
        text = columns.one(table[name]).cast(pa.string())
        read[name] = text.dictionary_encode() if name.lower() in _TEXT else _trimmed(text).cast(kind)
    return pa.table(read)


def _faults(table: pa.Table, year: int) -> dict[int, str]:
    """The first fault of every row that has one, by row; the order of the rules is the order of the columns."""
    faults: dict[int, str] = {}

    def blame(is_bad: np.ndarray, reason: str) -> None:
        for row in np.flatnonzero(is_bad):
            faults.setdefault(int(row), reason)

    for name, kind in schemas.FLIGHT_COLUMNS:
        column = columns.one(table[name])
        is_text = _readable(column, pa.string())
        blame(~is_text, f"{name} is not UTF-8")
        text = pc.if_else(pa.array(is_text), column, pa.scalar(None, pa.binary())).cast(pa.string())
        if name in ("FL_DATE", "ORIGIN", "CANCELLED"):
            blame(column.is_null().to_numpy(zero_copy_only=False), f"{name} is empty")
        if name in ("ORIGIN", "DEST"):
            is_code = pc.match_substring_regex(text, f"^{_AIRPORT.pattern}$").fill_null(True)
            blame(~is_code.to_numpy(zero_copy_only=False), f"{name} is not an airport code")
        if name == "OP_CARRIER":
            is_code = pc.match_substring_regex(text, f"^{_CARRIER.pattern}$").fill_null(True)
            blame(~is_code.to_numpy(zero_copy_only=False), f"{name} is not a carrier code")
        if name.lower() in _TEXT:
            continue
        text = _trimmed(text)
        readable = _readable(text, _READ_TYPES[name])
        value = pc.if_else(pa.array(readable), text, pa.scalar(None, pa.string())).cast(_READ_TYPES[name])
        if kind == pa.date32():
            blame(~readable, f"{name} is not a date")
            blame(
                pc.not_equal(pc.year(value), year).fill_null(False).to_numpy(zero_copy_only=False),
                f"{name} is not in {year}",
            )
            continue
        number = value.fill_null(0).to_numpy(zero_copy_only=False)
        limits = np.iinfo(np.int32 if kind == pa.int32() else np.int16)
        with np.errstate(invalid="ignore"):
            fits = (number == np.floor(number)) & (number >= limits.min) & (number <= limits.max) & np.isfinite(number)
        blame(~readable | ~fits, f"{name} is not a whole number")
        number = np.where(readable & fits, number, 0)
        if kind == pa.bool_():
            blame((number != 0) & (number != 1), f"{name} is neither 0 nor 1")
        elif name.lower() in schemas.HHMM_COLUMNS:
            blame(_is_no_time(number), f"{name} is not a time of day")
    return faults


# --- the identity of a flight ---------------------------------------------------------------------------------------

_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def _mixed(values: np.ndarray) -> np.ndarray:
    """Spread 64-bit values: the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * _MIX[1]
    values = (values ^ (values >> np.uint64(27))) * _MIX[2]
    mixed: np.ndarray = values ^ (values >> np.uint64(31))
    return mixed


def _as_uint64(column: pa.Array) -> np.ndarray:
    """One 64-bit number per value, the same in every block; null has one of its own."""
    if pa.types.is_dictionary(column.type):
        words = [hashlib.blake2b(word.encode(), digest_size=8).digest() for word in column.dictionary.to_pylist()]
        table = np.frombuffer(b"".join(words) + b"\xff" * 8, np.uint64)
        hashed: np.ndarray = table[columns.values(column, fill=len(words))]
        return hashed
    number = columns.values(column).astype(np.int64)
    return np.where(columns.valid(column), number, np.iinfo(np.int64).max).view(np.uint64)


def has_key(flights: pa.Table) -> np.ndarray:
    """Which flights have every column of their natural key, bool of shape (rows,)."""
    found = np.ones(flights.num_rows, bool)
    for name in schemas.NATURAL_KEY:
        found &= columns.valid(columns.one(flights[name]))
    return found


def fingerprints(flights: pa.Table, names: Sequence[str] = schemas.NATURAL_KEY, seed: int = 0) -> np.ndarray:
    """A 64-bit hash per flight over the columns `names`, uint64 of shape (rows,), the same for equal rows in any block.

    Where the natural key has a null, the hash is over every column, so that only equal rows have the same hash.
    """
    result = np.full(flights.num_rows, seed, np.uint64)
    with np.errstate(over="ignore"):
        for name in names:
            result = _mixed((result + _MIX[0]) ^ _as_uint64(columns.one(flights[name])))
        if tuple(names) == schemas.NATURAL_KEY and any(flights[name].null_count for name in names):
            rows = np.flatnonzero(~has_key(flights))
            result[rows] = fingerprints(flights.take(pa.array(rows)), flights.column_names, seed)
    return result
