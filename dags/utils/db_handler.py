"""The warehouse: gold, what is known about it and what people say of it, in Postgres, schema `flights`.

`DBHandler` is all that others use of it. Nothing speaks SQL but its parts in `warehouse/`, one noun each, and
`migrations/`, which holds the tables' history. Which years are written, and when, is decided elsewhere: this module
knows tables, years and batches, no lake and no detector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from types import TracebackType

import pandas as pd
import pyarrow as pa
from psycopg2.extras import Json
from psycopg2.sql import SQL

from utils.warehouse import feedback, revisions, roles, view
from utils.warehouse.connection import Postgres
from utils.warehouse.frames import frame_of
from utils.warehouse.tables import RUNS, SCHEMA, TABLES, Table, assignments, names, scoped
from utils.warehouse.upsert import Batch, Changes, upsert
from utils.warehouse.view import VIEW

__all__ = ["RUNS", "SCHEMA", "TABLES", "VIEW", "Changes", "DBHandler"]


class DBHandler:
    """The tables of schema `flights` in one Postgres database. Opens a connection per call and keeps none.

    url: `postgresql://user:password@host:5432/database`, or with `?host=/folder` for a Unix socket.
    connect_timeout_s, lock_timeout_s: how long to wait for the server, and for another session's locks.

    Every method raises Unavailable when the server cannot be reached or goes away, Busy when another session is in the
    way, Missing when database or tables are not there, and InvalidInput when it refuses login, permission or rows;
    what was in the tables before is then still there, whole.
    """

    def __init__(self, url: str, *, connect_timeout_s: int = 10, lock_timeout_s: int = 600) -> None:
        """Remember where the warehouse is; nothing is opened yet. Raises DelaywatchError for a URL that is none."""
        self._server = Postgres(url, connect_timeout_s=connect_timeout_s, lock_timeout_s=lock_timeout_s)

    def __str__(self) -> str:
        """Where the warehouse is, in words and without its password, e.g. `warehouse flights at db:5432`."""
        return self._server.place

    def __repr__(self) -> str:
        """Where the warehouse is, without its password."""
        return f"DBHandler({self._server.place})"

    def __enter__(self) -> DBHandler:
        """The handler itself, closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, whatever happened in the block."""
        self.close()

    def close(self) -> None:
        """Give back what the handler holds; nothing of the warehouse changes."""
        self._server.engine.dispose()

    # --- what must be there -------------------------------------------------------------------------------------------

    def create(self) -> bool:
        """Bring schema, tables and roles to this release's state; whether they were not there yet.

        Two processes may call it at once. Needs a login that may create schemas and roles, or is a member of
        `flights_owner`; with the tables in place any login may call it. Raises InvalidInput with the SQL for an
        administrator when rights are missing, for a server before Postgres 17, for tables of a newer release, and for
        those of an older one that it cannot migrate, with the commands that make them again.
        """
        return revisions.create(self._server)

    def create_reader(self, login: str, password: str) -> bool:
        """Let `login` log in with `password` and read the tables of schema flights; whether that was not so yet.

        It may read later tables too. Its sessions begin read-only and end a statement after a minute; one that lifts
        this may still only read. What the database allows to everybody (PUBLIC), such as temporary tables, stays
        allowed. Two processes may call it at once. The server sees a verifier of the password, never the password.

        Needs the roles that `create` makes, and a login that may create roles and administers flights_reader, as the
        one that made it does. Raises DelaywatchError with the SQL for an administrator when rights are missing, and
        when there is a role of this name that is no mere reader, which stays as it is.
        """
        return roles.create_reader(self._server, login, password)

    def publish_view(self, detectors: Sequence[str], published: str) -> bool:
        """(Re)create `flights.agg_dep_delay_by_date`; whether it was another or none. Else nothing is touched.

        One row per airport and day: `id`, the columns of `airport_days`, the verdict of the detector `published`
        (`view.VERDICT_COLUMNS` and `verdict`), its reason, event and feedback (`view.CONTEXT_COLUMNS`), and one
        `is_anomaly_<name>` per detector in `detectors`, null on days that it has not judged. When columns move or
        go, as a release may ask for, the view is dropped and made anew: grants to roles that are not ours are then
        lost, and a view of somebody else's on top of it is a fault that is told.
        Raises DelaywatchError when a name cannot be a column, or a view of somebody else stands in the way.
        """
        return view.publish(self._server, detectors, published)

    # --- tables -------------------------------------------------------------------------------------------------------

    def upsert(
        self, table: str, frame: pd.DataFrame | pa.Table, year: int, within: Mapping[str, str] | None = None
    ) -> Changes:
        """Make the rows of `year` in `table` equal to `frame`, in one transaction, writing only what differs.

        frame: exactly the columns of the table's schema, one row per key, all of `year`; an empty frame empties the
        year. within: key columns with one value each, e.g. `{"detector": "three_sigma"}`; only those rows are
        replaced. Two upserts of one table and year queue. NaN is stored as null. `feedback` is no such table: what
        people said is not replaced by a batch.

        Raises InvalidInput before anything is written when the frame does not fit; when it fails later, the old rows
        are all still there.
        """
        (changes,) = self.upsert_year([(table, frame, within or {})], year)
        return changes

    def upsert_year(
        self, batches: Sequence[tuple[str, pd.DataFrame | pa.Table, Mapping[str, str]]], year: int
    ) -> list[Changes]:
        """Do several upserts, each (table, frame, within), in one transaction; their changes in the same order.

        Whoever reads meanwhile sees all of the old rows, and when anything fails all of them are still there. The rest
        is as `upsert` says.
        """
        wanted = []
        for name, frame, within in batches:
            table = TABLES[name]
            if not set(within) < set(table.key):
                raise ValueError(f"{name} can be written within some columns of its key, not within {sorted(within)}")
            if table is feedback.FEEDBACK:
                raise ValueError("feedback is given and withdrawn a day at a time, never upserted")
            wanted.append(Batch(table, frame, within))
        return upsert(self._server, wanted, year)

    def read(self, table: str, year: int | None = None) -> pd.DataFrame:
        """The rows of `table`, of one year or of all, in the order of its key; dates are datetime64, JSON is text."""
        return self._read(TABLES[table], year)

    def count(self, table: str, year: int, within: Mapping[str, str] | None = None) -> int:
        """Number of rows of `table` in `year`, or of those whose columns have the values of `within`."""
        source = TABLES[table]
        question = SQL("SELECT count(*) FROM {} t WHERE {}").format(
            source.identifier, scoped(source, year, dict(within or {}))
        )
        with self._server.transaction(f"counting {table} {year}") as cursor:
            cursor.execute(question)
            (number,) = cursor.fetchone() or (0,)
        return int(number)

    def detectors(self, year: int) -> list[str]:
        """Names of the detectors that have rows of `year` in `anomalies`, in order of the alphabet."""
        table = TABLES["anomalies"]
        question = SQL("SELECT DISTINCT t.detector FROM {} t WHERE {}").format(table.identifier, table.in_year(year))
        with self._server.transaction(f"reading the detectors of {year}") as cursor:
            cursor.execute(question)
            return sorted(name for (name,) in cursor.fetchall())

    def record_run(self, run: Mapping[str, object]) -> None:
        """Write one row of `flights.runs`, or bring the columns named in `run` up to date where its `run_id` exists.

        run: `run_id` and `year`, and any of `code_version`, `params_hash`, `started`, `ended` (timezone-aware; a naive
        time is taken as UTC) and `rows` (anything that JSON can say).
        """
        unknown = sorted(set(run) - set(RUNS.names))
        if unknown or not {"run_id", "year"} <= set(run):
            raise ValueError(f"a run has run_id and year, and of other columns only {RUNS.names}; unknown: {unknown}")
        row = {name: Json(value) if name in TABLES["runs"].json_columns else value for name, value in run.items()}
        values = [name for name in row if name != "run_id"]
        statement = SQL(
            "INSERT INTO {table} AS t ({columns}) VALUES ({given}) ON CONFLICT (run_id) DO UPDATE SET {assign}"
            " WHERE ({old}) IS DISTINCT FROM ({new})"
        ).format(
            table=TABLES["runs"].identifier,
            columns=names(row),
            given=SQL(", ").join(SQL("%s") for _ in row),
            assign=assignments(values, "excluded"),
            old=names(values, "t"),
            new=names(values, "excluded"),
        )
        with self._server.transaction(f"recording the run {run['run_id']}") as cursor:
            cursor.execute(statement, list(row.values()))

    def _read(self, source: Table, year: int | None) -> pd.DataFrame:
        query = SQL("SELECT {columns} FROM {table} t WHERE {year} ORDER BY {key}").format(
            columns=names(source.schema.names),
            table=source.identifier,
            year=SQL("true") if year is None else source.in_year(year),
            key=names(source.key),
        )
        return frame_of(self._server, f"reading {source.name}", source.schema, query)

    # --- feedback -----------------------------------------------------------------------------------------------------

    def give_feedback(self, origin: str, fl_date: date, opinion: str, note: str, author: str) -> bool:
        """Keep what `author` says of an airport-day, over what was said of it before; whether that was anything else.

        opinion: `expected` (known beforehand; the day is not used for fitting its airport), `wrong` (a false
        alarm) or `right` (a true one). note: may be empty. The server notes the time; the same again leaves it.
        Raises DelaywatchError for another opinion, without an author, and for a day that `airport_days` does not have:
        it names the airport's first and last day there, or the airports that are close in spelling.
        """
        return feedback.give(self._server, origin, fl_date, opinion, note, author)

    def withdraw_feedback(self, origin: str, fl_date: date) -> bool:
        """Forget what was said of an airport-day; whether anything was. The day itself need not be there."""
        return feedback.withdraw(self._server, origin, fl_date)

    def feedback(self, year: int | None = None) -> pd.DataFrame:
        """What was said of the days of one year, or of all: columns of `schemas.FEEDBACK`, by origin and fl_date.

        Feedback on a day that is not in `airport_days` at present is among them.
        """
        return self.read("feedback", year)

    def judged_feedback(self, year: int | None = None) -> pd.DataFrame:
        """`feedback` by fl_date and origin, beside it what the published view says of the day now.

        Columns: those of `schemas.FEEDBACK`, then `is_there` (false when airport_days does not have the day),
        `verdict` (as in the view) and `severity`; both are null when the day was not judged.
        """
        return feedback.judged(self._server, year)

    def detector_feedback(self, year: int | None = None) -> pd.DataFrame:
        """How often each detector was right by what people said, one row per year and detector, of one year or of all.

        Columns: `year`, `detector`; of the days that it flags, how many were called right (`right_flags`), wrong
        (`wrong_flags`) and expected (`expected_flags`); `right_missed`, days called right that it does not flag; and
        `precision_by_feedback`, right_flags / (right_flags + wrong_flags), null without either. Only detectors that
        judged a day with feedback have a row. Feedback is given on days that somebody looked at, mostly flags of the
        published detector, so it compares detectors by these alone. Over several years add the counts up.
        """
        return self._read(feedback.DETECTOR_FEEDBACK, year)
