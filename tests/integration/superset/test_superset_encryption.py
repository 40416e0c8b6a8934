"""superset/encryption.py on a real Postgres with the column type that Superset uses, from SQLAlchemy-Utils.

Superset itself is not installed here: the tables are made in the metadata where it declares its own. With Superset
6.1.0 itself it is seen in tests/e2e/test_rotation.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy.engine import Engine
from superset import encryption

from tests.conftest import sql

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'EncryptedType' class will change:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:TypeDecorator EncryptedType"),
]

OLD, NEW, FOREIGN = "o" * 64, "n" * 64, "f" * 64
SECRETS = {1: ("reader-password-of-the-warehouse", None), 2: ("short", '{"token": "ünicode"}'), 3: (None, None)}


@pytest.fixture(scope="module")
def tables() -> Iterator[list[sqlalchemy.Table]]:
    """One as Superset's `dbs`, one whose key has two columns, and one that this database does not have."""
    from flask_appbuilder import Model  # type: ignore[import-untyped]
    from sqlalchemy_utils import EncryptedType  # type: ignore[import-untyped]

    def secret(name: str) -> sqlalchemy.Column[Any]:
        return sqlalchemy.Column(name, EncryptedType(sqlalchemy.String(1024), OLD))

    def number(name: str) -> sqlalchemy.Column[Any]:
        return sqlalchemy.Column(name, sqlalchemy.Integer, primary_key=True)

    name = sqlalchemy.Column("name", sqlalchemy.Text)
    made = [
        sqlalchemy.Table("test_dbs", Model.metadata, number("id"), name, secret("password"), secret("extra")),
        sqlalchemy.Table("test_tunnels", Model.metadata, number("a"), number("b"), secret("private_key")),
        sqlalchemy.Table("test_absent", Model.metadata, number("id"), secret("password")),
    ]
    yield made
    for table in made:
        Model.metadata.remove(table)


@pytest.fixture
def engine(tables: list[sqlalchemy.Table], empty_database: str) -> Iterator[Engine]:
    """A database with secrets under the old key."""
    engine = sqlalchemy.create_engine(empty_database, poolclass=sqlalchemy.pool.NullPool)
    databases, tunnels, _ = tables
    with engine.begin() as connection:
        databases.create(connection)
        tunnels.create(connection)
        rows = [{"id": key, "name": "n", "password": one, "extra": other} for key, (one, other) in SECRETS.items()]
        connection.execute(databases.insert(), rows)
        connection.execute(tunnels.insert(), [{"a": 1, "b": 2, "private_key": "pem"}])
    yield engine
    engine.dispose()


def opened(engine: Engine, key: str) -> dict[int, tuple[str | None, str | None]]:
    """The secrets of the first table as somebody with this key reads them."""
    from sqlalchemy_utils import EncryptedType

    column = EncryptedType(sqlalchemy.String(1024), key)
    read = sqlalchemy.text("SELECT id, password, extra FROM test_dbs ORDER BY id").columns(
        password=column, extra=column
    )
    with engine.connect() as connection:
        return {key: (password, extra) for key, password, extra in connection.execute(read)}


def raw(engine: Engine) -> list[tuple[Any, ...]]:
    url = engine.url.render_as_string(hide_password=False)
    return sql(url, "SELECT id::text, name, password::text, extra::text FROM test_dbs UNION SELECT a || '/' || b, '', "
               "private_key::text, '' FROM test_tunnels ORDER BY 1")  # fmt: skip


def test_all_that_the_old_key_opened_the_new_one_opens_and_the_old_one_no_more(engine: Engine) -> None:
    count = encryption.reencrypt(engine, OLD, NEW)

    assert count == 4
    assert opened(engine, NEW) == SECRETS
    with pytest.raises(ValueError, match="Invalid decryption key"):
        opened(engine, OLD)


def test_a_second_time_changes_no_byte(engine: Engine) -> None:
    encryption.reencrypt(engine, OLD, NEW)
    before = raw(engine)

    assert encryption.reencrypt(engine, OLD, NEW) == 0
    assert raw(engine) == before


def test_a_value_that_somebody_stored_with_the_new_key_meanwhile_stays(engine: Engine) -> None:
    from sqlalchemy_utils import EncryptedType

    sealed = EncryptedType(sqlalchemy.String(1024), NEW).process_bind_param("just-now-entered-and-long-enough", None)
    url = engine.url.render_as_string(hide_password=False)
    sql(url, f"UPDATE test_dbs SET password = '{sealed.decode()}' WHERE id = 1")

    assert encryption.reencrypt(engine, OLD, NEW) == 3

    assert opened(engine, NEW) == SECRETS | {1: ("just-now-entered-and-long-enough", None)}


def test_a_value_that_neither_key_opens_is_named_and_nothing_is_changed(engine: Engine) -> None:
    from sqlalchemy_utils import EncryptedType

    sealed = EncryptedType(sqlalchemy.String(1024), FOREIGN).process_bind_param("of another installation, long", None)
    url = engine.url.render_as_string(hide_password=False)
    sql(url, f"UPDATE test_dbs SET extra = '{sealed.decode()}' WHERE id = 2")
    before = raw(engine)

    with pytest.raises(encryption.DecryptionError, match=r"opens test_dbs\.extra of id 2 in Superset's own database"):
        encryption.reencrypt(engine, OLD, NEW)

    assert raw(engine) == before


def test_a_database_without_secrets_is_no_reason_to_stop(engine: Engine) -> None:
    url = engine.url.render_as_string(hide_password=False)
    sql(url, "TRUNCATE test_dbs, test_tunnels")

    assert encryption.reencrypt(engine, OLD, NEW) == 0
