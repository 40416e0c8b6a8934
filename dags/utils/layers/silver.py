"""Convert bronze text to silver flights: parse the header, type the rows, reject unusable rows, hash flights.

Pure: bytes and Arrow tables in, Arrow tables out. `rules` defines valid values, `csv_reader` cuts files into blocks,
`ingest` distributes and writes parts.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from utils import schemas
from utils.errors import InvalidInput, printable
from utils.layers import columns, formats, rules
from utils.layers.rules import COLUMN_RULES, UNREADABLE

_PARSE_BYTES = 1 << 20  # per parse step of Arrow; fits into the CPU cache
_STEP_BYTES = 1 << 16  # per step of counting line ends
MAX_LINE_BYTES = 2 * _STEP_BYTES  # a longer line leaves a step without a line end
MAX_RECORD_LINES = 10  # a quoted field over more lines counts as an unclosed quote
MIN_HEADER_NAMES = 3  # a line with at least this many column names is a header

_TYPES = dict(schemas.FLIGHT_COLUMNS)
# Kaggle writes whole numbers as 1512.0. float32 is exact for 16-bit columns; flight numbers need float64.
_WORD_TYPES = {
    name: schemas.CODE if COLUMN_RULES[name].form.read else pa.float64() if kind == pa.int32() else pa.float32()
    for name, kind in schemas.FLIGHT_COLUMNS
}
_READ_TYPES = _WORD_TYPES | {"FL_DATE": pa.date32()}  # accepts only 2018-01-31, but is faster than parsing words
_RAW_TYPES = dict.fromkeys(_TYPES, pa.binary())
# The usual spellings of an empty field. `_refine_with_care` accepts all spellings.
_NULLS = sorted({spelling for word in rules.EMPTY_WORDS for spelling in (word, word.lower(), word.title())} | {" "})

# Reasons that do not name a column. They contain no values, so the quality report can group by reason.
OPEN_QUOTE = "a quote is not closed"
TOO_LONG = f"the line has more than {MAX_LINE_BYTES:,} bytes"
BARE_RETURN = "a carriage return stands inside the line"
WRONG_COUNT = "wrong number of fields"
REPEATED_HEADER = "repeated header"
JOINED_HEADER = "a row and a header in one line"
OTHER_HEADER = "a header with other columns than line 1"
EMPTY_DELAY = "delay left empty"  # key in TypedBlock.tallies

_IS_TIME = np.zeros(1 << 16, bool)  # indexed by HHMM; 0 and 2400 are both midnight
_IS_TIME[[hour * 100 + minute for hour in range(24) for minute in range(60)] + [2400]] = True
_BARE_RETURN = re.compile(rb"\r(?!\n|$)")  # Arrow would end the row there
_RETURNS = re.compile(rb"\r+\n")


class ZeroBytesError(InvalidInput):
    """The text contains zero bytes, as after a broken download."""

    def __init__(self) -> None:
        """Use a general message; `ingest` replaces it with the file and the line."""
        super().__init__("The file contains zero bytes, so it was not copied completely; upload the whole file again.")

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        """Pickle without the message, which the constructor sets."""
        return type(self), ()


class SplitRecord(Exception):
    """A quoted field in the block spans several lines, so the file must be read from the start."""


@dataclass(frozen=True)
class Header:
    """The first line of one bronze file, and its columns in file order."""

    names: tuple[str, ...]  # known columns as in schemas.FLIGHT_COLUMNS, others as in the file
    ignored: tuple[str, ...]
    line: bytes


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be used; `line` counts from 0 at the start of its block."""

    line: int
    reason: str  # contains no values, so rows can be grouped by it
    raw: str
    column: str = ""  # empty if the whole line is wrong
    value: str = ""  # formatted by rules.shown; empty if the field is empty
    expected: str = ""

    @property
    def sentence(self) -> str:
        """A message: the fault, its line and the expected format."""
        if not self.column:
            return f"Line {self.line}: {self.reason}{f' ({self.value})' if self.value else ''}."
        return f"{self.column} is {self.value or 'empty'} in line {self.line}; {self.expected}."


