"""The warehouse: gold and what is known about it in Postgres, schema `flights`.

Everything that speaks SQL lives here, and in `migrations/`, which holds the tables' history. Which years are written,
and when, is decided elsewhere: this module knows tables, years and batches, no lake and no detector.
"""

from __future__ import annotations

import hashlib
import io
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import pandas as pd
import psycopg2
import psycopg2.extensions
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import sqlalchemy
from psycopg2.extras import Json
from psycopg2.sql import SQL, Composable, Composed, Identifier, Literal

from utils import schemas
from utils.errors import DelaywatchError

SCHEMA = "flights"
VIEW = "agg_dep_delay_by_date"
MIGRATIONS = Path(__file__).parent / "migrations"
ALEMBIC = threading.Lock()  # it keeps what it is doing in globals of its module, so one thread of a process at a time

RUNS = pa.schema(
    [
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("year", pa.int16(), nullable=False),
        pa.field("code_version", pa.string()),
        pa.field("params_hash", pa.string()),
        pa.field("started", pa.timestamp("us", "UTC")),
        pa.field("ended", pa.timestamp("us", "UTC")),
        pa.field("rows", pa.string()),  # JSON: rows in and out per step
    ]
)


@dataclass(frozen=True)
class Changes:
    """Rows that an upsert inserted, updated and deleted, and rows of the batch that were already there as they are."""

    inserted: int
    updated: int
    deleted: int
    unchanged: int

    def __str__(self) -> str:
        """In words, e.g. `2 inserted, 1 updated, 0 deleted, 1,092 unchanged`."""
        return ", ".join(f"{number:,} {what}" for what, number in asdict(self).items())


@dataclass(frozen=True)
class _Table:
    """A table of the warehouse: its columns as arrow sees them, its primary key, and where a row's year stands."""

    name: str
    schema: pa.Schema
    key: tuple[str, ...]
    year_column: str  # a date, or the year itself
    json_columns: tuple[str, ...] = ()

    @property
    def identifier(self) -> Identifier:
        return Identifier(SCHEMA, self.name)

    @property
    def values(self) -> list[str]:
        return [name for name in self.schema.names if name not in self.key]

    def type_in_postgres(self, field: pa.Field) -> str:
        return "jsonb" if field.name in self.json_columns else POSTGRES_TYPES[field.type]

    def in_year(self, year: int) -> Composed:
        """The condition that a row of the table, called t, is of `year`."""
        column = Identifier("t", self.year_column)
        if self.schema.field(self.year_column).type == pa.date32():
            first, next_first = Literal(date(year, 1, 1)), Literal(date(year + 1, 1, 1))
            return SQL("{0} >= {1} AND {0} < {2}").format(column, first, next_first)
        return SQL("{} = {}").format(column, Literal(year))


POSTGRES_TYPES: dict[pa.DataType, str] = {
    pa.bool_(): "boolean",
    pa.date32(): "date",
    pa.float32(): "real",
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.string(): "text",
    pa.timestamp("us", "UTC"): "timestamp with time zone",
}
TABLES = {
    table.name: table
    for table in (
        _Table("airport_days", schemas.AIRPORT_DAYS, ("origin", "fl_date"), "fl_date"),
        _Table("anomalies", schemas.WAREHOUSE_ANOMALIES, ("origin", "fl_date", "detector"), "fl_date"),
        _Table("bronze_quality", schemas.BRONZE_QUALITY, ("year",), "year", ("report",)),
        _Table("runs", RUNS, ("run_id",), "year", ("rows",)),
    )
}

# What the view says of the published detector's judgement, and the comments of the columns that the view adds.
VERDICT_COLUMNS = (
    ("metric", "column of airport_days that the published detector judged"),
    ("observed", "the metric on this day, in its own unit"),
    ("expected", "the metric that the published detector expected"),
    ("lower", "lower end of the range that counts as normal, in the metric's unit"),
    ("upper", "upper end of the range that counts as normal, in the metric's unit"),
    ("score", "how abnormal the day is; higher is more abnormal, comparable across airports"),
    ("is_anomaly", "the published verdict; null when the detector has not judged the day"),
    ("direction", "late, early or closure on an abnormal day, null otherwise"),
    ("severity", "0 none, 1 mild, 2 strong, 3 extreme"),
    ("status", "ok, insufficient_data or no_flights"),
)
ID_COMMENT = "airport and day in one text, e.g. JFK20090101"
VERDICT_COMMENT = "normal, late, early or closure; insufficient_data or no_flights where nothing can be said"

# Run by every transaction. 64 MB keep the joins of a full year (20 MB) in memory; the settings after it make text in
# and out exact, and names mean what they say, whatever the defaults of server and role are.
SESSION = (
    "SELECT set_config('lock_timeout', %s, true), set_config('work_mem', '64MB', true),"
    " set_config('datestyle', 'ISO, YMD', true), set_config('timezone', 'UTC', true),"
    " set_config('extra_float_digits', '1', true), set_config('search_path', 'pg_catalog', true)"
)

