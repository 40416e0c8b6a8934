"""Check the host's memory and disks before the stack starts."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from utils.errors import InvalidInput

GIB = 2**30
MIN_MEMORY_BYTES = 6 * GIB
MIN_DISK_BYTES = 2 * GIB
MEMORY = Path("/proc/meminfo")  # shows the host's memory also in a container


def check_memory(meminfo: Path = MEMORY, min_bytes: int = MIN_MEMORY_BYTES) -> None:
    """Raise InvalidInput if the host has less memory than the services need together."""
    match = re.search(r"^MemTotal:\s+(\d+) kB$", meminfo.read_text(), re.MULTILINE)
    if not match:
        raise InvalidInput(f"{meminfo} has no line MemTotal; run the stack on a Linux host or in Docker Desktop.")
    if (total := int(match[1]) * 1024) < min_bytes:
        raise InvalidInput(
            f"This machine has {total / GIB:.1f} GiB of memory, but the stack needs {min_bytes / GIB:.3g} GiB; use a "
            "larger machine, or give Docker Desktop more memory in its settings."
        )


def check_disk(folders: Iterable[Path], min_bytes: int = MIN_DISK_BYTES) -> None:
    """Raise InvalidInput if a disk with the stack's volumes is nearly full."""
    free = min(shutil.disk_usage(folder).free for folder in folders)
    if free < min_bytes:
        raise InvalidInput(
            f"The disk with Docker's volumes has {free / GIB:.1f} GiB free, but the stack needs {min_bytes / GIB:.3g} "
            "GiB; free some space (docker system df shows what Docker uses), or enlarge the disk."
        )
