"""The requirements of MWAA: made from our lock, in the form that MWAA takes, and enough for every import of dags/."""

from __future__ import annotations

import ast
import re
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
ASKED = [Requirement(line) for line in REQUIREMENTS.splitlines() if not line.startswith("#")]
# What MWAA's image of Airflow 3.3.1 installs by name, of what our lock has: images/airflow/3.3.1/bootstrap/02-airflow/
# 001-install-required-pip-packages.sh of github.com/aws/amazon-mwaa-docker-images.
BROUGHT = [
    "apache-airflow",
    *(f"apache-airflow-providers-{name}" for name in ("amazon", "fab", "postgres", "standard")),
]


def with_all_that_they_need(names: list[str]) -> set[str]:
    """The packages and those that they need in turn, as the installed ones tell; an extra only where it is asked."""
    found, left = set[tuple[str, str]](), [(name, "") for name in names]
    while left:
        name, extra = left.pop()
        if (name, extra) in found:
            continue
        try:
            needed = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:  # needed elsewhere than here, or by another extra
            continue
        found.add((name, extra))
        for need in needed:
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                left += [(canonicalize_name(need.name), asked) for asked in ("", *need.extras)]
    return {name for name, _ in found}


def read_dags(python_has: set[str], tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Read dags/ as MWAA does, with the modules of these packages and Python's own, and without a PYTHONPATH."""
    hidden = [
        module
        for module, packages in packages_distributions().items()
        if not python_has & {canonicalize_name(package) for package in packages}
    ]
    (tmp_path / "hidden").write_text("\n".join(hidden))
    arguments = [str(ROOT / "dags"), str(tmp_path / "hidden")]
    return subprocess.run(
        [sys.executable, "-B", str(ROOT / "tests/integration/homes/narrow.py"), *arguments],
        env={"AIRFLOW_HOME": str(tmp_path), "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_file_is_what_the_lock_gives() -> None:
    done = subprocess.run([sys.executable, str(MWAA / "requirements.py")], capture_output=True, text=True, check=True)

    assert done.stdout == REQUIREMENTS


def test_every_package_has_one_version_and_no_hash() -> None:
    assert ASKED
    assert [str(asked.specifier)[:2] for asked in ASKED] == ["=="] * len(ASKED)
    assert not [asked.name for asked in ASKED if asked.marker]
    assert "--hash" not in REQUIREMENTS


def test_mwaa_finds_the_word_for_which_it_searches_before_it_adds_constraints_of_its_own() -> None:
    assert re.search(r"-c |--constraint ", REQUIREMENTS)


def test_nothing_that_the_image_brings_is_asked_for_in_another_version() -> None:
    assert not {asked.name for asked in ASKED} & with_all_that_they_need(BROUGHT)


@pytest.mark.slow
def test_the_dags_and_all_that_they_import_anywhere_are_found_with_the_image_and_the_file_alone(tmp_path: Path) -> None:
    done = read_dags(with_all_that_they_need(BROUGHT) | {asked.name for asked in ASKED}, tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "fetch_bronze flight_anomalies retention"


def test_no_table_has_an_option_that_mwaas_sqlalchemy_does_not_know() -> None:
    """SQLAlchemy 2.1 takes postgresql_with of a table, 2.0 only of an index."""
    files = sorted((ROOT / "dags/utils/warehouse").rglob("*.py"))
    calls = [node for file in files for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    made = {"Table", "create_table"}
    tables = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr in made]

    assert tables
    assert not [word.arg for call in tables for word in call.keywords if word.arg == "postgresql_with"]


@pytest.mark.slow  # it takes as long as the test before it, which it shows to be able to fail
def test_a_package_that_only_a_detector_imports_and_the_file_lacks_is_told(tmp_path: Path) -> None:
    done = read_dags(with_all_that_they_need(BROUGHT) | {asked.name for asked in ASKED} - {"scipy"}, tmp_path)

    assert "ModuleNotFoundError: No module named 'scipy" in done.stderr