class Tally(NamedTuple):
    """The number of kept rows that lost a value, and the first of these; `line` counts as in Rejected."""

    rows: int
    line: int
    value: str


def add_tallies(total: dict[str, Tally], more: Mapping[str, Tally], first_line: int) -> None:
    """Add `more`, whose line numbers start at `first_line`, to `total`, which covers earlier lines."""
    for name, tally in more.items():
        before = total.get(name, Tally(0, first_line + tally.line, tally.value))
        total[name] = before._replace(rows=before.rows + tally.rows)


@dataclass(frozen=True)
class TypedBlock:
    """The rows of one block; rows == flights.num_rows + len(rejected). `lines` includes empty lines."""

    flights: pa.Table  # schemas.SILVER, in the order of the file
    rejected: list[Rejected]
    rows: int
    lines: int
    tallies: Mapping[str, Tally]  # unreadable values that became null, by column, and EMPTY_DELAY


def read_header(line: bytes, key: str) -> Header:
    """Parse the first line of a bronze file; it must name the 27 columns, in any order and case.

    Raises InvalidInput with `key`, the missing or repeated columns and the line.
    """
    formats.check_plain(line, key)
    if b"\0" in line:
        raise ZeroBytesError
    text = line.decode("utf-8-sig", errors="replace").strip("\r\n")
    if not text:
        raise InvalidInput(f"{key} begins with an empty line; its first line must name the columns.")
    if "\r" in text:
        raise InvalidInput(f"The lines of {key} end with a carriage return alone; convert the line ends to line feeds.")
    if len(line) > MAX_LINE_BYTES:
        raise InvalidInput(
            f"{key} begins with a line of more than {MAX_LINE_BYTES:,} bytes; its first line must name the columns."
        )
    fields = [name.strip() for name in next(csv.reader([text]))]
    names = _spelled(fields)
    missing = [name for name, _ in schemas.FLIGHT_COLUMNS if name not in names]
    doubled = sorted({name for name in names if names.count(name) > 1 and name in _TYPES})
    if len(missing) == len(_TYPES) and (separator := _other_separator(text)):
        raise InvalidInput(f"{key} separates its columns by {separator}; save it with commas as separators.")
    if "FLIGHTDATE" in text.upper() and missing:
        raise InvalidInput(
            f"{key} has the columns of the Bureau's own files; use "
            "`python -m utils fetch --year YEAR --source bts --from FOLDER`."
        )
    if missing:
        fault = f"lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
    else:
        fault = f"has {', '.join(doubled)} twice"
    if missing or doubled:
        # A line without column names belongs to another file (perhaps through a link), so it may contain a secret.
        is_header = any(name in text.upper() for name in _TYPES)
        raise InvalidInput(
            f"{key} {fault}; its first line must name the 27 columns of the Kaggle dataset separated by commas, "
            f"but it {f'is: {text[:200]!r}' if is_header else 'names none of them'}."
        )
    ignored = tuple(printable(name) for name in names if name and name not in _TYPES and name != schemas.EMPTY_COLUMN)
    return Header(names, ignored, line)


def _other_separator(header: str) -> str:
    """Return the name of the separator that splits the line into known columns; empty if none does."""
    separators = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
    return next((name for sign, name in separators.items() if set(_spelled(header.split(sign))) & set(_TYPES)), "")


def _spelled(names: Sequence[str]) -> tuple[str, ...]:
    """Return the stripped names of a header line, known columns in upper case."""
    stripped = (name.strip() for name in names)
    return tuple(name.upper() if name.upper() in _TYPES else name for name in stripped)


