"""Feedback in the warehouse: people's opinions on airport-days, and how often they confirm each detector.

Runs never write this table. It has no foreign key to airport_days, so feedback survives when an upsert deletes a day
and a later one inserts it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from difflib import SequenceMatcher

import pandas as pd
import psycopg2.extensions
import pyarrow as pa
from psycopg2.sql import SQL, Composed, Identifier

from utils import schemas
from utils.errors import InvalidInput, Missing, printable
from utils.reporting import wording
from utils.warehouse.connection import Postgres
from utils.warehouse.frames import read_frame
from utils.warehouse.tables import SCHEMA, TABLES, Table, names
from utils.warehouse.view import VIEW

FEEDBACK, AIRPORT_DAYS = TABLES["feedback"], TABLES["airport_days"]
# FEEDBACK with the published verdict on the day; verdict and severity are null if the day was not judged.
JUDGED_FEEDBACK = pa.schema(
    [
        *schemas.FEEDBACK,
        pa.field("has_airport_day", pa.bool_(), nullable=False),  # airport_days has the day
        pa.field("verdict", pa.string()),  # as in the view
        pa.field("severity", pa.int16()),
    ]
)
# The view in models.py, which describes its columns.
DETECTOR_FEEDBACK = Table(
    "detector_feedback",
    pa.schema(
        [
            pa.field("year", pa.int16()),
            pa.field("detector", pa.string()),
            pa.field("right_flags", pa.int64()),
            pa.field("wrong_flags", pa.int64()),
            pa.field("expected_flags", pa.int64()),
            pa.field("right_missed", pa.int64()),
            pa.field("precision_by_feedback", pa.float32()),
        ]
    ),
    ("year", "detector"),
    "year",
)
MIN_SIMILARITY = 0.6  # SequenceMatcher.ratio; two three-letter codes with two common letters in order have 0.67
MAX_SUGGESTIONS = 5

GIVE = """
    INSERT INTO {feedback} AS t (origin, fl_date, opinion, note, author, given_at)
    VALUES (%(origin)s, %(fl_date)s, %(opinion)s, %(note)s, %(author)s, transaction_timestamp())
    ON CONFLICT (origin, fl_date) DO UPDATE
    SET opinion = excluded.opinion, note = excluded.note, author = excluded.author, given_at = excluded.given_at
    WHERE (t.opinion, t.note, t.author) IS DISTINCT FROM (excluded.opinion, excluded.note, excluded.author)
"""
WITHDRAW = "DELETE FROM {feedback} WHERE origin = %(origin)s AND fl_date = %(fl_date)s"
DAYS_OF_AIRPORT = """
    SELECT bool_or(fl_date = %(fl_date)s), min(fl_date), max(fl_date),
           array_agg(DISTINCT extract(year FROM fl_date)::integer)
    FROM {airport_days} WHERE origin = %(origin)s HAVING count(*) > 0
"""
AIRPORTS = "SELECT DISTINCT origin FROM {airport_days}"
# The verdict comes from the view, so that the list of feedback and the dashboards agree.
JUDGED = """
    SELECT {columns}, v.id IS NOT NULL, v.verdict, v.severity
    FROM {feedback} AS t LEFT JOIN {view} AS v ON v.origin = t.origin AND v.fl_date = t.fl_date
    WHERE {year} ORDER BY t.fl_date, t.origin
"""


def give(server: Postgres, origin: str, fl_date: date, opinion: str, note: str, author: str) -> bool:
    """Insert or replace feedback; see `DBHandler.give_feedback`."""
    given = {"origin": origin, "fl_date": fl_date, "opinion": opinion, "note": note.strip(), "author": author.strip()}
    if opinion not in schemas.OPINIONS:
        raise InvalidInput(f"The opinion {opinion!r} is unknown; choose {wording.listed(schemas.OPINIONS, 'or')}.")
    if not given["author"]:
        raise InvalidInput("The author of the feedback is empty; enter a name.")
    for name, text in (("airport", origin), ("note", note), ("author", author)):
        if text != printable(text):
            raise InvalidInput(f"The {name} {printable(text)} contains a control character; remove it.")
    with server.transaction(f"giving feedback on {origin} {fl_date}") as cursor:
        _check_day(server, cursor, origin, fl_date)
        cursor.execute(_on_tables(GIVE), given)
        return bool(cursor.rowcount)


def withdraw(server: Postgres, origin: str, fl_date: date) -> bool:
    """Delete feedback; see `DBHandler.withdraw_feedback`."""
    with server.transaction(f"withdrawing feedback on {origin} {fl_date}") as cursor:
        cursor.execute(_on_tables(WITHDRAW), {"origin": origin, "fl_date": fl_date})
        return bool(cursor.rowcount)


def judged(server: Postgres, year: int | None) -> pd.DataFrame:
    """Read feedback with verdicts; see `DBHandler.judged_feedback`."""
    query = SQL(JUDGED).format(
        columns=names(FEEDBACK.schema.names, "t"),
        feedback=FEEDBACK.identifier,
        view=Identifier(SCHEMA, VIEW),
        year=SQL("true") if year is None else FEEDBACK.in_year(year),
    )
    return read_frame(server, "reading the feedback", JUDGED_FEEDBACK, query)


def _on_tables(text: str) -> Composed:
    return SQL(text).format(feedback=FEEDBACK.identifier, airport_days=AIRPORT_DAYS.identifier)


def _check_day(server: Postgres, cursor: psycopg2.extensions.cursor, origin: str, fl_date: date) -> None:
    """Raise Missing, with alternatives, if airport_days does not have the day."""
    cursor.execute(_on_tables(DAYS_OF_AIRPORT), {"origin": origin, "fl_date": fl_date})
    is_known, first, last, years = cursor.fetchone() or (False, None, None, [])
    if is_known:
        return
    if first is None:
        cursor.execute(_on_tables(AIRPORTS))
        raise Missing(_no_airport(server.place, origin, [name for (name,) in cursor.fetchall()]))
    gap = f", in {wording.listed(years)} only" if first < fl_date < last else ""
    raise Missing(f"The {server.place} has no day {fl_date} for {origin}; choose a day from {first} to {last}{gap}.")


def _no_airport(place: str, origin: str, airports: Sequence[str]) -> str:
    """Return the message for an unknown airport: codes with a similar spelling, or else the range of codes."""
    if not airports:
        return f"The {place} has no airport-days yet; run a year first."
    requested = origin.strip().upper()

    def unlikeness(name: str) -> tuple[bool, float, str]:
        """Sort swapped letters, the most common typo, before a wrong letter."""
        return sorted(name) != sorted(requested), -SequenceMatcher(None, requested, name).ratio(), name

    similar = (name for name in airports if SequenceMatcher(None, requested, name).ratio() >= MIN_SIMILARITY)
    close = sorted(similar, key=unlikeness)
    if close:
        return f"The {place} has no airport {origin}; did you mean {wording.listed(close[:MAX_SUGGESTIONS], 'or')}?"
    return (
        f"The {place} has no airport {origin}; choose one of its {len(airports)} airports, {min(airports)} to "
        f"{max(airports)}."
    )
