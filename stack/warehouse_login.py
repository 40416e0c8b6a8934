"""A new password for a warehouse whose login is in Secrets Manager: `python -m stack.warehouse_login SECRET`.

Four steps in the order of AWS's own rotation, each of which may be repeated: the new password is kept as the secret's
version AWSPENDING, Postgres takes it, it is tried, and its version becomes AWSCURRENT. Whatever is interrupted leaves
both passwords in the secret; the next call goes on with the pending one. Needs network, AWS's keys and the warehouse,
so it runs in a container of Airflow's. The secrets of the stack's own volume are in `rotation`.
"""

from __future__ import annotations

import json
import secrets
import sys
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import boto3
import psycopg2
from botocore.exceptions import BotoCoreError, ClientError
from psycopg2 import sql
from psycopg2.extensions import encrypt_password

from stack.errors import StackError
from stack.vault import LETTERS

CURRENT, PENDING = "AWSCURRENT", "AWSPENDING"
LENGTH = 40
PARTS = ("username", "password", "host", "port", "dbname")


@dataclass(frozen=True)
class Version:
    """One version of the secret: the JSON object that RDS and Airflow read, and its ID."""

    id: str
    content: dict[str, Any] = field(repr=False)


def rotate(client: Any, name: str, sslmode: str = "require") -> str:
    """Give the login a new password and say so in a sentence. Raises StackError, and loses neither, when it cannot."""
    current = _version(client, name, CURRENT)
    if current is None or any(current.content.get(part) in {None, ""} for part in PARTS):
        raise StackError(f"The secret {name} has no {', '.join(PARTS[:-1])} and {PARTS[-1]}; nothing was changed.")
    pending = _version(client, name, PENDING)
    if pending is None or pending.id == current.id:
        password = "".join(secrets.choice(LETTERS) for _ in range(LENGTH))
        content = current.content | {"password": password}
        made = client.put_secret_value(SecretId=name, SecretString=json.dumps(content), VersionStages=[PENDING])
        pending = Version(made["VersionId"], content)
    elif pending.content != current.content | {"password": pending.content.get("password")}:
        raise StackError(
            f"The secret {name} has a version {PENDING} of another login or server; remove that label: "
            f"aws secretsmanager update-secret-version-stage --secret-id {name} --version-stage {PENDING} "
            f"--remove-from-version-id {pending.id}"
        )
    if not _opens(pending, sslmode):
        _set(current, pending, sslmode)
        if not _opens(pending, sslmode):
            raise StackError(f"Postgres took the new password of {_place(pending)} and refuses it; call this again.")
    client.update_secret_version_stage(
        SecretId=name, VersionStage=CURRENT, MoveToVersionId=pending.id, RemoveFromVersionId=current.id
    )
    client.update_secret_version_stage(SecretId=name, VersionStage=PENDING, RemoveFromVersionId=pending.id)
    return f"{_place(pending)} has a new password, and so has the secret {name}."


def _version(client: Any, name: str, stage: str) -> Version | None:
    try:
        found = client.get_secret_value(SecretId=name, VersionStage=stage)
    except client.exceptions.ResourceNotFoundException:
        if stage == CURRENT:
            raise
        return None
    try:
        content = json.loads(found.get("SecretString", ""))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise StackError(f"The secret {name} is no JSON object; nothing was changed.")
    return Version(found["VersionId"], content)


def _connect(version: Version, sslmode: str) -> Any:
    given = version.content
    return psycopg2.connect(
        host=given["host"],
        port=given["port"],
        dbname=given["dbname"],
        user=given["username"],
        password=given["password"],
        sslmode=sslmode,
        connect_timeout=10,
    )


def _opens(version: Version, sslmode: str) -> bool:
    """Whether the login is let in. Raises StackError when that is not a question of the password."""
    try:
        _connect(version, sslmode).close()
    except psycopg2.OperationalError as error:
        if "password authentication failed" in str(error):
            return False
        raise StackError(f"{_place(version)} cannot be reached ({_line(error)}); call this again.") from None
    return True


def _set(current: Version, pending: Version, sslmode: str) -> None:
    if not _opens(current, sslmode):
        raise StackError(
            f"{_place(current)} takes neither the current nor the pending password of the secret. Both are kept; give "
            "the database the pending one in the console of RDS (master password), then call this again."
        )
    login, password = current.content["username"], pending.content["password"]
    try:
        with closing(_connect(current, sslmode)) as connection, connection, connection.cursor() as cursor:
            verifier = encrypt_password(password, login, connection, "scram-sha-256")  # so no log shows the password
            cursor.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(login), sql.Literal(verifier)))
    except psycopg2.Error as error:
        raise StackError(
            f"{_place(current)} could not get its new password ({_line(error)}); call this again."
        ) from None


def _place(version: Version) -> str:
    given = version.content
    return f"The login {given['username']} of {given['dbname']} at {given['host']}"


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def main(arguments: list[str]) -> int:
    """Rotate the secret that is named; 0, or 1 with one sentence on stderr."""
    if len(arguments) != 1:
        print("usage: python -m stack.warehouse_login SECRET", file=sys.stderr)
        return 2
    try:
        print(rotate(boto3.client("secretsmanager"), arguments[0]))
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    except (BotoCoreError, ClientError) as error:
        print(f"Secrets Manager did not do it ({_line(error)}); call this again when that is mended.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
