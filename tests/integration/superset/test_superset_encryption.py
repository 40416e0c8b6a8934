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
LONG = "a value of more than one block"
SECRETS = [(1, "password of the reader", None), (2, LONG, '{"token": "ünicode"}'), (3, None, None)]


def encrypted(key: str) -> Any:
    from sqlalchemy_utils import EncryptedType  # type: ignore[import-untyped]

    return EncryptedType(sqlalchemy.String(1024), key)


@pytest.fixture
def engine(empty_database: str) -> Iterator[Engine]:
    """A database with a table like Superset's `dbs`, whose secrets are encrypted with the old key."""
    from flask_appbuilder import Model  # type: ignore[import-untyped]

    number = sqlalchemy.Column("id", sqlalchemy.Integer, primary_key=True)
    secrets = (sqlalchemy.Column(name, encrypted(OLD)) for name in ("password", "extra"))
    table = sqlalchemy.Table("test_dbs", Model.metadata, number, *secrets)
    engine = sqlalchemy.create_engine(empty_database, poolclass=sqlalchemy.pool.NullPool)
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(table.insert().values(SECRETS))
    yield engine
    engine.dispose()
    Model.metadata.remove(table)


def decrypt(engine: Engine, key: str) -> list[Any]:
    """Return the rows as a login with this key reads them."""
    query = sqlalchemy.text("SELECT * FROM test_dbs ORDER BY id")
    with engine.connect() as connection:
        return list(connection.execute(query.columns(password=encrypted(key), extra=encrypted(key))))


def stored_bytes(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(sqlalchemy.text("SELECT *, xmin::text FROM test_dbs ORDER BY id")))


def store(engine: Engine, key: str) -> None:
    """Store LONG as the password of row 2, encrypted with `key`, as an interrupted rotation does."""
    value = encrypted(key).process_bind_param(LONG, None).decode()
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"UPDATE test_dbs SET password = '{value}' WHERE id = 2"))


@pytest.mark.parametrize(("key_of_one_value", "changes"), [(OLD, 3), (NEW, 2)])
def test_only_the_new_key_decrypts_every_secret_and_a_second_run_changes_no_byte(
    engine: Engine, key_of_one_value: str, changes: int
) -> None:
    store(engine, key_of_one_value)

    assert encryption.reencrypt(engine, OLD, NEW) == changes

    assert decrypt(engine, NEW) == SECRETS
    with pytest.raises(ValueError, match="Invalid decryption key"):
        decrypt(engine, OLD)
    before = stored_bytes(engine)
    assert encryption.reencrypt(engine, OLD, NEW) == 0
    assert stored_bytes(engine) == before


def test_a_value_with_a_third_key_is_named_and_nothing_changes(engine: Engine) -> None:
    store(engine, OTHER)
    before = stored_bytes(engine)

    with pytest.raises(encryption.DecryptionError, match=r"test_dbs\.password of id 2 "):
        encryption.reencrypt(engine, OLD, NEW)

    assert stored_bytes(engine) == before
