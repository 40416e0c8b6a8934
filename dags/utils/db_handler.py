"""The warehouse: gold, runs and feedback in Postgres, schema `flights`.

Other packages use only `DBHandler`. All SQL is in `warehouse/`, one module per noun, and in its `migrations/`. This
module knows tables, years and batches, but not the lake or the detectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from types import TracebackType

import pandas as pd
import pyarrow as pa
from psycopg2.extras import Json
from psycopg2.sql import SQL

from utils.warehouse import feedback, revisions, roles, view
from utils.warehouse.connection import Postgres
from utils.warehouse.frames import read_frame
from utils.warehouse.tables import RUNS, SCHEMA, TABLES, Table, assignments, names, scoped
from utils.warehouse.upsert import Batch, Changes, upsert
from utils.warehouse.view import VIEW

__all__ = ["RUNS", "SCHEMA", "TABLES", "VIEW", "Changes", "DBHandler"]


class DBHandler:
    """The tables of schema `flights` in one Postgres database. Opens a connection per call and closes it afterwards.

    url: `postgresql://user:password@host:5432/database`, or with `?host=/folder` for a Unix socket.
    connect_timeout_s, lock_timeout_s: how long to wait for the server, and for another session's locks.

    Every method raises Unavailable if the server cannot be reached or the connection is lost, Busy if another session
    holds a lock, Missing if the database or a table does not exist, and InvalidInput if the server refuses the login,
    a permission or rows. The tables are then unchanged.
    """

    def __init__(self, url: str, *, connect_timeout_s: int = 10, lock_timeout_s: int = 600) -> None:
        """Store the URL without connecting. Raises DelaywatchError for an invalid URL."""
        self._server = Postgres(url, connect_timeout_s=connect_timeout_s, lock_timeout_s=lock_timeout_s)

    def __str__(self) -> str:
        """Return the location without the password, e.g. `warehouse flights at db:5432`."""
        return self._server.place

    def __repr__(self) -> str:
        """Return the location without the password."""
        return f"DBHandler({self._server.place})"

    def __enter__(self) -> DBHandler:
        """Return the handler; it is closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the handler, also after an error."""
        self.close()

    def close(self) -> None:
        """Release the handler's resources."""
        self._server.engine.dispose()

    # --- schema, roles and view ---------------------------------------------------------------------------------------

    def create(self) -> bool:
        """Create or migrate schema, tables and roles. Return True if anything was changed.

        Safe to call from two processes at once. Needs a login that may create schemas and roles, or is a member of
        `flights_owner`; any login may call it when the tables are up to date. Raises InvalidInput if rights are missing
        (with the SQL for an administrator), for a server before Postgres 17, for tables of a newer release, and for
        tables of an older release without a migration (with the commands that rebuild them).
        """
        return revisions.create(self._server)

    def create_reader(self, login: str, password: str) -> bool:
        """Create a login that may read the tables of schema flights. Return True if anything was changed.

        It may also read tables that are created later. Its sessions are read-only and cancel a statement after 60 s by
        default; a session that changes these settings still cannot write. Rights that the database grants to PUBLIC,
        such as temporary tables, remain. Safe to call from two processes at once. The server receives a SCRAM verifier,
        never the password.

        Needs the roles that `create` creates, and a login with CREATEROLE and the admin option on flights_reader, such
        as the login that ran `create`. Raises DelaywatchError if rights are missing (with the SQL for an
        administrator), and for an existing role that is not a reader; that role stays unchanged.
        """
        return roles.create_reader(self._server, login, password)

    def create_labeller(self, login: str, password: str) -> bool:
        """Create a login that may write feedback and nothing else. Return True if anything was changed.

        It may read only the feedback and the airport-days. Creates its group role `flights_labeller`, so it needs
        a login with CREATEROLE that is a member of flights_owner. Otherwise like `create_reader`.
        """
        return roles.create_labeller(self._server, login, password)

    def publish_view(self, detectors: Sequence[str], published: str) -> bool:
        """Create or replace `flights.agg_dep_delay_by_date`. Return False if it is already up to date.

        One row per airport and day: `id`, the columns of `airport_days`, the verdict of the detector `published`
        (`view.VERDICT_COLUMNS` and `verdict`), its reason, event and feedback (`view.CONTEXT_COLUMNS`), and one
        `is_anomaly_<name>` per detector in `detectors`, null on days without its verdict. If a release moves or removes
        columns, the view is dropped and created again, and grants to other roles are lost. Raises InvalidInput if a
        name cannot be a column, or if another view depends on a view that must be dropped.
        """
        return view.publish(self._server, detectors, published)

    # --- tables -------------------------------------------------------------------------------------------------------

    def upsert(
        self, table: str, frame: pd.DataFrame | pa.Table, year: int, within: Mapping[str, str] | None = None
    ) -> Changes:
        """Replace the rows of `year` in `table` with `frame`, in one transaction, writing only rows that differ.

        frame: exactly the columns of the table's schema, one row per key, all of `year`; an empty frame deletes the
        year. within: key columns with one value each, e.g. `{"detector": "three_sigma"}`; only rows with these values
        are replaced. Upserts of the same table and year wait for each other. NaN is stored as null. `feedback` and
        `verdict_changes` cannot be upserted.

        Raises InvalidInput for an invalid frame before it writes anything. After any error the old rows are unchanged.
        """
        (changes,) = self.upsert_year([(table, frame, within or {})], year)
        return changes

    def upsert_year(
        self,
        batches: Iterable[tuple[str, pd.DataFrame | pa.Table, Mapping[str, str]]],
        year: int,
        *,
        published: str | None = None,
        now: datetime | None = None,
    ) -> list[Changes]:
        """Do several upserts, each (table, frame, within), in one transaction; return their changes in the same order.

        Another thread takes one batch ahead from `batches`, so that a generator need not hold all frames. Readers see
        the old rows until the commit. published, now: each day that had a verdict of this detector and gets another
        severity is inserted into `verdict_changes` with this time (timezone-aware). Errors: see `upsert`.
        """
        return upsert(self._server, (_batch(*batch, published, now) for batch in batches), year)

    def verdict_changes(self, year: int, since: datetime) -> pd.DataFrame:
        """Return the rows of `verdict_changes` on days of `year` with `changed_at` at or after `since`, sorted by key.

        since: timezone-aware. Columns: `schemas.VERDICT_CHANGES`.
        """
        changes = self.read("verdict_changes", year)
        return changes[changes["changed_at"] >= since].reset_index(drop=True)

    def read(self, table: str, year: int | None = None) -> pd.DataFrame:
        """Return the rows of `table`, of one year or of all, sorted by key; dates are datetime64, JSON is text."""
        return self._read(TABLES[table], year)

    def count(self, table: str, year: int, within: Mapping[str, str] | None = None) -> int:
        """Return the number of rows of `table` in `year`. within: count only rows with these values, by column."""
        source = TABLES[table]
        query = SQL("SELECT count(*) FROM {} t WHERE {}").format(
            source.identifier, scoped(source, year, dict(within or {}))
        )
        with self._server.transaction(f"counting {table} {year}") as cursor:
            cursor.execute(query)
            (number,) = cursor.fetchone() or (0,)
        return int(number)

    def detectors(self, year: int) -> list[str]:
        """Return the sorted names of the detectors with rows of `year` in `anomalies`."""
        table = TABLES["anomalies"]
        query = SQL("SELECT DISTINCT t.detector FROM {} t WHERE {}").format(table.identifier, table.in_year(year))
        with self._server.transaction(f"reading the detectors of {year}") as cursor:
            cursor.execute(query)
            return sorted(name for (name,) in cursor.fetchall())

    def record_run(self, run: Mapping[str, object]) -> None:
        """Insert one row of `flights.runs`, or update the columns named in `run` if its `run_id` exists.

        run: `run_id` and `year`, and optionally `code_version`, `params_hash`, `started`, `ended` (timezone-aware, or
        naive in UTC) and `rows` (any JSON value).
        """
        unknown = sorted(set(run) - set(RUNS.names))
        if unknown or not {"run_id", "year"} <= set(run):
            raise ValueError(f"a run needs run_id and year and may have {RUNS.names}; unknown: {unknown}")
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
        return read_frame(self._server, f"reading {source.name}", source.schema, query)

    # --- feedback -----------------------------------------------------------------------------------------------------

    def give_feedback(self, origin: str, fl_date: date, opinion: str, note: str, author: str) -> bool:
        """Insert or replace the feedback on an airport-day. Return False if the same feedback already exists.

        opinion: `expected` (known beforehand; the day is not used for fitting its airport), `wrong` (a false
        alarm) or `right` (a true alarm). note: may be empty. The server sets the time; equal feedback keeps its time.
        Raises InvalidInput for another opinion or an empty author, and Missing for a day that is not in `airport_days`,
        with the airport's first and last day, or with airport codes of a similar spelling.
        """
        return feedback.give(self._server, origin, fl_date, opinion, note, author)

    def withdraw_feedback(self, origin: str, fl_date: date) -> bool:
        """Delete the feedback on an airport-day. Return False if the day has no feedback."""
        return feedback.withdraw(self._server, origin, fl_date)

    def feedback(self, year: int | None = None) -> pd.DataFrame:
        """Return the feedback on the days of one year, or of all: `schemas.FEEDBACK`, sorted by origin and fl_date.

        Includes feedback on days that are not in `airport_days` at present.
        """
        return self.read("feedback", year)

    def judged_feedback(self, year: int | None = None) -> pd.DataFrame:
        """Return `feedback` sorted by fl_date and origin, with the published verdict on each day.

        Columns: `schemas.FEEDBACK`, then `has_airport_day` (false if the day is not in airport_days), and the columns
        `verdict` and `severity` of the view `agg_dep_delay_by_date`, null if the day was not scored.
        """
        return feedback.judged(self._server, year)

    def detector_feedback(self, year: int | None = None) -> pd.DataFrame:
        """Return how often feedback confirms each detector, one row per year and detector, of one year or of all.

        Columns: `year`, `detector`; flagged days with the feedback right (`right_flags`), wrong (`wrong_flags`) and
        expected (`expected_flags`); `right_missed`, unflagged days with the feedback right; and
        `precision_by_feedback`, right_flags / (right_flags + wrong_flags), null if both are 0. A detector has no row if
        it scored no day with feedback. The comparison is biased, because people look mostly at flags of the published
        detector. For several years, add up the counts.
        """
        return self._read(feedback.DETECTOR_FEEDBACK, year)


def _batch(
    name: str,
    frame: pd.DataFrame | pa.Table,
    within: Mapping[str, str],
    published: str | None,
    now: datetime | None,
) -> Batch:
    table = TABLES[name]
    if not set(within) < set(table.key):
        raise ValueError(
            f"{name}: `within` must name some, not all, of the key columns {table.key}, not {sorted(within)}"
        )
    if table is feedback.FEEDBACK:
        raise ValueError("feedback cannot be upserted; use give_feedback and withdraw_feedback")
    if name == "verdict_changes":
        raise ValueError("verdict_changes cannot be upserted; upsert_year inserts its rows")
    is_published = name == "anomalies" and published is not None and within == {"detector": published}
    return Batch(table, frame, within, now if is_published else None)
