"""Feedback in the warehouse: what a person says of an airport-day, and how often detectors were right by that.

It is the one table that no run writes. An upsert of a year leaves it alone, and it has no foreign key to airport_days:
a day that goes and comes back finds its feedback again.
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
from utils.warehouse.frames import frame_of
from utils.warehouse.tables import SCHEMA, TABLES, Table, names
from utils.warehouse.view import VIEW

FEEDBACK, AIRPORT_DAYS = TABLES["feedback"], TABLES["airport_days"]
# FEEDBACK beside what the published detector says of the day; all three null where it has said nothing.
JUDGED_FEEDBACK = pa.schema(
    [
        *schemas.FEEDBACK,
        pa.field("is_there", pa.bool_(), nullable=False),  # whether airport_days has the day
        pa.field("verdict", pa.string()),  # as in the view
        pa.field("severity", pa.int16()),
    ]
)
# The view of models.py, where its columns are explained.
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
CLOSE = 0.6  # codes of three letters that share two of them in their order have a ratio of 0.67
NAMED = 5  # airports in one sentence

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
# The verdict is the view's, so that a list of feedback and a dashboard cannot differ.
JUDGED = """
    SELECT {columns}, v.id IS NOT NULL, v.verdict, v.severity
    FROM {feedback} AS t LEFT JOIN {view} AS v ON v.origin = t.origin AND v.fl_date = t.fl_date
    WHERE {year} ORDER BY t.fl_date, t.origin
"""


def give(server: Postgres, origin: str, fl_date: date, opinion: str, note: str, author: str) -> bool:
    """What `DBHandler.give_feedback` does."""
    given = {"origin": origin, "fl_date": fl_date, "opinion": opinion, "note": note.strip(), "author": author.strip()}
    if opinion not in schemas.OPINIONS:
        raise InvalidInput(f"There is no opinion {opinion!r}; choose {wording.listed(schemas.OPINIONS, 'or')}.")
    if not given["author"]:
        raise InvalidInput("Feedback needs an author; say who gives it.")
    if (text := f"{origin}{note}{author}") != printable(text):
        raise InvalidInput(
            "Airport, note and author of feedback may hold no null byte and no other control character; write them "
            "without."
        )
    with server.transaction(f"giving feedback on {origin} {fl_date}") as cursor:
        _check_day(server, cursor, origin, fl_date)
        cursor.execute(_on_tables(GIVE), given)
        return bool(cursor.rowcount)


def withdraw(server: Postgres, origin: str, fl_date: date) -> bool:
    """What `DBHandler.withdraw_feedback` does."""
    with server.transaction(f"withdrawing feedback on {origin} {fl_date}") as cursor:
        cursor.execute(_on_tables(WITHDRAW), {"origin": origin, "fl_date": fl_date})
        return bool(cursor.rowcount)


def judged(server: Postgres, year: int | None) -> pd.DataFrame:
    """What `DBHandler.judged_feedback` does."""
    query = SQL(JUDGED).format(
        columns=names(FEEDBACK.schema.names, "t"),
        feedback=FEEDBACK.identifier,
        view=Identifier(SCHEMA, VIEW),
        year=SQL("true") if year is None else FEEDBACK.in_year(year),
    )
    return frame_of(server, "reading the feedback", JUDGED_FEEDBACK, query)


def _on_tables(text: str) -> Composed:
    return SQL(text).format(feedback=FEEDBACK.identifier, airport_days=AIRPORT_DAYS.identifier)


def _check_day(server: Postgres, cursor: psycopg2.extensions.cursor, origin: str, fl_date: date) -> None:
    """Raise Missing with what there is instead when airport_days has no such day."""
    cursor.execute(_on_tables(DAYS_OF_AIRPORT), {"origin": origin, "fl_date": fl_date})
    is_there, first, last, years = cursor.fetchone() or (False, None, None, [])
    if is_there:
        return
    if first is None:
        cursor.execute(_on_tables(AIRPORTS))
        raise Missing(_no_airport(server.place, origin, [name for (name,) in cursor.fetchall()]))
    gap = f", in {wording.listed(years)} only" if first < fl_date < last else ""
    raise Missing(
        f"The {server.place} has no {fl_date} of {origin}; its days of {origin} are from {first} to {last}{gap}, so "
        "choose one of them."
    )


def _no_airport(place: str, origin: str, there: Sequence[str]) -> str:
    """The sentence for an airport that is not there: those that are close in spelling, else from which to which."""
    if not there:
        return f"The {place} has no airport-days yet; run a year, and give feedback on its days."
    asked = origin.strip().upper()

    def unlikeness(name: str) -> tuple[bool, float, str]:
        """Letters in another order, the commonest slip, come before a wrong letter."""
        return sorted(name) != sorted(asked), -SequenceMatcher(None, asked, name).ratio(), name

    close = sorted((name for name in there if SequenceMatcher(None, asked, name).ratio() >= CLOSE), key=unlikeness)
    if close:
        return f"The {place} has no airport {origin}; did you mean {wording.listed(close[:NAMED], 'or')}?"
    return f"The {place} has no airport {origin}; choose one of its {len(there)}, from {min(there)} to {max(there)}."