def refine(block: bytes, header: Header, year: int, *, joins_lines: bool = False) -> TypedBlock:
    """Type the rows of `block` (whole lines of a bronze file without its header) and reject unusable rows.

    If every row is valid, as in nearly every block, Arrow parses the block once. Otherwise `_refine_with_care` parses
    it again: it accepts exactly the same rows, gives a reason for each rejected row and counts unreadable values.
    joins_lines: quoted fields may contain line breaks; if False, they raise SplitRecord. A block with a zero
    byte raises ZeroBytesError.
    """
    if b"\0" in block:
        raise ZeroBytesError
    if b"\r" in block and b"\r\r\n" in block:  # a file with CRLF was saved in text mode on Windows
        block = _RETURNS.sub(b"\r\n", block)
    if b'"' in block and any(count % 2 for count in _quotes_per_line(block)):
        if not joins_lines:
            raise SplitRecord
        return _refine_with_care(block, header, year)
    line_ends = _line_ends(block)
    if 0 in line_ends[:-1] or (b"\r" in block and block.count(b"\r") != block.count(b"\r\n")):
        return _refine_with_care(block, header, year)
    table = _parse_or_none(block, header, _READ_TYPES)
    if table is None:
        table = _parse_or_none(block, header, _WORD_TYPES)
    flights = None if table is None else _typed(table, year)
    if flights is None:
        return _refine_with_care(block, header, year)
    lines = rows = sum(line_ends) + _has_open_line(block)
    if rows != flights.num_rows:
        rows -= sum(line in (b"", b"\r") for line in block.removesuffix(b"\n").split(b"\n"))
    if rows != flights.num_rows:
        return _refine_with_care(block, header, year)
    return TypedBlock(_with_recomputed_delay(flights), [], rows, lines, {})


def _line_ends(block: bytes) -> list[int]:
    """Return the number of line ends in each _STEP_BYTES of the block; 4 times as fast as bytes.count."""
    text, step = np.frombuffer(block, np.uint8), _STEP_BYTES
    return [int(np.count_nonzero(text[at : at + step] == ord("\n"))) for at in range(0, len(text), step)]


def _has_open_line(block: bytes) -> bool:
    return bool(block) and not block.endswith(b"\n")


def _parse_or_none(block: bytes, header: Header, types: dict[str, pa.DataType]) -> pa.Table | None:
    try:
        return _parse(block, header, types)
    except pa.ArrowInvalid:
        return None


def _parse(
    block: bytes,
    header: Header,
    types: dict[str, pa.DataType],
    on_invalid: Callable[[pa_csv.InvalidRow], str] | None = None,
    *,
    newlines: bool = False,
) -> pa.Table:
    # Arrow drops a BOM at the start of its input. Double it, so that a row is read alike wherever the file is cut.
    if block.startswith(codecs.BOM_UTF8):
        block = codecs.BOM_UTF8 + block
    names = [name if name in types else f"{name} {place}" for place, name in enumerate(header.names)]
    return pa_csv.read_csv(
        pa.BufferReader(block),
        read_options=pa_csv.ReadOptions(column_names=names, use_threads=False, block_size=_PARSE_BYTES),
        parse_options=pa_csv.ParseOptions(newlines_in_values=newlines, invalid_row_handler=on_invalid),
        convert_options=pa_csv.ConvertOptions(
            column_types=types,
            include_columns=list(types),
            strings_can_be_null=True,
            null_values=[""] if types is _RAW_TYPES else _NULLS,
        ),
    ).combine_chunks()


def _typed(table: pa.Table, year: int) -> pa.Table | None:
    """Convert parsed columns (words and floats) to schemas.SILVER; return None if a value is invalid."""
    typed = []
    for name, kind in schemas.FLIGHT_COLUMNS:
        rule, column = COLUMN_RULES[name], columns.as_array(table[name])
        if rule.is_required and column.null_count:
            return None
        values: pa.Array | None = column
        if rule.form.read and pa.types.is_dictionary(column.type):
            values = _typed_words(column, rule.form.read, kind)
        elif column.type != kind:
            values = _typed_numbers(column, rule.form, kind)
        if values is None:
            return None
        typed.append(values)
    flights = pa.table(typed, schema=schemas.SILVER)
    first, last = _days_of(year)
    days = columns.to_numpy(columns.as_array(flights["fl_date"]))
    if len(days) and (days.min() < first or days.max() > last):
        return None
    return flights


def _days_of(year: int) -> tuple[int, int]:
    """Return the first and the last day of the year, as days since 1970."""
    return (date(year, 1, 1) - date(1970, 1, 1)).days, (date(year, 12, 31) - date(1970, 1, 1)).days