COLUMNS_OF_TABLE = """
    SELECT attname, format_type(atttypid, atttypmod), attnotnull AND NOT atthasdef AND attidentity = ''
    FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
"""
RIGHTS_AND_KEYS_OF_TABLE = """
    SELECT has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE')
           AND has_table_privilege(c.oid, 'DELETE'),
           ARRAY(SELECT ARRAY(SELECT a.attname::text FROM pg_attribute a
                              WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey) ORDER BY a.attname)::text
                 FROM pg_index i
                 WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
                       AND i.indexprs IS NULL)
    FROM pg_class c WHERE c.oid = to_regclass(%s)
"""

# Of a role: has it rights beyond reading, is it a login, does it read flights and write there, may it connect to this
# database, and its settings in it.
LOGIN = """
    SELECT r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls, r.rolcanlogin,
           pg_has_role(r.oid, 'flights_reader', 'USAGE'),
           pg_has_role(r.oid, 'flights_loader', 'MEMBER') OR pg_has_role(r.oid, 'flights_owner', 'MEMBER'),
           has_database_privilege(r.oid, current_database(), 'CONNECT'),
           ARRAY(SELECT unnest(s.setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
                 WHERE s.setrole = r.oid AND d.datname = current_database())
    FROM pg_roles r WHERE r.rolname = %s
"""
GROUPS_USER_AND_DATABASE = """
    SELECT num_nulls(to_regrole('flights_owner'), to_regrole('flights_loader'), to_regrole('flights_reader')) = 0,
           current_user::text, current_database()::text
"""
READER_SETTINGS = {"default_transaction_read_only": "on", "statement_timeout": "60s"}

OPTIONS = "Postgres does not take one of {options}; correct the options after ? in the warehouse URL."
# What libpq says when it cannot connect carries no code, only words: (words, the sentence).
CONNECTING: tuple[tuple[str, str], ...] = (
    (r'invalid "?\w+"? value|invalid value for parameter', OPTIONS),
    ("could not translate host name", "The host of the {place} is unknown; correct it in the warehouse URL."),
    (
        "password authentication failed|no password supplied|role .* does not exist",
        "The {place} refused user {user} or its password; correct them in the warehouse URL.",
    ),
    (
        "no pg_hba.conf entry",
        "The {place} lets no user {user} in from this machine; allow it in the server's pg_hba.conf or security group.",
    ),
    (
        "database .* does not exist",
        "The {place} does not exist; create it with CREATE DATABASE, or correct the name in the warehouse URL.",
    ),
    (
        "permission denied for database",
        "User {user} may not connect to the {place}; an administrator grants it CONNECT on that database.",
    ),
    (
        "too many clients|remaining connection slots|too many connections",
        "The {place} has no free connection; close some, raise max_connections, or run the step again later.",
    ),
    (
        "starting up|shutting down|in recovery mode",
        "The {place} is starting or stopping; run the step again in a minute.",
    ),
    (
        "Connection refused|No such file or directory|timeout expired|timed out|No route to host|unreachable",
        "No Postgres answers at the {place}; start it, or correct host and port in the warehouse URL.",
    ),
)

LOST = (
    "The connection to the {place} was lost while {doing}; every year there is whole, old or new but never half, "
    "so run the step again."
)
# SQLSTATE or its first two characters: the sentence. Longer codes win. Codes that are not here are our own faults.
FAILING: dict[str, str] = {
    "25006": "The {place} is read-only, so {doing} failed; use the primary server and a session that may write.",
    "42501": "User {user} may not do what {doing} needs ({first}); use a login that is a member of flights_loader, "
    "or of flights_owner to create tables.",
    "42P01": "The {place} lacks a table ({first}); `python -m utils upsert` with a login that is a member of "
    "flights_owner creates and fills it.",
    "3F000": "The {place} lacks the schema flights; `python -m utils upsert` with a login that is a member of "
    "flights_owner creates and fills it.",
    "55P03": "Another session blocked {doing} for more than {lock_timeout_s} s; let it end, then run the step again.",
    "57014": "The {place} cancelled {doing} ({first}); nothing was changed, so raise statement_timeout if it was that, "
    "and run the step again.",
    "40": "Another session got in the way of {doing} ({first}); nothing was changed, so run the step again.",
    "53100": "The disk of the {place} is full, so {doing} failed and nothing was changed; free some space and run the "
    "step again.",
    "53": "The {place} ran out of resources while {doing} ({first}); nothing was changed, so run the step again.",
    "2BP01": "Other objects stand in the way of {doing} ({detail}); drop them, run the step again and remake them.",
    "23": "The {place} refused a row while {doing} ({first}); nothing was changed, so correct the layer below.",
    "22": "The {place} cannot hold a value while {doing} ({first}); nothing was changed, so correct the layer below.",
    "XX000": "The {place} failed at {doing} ({first}); nothing was changed, so run the step again.",
    "57P": LOST,
    "08": LOST,
}


