"""The rules of the 27 columns of a bronze file: which values are valid and how others are handled. Pure.

`silver` parses files; `schemas` holds names and types of the columns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from utils.errors import printable

# A field is empty if it holds only blanks or one of these words in any case; R, SQL and Python export them.
# Real airports and carriers do not have these codes.
EMPTY_WORDS = frozenset({"", "NA", "N/A", "NULL", "NONE", "NAN", r"\N"})
BLANKS = " \t"  # ignored around a value
MAX_WORD_CHARS = 40  # longer words are unreadable; messages cut values to this length
MIN_DELAY_MIN, MAX_DELAY_MIN = -720, 7_200  # the real data has -112 to 2,467; 9999 and -999 mean "unknown"

_EPOCH = date(1970, 1, 1).toordinal()
_MIDNIGHT = r"(?:[ T]0?0:00(?::00(?:\.0+)?)?| 12:00(?::00)? AM)?"
_DATES = [
    re.compile(form + _MIDNIGHT, re.ASCII | re.IGNORECASE)
    for form in (
        r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)",  # Kaggle, pandas
        r"(?P<month>\d{1,2})/(?P<day>\d{1,2})/(?P<year>\d{4})",  # the Bureau's download form, Excel
        r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)",
    )
]
_AIRPORT = re.compile(r"[A-Z0-9]{3,4}")
# The Bureau writes 9E, or PA (1) if another carrier got the code later. Pages, CSV downloads and messages show codes,
# so the pattern excludes spreadsheet formulas, HTML tags and long text.
_CARRIER = re.compile(r"[A-Z0-9][A-Z0-9 ()]{0,15}")
_FLAGS = {"TRUE": "1", "T": "1", "FALSE": "0", "F": "0"}
_CAUSES = {
    "A": "A", "CARRIER": "A", "AIR CARRIER": "A",
    "B": "B", "WEATHER": "B", "EXTREME WEATHER": "B",
    "C": "C", "NAS": "C", "NATIONAL AIR SYSTEM": "C", "NATIONAL AVIATION SYSTEM": "C",
    "D": "D", "SECURITY": "D",
}  # fmt: skip


class _Unreadable:
    """The type of UNREADABLE."""


UNREADABLE = _Unreadable()
Value = int | str
Reader = Callable[[str], Value | None]  # takes a stripped upper-case word; returns None if it is unreadable


def _read_date(word: str) -> int | None:
    """Return days since 1970."""
    for pattern in _DATES:
        if match := pattern.fullmatch(word):
            try:
                return date(int(match["year"]), int(match["month"]), int(match["day"])).toordinal() - _EPOCH
            except ValueError:  # for example 30 February, or the day before the month
                return None
    return None


def _read_airport(word: str) -> str | None:
    return word if _AIRPORT.fullmatch(word) else None


def _read_carrier(word: str) -> str | None:
    return word if _CARRIER.fullmatch(word) else None


class Form(NamedTuple):
    """The format of a column's values: `read` parses words; without it the values are whole numbers."""

    noun: str  # completes the reason "DEP_TIME is not ..."
    expected: str  # completes the message "DEP_TIME is '9:05' in line 2; ..."
    read: Reader | None = None
    lowest: int | None = None  # None: the limit of the column's type
    highest: int | None = None
    spellings: Mapping[str, str] = MappingProxyType({})  # upper-case words that stand for numbers


DATE = Form("a date", "dates must look like 2018-01-31, or 1/31/2018 with the month first", _read_date)
AIRPORT = Form("an airport code", "airport codes must look like JFK", _read_airport)
CARRIER = Form("a carrier code", "carrier codes must look like UA", _read_carrier)
FLAG = Form("0 or 1", "the value must be 0 or 1", lowest=0, highest=1, spellings=_FLAGS)
CAUSE = Form("a cancellation code", "cancellation codes must be A, B, C or D", _CAUSES.get)
NUMBER = Form("a whole number", "the value must be a whole number such as 12 or 12.0")
TIME = Form("a time of day", "times must look like 905 or 2359, without a colon", lowest=0, highest=4759)
DELAY = Form(
    "a possible delay",
    f"delays must be whole minutes from {MIN_DELAY_MIN:,} to {MAX_DELAY_MIN:,}",
    lowest=MIN_DELAY_MIN,
    highest=MAX_DELAY_MIN,
)
CAUSE_MINUTES = Form(
    "a possible delay",
    f"minutes by cause must be whole minutes from 0 to {MAX_DELAY_MIN:,}",
    lowest=0,
    highest=MAX_DELAY_MIN,
)


