"""Prepare Superset in one process: tables, roles, the user admin, and the assets. Idempotent.

    python provision.py                     everything; the password of an existing admin stays as it is
    python provision.py --reset-password    only set admin's password to the one in /run/delaywatch/admin_password
    python provision.py --user NAME ROLE    only create or change an account, with the password on stdin; ROLE none
                                            disables it
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
from superset_config import SECRETS, read_secret

ASSETS = Path(__file__).parent / "assets"
HERE = "https://localhost"  # with http the client would not send the secure session cookie
ROLES = {"analyst": "Analyst", "admin": "Admin"}  # of --user
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
    parser = argparse.ArgumentParser(description="Prepare Superset: tables, roles, the user admin and dashboards.")
    parser.add_argument(
        "--reset-password",
        action="store_true",
        help="only set admin's password to the one in /run/delaywatch/admin_password",
    )
    parser.add_argument(
        "--user", nargs=2, metavar=("NAME", "ROLE"), help=f"only set an account's role: {', '.join(ROLES)} or none"
    )
    parser.add_argument(
        "--reencrypt", action="store_true", help="only re-encrypt values of /run/delaywatch/previous_secret_key"
    )
    options = parser.parse_args()
    try:
        first_row(read_url("database_url"), "its own database", "SELECT 1")
        if options.reset_password:
            with superset().app_context():
                reset_password()
        elif options.user:
            with superset().app_context():
                set_user(*options.user, sys.stdin.readline().rstrip("\n"))
        elif options.reencrypt:
            with superset().app_context():
                reencrypt()
        else:
            provision()
    except (ProvisionError, bundle.BundleError, encryption.DecryptionError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def provision() -> None:
    """Migrate Superset's own database, create roles and users, and import the dashboards."""
    warehouse = read_url("warehouse_url")
    check_warehouse(warehouse)
    (detectors,) = first_row(warehouse, "the warehouse", bundle.DETECTORS)
    packed = bundle.pack(ASSETS, warehouse.render_as_string(hide_password=False), detectors)
    app = superset()
    with app.app_context():
        upgrade_tables()
        reencrypt()
        create_roles()
        token = access_token(create_admin())
    import_assets(app, token, packed)  # outside of any context: a request inside would share its user and session
    with app.app_context():
        create_analyst_role()
    print_line("Superset is ready.")


def print_line(sentence: str) -> None:
    """Print one line of progress."""
    print(sentence, flush=True)


def read_url(name: str) -> URL:
    """Return a database URL of `setup` with our driver. Raises ProvisionError if it is not a database URL."""
    try:
        return make_url(read_secret(name)).set(drivername="postgresql+psycopg2")
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise ProvisionError(
            f"{SECRETS / name} is not a database URL; it must look like postgresql://user:password@host:5432/database."
        ) from None


def first_row(url: URL, database: str, query: str) -> tuple[Any, ...]:
    """Return the first row of `query`. Raises ProvisionError if the database cannot be reached or rejects the login."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool, connect_args={"connect_timeout": 10})
    try:
        with engine.connect() as connection:
            return tuple(connection.execute(sqlalchemy.text(query)).one())
    except sqlalchemy.exc.DBAPIError as error:
        message = str(error.orig).strip().splitlines()[0]
        place = f"{url.database} at {url.host}:{url.port or 5432}"
        raise ProvisionError(
            f"Superset cannot connect to {database} ({place}): {message}; start the server, or correct the URL."
        ) from None


def check_warehouse(url: URL) -> None:
    """Raise ProvisionError unless the warehouse answers, has our tables, and the login can read but not write them."""
    is_readable, is_writable = first_row(url, "the warehouse", RIGHTS)
    if not is_readable:
        raise ProvisionError(
            f"The login {url.username} cannot read the schema flights of the warehouse {url.database}. Create its "
            "tables with `python -m utils prepare`, and add the login to the role flights_reader."
        )
    if is_writable:
        raise ProvisionError(
            f"The login {url.username} can write to the warehouse {url.database}. Give Superset a login that can only "
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
            "The tables in Superset's own database belong to a newer release. Start that release, or restore "
            "the backup from before the upgrade."
        ) from None
    print_line("The tables of Superset are up to date.")


def reencrypt() -> None:
    """During a rotation of secret_key, re-encrypt all values of the previous key."""
    if not (SECRETS / "previous_secret_key").exists():
        return
    from superset import db

    count = encryption.reencrypt(db.engine, read_secret("previous_secret_key"), read_secret("secret_key"))
    print_line(f"Stored secrets re-encrypted with the new key: {count}.")


def create_roles() -> None:
    """Do the same as `superset init`."""
    from superset import appbuilder, db, security_manager

    try:
        appbuilder.add_permissions(update_perms=True)
        security_manager.sync_role_definitions()
    except ValueError as error:
        if "decryption" not in str(error):
            raise
        raise ProvisionError(
            "Superset's own database was encrypted with another secret_key than the one in /run/delaywatch; restore "
            "both from the same backup."
        ) from None
    db.session.commit()


def create_admin() -> Any:
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
            password=read_secret("admin_password"),
        )
        if not admin:
            raise ProvisionError(
                "Superset could not create the user admin. Remove any other user with the address admin@localhost."
            )
        print_line("Created the user admin.")
    return admin


def access_token(user: Any) -> str:
    """Return a token for the API, which does not depend on the user's password."""
    from flask_jwt_extended import create_access_token

    return str(create_access_token(identity=str(user.id)))


def reset_password() -> None:
    """Set admin's password to the one from `setup`."""
    from superset import security_manager

    admin = security_manager.find_user("admin")
    if admin is None:
        raise ProvisionError(
            "The user admin does not exist yet. Start the service superset-init without --reset-password."
        )
    security_manager.reset_password(admin.id, read_secret("admin_password"))
    print_line("Set the password of the user admin.")


def set_user(name: str, role: str, password: str) -> None:
    """Create the account or change its role and password, or disable it. A session of a disabled account ends."""
    from superset import security_manager

    user = security_manager.find_user(name)
    if role == "none":
        if user is not None:
            user.active = False
            security_manager.update_user(user)
        print_line(f"Superset: {'disabled the account' if user else 'there is no account'} {name}.")
        return
    superset_role = security_manager.find_role(ROLES[role])
    if superset_role is None:
        raise ProvisionError(f"Superset has no role {ROLES[role]}; start the service superset-init once (make up).")
    if user is None:
        if not security_manager.add_user(name, name, "", f"{name}@localhost", superset_role, password):
            raise ProvisionError(f"Superset could not create the account {name}; choose another name.")
        print_line(f"Superset: created the account {name} with the role {superset_role.name}.")
        return
    user.active, user.roles = True, [superset_role]
    security_manager.update_user(user)
    security_manager.reset_password(user.id, password)
    print_line(f"Superset: the account {name} has the role {superset_role.name} and a new password.")


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
            f"Superset rejected the dashboards ({answer.status}: {text}); restore superset/assets/ of this release."
        )
    print_line("Imported the dashboards.")


def create_analyst_role() -> None:
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
