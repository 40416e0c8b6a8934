"""The steps of a run as commands, and `run`, which runs all of them. A step's docstring is the help of its command.

Each step imports its module of `pipeline` when it begins, so that `--help` does not load pandas.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from utils.cli.options import (
    EngineOption,
    LakeOption,
    ThreadsOption,
    WarehouseOption,
    YearOption,
    settings_of,
    years_of,
)
from utils.cli.output import complain, megabytes, progress
from utils.errors import DelaywatchError
from utils.parallel import in_new_process
from utils.settings import Settings

Step = Callable[[Settings, int, Progress], None]


def for_years(step: Step, asked: list[str], settings: Settings) -> None:
    """Run the step for every year. If a year fails, continue with the others and exit with code 1."""
    years = years_of(asked)
    failed = 0
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with progress(*columns) as bars:
        for year in years:
            try:
                step(settings, year, bars)
            except DelaywatchError as error:
                failed += 1
                for task in bars.task_ids:
                    bars.remove_task(task)
                complain(error)
    if failed:
        raise typer.Exit(1)


def as_command(step: Step, needs_warehouse: bool) -> Callable[..., None]:
    """Return a command that runs the step for every year, with the step's name and help."""

    def command(
        year: YearOption,
        lake: LakeOption = None,
        warehouse: WarehouseOption = None,
        threads: ThreadsOption = None,
        engine: EngineOption = None,
    ) -> None:
        for_years(step, year, settings_of(lake, warehouse, threads, engine, needs_warehouse=needs_warehouse))

    if step not in (run, silver):  # typer takes the options from the signature
        signature = inspect.signature(command, eval_str=True)
        options = [option for option in signature.parameters.values() if option.name != "engine"]
        command.__signature__ = signature.replace(parameters=options)  # type: ignore[attr-defined]
    command.__name__, command.__doc__ = step.__name__, step.__doc__
    return command


def run(settings: Settings, year: int, bars: Progress) -> None:
    """Run the whole year: silver, gold, detect, explain, upsert, plot and page."""
    from utils.pipeline import inputs, prepare, refine

    started = datetime.now(UTC)
    prepare.check_warehouse(settings)
    for step in (silver, gold, detect):
        step(settings, year, bars)
    is_large = inputs.is_large(settings, year)

    def in_own_process(step: Callable[..., None], *more: object) -> None:
        """Run a step of a large year in a new process, so that the memory of the steps does not add up."""
        if is_large:
            in_new_process(_logged, step, settings, year, *more, activity=f"ran the step {step.__name__} of {year}")
        else:
            step(settings, year, bars, *more)

    with ThreadPoolExecutor(1) as pool:  # plots need only the verdicts, and other processes draw them
        plots = pool.submit(plot, settings, year, bars)
        in_own_process(explain)
        in_own_process(upsert)
        plots.result()
    in_own_process(page, started)
    refine.clear_scratch(settings, year)


def _logged(step: Callable[..., None], settings: Settings, year: int, *more: object) -> None:
    """Run a step with a log, in a new process."""
    with progress() as bars:
        step(settings, year, bars, *more)


def silver(settings: Settings, year: int, bars: Progress) -> None:
    """Convert the bronze CSV to typed, deduplicated flights, rejected rows and a quality report, in one pass."""
    from utils.pipeline import refine

    with megabytes(bars, f"{year} silver, MB") as show:
        refine.write_silver(settings, year, show)


def gold(settings: Settings, year: int, _: Progress) -> None:
    """Aggregate silver to one row per airport and calendar day."""
    from utils.pipeline import refine

    refine.write_gold(settings, year)


def detect(settings: Settings, year: int, bars: Progress) -> None:
    """Run the detectors of detectors.yaml on gold: one verdict per airport and day.

    The airport-days of the year before, if gold has them, are used for fitting. A year without December is scored from
    earlier days only. Days in incidents.yaml and, with a warehouse, days with the feedback `expected` are scored but
    not used for fitting.
    """
    from utils.pipeline.detect import write_all_anomalies
    from utils.pipeline.inputs import detector_names

    names = detector_names(settings)
    task = bars.add_task(f"{year} detectors", total=len(names))
    write_all_anomalies(settings, year, names, lambda _: bars.advance(task))
    bars.remove_task(task)


def explain(settings: Settings, year: int, _: Progress) -> None:
    """Explain the flagged days by cause, carrier and destination, and group them into events."""
    from utils.pipeline import detect

    detect.explain(settings, year)


def upsert(settings: Settings, year: int, _: Progress) -> None:
    """Load gold into Postgres in one transaction; equal rows are not written."""
    from utils.pipeline import publish

    publish.upsert(settings, year)


def plot(settings: Settings, year: int, bars: Progress) -> None:
    """Draw two plots per airport: flights per day, and observed against expected delay with the flagged days marked."""
    from utils.pipeline import plots

    task = bars.add_task(f"{year} plots", total=None)
    plots.write_plots(settings, year, lambda done, total: bars.update(task, completed=done, total=total))
    bars.remove_task(task)


def page(settings: Settings, year: int, _: Progress, started: datetime | None = None) -> None:
    """Write the pages that changed and the record of the run. The warehouse must have exactly the rows of gold."""
    from utils.pipeline import publish

    started = started or datetime.now(UTC)
    publish.publish(settings, year, f"cli__{year}__{started:%Y%m%dT%H%M%S.%f}Z", started)


STEPS = (run, silver, gold, detect, explain, upsert, plot, page)
COMMANDS = [as_command(step, needs_warehouse=step in (run, upsert, page)) for step in STEPS]
