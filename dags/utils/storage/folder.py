"""A lake in a local folder, local files as sources, and the staging folder and lock of a year."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from typing_extensions import override

from utils.errors import Busy, InvalidInput, Missing, Unavailable, cannot_read, kind_of
from utils.storage.stores import Source, Store

STAGING = "_staging"  # unfinished files; readers of hive folders skip names that begin with an underscore


class FolderSource(Source):
    """A local file, pinned by inode, size and modification time."""

    etag = ""
    is_remote = False

    def __init__(self, key: str, path: Path) -> None:
        """Open the file at `path`. Raises OSError."""
        self.key, self._path = key, path
        self._file = path.open("rb")
        self._pin = self._fingerprint(os.fstat(self._file.fileno()))
        self.size = self._pin[1]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the key, the path and the version; a copy opens the same version or raises Unavailable."""
        return _open_version, (self.key, self._path, self._pin)

    @staticmethod
    def _fingerprint(status: os.stat_result) -> tuple[int, int, int]:
        return status.st_ino, status.st_size, status.st_mtime_ns

    @override
    def read(self, start: int, end: int) -> bytes:
        return os.pread(self._file.fileno(), end - start, start)

    @override
    def is_unchanged(self) -> bool:
        try:
            return self._fingerprint(self._path.stat()) == self._pin
        except OSError:  # deleted, or no permission any more
            return False

    @override
    def close(self) -> None:
        self._file.close()


def _open_version(key: str, path: Path, pin: tuple[int, int, int]) -> FolderSource:
    """Open the file again, perhaps on another machine. Raises Unavailable if it is not there or another version."""
    here = socket.gethostname()
    try:
        source = FolderSource(key, path)
    except OSError as error:
        raise Unavailable(
            f"{path} cannot be opened on {here} ({error.strerror}); mount the folder of the lake there at the same "
            "path, or use a lake in a bucket."
        ) from error
    if source._pin != pin:
        source.close()
        raise Unavailable(
            f"{key} is another version on {here} than when the step started; run the step again when its upload has "
            "ended."
        )
    return source


