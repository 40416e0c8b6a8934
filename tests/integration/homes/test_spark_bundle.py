"""Check what `make spark-bundle` builds: the code, the script, the versions of the wheels. Needs no network."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
BUNDLE = runpy.run_path(str(ROOT / "infra-notes/spark/bundle.py"))


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our package as the zip that a cluster gets."""
    target: Path = tmp_path_factory.mktemp("bundle") / BUNDLE["CODE"]
    BUNDLE["write_code"](target)
    return target


def run_script(code: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script as a cluster does: with our code from the zip, outside the repository."""
    return subprocess.run(
        [sys.executable, BUNDLE["SCRIPT"], *arguments],
        cwd=code.parent,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(code), "JAVA_HOME": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_last_line_of_a_failed_script_is_an_error_that_airflow_recognizes(code: Path, tmp_path: Path) -> None:
    (tmp_path / "01_bronze").mkdir()
    (tmp_path / "01_bronze/2013.csv").write_text("FL_DATE\n")

    done = run_script(
        code, "--JOB_NAME", "silver", "--year", "2013", "--lake", tmp_path.as_uri(), "--TempDir", "s3://b/t"
    )

    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert re.fullmatch(r"utils\.errors\.InvalidInput: .+", last), done.stderr


def test_the_wheels_are_those_of_the_lock_for_the_python_of_glue_without_pyspark() -> None:
    locks = {name: (ROOT / f"requirements/{name}.txt").read_text() for name in ("spark", "airflow")}
    pins = {package.name: (str(package.specifier), hashes) for package, hashes in BUNDLE["pins"](locks["spark"])}

    assert {"pyarrow", "numpy", "boto3", "pydantic", "pandas"} <= pins.keys()
    assert not {"pyspark", "py4j"} & pins.keys()
    assert all(hash_.startswith("--hash=sha256:") for _, hashes in pins.values() for hash_ in hashes)
    assert all(hashes for _, hashes in pins.values())
    for name, (version, _) in pins.items():
        assert re.search(rf"^{name}{version}\b", locks["airflow"], re.MULTILINE), "executors and Airflow differ"
    assert f"numpy{pins['numpy'][0]} ; python_full_version >= '3.12'" in locks["spark"]
