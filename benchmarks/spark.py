"""The silver step with threads, and with Spark on this machine: wall and CPU time, memory, and the cost of a start.

Run it with the packages of `make test-spark`: `make bench-spark`. Both engines write a year in a folder; the manifests
must be equal. CPU time and memory are those of the process and of all its children: the Java process and the Python
workers of Spark. Memory is the largest sum of their proportional set sizes, read every 0.2 s.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "dags")]

from benchmarks.contest import Cost, medians
from benchmarks.refinery import YEAR, make_year

ENGINES = {"threads": ("threads", 2), "local[1]": ("spark", 1), "local[2]": ("spark", 2)}
START_ROWS = 1000  # a file whose own work is negligible
POLL_S = 0.2
MANIFEST = f"02_silver/flights/year={YEAR}/_manifest.json"


def used(process: psutil.Process) -> tuple[float, float]:
    """Return CPU seconds and proportional memory in MB of a process and its children, without ended processes."""
    cpu_s = memory_mb = 0.0
    for member in [process, *process.children(recursive=True)]:
        try:
            times = member.cpu_times()
            cpu_s += times.user + times.system + times.children_user + times.children_system
            memory_mb += member.memory_full_info().pss / 1e6
        except psutil.NoSuchProcess:
            continue
    return cpu_s, memory_mb


def measure(engine: str, csv: Path, scratch: Path) -> tuple[Cost, bytes]:
    """Return the cost of the silver step of one year with an engine, and the manifest that it wrote."""
    name, threads = ENGINES[engine]
    lake = Path(tempfile.mkdtemp(dir=scratch))
    bronze = lake / "01_bronze" / f"{YEAR}.csv"
    bronze.parent.mkdir()
    os.link(csv, bronze)
    command = [sys.executable, "-m", "utils", "silver", "--year", str(YEAR), "--lake", lake.as_uri(), "--engine", name]
    started = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen([*command, "--threads", str(threads)], stdout=log, stderr=log)
        process, cpu_s, peak_mb = psutil.Process(child.pid), 0.0, 0.0
        while child.poll() is None:
            now_s, now_mb = used(process)
            cpu_s, peak_mb = max(cpu_s, now_s), max(peak_mb, now_mb)
            time.sleep(POLL_S)
        if child.returncode:
            log.seek(0)
            raise SystemExit(f"{engine} failed:\n{log.read().decode()}")
    result = Cost(time.perf_counter() - started, cpu_s, peak_mb), (lake / MANIFEST).read_bytes()
    shutil.rmtree(lake)
    return result


def compare(csv: Path, rounds: int, scratch: Path) -> None:
    """Print the medians of each engine, and their ratios to threads."""
    costs: dict[str, list[Cost]] = {engine: [] for engine in ENGINES}
    manifests = set()
    for _ in range(rounds):
        for engine in ENGINES:
            cost, manifest = measure(engine, csv, scratch)
            costs[engine].append(cost)
            manifests.add(manifest)
    assert len(manifests) == 1, "the engines wrote different manifests"
    by_engine = medians(costs)
    threads = by_engine["threads"]
    print(f"{csv.name}: {csv.stat().st_size / 1e6:,.0f} MB, median of {rounds}, the same manifest from all")
    for engine, run in by_engine.items():
        ratios = ", ".join(f"{mine / theirs:.2f}" for mine, theirs in zip(run, threads, strict=True))
        print(
            f"  {engine:<9} {run.wall_s:6.1f} s wall {run.cpu_s:6.1f} s CPU {run.peak_mb:7,.0f} MB peak; "
            f"/ threads: {ratios}"
        )


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[START_ROWS, 7_000_000, 21_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "delaywatch-bench")
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    for rows in options.rows:
        compare(make_year(options.scratch, rows), options.rounds, options.scratch)


if __name__ == "__main__":
    main()
