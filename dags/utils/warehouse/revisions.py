"""Read the revision of the warehouse's tables, create missing tables, and migrate older ones.

`migrations/` has the changes of each revision, `models.py` the tables of a new warehouse.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import NamedTuple

import psycopg2.extensions
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg2.sql import SQL, Identifier

from utils.errors import InvalidInput
from utils.warehouse.connection import Postgres, lock_key
from utils.warehouse.tables import SCHEMA

MIGRATIONS = Path(__file__).resolve().with_name("migrations")
MIN_SERVER_VERSION = 17  # for MERGE with WHEN NOT MATCHED BY SOURCE and RETURNING
FORMER = {"0001"}  # revisions of old releases without a migration to the current one
KEPT = ("feedback", "runs", "verdict_changes")  # tables that cannot be rebuilt from the lake
COPY = "`INSERT INTO flights.{0} SELECT * FROM flights_old.{0}`"
ALEMBIC = threading.Lock()  # Alembic keeps its state in module globals, so one thread of a process may run it at a time


class _State(NamedTuple):
    """The revision of a warehouse, and its tables among KEPT, airport_days and alembic_version."""

    revision: str | None
    tables: set[str]


def create(server: Postgres) -> bool:
    """Create or migrate the tables; see `DBHandler.create`."""
    script = ScriptDirectory(str(MIGRATIONS))
    known = [step.revision for step in script.walk_revisions()]  # newest first
    with server.transaction("reading the revision of the tables") as cursor:
        _check_server(server, cursor.connection.server_version)
        state = _state(cursor)
    if state.revision == known[0]:
        return False
    has_tables = "airport_days" in state.tables
    if state.revision in FORMER or (state.revision is None and state.tables - {"alembic_version"}):
        raise InvalidInput(_rebuild(server.place, state))
    if state.revision not in {None, *known}:
        raise InvalidInput(
            f"The tables of the {server.place} are at revision {state.revision}, which this release does not know (its "
            f"newest is {known[0]}); install the release that migrated them, or restore the backup from before its "
            "upgrade."
        )
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    doing = "creating the tables"
    with ALEMBIC, server.explaining(doing), server.connected(doing) as connection, connection.begin():
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (lock_key("migrations"),))
        config.attributes["connection"] = connection
        (command.upgrade if has_tables else command.stamp)(config, "head")
    return True


def _check_server(server: Postgres, version: int) -> None:
    if version < MIN_SERVER_VERSION * 10_000:
        raise InvalidInput(
            f"The {server.place} is Postgres {version // 10_000}, but Delaywatch needs {MIN_SERVER_VERSION} or later; "
            "upgrade the server (pg_upgrade, or a new engine version on RDS), or use another one."
        )


def _state(cursor: psycopg2.extensions.cursor) -> _State:
    names = ["airport_days", "alembic_version", *KEPT]
    cursor.execute(
        "SELECT name FROM unnest(%s) AS name WHERE to_regclass(%s || name) IS NOT NULL", [names, f"{SCHEMA}."]
    )
    tables = {name for (name,) in cursor.fetchall()}
    if "alembic_version" not in tables:
        return _State(None, tables)
    cursor.execute(SQL("SELECT version_num FROM {}").format(Identifier(SCHEMA, "alembic_version")))
    (revision,) = cursor.fetchone() or (None,)
    return _State(revision, tables)


def _rebuild(place: str, state: _State) -> str:
    """Return the message with the commands that rebuild the tables from the lake and keep the KEPT tables."""
    if state.revision:
        problem = f"are at revision {state.revision}, which this release cannot migrate."
    else:
        problem = "have no revision. If they come from a backup, restore the whole backup again."
    steps = [
        "in psql `ALTER SCHEMA flights RENAME TO flights_old`",
        "`python -m utils prepare`",
        *("in psql " + COPY.format(name) for name in KEPT if name in state.tables),
        "`python -m utils upsert --year FIRST:LAST`",
    ]
    return (
        f"The tables of the {place} {problem} Rebuild the tables from the lake: {'; then '.join(steps)}. When the new "
        "tables are complete, in psql `DROP SCHEMA flights_old CASCADE`."
    )