def _typed_words(column: pa.DictionaryArray, read: rules.Reader, kind: pa.DataType) -> pa.Array | None:
    """Convert a column of words; return None if a word is unreadable."""
    words = column.dictionary.to_pylist()
    values = [rules.read_word(read, word) for word in words]
    if UNREADABLE in values:
        return None
    if values == words:
        return column
    return _by_word(values, columns.to_numpy(column, fill=len(words)), kind)


def _by_word(values: Sequence[object], codes: np.ndarray, kind: pa.DataType) -> pa.Array:
    """Return values[code] per code as a column of type `kind`; null for None and for code len(values)."""
    has_value = np.array([value is not None for value in values] + [False])
    null = None if has_value[:-1].all() and codes.max(initial=0) < len(values) else ~has_value[codes]
    if kind != schemas.CODE:
        numbers = np.array([value or 0 for value in values] + [0])
        return columns.from_numpy(numbers[codes], kind, null)
    texts = list(dict.fromkeys(str(value) for value in values if value is not None))
    place = {text: number for number, text in enumerate(texts)}
    numbers = np.array([place.get(str(value), 0) for value in values] + [0], np.int32)
    indices = columns.from_numpy(numbers[codes], pa.int32(), null)
    return pa.DictionaryArray.from_arrays(indices, columns.from_strings(texts))


def _typed_numbers(column: pa.Array, form: rules.Form, kind: pa.DataType) -> pa.Array | None:
    """Convert a column of floats to `kind`. Return None if a value is not whole, out of range or no valid time."""
    try:
        numbers = column.cast(pa.int16() if kind == pa.bool_() else kind)
    except pa.ArrowInvalid:
        return None
    if form.lowest is None or form.highest is None or not len(numbers):
        return numbers
    # Arrow stores 0 for null. If that changes, the range check fails and `_refine_with_care` decides.
    raw = np.frombuffer(numbers.buffers()[1], np.int16)[numbers.offset : numbers.offset + len(numbers)]
    if form is rules.TIME:
        return numbers if _IS_TIME.take(raw.view(np.uint16)).all() else None
    if raw.min() < form.lowest or raw.max() > form.highest:
        return None
    return numbers.cast(kind)


def _with_recomputed_delay(flights: pa.Table, doubtful: np.ndarray | None = None) -> pa.Table:
    """Fill null dep_delay of flights that were not cancelled from the two HHMM times, also across midnight.

    The dataset has no delay for some on-time flights. The difference is mapped to -6 to 18 hours; longer delays always
    have a value in the data. Delays of `doubtful` rows stay null.
    """
    delay = columns.as_array(flights["dep_delay"])
    if not delay.null_count:
        return flights
    planned, actual = columns.as_array(flights["crs_dep_time"]), columns.as_array(flights["dep_time"])
    unknown = ~columns.is_valid(delay)
    is_cancelled = columns.to_numpy(columns.as_array(flights["cancelled"]))
    fill = unknown & columns.is_valid(planned) & columns.is_valid(actual) & ~is_cancelled
    if doubtful is not None:
        fill &= ~doubtful
    if not fill.any():
        return flights
    rows = np.flatnonzero(fill)
    planned_min, actual_min = (
        hhmm // 100 * 60 + hhmm % 100 for hhmm in (columns.to_numpy(planned)[rows], columns.to_numpy(actual)[rows])
    )
    filled = columns.to_numpy(delay).copy()
    filled[rows] = (actual_min - planned_min + 360) % 1440 - 360
    place = flights.schema.get_field_index("dep_delay")
    recomputed = columns.from_numpy(filled, pa.int16(), unknown & ~fill)
    return flights.set_column(place, flights.schema.field(place), recomputed)


# --- blocks with invalid rows ---------------------------------------------------------------------------------------


def _quotes_per_line(block: bytes) -> np.ndarray:
    text = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(text == ord("\n"))
    return np.bincount(np.searchsorted(ends, np.flatnonzero(text == ord('"'))), minlength=1)


