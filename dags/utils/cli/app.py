"""`python -m utils`: the steps of a run from the command line, without Airflow."""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from utils import __version__, pipeline
from utils.cli.feedback import feedback
from utils.cli.fetch import fetch
from utils.cli.options import (
    LakeOption,
    OnlyYearOption,
    ThreadsOption,
    WarehouseOption,
    YearOption,
    settings_of,
    years_of,
)
from utils.errors import DelaywatchError
from utils.monitoring.health import health
from utils.monitoring.notifications import alert
from utils.monitoring.retention import sweep_command
from utils.settings import Settings, read_secret
from utils.storage.folder import FolderStore

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help=f"""Delaywatch {__version__}: abnormal days of US airports, from a year's CSV to flags with a reason.

Put the year's CSV (Kaggle's "Airline Delay and Cancellation Data" or the same 27 columns) into the lake and run it:

    python -m utils bronze --year 2018 --from ~/Downloads/2018.csv

    python -m utils run --year 2018

`run` is silver, gold, detect, explain, upsert, plot and page in this order; each is also a command of its own, and from
`detect` on they bring in a change of detectors.yaml or of feedback. Doing a step twice changes nothing.
Without --lake and --warehouse the environment decides: DELAYWATCH_LAKE (file:///folder or s3://bucket/prefix),
DELAYWATCH_WAREHOUSE (postgresql://user:password@host:5432/database) or DELAYWATCH_WAREHOUSE_FILE (a file that holds
this URL), and for S3 the usual AWS_* variables and AWS_ENDPOINT_URL. `prepare` checks all of them before the first
year. `feedback` keeps what you know of a day: `python -m utils feedback JFK 2013-02-08 expected --note "snow storm"`.

Exit codes: 0 done, 1 a year could not be done (the sentence says why), 2 the command line was not understood.
""",
)
err = Console(stderr=True)


@contextmanager
def _progress() -> Iterator[Progress]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        yield progress


Step = Callable[[Settings, int, Progress], None]


