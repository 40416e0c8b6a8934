"""A machine that is too small or a disk that is full is told before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack import host
from tests.integration.stack.volumes import Volumes
from utils.errors import DelaywatchError


def test_a_machine_of_4_gib_is_refused_in_its_own_figures(tmp_path: Path) -> None:
    volumes = Volumes.make(tmp_path)
    volumes.put("meminfo", "MemTotal:        3984588 kB\nMemFree:  1000000 kB\n")

    said = volumes.refusal()

    assert said.startswith("This machine has 3.8 GiB of memory, the stack needs 6 GiB; ")


def test_a_machine_with_just_enough_memory_will_do(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:        2097152 kB\n")

    host.check_memory(meminfo, least_bytes=2 * host.GIB)
    with pytest.raises(DelaywatchError, match=r"has 2\.0 GiB of memory, the stack needs 2\.5 GiB"):
        host.check_memory(meminfo, least_bytes=5 * host.GIB // 2)


def test_the_memory_of_this_machine_is_found() -> None:
    host.check_memory(least_bytes=1)
    with pytest.raises(DelaywatchError, match=r"^This machine has \d+\.\d GiB of memory, the stack needs 1e\+06 GiB"):
        host.check_memory(least_bytes=10**6 * host.GIB)


def test_a_disk_without_room_is_refused_in_its_own_figures(tmp_path: Path) -> None:
    host.check_disk([tmp_path], least_bytes=1)
    with pytest.raises(
        DelaywatchError, match=r"^The disk of Docker's volumes has \d+\.\d GiB free, the stack needs 1e\+06 GiB"
    ):
        host.check_disk([tmp_path], least_bytes=10**6 * host.GIB)
