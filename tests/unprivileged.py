"""Commands run by a user without rights, for tests that run as root, from whom no folder is closed."""

from __future__ import annotations

import os
from pathlib import Path

NOBODY = 65534


def prefix(*folders: Path) -> list[str]:
    """Return the words before a command that make it nobody's; opens `folders` and those above them to that user.

    Empty when the tests themselves run without rights.
    """
    if os.geteuid() != 0:
        return []
    for folder in {above for given in folders for above in (given, *given.parents)}:
        if "pytest" in str(folder):
            folder.chmod(folder.stat().st_mode | 0o055)
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


def give(folder: Path) -> None:
    """Make the folder, and all in it, that user's own."""
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