class DBHandler:
    """The tables of schema `flights` in one Postgres database. Opens a connection per call and keeps none.

    url: `postgresql://user:password@host:5432/database`, or with `?host=/folder` for a Unix socket.
    connect_timeout_s, lock_timeout_s: how long to wait for the server, and for another session's locks.

    Every method raises DelaywatchError when the server cannot be reached, refuses the login, lacks the tables or the
    permission, or goes away; what was in the tables before is then still there, whole.
    """

    def __init__(self, url: str, *, connect_timeout_s: int = 10, lock_timeout_s: int = 600) -> None:
        """Remember where the warehouse is; nothing is opened yet. Raises DelaywatchError for a URL that is none."""
        self._url = _parse(url)
        self._connect_timeout_s = connect_timeout_s
        self._lock_timeout_s = lock_timeout_s
        self._engine = _engine(self._url, connect_timeout_s)

    def __str__(self) -> str:
        """Where the warehouse is, in words and without its password, e.g. `warehouse flights at db:5432`."""
        return self._place

    def __repr__(self) -> str:
        """Where the warehouse is, without its password."""
        return f"DBHandler({self._place})"

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
        self._engine.dispose()

    def create(self) -> bool:
        """Bring schema, tables and roles to this release's state; whether they were not there yet.

        Two processes may call it at once. Needs a login that may create schemas and roles, or is a member of
        `flights_owner`; with the tables in place any login may call it. Raises DelaywatchError with the SQL for an
        administrator when rights are missing, and when the tables are of a newer release.
        """
        return self._migrate("head")

    def downgrade(self, revision: str) -> None:
        """Take the tables back to an earlier release's revision; `base` drops them and all that they hold.

        Schema and roles stay: roles belong to the server, and another database may use them.
        """
        self._migrate(revision)

    def create_reader(self, login: str, password: str) -> bool:
        """Let `login` log in with `password` and read the tables of schema flights; whether that was not so yet.

        It may read later tables too. Its sessions begin read-only and end a statement after a minute; one that lifts
        this may still only read. What the database allows to everybody (PUBLIC), such as temporary tables, stays
        allowed. Two processes may call it at once. The server sees a verifier of the password, never the password.

        Needs the roles that `create` makes, and a login that may create roles and administers flights_reader, as the
        one that made it does. Raises DelaywatchError with the SQL for an administrator when rights are missing, and
        when there is a role of this name that is no mere reader, which stays as it is.
        """
        if not re.fullmatch(r"(?!pg_)[A-Za-z_][A-Za-z0-9_-]{0,62}", login) or login in {"public", "none"}:
            raise DelaywatchError(
                f"The reader {login!r} cannot name a login; use up to 63 letters, digits, _ and -, not pg_ in front."
            )
        if not password or "\0" in password:
            raise DelaywatchError(f"The password of the reader {login} is empty or holds a null byte; give another.")
        with self._transaction(f"making the reader {login}") as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_lock_key("reader", login)])
            cursor.execute(GROUPS_USER_AND_DATABASE)
            has_groups, user, database = cursor.fetchone() or (False, "", "")
            if not has_groups:
                raise DelaywatchError(
                    f"The {self._place} lacks the role flights_reader; `python -m utils prepare` with a login that may "
                    "create roles makes it."
                )
            there = _logins(cursor, login)
            remedy = _reader_remedy(user, login, is_there=bool(there)).as_string(cursor)
            try:
                is_new = not there and _create_login(cursor, login)
                (found,) = there or _logins(cursor, login)
                if found.objection and not is_new:
                    raise DelaywatchError(
                        f"The role {login} of the {self._place} {found.objection}, so it stays as it is; choose "
                        "another name for the reader."
                    )
                statements = _reader_statements(login, database, found)
                if is_new or not self._lets_in(login, password):
                    verifier = psycopg2.extensions.encrypt_password(password, login, cursor.connection, "scram-sha-256")
                    statements.append(SQL("ALTER ROLE {} PASSWORD {}").format(Identifier(login), Literal(verifier)))
                for statement in statements:
                    cursor.execute(statement)
            except psycopg2.errors.InsufficientPrivilege as error:
                raise DelaywatchError(
                    f"User {user} may not make the reader {login} ({_first_line(error)}); let an administrator run "
                    f"`{remedy};` and run the step again, or make the reader by hand and leave out --reader."
                ) from error
            (found,) = _logins(cursor, login)
            if not found.connects:  # granting what is not ours to grant is a warning of the server and no error
                grant = SQL("GRANT CONNECT ON DATABASE {} TO flights_reader").format(Identifier(database))
                raise DelaywatchError(
                    f"User {user} may not let the reader {login} connect to the {self._place}; let an administrator "
                    f"run `{grant.as_string(cursor)};` and run the step again."
                )
        return bool(statements)

    def publish_view(self, detectors: Sequence[str], published: str) -> bool:
        """(Re)create `flights.agg_dep_delay_by_date`; whether it was another or none. Else nothing is touched.

        One row per airport and day: `id`, the columns of `airport_days`, the verdict of the detector `published`
        (`VERDICT_COLUMNS` and `verdict`), and one `is_anomaly_<name>` per detector in `detectors`, null on days that it
        has not judged. Flags stand last, so that a further detector leaves grants and dependent views alone.
        Raises DelaywatchError when a name cannot be a column, or a view of somebody else stands in the way.
        """
        for name in detectors:
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", name):
                raise DelaywatchError(
                    f"The detector {name!r} cannot name a column; use lower-case letters, digits and _."
                )
        if published not in detectors:
            raise DelaywatchError(f"The published detector {published!r} is not among: {', '.join(detectors)}.")
        view = Identifier(SCHEMA, VIEW)
        with self._transaction(f"publishing the view {SCHEMA}.{VIEW}") as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_lock_key(VIEW)])
            select = _view_select(detectors, published)
            asked = hashlib.sha256(select.as_string(cursor).encode()).hexdigest()[:12]
            if _view_comment(cursor) == _comment_of_view(cursor, detectors, published, asked):
                return False
            cursor.execute("SET LOCAL ROLE flights_owner")
            cursor.execute("SAVEPOINT replacing")
            try:
                cursor.execute(SQL("CREATE OR REPLACE VIEW {} AS {}").format(view, select))
            except psycopg2.errors.InvalidTableDefinition:  # columns went or moved, which replacing cannot do
                cursor.execute("ROLLBACK TO SAVEPOINT replacing")
                cursor.execute(SQL("DROP VIEW {}").format(view))
                cursor.execute(SQL("CREATE VIEW {} AS {}").format(view, select))
            comment = _comment_of_view(cursor, detectors, published, asked)
            cursor.execute(SQL("COMMENT ON VIEW {} IS {}").format(view, Literal(comment)))
            for column, text in _view_column_comments(cursor, detectors, published):
                target = Identifier(SCHEMA, VIEW, column)
                cursor.execute(SQL("COMMENT ON COLUMN {} IS {}").format(target, Literal(text)))
        return True

    def upsert(
        self, table: str, frame: pd.DataFrame | pa.Table, year: int, within: Mapping[str, str] | None = None
    ) -> Changes:
        """Make the rows of `year` in `table` equal to `frame`, in one transaction, writing only what differs.

        frame: exactly the columns of the table's schema, one row per key, all of `year`; an empty frame empties the
        year. within: key columns with one value each, e.g. `{"detector": "three_sigma"}`; only those rows are
        replaced. Two upserts of one table and year queue. NaN is stored as null.

        Raises DelaywatchError before anything is written when the frame does not fit, the table was changed by hand or
        the login may only read; when it fails later, the old rows are all still there.
        """
        target, scope = TABLES[table], dict(within or {})
        if not set(scope) <= set(target.key):
            raise ValueError(f"{table} can be written within columns of its key only, not within {sorted(scope)}")
        batch = _batch(target, frame, year, scope)
        text = io.BytesIO()
        pyarrow.csv.write_csv(batch, text, pyarrow.csv.WriteOptions(include_header=False))
        text.seek(0)
        statements = _upsert_statements(target, year, scope)
        with self._transaction(f"writing {table} {year}") as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_lock_key(table, year)])
            self._check_writable(cursor, target)
            cursor.execute(statements.create_batch)
            # copied: text is quoted and null is not, so an empty text and a missing one stay different
            cursor.copy_expert(statements.copy_batch, text)
            cursor.execute(statements.analyze_batch)
            counts = []
            for statement in (statements.update, statements.insert, statements.delete):
                cursor.execute(statement)
                counts.append(cursor.rowcount)
        updated, inserted, deleted = counts
        return Changes(inserted, updated, deleted, unchanged=batch.num_rows - inserted - updated)

    def read(self, table: str, year: int | None = None) -> pd.DataFrame:
        """The rows of `table`, of one year or of all, in the order of its key; dates are datetime64, JSON is text."""
        source = TABLES[table]
        rows = SQL("COPY (SELECT {columns} FROM {table} t WHERE {year} ORDER BY {key}) TO STDOUT (FORMAT csv)").format(
            columns=_names(source.schema.names),
            table=source.identifier,
            year=SQL("true") if year is None else source.in_year(year),
            key=_names(source.key),
        )
        text = io.BytesIO()
        with self._transaction(f"reading {table}") as cursor:
            cursor.copy_expert(rows, text)
        text.seek(0)
        if not text.getbuffer().nbytes:
            empty: pd.DataFrame = source.schema.empty_table().to_pandas(date_as_object=False)
            return empty
        found: pd.DataFrame = pyarrow.csv.read_csv(
            text,
            pyarrow.csv.ReadOptions(column_names=source.schema.names),
            pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            pyarrow.csv.ConvertOptions(
                column_types=source.schema,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                true_values=["t"],
                false_values=["f"],
            ),
        ).to_pandas(date_as_object=False)
        return found

    def count(self, table: str, year: int, within: Mapping[str, str] | None = None) -> int:
        """Number of rows of `table` in `year`, or of those whose columns have the values of `within`."""
        source = TABLES[table]
        question = SQL("SELECT count(*) FROM {} t WHERE {}").format(
            source.identifier, _scope(source, year, dict(within or {}))
        )
        with self._transaction(f"counting {table} {year}") as cursor:
            cursor.execute(question)
            (number,) = cursor.fetchone() or (0,)
        return int(number)

    def detectors(self, year: int) -> list[str]:
        """Names of the detectors that have rows of `year` in `anomalies`, in order of the alphabet."""
        table = TABLES["anomalies"]
        question = SQL("SELECT DISTINCT t.detector FROM {} t WHERE {}").format(table.identifier, table.in_year(year))
        with self._transaction(f"reading the detectors of {year}") as cursor:
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
            columns=_names(row),
            given=SQL(", ").join(SQL("%s") for _ in row),
            assign=_assignments(values, "excluded"),
            old=_names(values, "t"),
            new=_names(values, "excluded"),
        )
        with self._transaction(f"recording the run {run['run_id']}") as cursor:
            cursor.execute(statement, list(row.values()))

    # --- connections --------------------------------------------------------------------------------------------------

    @property
    def _place(self) -> str:
        """The warehouse in words, without anything secret: the URL's query may hold passwords too."""
        host = self._url.host or self._url.query.get("host") or "the default socket"
        port = f":{self._url.port}" if self._url.port else ""
        return f"warehouse {self._url.database or self._user} at {host}{port}"

    @property
    def _user(self) -> str:
        return self._url.username or "(the default user)"

    @contextmanager
    def _transaction(self, doing: str) -> Iterator[psycopg2.extensions.cursor]:
        """A cursor whose work is committed at the end, or not at all; errors of the server become sentences."""
        with self._explaining(doing):
            connection = self._engine.raw_connection()
            try:
                cursor: psycopg2.extensions.cursor = connection.cursor()  # type: ignore[assignment]  # psycopg2's own
                cursor.execute(SESSION, [f"{self._lock_timeout_s}s"])
                yield cursor
                connection.commit()
            finally:
                connection.close()

    def _lets_in(self, login: str, password: str) -> bool:
        """Whether the server asks `login` for a password and takes this one; one that asks for none tells nothing."""
        url = self._url.difference_update_query(["user", "password"]).set(username=login, password=password)
        try:
            connection = _engine(url, self._connect_timeout_s).raw_connection()
        except (psycopg2.OperationalError, sqlalchemy.exc.OperationalError):
            return False
        try:
            cursor: psycopg2.extensions.cursor = connection.cursor()  # type: ignore[assignment]  # psycopg2's own
            return bool(cursor.connection.info.used_password)
        finally:
            connection.close()

    @contextmanager
    def _explaining(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (psycopg2.Error, sqlalchemy.exc.DBAPIError) as error:
            cause = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error
            sentence = _sentence(cause) if isinstance(cause, psycopg2.Error) else None
            if sentence is None or not isinstance(cause, psycopg2.Error):
                raise
            raise DelaywatchError(
                sentence.format(
                    place=self._place,
                    user=self._user,
                    doing=doing,
                    first=_first_line(cause),
                    detail=_first_line(cause.diag.message_detail or cause),
                    lock_timeout_s=self._lock_timeout_s,
                    options=", ".join(self._url.query),
                )
            ) from cause

    # --- tables -------------------------------------------------------------------------------------------------------

    def _check_writable(self, cursor: psycopg2.extensions.cursor, table: _Table) -> None:
        """Raise DelaywatchError when the table is not what the schema says, or the login may not write to it."""
        name = f"{SCHEMA}.{table.name}"
        cursor.execute(COLUMNS_OF_TABLE, [name])
        there = {column: (kind, is_required) for column, kind, is_required in cursor.fetchall()}
        if not there:
            raise DelaywatchError(FAILING["42P01"].format(place=self._place, first=f"{name} does not exist"))
        for field in table.schema:
            kind, expected = there.get(field.name, (None, False))[0], table.type_in_postgres(field)
            if kind == expected:
                continue
            repair = (
                f"ADD COLUMN {field.name} {expected}"
                if kind is None
                else f"ALTER COLUMN {field.name} TYPE {expected} USING {field.name}::{expected}"
            )
            raise DelaywatchError(
                f"Column {field.name} of {name} is {kind or 'missing'} and should be {expected}: the table was changed "
                f"by hand; put it back with `ALTER TABLE {name} {repair}` and run the step again."
            )
        for column, (kind, is_required) in there.items():
            if is_required and column not in table.schema.names:
                raise DelaywatchError(
                    f"Column {column} ({kind}) of {name} is not ours and must not be empty, so no row can be written; "
                    f'let it be empty with `ALTER TABLE {name} ALTER COLUMN "{column}" DROP NOT NULL`.'
                )
        cursor.execute(RIGHTS_AND_KEYS_OF_TABLE, [name])
        may_write, keys = cursor.fetchone() or (False, [])
        if not may_write:
            raise DelaywatchError(
                f"User {self._user} is read-only on {name}; write with a login that is a member of flights_loader."
            )
        if "{" + ",".join(sorted(table.key)) + "}" not in keys:
            key = ", ".join(table.key)
            raise DelaywatchError(
                f"Table {name} has lost its key ({key}): it was changed by hand; put it back with "
                f"`ALTER TABLE {name} ADD PRIMARY KEY ({key})` and run the step again."
            )

    def _migrate(self, revision: str) -> bool:
        from alembic import command
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        script = ScriptDirectory.from_config(config)
        known = [step.revision for step in script.walk_revisions()]  # newest first
        if revision not in {"head", "base", *known}:
            raise ValueError(f"{revision} is none of the revisions {', '.join(known)}")
        with self._transaction("reading the revision of the tables") as cursor:
            cursor.execute("SELECT to_regclass(%s)", [f"{SCHEMA}.alembic_version"])
            current = None
            if cursor.fetchone() != (None,):
                cursor.execute(SQL("SELECT version_num FROM {}").format(Identifier(SCHEMA, "alembic_version")))
                (current,) = cursor.fetchone() or (None,)
        if current is not None and current not in known:
            raise DelaywatchError(
                f"The tables of the {self._place} are at revision {current}, which this release does not know (its "
                f"newest is {known[0]}); install the release that wrote them, or restore the backup from before it."
            )
        if current == {"head": known[0], "base": None}.get(revision, revision):
            return False
        with ALEMBIC, self._explaining("creating the tables"), self._engine.begin() as connection:
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_lock_key("migrations"),))
            config.attributes["connection"] = connection
            (command.upgrade if revision == "head" else command.downgrade)(config, revision)
        return True


