"""Create logins with read-only access to the tables of schema flights."""

from __future__ import annotations

import re
from typing import NamedTuple

import psycopg2
import psycopg2.extensions
from psycopg2.sql import SQL, Composed, Identifier, Literal

from utils.errors import InvalidInput, Missing
from utils.warehouse.connection import Postgres, first_line, lock_key

# The attributes of one role, in the order of _Login. Settings are those of the role in this database.
LOGIN = """
    SELECT r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls, r.rolcanlogin,
           pg_has_role(r.oid, 'flights_reader', 'USAGE'),
           pg_has_role(r.oid, 'flights_loader', 'MEMBER') OR pg_has_role(r.oid, 'flights_owner', 'MEMBER'),
           has_database_privilege(r.oid, current_database(), 'CONNECT'), r.rolconnlimit,
           ARRAY(SELECT unnest(s.setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
                 WHERE s.setrole = r.oid AND d.datname = current_database())
    FROM pg_roles r WHERE r.rolname = %s
"""
GROUPS_USER_AND_DATABASE = """
    SELECT num_nulls(to_regrole('flights_owner'), to_regrole('flights_loader'), to_regrole('flights_reader')) = 0,
           current_user::text, current_database()::text
"""
MAX_READER_CONNECTIONS = 17  # 16 threads of Superset and a notebook; mem_limit in docker-compose.yaml suffices for them
READER_SETTINGS = {"default_transaction_read_only": "on", "statement_timeout": "60s"}


class _Login(NamedTuple):
    """One row of `LOGIN`."""

    is_powerful: bool
    is_login: bool
    reads: bool
    writes: bool
    connects: bool
    max_connections: int
    settings: list[str]

    @property
    def objection(self) -> str | None:
        """Return why an existing role cannot become a reader, or None if it can."""
        if self.is_powerful:
            return "has more rights than a reader may have"
        if not self.is_login:
            return "is a group, not a login"
        if self.writes:
            return "may write to flights"
        return None if self.reads else "is not a member of flights_reader"


def create_reader(server: Postgres, login: str, password: str) -> bool:
    """Create or correct the login; see `DBHandler.create_reader`."""
    _check(login, password)
    with server.transaction(f"creating the reader {login}") as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key("reader", login)])
        cursor.execute(GROUPS_USER_AND_DATABASE)
        has_groups, user, database = cursor.fetchone() or (False, "", "")
        if not has_groups:
            raise Missing(
                f"The {server.place} lacks the role flights_reader; run `python -m utils prepare` with a login that "
                "may create roles."
            )
        before = _login(cursor, login)
        try:
            is_changed = _create_or_correct(server, cursor, login, password, database)
        except psycopg2.errors.InsufficientPrivilege as error:
            remedy = _remedy(user, login, exists=before is not None).as_string(cursor)
            raise InvalidInput(
                f"User {user} may not create the reader {login} ({first_line(error)}); let an administrator run "
                f"`{remedy};` and run the step again, or create the reader manually and leave out --reader."
            ) from error
        made = _login(cursor, login)
        if made and not made.connects:  # GRANT without the right to grant gives only a warning
            grant = SQL("GRANT CONNECT ON DATABASE {} TO flights_reader").format(Identifier(database))
            raise InvalidInput(
                f"User {user} may not grant the reader {login} a connection to the {server.place}; let an "
                f"administrator run `{grant.as_string(cursor)};` and run the step again."
            )
    return is_changed


def _check(login: str, password: str) -> None:
    """Raise InvalidInput for an invalid name or password."""
    if not re.fullmatch(r"(?!pg_)[A-Za-z_][A-Za-z0-9_-]{0,62}", login) or login in {"public", "none"}:
        raise InvalidInput(
            f"The reader name {login!r} is not valid; use up to 63 letters, digits, _ and -, and begin with a letter "
            "or _, but not with pg_."
        )
    if not password or "\0" in password:
        raise InvalidInput(f"The password of the reader {login} is empty or contains a null byte; choose another one.")


def _create_or_correct(
    server: Postgres, cursor: psycopg2.extensions.cursor, login: str, password: str, database: str
) -> bool:
    """Make the login a reader with this password. Return True if anything was changed.

    Raises InvalidInput for an existing role that is not a reader.
    """
    before = _login(cursor, login)
    is_new = before is None and _create_login(cursor, login)
    role = before or _login(cursor, login)
    if role is None:
        raise AssertionError(f"the login {login} is gone while our transaction holds it")
    if role.objection and not is_new:
        raise InvalidInput(
            f"The role {login} of the {server.place} {role.objection}, so it was not changed; choose another name for "
            "the reader."
        )
    statements = _statements(login, database, role)
    if is_new or not server.accepts_password(login, password):
        verifier = psycopg2.extensions.encrypt_password(password, login, cursor.connection, "scram-sha-256")
        statements.append(SQL("ALTER ROLE {} PASSWORD {}").format(Identifier(login), Literal(verifier)))
    for statement in statements:
        cursor.execute(statement)
    return bool(statements)


def _login(cursor: psycopg2.extensions.cursor, login: str) -> _Login | None:
    """Return the role with this name, or None."""
    cursor.execute(LOGIN, [login])
    row = cursor.fetchone()
    return _Login(*row) if row else None


def _create_login(cursor: psycopg2.extensions.cursor, login: str) -> bool:
    """Create the login. Return False if another process created it: our lock belongs to one database, roles do not."""
    cursor.execute("SAVEPOINT creating")
    try:
        cursor.execute(SQL("CREATE ROLE {} LOGIN").format(Identifier(login)))
    except (psycopg2.errors.DuplicateObject, psycopg2.errors.UniqueViolation):
        cursor.execute("ROLLBACK TO SAVEPOINT creating")
        return False
    return True


def _remedy(user: str, login: str, *, exists: bool) -> Composed:
    """Return the SQL that lets `user` make the login a reader; changing a role needs its admin option."""
    text = "ALTER ROLE {user} CREATEROLE; GRANT flights_reader TO {user} WITH ADMIN OPTION"
    text += "; GRANT {login} TO {user} WITH ADMIN OPTION" if exists else ""
    return SQL(text).format(user=Identifier(user), login=Identifier(login))


def _statements(login: str, database: str, role: _Login) -> list[Composed]:
    """Return the missing statements that make the login a reader of the database, except its password."""
    named = {"login": Identifier(login), "database": Identifier(database)}
    settings = (
        SQL("ALTER ROLE {login} IN DATABASE {database} SET {name} TO {value}").format(
            **named, name=Identifier(name), value=Literal(value)
        )
        for name, value in READER_SETTINGS.items()
        if f"{name}={value}" not in role.settings
    )
    grants = (
        (role.reads, "GRANT flights_reader TO {login}"),
        (role.connects, "GRANT CONNECT ON DATABASE {database} TO {login}"),
        (
            role.max_connections != -1,  # -1: no limit; a limit that an administrator set stays
            f"ALTER ROLE {{login}} CONNECTION LIMIT {MAX_READER_CONNECTIONS}",
        ),
    )
    return [*(SQL(text).format(**named) for is_done, text in grants if not is_done), *settings]