def _fields_in(record: bytes) -> int:
    """Return the number of fields; 0 if a line break is outside quotes, so `record` is not one record."""
    rows = list(csv.reader(io.StringIO(record.decode("latin-1"), newline="")))
    return len(rows[0]) if len(rows) == 1 else 0


def records(block: bytes, fields: int, *, is_last: bool = True) -> tuple[list[tuple[int, bytes, bool]], int]:
    """Split `block` into (first line, record, are quotes closed), without empty lines; also return the bytes consumed.

    A line with an odd number of quotes is joined with up to MAX_RECORD_LINES lines until the result is a record of
    `fields` fields. If no join succeeds, the line is one record with an unclosed quote. Unless the block `is_last` in
    its file, splitting stops before a record that lines after the block could complete.
    """
    lines = block.split(b"\n")
    if not lines[-1]:
        lines.pop()
    odd = set(np.flatnonzero(_quotes_per_line(block) % 2).tolist()) if b'"' in block else set()
    split: list[tuple[int, bytes, bool]] = []
    at = 0
    while at < len(lines):
        text, step, closes = lines[at], 1, True
        if at in odd:
            closes = False
            for stop in range(at + 2, min(at + MAX_RECORD_LINES, len(lines)) + 1):
                joined = b"\n".join(lines[at:stop])
                if len(joined) > MAX_LINE_BYTES:
                    break
                if not joined.count(b'"') % 2 and _fields_in(joined.removesuffix(b"\r")) == fields:
                    text, step, closes = joined, stop - at, True
                    break
            if not closes and not is_last and at + MAX_RECORD_LINES > len(lines):
                return split, sum(len(line) + 1 for line in lines[:at])
        if text.removesuffix(b"\r"):
            split.append((at, text, closes))
        at += step
    return split, len(block)


def _refine_with_care(block: bytes, header: Header, year: int) -> TypedBlock:
    split, _ = records(block, len(header.names))
    rejected, parsed, table = _parse_with_care(block, split, header)
    fields = {name: _read_field(name, columns.as_array(table[name])) for name in _TYPES}
    unread = _unread(fields)
    faults = _faults(fields, unread, year)
    for row, (reason, column, value, expected) in faults.items():
        line, record, _ = split[parsed[row]]
        rejected[parsed[row]] = Rejected(line, reason, _as_text(record), column, value, expected)

    kept = np.array([row for row in range(len(parsed)) if row not in faults], np.int64)
    flights = pa.table([field.take(kept) for field in fields.values()], schema=schemas.SILVER)
    planned, actual = fields["CRS_DEP_TIME"], fields["DEP_TIME"]
    doubtful = unread["DEP_TIME"] | planned.is_next_day[planned.codes] | actual.is_next_day[actual.codes]
    flights = _with_recomputed_delay(flights, doubtful[kept])

    tallies = {}
    for name, rows in {**unread, EMPTY_DELAY: _is_left_empty(fields, doubtful)}.items():
        counted = kept[rows[kept]].tolist()
        if counted:
            value = _doubtful_time(fields, counted[0]) if name == EMPTY_DELAY else fields[name].shown(counted[0])
            tallies[name] = Tally(len(counted), split[parsed[counted[0]]][0], value)
    lines = sum(_line_ends(block)) + _has_open_line(block)
    return TypedBlock(flights, [rejected[place] for place in sorted(rejected)], len(split), lines, tallies)


def _parse_with_care(
    block: bytes, split: list[tuple[int, bytes, bool]], header: Header
) -> tuple[dict[int, Rejected], list[int], pa.Table]:
    """Return the unparsable records by index in `split`, the indices of the other records, and their raw fields."""
    rejected = _unparsable(block, split, header)
    places = [place for place in range(len(split)) if place not in rejected]

    def skip(row: pa_csv.InvalidRow) -> str:
        place = places[row.number - 1]
        rejected[place] = _wrong_count(split[place], row.actual_columns, row.expected_columns)
        return "skip"

    text = b"".join(split[place][1] + b"\n" for place in places)
    if not text:
        return rejected, [], pa.schema(list(_RAW_TYPES.items())).empty_table()
    table = _parse(text, header, _RAW_TYPES, skip, newlines=True)
    return rejected, [place for place in places if place not in rejected], table


