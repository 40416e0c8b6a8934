"""A machine that lacks something, for one forked process alone: a small disk, little memory.

What the process found out comes back; the test judges it. Root is needed for a disk and for the kernel's own limit of
memory.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.connection
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

CLONE_NEWNS = 0x00020000  # <linux/sched.h>: mounts of one's own
CGROUPS = Path("/sys/fs/cgroup/memory")  # version 1

Found = TypeVar("Found")


def forked(do: Callable[[], Found]) -> tuple[Found | None, int | None]:
    """Call `do` in a forked process; what it returned, None when it was killed or failed, and the exit code."""
    found: Found | None
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def child(sender: multiprocessing.connection.Connection) -> None:
        sender.send(do())

    process = multiprocessing.get_context("fork").Process(target=child, args=(sender,))
    process.start()
    sender.close()
    try:
        found = receiver.recv()
    except EOFError:
        found = None
    process.join()
    return found, process.exitcode


# --- disk -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Disk:
    """A file system in memory, of which a file takes all that is not left to others."""

    folder: Path

    @property
    def _filler(self) -> Path:
        return self.folder / "other-data"

    def leave(self, room: int) -> None:
        """Fill it up but for `room` bytes, rounded down to whole pages."""
        self.clear()
        free = os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_frsize
        with self._filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free - room // resource.getpagesize() * resource.getpagesize())

    def clear(self) -> None:
        self._filler.unlink(missing_ok=True)


def with_small_disk(folder: Path, size: int, do: Callable[[Disk], Found]) -> Found:
    """Call `do` in a process that sees an empty disk of `size` bytes at `folder`; nobody else does."""
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    folder.mkdir()

    def mounted() -> Found:
        assert ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
        return do(Disk(folder))

    found, exit_code = forked(mounted)
    assert exit_code == 0
    assert found is not None
    return found


# --- memory -----------------------------------------------------------------------------------------------------------


@contextmanager
def memory_group(name: str) -> Iterator[Path]:
    """A control group of the kernel; see `within`."""
    if not (CGROUPS / "memory.limit_in_bytes").exists() or os.geteuid():
        pytest.skip("this user has no control group of version 1 to limit memory with")
    group = CGROUPS / name
    group.mkdir()
    try:
        yield group
    finally:
        group.rmdir()


def within(group: Path, limit: int, do: Callable[[], object]) -> int | None:
    """Call `do` in a process that the kernel kills when it takes more than `limit` bytes; its exit code."""

    def confined() -> None:
        (group / "memory.limit_in_bytes").write_text(str(limit))
        (group / "cgroup.procs").write_text(str(os.getpid()))
        do()

    return forked(confined)[1]
