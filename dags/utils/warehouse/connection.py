"""Connect to one Postgres database, run transactions, and map the server's errors to DelaywatchError.

This module does not depend on the tables.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import psycopg2
import psycopg2.extensions
import sqlalchemy

from utils.errors import Busy, DelaywatchError, InvalidInput, Missing, Unavailable

# Every transaction runs this. With 8 MB an upsert stays below the memory limit of Postgres in docker-compose.yaml.
# The other settings make text exact and names unambiguous, independent of the defaults of the server and the role.
SESSION = (
    "SELECT set_config('lock_timeout', %s, true), set_config('work_mem', '8MB', true),"
    " set_config('datestyle', 'ISO, YMD', true), set_config('timezone', 'UTC', true),"
    " set_config('extra_float_digits', '1', true), set_config('search_path', 'pg_catalog', true)"
)

# Time until a dead peer is detected. The kernel's default is 2 h while we wait for an answer (shortened by keepalives),
# and 15 min while sent data is unacknowledged (shortened by tcp_user_timeout).
SILENCE_S = 60

Kind = type[DelaywatchError]
OPTIONS = "Postgres rejects one of the options {options}; correct the part after ? in the warehouse URL."
ENCODED = "@ : / ? # % in user and password as %40 %3A %2F %3F %23 %25"
LOST = (
    Unavailable,
    "The connection to the {place} was lost while {doing}. Each year there is complete, old or new; run the step "
    "again.",
)
# (pattern of libpq's text for a failed connection, class of the error, message). The first match wins: libpq reports
# every attempt, one per address and with and without TLS.
CONNECTING: tuple[tuple[str, Kind, str], ...] = (
    (r'invalid "?\w+"? value|invalid value for parameter', InvalidInput, OPTIONS),
    (
        "password authentication failed|no password supplied|role .* does not exist|is not permitted to log in",
        InvalidInput,
        "The {place} rejected user {user} or its password; correct them in the warehouse URL. Write a % in a password "
        "as %25.",
    ),
    (
        "database .* does not exist",
        Missing,
        "The {place} does not exist; create it with CREATE DATABASE, or correct the name in the warehouse URL.",
    ),
    (
        "permission denied for database",
        InvalidInput,
        "User {user} may not connect to the {place}; let an administrator grant it CONNECT on that database.",
    ),
    (
        "certificate|does not support SSL",
        InvalidInput,
        "TLS to the {place} failed ({first}); correct sslmode and the certificate options of the warehouse URL.",
    ),
    (
        "no pg_hba.conf entry|pg_hba.conf rejects",
        InvalidInput,
        "The {place} does not admit user {user} from this machine; allow it in the server's pg_hba.conf or security "
        "group, or add ?sslmode=require to the warehouse URL if the server requires TLS.",
    ),
    (
        "too many clients|remaining connection slots|too many connections",
        Unavailable,
        "All connections of the {place} are in use; close some, raise max_connections, or run the step again later.",
    ),
    (
        "starting up|shutting down|in recovery mode|not yet accepting connections",
        Unavailable,
        "The {place} is starting or stopping; run the step again in a minute.",
    ),
    (
        # A container's name only resolves while it runs, so it may be unknown while the database restarts.
        "could not translate host name",
        Unavailable,
        "The host of the {place} is unknown; if it is a container, start it (`make up`), or else correct it in the "
        "URL.",
    ),
    (
        "Connection refused|No such file or directory|timeout expired|timed out|No route to host|unreachable",
        Unavailable,
        "No Postgres answers at the {place}; start it, or correct host and port in the warehouse URL.",
    ),
    ("server closed the connection|terminating connection", *LOST),
)
NOT_CONNECTED = "Cannot connect to the {place} ({first}); correct the warehouse URL or the server."

CHANGED_BY_HAND = (
    InvalidInput,
    "The tables of the {place} differ from those of this release, so {doing} failed ({first}). Undo the manual "
    "changes, or rebuild the tables: `ALTER SCHEMA flights RENAME TO flights_old`, `python -m utils prepare`, "
    "`INSERT INTO flights.feedback SELECT * FROM flights_old.feedback`, the same for flights.runs and "
    "flights.verdict_changes, and `python -m utils upsert` for every year.",
)
RUN_EARLIER_STEPS = "run the year's earlier steps again"
FAILED = (Unavailable, "The {place} failed while {doing} ({first}). Nothing was changed; run the step again.")
# SQLSTATE, or its first two or three characters: (class of the error, message). Longer codes win. Any other code is a
# bug in this code and keeps its traceback.
FAILING: dict[str, tuple[Kind, str]] = {
    "08": LOST,
    "22": (
        InvalidInput,
        f"The {{place}} cannot store a value while {{doing}} ({{first}}). Nothing was changed; {RUN_EARLIER_STEPS}.",
    ),
    "23": (
        InvalidInput,
        f"The {{place}} refused a row while {{doing}} ({{first}}). Nothing was changed; {RUN_EARLIER_STEPS}.",
    ),
    "23505": (
        Busy,
        "Another session wrote the same row while {doing} ({first}). Nothing was changed; run the step again.",
    ),
    "25006": (
        Unavailable,
        "The {place} is read-only for user {user}, so {doing} failed; wait until the failover has ended, or use a "
        "login that can write, on the primary.",
    ),
    "2BP01": (
        InvalidInput,
        "Other objects prevent {doing} ({detail}); drop them, run the step again and recreate them.",
    ),
    "3F000": (
        Missing,
        "The {place} lacks the schema flights; run `python -m utils prepare` with a login that is a member of "
        "flights_owner.",
    ),
    "40": (Busy, "Another session conflicted with {doing} ({first}). Nothing was changed; run the step again."),
    "42501": (
        InvalidInput,
        "User {user} lacks a right for {doing} ({first}); use a login that is a member of flights_loader, or of "
        "flights_owner to create tables.",
    ),
    "42703": CHANGED_BY_HAND,
    "42804": CHANGED_BY_HAND,
    "42809": CHANGED_BY_HAND,
    "42883": CHANGED_BY_HAND,
    "42P01": (
        Missing,
        "The {place} lacks a table ({first}); run `python -m utils prepare` with a login that is a member of "
        "flights_owner.",
    ),
    "42P10": CHANGED_BY_HAND,
    "53": (
        Unavailable,
        "The {place} ran out of resources while {doing} ({first}). Nothing was changed; run the step again.",
    ),
    "53100": (
        Unavailable,
        "The disk of the {place} is full, so {doing} failed. Nothing was changed; free some space and run the step "
        "again.",
    ),
    "55P03": (
        Busy,
        "Another session blocked {doing} for more than {lock_timeout_s} s; wait until it ends and run the step again.",
    ),
    "57014": (
        Unavailable,
        "The {place} cancelled {doing} ({first}). Nothing was changed; raise statement_timeout if it is the reason, "
        "and run the step again.",
    ),
    "57P": LOST,
    "58": FAILED,
    "XX000": FAILED,
}


class Postgres:
    """One database of one server. Opens a connection per transaction and closes it afterwards, unless it has a pool."""

    def __init__(
        self,
        url: str,
        *,
        connect_timeout_s: int,
        lock_timeout_s: int,
        variable: str = "DELAYWATCH_WAREHOUSE",
        max_connections: int = 0,
    ) -> None:
        """Store the URL without connecting. Raises DelaywatchError, naming `variable`, for an unusable URL.

        max_connections: keep so many connections open for the next transactions; 0: none.
        """
        self.url = _parse(url, variable)
        self._connect_timeout_s = connect_timeout_s
        self._lock_timeout_s = lock_timeout_s
        self.engine = _engine(self.url, connect_timeout_s, max_connections)

    @property
    def place(self) -> str:
        """Name of the database and host for messages, without secrets: the URL's query may hold passwords too."""
        host = self.url.host or self.url.query.get("host") or "the default socket"
        port = f":{self.url.port}" if self.url.port else ""
        return f"warehouse {self.url.database or self.user} at {host}{port}"

    @property
    def user(self) -> str:
        """The login of the URL."""
        return self.url.username or "(the default user)"

    @contextmanager
    def transaction(self, doing: str) -> Iterator[psycopg2.extensions.cursor]:
        """Yield a cursor; commit at the end, or roll back on an error. Raises DelaywatchError for server errors."""
        with self.explaining(doing), self.connected(doing) as connection:
            cursor: Any = connection.connection.cursor()
            cursor.execute(SESSION, [f"{self._lock_timeout_s}s"])
            yield cursor
            connection.connection.commit()

    @contextmanager
    def connected(self, doing: str) -> Iterator[sqlalchemy.Connection]:
        """Yield a connection and close it without a commit. Raises DelaywatchError if connecting fails."""
        try:
            connection = self.engine.connect()
        except (psycopg2.Error, sqlalchemy.exc.DBAPIError) as error:
            cause = _driver_error(error)
            raise self._error(*refusal(str(cause)), doing, cause) from error
        try:
            yield connection
        finally:
            connection.close()

    def accepts_password(self, login: str, password: str) -> bool:
        """Return True if `login` can connect and the server checked this password."""
        url = self.url.difference_update_query(["user", "password"]).set(username=login, password=password)
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
    def explaining(self, doing: str) -> Iterator[None]:
        """Turn errors of the server into DelaywatchError. doing: the operation, for the message."""
        try:
            yield
        except (psycopg2.Error, sqlalchemy.exc.DBAPIError) as error:
            cause = _driver_error(error)
            known = _failure(cause)
            if known is None:
                raise
            raise self._error(*known, doing, cause) from error

    def _error(self, kind: Kind, message: str, doing: str, cause: BaseException) -> DelaywatchError:
        diagnostics = getattr(cause, "diag", None)
        return kind(
            message.format(
                place=self.place,
                user=self.user,
                doing=doing,
                first=first_line(cause),
                detail=first_line(getattr(diagnostics, "message_detail", None) or cause),
                lock_timeout_s=self._lock_timeout_s,
                options=", ".join(self.url.query),
            )
        )