def _is_left_empty(fields: Mapping[str, _Field], doubtful: np.ndarray) -> np.ndarray:
    """Return a mask of the flights whose missing delay was not computed because a time is doubtful."""
    has_times = ~(fields["DEP_TIME"].is_empty_in_rows() | fields["CRS_DEP_TIME"].is_empty_in_rows())
    is_left: np.ndarray = doubtful & has_times & fields["DEP_DELAY"].is_empty_in_rows() & ~_is_cancelled(fields)
    return is_left


def _doubtful_time(fields: Mapping[str, _Field], row: int) -> str:
    """Return the column name and the text of the doubtful time."""
    planned = fields["CRS_DEP_TIME"]
    name = "CRS_DEP_TIME" if planned.is_next_day[planned.codes[row]] else "DEP_TIME"
    return f"{name} {fields[name].shown(row)}"


def _as_text(record: bytes) -> str:
    return record[:MAX_LINE_BYTES].removesuffix(b"\r").decode("utf-8", errors="backslashreplace")


def _unparsable(block: bytes, split: list[tuple[int, bytes, bool]], header: Header) -> dict[int, Rejected]:
    """Return the records that Arrow cannot parse and repeated headers, by index in `split`."""
    rejected: dict[int, Rejected] = {}
    is_utf8, has_return, has_underscore = _is_utf8(block), b"\r" in block, b"_" in block
    for place, (line, record, closes) in enumerate(split):
        if has_return and closes and _BARE_RETURN.search(record):
            rejected[place] = Rejected(line, BARE_RETURN, _as_text(record))
        elif len(record) > MAX_LINE_BYTES:
            rejected[place] = Rejected(line, TOO_LONG, _as_text(record))
        elif not closes:
            rejected[place] = Rejected(line, OPEN_QUOTE, _as_text(record))
        elif has_underscore and b"_" in record and (names := _names_in(record)):
            reason, difference = _second_header(names, header.names)
            rejected[place] = Rejected(line, reason, _as_text(record), value=difference)
        elif not is_utf8 and not _is_utf8(record) and (fields := _fields_in(record)) != len(header.names):
            rejected[place] = _wrong_count(split[place], fields, len(header.names))  # Arrow would raise
    return rejected


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _names_in(record: bytes) -> tuple[str, ...]:
    """Return the column names if the record is a header, else an empty tuple."""
    text = io.StringIO(record.decode("utf-8-sig", errors="replace"), newline="")
    names = _spelled(next(csv.reader(text), []))
    return names if sum(name in _TYPES for name in names) >= MIN_HEADER_NAMES else ()


def _second_header(names: Sequence[str], first: Sequence[str]) -> tuple[str, str]:
    """Return the reason to reject a second header, and its difference from the first header."""
    missing = [name for name in first if name in _TYPES and name not in names]
    end = names[-len(first) :]
    if len(names) == 2 * len(first) - 1 and end[1:] == first[1:] and end[0].endswith(first[0]):
        return JOINED_HEADER, "add a line end before the header"
    if missing:
        return OTHER_HEADER, f"it lacks {', '.join(missing)}"
    if len(names) != len(first):
        return OTHER_HEADER, f"it has {len(names)} columns, line 1 has {len(first)}"
    for place, (name, expected) in enumerate(zip(names, first, strict=True), start=1):
        if name != expected and (name in _TYPES or expected in _TYPES):
            difference = f"its column {place} is {rules.shown(name)}, in line 1 it is {rules.shown(expected)}"
            return OTHER_HEADER, difference
    return REPEATED_HEADER, ""


def _wrong_count(record: tuple[int, bytes, bool], fields: int, expected: int) -> Rejected:
    line, text, _ = record
    difference = f"{fields} field{'s' if fields != 1 else ''} instead of {expected}"
    return Rejected(line, WRONG_COUNT, _as_text(text), value=difference)


