"""Define and publish the wide view for analysts, `agg_dep_delay_by_date`: columns, comments, SQL."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import psycopg2
import psycopg2.extensions
from psycopg2.sql import SQL, Composed, Identifier, Literal

from utils import schemas
from utils.errors import InvalidInput
from utils.warehouse.connection import Postgres, lock_key
from utils.warehouse.tables import SCHEMA, TABLES, names

VIEW = "agg_dep_delay_by_date"

# The published detector's verdict. VERDICT_COMMENTS override the comments that columns have in their tables.
VERDICT_COLUMNS = [name for name in schemas.ANOMALIES.names if name not in {"origin", "fl_date", "params_hash"}]
VERDICT_COMMENTS = {
    "metric": "column of airport_days that the published detector scored",
    "expected": "value of the metric that the published detector expected",
    "is_anomaly": "true if the published detector flags the day; null if it did not score the day",
}
ID_COMMENT = "airport and day as one text, e.g. JFK20090101"
VERDICT_COMMENT = "normal, late, early or closure; insufficient_data or no_flights if the day cannot be scored"
# Reason, event and feedback of the day: (column, SQL source, comment).
CONTEXT_COLUMNS = (
    ("sentence", "_reasons.sentence", "why the day is abnormal, as text; null on other days"),
    ("event_id", "_event_days.event_id", "event_id of the event that contains the day; null if the day is in no event"),
    ("event", "_events.name", "name of the event that contains the day"),
    ("opinion", "_feedback.opinion", "feedback on the day: expected, wrong or right; null without feedback"),
    (
        "is_acknowledged",
        "_feedback.opinion IS NOT DISTINCT FROM 'expected'",
        "true if the feedback is expected: the day is scored, but not used for fitting its airport",
    ),
)
# Each join uses the whole key, so that the planner can skip joins whose columns a query does not use. Detector names
# do not begin with _, so these aliases cannot collide with them.
CONTEXT_JOINS = """
    LEFT JOIN {anomaly_reasons} AS _reasons ON _reasons.origin = d.origin AND _reasons.fl_date = d.fl_date
    LEFT JOIN {event_days} AS _event_days ON _event_days.origin = d.origin AND _event_days.fl_date = d.fl_date
    LEFT JOIN {events} AS _events ON _events.event_id = _event_days.event_id
    LEFT JOIN {feedback} AS _feedback ON _feedback.origin = d.origin AND _feedback.fl_date = d.fl_date
