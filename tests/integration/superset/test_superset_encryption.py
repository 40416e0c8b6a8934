"""superset/encryption.py on a real Postgres, with the column type that Superset uses (SQLAlchemy-Utils).

Superset is not installed here, so the test registers tables in the metadata that Superset uses.
tests/e2e/test_rotation.py rotates the key of a real Superset.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy.engine import Engine
from superset import encryption

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'EncryptedType' class will change:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:TypeDecorator EncryptedType"),
]

OLD, NEW, OTHER = "o" * 64, "n" * 64, "f" * 64
SECRETS = {1: ("password of the reader", None), 2: ("short", '{"token": "ünicode"}'), 3: (None, None)}


def encrypted(key: str) -> Any:
    from sqlalchemy_utils import EncryptedType  # type: ignore[import-untyped]

    return EncryptedType(sqlalchemy.String(1024), key)


@pytest.fixture(scope="module")
def tables() -> Iterator[list[sqlalchemy.Table]]:
    """A table like Superset's `dbs`, one with a primary key of two columns, and one that the database lacks."""
    from flask_appbuilder import Model  # type: ignore[import-untyped]

    def secret(name: str) -> sqlalchemy.Column[Any]:
        return sqlalchemy.Column(name, encrypted(OLD))

    def number(name: str) -> sqlalchemy.Column[Any]:
        return sqlalchemy.Column(name, sqlalchemy.Integer, primary_key=True)

    tables = [
        sqlalchemy.Table("test_dbs", Model.metadata, number("id"), secret("password"), secret("extra")),
        sqlalchemy.Table("test_tunnels", Model.metadata, number("a"), number("b"), secret("private_key")),
        sqlalchemy.Table("test_absent", Model.metadata, number("id"), secret("password")),
    ]
    yield tables
    for table in tables:
        Model.metadata.remove(table)


@pytest.fixture
def engine(tables: list[sqlalchemy.Table], empty_database: str) -> Iterator[Engine]:
    """A database with secrets that are encrypted with the old key."""
    engine = sqlalchemy.create_engine(empty_database, poolclass=sqlalchemy.pool.NullPool)
    databases, tunnels, _ = tables
    rows = [{"id": key, "password": password, "extra": extra} for key, (password, extra) in SECRETS.items()]
    with engine.begin() as connection:
        databases.create(connection)
        tunnels.create(connection)
        connection.execute(databases.insert(), rows)
        connection.execute(tunnels.insert(), [{"a": 1, "b": 2, "private_key": "pem"}])
    yield engine
    engine.dispose()


def decrypt(engine: Engine, key: str) -> dict[int, tuple[str | None, str | None]]:
    """Return the secrets of the first table as a login with this key reads them."""
    query = sqlalchemy.text("SELECT id, password, extra FROM test_dbs")
    with engine.connect() as connection:
        rows = connection.execute(query.columns(password=encrypted(key), extra=encrypted(key)))
        return {number: (password, extra) for number, password, extra in rows}


def stored_bytes(engine: Engine) -> list[Any]:
    queries = ("SELECT * FROM test_dbs ORDER BY id", "SELECT * FROM test_tunnels")
    with engine.connect() as connection:
        return [connection.execute(sqlalchemy.text(query)).fetchall() for query in queries]


def store(engine: Engine, key: str, column: str, number: int) -> None:
    """Store a text that is encrypted with `key`."""
    value = encrypted(key).process_bind_param("a value of more than one block", None).decode()
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"UPDATE test_dbs SET {column} = '{value}' WHERE id = {number}"))


def test_the_new_key_decrypts_every_secret_and_the_old_key_none(engine: Engine) -> None:
    assert encryption.reencrypt(engine, OLD, NEW) == 4

    assert decrypt(engine, NEW) == SECRETS
    with pytest.raises(ValueError, match="Invalid decryption key"):
        decrypt(engine, OLD)


def test_a_second_run_changes_no_byte(engine: Engine) -> None:
    encryption.reencrypt(engine, OLD, NEW)
    before = stored_bytes(engine)

    assert encryption.reencrypt(engine, OLD, NEW) == 0
    assert stored_bytes(engine) == before


def test_a_value_that_already_has_the_new_key_stays(engine: Engine) -> None:
    store(engine, NEW, "password", 1)

    assert encryption.reencrypt(engine, OLD, NEW) == 3

    assert decrypt(engine, NEW) == SECRETS | {1: ("a value of more than one block", None)}


def test_a_value_with_a_third_key_is_named_and_nothing_changes(engine: Engine) -> None:
    store(engine, OTHER, "extra", 2)
    before = stored_bytes(engine)

    with pytest.raises(encryption.DecryptionError, match=r"test_dbs\.extra of id 2 "):
        encryption.reencrypt(engine, OLD, NEW)

    assert stored_bytes(engine) == before


def test_a_database_without_secrets_needs_no_change(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("TRUNCATE test_dbs, test_tunnels"))

    assert encryption.reencrypt(engine, OLD, NEW) == 0
