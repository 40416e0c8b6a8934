"""Check the requirements of MWAA: written from our lock, in MWAA's form, and enough for every import of dags/."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
MWAA = ROOT / "infra-notes/mwaa"
REQUIREMENTS = (MWAA / "requirements.txt").read_text()
PINS = [Requirement(line) for line in REQUIREMENTS.splitlines() if not line.startswith("#")]
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


@pytest.fixture(scope="module")
def image() -> set[str]:
    return with_dependencies(IMAGE)


def imported(folder: Path) -> set[str]:
    """The first part of every module that a file of the folder imports, also inside functions."""
    nodes = [node for path in folder.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.partition(".")[0] for name in names}


def test_the_file_is_what_the_script_makes_of_the_lock() -> None:
    done = subprocess.run([sys.executable, str(MWAA / "requirements.py")], capture_output=True, text=True, check=True)

    assert done.stdout == REQUIREMENTS


def test_mwaa_gets_one_version_per_package_without_hashes_markers_or_its_own_constraints() -> None:
    assert PINS
    assert all(str(pin.specifier).startswith("==") and not pin.marker for pin in PINS)
    assert "--hash" not in REQUIREMENTS
    assert "--constraint " in REQUIREMENTS  # MWAA adds its constraints where it does not find this word


def test_the_file_has_every_dependency_and_changes_no_version_of_the_image(image: set[str]) -> None:
    pinned = {pin.name for pin in PINS}

    assert not pinned & image
    assert with_dependencies(sorted(pinned)) <= pinned | image


def test_every_import_of_dags_is_in_the_image_or_in_the_file(image: set[str]) -> None:
    """Also those inside functions, which no DAG processor reports."""
    packages = {
        module: {canonicalize_name(name) for name in names} for module, names in packages_distributions().items()
    }
    own = {path.stem for path in (ROOT / "dags").iterdir()}
    foreign = imported(ROOT / "dags") - own - sys.stdlib_module_names

    assert {"airflow", "pyarrow", "scipy"} <= foreign
    assert [
        module for module in foreign if not packages.get(module, set()) & (image | {pin.name for pin in PINS})
    ] == []


def test_no_table_has_an_option_that_sqlalchemy_of_mwaa_does_not_know() -> None:
    """SQLAlchemy 2.1 takes postgresql_with of a table, 2.0 only of an index."""
    files = sorted((ROOT / "dags/utils/warehouse").rglob("*.py"))
    calls = [node for file in files for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]

    tables = [call for call in calls if getattr(call.func, "attr", "") in {"Table", "create_table"}]

    assert tables
    assert not [word.arg for call in tables for word in call.keywords if word.arg == "postgresql_with"]