# --- errors -----------------------------------------------------------------------------------------------------------


def _sentence(error: psycopg2.Error) -> str | None:
    """The sentence for an error of psycopg2, or None when it is a fault of this code and wants its traceback."""
    if error.pgcode:
        return next((FAILING[error.pgcode[:size]] for size in (5, 3, 2) if error.pgcode[:size] in FAILING), None)
    if not isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
        return None
    message = str(error)
    if re.search("connection to server|could not translate host name|could not connect|^invalid ", message):
        known = (sentence for words, sentence in CONNECTING if re.search(words, message))
        return next(known, "No connection to the {place} ({first}); correct the warehouse URL or the server.")
    return LOST


# --- what goes in -----------------------------------------------------------------------------------------------------


def _parse(url: str) -> sqlalchemy.URL:
    """The URL with our driver. Raises DelaywatchError that repeats nothing of it: a wrong URL shows its password."""
    example = "write postgresql://user:password@host:5432/database, with @ : / in the password as %40 %3A %2F"
    try:
        parsed = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise DelaywatchError(f"The warehouse URL cannot be read; {example}.") from None
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise DelaywatchError(f"The warehouse URL is for {parsed.get_backend_name()}, not for Postgres; {example}.")
    if "@" in (parsed.host or ""):
        raise DelaywatchError(f"The warehouse URL has more than one @; {example}.")
    try:
        psycopg2.extensions.make_dsn(**dict.fromkeys(parsed.query, "0"))  # the values are looked at when it connects
    except psycopg2.ProgrammingError:
        raise DelaywatchError(OPTIONS.format(options=", ".join(parsed.query))) from None
    return parsed.set(drivername="postgresql+psycopg2")


