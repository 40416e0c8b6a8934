"""Calls in a forked process, and a small disk for one. Root is needed to mount the disk."""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.connection
import os
import resource
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

CLONE_NEWNS = 0x00020000  # <linux/sched.h>: a mount namespace

Result = TypeVar("Result")


def forked(call: Callable[[], Result]) -> tuple[Result | None, int | None]:
    """Call in a forked process; return the result, None if the process was killed or failed, and the exit code."""
    result: Result | None
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def child(sender: multiprocessing.connection.Connection) -> None:
        sender.send(call())

    process = multiprocessing.get_context("fork").Process(target=child, args=(sender,))
    process.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        result = None
    process.join()
    return result, process.exitcode


@dataclass(frozen=True)
class Disk:
    """A file system in memory that a file fills up to the wanted free space."""

    folder: Path

    @property
    def _filler(self) -> Path:
        return self.folder / "other-data"

    def leave(self, room: int) -> None:
        """Leave `room` bytes free, rounded down to whole pages."""
        self.clear()
        free = os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_frsize
        with self._filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free - room // resource.getpagesize() * resource.getpagesize())

    def clear(self) -> None:
        self._filler.unlink(missing_ok=True)


def with_small_disk(folder: Path, size: int, call: Callable[[Disk], Result]) -> Result:
    """Call in a process that has an empty disk of `size` bytes at `folder`; other processes do not see the disk."""
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    folder.mkdir()

    def mount_and_call() -> Result:
        assert ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
        return call(Disk(folder))

    result, exit_code = forked(mount_and_call)
    assert exit_code == 0
    assert result is not None
    return result
