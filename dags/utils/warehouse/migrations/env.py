"""Run the migrations in the transaction that `DBHandler` opened, as role `flights_owner`.

Before the first table this module creates roles, schema and grants. A new warehouse gets its tables from `models.py`;
`versions/` has the changes of existing tables. Every statement is idempotent, so that a second database on the same
server can share the roles.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context
from psycopg2 import errors
from sqlalchemy.exc import IntegrityError, ProgrammingError

from utils.errors import InvalidInput
from utils.warehouse import models

ROLES = ("flights_owner", "flights_loader", "flights_reader")

# flights_owner runs these. They cover its existing tables and the tables that it creates later.
GRANTS = (
    "GRANT USAGE ON SCHEMA flights TO flights_loader, flights_reader",
    "GRANT SELECT ON ALL TABLES IN SCHEMA flights TO flights_loader, flights_reader",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA flights GRANT SELECT ON TABLES TO flights_reader",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA flights GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO flights_loader",
)


def ask(connection: sa.Connection, question: str) -> bool:
    """Return the result of a boolean query; no row or null is False."""
    return bool(connection.exec_driver_sql(question).scalar())


def needs_administrator(connection: sa.Connection, what: str, *statements: str) -> InvalidInput:
    """Return the error for a right that an administrator must grant, with the SQL that grants it."""
    place = connection.engine.url
    return InvalidInput(
        f"User {place.username} may not {what} in database {place.database}; "
        f"let an administrator run `{'; '.join(statements)};` there and run the step again."
    )


def quoted(connection: sa.Connection, column: str) -> str:
    """Return the value of the SQL expression `column`, quoted as an identifier."""
    return str(connection.exec_driver_sql(f"SELECT quote_ident({column}::text)").scalar())


def create_roles(connection: sa.Connection) -> None:
    """Create the missing group roles, and make the login a member of flights_owner.

    A role with CREATEROLE (the master user of RDS) administers the roles that it created, but must grant them to itself
    before it can act as them.
    """
    user = quoted(connection, "current_user")
    existing = set(
        connection.execute(
            sa.text("SELECT rolname FROM pg_roles WHERE rolname = ANY (:r)"), {"r": list(ROLES)}
        ).scalars()
    )
    absent = [role for role in ROLES if role not in existing]
    join = f"GRANT flights_owner TO {user}"
    if absent and not ask(connection, "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"):
        raise needs_administrator(connection, "create roles", *(f"CREATE ROLE {role} NOLOGIN" for role in absent), join)
    for role in absent:
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(f"CREATE ROLE {role} NOLOGIN")
        except (ProgrammingError, IntegrityError) as error:
            # Roles belong to the server, our lock to one database: the migration of another database may create them.
            if not isinstance(error.orig, errors.DuplicateObject | errors.UniqueViolation):
                raise
    if not ask(connection, "SELECT pg_has_role('flights_owner', 'SET')"):
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(join)
        except ProgrammingError as error:
            if not isinstance(error.orig, errors.InsufficientPrivilege):
                raise
            raise needs_administrator(connection, "act as flights_owner", join) from error


def create_schema(connection: sa.Connection) -> None:
    """Create the schema, owned by `flights_owner`, and let loaders create temporary tables."""
    user, database = quoted(connection, "current_user"), quoted(connection, "current_database()")
    owner = connection.exec_driver_sql(
        "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'flights'"
    ).scalar()
    if owner is None:
        if not ask(connection, "SELECT has_database_privilege(current_database(), 'CREATE')"):
            raise needs_administrator(connection, "create a schema", f"GRANT CREATE ON DATABASE {database} TO {user}")
        connection.exec_driver_sql("CREATE SCHEMA flights AUTHORIZATION flights_owner")
        connection.exec_driver_sql("COMMENT ON SCHEMA flights IS 'Abnormal days of US airports: tables of Delaywatch'")
    elif owner != "flights_owner":
        raise needs_administrator(
            connection, f"use schema flights of {owner}", "ALTER SCHEMA flights OWNER TO flights_owner"
        )
    if not ask(connection, "SELECT has_database_privilege('flights_loader', current_database(), 'TEMPORARY')"):
        grant = f"GRANT TEMPORARY ON DATABASE {database} TO flights_loader"
        if not ask(
            connection, "SELECT pg_has_role(datdba, 'MEMBER') FROM pg_database WHERE datname = current_database()"
        ):
            raise needs_administrator(connection, "let flights_loader make temporary tables", grant)
        connection.exec_driver_sql(grant)


def run(connection: sa.Connection) -> None:
    """Prepare the database and run the requested migrations; the caller commits."""
    create_roles(connection)
    create_schema(connection)
    connection.exec_driver_sql("SET LOCAL ROLE flights_owner")
    for grant in GRANTS:
        connection.exec_driver_sql(grant)
    if not sa.inspect(connection).has_table("airport_days", schema="flights"):
        models.create(connection)
    context.configure(connection=connection, version_table_schema="flights")
    with context.begin_transaction():
        context.run_migrations()
    # Default privileges let loaders write every table of the owner, but they must not change the revision.
    connection.exec_driver_sql("REVOKE INSERT, UPDATE, DELETE ON flights.alembic_version FROM flights_loader")


run(context.config.attributes["connection"])
