"""The steps of a run, each a command, and `run`, which is all of them.

`pipeline` is imported when a step begins: it loads pandas, pyarrow and matplotlib, which `--help` need not wait for.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from utils.cli.options import LakeOption, ThreadsOption, WarehouseOption, YearOption, settings_of, years_of
from utils.cli.output import complain, megabytes, progress
from utils.errors import DelaywatchError
from utils.settings import Settings

Step = Callable[[Settings, int, Progress], None]


def for_years(step: Step, asked: list[str], settings: Settings) -> None:
    """Run the step for every year. A year that fails does not stop the others; the exit code is 1 then."""
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


def run(
    year: YearOption, lake: LakeOption = None, warehouse: WarehouseOption = None, threads: ThreadsOption = None
) -> None:
    """Run the whole year: silver, gold, detect, explain, upsert, plot and page."""
    for_years(_all, year, settings_of(lake, warehouse, threads))


def silver(
    year: YearOption, lake: LakeOption = None, warehouse: WarehouseOption = None, threads: ThreadsOption = None
) -> None:
    """Bronze CSV to typed, deduplicated flights, rejected rows and the quality report, in one pass."""
    for_years(_silver, year, settings_of(lake, warehouse, threads, needs_warehouse=False))


def gold(year: YearOption, lake: LakeOption = None, warehouse: WarehouseOption = None) -> None:
    """Silver to one row per airport and calendar day."""
    for_years(_gold, year, settings_of(lake, warehouse, needs_warehouse=False))


def detect(year: YearOption, lake: LakeOption = None, warehouse: WarehouseOption = None) -> None:
    """Gold to every detector's verdict per airport and day, with the settings of detectors.yaml.

    Not used for fitting: the days of incidents.yaml and, where there is a warehouse, days with the feedback `expected`.
    """
    for_years(_detect, year, settings_of(lake, warehouse, needs_warehouse=False))


def explain(year: YearOption, lake: LakeOption = None, warehouse: WarehouseOption = None) -> None:
    """Why days are abnormal: reasons by cause, carrier and destination, and the events that they belong to."""
    for_years(_explain, year, settings_of(lake, warehouse, needs_warehouse=False))


def upsert(year: YearOption, lake: LakeOption = None, warehouse: WarehouseOption = None) -> None:
    """Gold to Postgres, in one transaction; equal rows are not written again."""
    for_years(_upsert, year, settings_of(lake, warehouse))


def plot(
    year: YearOption, lake: LakeOption = None, warehouse: WarehouseOption = None, threads: ThreadsOption = None
) -> None:
    """Two plots per airport: flights per day, and observed against expected delay, with the abnormal days marked."""
    for_years(_plot, year, settings_of(lake, warehouse, threads, needs_warehouse=False))


def page(year: YearOption, lake: LakeOption = None, warehouse: WarehouseOption = None) -> None:
    """The year on one page, and the record of the run, once the warehouse holds exactly the rows of gold."""
    for_years(_page, year, settings_of(lake, warehouse))


def _all(settings: Settings, year: int, bars: Progress) -> None:
    from utils.pipeline import prepare, refine

    started = datetime.now(UTC)
    prepare.check_warehouse(settings)
    for step in (_silver, _gold, _detect):
        step(settings, year, bars)
    with ThreadPoolExecutor(1) as beside:  # plots need the verdicts alone, and other processes draw them
        plots = beside.submit(_plot, settings, year, bars)
        _explain(settings, year, bars)
        _upsert(settings, year, bars)
        plots.result()
    _publish(settings, year, started)
    refine.clear_scratch(settings, year)


def _silver(settings: Settings, year: int, bars: Progress) -> None:
    from utils.pipeline import refine

    with megabytes(bars, f"{year} silver, MB") as show:
        refine.write_silver(settings, year, show)


def _gold(settings: Settings, year: int, _: Progress) -> None:
    from utils.pipeline import refine

    refine.write_gold(settings, year)


def _detect(settings: Settings, year: int, bars: Progress) -> None:
    from utils.pipeline import detect, inputs

    names = inputs.detector_names(settings)
    task = bars.add_task(f"{year} detectors", total=len(names))
    detect.write_all_anomalies(settings, year, names, lambda _: bars.advance(task))
    bars.remove_task(task)


def _explain(settings: Settings, year: int, _: Progress) -> None:
    from utils.pipeline import detect

    detect.explain(settings, year)


def _upsert(settings: Settings, year: int, _: Progress) -> None:
    from utils.pipeline import publish

    publish.upsert(settings, year)


def _plot(settings: Settings, year: int, bars: Progress) -> None:
    from utils.pipeline import plots

    task = bars.add_task(f"{year} plots", total=None)
    plots.write_plots(settings, year, lambda done, total: bars.update(task, completed=done, total=total))
    bars.remove_task(task)


def _page(settings: Settings, year: int, _: Progress) -> None:
    _publish(settings, year, datetime.now(UTC))


def _publish(settings: Settings, year: int, started: datetime) -> None:
    from utils.pipeline import publish

    publish.publish(settings, year, f"cli__{year}__{started:%Y%m%dT%H%M%S.%f}Z", started)