class FolderStore(Store):
    """A lake in a local folder."""

    is_shared = False

    def __init__(self, root: Path, variable: str = "DELAYWATCH_LAKE") -> None:
        """Store the folder, created by the first `put`, and the name of its setting for error messages."""
        self.root, self._variable = root, variable

    def _errors(self, doing: str) -> AbstractContextManager[None]:
        return folder_errors(self.root, doing, self._variable)

    def _path(self, key: str) -> Path:
        path = self.root / key
        if ".." in Path(key).parts or Path(key).is_absolute():
            raise InvalidInput(f"The key {key!r} leads out of the lake; use a relative key without '..'.")
        return path

    def own_path(self, key: str) -> Path:
        """Return the path for writing and deleting `key`.

        Raises InvalidInput if a link among its folders leads out of the lake; only reads follow such links.
        """
        path = self._path(key)
        try:
            is_within = path.parent.resolve().is_relative_to(self.root.resolve())
        except RuntimeError as error:  # raised by pathlib for circular links
            raise InvalidInput(
                f"The path of {key} in the lake {self.root} contains circular links; replace them by a folder."
            ) from error
        if not is_within:
            raise InvalidInput(
                f"A link in the path of {key} leads out of the lake {self.root}, where Delaywatch changes nothing; "
                "replace the link by a folder."
            )
        return path

    @override
    def create(self) -> bool:
        with self._errors("creating the lake"):
            is_there = self.root.is_dir()
            self.root.mkdir(parents=True, exist_ok=True)
        return not is_there

    @override
    def get(self, key: str) -> bytes | None:
        with self._errors(f"reading {key}"):
            try:
                return self._path(key).read_bytes()
            except FileNotFoundError:
                return None

    @override
    def put(self, key: str, data: bytes) -> None:
        path = self.own_path(key)
        with self._errors(f"writing {key}"):
            if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
                return
            with self._beside(path) as file:
                file.write(data)

    @override
    def version(self, key: str) -> None:
        return None

    @override
    def put_if(self, key: str, data: bytes, version: str | None) -> bool:
        self.put(key, data)
        return True

    @contextmanager
    def _beside(self, path: Path) -> Iterator[IO[bytes]]:
        """Yield a new file in the staging folder and rename it to `path` at the end; see `sweep`."""
        waiting = self._waiting()
        waiting.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked_file(waiting) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).chmod(0o644)
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise

    def _waiting(self) -> Path:
        """Return the folder of files that are being written."""
        return self.own_path(f"{STAGING}/put/any").parent

    @staticmethod
    def _locked_file(folder: Path) -> IO[bytes]:
        """Create a locked file, which `sweep` skips. Retry if `sweep` deleted the file before it was locked."""
        while True:
            file = tempfile.NamedTemporaryFile(dir=folder, delete=False)  # noqa: SIM115 - the caller closes it
            fcntl.flock(file, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), Path(file.name).stat()):
                    return file
            file.close()

    def sweep(self) -> None:
        """Delete unlocked files, which killed processes have left."""
        for path in self._waiting().glob("*"):
            try:
                with path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink(missing_ok=True)
            except (FileNotFoundError, BlockingIOError):
                continue  # renamed already, or being written

    @override
    def adopt(self, path: Path, key: str) -> None:
        target = self.own_path(key)
        with self._errors(f"writing {key}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)

    @override
    def upload(self, path: Path, key: str) -> None:
        target = self.own_path(key)
        try:
            source = path.open("rb")
        except OSError as error:
            raise cannot_read(path, error) from error
        with self._errors(f"copying {path} to {key}"), source, self._beside(target) as file:
            shutil.copyfileobj(source, file, 1 << 20)

    @override
    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            with self._errors(f"deleting {key}"):
                self.own_path(key).unlink(missing_ok=True)

    @override
    def has(self, key: str) -> bool:
        with self._errors(f"looking for {key}"):
            return _file_status(self._path(key)) is not None

    @override
    def list(self, prefix: str) -> list[str]:
        return sorted(self.modified(prefix))

    @override
    def modified(self, prefix: str) -> dict[str, datetime]:
        base = self._path(prefix)
        folder = base if prefix.endswith("/") or not prefix else base.parent
        times = {}
        with self._errors(f"listing {prefix or 'the lake'}"):
            for at, _, names in os.walk(folder, onerror=_unless_missing):
                for path in (Path(at, name) for name in names):
                    key = path.relative_to(self.root).as_posix()
                    if key.startswith(prefix) and (status := _file_status(path)):
                        times[key] = datetime.fromtimestamp(status.st_mtime, UTC)
        return times

    @override
    def open(self, key: str) -> FolderSource:
        with self._errors(f"reading {key}"):
            try:
                return FolderSource(key, self._path(key))
            except FileNotFoundError as error:
                raise Missing(f"{key} is not in the folder {self.root}; restore it and run the step again.") from error


@contextmanager
def folder_errors(root: Path, doing: str, variable: str = "DELAYWATCH_LAKE") -> Iterator[None]:
    """Convert an OSError to a DelaywatchError by its errno.

    doing: the operation in words, for the message. variable: the name of the setting of the folder.
    """
    try:
        yield
    except OSError as error:
        raise kind_of(error)(_message(error, root, doing, variable)) from error


def _message(error: OSError, root: Path, doing: str, variable: str) -> str:
    if error.errno == errno.ENOSPC:
        return (
            f"No space left on the disk of {root} while {doing}; free some space and run the step again. The existing "
            "files are unchanged."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            f"No permission for {doing} in the folder {root}; give this user permission to read and write there, "
            f"or correct {variable}."
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        path = Path(error.filename or root)
        with suppress(PermissionError):
            path = next((place for place in (path, *path.parents) if place.is_file()), path)
        return f"{path} is a file, but must be a folder for {doing}; move the file away or correct {variable}."
    return f"The folder {root} failed while {doing} ({error.strerror}); check its disk and run the step again."


@contextmanager
def staging(store: Store, uri: str, scratch: Path, year: int) -> Iterator[Path]:
    """Lock the year and yield an empty folder, which is deleted at the end.

    The folder of a `file://` lake is inside the lake, so `Store.adopt` is a rename; else it is in `scratch`. Raises
    Busy if another process holds the lock, Unavailable if the disk is full, InvalidInput without write permission.
    """
    if isinstance(store, FolderStore):
        base, keeper, variable = store.own_path(f"{STAGING}/any").parent, store, "DELAYWATCH_LAKE"
    else:
        base, variable = scratch / f"delaywatch-{hashlib.sha256(uri.encode()).hexdigest()[:12]}", "DELAYWATCH_SCRATCH"
        keeper = FolderStore(base, variable)
    folder = base / f"year={year}"
    with folder_errors(keeper.root, "creating the staging folder", variable):
        lock = _open_lock(base, year, is_private=keeper.root == base)
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(f"Another run is writing {year} to {uri}; wait until it has ended.") from error
        try:
            with folder_errors(keeper.root, f"writing the new files of {year}", variable):
                shutil.rmtree(folder, ignore_errors=True)  # left over from a killed run
                keeper.sweep()
                folder.mkdir(parents=True)
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _open_lock(base: Path, year: int, *, is_private: bool) -> IO[str]:
    """Create the folder if it is missing and open the year's lock file in it. Raises OSError.

    is_private: create the folder with permissions for this user only.
    """
    if is_private:  # the parent is the system's temporary folder, writable by all users
        create_private(base)
    else:
        base.mkdir(parents=True, exist_ok=True)
    return (base / f"year={year}.lock").open("a")  # mode "w" would truncate the target of a link


def create_private(folder: Path) -> None:
    """Create a folder with permissions for this user only, if it is missing; parents get default permissions.

    Raises OSError, or InvalidInput if the folder is a link or belongs to another user, who could place links in it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise InvalidInput(
            f"{folder} is a link or belongs to another user, so Delaywatch writes nothing there; set "
            "DELAYWATCH_SCRATCH to a folder of your own."
        )


def _file_status(path: Path) -> os.stat_result | None:
    """Return the status of a regular file; None if it is missing or not a regular file. Raises OSError.

    Path.is_file would also return False without permission, or if a parent is a file.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
