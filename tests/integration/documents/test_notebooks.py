"""Every notebook runs top to bottom on a small finished year, with a login that may only read the warehouse."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
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

from tests.builders import Flight, csv_of, flight, year_of_flights
from tests.conftest import at, sql
from utils import detectors
from utils.db_handler import DBHandler
from utils.errors import DelaywatchError
from utils.pipeline import detect, inputs, plots, publish, refine
from utils.settings import Settings
from utils.storage.lake import Lake
from utils.tuning import evaluation

ROOT = Path(__file__).resolve().parents[3]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EXPLORE, TUNE, COMPARE, WHY = NOTEBOOKS
YEAR = 2015
AIRPORTS = {"JFK": 24, "EWR": 16, "ACK": 3}  # flights a day
SNOW = [("JFK", "2015-02-08"), ("EWR", "2015-02-08")]  # 18 of 24 flights are cancelled, 12 of 16
DETECTORS = ["three_sigma", "random_cut_forest", "delaywatch"]  # quick ones
# Without abnormal days but the one, only so low a level gains flags; fewer samples and settings are faster.
PARAMETERS = {
    TUNE: "\nCHANGED = {'levels': [10, 120, 365]}; GRID = ('levels', [[10, 120, 365], [75, 180, 500]])",
    COMPARE: "\nREPLICATES = 50",
}


class Finished(NamedTuple):
    """A lake with one finished year of known flights, and its warehouse as its superuser and as a reader see it."""

    lake: str
    superuser: str
    reader: str
    flights: list[Flight]

    def gold(self) -> pd.DataFrame:
        """The published verdicts."""
        lake = Lake(Settings(lake=self.lake, warehouse=""))
        return pd.DataFrame(lake.read_anomalies(YEAR, detectors.PUBLISHED).to_pandas(date_as_object=False))


def finish(postgres: str, database: str, lake: Path, flights: list[Flight]) -> Finished:
    """Run the whole year into a new lake and a new database."""
    superuser = at(postgres, database=database)
    sql(postgres, f"CREATE DATABASE {database} TEMPLATE template_warehouse")
    settings = Settings(lake=lake.as_uri(), warehouse=superuser, threads=2)
    Lake(settings).store.put(f"01_bronze/{YEAR}.csv", csv_of(flights))
    refine.write_silver(settings, YEAR)
    refine.write_gold(settings, YEAR)
    for name in DETECTORS:
        detect.write_anomalies(settings, YEAR, name)
    detect.explain(settings, YEAR)
    publish.upsert(settings, YEAR)
    plots.write_plots(settings, YEAR)
    publish.publish(settings, YEAR, "test", datetime(2016, 1, 1, tzinfo=UTC))
    return Finished(settings.lake, superuser, at(superuser, username="data_scientist"), flights)


@pytest.fixture(scope="module")
def data_scientist(postgres: str) -> Iterator[None]:
    sql(postgres, "CREATE ROLE data_scientist LOGIN IN ROLE flights_reader")
    yield
    sql(postgres, "DROP ROLE data_scientist")


@pytest.fixture(scope="module")
def finished(postgres: str, data_scientist: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    flights = year_of_flights(YEAR, AIRPORTS, closed=SNOW)
    year = finish(postgres, "test_notebooks", tmp_path_factory.mktemp("notebooks") / "lake", flights)
    with DBHandler(year.superuser) as warehouse:
        warehouse.give_feedback("JFK", date(2015, 2, 8), "right", "snow", "ana")
        warehouse.give_feedback("EWR", date(2015, 2, 8), "wrong", "", "ana")
    yield year
    sql(postgres, "DROP DATABASE test_notebooks WITH (FORCE)")


@pytest.fixture(scope="module")
def bare(postgres: str, data_scientist: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """One airport, every day alike, nothing cancelled, and neither scheduled times nor causes in the file."""
    days = pd.date_range(f"{YEAR}-01-01", f"{YEAR}-12-31").strftime("%Y-%m-%d")
    flights = [
        flight(FL_DATE=day, OP_CARRIER_FL_NUM=str(number), CRS_DEP_TIME="", DEP_TIME="", DEP_DELAY=f"{number}.0")
        for day in days
        for number in range(10)
    ]
    yield finish(postgres, "test_bare_year", tmp_path_factory.mktemp("bare") / "lake", flights)
    sql(postgres, "DROP DATABASE test_bare_year WITH (FORCE)")


class Shown(NamedTuple):
    """What a notebook has shown, and the folder in which it ran."""

    text: str
    folder: Path

    @property
    def words(self) -> str:
        """The text without HTML tags, a single space between words."""
        return " ".join(re.sub(r"<style.*?</style>|<[^>]+>", " ", self.text, flags=re.DOTALL).split())


@contextmanager
def running_kernel(folder: Path) -> Iterator[KernelManager]:
    """Run a kernel as Jupyter starts it."""
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
    """Run the notebook in the kernel, with PARAMETERS after those of the notebook and without names of one before.

    Raises CellExecutionError at the first cell that fails.
    """
    (scratch / "warehouse_url").write_text(warehouse)
    variables = {"DELAYWATCH_LAKE": lake, "DELAYWATCH_WAREHOUSE_FILE": str(scratch / "warehouse_url")}
    book = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    book.cells[1].source += PARAMETERS.get(notebook, "")
    fresh = f"%reset -f\nimport os\nos.environ.update({variables})\nos.chdir({str(scratch)!r})\ndel os"
    book.cells.insert(0, nbformat.v4.new_code_cell(fresh))  # type: ignore[no-untyped-call]
    client = NotebookClient(book, km=kernel, timeout=300)
    try:
        client.execute()
    finally:
        if client.kc is not None:
            client.kc.stop_channels()
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [output.get("data", {}) for output in outputs]
    texts = [
        data.get("text/html", data.get("text/markdown", str(output)))
        for data, output in zip(shown, outputs, strict=True)
    ]
    return Shown("\n".join(texts), scratch)


def run_with(notebook: Path, parameters: str, lake: str, warehouse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the cells in this process, which has its libraries loaded, with other parameters than the notebook's own."""
    monkeypatch.setenv("DELAYWATCH_LAKE", lake)
    monkeypatch.setenv("DELAYWATCH_WAREHOUSE", warehouse)
    book = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    names: dict[str, object] = {}
    for cell in book.cells:
        if cell.cell_type == "code":
            exec(cell.source, names)  # noqa: S102  our own notebook
        if "parameters" in cell.metadata.get("tags", []):
            exec(parameters, names)  # noqa: S102


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelManager]:
    """One kernel for all notebooks: each new one takes seconds to load the libraries."""
    with running_kernel(tmp_path_factory.mktemp("kernel")) as manager:
        yield manager


