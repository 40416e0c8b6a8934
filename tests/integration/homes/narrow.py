"""Import every module that a folder of DAGs names anywhere, in a Python that hides packages. Run by test_mwaa.py.

    python narrow.py DAGS HIDDEN

HIDDEN is a file with the first parts of the modules to hide. Prints the DAGs; fails at the first missing module.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any


class Hide(MetaPathFinder):
    """Raise ModuleNotFoundError for these modules although they are installed."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def modules(folder: Path) -> Iterator[str]:
    """Yield the folder's own modules and those that its files import, also inside functions."""
    for path in sorted(folder.rglob("*.py")):
        if "migrations" not in path.parts:  # Alembic runs these by their path
            yield ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module


if __name__ == "__main__":
    dags = Path(sys.argv[1])
    sys.meta_path.insert(0, Hide(set(Path(sys.argv[2]).read_text(encoding="utf-8").split())))
    dagbag = importlib.import_module("airflow.dag_processing.dagbag")
    bag = dagbag.BundleDagBag(dag_folder=str(dags), bundle_path=dags)
    if bag.import_errors:
        sys.exit("\n".join(bag.import_errors.values()))
    for module in sorted(set(modules(dags))):
        importlib.import_module(module)
    print(*sorted(bag.dags))  # noqa: T201