def refusal(text: str) -> tuple[Kind, str]:
    """Return the class and the message of the error for a connection that failed.

    text: libpq's, in English. psycopg2 gives no code for it, so this function matches text. An unknown reason gives
    Unavailable.
    """
    known = ((kind, message) for words, kind, message in CONNECTING if re.search(words, text))
    return next(known, (Unavailable, NOT_CONNECTED))


def _driver_error(error: psycopg2.Error | sqlalchemy.exc.DBAPIError) -> BaseException:
    """Return the error of psycopg2, which SQLAlchemy may have wrapped."""
    return error.orig or error if isinstance(error, sqlalchemy.exc.DBAPIError) else error


def _failure(error: BaseException) -> tuple[Kind, str] | None:
    """Return class and message for an error on an open connection, None for a bug in this code."""
    code = getattr(error, "pgcode", None)
    if code:
        return next((FAILING[code[:size]] for size in (5, 3, 2) if code[:size] in FAILING), None)
    return LOST if isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError) else None


def _parse(url: str, variable: str) -> sqlalchemy.URL:
    """Return the URL with our driver.

    Raises DelaywatchError. Its message repeats no part of the URL, because a malformed one may have its password
    anywhere.
    """
    example = f"correct {variable}: write postgresql://user:password@host:5432/database, with {ENCODED}"
    try:
        has_zero_byte = "\0" in unquote(url, errors="strict")  # names and passwords cannot contain one
        parsed = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):  # ValueError also for bytes that are not UTF-8
        raise InvalidInput(f"The warehouse URL cannot be parsed; {example}.") from None
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise InvalidInput(f"The warehouse URL is for {parsed.get_backend_name()}, not for Postgres; {example}.")
    if "@" in (parsed.host or "") or (parsed.username is None and "@" in url.partition("?")[0]):
        raise InvalidInput(f"The warehouse URL has an @ that is not the end of user and password; {example}.")
    if has_zero_byte:
        raise InvalidInput(f"The warehouse URL contains a zero byte; {example}.")
    options = url.rpartition("@")[2].partition("?")[2]
    if options and not all(option.partition("=")[2] for option in options.split("&")):
        raise InvalidInput(f"The warehouse URL has an option without a value after the ?; {example}.")
    try:
        psycopg2.extensions.make_dsn(**dict.fromkeys(parsed.query, "0"))  # checks names only; connecting checks values
    except psycopg2.ProgrammingError:
        raise InvalidInput(OPTIONS.format(options=", ".join(parsed.query))) from None
    return parsed.set(drivername="postgresql+psycopg2")