@pytest.fixture(scope="module")
def shown(
    kernel: KernelManager, finished: Finished, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path], Shown]:
    """What a notebook shows of the finished year; it is run when that is first asked for."""

    @functools.cache
    def once(notebook: Path) -> Shown:
        return execute(kernel, notebook, finished.lake, finished.reader, tmp_path_factory.mktemp(notebook.stem))

    return once


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_runs_top_to_bottom_without_a_warning(notebook: Path, shown: Callable[[Path], Shown]) -> None:
    assert "Warning" not in shown(notebook).text


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_runs_top_to_bottom_on_a_year_that_lacks_what_is_optional(
    kernel: KernelManager, notebook: Path, bare: Finished, tmp_path: Path
) -> None:
    found = execute(kernel, notebook, bare.lake, bare.reader, tmp_path)

    assert not bare.gold()["is_anomaly"].any()
    assert "Warning" not in found.text
    assert notebook not in (EXPLORE, WHY) or "CRS_DEP_TIME" in found.text


@pytest.mark.parametrize("notebook", [TUNE, COMPARE, WHY], ids=lambda path: path.stem)
def test_the_second_cell_is_the_one_to_change(notebook: Path) -> None:
    cells = nbformat.read(notebook, as_version=4).cells  # type: ignore[no-untyped-call]

    assert [place for place, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])] == [1]


def test_exploring_a_year_shows_the_busiest_airport_and_its_closed_day(shown: Callable[[Path], Shown]) -> None:
    found = shown(EXPLORE).text

    assert "JFK in 2015" in found
    assert "JFK, Sun 8 Feb 2015: 24 scheduled flights, 92 min effective delay against 8 expected" in found
    assert "JFK20150208" in found
    assert found.count("image/png") == 6


def test_exploring_a_year_fails_when_postgres_holds_another_row_than_gold(
    kernel: KernelManager, finished: Finished, tmp_path: Path
) -> None:
    change = (
        "UPDATE flights.airport_days SET disrupted = disrupted + {} WHERE (origin, fl_date) = ('JFK', '2015-02-08')"
    )
    sql(finished.superuser, change.format(1))
    try:
        with pytest.raises(CellExecutionError, match="Postgres does not hold the 2015 of the lake"):
            execute(kernel, EXPLORE, finished.lake, finished.reader, tmp_path)
    finally:
        sql(finished.superuser, change.format(-1))


