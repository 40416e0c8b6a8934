"""Prints what MWAA has to install for our DAGs: the packages of our lock that its image of Airflow does not bring.

    .venv/bin/python infra-notes/mwaa/requirements.py > infra-notes/mwaa/requirements.txt

The versions are the lock's for MWAA's Python on Linux. What the image brings, Airflow with four providers and all that
these need, stays as the image has it, because MWAA refuses other versions of some of it.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
ASKED = "-r requirements/airflow.in"  # so the lock calls who wanted a package that no other package wants
PYTHON = {"python_version": "3.12", "python_full_version": "3.12.0", "sys_platform": "linux"}
PROVIDERS = ("amazon", "fab", "postgres", "standard")
IMAGE = {"apache-airflow", *(f"apache-airflow-providers-{name}" for name in PROVIDERS)}  # what it installs by name
HEAD = """\
# Made by requirements.py from requirements/airflow.txt; not to be edited.
# Without hashes: if one package had them, pip would demand them of those that MWAA adds to the same installation.
# Without --constraint for the versions that Airflow was tested with, because ours are others. MWAA searches this file
# for that word and adds the constraints of its Airflow where it does not find it.
"""


def read_lock(text: str) -> tuple[list[Requirement], dict[str, set[str]]]:
    """The pins of a lock that uv wrote, and by package those that it needs; ASKED stands for ourselves."""
    pins, needs, annotated = list[Requirement](), defaultdict[str, set[str]](set), False
    for line in text.splitlines():
        if not line.startswith(" "):
            pins.append(Requirement(line.removesuffix("\\")))
            annotated = False
        elif line.strip().startswith("# via"):
            annotated = True
        if annotated and (who := re.sub(r"^\s*#( via)?", "", line).strip()):
            needs[who].add(pins[-1].name)
    return pins, needs


def closure(names: Iterable[str], needs: Mapping[str, set[str]]) -> set[str]:
    """The packages and all that they need."""
    found, left = set[str](), list(names)
    while left:
        if (name := left.pop()) not in found:
            found.add(name)
            left += needs.get(name, ())
    return found


def main() -> None:
    """Print the file."""
    pins, needs = read_lock((ROOT / "requirements/airflow.txt").read_text(encoding="utf-8"))
    ours = closure(needs[ASKED] - IMAGE, needs) - closure(IMAGE, needs)
    chosen = [pin for pin in pins if pin.name in ours and (pin.marker is None or pin.marker.evaluate(PYTHON))]
    sys.stdout.write(HEAD + "".join(f"{pin.name}{pin.specifier}\n" for pin in chosen))


if __name__ == "__main__":
    main()
