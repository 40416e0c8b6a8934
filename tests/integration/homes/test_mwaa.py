"""Check the requirements of MWAA: written from our lock, and enough for every import of dags/."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
MWAA = ROOT / "infra-notes/mwaa"
OPTIONAL = {"pyspark", "py4j"}  # utils/spark.py imports them when the engine is spark
REQUIREMENTS = (MWAA / "requirements.txt").read_text()
PINNED = {Requirement(line).name for line in REQUIREMENTS.splitlines() if not line.startswith("#")}
# Packages of our lock that MWAA's image of Airflow 3.3.1 installs by name: images/airflow/3.3.1/bootstrap/02-airflow/
# 001-install-required-pip-packages.sh of github.com/aws/amazon-mwaa-docker-images.
IMAGE = ["apache-airflow", *(f"apache-airflow-providers-{name}" for name in ("amazon", "fab", "postgres", "standard"))]


def with_dependencies(names: list[str]) -> set[str]:
    """Return the installed packages among these and all that they need; an extra only where it is asked for."""
    found, left = set[tuple[str, str]](), [(name, "") for name in names]
    while left:
        name, extra = left.pop()
        if (name, extra) in found:
            continue
        try:
            needed = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:  # needed on other systems, or by another extra
            continue
        found.add((name, extra))
        for need in needed:
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                left += [(canonicalize_name(need.name), asked) for asked in ("", *need.extras)]
    return {name for name, _ in found}


def imported(folder: Path) -> set[str]:
    """The first part of every module that a file of the folder imports, also inside functions."""
    nodes = [node for path in folder.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.partition(".")[0] for name in names}


def test_mwaa_gets_every_dependency_and_import_from_the_lock_and_keeps_the_versions_of_its_image() -> None:
    image = with_dependencies(IMAGE)
    packages = {
        module: {canonicalize_name(name) for name in names} for module, names in packages_distributions().items()
    }
    own = {path.stem for path in (ROOT / "dags").iterdir()}
    foreign = imported(ROOT / "dags") - own - sys.stdlib_module_names - OPTIONAL

    done = subprocess.run([sys.executable, str(MWAA / "requirements.py")], capture_output=True, text=True, check=True)

    assert done.stdout == REQUIREMENTS
    assert not PINNED & image
    assert with_dependencies(sorted(PINNED)) <= PINNED | image
    assert {"airflow", "pyarrow", "scipy"} <= foreign
    assert [module for module in foreign if not packages.get(module, set()) & (image | PINNED)] == []
