"""`python -m utils fetch`: years of flights from the Bureau or from Kaggle into bronze, with a progress bar."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from utils.cli.options import LakeOption, YearOption, settings_of, years_of
from utils.errors import DelaywatchError


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
            help="bts: the Bureau of Transportation Statistics, months from October 1987 on as far as it offers them. "
            "kaggle: its copy of 2009 to 2018, with your token in ~/.kaggle/kaggle.json.",
        ),
    ] = Source.BTS,
    so_far: Annotated[
        bool, typer.Option("--so-far", help="Also a year whose last months are not published yet; bts only.")
    ] = False,
    folder: Annotated[
        Path | None,
        # readable=False: without it, click answers a closed folder with its usage and exit code 2.
        typer.Option(
            "--from",
            metavar="FOLDER",
            readable=False,
            help="Take the Bureau's monthly zips or CSVs from this "
            "folder, whatever their names, and use no network; bts only.",
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also replace a file that another source or a person put there.")
    ] = False,
    lake: LakeOption = None,
) -> None:
    """Fetch a year's flights into bronze. Files that are complete and unchanged are not fetched again.

    The hosts are DELAYWATCH_BTS_URL and DELAYWATCH_KAGGLE_URL. A year that fails ends the command; those before it are
    in bronze. A newer version of a fetched year replaces it, unless months or many flights are missing from it.
    """
    if (so_far or folder) and source is Source.KAGGLE:
        raise DelaywatchError(
            "--so-far and --from are for --source bts. Kaggle's years are whole; put one that was downloaded by hand "
            "into the lake with `python -m utils bronze --year YEAR --from FILE`."
        )
    from utils.sources.fetch import into_bronze

    settings = settings_of(lake, needs_warehouse=False)
    for one in years_of(year):
        with _bar() as show:
            key = into_bronze(settings, one, source.value, folder=folder, so_far=so_far, replace=replace, progress=show)
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
