"""The demo's temporary Airflow: its folder, its environment, its metadata database on SQLite.

Airflow reads its environment when it is imported, so this module imports it only after `enter`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import shutil
from pathlib import Path

DAGS = Path(__file__).resolve().parent.parent / "dags"


def enter(home: Path, lake: str, warehouse: str) -> None:
    """Set the environment of this process for the Airflow of `home`, with the URLs `lake` and `warehouse`.

    All other AIRFLOW* and DELAYWATCH_* variables are removed, so that no other installation is touched.
    """
    for name in list(os.environ):
        if name.startswith(("AIRFLOW", "DELAYWATCH_")):
            del os.environ[name]
    os.environ |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_WAREHOUSE": warehouse,
        "DELAYWATCH_LAKE": lake,
    }


def prepare(home: Path) -> None:
    """Create the metadata database of `home`; replace one of another Airflow version or of a killed run."""
    stamp, version = home / "made-by-airflow", importlib.metadata.version("apache-airflow")
    if stamp.is_file() and stamp.read_text() == version:
        return
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    importlib.import_module("airflow.utils.db").initdb()
    stamp.write_text(version)
