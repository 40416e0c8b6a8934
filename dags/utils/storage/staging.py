"""A private local folder for the new files of a year, and the lock that lets one run write a year at a time."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from utils.errors import Busy
from utils.storage.folder import STAGING, FolderStore, make_private
from utils.storage.stores import Store


@contextmanager
def staging(store: Store, uri: str, scratch: Path, year: int) -> Iterator[Path]:
    """Yield a folder that is empty at first and removed at the end.

    In a `file://` lake it is inside the lake, so that `Store.adopt` is a rename; else it is in `scratch`. Raises Busy
    when another process holds the year, Unavailable when the disk is full, InvalidInput when this user may not write.
    """
    if isinstance(store, FolderStore):
        base, keeper = store.own_path(f"{STAGING}/any").parent, store
    else:
        base = scratch / f"delaywatch-{hashlib.sha256(uri.encode()).hexdigest()[:12]}"
        keeper = FolderStore(base, "DELAYWATCH_SCRATCH")
    folder = base / f"year={year}"
    with _open_lock(base, keeper, year) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(f"Another run is writing {year} into {uri}; wait until it has ended.") from error
        try:
            shutil.rmtree(folder, ignore_errors=True)  # what a killed run left
            keeper.sweep()
            folder.mkdir(parents=True)
            yield folder
        except OSError as error:
            keeper.fail(error, f"writing the new files of {year}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _open_lock(base: Path, keeper: FolderStore, year: int) -> IO[str]:
    """Return the lock file of the year, and create the folder that it is in."""
    try:
        if keeper.root == base:  # the system's temporary folder, above it, is everybody's
            make_private(base)
        else:
            base.mkdir(parents=True, exist_ok=True)
        return (base / f"year={year}.lock").open("a")  # were it a link, "w" would empty the file that it leads to
    except OSError as error:
        keeper.fail(error, "preparing a place for the new files")
