"""How a file is replaced: it is the old one or the new one, whatever happens. Which files there are, others know."""

from __future__ import annotations

import os
from pathlib import Path


def put(path: Path, content: bytes, mode: int) -> bool:
    """Give the file this content and mode; False when it had both, and then it is not touched."""
    if path.is_file() and path.stat().st_mode & 0o7777 == mode and path.read_bytes() == content:
        return False
    beside = path.with_name(f".{path.name}.new")  # the same name each time, so a crash leaves one file, not many
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = str(path)  # a full disk names none
        raise
    beside.replace(path)
    sync(path.parent)
    return True


def sync(folder: Path) -> None:
    """Have the folder's names on the disk: after a power cut a database must not outlive its password."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