def test_tuning_counts_the_flags_of_both_settings(finished: Finished, shown: Callable[[Path], Shown]) -> None:
    gold = finished.gold()
    now = int(gold["is_anomaly"].sum())
    proposed = int((gold["score"] >= 10).sum())  # once in 10 days: the score is the return period
    at_jfk = [int((gold["origin"].eq("JFK") & (gold["score"] >= days)).sum()) for days in (75, 10)]

    found = shown(TUNE).words

    assert f"flags at JFK {at_jfk[0]} {at_jfk[1]} flags at all airports {now} {proposed} " in found
    assert f"{proposed - now} gained, 0 lost" in found
    assert "called right, wrong 1, 1 1, 1" in found
    assert 0 < now < proposed


def test_tuning_writes_a_proposal_beside_the_notebook_and_leaves_the_settings_alone(
    shown: Callable[[Path], Shown],
) -> None:
    before = inputs.DETECTORS_FILE.read_text()
    found = shown(TUNE)

    written = found.folder / "detectors.proposed.yaml"
    settings = detectors.read_settings(inputs.DETECTORS_FILE)
    settings["delaywatch"]["levels"] = (10.0, 120.0, 365.0)
    assert detectors.read_settings(written) == settings
    assert "+ levels: [10, 120, 365] # mild, strong, extreme" in found.words
    assert written.read_text().count("#") == before.count("#")
    assert inputs.DETECTORS_FILE.read_text() == before


def test_comparing_shows_the_average_precision_and_the_agreement_that_others_compute(
    finished: Finished, shown: Callable[[Path], Shown]
) -> None:
    lake = Lake(Settings(lake=finished.lake, warehouse=""))
    one, other = evaluation.halves(lake.read_silver(YEAR), YEAR)
    labels = evaluation.worst_days(other)
    judged = labels.merge(detectors.load("three_sigma")(one).assign(fl_date=pd.to_datetime(one["fl_date"])))
    expected = average_precision_score(judged["is_abnormal"], judged["score"].fillna(-np.inf).clip(lower=-1e9))

    found = shown(COMPARE).words

    assert re.search(rf"three_sigma {expected:.2f} \(", found)
    assert found.endswith("delaywatch 1 1 0 0 0.5 random_cut_forest 0 0 0 1 NaN three_sigma 0 0 0 1 NaN")
    assert shown(COMPARE).text.count("image/png") == 4


def test_why_tells_of_the_storm_and_of_its_flights(finished: Finished, shown: Callable[[Path], Shown]) -> None:
    in_snow = [row for row in finished.flights if (row["ORIGIN"], row["FL_DATE"]) in SNOW]
    delays = [(row["ORIGIN"], float(row["DEP_DELAY"])) for row in in_snow if row["DEP_DELAY"]]
    effective = (30 * 120 + sum(min(delay, 120) for _, delay in delays)) / 40
    longest = max(delay for origin, delay in delays if origin == "JFK")

    found = shown(WHY).words

    assert f"2015-02-08 EWR and JFK, closure 2 2 40 30 {effective:.0f} " in found
    assert re.search(
        r"- JFK, Sun 8 Feb 2015, closure, .*: 24 scheduled flights, .* 18 cancellations .*more than", found
    )
    assert re.search(rf"dep_delay UA \d+ DEN \d+ {longest:.0f} ", found)
    assert shown(WHY).text.count("image/png") == 5


@pytest.mark.parametrize(
    ("notebook", "parameters", "sentence"),
    [
        (TUNE, "YEAR = 2014", "Year 2014 .* file:.* 2015"),
        (TUNE, "AIRPORT = 'JFX'", "Airport 'JFX' .* ACK, EWR or JFK"),
        (TUNE, "DETECTOR = 'delaywach'", "delaywach .* three_sigma, "),
        (TUNE, "CHANGED = {'levls': 3}", "no parameter levls.* levels, "),
        (COMPARE, "DETECTORS = ['arima']", "Detector 'arima'.* three_sigma"),
        (WHY, "EVENT = '20150208'", "Event '20150208' "),
        (WHY, "AIRPORT = 'ACK'", "Airport 'ACK' .* EWR or JFK"),
    ],
)
def test_what_is_not_there_is_one_clear_sentence(
    finished: Finished, monkeypatch: pytest.MonkeyPatch, notebook: Path, parameters: str, sentence: str
) -> None:
    with pytest.raises(DelaywatchError, match=sentence):
        run_with(notebook, parameters, finished.lake, finished.reader, monkeypatch)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_lake_without_a_finished_year_says_what_to_do(
    finished: Finished, monkeypatch: pytest.MonkeyPatch, notebook: Path, tmp_path: Path
) -> None:
    with pytest.raises(DelaywatchError, match="no finished year"):
        run_with(notebook, "", tmp_path.as_uri(), finished.reader, monkeypatch)
