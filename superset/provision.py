"""Prepare Superset in one process: tables, roles, the user admin, and the assets. Idempotent.

    python provision.py                     everything; the password of an existing admin stays as it is
    python provision.py --reset-password    only set admin's password to the one in /run/delaywatch/admin_password
    python provision.py --reencrypt         only re-encrypt values of the old secret_key with the new one

The assets API imports the assets; it overwrites those with the same UUID. Assets of analysts stay.
"""

# Runs in Superset's image. Its packages are not in this repository's environment, and some can be imported only after
# the application exists.
# mypy: disable-error-code="attr-defined, import-not-found, import-untyped"
# ruff: noqa: PLC0415, T201

from __future__ import annotations

import argparse
import io
import logging
import sys
from pathlib import Path
from typing import Any

import bundle
import encryption
import sqlalchemy
from sqlalchemy.engine import URL, make_url
from superset_config import HANDED, handed

ASSETS = Path(__file__).parent / "assets"
HERE = "https://localhost"  # with http the client would not send the secure session cookie
ANALYST = "Analyst"  # can view and create charts and dashboards, and query the warehouse in SQL Lab

RIGHTS = """
    SELECT to_regclass('flights.airport_days') IS NOT NULL AND to_regclass('flights.anomalies') IS NOT NULL
           AND has_table_privilege(to_regclass('flights.airport_days'), 'SELECT'),
           coalesce(has_table_privilege(to_regclass('flights.airport_days'), 'INSERT, UPDATE, DELETE, TRUNCATE'), false)
"""


class ProvisionError(Exception):
    """An error that a person can correct; the message says how."""


