"""Folders and files that are closed to the user who runs a command: one sentence that names the path, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unprivileged import PREFIX, close, give

ROOT = Path(__file__).parents[3]
NO_WAREHOUSE = "postgresql://nobody@127.0.0.1:1/nothing"


def run(
    public_folder: Path, command: list[str], closed: Path, variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python -m utils` as a user from whom `closed` is shut."""
    lake = public_folder / "lake"
    lake.mkdir(exist_ok=True)
    give(lake)
    close(closed)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "dags"), "COLUMNS": "400", "HOME": "/nowhere"}
    environment |= {"DELAYWATCH_LAKE": lake.as_uri(), "DELAYWATCH_WAREHOUSE": NO_WAREHOUSE}
    return subprocess.run(
        [*PREFIX, sys.executable, "-m", "utils", *command],
        env={**environment, **(variables or {})},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


@pytest.fixture
def closed(public_folder: Path) -> Path:
    """A folder with a file in it, yet to be closed."""
    folder = public_folder / "closed"
    (folder / "inside").mkdir(parents=True)
    (folder / "file").write_text("content\n")
    os.utime(folder / "file", (1, 1))
    return folder


def test_health_names_a_log_folder_that_it_cannot_enter_and_says_the_rest(public_folder: Path, closed: Path) -> None:
    done = run(public_folder, ["health"], closed, {"DELAYWATCH_LOG_FOLDER": str(closed / "inside")})

    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    disks = [line for line in done.stdout.splitlines() if line.split()[1] == "disk"]
    assert any(line.startswith("PROBLEM") and str(closed / "inside") in line for line in disks)
    assert any(str(closed) not in line for line in disks)


@pytest.mark.parametrize("folder", ["closed", "closed/inside", "closed/file"])
def test_sweep_names_a_log_folder_that_it_cannot_read(public_folder: Path, closed: Path, folder: str) -> None:
    logs = public_folder / folder

    done = run(public_folder, ["sweep"], closed, {"DELAYWATCH_LOG_FOLDER": str(logs), "DELAYWATCH_KEEP_LOGS_DAYS": "1"})

    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert done.stderr.startswith("Error: ")
    assert str(closed) in done.stderr


@pytest.mark.parametrize(
    ("command", "variable"),
    [
        (["status"], "DELAYWATCH_WAREHOUSE_FILE"),
        (["health"], "DELAYWATCH_AIRFLOW_DATABASE_FILE"),
        (["health"], "DELAYWATCH_CERTIFICATE"),
        (["alert"], "DELAYWATCH_SMTP_FILE"),
        (["alert"], "DELAYWATCH_ALERT_WEBHOOK_FILE"),
        (["fetch", "--year", "2015", "--source", "kaggle"], "DELAYWATCH_KAGGLE_TOKEN_FILE"),
    ],
)
def test_a_file_with_a_secret_that_cannot_be_read_is_named(
    public_folder: Path, closed: Path, command: list[str], variable: str
) -> None:
    warehouse = {"DELAYWATCH_WAREHOUSE": ""} if variable == "DELAYWATCH_WAREHOUSE_FILE" else {}

    done = run(public_folder, command, closed, {variable: str(closed / "file"), **warehouse})

    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert str(closed / "file") in done.stdout + done.stderr


def test_a_password_file_that_cannot_be_read_is_no_wrong_command_line(public_folder: Path, closed: Path) -> None:
    file = closed / "file"

    done = run(public_folder, ["prepare", "--reader", "r", "--reader-password-file", str(file)], file)

    assert (done.returncode, done.stderr.startswith("Error: ")) == (1, True)
    assert str(file) in done.stderr


@pytest.mark.parametrize("name", ["detectors.yaml", "incidents.yaml"])
def test_settings_of_detectors_that_cannot_be_read_are_named(public_folder: Path, closed: Path, name: str) -> None:
    """The files are next to the package, so the test copies its folder."""
    dags = closed.parent / "dags"
    subprocess.run(["cp", "-rL", str(ROOT / "dags"), str(dags)], check=True)

    done = run(public_folder, ["prepare"], dags / name, {"PYTHONPATH": str(dags)})

    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert str(dags / name) in done.stderr
