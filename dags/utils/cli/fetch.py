"""`python -m utils fetch`: download years of flights from the Bureau or from Kaggle into bronze."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from utils.cli.options import LakeOption, YearOption, settings_of, years_of
from utils.cli.output import progress, say


class Source(StrEnum):
    """The publisher of the flights."""

    BTS = "bts"
    KAGGLE = "kaggle"


SourceOption = Annotated[
    Source,
    typer.Option(
        "--source",
        help="bts: the Bureau of Transportation Statistics, all published months since October 1987. "
        "kaggle: a copy of 2009 to 2018, with your token in ~/.kaggle/kaggle.json.",
    ),
]
SoFarOption = Annotated[
    bool, typer.Option("--so-far", help="Accept a year of which not all months are published; bts only.")
]
FolderOption = Annotated[
    Path | None,
    # readable=False: otherwise click reports an unreadable folder with its usage and exit code 2.
    typer.Option(
        "--from",
        metavar="FOLDER",
        readable=False,
        help="Read the Bureau's monthly zips or CSVs from this folder instead of the network, whatever their names; "
        "bts only.",
    ),
]
ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="Also replace a file from another source or from a person.")
]


def fetch(
    year: YearOption,
    source: SourceOption = Source.BTS,
    so_far: SoFarOption = False,
    folder: FolderOption = None,
    replace: ReplaceOption = False,
    lake: LakeOption = None,
) -> None:
    """Fetch years of flights into bronze. Complete, unchanged files are not downloaded again.

    DELAYWATCH_BTS_URL and DELAYWATCH_KAGGLE_URL set the hosts. The command stops at the first year that fails; earlier
    years stay in bronze. A newer version replaces a fetched year, unless months or many flights are missing from it.
    """
    from utils.sources.fetch import into_bronze

    settings = settings_of(lake, needs_warehouse=False)
    for single_year in years_of(year):
        with _bar() as show:
            key = into_bronze(
                settings, single_year, source.value, folder=folder, so_far=so_far, replace=replace, progress=show
            )
        say(key)


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show a progress bar for the current download, with the log above it."""
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
    with progress(*columns, TransferSpeedColumn(), TimeRemainingColumn()) as bars:
        bar = bars.add_task("", total=None)

        def show(name: str, here: int, whole: int | None) -> None:
            bars.update(bar, description=name, completed=here, total=whole)

        yield show
