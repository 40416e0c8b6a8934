"""Revisions of the tables: which one a warehouse is at, and taking it to another; what they do is in `migrations/`."""

from __future__ import annotations

import threading
from pathlib import Path

from psycopg2.sql import SQL, Identifier

from utils.errors import DelaywatchError
from utils.warehouse.connection import Postgres, lock_key
from utils.warehouse.tables import SCHEMA

MIGRATIONS = Path(__file__).resolve().with_name("migrations")
NO_REVISION = (
    "The tables of the {place} do not say of which release they are: flights.alembic_version is empty or gone; restore "
    "a backup, or put its row back, for this release with `INSERT INTO flights.alembic_version VALUES ('{newest}')`."
)
ALEMBIC = threading.Lock()  # it keeps what it is doing in globals of its module, so one thread of a process at a time


def migrate(server: Postgres, revision: str) -> bool:
    """Take the tables to `revision`, `head` or `base`; whether they were at another one.

    Raises DelaywatchError when they are of a newer release or have lost their revision, and what the migrations raise.
    """
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
    with server.transaction("reading the revision of the tables") as cursor:
        cursor.execute("SELECT to_regclass(%s)", [f"{SCHEMA}.alembic_version"])
        current = None
        if cursor.fetchone() != (None,):
            cursor.execute(SQL("SELECT version_num FROM {}").format(Identifier(SCHEMA, "alembic_version")))
            (current,) = cursor.fetchone() or (None,)
        cursor.execute("SELECT to_regclass(%s)", [f"{SCHEMA}.airport_days"])
        has_tables = cursor.fetchone() != (None,)
    if current is None and has_tables:
        raise DelaywatchError(NO_REVISION.format(place=server.place, newest=known[0]))
    if current is not None and current not in known:
        raise DelaywatchError(
            f"The tables of the {server.place} are at revision {current}, which this release does not know (its "
            f"newest is {known[0]}); install the release that wrote them, or restore the backup from before it."
        )
    if current == {"head": known[0], "base": None}.get(revision, revision):
        return False
    with ALEMBIC, server.explaining("creating the tables"), server.engine.begin() as connection:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (lock_key("migrations"),))
        config.attributes["connection"] = connection
        (command.upgrade if revision == "head" else command.downgrade)(config, revision)
    return True
