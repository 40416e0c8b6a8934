"""Observe or interrupt DBHandler before each statement that it sends to the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import psycopg2.extensions
from sqlalchemy import Engine, event

Hook = Callable[[psycopg2.extensions.connection, str], None]


@contextmanager
def before_each_statement(hook: Hook) -> Iterator[None]:
    """Call `hook(connection, statement)` before every statement, block of COPY data and COMMIT that DBHandler sends."""

    class Cursor(psycopg2.extensions.cursor):
        def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002  # psycopg2's name
            hook(self.connection, query if isinstance(query, str) else query.as_string(self))
            super().execute(query, vars)

        def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
            hook(self.connection, sql.as_string(self))
            super().copy_expert(sql, Copied(self.connection, file), size)  # type: ignore[arg-type]  # reads nothing else

    class Copied:
        def __init__(self, connection: psycopg2.extensions.connection, file: Any) -> None:
            self.connection, self.file = connection, file

        def read(self, size: int) -> Any:
            block = self.file.read(size)
            hook(self.connection, "COPY data" if block else "end of COPY data")
            return block

    class Connection(psycopg2.extensions.connection):
        def cursor(self, *args: Any, **kwargs: Any) -> Any:
            return super().cursor(*args, **{"cursor_factory": Cursor, **kwargs})

        def commit(self) -> None:
            hook(self, "COMMIT")
            super().commit()

    def connect(dialect: Any, record: Any, args: Any, parameters: dict[str, Any]) -> None:
        parameters["connection_factory"] = Connection

    event.listen(Engine, "do_connect", connect)
    try:
        yield
    finally:
        event.remove(Engine, "do_connect", connect)
