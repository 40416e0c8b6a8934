"""Run the migrations in the transaction that `DBHandler` opened, as role `flights_owner`.

Before the first table this module creates roles, schema and grants. A new warehouse gets its tables from `models.py`;
`versions/` has the changes of existing tables. Both get the comments of `models.py` at the end. Every statement is
idempotent, so that a second database on the same server can share the roles.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import context
from psycopg2 import errors
from sqlalchemy.exc import IntegrityError, ProgrammingError

from utils.errors import InvalidInput
from utils.reporting import wording
from utils.warehouse import models

ROLES = ("flights_owner", "flights_loader", "flights_reader")

# flights_owner runs these. They cover its existing tables and the tables that it creates later.
GRANTS = (
    "GRANT USAGE ON SCHEMA flights TO flights_loader, flights_reader",
    "GRANT SELECT ON ALL TABLES IN SCHEMA flights TO flights_loader, flights_reader",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA flights GRANT SELECT ON TABLES TO flights_reader",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA flights GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO flights_loader",
)

# What the login may do, as boolean SQL. A missing role gives null, which counts as False.
MAY_CREATE_ROLES = "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
IS_OWNER = "SELECT pg_has_role(to_regrole('flights_owner')::oid, 'SET')"
MAY_BECOME_OWNER = "SELECT pg_has_role(to_regrole('flights_owner')::oid, 'SET, MEMBER WITH ADMIN OPTION')"
MAY_CREATE_SCHEMAS = "SELECT has_database_privilege(current_database(), 'CREATE')"
OWNS_DATABASE = "SELECT pg_has_role(datdba, 'MEMBER') FROM pg_database WHERE datname = current_database()"
# Role 0 is PUBLIC, whose rights a role has that is still to be created.
LOADER_HAS_TEMPORARY = (
    "SELECT has_database_privilege(coalesce(to_regrole('flights_loader')::oid, 0), current_database(), 'TEMPORARY')"
)
SCHEMA_OWNER = "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'flights'"


def ask(connection: sa.Connection, question: str) -> bool:
    """Return the result of a boolean query; no row or null is False."""
    return bool(connection.exec_driver_sql(question).scalar())


def quoted(connection: sa.Connection, column: str) -> str:
    """Return the value of the SQL expression `column`, quoted as an identifier."""
    return str(connection.exec_driver_sql(f"SELECT quote_ident({column}::text)").scalar())


def missing_rights(connection: sa.Connection, absent: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return all that the login may not do, and the SQL with which an administrator allows it.

    absent: the roles that do not exist yet.
    """
    user, database = quoted(connection, "current_user"), quoted(connection, "current_database()")
    join = f"GRANT flights_owner TO {user}"
    refused, statements = [], []
    may_create_roles = ask(connection, MAY_CREATE_ROLES)
    if absent and not may_create_roles:
        refused.append("create roles")
    if "flights_owner" not in absent and not ask(connection, MAY_BECOME_OWNER):
        refused.append("act as flights_owner")
        statements.append(join)
    owner = connection.exec_driver_sql(SCHEMA_OWNER).scalar()
    if owner is None and not ask(connection, MAY_CREATE_SCHEMAS):
        refused.append("create a schema")
        statements.append(f"GRANT CREATE ON DATABASE {database} TO {user}")
    elif owner not in {None, "flights_owner"}:
        refused.append(f"use schema flights of {owner}")
        statements.append("ALTER SCHEMA flights OWNER TO flights_owner")
    if not ask(connection, LOADER_HAS_TEMPORARY) and not ask(connection, OWNS_DATABASE):
        refused.append("let flights_loader create temporary tables")
        statements.append(f"GRANT TEMPORARY ON DATABASE {database} TO flights_loader")
    # The login creates the other absent roles itself, because it must administer them.
    needed = [role for role in absent if not may_create_roles or any(role in statement for statement in statements)]
    joins = [join] if "flights_owner" in needed else []
    return refused, [*(f"CREATE ROLE {role} NOLOGIN" for role in needed), *joins, *statements]


def create_roles(connection: sa.Connection, absent: Sequence[str]) -> None:
    """Create the absent group roles, and make the login a member of flights_owner.

    A role with CREATEROLE (the master user of RDS) administers the roles that it created, but must grant them to itself
    before it can act as them.
    """
    for role in absent:
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(f"CREATE ROLE {role} NOLOGIN")
        except (ProgrammingError, IntegrityError) as error:
            # Roles belong to the server, our lock to one database: the migration of another database may create them.
            if not isinstance(error.orig, errors.DuplicateObject | errors.UniqueViolation):
                raise
    if not ask(connection, IS_OWNER):
        connection.exec_driver_sql(f"GRANT flights_owner TO {quoted(connection, 'current_user')}")


def create_schema(connection: sa.Connection) -> None:
    """Create the schema, owned by `flights_owner`, and let loaders create temporary tables."""
    if connection.exec_driver_sql(SCHEMA_OWNER).scalar() is None:
        connection.exec_driver_sql("CREATE SCHEMA flights AUTHORIZATION flights_owner")
    if not ask(connection, LOADER_HAS_TEMPORARY):
        database = quoted(connection, "current_database()")
        connection.exec_driver_sql(f"GRANT TEMPORARY ON DATABASE {database} TO flights_loader")


def run(connection: sa.Connection) -> None:
    """Prepare the database and run the requested migrations; the caller commits."""
    existing = connection.execute(sa.text("SELECT rolname FROM pg_roles WHERE rolname = ANY (:r)"), {"r": list(ROLES)})
    absent = sorted(set(ROLES) - set(existing.scalars()))
    refused, statements = missing_rights(connection, absent)
    if refused:
        url = connection.engine.url
        raise InvalidInput(
            f"User {url.username} may not {wording.listed(refused, 'or')} in database {url.database}; run "
            "`python -m utils prepare` with a login that may, or let an administrator run "
            f"`{'; '.join(statements)};` there and run the step again."
        )
    create_roles(connection, absent)
    create_schema(connection)
    connection.exec_driver_sql("SET LOCAL ROLE flights_owner")
    for grant in GRANTS:
        connection.exec_driver_sql(grant)
    if not sa.inspect(connection).has_table("airport_days", schema="flights"):
        models.create(connection)
    context.configure(connection=connection, version_table_schema="flights")
    with context.begin_transaction():
        context.run_migrations()
    models.comment(connection)
    # Default privileges let loaders write every table of the owner, but they must not change the revision.
    connection.exec_driver_sql("REVOKE INSERT, UPDATE, DELETE ON flights.alembic_version FROM flights_loader")


run(context.config.attributes["connection"])