def _engine(url: sqlalchemy.URL, connect_timeout_s: int) -> sqlalchemy.Engine:
    """What opens connections to `url`, each when it is asked for; options in the URL win over ours."""
    wanted: dict[str, object] = {
        "connect_timeout": connect_timeout_s,
        "application_name": "delaywatch",
        "client_encoding": "utf8",
        # A peer that vanished without a word is noticed after a minute, not after the two hours of the kernel.
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
    }
    return sqlalchemy.create_engine(
        url,
        poolclass=sqlalchemy.NullPool,
        pool_reset_on_return=None,  # closing rolls back; a rollback on a lost connection would only log noise
        connect_args={name: value for name, value in wanted.items() if name not in url.query},
    )


def _batch(table: _Table, frame: pd.DataFrame | pa.Table, year: int, scope: Mapping[str, str]) -> pa.Table:
    """The frame as the table's schema wants it. Raises DelaywatchError naming the first thing that does not fit."""
    what = f"The batch for {table.name} {year}"
    names = frame.column_names if isinstance(frame, pa.Table) else list(frame.columns)
    missing = [name for name in table.schema.names if name not in names]
    extra = [str(name) for name in names if name not in table.schema.names]
    if missing or extra or len(names) != len(set(names)):
        raise DelaywatchError(
            f"{what} has other columns than the table (missing: {', '.join(missing) or 'none'}; unexpected: "
            f"{', '.join(extra) or 'none'}); rebuild the layer below."
        )
    columns = []
    for field in table.schema:
        try:
            column = _column(frame, field)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise DelaywatchError(
                f"{what}: column {field.name} does not fit {field.type} ({_first_line(error)}); "
                "rebuild the layer below."
            ) from error
        columns.append(column)
    batch = schemas.check(pa.Table.from_arrays(columns, schema=table.schema), table.schema, what)

    dated = table.schema.field(table.year_column).type == pa.date32()
    of_year = pc.year(batch[table.year_column]) if dated else batch[table.year_column]
    _refuse(batch.filter(pc.not_equal(of_year, pa.scalar(year))), table, f"{what} holds {{rows}} of another year")
    for name, value in scope.items():
        _refuse(
            batch.filter(pc.not_equal(batch[name], pa.scalar(value))),
            table,
            f"{what} holds {{rows}} whose {name} is not {value}",
        )
    per_key = batch.group_by(list(table.key)).aggregate([([], "count_all")])
    if per_key.num_rows < batch.num_rows:
        twice = per_key.filter(pc.greater(per_key["count_all"], pa.scalar(1)))
        _refuse(twice, table, f"{what} holds {{rows}} more than once")
    return batch


