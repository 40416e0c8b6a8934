"""Blocks without root's rights, for tests that run as root, who can open every folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


def give(folder: Path) -> None:
    """Make nobody the owner of the folder and its contents."""
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)


def close(path: Path) -> None:
    """Deny the file or folder to everybody but root."""
    path.chmod(0o700 if os.geteuid() == 0 else 0)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Run the block in this process as nobody."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
