"""Every notebook runs top to bottom on a small finished year, with a login that may only read the warehouse."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.bronze import csv_of, year_of_flights
from tests.conftest import at, sql
from utils import pipeline
from utils.lake import Lake
from utils.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EXPLORE = ROOT / "notebooks/01_explore_a_year.ipynb"
YEAR = 2015
SNOW = ("JFK", "2015-02-08")  # 18 of 24 flights are cancelled


class Finished(NamedTuple):
    """A lake with one finished year, and its warehouse as its superuser and as a reader see it."""

    lake: str
    superuser: str
    reader: str


@pytest.fixture(scope="module")
def finished(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    superuser = at(postgres, database="test_notebooks")
    sql(postgres, "CREATE DATABASE test_notebooks TEMPLATE template_warehouse")
    sql(postgres, "CREATE ROLE data_scientist LOGIN IN ROLE flights_reader")
    settings = Settings(lake=(tmp_path_factory.mktemp("notebooks") / "lake").as_uri(), warehouse=superuser, threads=2)
    flights = year_of_flights(YEAR, {"JFK": 24, "EWR": 16, "ACK": 3}, closed=[SNOW])
    Lake(settings).store.put(f"01_bronze/{YEAR}.csv", csv_of(flights))
    pipeline.write_silver(settings, YEAR)
    pipeline.write_gold(settings, YEAR)
    for name in pipeline.detector_names(settings):
        pipeline.write_anomalies(settings, YEAR, name)
    pipeline.upsert(settings, YEAR)
    pipeline.write_plots(settings, YEAR)
    pipeline.publish(settings, YEAR, "test", datetime(2016, 1, 1, tzinfo=UTC))
    yield Finished(settings.lake, superuser, at(superuser, username="data_scientist"))
    sql(postgres, "DROP DATABASE test_notebooks WITH (FORCE)", "DROP ROLE data_scientist")


def execute(notebook: Path, lake: str, warehouse: str, scratch: Path) -> str:
    """Run the notebook as Jupyter does, in a kernel of its own; return all that its cells have shown, as text.

    Raises CellExecutionError at the first cell that fails.
    """
    (scratch / "warehouse_url").write_text(warehouse)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DELAYWATCH_", "AWS_"))}
    environment |= {
        "PYTHONPATH": str(ROOT / "dags"),
        "DELAYWATCH_LAKE": lake,
        "DELAYWATCH_WAREHOUSE_FILE": str(scratch / "warehouse_url"),
        "IPYTHONDIR": str(scratch / "ipython"),
        "MPLCONFIGDIR": str(scratch / "matplotlib"),
    }
    book = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(book, kernel_name="python3", timeout=300, resources={"metadata": {"path": str(scratch)}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_RUNTIME_DIR", str(scratch / "runtime"))
        client.execute(env=environment)
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    return "\n".join(output.get("data", {}).get("text/html", str(output)) for output in outputs)


@pytest.fixture(scope="module")
def shown(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    """What a notebook shows of the finished year; it is run when that is first asked for."""

    @functools.cache
    def once(notebook: Path) -> str:
        return execute(notebook, finished.lake, finished.reader, tmp_path_factory.mktemp(notebook.stem))

    return once


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_runs_top_to_bottom_without_a_warning(notebook: Path, shown: Callable[[Path], str]) -> None:
    assert "Warning" not in shown(notebook)


def test_exploring_a_year_shows_the_busiest_airport_and_its_closed_day(shown: Callable[[Path], str]) -> None:
    found = shown(EXPLORE)

    assert "JFK in 2015" in found
    assert "JFK, Sun 8 Feb 2015: 24 scheduled flights, 92 min effective delay against 8 expected" in found
    assert "JFK20150208" in found
    assert found.count("image/png") == 6


def test_exploring_a_year_fails_when_postgres_holds_another_row_than_gold(finished: Finished, tmp_path: Path) -> None:
    change = (
        "UPDATE flights.airport_days SET disrupted = disrupted + {} WHERE (origin, fl_date) = ('JFK', '2015-02-08')"
    )
    sql(finished.superuser, change.format(1))
    try:
        with pytest.raises(CellExecutionError, match="Postgres does not hold the 2015 of the lake"):
            execute(EXPLORE, finished.lake, finished.reader, tmp_path)
    finally:
        sql(finished.superuser, change.format(-1))


def test_exploring_a_lake_without_a_finished_year_says_what_to_do(finished: Finished, tmp_path: Path) -> None:
    empty = tmp_path / "lake"
    empty.mkdir()

    with pytest.raises(CellExecutionError, match="has no finished year yet; run one with the DAG"):
        execute(EXPLORE, empty.as_uri(), finished.reader, tmp_path)
