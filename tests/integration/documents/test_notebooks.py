"""Every notebook runs on a small finished year, with a login that can only read the warehouse."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import NamedTuple

import nbformat
import numpy as np
import pandas as pd
import pytest
from jupyter_client.manager import KernelManager, start_new_kernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from sklearn.metrics import average_precision_score

from tests import steps
from tests.builders import Flight, csv_of, year_of_flights
from tests.conftest import at, sql
from tests.steps import CLOSED, YEAR
from utils import detectors
from utils.db_handler import DBHandler
from utils.pipeline import inputs
from utils.settings import Settings
from utils.storage.lake import Lake
from utils.tuning import labels

ROOT = Path(__file__).resolve().parents[3]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EXPLORE, TUNE, COMPARE, WHY = NOTEBOOKS
AIRPORTS = {"JFK": 24, "EWR": 16, "ACK": 3}  # flights a day; on the closed day 18 and 12 are cancelled
DETECTORS = ("three_sigma", "random_cut_forest", "delaywatch")  # the fast ones
# Lower levels, because the year has one abnormal day; fewer settings and resamples, because they are faster.
PARAMETERS = {
    TUNE: "\nCHANGED = {'levels': [10, 120, 365]}; GRID = ('levels', [[10, 120, 365], [75, 180, 500]])",
    COMPARE: "\nREPLICATES = 50",
}


class Year(NamedTuple):
    """A lake with a finished year, and its warehouse for the superuser and for a login that can only read."""

    lake: str
    superuser: str
    reader: str
    flights: list[Flight]

    def verdicts(self) -> pd.DataFrame:
        """Return the published verdicts."""
        lake = Lake(Settings(lake=self.lake, warehouse=""))
        return pd.DataFrame(lake.read_anomalies(YEAR, detectors.PUBLISHED).to_pandas(date_as_object=False))


@pytest.fixture(scope="module")
def finished(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Year]:
    """A year with one closed day at two airports, and feedback on it."""
    superuser = at(postgres, database="test_notebooks")
    lake = tmp_path_factory.mktemp("notebooks") / "lake"
    flights = year_of_flights(YEAR, AIRPORTS, closed=CLOSED)
    sql(postgres, "CREATE DATABASE test_notebooks TEMPLATE template_warehouse")
    sql(postgres, "CREATE ROLE data_scientist LOGIN IN ROLE flights_reader")
    settings = Settings(lake=lake.as_uri(), warehouse=superuser, threads=2)
    Lake(settings).store.put(f"01_bronze/{YEAR}.csv", csv_of(flights))
    steps.run(settings, YEAR, DETECTORS)
    with DBHandler(superuser) as warehouse:
        warehouse.give_feedback("JFK", date(2015, 2, 8), "right", "snow", "ana")
        warehouse.give_feedback("EWR", date(2015, 2, 8), "wrong", "", "ana")
    yield Year(settings.lake, superuser, at(superuser, username="data_scientist"), flights)
    sql(postgres, "DROP DATABASE test_notebooks WITH (FORCE)", "DROP ROLE data_scientist")


class Shown(NamedTuple):
    """The output of a notebook, and the folder in which it ran."""

    text: str
    folder: Path

    @property
    def words(self) -> str:
        """The text without HTML tags, with single spaces between words."""
        return " ".join(re.sub(r"<style.*?</style>|<[^>]+>", " ", self.text, flags=re.DOTALL).split())


@contextmanager
def running_kernel(folder: Path) -> Iterator[KernelManager]:
    """Start a kernel as Jupyter does, and end it with the block."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DELAYWATCH_", "AWS_"))}
    environment |= {
        "PYTHONPATH": str(ROOT / "dags"),
        "IPYTHONDIR": str(folder / "ipython"),
        "MPLCONFIGDIR": str(folder / "matplotlib"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
        manager, client = start_new_kernel(env=environment)
    client.stop_channels()
    yield manager
    manager.shutdown_kernel(now=True)


def execute(kernel: KernelManager, notebook: Path, lake: str, warehouse: str, scratch: Path) -> Shown:
    """Run the notebook with PARAMETERS after its own parameters, and without the names of an earlier notebook.

    Raises CellExecutionError at the first cell that fails.
    """
    (scratch / "warehouse_url").write_text(warehouse)
    variables = {"DELAYWATCH_LAKE": lake, "DELAYWATCH_WAREHOUSE_FILE": str(scratch / "warehouse_url")}
    book = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    book.cells[1].source += PARAMETERS.get(notebook, "")
    # The folder of the test before is deleted, and %reset needs the current one.
    folder = f"import os\nos.chdir({str(scratch)!r})\n"
    fresh = f"{folder}%reset -f\nimport os\nos.environ.update({variables})\ndel os"
    book.cells.insert(0, nbformat.v4.new_code_cell(fresh))  # type: ignore[no-untyped-call]
    client = NotebookClient(book, km=kernel, timeout=300)
    try:
        client.execute()
    finally:
        if client.kc is not None:
            client.kc.stop_channels()
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    texts = []
    for output in outputs:
        data = output.get("data", {})
        texts.append(data.get("text/html", data.get("text/markdown", str(output))))
    return Shown("\n".join(texts), scratch)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelManager]:
    """One kernel for all notebooks, because a new kernel needs seconds to load the libraries."""
    with running_kernel(tmp_path_factory.mktemp("kernel")) as manager:
        yield manager


@pytest.fixture(scope="module")
def shown(kernel: KernelManager, finished: Year, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Shown]:
    """Run a notebook on the finished year, once per module."""

    @functools.cache
    def run(notebook: Path) -> Shown:
        return execute(kernel, notebook, finished.lake, finished.reader, tmp_path_factory.mktemp(notebook.stem))

    return run


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_without_a_warning(notebook: Path, shown: Callable[[Path], Shown]) -> None:
    assert "Warning" not in shown(notebook).text


def test_explore_shows_the_busiest_airport_and_its_closed_day(shown: Callable[[Path], Shown]) -> None:
    output = shown(EXPLORE).text

    assert "JFK in 2015" in output
    assert re.search(r"JFK, Sun 8 Feb 2015.* 24 scheduled flights, 92 min effective delay", output)
    assert "JFK20150208" in output
    assert "image/png" in output


def test_explore_fails_if_postgres_and_gold_differ(kernel: KernelManager, finished: Year, tmp_path: Path) -> None:
    change = (
        "UPDATE flights.airport_days SET disrupted = disrupted + {} WHERE (origin, fl_date) = ('JFK', '2015-02-08')"
    )
    sql(finished.superuser, change.format(1))
    try:
        with pytest.raises(CellExecutionError, match="Postgres and the lake differ in 2015"):
            execute(kernel, EXPLORE, finished.lake, finished.reader, tmp_path)
    finally:
        sql(finished.superuser, change.format(-1))


def test_tune_counts_the_flags_of_both_settings_and_writes_only_a_proposal(
    finished: Year, shown: Callable[[Path], Shown]
) -> None:
    before = inputs.DETECTORS_FILE.read_text()
    expected = detectors.read_settings(inputs.DETECTORS_FILE)
    levels = expected["delaywatch"]["levels"]
    assert isinstance(levels, tuple)
    expected["delaywatch"]["levels"] = (10.0, 120.0, 365.0)
    verdicts = finished.verdicts()
    now = int(verdicts["is_anomaly"].sum())
    proposed = int((verdicts["score"] >= 10).sum())  # the score is the return period, and the lowest level is 10 days
    at_jfk = [int((verdicts["origin"].eq("JFK") & (verdicts["score"] >= level)).sum()) for level in (levels[0], 10)]

    words = shown(TUNE).words

    assert f"flags at JFK {at_jfk[0]} {at_jfk[1]} flags at all airports {now} {proposed} " in words
    assert f"{proposed - now} gained, 0 lost" in words
    assert "called right, wrong 1, 1 1, 1" in words
    assert 0 < now < proposed
    assert detectors.read_settings(shown(TUNE).folder / "detectors.proposed.yaml") == expected
    assert inputs.DETECTORS_FILE.read_text() == before


def test_compare_shows_average_precision_and_feedback(finished: Year, shown: Callable[[Path], Shown]) -> None:
    lake = Lake(Settings(lake=finished.lake, warehouse=""))
    half, other_half = labels.halves(lake.read_silver(YEAR), YEAR)
    verdicts = detectors.load("three_sigma")(half).assign(fl_date=pd.to_datetime(half["fl_date"]))
    labelled = labels.worst_days(other_half).merge(verdicts)
    scores = labelled["score"].fillna(-np.inf).clip(lower=-1e9)
    expected = average_precision_score(labelled["is_abnormal"], scores)

    words = shown(COMPARE).words

    assert re.search(rf"three_sigma {expected:.2f} \(", words)
    assert words.endswith("delaywatch 1 1 0 0 0.5 random_cut_forest 0 0 0 1 NaN three_sigma 0 0 0 1 NaN")
    assert "image/png" in shown(COMPARE).text


def test_why_shows_the_storm_and_its_flights(finished: Year, shown: Callable[[Path], Shown]) -> None:
    in_storm = [row for row in finished.flights if (row["ORIGIN"], row["FL_DATE"]) in CLOSED]
    delays = [(row["ORIGIN"], float(row["DEP_DELAY"])) for row in in_storm if row["DEP_DELAY"]]
    effective = (30 * 120 + sum(min(delay, 120) for _, delay in delays)) / 40
    longest = max(delay for origin, delay in delays if origin == "JFK")

    words = shown(WHY).words

    assert f"2015-02-08 EWR and JFK, closure 2 2 40 30 {effective:.0f} " in words
    assert re.search(r"- JFK, Sun 8 Feb 2015, closure, .*: 24 scheduled flights, .* 18 cancellations", words)
    assert re.search(rf"dep_delay UA \d+ DEN \d+ {longest:.0f} ", words)
    assert "image/png" in shown(WHY).text


@pytest.mark.parametrize("notebook", [EXPLORE, WHY], ids=lambda path: path.stem)
def test_a_notebook_shows_the_day_of_a_short_year_that_is_flagged_without_a_score(
    notebook: Path, kernel: KernelManager, warehouse: str, tmp_path: Path
) -> None:
    """The file has the flights of 10 days, too few for a score; the rule for cancelled flights needs no history."""
    ten_days = [row for row in year_of_flights(YEAR, {"JFK": 24}, closed=CLOSED) if "-02-0" in row["FL_DATE"]]
    settings = Settings(lake=tmp_path.as_uri(), warehouse=warehouse, threads=2)
    Lake(settings).store.put(f"01_bronze/{YEAR}.csv", csv_of(ten_days))
    steps.run(settings, YEAR)

    shown = execute(kernel, notebook, settings.lake, warehouse, tmp_path)

    assert re.search(r"JFK, Sun 8 Feb 2015[^.]*: .*24 scheduled flights", shown.text)
