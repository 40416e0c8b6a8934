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


def read_dags(packages: set[str], tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Import everything below dags/ in a Python that has only these packages and no PYTHONPATH."""
    hidden = [
        module
        for module, names in packages_distributions().items()
        if not packages & {canonicalize_name(name) for name in names}
    ]
    (tmp_path / "hidden").write_text("\n".join(hidden))
    script = Path(__file__).with_name("narrow.py")
    return subprocess.run(
        [sys.executable, "-B", str(script), str(ROOT / "dags"), str(tmp_path / "hidden")],
        env={"AIRFLOW_HOME": str(tmp_path), "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_file_is_what_the_script_makes_of_the_lock() -> None:
    done = subprocess.run([sys.executable, str(MWAA / "requirements.py")], capture_output=True, text=True, check=True)

    assert done.stdout == REQUIREMENTS


def test_mwaa_gets_one_version_per_package_without_hashes_markers_or_its_own_constraints() -> None:
    assert PINS
    assert all(str(pin.specifier).startswith("==") and not pin.marker for pin in PINS)
    assert "--hash" not in REQUIREMENTS
    assert "--constraint " in REQUIREMENTS  # MWAA adds its constraints where it does not find this word


def test_the_file_changes_no_version_of_the_image() -> None:
    assert not {pin.name for pin in PINS} & with_dependencies(IMAGE)


@pytest.mark.slow
def test_every_import_of_dags_works_with_image_and_file_and_fails_without_a_package(tmp_path: Path) -> None:
    packages = with_dependencies(IMAGE) | {pin.name for pin in PINS}

    complete = read_dags(packages, tmp_path)
    without_scipy = read_dags(packages - {"scipy"}, tmp_path)

    assert complete.returncode == 0, complete.stderr
    assert complete.stdout.splitlines()[-1] == "fetch_bronze flight_anomalies retention"
    assert "No module named 'scipy" in without_scipy.stderr


def test_no_table_has_an_option_that_sqlalchemy_of_mwaa_does_not_know() -> None:
    """SQLAlchemy 2.1 takes postgresql_with of a table, 2.0 only of an index."""
    files = sorted((ROOT / "dags/utils/warehouse").rglob("*.py"))
    calls = [node for file in files for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]

    tables = [call for call in calls if getattr(call.func, "attr", "") in {"Table", "create_table"}]

    assert tables
    assert not [word.arg for call in tables for word in call.keywords if word.arg == "postgresql_with"]
