"""Replace files atomically: after a crash a file has its old or its new content."""

from __future__ import annotations

import os
from pathlib import Path


def put(path: Path, content: bytes, mode: int) -> bool:
    """Write content and mode of a file. Return False, without touching it, if both are unchanged."""
    if path.is_file() and path.stat().st_mode & 0o7777 == mode and path.read_bytes() == content:
        return False
    # Always the same name, so that a crash leaves at most one temporary file.
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = str(path)  # ENOSPC has no file name
        raise
    beside.replace(path)
    sync(path.parent)
    return True


def sync(folder: Path) -> None:
    """Flush the folder's entries to disk: after a power cut a database must not exist without its password."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