def _engine(url: sqlalchemy.URL, connect_timeout_s: int, max_connections: int = 0) -> sqlalchemy.Engine:
    """Return an engine that opens connections to `url` on demand. Options in the URL win over ours."""
    options: dict[str, object] = {
        "connect_timeout": connect_timeout_s,
        "application_name": "delaywatch",
        "client_encoding": "utf8",
        "keepalives_idle": SILENCE_S // 2,
        "keepalives_interval": max(1, SILENCE_S // 6),
        "keepalives_count": 3,
        "tcp_user_timeout": 1000 * SILENCE_S,
    }
    arguments = {name: value for name, value in options.items() if name not in url.query}
    if max_connections:
        return sqlalchemy.create_engine(
            url,
            pool_size=max_connections,
            max_overflow=0,
            pool_timeout=connect_timeout_s,
            pool_pre_ping=True,  # the server may have restarted
            connect_args=arguments,
        )
    return sqlalchemy.create_engine(
        url,
        poolclass=sqlalchemy.NullPool,
        pool_reset_on_return=None,  # closing rolls back; a rollback on a lost connection would only log noise
        connect_args=arguments,
    )


def lock_key(*parts: object) -> int:
    """Return a 64-bit key for an advisory lock, the same in every process and release."""
    digest = hashlib.sha256("/".join(["delaywatch", *map(str, parts)]).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def first_line(error: Any) -> str:
    """Return the first line of an error's text, or the name of its class if the text is empty."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