def is_incomplete(rejected: Sequence[Rejected]) -> bool:
    """Return True if there are rows and each has missing fields or an unclosed quote."""
    return bool(rejected) and all(row.reason in (OPEN_QUOTE, WRONG_COUNT) for row in rejected)


@dataclass(frozen=True)
class _Field:
    """A dictionary-encoded column of raw text: `codes` is the index of a row's word; the other arrays are per word.

    The arrays per word have one extra last element for rows without text.
    """

    kind: pa.DataType
    words: list[str]
    codes: np.ndarray
    values: Sequence[object]  # None if the word is empty or unreadable
    is_empty: np.ndarray
    is_unread: np.ndarray
    is_next_day: np.ndarray  # times after 2400

    def take(self, rows: np.ndarray) -> pa.Array:
        """Return the values of some rows as a silver column."""
        taken = _by_word(self.values, self.codes[rows], self.kind)
        return taken.dictionary_decode().dictionary_encode() if self.kind == schemas.CODE else taken

    def is_empty_in_rows(self) -> np.ndarray:
        """Return a mask of the rows without a value."""
        is_empty: np.ndarray = self.is_empty[self.codes]
        return is_empty

    def shown(self, row: int) -> str:
        """Return the text of the row, formatted for a message."""
        return rules.shown(self.words[self.codes[row]]) if self.codes[row] < len(self.words) else ""


def _read_field(name: str, column: pa.Array) -> _Field:
    encoded = column.dictionary_encode()
    words = [word.decode("utf-8", errors="backslashreplace") for word in encoded.dictionary.to_pylist()]
    form, kind = COLUMN_RULES[name].form, _TYPES[name]
    is_empty = np.array([rules.is_empty(word) for word in words] + [True])
    is_unread, is_next_day = np.zeros(len(words) + 1, bool), np.zeros(len(words) + 1, bool)
    values: list[object]
    if form.read:
        read = [rules.read_word(form.read, word) for word in words]
        is_unread[:-1] = [value is UNREADABLE for value in read]
        values = [None if value is UNREADABLE else value for value in read]
    else:
        spelled = [form.spellings.get(word.strip(rules.BLANKS).upper(), word) for word in words]
        numbers, is_number = _numbers(spelled, _WORD_TYPES[name])
        limits = np.iinfo(np.int32 if kind == pa.int32() else np.int16)
        lowest = limits.min if form.lowest is None else form.lowest
        highest = limits.max if form.highest is None else form.highest
        is_possible = is_number & (numbers >= lowest) & (numbers <= highest)
        if form is rules.TIME:
            is_possible &= numbers % 100 <= 59
            is_next_day[:-1] = is_possible & (numbers > 2400)
            numbers = np.where(is_next_day[:-1], numbers % 2400, numbers)
        is_unread[:-1] = ~is_possible & ~is_empty[:-1]
        values = [int(number) if ok else None for number, ok in zip(numbers, is_possible, strict=True)]
    return _Field(kind, words, columns.to_numpy(encoded, fill=len(words)), values, is_empty, is_unread, is_next_day)


def _numbers(words: list[str], kind: pa.DataType) -> tuple[np.ndarray, np.ndarray]:
    """Cast words to numbers as the fast path does; return the numbers and a mask of the whole numbers."""
    text = columns.from_strings([word.strip(rules.BLANKS) for word in words])
    readable = _readable(text, kind)
    numbers = np.zeros(len(words))
    numbers[readable] = text.filter(pa.array(readable)).cast(kind).to_numpy()
    with np.errstate(invalid="ignore"):
        is_whole = readable & np.isfinite(numbers) & (numbers == np.floor(numbers))
    return np.where(is_whole, numbers, 0), is_whole


def _readable(column: pa.Array, kind: pa.DataType) -> np.ndarray:
    """Return a mask of the texts that Arrow can cast to `kind`, found by bisection."""
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


def _is_cancelled(fields: Mapping[str, _Field]) -> np.ndarray:
    cancelled = fields["CANCELLED"]
    by_word = np.array([value == 1 for value in [*cancelled.values, None]])
    is_cancelled: np.ndarray = by_word[cancelled.codes]
    return is_cancelled