def main() -> int:
    """Run the command line; a ProvisionError is printed as one sentence with exit code 1."""
    parser = argparse.ArgumentParser(description="Make Superset ready: tables, roles, the user admin, dashboards.")
    parser.add_argument(
        "--reset-password", action="store_true", help="only give admin the password in /run/delaywatch/admin_password"
    )
    parser.add_argument(
        "--reencrypt", action="store_true", help="only encrypt anew what /run/delaywatch/previous_secret_key opens"
    )
    options = parser.parse_args()
    try:
        ask(url_of("database_url"), "Superset's own database", "SELECT 1")
        if options.reset_password:
            with superset().app_context():
                reset_password()
        elif options.reencrypt:
            with superset().app_context():
                reencrypt()
        else:
            provision()
    except (ProvisionError, bundle.BundleError, encryption.UnreadableError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def provision() -> None:
    """Migrate Superset's own database, create roles and users, and import the dashboards."""
    warehouse = url_of("warehouse_url")
    check_warehouse(warehouse)
    (detectors,) = ask(warehouse, "The warehouse", bundle.DETECTORS)
    packed = bundle.pack(ASSETS, warehouse.render_as_string(hide_password=False), detectors)
    app = superset()
    with app.app_context():
        upgrade_tables()
        reencrypt()
        make_roles()
        token = token_of(make_admin())
    import_assets(app, token, packed)  # outside of any context: a request inside would share its user and session
    with app.app_context():
        make_analysts()
    say("Superset is ready.")


def say(sentence: str) -> None:
    """Print one line of progress."""
    print(sentence, flush=True)


def url_of(name: str) -> URL:
    """Return a database URL of `setup` with our driver. Raises ProvisionError if it is not a database URL."""
    try:
        return make_url(handed(name)).set(drivername="postgresql+psycopg2")
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise ProvisionError(
            f"{HANDED / name} holds no address of a database; correct it to postgresql://user:password@host:5432/database."
        ) from None


def ask(url: URL, database: str, question: str) -> tuple[Any, ...]:
    """Return the first row of a query. Raises ProvisionError if the database cannot be reached or rejects the login."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool, connect_args={"connect_timeout": 10})
    try:
        with engine.connect() as connection:
            return tuple(connection.execute(sqlalchemy.text(question)).one())
    except sqlalchemy.exc.DBAPIError as error:
        message = str(error.orig).strip().splitlines()[0]
        place = f"{url.database} at {url.host}:{url.port or 5432}"
        raise ProvisionError(
            f"{database} ({place}) cannot be used: {message}; start it, or correct its login or address."
        ) from None


def check_warehouse(url: URL) -> None:
    """Raise ProvisionError unless the warehouse answers, has our tables, and the login can read but not write them."""
    is_readable, is_writable = ask(url, "The warehouse", RIGHTS)
    if not is_readable:
        raise ProvisionError(
            f"The login {url.username} finds no tables to read in the schema flights of the warehouse {url.database}; "
            "`python -m utils prepare` creates them, and membership in the role flights_reader lets a login read them."
        )
    if is_writable:
        raise ProvisionError(
            f"The login {url.username} may write to the warehouse {url.database}; give Superset one that may only "
            "read, a member of the role flights_reader."
        )


def superset() -> Any:
    """Return Superset's application, with only warnings in its log."""
    logging.disable(logging.INFO)
    from superset.app import create_app

    return create_app()


def upgrade_tables() -> None:
    """Do the same as `superset db upgrade`."""
    from flask_migrate import upgrade

    try:
        upgrade()
    except SystemExit:  # flask_migrate has logged the reason: a revision that this release does not know
        raise ProvisionError(
            "The tables in Superset's own database are those of a newer release; start that one, or restore the backup "
            "from before it."
        ) from None
    say("The tables are up to date.")


def reencrypt() -> None:
    """During a rotation of secret_key, re-encrypt all values of the previous key."""
    if not (HANDED / "previous_secret_key").exists():
        return
    from superset import db

    count = encryption.renew(db.engine, handed("previous_secret_key"), handed("secret_key"))
    say(f"{count} stored secrets were encrypted anew." if count else "No stored secret needs the old key.")


def make_roles() -> None:
    """Do the same as `superset init`."""
    from superset import appbuilder, db, security_manager

    try:
        appbuilder.add_permissions(update_perms=True)
        security_manager.sync_role_definitions()
    except ValueError as error:
        if "decryption" not in str(error):
            raise
        raise ProvisionError(
            "Superset's own database was encrypted with another secret_key than the one that was handed over; restore "
            "both from the same backup."
        ) from None
    db.session.commit()


def make_admin() -> Any:
    """Create the user admin if it is missing."""
    from superset import security_manager

    admin = security_manager.find_user("admin")
    if admin is None:
        admin = security_manager.add_user(
            username="admin",
            first_name="Delaywatch",
            last_name="Admin",
            email="admin@localhost",
            role=security_manager.find_role("Admin"),
            password=handed("admin_password"),
        )
        if not admin:
            raise ProvisionError(
                "Superset did not take the user admin; remove a user with the address admin@localhost."
            )
        say("The user admin is made.")
    return admin


def token_of(user: Any) -> str:
    """Return a token for the API, which does not depend on the user's password."""
    from flask_jwt_extended import create_access_token

    return str(create_access_token(identity=str(user.id)))


def reset_password() -> None:
    """Set admin's password to the one from `setup`."""
    from superset import security_manager

    admin = security_manager.find_user("admin")
    if admin is None:
        raise ProvisionError("There is no user admin yet; start the service superset-init without --reset-password.")
    security_manager.reset_password(admin.id, handed("admin_password"))
    say("The user admin has the password that was handed over.")


def import_assets(app: Any, token: str, packed: bytes) -> None:
    """Post the bundle to the assets API."""
    client = app.test_client()
    headers = {"Authorization": f"Bearer {token}", "Referer": f"{HERE}/"}
    csrf = client.get("/api/v1/security/csrf_token/", base_url=HERE, headers=headers)
    answer = client.post(
        "/api/v1/assets/import/",
        base_url=HERE,
        headers={**headers, "X-CSRFToken": csrf.json["result"]},
        data={"bundle": (io.BytesIO(packed), "bundle.zip")},
    )
    if answer.status_code != 200:
        text = " ".join(answer.get_data(as_text=True).split())
        raise ProvisionError(
            f"Superset refused the assets ({answer.status}: {text}); put the files of this release back."
        )
    say("The dashboards are imported.")


def make_analysts() -> None:
    """Create the role Analyst: Gamma and sql_lab on the whole warehouse. Permissions added by an administrator stay."""
    from superset import db, security_manager
    from superset.models.core import Database

    (uuid,) = (database["uuid"] for database in bundle.read(ASSETS)["databases"].values())
    warehouse = db.session.query(Database).filter_by(uuid=uuid).one()
    permissions = [security_manager.add_permission_view_menu("database_access", warehouse.perm)]
    permissions += [right for name in ("Gamma", "sql_lab") for right in security_manager.find_role(name).permissions]
    analyst = security_manager.add_role(ANALYST)
    analyst.permissions += [right for right in dict.fromkeys(permissions) if right not in analyst.permissions]
    db.session.commit()


if __name__ == "__main__":
    sys.exit(main())