@contextmanager
def _megabytes(progress: Progress, description: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows how many bytes of how many are done."""
    task = progress.add_task(description, total=None)
    mb = 1e6
    yield lambda done, total: progress.update(task, completed=round(done / mb), total=round(total / mb))
    progress.remove_task(task)


def _silver(settings: Settings, year: int, progress: Progress) -> None:
    with _megabytes(progress, f"{year} silver, MB") as step:
        pipeline.write_silver(settings, year, step)


def _gold(settings: Settings, year: int, _: Progress) -> None:
    pipeline.write_gold(settings, year)


def _detect(settings: Settings, year: int, progress: Progress) -> None:
    names = pipeline.detector_names(settings)
    for name in progress.track(names, description=f"{year} detectors"):
        pipeline.write_anomalies(settings, year, name)


def _explain(settings: Settings, year: int, _: Progress) -> None:
    pipeline.explain(settings, year)


def _upsert(settings: Settings, year: int, _: Progress) -> None:
    pipeline.upsert(settings, year)


def _plot(settings: Settings, year: int, progress: Progress) -> None:
    task = progress.add_task(f"{year} plots", total=None)
    pipeline.write_plots(settings, year, lambda done, total: progress.update(task, completed=done, total=total))
    progress.remove_task(task)


def _page(settings: Settings, year: int, _: Progress) -> None:
    _publish(settings, year, datetime.now(UTC))


def _publish(settings: Settings, year: int, started: datetime) -> None:
    pipeline.publish(settings, year, f"cli__{year}__{started:%Y%m%dT%H%M%S.%f}Z", started)


def _all(settings: Settings, year: int, progress: Progress) -> None:
    started = datetime.now(UTC)
    pipeline.check_warehouse(settings)
    for step in (_silver, _gold, _detect, _explain, _upsert, _plot):
        step(settings, year, progress)
    _publish(settings, year, started)
    pipeline.clear_scratch(settings, year)


def _for_years(step: Step, asked: list[str], settings: Settings) -> None:
    """Do the step for every year; a year that fails does not keep the others from being done."""
    years = years_of(asked)
    failed = 0
    with _progress() as progress:
        _log_to(progress.console)
        for year in years:
            try:
                step(settings, year, progress)
            except DelaywatchError as error:
                failed += 1
                for task in progress.task_ids:
                    progress.remove_task(task)
                _complain(error)
    if failed:
        raise typer.Exit(1)


def _log_to(console: Console) -> None:
    handler = RichHandler(console=console, show_path=False, markup=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", datefmt="%X", handlers=[handler], force=True)
    logging.getLogger("utils").setLevel(logging.INFO)


def _complain(error: DelaywatchError) -> None:
    err.print(f"Error: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)


@app.command()
def prepare(
    lake: LakeOption = None,
    warehouse: WarehouseOption = None,
    reader: Annotated[
        str | None, typer.Option("--reader", help="A login of Postgres to make that may only read, for dashboards.")
    ] = None,
    reader_password_file: Annotated[
        Path | None,
        typer.Option("--reader-password-file", readable=False, help="The file that holds this login's password."),
    ] = None,
) -> None:
    """Make lake, tables, view and a read-only login, as far as they are not there; twice changes nothing."""
    if (reader is None) != (reader_password_file is None):
        raise DelaywatchError("--reader and --reader-password-file belong together; give both or neither.")
    settings, login = settings_of(lake, warehouse), None
    if reader is not None and reader_password_file is not None:
        login = reader, read_secret(reader_password_file, "The password file")
    console = Console()
    pipeline.prepare(settings, login, lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True))


@app.command()
def run(
    year: YearOption, lake: LakeOption = None, warehouse: WarehouseOption = None, threads: ThreadsOption = None
) -> None:
    """Do the whole year: silver, gold, detect, explain, upsert, plot and page."""
    _for_years(_all, year, settings_of(lake, warehouse, threads))


STANDARD_INPUT = Path("-")


@app.command()
def bronze(
    year: YearOption,
    lake: LakeOption = None,
    warehouse: WarehouseOption = None,
    threads: ThreadsOption = None,
    csv: Annotated[
        Path | None,
        # readable=False: without it, click answers a closed file with its usage and exit code 2.
        typer.Option(
            "--from",
            readable=False,
            allow_dash=True,
            help="A .csv or .csv.gz to put there as this one year, "
            "or - for standard input, plain or compressed with gzip.",
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the file that is in bronze.")] = False,
    fewer_flights: Annotated[
        bool,
        typer.Option("--fewer-flights", help="With --replace: even if months or 5% of a month's flights are gone."),
    ] = False,
    size: Annotated[
        int | None,
        typer.Option(
            "--bytes", min=1, help="With --from -: the size of the whole file, which standard input must have."
        ),
    ] = None,
) -> None:
    """Show the year's CSV in bronze, or put one there with --from; no step changes it afterwards.

    A file that is there is only replaced with --replace, and after the new file was checked from its first to its last
    row. A new file without some months, or without 5% of a month's flights, also needs --fewer-flights. Standard input
    can end early unnoticed, so it replaces a file only with --bytes "$(wc -c < FILE)".
    """
    settings = settings_of(lake, warehouse, threads, needs_warehouse=False)
    if csv is None:
        if replace or size or fewer_flights:
            raise DelaywatchError("--replace, --fewer-flights and --bytes go with --from; give the file too.")
        _for_years(lambda settings, one, _: _show(pipeline.bronze_key(settings, one)), year, settings)
        return
    if len(years_of(year)) > 1:
        raise DelaywatchError("--from puts one file as one year; give a single --year.")
    if size and csv != STANDARD_INPUT:
        raise DelaywatchError("--bytes goes with --from - alone; leave it out.")
    if replace and csv == STANDARD_INPUT and not size:
        raise DelaywatchError(
            'Standard input can end early unnoticed, so --replace needs its size too; add --bytes "$(wc -c < FILE)".'
        )

    from utils.sources.bronze import put_bronze

    def put(settings: Settings, one: int, progress: Progress) -> None:
        with _file_of(csv, settings, one, size) as path, _megabytes(progress, f"{one} check, MB") as step:
            shown_as = path.name if csv == STANDARD_INPUT else None
            _show(
                put_bronze(
                    settings,
                    one,
                    path,
                    replace=replace,
                    allow_fewer=fewer_flights,
                    shown_as=shown_as,
                    progress=step,
                )
            )

    _for_years(put, year, settings)


def _show(key: str) -> None:
    Console().print(key, highlight=False)


@contextmanager
def _file_of(csv: Path, settings: Settings, year: int, size: int | None) -> Iterator[Path]:
    """Yield the file, or a temporary copy of standard input that is named after its format.

    Raises DelaywatchError when standard input is a terminal, or may have ended early.
    """
    from utils.sources.bronze import check_csv

    if csv != STANDARD_INPUT:
        yield csv
        return
    if sys.stdin is None or sys.stdin.isatty():
        raise DelaywatchError(
            "--from - reads standard input, which is closed or a terminal here; add < FILE to the command."
        )
    with ExitStack() as stack:
        try:
            settings.scratch.mkdir(parents=True, exist_ok=True)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="delaywatch-", dir=settings.scratch)))
            path = folder / "standard-input.csv"
            with path.open("wb+") as file:
                shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
                found = file.tell()
                file.seek(0)
                is_compressed = file.read(2) == b"\x1f\x8b"
                file.seek(max(0, found - 1))
                is_cut = not is_compressed and found > 0 and file.read(1) != b"\n"
            if is_compressed:
                path = path.rename(path.with_suffix(".csv.gz"))
        except OSError as error:
            FolderStore(settings.scratch, "DELAYWATCH_SCRATCH").fail(error, "copying standard input")
        if size and found != size:
            raise DelaywatchError(
                f"Standard input has {found:,} bytes, but --bytes is {size:,}; "
                "send the whole file again, with the size of that file."
            )
        if is_cut and not size:
            check_csv(path, year, path.name)  # says so if it is no CSV at all
            raise DelaywatchError(
                "Standard input ends in the middle of a line, so it may have been cut; send the whole file again, or "
                "add a line end to its last line."
            )
        yield path


@app.command()
def silver(
    year: YearOption, lake: LakeOption = None, warehouse: WarehouseOption = None, threads: ThreadsOption = None
) -> None:
    """Bronze CSV to typed, deduplicated flights, rejected rows and the quality report, in one pass."""
    _for_years(_silver, year, settings_of(lake, warehouse, threads, needs_warehouse=False))


@app.command()
def gold(year: YearOption, lake: LakeOption = None, warehouse: WarehouseOption = None) -> None:
    """Silver to one row per airport and calendar day."""
    _for_years(_gold, year, settings_of(lake, warehouse, None, needs_warehouse=False))


@app.command()
def detect(year: YearOption, lake: LakeOption = None, warehouse: WarehouseOption = None) -> None:
    """Gold to every detector's verdict per airport and day, with the settings of detectors.yaml.

    Nothing is learnt from the days of incidents.yaml and, where there is a warehouse, from those called expected there.
    """
    _for_years(_detect, year, settings_of(lake, warehouse, None, needs_warehouse=False))


@app.command()
def explain(year: YearOption, lake: LakeOption = None, warehouse: WarehouseOption = None) -> None:
    """Why days are abnormal: reasons by cause, carrier and destination, and the events that they belong to."""
    _for_years(_explain, year, settings_of(lake, warehouse, None, needs_warehouse=False))


@app.command()
def upsert(year: YearOption, lake: LakeOption = None, warehouse: WarehouseOption = None) -> None:
    """Gold to Postgres, in one transaction; equal rows are not written again."""
    _for_years(_upsert, year, settings_of(lake, warehouse))


@app.command()
def plot(
    year: YearOption, lake: LakeOption = None, warehouse: WarehouseOption = None, threads: ThreadsOption = None
) -> None:
    """Two pictures per airport: flights per day, and observed against expected delay, with the abnormal days marked."""
    _for_years(_plot, year, settings_of(lake, warehouse, threads, needs_warehouse=False))


@app.command()
def page(year: YearOption, lake: LakeOption = None, warehouse: WarehouseOption = None) -> None:
    """The year on one page, and the record of the run, once the warehouse holds exactly the rows of gold."""
    _for_years(_page, year, settings_of(lake, warehouse))


@app.command()
def status(
    year: OnlyYearOption = None,
    lake: LakeOption = None,
    warehouse: WarehouseOption = None,
) -> None:
    """What lake and warehouse have of every year, and which verdicts were made with other settings than today's."""
    settings = settings_of(lake, warehouse, None, needs_warehouse=False)
    wanted = years_of(year) if year else None
    in_lake = {one["year"]: one for one in pipeline.status(settings)}
    rows = pipeline.warehouse_rows(settings, in_lake) if settings.warehouse else {}
    years_there = [one for one in sorted({*in_lake, *rows}) if wanted is None or one in wanted]
    if not years_there:
        raise DelaywatchError(
            f"{settings.lake} has nothing of {'these years' if wanted else 'any year'}; put a CSV into 01_bronze/."
        )
    table = Table(
        "year",
        "bronze",
        "silver",
        "gold",
        "verdicts",
        "warehouse",
        "page",
        caption="silver counts flights, gold and warehouse airport-days; verdicts are stale when gold, settings, "
        "incidents or feedback are no longer those that they were made with, unexplained when reasons are not of them",
    )
    for one_year in years_there:
        one = in_lake.get(one_year)
        if one is None:
            table.add_row(str(one_year), *["–"] * 4, f"{rows[one_year]:,}", "–")
            continue
        counts = [
            f"{value:,}" if value is not None else "–"
            for value in (one["silver_rows"], one["gold_rows"], rows.get(one_year))
        ]
        verdicts = f"{len(one['detectors'])}"
        for state in ("stale", "unexplained"):
            if names := [name for name, of_name in one["detectors"].items() if of_name == state]:
                verdicts += f", {state}: {', '.join(names)}"
        bronze = (one["bronze"] or "–").removeprefix("01_bronze/")
        table.add_row(
            str(one_year), bronze, counts[0], counts[1], verdicts, counts[2], "yes" if one["has_page"] else "–"
        )
    Console().print(table)


app.command()(alert)
app.command()(feedback)
app.command()(fetch)
app.command()(health)
app.command("sweep")(sweep_command)


def main() -> None:
    """Run the command line; a DelaywatchError becomes its sentence and exit code 1."""
    try:
        app()
    except DelaywatchError as error:
        _complain(error)
        sys.exit(1)
    except (PermissionError, NotADirectoryError) as error:
        _complain(
            DelaywatchError(
                f"{error.filename or 'A file'} cannot be opened ({error.strerror}); give this user the right to read "
                "it and to enter the folders above it, or correct its path."
            )
        )
        sys.exit(1)
