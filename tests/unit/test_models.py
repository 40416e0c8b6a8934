"""The tables of SQLAlchemy, which Alembic compares with a warehouse."""

from __future__ import annotations

from utils.db_handler import TABLES
from utils.warehouse import models


def test_the_models_have_the_columns_and_keys_of_the_schemas() -> None:
    assert {table.name for table in models.METADATA.tables.values()} == set(TABLES)
    for table in TABLES.values():
        model = models.METADATA.tables[f"flights.{table.name}"]
        assert [column.name for column in model.columns] == table.schema.names
        assert [column.nullable for column in model.columns] == [field.nullable for field in table.schema]
        assert {column.name for column in model.primary_key} == set(table.key)
