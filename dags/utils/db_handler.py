"""The warehouse: gold, its runs and people's feedback, in Postgres, schema `flights`.

Other folders use `DBHandler` alone. All SQL is in `warehouse/`, one noun per module, and in its `migrations/`, the
history of the tables. This module knows tables, years and batches; it knows no lake and no detector.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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

    # --- schema, roles and view ---------------------------------------------------------------------------------------

    def create(self) -> bool:
        """Create or migrate schema, tables and roles. Return True if anything was changed.

        Two processes may call it at once. Needs a login that may create schemas and roles, or is a member of
        `flights_owner`; with the tables in place any login may call it. Raises InvalidInput with the SQL for an
        administrator when rights are missing, for a server before Postgres 17, for tables of a newer release, and for
        those of an older one that it cannot migrate, with the commands that rebuild them.
        """
        return revisions.create(self._server)

    def create_reader(self, login: str, password: str) -> bool:
        """Create a login that may read the tables of schema flights. Return True if anything was changed.

        It may read later tables too. Its sessions start read-only and cancel a statement after a minute; a session that
        changes these settings may still only read. What the database grants to PUBLIC, such as temporary tables, stays
        allowed. Two processes may call it at once. The server receives a verifier, never the password.

        Needs the roles that `create` creates, and a login that may create roles and administers flights_reader, as the
        login that created it does. Raises DelaywatchError with the SQL for an administrator when rights are missing,
        and for an existing role that is not a reader, which stays as it is.
        """
        return roles.create_reader(self._server, login, password)

    def publish_view(self, detectors: Sequence[str], published: str) -> bool:
        """Create or replace `flights.agg_dep_delay_by_date`. Return False if it is already that view.

        One row per airport and day: `id`, the columns of `airport_days`, the verdict of the detector `published`
        (`view.VERDICT_COLUMNS` and `verdict`), its reason, event and feedback (`view.CONTEXT_COLUMNS`), and one
        `is_anomaly_<name>` per detector in `detectors`, null on days that it has not judged. If a
        release moves or removes columns, the view is dropped and created again, and grants to other roles are lost.
        Raises InvalidInput when a name cannot be a column, or when another view depends on it.
        """
        return view.publish(self._server, detectors, published)

    # --- tables -------------------------------------------------------------------------------------------------------

    def upsert(
        self, table: str, frame: pd.DataFrame | pa.Table, year: int, within: Mapping[str, str] | None = None
    ) -> Changes:
        """Make the rows of `year` in `table` equal to `frame`, in one transaction, writing only rows that differ.

        frame: exactly the columns of the table's schema, one row per key, all of `year`; an empty frame empties the
        year. within: key columns with one value each, e.g. `{"detector": "three_sigma"}`; only those rows are
        replaced. Two upserts of one table and year queue. NaN is stored as null. `feedback` cannot be upserted.

        Raises InvalidInput before anything is written when the frame does not fit; when it fails later, the old rows
        are all still there.
        """
        (changes,) = self.upsert_year([(table, frame, within or {})], year)
        return changes

    def upsert_year(
        self, batches: Iterable[tuple[str, pd.DataFrame | pa.Table, Mapping[str, str]]], year: int
    ) -> list[Changes]:
        """Do several upserts, each (table, frame, within), in one transaction; return their changes in the same order.

        Takes one batch ahead of the server from `batches`, in another thread, so that a generator need not hold all
        frames. Readers see all of the old rows until the end, and after a failure all of them are still there. See
        `upsert`.
        """
        return upsert(self._server, (_batch(*batch) for batch in batches), year)

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
        """Insert one row of `flights.runs`, or update the columns named in `run` if its `run_id` exists.

        run: `run_id` and `year`, and any of `code_version`, `params_hash`, `started`, `ended` (timezone-aware; a naive
        time is taken as UTC) and `rows` (any JSON value).
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
        """Insert or replace the feedback on an airport-day. Return False if the same feedback is already there.

        opinion: `expected` (known beforehand; the day is not used for fitting its airport), `wrong` (a false
        alarm) or `right` (a true one). note: may be empty. The server sets the time; equal feedback keeps it.
        Raises InvalidInput for another opinion or without an author, and Missing for a day that `airport_days` does not
        have; it names the airport's first and last day there, or the airports that are close in spelling.
        """
        return feedback.give(self._server, origin, fl_date, opinion, note, author)

    def withdraw_feedback(self, origin: str, fl_date: date) -> bool:
        """Delete the feedback on an airport-day, which need not be there. Return True if there was any."""
        return feedback.withdraw(self._server, origin, fl_date)

    def feedback(self, year: int | None = None) -> pd.DataFrame:
        """Return the feedback on the days of one year, or of all: `schemas.FEEDBACK`, sorted by origin and fl_date.

        Includes feedback on days that are not in `airport_days` at present.
        """
        return self.read("feedback", year)

    def judged_feedback(self, year: int | None = None) -> pd.DataFrame:
        """Return `feedback` sorted by fl_date and origin, with the published verdict on each day.

        Columns: those of `schemas.FEEDBACK`, then `is_there` (false when airport_days does not have the day),
        `verdict` (as in the view) and `severity`; both are null when the day was not judged.
        """
        return feedback.judged(self._server, year)

    def detector_feedback(self, year: int | None = None) -> pd.DataFrame:
        """Return how often feedback confirms each detector, one row per year and detector, of one year or of all.

        Columns: `year`, `detector`; of the days that it flags, how many were called right (`right_flags`), wrong
        (`wrong_flags`) and expected (`expected_flags`); `right_missed`, days called right that it does not flag; and
        `precision_by_feedback`, right_flags / (right_flags + wrong_flags), null without either. A detector that scored
        no day with feedback has no row. People look mostly at flags of the published detector, so this is a biased
        comparison. For several years, add up the counts.
        """
        return self._read(feedback.DETECTOR_FEEDBACK, year)


def _batch(name: str, frame: pd.DataFrame | pa.Table, within: Mapping[str, str]) -> Batch:
    table = TABLES[name]
    if not set(within) < set(table.key):
        raise ValueError(f"{name} can be written within some columns of its key, not within {sorted(within)}")
    if table is feedback.FEEDBACK:
        raise ValueError("feedback is given and withdrawn a day at a time, never upserted")
    return Batch(table, frame, within)
