"""Files and folders that the user of a command may not open: an error that names the path, no traceback."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests import command
from tests.builders import csv_of, flight
from tests.unprivileged import as_nobody, close, give
from utils.pipeline import inputs

# Loaded before the rights are dropped, because the interpreter's own folder may be closed too.
for name in ("health", "notifications", "retention"):
    import_module(f"utils.monitoring.{name}")
for name in ("pipeline.status", "sources.fetch"):
    import_module(f"utils.{name}")

NO_WAREHOUSE = "postgresql://nobody@127.0.0.1:1/nothing"


@pytest.fixture
def lake(public_folder: Path) -> Path:
    """A lake of nobody with the CSV of 2015."""
    bronze = public_folder / "lake/01_bronze"
    bronze.mkdir(parents=True)
    (bronze / "2015.csv").write_bytes(csv_of([flight()]))
    give(bronze.parent)
    return bronze.parent


@pytest.fixture
def closed_file(public_folder: Path) -> Path:
    """A file in a folder that only root may open."""
    file = public_folder / "closed/file"
    file.parent.mkdir()
    file.write_text("content\n")
    close(file.parent)
    return file


def run(lake: Path, *line: str, **variables: str) -> CompletedProcess[str]:
    """Run the command as nobody, and check that it fails without a traceback."""
    done = as_nobody(lambda: command.utils(*line, HOME="/nowhere", DELAYWATCH_LAKE=lake.as_uri(), **variables))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize(
    ("line", "variable"),
    [
        ("status", "DELAYWATCH_WAREHOUSE_FILE"),
        ("health", "DELAYWATCH_AIRFLOW_DATABASE_FILE"),
        ("health", "DELAYWATCH_CERTIFICATE"),
        ("health", "DELAYWATCH_LOG_FOLDER"),
        ("sweep", "DELAYWATCH_LOG_FOLDER"),
        ("alert", "DELAYWATCH_SMTP_FILE"),
        ("fetch --year 2016 --source kaggle", "DELAYWATCH_KAGGLE_TOKEN_FILE"),
    ],
)
def test_a_closed_file_or_folder_of_a_setting_is_named(lake: Path, closed_file: Path, line: str, variable: str) -> None:
    variables = {"DELAYWATCH_WAREHOUSE": NO_WAREHOUSE, "DELAYWATCH_KEEP_LOGS_DAYS": "1"}
    if variable == "DELAYWATCH_WAREHOUSE_FILE":
        del variables["DELAYWATCH_WAREHOUSE"]

    done = run(lake, *line.split(), **variables, **{variable: str(closed_file)})

    assert str(closed_file) in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["DETECTORS_FILE", "INCIDENTS_FILE"])
def test_a_closed_file_of_detectors_or_incidents_is_named(
    lake: Path, closed_file: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, name, closed_file)

    assert str(closed_file) in run(lake, "prepare", DELAYWATCH_WAREHOUSE=NO_WAREHOUSE).stderr


def test_a_closed_lake_is_named(lake: Path) -> None:
    close(lake)
    os.chown(lake, os.geteuid(), os.getegid())

    assert str(lake) in run(lake, "silver", "--year", "2015").stderr
