"""Commands and calls without root's rights, for tests that run as root, who can open every folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.servers.machine import forked

NOBODY = 65534
# Put before a command, this runs it as nobody; empty if the tests already run without root's rights.
PREFIX = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.geteuid() == 0 else list[str]()

Result = TypeVar("Result")


def as_nobody(call: Callable[[], Result]) -> Result:
    """Return the result of a call in a forked process without root's rights."""

    def drop_rights_and_call() -> Result:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        return call()

    result, exit_code = forked(drop_rights_and_call)
    assert exit_code == 0
    assert result is not None
    return result


def give(folder: Path) -> None:
    """Make nobody the owner of the folder and its contents."""
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)


def close(path: Path) -> None:
    """Deny the file or folder to everybody but root."""
    path.chmod(0o700 if os.geteuid() == 0 else 0)
