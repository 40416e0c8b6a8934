"""Re-encrypt Superset's own database from one secret_key to another in one transaction.

Superset has `re-encrypt-secrets` for this, but in 6.1.0 it looks for columns in the wrong place, finds none and reports
success.
"""

# Runs in Superset's image, as provision.py does.
# mypy: disable-error-code="import-not-found, import-untyped"
# ruff: noqa: PLC0415

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.sql.schema import Column


class DecryptionError(Exception):
    """Neither key decrypts a value; the message names the value and the remedy."""


def reencrypt(engine: Engine, previous: str, current: str) -> int:
    """Encrypt with `current` all values that `previous` decrypts, in one transaction. Return their number. Idempotent.

    Raises DecryptionError, and changes nothing, if neither key decrypts a value.
    """
    with engine.begin() as connection:
        stored = list(_read_stored(connection))
        # A wrong key decrypts a short value by chance, about one in some thousands, but never all values.
        if all(_decrypt(column, value, current, connection) is not None for column, _, value in stored):
            return 0
        count = 0
        for column, key, value in stored:
            text = _decrypt(column, value, previous, connection)
            if text is not None:
                sealed = _type(column, current).process_bind_param(text, connection.dialect)
                place = sqlalchemy.and_(*(name == part for name, part in key))
                connection.execute(column.table.update().where(place).values({_raw(column): sealed}))
                count += 1
            elif _decrypt(column, value, current, connection) is None:
                where = ", ".join(f"{name.name} {part}" for name, part in key)
                raise DecryptionError(
                    f"Neither the new nor the old secret_key decrypts {column.table.name}.{column.name} of {where} in "
                    "Superset's own database, so nothing was re-encrypted. Set that field to NULL (docker compose "
                    "exec postgres psql --username=postgres superset) and enter it again in Superset."
                )
        return count


def _read_stored(connection: Connection) -> Iterator[tuple[Column[Any], list[tuple[Column[Any], Any]], bytes]]:
    """Yield every encrypted value with its column and its row's primary key."""
    from flask_appbuilder import Model
    from sqlalchemy_utils import EncryptedType

    table_names = set(sqlalchemy.inspect(connection).get_table_names())
    for table in Model.metadata.sorted_tables:
        if table.name not in table_names:
            continue
        keys = list(table.primary_key.columns)
        for column in table.columns:
            if not isinstance(column.type, EncryptedType):
                continue
            query = sqlalchemy.select(*keys, _raw(column)).where(_raw(column).isnot(None)).with_for_update()
            for *key, value in connection.execute(query):
                yield column, list(zip(keys, key, strict=True)), bytes(value)


def _raw(column: Column[Any]) -> Any:
    """Return the column as the stored bytes."""
    return sqlalchemy.type_coerce(column, sqlalchemy.LargeBinary)


def _type(column: Column[Any], key: str) -> Any:
    """Return the encrypted type of the column with another key."""
    declared: Any = column.type
    return type(declared)(sqlalchemy.Text, key, type(declared.engine))


def _decrypt(column: Column[Any], value: bytes, key: str, connection: Connection) -> str | None:
    """Return the text, or None if it was encrypted with another key."""
    try:
        return str(_type(column, key).process_result_value(value, connection.dialect))
    except ValueError:
        return None
