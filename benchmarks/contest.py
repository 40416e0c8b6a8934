"""Measure the contestants of a benchmark, each in a process of its own, including its imports."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Cost(NamedTuple):
    """Seconds and memory of one run; memory is the kernel's peak resident set."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def cost(program: str, name: str, *arguments: Path) -> Cost:
    """Return the cost of `program --run name arguments...`. Raises SystemExit if it fails."""
    start = time.perf_counter()
    command = [sys.executable, program, "--run", name, *map(str, arguments)]
    _, status, used = os.wait4(os.posix_spawn(sys.executable, command, os.environ), 0)
    if status:
        raise SystemExit(f"{name} failed")
    return Cost(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def medians(costs: Mapping[str, Sequence[Cost]]) -> dict[str, Cost]:
    """Return the median cost of each contestant over its rounds."""
    return {name: Cost(*map(statistics.median, zip(*rounds, strict=True))) for name, rounds in costs.items()}


def show(costs: Mapping[str, Sequence[Cost]]) -> None:
    """Print the medians of the two contestants, and the ratio of the first to the second."""
    median_costs = medians(costs)
    for name, run in median_costs.items():
        print(f"{name:<12} {run.wall_s:6.1f} s wall {run.cpu_s:6.1f} s CPU {run.peak_mb:7,.0f} MB peak")
    wall, cpu, peak = (mine / theirs for mine, theirs in zip(*median_costs.values(), strict=True))
    print(f"{'ratio':<12} {wall:6.2f}        {cpu:6.2f}       {peak:7.2f}")
