"""`python -m utils fetch`: years of flights from the Bureau or from Kaggle into bronze, with a progress bar."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from utils import fetch as sources
from utils.errors import DelaywatchError
from utils.options import LakeOption, YearOption, settings_of, years_of


class Source(StrEnum):
    """Who publishes the flights."""

    BTS = "bts"
    KAGGLE = "kaggle"


def fetch(
    year: YearOption,
    source: Annotated[
        Source,
        typer.Option(
            "--source",
            help="bts: the Bureau of Transportation Statistics, every year from 1987 on. "
            "kaggle: its copy of 2009 to 2018, with your token in ~/.kaggle/kaggle.json.",
        ),
    ] = Source.BTS,
    so_far: Annotated[
        bool, typer.Option("--so-far", help="Also a year whose last months are not published yet; bts only.")
    ] = False,
    lake: LakeOption = None,
) -> None:
    """Fetch a year's flights into bronze. After a cut it goes on where it was; what has not changed stays as it is.

    The hosts are DELAYWATCH_BTS_URL and DELAYWATCH_KAGGLE_URL. A year that fails ends the command; those before it are
    in bronze.
    """
    if so_far and source is Source.KAGGLE:
        raise DelaywatchError("--so-far is for --source bts; Kaggle's years are whole.")
    settings = settings_of(lake, needs_warehouse=False)
    for one in years_of(year):
        with _bar() as show:
            key = sources.into_bronze(settings, one, source.value, so_far=so_far, progress=show)
        Console().print(key, highlight=False)


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar for the file that is on its way, with what the program logs above it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        handler = RichHandler(console=progress.console, show_path=False, markup=False)
        logging.basicConfig(level=logging.WARNING, format="%(message)s", datefmt="%X", handlers=[handler], force=True)
        logging.getLogger("utils").setLevel(logging.INFO)
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # each try to connect again; what comes of it is told
        bar = progress.add_task("", total=None)

        def show(name: str, here: int, whole: int | None) -> None:
            progress.update(bar, description=name, completed=here, total=whole)

        yield show