def _column(frame: pd.DataFrame | pa.Table, field: pa.Field) -> pa.Array | pa.ChunkedArray:
    """One column of the frame in the field's type, NaN as null. Raises pyarrow's errors where a value does not fit."""
    if isinstance(frame, pa.Table):
        column = frame[field.name].cast(field.type)
        if pa.types.is_floating(field.type):
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, field.type), column)
    elif isinstance(frame[field.name].dtype, pd.CategoricalDtype):
        column = pa.array(frame[field.name]).cast(field.type)  # a dictionary first, which then casts to its values
    else:
        column = pa.array(frame[field.name], type=field.type, from_pandas=True)
    return column


def _refuse(rows: pa.Table, table: _Table, complaint: str) -> None:
    if rows.num_rows:
        first = ", ".join(str(rows[name][0].as_py()) for name in table.key)
        number = f"{rows.num_rows} row{'s' if rows.num_rows > 1 else ''}"
        raise DelaywatchError(f"{complaint.format(rows=number)}, first {first}; rebuild the layer below.")


# --- roles ------------------------------------------------------------------------------------------------------------


class _Login(NamedTuple):
    """What `LOGIN` answers."""

    is_powerful: bool
    is_login: bool
    reads: bool
    writes: bool
    connects: bool
    settings: list[str]

    @property
    def objection(self) -> str | None:
        """What keeps a role that is there from becoming a reader; None for one that is ours to change."""
        if self.is_powerful:
            return "has more rights than a reader may have"
        if not self.is_login:
            return "is a group and no login"
        if self.writes:
            return "may write into flights"
        return None if self.reads else "is no member of flights_reader"


