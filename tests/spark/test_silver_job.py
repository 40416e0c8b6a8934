"""Run the script of the Glue job with the spark-submit of PySpark, with our code from the bundle's zip."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

from tests.steps import BRONZE, YEAR, files
from utils.pipeline import refine
from utils.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = runpy.run_path(str(ROOT / "infra-notes/spark/bundle.py"))


def lake_of(folder: Path) -> Settings:
    """Return the settings of a new lake with one year in bronze."""
    (folder / "01_bronze").mkdir(parents=True)
    (folder / f"01_bronze/{YEAR}.csv").write_bytes(BRONZE)
    return Settings(lake=folder.as_uri(), warehouse="", scratch=folder.parent, threads=2)


def submit(lake: Settings, year: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the script as Glue does, with arguments of Glue's own."""
    import pyspark

    BUNDLE["write_code"](folder / BUNDLE["CODE"])
    spark = Path(pyspark.__file__).parent
    command = [spark / "bin/spark-submit", "--master", "local[2]", "--py-files", BUNDLE["CODE"], BUNDLE["SCRIPT"]]
    arguments = ["--JOB_NAME", "silver", "--year", str(year), "--lake", lake.lake, "--TempDir", "s3://b/t"]
    environment = {name: os.environ[name] for name in ("PATH", "JAVA_HOME") if name in os.environ}
    environment |= {"SPARK_HOME": str(spark), "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    return subprocess.run(
        [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_script_writes_the_same_bytes_as_threads(tmp_path: Path) -> None:
    by_threads, by_spark = lake_of(tmp_path / "threads"), lake_of(tmp_path / "spark")
    refine.write_silver(by_threads, YEAR)

    done = submit(by_spark, YEAR, tmp_path)

    assert done.returncode == 0, done.stderr
    written, expected = files(by_spark), files(by_threads)
    manifest = next(key for key in expected if key.endswith("_manifest.json"))
    assert {**written, manifest: b""} == {**expected, manifest: b""}
    assert [without_etag(written[manifest])] == [without_etag(expected[manifest])]


def without_etag(manifest: bytes | None) -> object:
    content = json.loads(manifest or b"")
    return content | {"input": {key: value for key, value in content["input"].items() if key != "etag"}}


def test_the_last_line_of_a_failed_script_is_its_error(tmp_path: Path) -> None:
    done = submit(lake_of(tmp_path / "lake"), 1999, tmp_path)

    assert done.returncode != 0
    last = done.stdout.strip().splitlines()[-1]  # spark-submit joins both outputs of the script
    assert last.startswith("utils.errors.Missing: 01_bronze/1999.csv"), done.stdout
