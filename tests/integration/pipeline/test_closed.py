"""Files and folders that the user of a command may not open: an error that names the path, no traceback."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from tests import command
from tests.unprivileged import as_nobody, close

# Loaded before the rights are dropped, because the interpreter's own folder may be closed too.
for name in ("health", "notifications", "retention"):
    import_module(f"utils.monitoring.{name}")
for name in ("pipeline.status", "sources.fetch"):
    import_module(f"utils.{name}")


@pytest.fixture
def closed_file(public_folder: Path) -> Path:
    """A file in a folder that only root may open."""
    file = public_folder / "closed/file"
    file.parent.mkdir()
    file.write_text("content\n")
    close(file.parent)
    return file


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
def test_a_closed_file_or_folder_of_a_setting_is_named(
    public_folder: Path, closed_file: Path, line: str, variable: str
) -> None:
    variables = {
        "HOME": "/nowhere",
        "DELAYWATCH_LAKE": (public_folder / "lake").as_uri(),
        "DELAYWATCH_WAREHOUSE": "postgresql://nobody@127.0.0.1:1/nothing",
        "DELAYWATCH_KEEP_LOGS_DAYS": "1",
        variable: str(closed_file),
    }
    if variable == "DELAYWATCH_WAREHOUSE_FILE":
        del variables["DELAYWATCH_WAREHOUSE"]

    done = as_nobody(lambda: command.utils(*line.split(), **variables))

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(closed_file) in done.stdout + done.stderr