def _logins(cursor: psycopg2.extensions.cursor, login: str) -> list[_Login]:
    """The role of this name, if there is one."""
    cursor.execute(LOGIN, [login])
    return [_Login(*row) for row in cursor.fetchall()]


def _create_login(cursor: psycopg2.extensions.cursor, login: str) -> bool:
    """Make the login; whether it was not there meanwhile: roles belong to the server, our lock to one database."""
    cursor.execute("SAVEPOINT creating")
    try:
        cursor.execute(SQL("CREATE ROLE {} LOGIN").format(Identifier(login)))
    except (psycopg2.errors.DuplicateObject, psycopg2.errors.UniqueViolation):
        cursor.execute("ROLLBACK TO SAVEPOINT creating")
        return False
    return True


def _reader_remedy(user: str, login: str, *, is_there: bool) -> Composed:
    """What lets `user` make a reader of the login: from Postgres 16 on, only who administers a role may change it."""
    text = "ALTER ROLE {user} CREATEROLE; GRANT flights_reader TO {user} WITH ADMIN OPTION"
    text += "; GRANT {login} TO {user} WITH ADMIN OPTION" if is_there else ""
    return SQL(text).format(user=Identifier(user), login=Identifier(login))


def _reader_statements(login: str, database: str, found: _Login) -> list[Composed]:
    """What makes the login a reader of the database, as far as it is none yet; its password apart."""
    names = {"login": Identifier(login), "database": Identifier(database)}
    settings = (
        SQL("ALTER ROLE {login} IN DATABASE {database} SET {name} TO {value}").format(
            **names, name=Identifier(name), value=Literal(value)
        )
        for name, value in READER_SETTINGS.items()
        if f"{name}={value}" not in found.settings
    )
    grants = (
        (found.reads, "GRANT flights_reader TO {login}"),
        (found.connects, "GRANT CONNECT ON DATABASE {database} TO {login}"),
    )
    return [*(SQL(text).format(**names) for is_there, text in grants if not is_there), *settings]


# --- statements -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Upsert:
    """The statements of one upsert, in the order in which they run."""

    create_batch: Composed
    copy_batch: Composed
    analyze_batch: Composed
    update: Composed
    insert: Composed
    delete: Composed


def _upsert_statements(table: _Table, year: int, scope: Mapping[str, str]) -> _Upsert:
    """Update what differs, insert what is new, delete what is gone.

    INSERT ... ON CONFLICT alone would do the first two, but it locks, and so writes, every row that it meets, even one
    that stays as it is. With the joins an unchanged year is only read, and updated and inserted rows are counted apart;
    ON CONFLICT then decides about what no join can see: a row that somebody puts in by hand meanwhile. New rows go in
    in the order of the key, so that they lie together; the join would give them shuffled.
    """
    parts: dict[str, Composable] = {
        "table": table.identifier,
        "batch": Identifier("pg_temp", "batch"),
        "columns": _names(table.schema.names),
        "key": _names(table.key),
        "same_key": SQL(" AND ").join(
            SQL("{} = {}").format(Identifier("t", name), Identifier("batch", name)) for name in table.key
        ),
        "scope": _scope(table, year, scope),
        "from_batch": _assignments(table.values, "batch"),
        "from_excluded": _assignments(table.values, "excluded"),
        "old": _names(table.values, "t"),
        "new": _names(table.values, "batch"),
        "excluded": _names(table.values, "excluded"),
    }
    return _Upsert(
        *(
            SQL(text).format(**parts)
            for text in (
                "CREATE TEMPORARY TABLE batch ON COMMIT DROP AS SELECT {columns} FROM {table} WITH NO DATA",
                "COPY {batch} ({columns}) FROM STDIN (FORMAT csv)",
                "ANALYZE {batch} ({key})",
                "UPDATE {table} AS t SET {from_batch} FROM {batch} AS batch WHERE {same_key} AND {scope}"
                " AND ({old}) IS DISTINCT FROM ({new})",
                "INSERT INTO {table} AS t ({columns}) SELECT {columns} FROM {batch} AS batch"
                " WHERE NOT EXISTS (SELECT FROM {table} AS t WHERE {same_key} AND {scope}"
                " AND ({old}) IS NOT DISTINCT FROM ({new})) ORDER BY {key}"
                " ON CONFLICT ({key}) DO UPDATE SET {from_excluded} WHERE ({old}) IS DISTINCT FROM ({excluded})",
                "DELETE FROM {table} AS t WHERE {scope} AND NOT EXISTS (SELECT FROM {batch} AS batch WHERE {same_key})",
            )
        )
    )


