"""A lake in a local folder, and local files that are read as objects of one."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NoReturn

from typing_extensions import override

from utils.errors import InvalidInput, Missing, cannot_read, kind_of
from utils.storage.stores import Source, Store

STAGING = "_staging"  # files on their way in; readers of hive folders skip the underscore


class FolderSource(Source):
    """A local file, pinned by its inode, size and time of change."""

    etag = ""
    is_remote = False

    def __init__(self, key: str, path: Path) -> None:
        """Open the file at `path`. Raises OSError."""
        self.key, self._path = key, path
        self._file = path.open("rb")
        self._pin = self._fingerprint(os.fstat(self._file.fileno()))
        self.size = self._pin[1]

    @staticmethod
    def _fingerprint(found: os.stat_result) -> tuple[int, int, int]:
        return found.st_ino, found.st_size, found.st_mtime_ns

    @override
    def read(self, start: int, end: int) -> bytes:
        return os.pread(self._file.fileno(), end - start, start)

    @override
    def still_the_same(self) -> bool:
        try:
            return self._fingerprint(self._path.stat()) == self._pin
        except OSError:  # gone, or no longer ours to see
            return False

    @override
    def close(self) -> None:
        self._file.close()


class FolderStore(Store):
    """A lake in a local folder."""

    def __init__(self, root: Path, variable: str = "DELAYWATCH_LAKE") -> None:
        """Remember the folder, which the first `put` creates, and the variable that names it in errors."""
        self.root, self._variable = root, variable

    def fail(self, error: OSError, doing: str) -> NoReturn:
        """Raise the error, by its errno, that says what a fault met while `doing` something asks of a person."""
        raise kind_of(error)(self._message(error, doing)) from error

    def _message(self, error: OSError, doing: str) -> str:
        if error.errno == errno.ENOSPC:
            return (
                f"No space left on the disk of {self.root} while {doing}; free some space and run the step again, "
                "what was there before is untouched."
            )
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return (
                f"No permission for {doing} in the folder {self.root}; "
                f"give this user the right to read and write there, or correct {self._variable}."
            )
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            path = Path(error.filename or self.root)
            with suppress(PermissionError):
                path = next((place for place in (path, *path.parents) if place.is_file()), path)
            return f"{path} is a file where a folder must be for {doing}; move it away or correct {self._variable}."
        return f"The folder {self.root} failed while {doing} ({error.strerror}); check its disk and run the step again."

    def _path(self, key: str) -> Path:
        path = self.root / key
        if ".." in Path(key).parts or Path(key).is_absolute():
            raise InvalidInput(f"The key {key!r} leads out of the lake; use a plain key.")
        return path

    def own_path(self, key: str) -> Path:
        """Where `key` is written and deleted; only reading follows a link of a person's that leads elsewhere.

        Raises InvalidInput when a link among the folders of `key` leads out of the lake.
        """
        path = self._path(key)
        try:
            is_within = path.parent.resolve().is_relative_to(self.root.resolve())
        except RuntimeError as error:  # pathlib's for links that lead in a circle
            raise InvalidInput(
                f"Links on the way to {key} in the lake {self.root} lead in a circle; put a folder in their place."
            ) from error
        if not is_within:
            raise InvalidInput(
                f"A link on the way to {key} leads out of the lake {self.root}, where nothing may be changed; put a "
                "folder in its place."
            )
        return path

    @override
    def create(self) -> bool:
        try:
            is_there = self.root.is_dir()
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self.fail(error, "making the lake")
        return not is_there

    @override
    def get(self, key: str) -> bytes | None:
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self.fail(error, f"reading {key}")

    @override
    def put(self, key: str, data: bytes) -> None:
        path = self.own_path(key)
        try:
            if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
                return
            with self._beside(path) as file:
                file.write(data)
        except OSError as error:
            self.fail(error, f"writing {key}")

    @contextmanager
    def _beside(self, path: Path) -> Iterator[IO[bytes]]:
        """A new file in the staging folder that takes the place of `path` at the end; see `sweep`."""
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
        """The folder of files that are being put."""
        return self.own_path(f"{STAGING}/put/any").parent

    @staticmethod
    def _locked_file(folder: Path) -> IO[bytes]:
        """A new file that `sweep` leaves alone. One that it took before the lock was there is given up for another."""
        while True:
            file = tempfile.NamedTemporaryFile(dir=folder, delete=False)  # noqa: SIM115 - the caller closes it
            fcntl.flock(file, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), Path(file.name).stat()):
                    return file
            file.close()

    def sweep(self) -> None:
        """Remove files that were never put because their process was killed: nobody holds their lock any more."""
        for path in self._waiting().glob("*"):
            try:
                with path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink(missing_ok=True)
            except (FileNotFoundError, BlockingIOError):
                continue  # put by now, or being written

    @override
    def adopt(self, path: Path, key: str) -> None:
        target = self.own_path(key)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        except OSError as error:
            self.fail(error, f"writing {key}")

    @override
    def upload(self, path: Path, key: str) -> None:
        target = self.own_path(key)
        try:
            source = path.open("rb")
        except OSError as error:
            raise cannot_read(path, error) from error
        try:
            with source, self._beside(target) as file:
                shutil.copyfileobj(source, file, 1 << 20)
        except OSError as error:
            self.fail(error, f"copying {path} to {key}")

    @override
    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            try:
                self.own_path(key).unlink(missing_ok=True)
            except OSError as error:
                self.fail(error, f"deleting {key}")

    @override
    def has(self, key: str) -> bool:
        try:
            return _is_file(self._path(key))
        except OSError as error:
            self.fail(error, f"looking for {key}")

    @override
    def list(self, prefix: str) -> list[str]:
        base = self._path(prefix)
        folder = base if prefix.endswith("/") or not prefix else base.parent
        try:
            paths = [Path(at, name) for at, _, names in os.walk(folder, onerror=_unless_missing) for name in names]
            found = [path.relative_to(self.root).as_posix() for path in paths if _is_file(path)]
        except OSError as error:
            self.fail(error, f"listing {prefix or 'it'}")
        return sorted(key for key in found if key.startswith(prefix))

    @override
    def open(self, key: str) -> FolderSource:
        try:
            return FolderSource(key, self._path(key))
        except FileNotFoundError as error:
            raise Missing(
                f"There is no {key} in the folder {self.root}; put it back and run the step again."
            ) from error
        except OSError as error:
            self.fail(error, f"reading {key}")


def make_private(folder: Path) -> None:
    """Make a folder for this user alone, if it is not there; those above it as usual.

    Raises InvalidInput when it is a link or somebody else's, who could have put links into it; OSError as mkdir.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise InvalidInput(
            f"{folder} is a link or another user's, so nothing is put there; let DELAYWATCH_SCRATCH name a folder of "
            "your own."
        )


def _is_file(path: Path) -> bool:
    # Path.is_file also says no where it was not allowed to look, or where a parent is a file.
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return False


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
