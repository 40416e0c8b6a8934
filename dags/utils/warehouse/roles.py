"""Create logins for the tables of schema flights: readers, and labellers, which may write feedback and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import psycopg2
import psycopg2.extensions
from psycopg2.sql import SQL, Composed, Identifier, Literal

from utils.errors import InvalidInput, Missing
from utils.warehouse.connection import Postgres, first_line, lock_key

# The attributes of one role, in the order of _Login. Settings are those of the role in this database.
LOGIN = """
    SELECT r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls, r.rolcanlogin,
           coalesce(pg_has_role(r.oid, to_regrole(%(group)s)::oid, 'USAGE'), false),
           coalesce(bool_or(pg_has_role(r.oid, other.oid, 'MEMBER')), false),
           has_database_privilege(r.oid, current_database(), 'CONNECT'), r.rolconnlimit,
           ARRAY(SELECT unnest(s.setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
                 WHERE s.setrole = r.oid AND d.datname = current_database())
    FROM pg_roles r LEFT JOIN pg_roles other ON other.rolname = ANY (%(others)s)
    WHERE r.rolname = %(login)s GROUP BY r.oid, r.rolname, r.rolsuper, r.rolcreaterole, r.rolcreatedb, r.rolreplication,
          r.rolbypassrls, r.rolcanlogin, r.rolconnlimit
"""
GROUPS_USER_AND_DATABASE = """
    SELECT num_nulls(to_regrole('flights_owner'), to_regrole('flights_loader'), to_regrole('flights_reader')) = 0,
           current_user::text, current_database()::text
"""
HAS_LABELLERS = """
    SELECT to_regrole('flights_labeller') IS NOT NULL,
           coalesce(has_schema_privilege(to_regrole('flights_labeller')::oid, 'flights', 'USAGE')
           AND has_table_privilege(to_regrole('flights_labeller')::oid, 'flights.airport_days', 'SELECT')
           AND has_table_privilege(to_regrole('flights_labeller')::oid, 'flights.feedback', 'SELECT')
           AND has_table_privilege(to_regrole('flights_labeller')::oid, 'flights.feedback', 'INSERT')
           AND has_table_privilege(to_regrole('flights_labeller')::oid, 'flights.feedback', 'UPDATE')
           AND has_table_privilege(to_regrole('flights_labeller')::oid, 'flights.feedback', 'DELETE'), false)
"""
LABELLERS_RIGHTS = (
    "SET LOCAL ROLE flights_owner",
    "GRANT USAGE ON SCHEMA flights TO flights_labeller",
    # Feedback on a day needs the day, and the message about an unknown airport needs the known ones.
    "GRANT SELECT ON flights.airport_days, flights.feedback TO flights_labeller",
    "GRANT INSERT, UPDATE, DELETE ON flights.feedback TO flights_labeller",
    "RESET ROLE",
)


class Group(NamedTuple):
    """A group role and the limits of its logins. others: groups whose members may write more than this group."""

    role: str
    noun: str
    max_connections: int
    settings: Mapping[str, str]
    others: tuple[str, ...]


READERS = Group(
    "flights_reader",
    "reader",
    21,  # 16 threads of Superset, 4 of the site, a notebook; mem_limit in docker-compose.yaml suffices for them
    {"default_transaction_read_only": "on", "statement_timeout": "60s"},
    ("flights_owner", "flights_loader", "flights_labeller"),
)
LABELLERS = Group("flights_labeller", "labeller", 4, {"statement_timeout": "10s"}, ("flights_owner", "flights_loader"))


class _Login(NamedTuple):
    """One row of `LOGIN`."""

    is_powerful: bool
    is_login: bool
    is_member: bool
    writes_more: bool
    connects: bool
    max_connections: int
    settings: list[str]

    def objection(self, group: Group) -> str | None:
        """Return why an existing role cannot become a login of the group, or None if it can."""
        if self.is_powerful:
            return f"has more rights than a {group.noun} may have"
        if not self.is_login:
            return "is a group, not a login"
        if self.writes_more:
            return f"may write more of flights than a {group.noun}"
        return None if self.is_member else f"is not a member of {group.role}"


def create_reader(server: Postgres, login: str, password: str) -> bool:
    """Create or correct the login; see `DBHandler.create_reader`."""
    return _create(server, READERS, login, password)


def create_labeller(server: Postgres, login: str, password: str) -> bool:
    """Create or correct the login and its group; see `DBHandler.create_labeller`."""
    return _create(server, LABELLERS, login, password)


def _create(server: Postgres, group: Group, login: str, password: str) -> bool:
    _check(group, login, password)
    with server.transaction(f"creating the {group.noun} {login}") as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key("reader", login)])
        cursor.execute(GROUPS_USER_AND_DATABASE)
        has_groups, user, database = cursor.fetchone() or (False, "", "")
        if not has_groups:
            raise Missing(
                f"The {server.place} lacks the role flights_reader; run `python -m utils prepare` with a login that "
                "may create roles."
            )
        before = _login(cursor, group, login)
        cursor.execute("SELECT to_regrole(%s) IS NOT NULL", [group.role])
        (has_group,) = cursor.fetchone() or (False,)
        try:
            is_changed = group is LABELLERS and _complete_labellers(cursor)
            is_changed |= _create_or_correct(server, cursor, group, login, password, database)
        except psycopg2.errors.InsufficientPrivilege as error:
            remedy = _remedy(cursor, group, user, login, has_group=has_group, has_login=before is not None)
            raise InvalidInput(
                f"User {user} may not create the {group.noun} {login} ({first_line(error)}); let an administrator run "
                f"`{remedy};` and run the step again, or create the {group.noun} manually and leave out "
                f"--{group.noun}."
            ) from error
        made = _login(cursor, group, login)
        if made and not made.connects:  # GRANT without the right to grant gives only a warning
            grant = SQL("GRANT CONNECT ON DATABASE {} TO {}").format(Identifier(database), Identifier(group.role))
            raise InvalidInput(
                f"User {user} may not grant the {group.noun} {login} a connection to the {server.place}; let an "
                f"administrator run `{grant.as_string(cursor)};` and run the step again."
            )
    return is_changed


def _check(group: Group, login: str, password: str) -> None:
    """Raise InvalidInput for an invalid name or password."""
    if not re.fullmatch(r"(?!pg_)[A-Za-z_][A-Za-z0-9_-]{0,62}", login) or login in {"public", "none"}:
        raise InvalidInput(
            f"The {group.noun} name {login!r} is not valid; use up to 63 letters, digits, _ and -, and begin with a "
            "letter or _, but not with pg_."
        )
    if not password or "\0" in password:
        raise InvalidInput(
            f"The password of the {group.noun} {login} is empty or contains a null byte; choose another one."
        )


def _complete_labellers(cursor: psycopg2.extensions.cursor) -> bool:
    """Create the group flights_labeller and grant its rights. Return True if anything was missing."""
    cursor.execute(HAS_LABELLERS)
    exists, has_rights = cursor.fetchone() or (False, False)
    if not exists:
        _create_role(cursor, "flights_labeller", SQL("NOLOGIN"))
    if not has_rights:
        for statement in LABELLERS_RIGHTS:
            cursor.execute(statement)
    return not (exists and has_rights)


def _create_or_correct(
    server: Postgres, cursor: psycopg2.extensions.cursor, group: Group, login: str, password: str, database: str
) -> bool:
    """Make the login a member of the group with this password. Return True if anything was changed.

    Raises InvalidInput for an existing role that is not a login of the group.
    """
    before = _login(cursor, group, login)
    is_new = before is None and _create_role(cursor, login, SQL("LOGIN"))
    role = before or _login(cursor, group, login)
    if role is None:
        raise AssertionError(f"the login {login} is gone while our transaction holds it")
    objection = role.objection(group)
    if objection and not is_new:
        raise InvalidInput(
            f"The role {login} of the {server.place} {objection}, so it was not changed; choose another name for "
            f"the {group.noun}."
        )
    statements = _statements(group, login, database, role)
    if is_new or not server.accepts_password(login, password):
        verifier = psycopg2.extensions.encrypt_password(password, login, cursor.connection, "scram-sha-256")
        statements.append(SQL("ALTER ROLE {} PASSWORD {}").format(Identifier(login), Literal(verifier)))
    for statement in statements:
        cursor.execute(statement)
    return bool(statements)


def _login(cursor: psycopg2.extensions.cursor, group: Group, login: str) -> _Login | None:
    """Return the role with this name, or None."""
    cursor.execute(LOGIN, {"login": login, "group": group.role, "others": list(group.others)})
    row = cursor.fetchone()
    return _Login(*row) if row else None


def _create_role(cursor: psycopg2.extensions.cursor, name: str, kind: SQL) -> bool:
    """Create the role. Return False if another process created it: our lock belongs to one database, roles do not."""
    cursor.execute("SAVEPOINT creating")
    try:
        cursor.execute(SQL("CREATE ROLE {} {}").format(Identifier(name), kind))
    except (psycopg2.errors.DuplicateObject, psycopg2.errors.UniqueViolation):
        cursor.execute("ROLLBACK TO SAVEPOINT creating")
        return False
    return True


def _remedy(
    cursor: psycopg2.extensions.cursor, group: Group, user: str, login: str, *, has_group: bool, has_login: bool
) -> str:
    """Return the SQL that lets `user` make the login a member; changing a role needs its admin option."""
    text = "" if has_group else "CREATE ROLE {group} NOLOGIN; "
    text += "ALTER ROLE {user} CREATEROLE; GRANT {group} TO {user} WITH ADMIN OPTION"
    text += "; GRANT {login} TO {user} WITH ADMIN OPTION" if has_login else ""
    named = {"user": user, "group": group.role, "login": login}
    return SQL(text).format(**{key: Identifier(name) for key, name in named.items()}).as_string(cursor)


def _statements(group: Group, login: str, database: str, role: _Login) -> list[Composed]:
    """Return the missing statements that make the login a member of the group, except its password."""
    named = {"login": Identifier(login), "database": Identifier(database), "group": Identifier(group.role)}
    settings = (
        SQL("ALTER ROLE {login} IN DATABASE {database} SET {name} TO {value}").format(
            **named, name=Identifier(name), value=Literal(value)
        )
        for name, value in group.settings.items()
        if f"{name}={value}" not in role.settings
    )
    grants = (
        (role.is_member, "GRANT {group} TO {login}"),
        (role.connects, "GRANT CONNECT ON DATABASE {database} TO {login}"),
        (
            role.max_connections != -1,  # -1: no limit; a limit that an administrator set stays
            f"ALTER ROLE {{login}} CONNECTION LIMIT {group.max_connections}",
        ),
    )
    return [*(SQL(text).format(**named) for is_done, text in grants if not is_done), *settings]