def _scope(table: _Table, year: int, scope: Mapping[str, str]) -> Composed:
    conditions: list[Composable] = [table.in_year(year)]
    conditions += [SQL("{} = {}").format(Identifier("t", name), Literal(value)) for name, value in scope.items()]
    return SQL(" AND ").join(conditions)


def _names(names: Sequence[str] | Mapping[str, object], of: str | None = None) -> Composed:
    return SQL(", ").join(Identifier(of, name) if of else Identifier(name) for name in names)


def _assignments(names: Sequence[str], source: str) -> Composed:
    return SQL(", ").join(SQL("{} = {}").format(Identifier(name), Identifier(source, name)) for name in names)


def _view_select(detectors: Sequence[str], published: str) -> Composed:
    days = _names(schemas.AIRPORT_DAYS.names, "d")
    verdict = _names([name for name, _ in VERDICT_COLUMNS], published)
    flags = SQL(", ").join(
        SQL("{} AS {}").format(Identifier(name, "is_anomaly"), Identifier(f"is_anomaly_{name}")) for name in detectors
    )
    # One outer join per detector, each on the whole key: the planner leaves out those whose columns nobody asked for.
    joins = SQL(" ").join(
        SQL(
            "LEFT JOIN {anomalies} AS {a}"
            " ON {a}.origin = d.origin AND {a}.fl_date = d.fl_date AND {a}.detector = {name}"
        ).format(anomalies=TABLES["anomalies"].identifier, a=Identifier(name), name=Literal(name))
        for name in detectors
    )
    return SQL(
        "SELECT d.origin || to_char(d.fl_date::timestamp, 'YYYYMMDD') AS id, {days}, {verdict},"
        " CASE WHEN {p}.is_anomaly THEN {p}.direction WHEN {p}.status = 'ok' THEN 'normal' ELSE {p}.status END"
        " AS verdict, {flags} FROM {airport_days} AS d {joins}"
    ).format(
        days=days,
        verdict=verdict,
        p=Identifier(published),
        flags=flags,
        airport_days=TABLES["airport_days"].identifier,
        joins=joins,
    )


def _view_comment(cursor: psycopg2.extensions.cursor) -> str | None:
    cursor.execute("SELECT obj_description(to_regclass(%s), 'pg_class')", [f"{SCHEMA}.{VIEW}"])
    comment: str | None
    (comment,) = cursor.fetchone() or (None,)
    return comment


def _comment_of_view(cursor: psycopg2.extensions.cursor, detectors: Sequence[str], published: str, asked: str) -> str:
    """What the view's comment says when it is as asked.

    It ends in a digest of the definition that was asked for and one of the definition that stands, so that a view which
    somebody changed by hand is noticed too.
    """
    cursor.execute("SELECT left(md5(pg_get_viewdef(to_regclass(%s))), 12)", [f"{SCHEMA}.{VIEW}"])
    (stands,) = cursor.fetchone() or (None,)
    return (
        f"One row per airport and day, with the verdict of {published} and one flag per detector "
        f"({', '.join(detectors)}). Definition {asked} {stands}"
    )


def _view_column_comments(
    cursor: psycopg2.extensions.cursor, detectors: Sequence[str], published: str
) -> list[tuple[str, str]]:
    cursor.execute(
        "SELECT attname, col_description(attrelid, attnum) FROM pg_attribute"
        " WHERE attrelid = to_regclass(%s) AND attname = ANY (%s) AND col_description(attrelid, attnum) IS NOT NULL",
        [f"{SCHEMA}.airport_days", schemas.AIRPORT_DAYS.names],
    )
    flags = [(f"is_anomaly_{name}", f"verdict of {name}; null when it has not judged the day") for name in detectors]
    verdict = ("verdict", f"{VERDICT_COMMENT}, by {published}")
    return [*cursor.fetchall(), ("id", ID_COMMENT), *VERDICT_COLUMNS, verdict, *flags]


def _lock_key(*what: object) -> int:
    """A stable 64-bit key for an advisory lock, the same in every process and release."""
    digest = hashlib.sha256("/".join(["delaywatch", *map(str, what)]).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _first_line(error: Any) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