"""


def publish(server: Postgres, detectors: Sequence[str], published: str) -> bool:
    """Create or replace the view; see `DBHandler.publish_view`."""
    for name in detectors:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", name):
            raise InvalidInput(
                f"The detector name {name!r} cannot be a column name; use lower-case letters, digits and _."
            )
    if published not in detectors:
        raise InvalidInput(f"The published detector {published!r} is unknown; choose one of {', '.join(detectors)}.")
    view = Identifier(SCHEMA, VIEW)
    with server.transaction(f"publishing the view {SCHEMA}.{VIEW}") as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key(VIEW)])
        select, column_comments = _select(detectors, published), _column_comments(cursor, detectors, published)
        requested = repr((select.as_string(cursor), column_comments))
        requested_hash = hashlib.sha256(requested.encode()).hexdigest()[:12]
        if _comment(cursor) == _comment_when_published(cursor, detectors, published, requested_hash):
            return False
        cursor.execute("SET LOCAL ROLE flights_owner")
        cursor.execute("SAVEPOINT replacing")
        try:
            cursor.execute(SQL("CREATE OR REPLACE VIEW {} AS {}").format(view, select))
        except psycopg2.errors.InvalidTableDefinition:  # CREATE OR REPLACE cannot remove or move columns
            cursor.execute("ROLLBACK TO SAVEPOINT replacing")
            cursor.execute(SQL("DROP VIEW {}").format(view))
            cursor.execute(SQL("CREATE VIEW {} AS {}").format(view, select))
        comment = _comment_when_published(cursor, detectors, published, requested_hash)
        cursor.execute(SQL("COMMENT ON VIEW {} IS {}").format(view, Literal(comment)))
        for column, text in column_comments:
            target = Identifier(SCHEMA, VIEW, column)
            cursor.execute(SQL("COMMENT ON COLUMN {} IS {}").format(target, Literal(text)))
    return True


def _select(detectors: Sequence[str], published: str) -> Composed:
    flags = SQL(", ").join(
        SQL("{} AS {}").format(Identifier(name, "is_anomaly"), Identifier(f"is_anomaly_{name}")) for name in detectors
    )
    judged = SQL(" ").join(
        SQL(
            "LEFT JOIN {anomalies} AS {a}"
            " ON {a}.origin = d.origin AND {a}.fl_date = d.fl_date AND {a}.detector = {name}"
        ).format(anomalies=TABLES["anomalies"].identifier, a=Identifier(name), name=Literal(name))
        for name in detectors
    )
    context = SQL(", ").join(SQL(f"{source} AS {{}}").format(Identifier(name)) for name, source, _ in CONTEXT_COLUMNS)
    return SQL(
        "SELECT d.origin || to_char(d.fl_date::timestamp, 'YYYYMMDD') AS id, {days}, {verdict},"
        " CASE WHEN {p}.is_anomaly THEN {p}.direction WHEN {p}.status = 'ok' THEN 'normal' ELSE {p}.status END"
        " AS verdict, {context}, {flags} FROM {airport_days} AS d {judged} {context_joins}"
    ).format(
        days=names(schemas.AIRPORT_DAYS.names, "d"),
        verdict=names(VERDICT_COLUMNS, published),
        p=Identifier(published),
        context=context,
        flags=flags,
        airport_days=TABLES["airport_days"].identifier,
        judged=judged,
        context_joins=SQL(CONTEXT_JOINS).format(**{name: table.identifier for name, table in TABLES.items()}),
    )


def _comment(cursor: psycopg2.extensions.cursor) -> str | None:
    cursor.execute("SELECT obj_description(to_regclass(%s), 'pg_class')", [f"{SCHEMA}.{VIEW}"])
    comment: str | None
    (comment,) = cursor.fetchone() or (None,)
    return comment


def _comment_when_published(
    cursor: psycopg2.extensions.cursor, detectors: Sequence[str], published: str, requested_hash: str
) -> str:
    """Return the comment of an up-to-date view.

    It ends with a hash of the requested definition and comments, and a hash of the definition in the database, so that
    manual changes are detected too.
    """
    cursor.execute("SELECT left(md5(pg_get_viewdef(to_regclass(%s))), 12)", [f"{SCHEMA}.{VIEW}"])
    (in_database,) = cursor.fetchone() or (None,)
    return (
        f"One row per airport and day, with the verdict of {published}, its reason, event and feedback, and one flag "
        f"per detector ({', '.join(detectors)}). Definition {requested_hash} {in_database}"
    )


def _column_comments(
    cursor: psycopg2.extensions.cursor, detectors: Sequence[str], published: str
) -> list[tuple[str, str]]:
    cursor.execute(
        "SELECT attname, col_description(attrelid, attnum) FROM pg_attribute"
        " WHERE col_description(attrelid, attnum) IS NOT NULL"
        " AND (attrelid = to_regclass(%s) AND attname = ANY (%s) OR attrelid = to_regclass(%s) AND attname = ANY (%s))",
        [f"{SCHEMA}.airport_days", schemas.AIRPORT_DAYS.names, f"{SCHEMA}.anomalies", VERDICT_COLUMNS],
    )
    comments = dict(cursor.fetchall()) | VERDICT_COMMENTS | {name: comment for name, _, comment in CONTEXT_COLUMNS}
    comments |= {
        f"is_anomaly_{name}": f"true if {name} flags the day; null if it did not score the day" for name in detectors
    }
    return sorted({**comments, "id": ID_COMMENT, "verdict": f"{VERDICT_COMMENT}, by {published}"}.items())
