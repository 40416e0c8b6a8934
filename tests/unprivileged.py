"""Commands run by a user without rights, for tests that run as root, from whom no folder is closed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534
# The words before a command that make it nobody's; none when the tests themselves run without rights.
PREFIX = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.geteuid() == 0 else list[str]()


def give(folder: Path) -> None:
    """Make the folder, and all in it, that user's own."""
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)


def close(path: Path) -> None:
    """Let nobody but root, or nobody at all, open the folder or file."""
    path.chmod(0o700 if os.geteuid() == 0 else 0)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Run the block in this process as that user."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
