"""Check that the tests notice faults: apply each seeded fault to a copy of the tree and run tests until one fails.

The `*.yaml` files beside this one hold the faults. Each fault replaces the text `old`, which occurs once in `file`, by
`new`, and names the tests that are likely to notice it. If those pass, the whole of `make test` runs. The test that
fails must fail again and must pass without the fault, so that neither a flaky nor a broken test counts. Give words to
run only the faults whose area or name contains one of them.

Prints one line per fault and exits with 1 if a fault was not noticed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WORKERS = 2
SOME_TEST_FAILED, COLLECTION_FAILED = 1, 2  # exit codes of pytest


@dataclass(frozen=True)
class Fault:
    """One change of one file that breaks one thing."""

    area: str
    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied_to(self, text: str) -> str:
        """Return the text of the file with the fault. Raises ValueError unless `old` occurs exactly once."""
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"{self.area}, {self.name!r}: `old` occurs {count} times in {self.file}; adapt the fault.")
        return text.replace(self.old, self.new)


def read_faults() -> list[Fault]:
    """Return the faults of every area, in the order of the files."""
    return [
        Fault(area=path.stem, **{**entry, "tests": tuple(entry["tests"])})
        for path in sorted(HERE.glob("*.yaml"))
        for entry in yaml.safe_load(path.read_text())
    ]


def copy_tree(folder: Path) -> None:
    """Copy the working tree, without what git ignores, into a repository of its own that uses our environment."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (source := ROOT / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            target.chmod(source.stat().st_mode)
    (folder / ".venv").symlink_to((ROOT / ".venv").resolve())
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    subprocess.run(["git", "add", "--all"], cwd=folder, check=True)


def failing_test(folder: Path, *arguments: str) -> str | None:
    """Run pytest in the folder until a test fails, and return that test; None if all pass."""
    command = [".venv/bin/python", "-m", "pytest", "-x", "-q", "-rfE", "-p", "no:cacheprovider", *arguments]
    environment = os.environ | {"PYTHONPATH": "dags"}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode == 0:
        return None
    if ended.returncode not in {SOME_TEST_FAILED, COLLECTION_FAILED}:
        raise RuntimeError(f"pytest could not run {' '.join(arguments)}:\n{ended.stdout}{ended.stderr}")
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", ended.stdout, re.MULTILINE)
    return found[1] if found else "a test that pytest does not name"


def who_notices(fault: Fault, folder: Path) -> str | None:
    """Return the test that notices the fault, None if all tests pass.

    Raises RuntimeError for a test that does not fail again with the fault, or fails without it.
    """
    file = folder / fault.file
    text = file.read_text()
    file.write_text(fault.applied_to(text))
    try:
        whole_suite = ("-n", "2", "--dist", "loadfile", "-m", "not slow and not e2e", "--ignore=tests/seeded_faults")
        test = failing_test(folder, *fault.tests) or failing_test(folder, *whole_suite)
        if test and not failing_test(folder, test.partition("[")[0]):
            raise RuntimeError(f"{test} fails with {fault.name!r}, but passes when it runs again")
    finally:
        file.write_text(text)
    if test and failing_test(folder, test.partition("[")[0]):
        raise RuntimeError(f"{test} fails without {fault.name!r} too; repair it first")
    return test


def main(words: list[str]) -> int:
    """Run the faults, two at a time, and return the exit code."""
    faults = [one for one in read_faults() if not words or any(word in f"{one.area} {one.name}" for word in words)]
    started, unnoticed = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="seeded-faults-") as parent:
        folders: Queue[Path] = Queue()
        for number in range(WORKERS):
            copy_tree(Path(parent, str(number)))
            folders.put(Path(parent, str(number)))

        def run(fault: Fault) -> str | None:
            folder = folders.get()
            try:
                return who_notices(fault, folder)
            finally:
                folders.put(folder)

        with ThreadPoolExecutor(WORKERS) as pool:
            for fault, test in zip(faults, pool.map(run, faults), strict=True):
                unnoticed += test is None
                print(f"{fault.area:10} {fault.name}: {test or 'NOT NOTICED'}", flush=True)  # noqa: T201
    minutes = (time.monotonic() - started) / 60
    print(f"{len(faults) - unnoticed} of {len(faults)} faults noticed in {minutes:.0f} minutes")  # noqa: T201
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
