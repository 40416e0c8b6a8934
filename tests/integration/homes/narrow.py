"""A program that reads our DAGs as MWAA does, in a Python that hides packages. Run by test_mwaa.py.

    python narrow.py DAGS HIDDEN

hides the modules that the file HIDDEN names by their first part, reads the folder as Airflow's DAG processor does,
without a PYTHONPATH, and then imports every module that any file of it names anywhere.
Prints the DAGs; a fault ends it.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType


class Hide(MetaPathFinder):
    """Hidden modules are not found, whatever is installed."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


def named(folder: Path) -> Iterator[str]:
    """The folder's own modules, and those that its files import, be it inside a function."""
    for path in sorted(folder.rglob("*.py")):
        if "migrations" not in path.parts:  # Alembic runs these, by their path
            yield ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module


def main() -> None:
    folder, hidden = Path(sys.argv[1]), Path(sys.argv[2]).read_text(encoding="utf-8").split()
    sys.meta_path.insert(0, Hide(set(hidden)))
    dagbag = importlib.import_module("airflow.dag_processing.dagbag")
    bag = dagbag.BundleDagBag(dag_folder=str(folder), bundle_path=folder)
    if bag.import_errors:
        sys.exit("\n".join(bag.import_errors.values()))
    for name in sorted(set(named(folder))):
        importlib.import_module(name)
    print(*sorted(bag.dags))  # noqa: T201


if __name__ == "__main__":
    main()