class Rule(NamedTuple):
    """How a column is read: an unreadable value rejects its row, or becomes null and is counted."""

    form: Form
    is_required: bool = False  # an empty value rejects the row
    rejects: bool = True  # False: an unreadable value becomes null


# An unreadable value rejects the row if figures or the natural key use the column. CANCELLATION_CODE is the exception:
# rejecting would delete cancellations, so `ingest` stops if too many cancelled flights have an unknown code.
# Times after 2400 mean the next day and are stored modulo 24 hours; no delay is computed from them.
COLUMN_RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "FL_DATE": Rule(DATE, is_required=True),
        "OP_CARRIER": Rule(CARRIER),
        "OP_CARRIER_FL_NUM": Rule(NUMBER),
        "ORIGIN": Rule(AIRPORT, is_required=True),
        "DEST": Rule(AIRPORT),
        "CRS_DEP_TIME": Rule(TIME),
        "DEP_TIME": Rule(TIME, rejects=False),  # used only to fill a missing DEP_DELAY
        "DEP_DELAY": Rule(DELAY),  # null if unreadable in a cancelled flight, where it is unused
        "TAXI_OUT": Rule(NUMBER, rejects=False),
        "WHEELS_OFF": Rule(TIME, rejects=False),
        "WHEELS_ON": Rule(TIME, rejects=False),
        "TAXI_IN": Rule(NUMBER, rejects=False),
        "CRS_ARR_TIME": Rule(TIME, rejects=False),
        "ARR_TIME": Rule(TIME, rejects=False),
        "ARR_DELAY": Rule(NUMBER, rejects=False),
        "CANCELLED": Rule(FLAG, is_required=True),
        "CANCELLATION_CODE": Rule(CAUSE, rejects=False),  # counted for cancelled flights, ignored for others
        "DIVERTED": Rule(FLAG),
        "CRS_ELAPSED_TIME": Rule(NUMBER, rejects=False),
        "ACTUAL_ELAPSED_TIME": Rule(NUMBER, rejects=False),
        "AIR_TIME": Rule(NUMBER, rejects=False),
        "DISTANCE": Rule(NUMBER, rejects=False),
        "CARRIER_DELAY": Rule(CAUSE_MINUTES),
        "WEATHER_DELAY": Rule(CAUSE_MINUTES),
        "NAS_DELAY": Rule(CAUSE_MINUTES),
        "SECURITY_DELAY": Rule(CAUSE_MINUTES),
        "LATE_AIRCRAFT_DELAY": Rule(CAUSE_MINUTES),
    }
)


def is_empty(word: str) -> bool:
    """Return True if the text of a field means "no value"."""
    return word.strip(BLANKS).upper() in EMPTY_WORDS


def read_word(read: Reader, word: str) -> Value | _Unreadable | None:
    """Return the value of a field, None if it is empty, UNREADABLE if `read` cannot parse it."""
    word = word.strip(BLANKS)
    if len(word) > MAX_WORD_CHARS or not word.isascii():
        return UNREADABLE
    return _read_short_word(read, word)


@lru_cache(1 << 14)
def _read_short_word(read: Reader, word: str) -> Value | _Unreadable | None:
    if is_empty(word):
        return None
    value = read(word.upper())
    return UNREADABLE if value is None else value


def shown(value: str) -> str:
    """Return the value for a message: quoted, cut to MAX_WORD_CHARS, control characters escaped."""
    text = printable(value[: MAX_WORD_CHARS + 1].replace("\n", "\\n").replace("\t", "\\t"))
    return f"'{text[:MAX_WORD_CHARS]}{'...' if len(text) > MAX_WORD_CHARS else ''}'"
