"""Options of several commands, and their conversion to years and settings."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from utils.errors import InvalidInput
from utils.settings import Settings
from utils.storage.keys import check_year


def years_of(texts: list[str]) -> list[int]:
    """Parse `["2009:2011", "2018"]` as [2009, 2010, 2011, 2018]. Raises InvalidInput for invalid text."""
    years: list[int] = []
    for part in (part.strip() for text in texts for part in text.split(",")):
        first, _, last = part.partition(":")
        if not re.fullmatch(r"[0-9]{1,9}(:[0-9]{1,9})?", part):
            raise InvalidInput(f"{part[:40]!r} is not a year; write 2018, a range such as 2009:2018, or 2011,2013.")
        ends = [check_year(int(first)), check_year(int(last or first))]
        if ends[1] < ends[0]:
            raise InvalidInput(f"The range {part} is reversed; write {last}:{first}.")
        years += range(ends[0], ends[1] + 1)
    return list(dict.fromkeys(years))


def settings_of(
    lake: str | None = None,
    warehouse: str | None = None,
    threads: int | None = None,
    engine: str | None = None,
    *,
    needs_lake: bool = True,
    needs_warehouse: bool = True,
) -> Settings:
    """Return the settings of the environment, overridden by the command's options.

    Raises DelaywatchError if a required setting is in neither.
    """
    given: dict[str, Any] = {"threads": str(threads) if threads else None, "engine": engine}
    if lake or not needs_lake:
        given["lake"] = lake
    if warehouse or not needs_warehouse:
        given["warehouse"] = warehouse
    return Settings.from_environment(**given)


def _checked(texts: list[str] | None) -> list[str] | None:
    """Validate the years before the command starts, and return them as typed."""
    years_of(texts or [])
    return texts


YearOption = Annotated[
    list[str],
    typer.Option(
        "--year",
        "-y",
        callback=_checked,
        help="A year, a range such as 2009:2018, or several of both, separated by commas or by repeating --year.",
    ),
]
AlertYearOption = Annotated[
    list[str] | None, typer.Option("--year", "-y", callback=_checked, help="Print the messages of these years.")
]
OnlyYearOption = Annotated[list[str] | None, typer.Option("--year", "-y", callback=_checked, help="Only these years.")]
LakeOption = Annotated[
    str | None, typer.Option("--lake", help="Root of the lake: file:///folder or s3://bucket[/prefix].")
]
WarehouseOption = Annotated[
    str | None,
    typer.Option(
        "--warehouse",
        help="Postgres: postgresql://user:password@host:5432/database (safer in the environment).",
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads", min=1, help="Number of workers of a step. Default: DELAYWATCH_THREADS, else one per core."
    ),
]
EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="Engine that processes the parts of the CSV: threads, or spark (with spark-submit on a cluster, else on "
        "this machine). Default: DELAYWATCH_ENGINE, else threads.",
    ),
]
