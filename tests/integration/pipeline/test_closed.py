"""Files and folders that the user of a command may not open: an error that names the path, no traceback."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests import command
from tests.builders import csv_of, flight
from tests.unprivileged import as_nobody, close, give
from utils.errors import InvalidInput
from utils.monitoring.retention import sweep
from utils.pipeline import inputs
from utils.settings import Settings, WatchSettings

# Loaded before the rights are dropped, because the interpreter's own folder may be closed too.
for name in (
    "monitoring.health",
    "monitoring.notifications",
    "pipeline.status",
    "sources.fetch",
):
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
def closed(public_folder: Path) -> Path:
    """A folder that only root may open, with an old file and a folder in it."""
    folder = public_folder / "closed"
    (folder / "inside").mkdir(parents=True)
    (folder / "file").write_text("content\n")
    os.utime(folder / "file", (1, 1))
    close(folder)
    return folder


def run(lake: Path, *line: str, **variables: str) -> CompletedProcess[str]:
    """Run the command as nobody, and check that it fails without a traceback."""
    settings = {"HOME": "/nowhere", "DELAYWATCH_LAKE": lake.as_uri(), "DELAYWATCH_WAREHOUSE": NO_WAREHOUSE}
    done = as_nobody(lambda: command.utils(*line, **(settings | variables)))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done


def test_health_names_a_closed_log_folder_and_checks_the_other_disks(lake: Path, closed: Path) -> None:
    done = run(lake, "health", DELAYWATCH_LOG_FOLDER=str(closed / "inside"))

    disks = [line for line in done.stdout.splitlines() if line.split()[1] == "disk"]
    assert any(line.startswith("PROBLEM") and str(closed / "inside") in line for line in disks)
    assert any(str(closed) not in line for line in disks)


@pytest.mark.parametrize("folder", ["", "inside", "file"])
def test_sweep_names_a_closed_log_folder(lake: Path, closed: Path, folder: str) -> None:
    watch = WatchSettings(log_folder=closed / folder, keep_logs_days=1)

    def message() -> str:
        with pytest.raises(InvalidInput) as caught:
            sweep(Settings(lake=lake.as_uri(), warehouse=""), watch, datetime.now(UTC))
        return str(caught.value)

    assert str(closed) in as_nobody(message)


@pytest.mark.parametrize(
    ("line", "variable"),
    [
        ("status", "DELAYWATCH_WAREHOUSE_FILE"),
        ("health", "DELAYWATCH_AIRFLOW_DATABASE_FILE"),
        ("health", "DELAYWATCH_CERTIFICATE"),
        ("alert", "DELAYWATCH_SMTP_FILE"),
        ("alert", "DELAYWATCH_ALERT_WEBHOOK_FILE"),
        ("fetch --year 2016 --source kaggle", "DELAYWATCH_KAGGLE_TOKEN_FILE"),
    ],
)
def test_a_closed_file_of_a_setting_is_named(lake: Path, closed: Path, line: str, variable: str) -> None:
    replaced = {"DELAYWATCH_WAREHOUSE": ""} if variable == "DELAYWATCH_WAREHOUSE_FILE" else {}

    done = run(lake, *line.split(), **{variable: str(closed / "file"), **replaced})

    assert str(closed / "file") in done.stdout + done.stderr


def test_a_closed_password_file_is_named(lake: Path, closed: Path) -> None:
    done = run(lake, "prepare", "--reader", "r", "--reader-password-file", str(closed / "file"))

    assert str(closed / "file") in done.stderr


@pytest.mark.parametrize("name", ["DETECTORS_FILE", "INCIDENTS_FILE"])
def test_a_closed_file_of_detectors_or_incidents_is_named(
    lake: Path, closed: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, name, closed / "file")

    assert str(closed / "file") in run(lake, "prepare").stderr


def test_a_closed_lake_is_named(lake: Path) -> None:
    close(lake)
    os.chown(lake, os.geteuid(), os.getegid())

    assert str(lake) in run(lake, "silver", "--year", "2015").stderr
