"""Run the lines of the runbook that a local Postgres can answer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from tests.conftest import at
from tests.integration.cloud.templates import FOLDER

pytestmark = pytest.mark.cloud


def test_the_lines_for_a_lock_show_the_sessions_of_the_warehouse(empty_database: str, tmp_path: Path) -> None:
    page = (FOLDER.parent / "runbook.md").read_text()
    command = r"^docker compose exec -T airflow-scheduler python - <<'END'\n(.*?)^END$"
    (lines,) = re.findall(command, page, re.MULTILINE | re.DOTALL)
    address = tmp_path / "warehouse_url"
    address.write_text(at(empty_database) + "\n")

    with closing(psycopg2.connect(empty_database)) as holder, holder.cursor() as cursor:
        cursor.execute("SELECT 'held by a test'")
        pid = holder.info.backend_pid
        done = subprocess.run(
            [sys.executable, "-"],
            input=lines,
            env={"PATH": os.environ["PATH"], "DELAYWATCH_WAREHOUSE_FILE": str(address)},
            capture_output=True,
            text=True,
            check=False,
        )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"({pid}, ")
    assert "idle in transaction" in done.stdout
    assert "held by a test" in done.stdout
