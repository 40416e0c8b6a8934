"""`python -m demo`: the command line of the demo, used by `make demo`, `make demo-psql` and `make clean`."""

from __future__ import annotations

import fcntl
import importlib
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.status import Status

from demo import airflow_home, bronze, fingerprint, flights, summary, warehouse
from utils.errors import Busy, DelaywatchError, InvalidInput, Missing
from utils.pipeline import refine
from utils.settings import Settings
from utils.storage import keys
from utils.storage.lake import Lake

FOLDER = Path(__file__).resolve().parent.parent / ".demo"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
FolderOption = Annotated[Path, typer.Option(help="Folder for the results of the demo.")]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lock the folder against other demos. Raises DelaywatchError if another demo runs in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(f"Another demo is running in {folder}. Wait until it ends.") from error
        yield


@contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Redirect all output of this process and its children to `log`."""
    kept = os.dup(1), os.dup(2)
    try:
        with log.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in enumerate(kept, start=1):
            os.dup2(copy, number)
            os.close(copy)


class _Progress:
    """Print one line per step with its seconds; on a terminal, show a spinner. A new step ends the previous one."""

    def __init__(self, console: Console) -> None:
        self._console, self._status = console, Status("", console=console)
        self._step: str | None = None
        self._since = 0.0

    def started(self, step: str) -> None:
        self.ended()
        self._step, self._since = step, time.monotonic()
        self._status.update(f"  {step}")
        self._status.start()

    def ended(self, *, is_done: bool = True, note: str = "") -> None:
        if self._step is None:
            return
        self._status.stop()
        sign = "[green]✓[/]" if is_done else "[red]✗[/]"
        seconds = time.monotonic() - self._since
        self._console.print(f"  {sign} {self._step:<25}{seconds:6.1f} s  [dim]{escape(note)}[/]", soft_wrap=True)
        self._step = None


def _year(text: str | None, csv: Path | None) -> int:
    """Return the requested year, else the year at the start of the CSV's name, else that of the packaged flights."""
    if not text:
        named = re.match(r"\d{4}(?!\d)", csv.name) if csv else None
        if csv and not named:
            raise InvalidInput(
                f"The name of {csv} does not start with a year; set the year of its flights, for example YEAR=2018."
            )
        text = named[0] if named else str(flights.YEAR)
    if not text.isdecimal():
        raise InvalidInput(f"{text!r} is not a year; it must have four digits, for example YEAR=2018.")
    return keys.check_year(int(text))


def _run(progress: _Progress, folder: Path, year: int, csv: Path | None) -> tuple[Lake, list[str] | None]:
    """Run the year. Return the lake and the names that changed since an earlier run, or None without one."""
    lake, log = folder / "lake", folder / "run.log"
    progress.started("bronze")
    bronze_note = bronze.use_own_file(lake, year, csv) if csv else bronze.use_packaged_flights(lake, year)
    try:
        refine.bronze_key(Settings(lake=lake.as_uri(), warehouse=""), year)
    except Missing as error:
        error.add_note(f"To use your own file: make demo YEAR={year} CSV=path/to/{year}.csv")
        raise
    progress.ended(note=bronze_note)
    progress.started("start Postgres")
    with warehouse.running(folder) as url:
        data = warehouse.data_folder(folder)
        progress.ended(note="" if data.is_relative_to(folder) else f"in {data}, because Postgres cannot use {folder}")
        before = fingerprint.hash_files(lake) | fingerprint.hash_tables(url)
        progress.started("start Airflow")
        with _output_to(log):
            airflow_home.enter(folder / "airflow", lake.as_uri(), url)
            airflow_home.prepare(folder / "airflow")
            dag_run = importlib.import_module("demo.dag_run")  # imports Airflow, which reads its environment then
            try:
                dag_run.run({"year": year}, progress.started, lambda is_done: progress.ended(is_done=is_done))
            except DelaywatchError as error:
                error.add_note(f"The log of Airflow is {log}.")
                raise
        after = fingerprint.hash_files(lake) | fingerprint.hash_tables(url)
    return Lake(Settings(lake=lake.as_uri(), warehouse=url)), fingerprint.changed(before, after) if before else None


def _fail(error: DelaywatchError) -> NoReturn:
    message = "\n".join([str(error), *getattr(error, "__notes__", ())])
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"\n[bold red]Stopped:[/] {escape(message)}")
    sys.exit(1)


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    year: Annotated[
        str | None, typer.Option(help="Year to run. The demo has flights of 2013; other years need --csv.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Your own CSV of the year in Kaggle's format, .csv or .csv.gz.")
    ] = None,
    folder: FolderOption = FOLDER,
) -> None:
    """Run the DAG for one year in this process, with a lake in a local folder and a real Postgres."""
    if context.invoked_subcommand:
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # stops Postgres
    # A copy of stdout, because Airflow's output is redirected to a file.
    with os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, errors="replace") as output:
        console = Console(file=output, highlight=False)
        progress = _Progress(console)
        try:
            with _alone(folder):
                wanted = _year(year, csv)
                console.print(f"[bold]Delaywatch:[/] {wanted}, from flights to abnormal days\n")
                source, changed = _run(progress, folder.resolve(), wanted, csv)
        except DelaywatchError as error:
            progress.ended(is_done=False)
            _fail(error)
        summary.show_results(console, source, wanted)
        summary.show_changes(console, changed)
        summary.show_places(console, folder.resolve(), wanted)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def psql(context: typer.Context, folder: FolderOption = FOLDER) -> None:
    """Open psql on the demo's database and start the database for that time. Other arguments are passed to psql."""
    try:
        sys.exit(warehouse.psql(folder.resolve(), context.args))
    except DelaywatchError as error:
        _fail(error)


@app.command()
def stop(folder: FolderOption = FOLDER) -> None:
    """Stop the demo's Postgres if it is still running, and delete its data outside of the folder."""
    try:
        warehouse.stop(folder.resolve())
    except DelaywatchError as error:
        _fail(error)


if __name__ == "__main__":
    app()