def _unread(fields: Mapping[str, _Field]) -> dict[str, np.ndarray]:
    """Return by column a mask of the rows whose unreadable value becomes null without rejecting the row."""
    is_cancelled = _is_cancelled(fields)
    unread = {name: field.is_unread[field.codes] for name, field in fields.items() if not COLUMN_RULES[name].rejects}
    unread["CANCELLATION_CODE"] &= is_cancelled  # other flights need no code
    delay = fields["DEP_DELAY"]
    unread["DEP_DELAY"] = delay.is_unread[delay.codes] & is_cancelled  # a cancelled flight needs no delay
    return unread


def _faults(
    fields: Mapping[str, _Field], unread: Mapping[str, np.ndarray], year: int
) -> dict[int, tuple[str, str, str, str]]:
    """Return reason, column, value and expected format by row; the first faulty column of a row counts."""
    faults: dict[int, tuple[str, str, str, str]] = {}

    def blame(name: str, is_bad: np.ndarray, problem: str, expected: str) -> None:
        for row in np.flatnonzero(is_bad).tolist():
            faults.setdefault(row, (f"{name} is {problem}", name, fields[name].shown(row), expected))

    first, last = _days_of(year)
    for name, field in fields.items():
        rule = COLUMN_RULES[name]
        if rule.is_required:
            blame(name, field.is_empty[field.codes], "empty", rule.form.expected)
        if rule.rejects:
            is_bad = field.is_unread[field.codes] & ~unread.get(name, np.False_)
            blame(name, is_bad, f"not {rule.form.noun}", rule.form.expected)
        if rule.form is rules.DATE:
            is_out = np.array([day is not None and not first <= int(str(day)) <= last for day in [*field.values, None]])
            blame(name, is_out[field.codes], f"not in {year}", f"dates must be in {year}")
    return faults


# --- hashes of flights ----------------------------------------------------------------------------------------------

_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def _mixed(values: np.ndarray) -> np.ndarray:
    """Mix the bits of uint64 values with the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * _MIX[1]
    values = (values ^ (values >> np.uint64(27))) * _MIX[2]
    mixed: np.ndarray = values ^ (values >> np.uint64(31))
    return mixed


def _as_uint64(column: pa.Array) -> np.ndarray:
    """Return one uint64 per value, equal in every block; null has its own number."""
    if pa.types.is_dictionary(column.type):
        words = [hashlib.blake2b(word.encode(), digest_size=8).digest() for word in column.dictionary.to_pylist()]
        table = np.frombuffer(b"".join(words) + b"\xff" * 8, np.uint64)
        hashed: np.ndarray = table[columns.to_numpy(column, fill=len(words))]
        return hashed
    number = columns.to_numpy(column).astype(np.int64)
    return np.where(columns.is_valid(column), number, np.iinfo(np.int64).max).view(np.uint64)


def has_key(flights: pa.Table) -> np.ndarray:
    """Return a mask of the flights whose natural key has no null, bool (rows,)."""
    is_complete = np.ones(flights.num_rows, bool)
    for name in schemas.NATURAL_KEY:
        is_complete &= columns.is_valid(columns.as_array(flights[name]))
    return is_complete


def fingerprints(flights: pa.Table, names: Sequence[str] = schemas.NATURAL_KEY, seed: int = 0) -> np.ndarray:
    """Return a hash per flight over the columns `names`, uint64 (rows,), equal for equal rows in any block.

    If a natural key has a null, the hash covers all columns, so that only equal rows share a hash.
    """
    result = np.full(flights.num_rows, seed, np.uint64)
    with np.errstate(over="ignore"):
        for name in names:
            result = _mixed((result + _MIX[0]) ^ _as_uint64(columns.as_array(flights[name])))
        if tuple(names) == schemas.NATURAL_KEY and any(flights[name].null_count for name in names):
            rows = np.flatnonzero(~has_key(flights))
            result[rows] = fingerprints(flights.take(pa.array(rows)), flights.column_names, seed)
    return result
