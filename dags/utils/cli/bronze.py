"""`python -m utils bronze`: show the year's CSV, or put one into bronze from a file or from standard input."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from utils.cli.options import LakeOption, ThreadsOption, WarehouseOption, YearOption, settings_of, years_of
from utils.cli.output import megabytes, say
from utils.cli.steps import for_years
from utils.errors import InvalidInput
from utils.settings import Settings

STANDARD_INPUT = Path("-")
FromOption = Annotated[
    Path | None,
    # readable=False: otherwise click reports an unreadable file with its usage and exit code 2.
    typer.Option(
        "--from",
        readable=False,
        allow_dash=True,
        help="The .csv or .csv.gz of this year, or - for standard input, plain or compressed with gzip.",
    ),
]
ReplaceOption = Annotated[bool, typer.Option("--replace", help="Replace the existing file in bronze.")]
FewerOption = Annotated[
    bool,
    typer.Option(
        "--fewer-flights", help="With --replace: accept a file that lacks months, or 5% of a month's flights."
    ),
]
BytesOption = Annotated[
    int | None,
    typer.Option("--bytes", min=1, help="With --from -: the size of the whole file; other input is refused."),
]


def bronze(
    year: YearOption,
    lake: LakeOption = None,
    warehouse: WarehouseOption = None,
    threads: ThreadsOption = None,
    csv: FromOption = None,
    replace: ReplaceOption = False,
    fewer_flights: FewerOption = False,
    size: BytesOption = None,
) -> None:
    """Show the key of the year's CSV in bronze, or load a CSV with --from. No step of a run changes the file.

    An existing file is replaced only with --replace, after every row of the new file was checked. A new file that lacks
    months, or 5% of a month's flights, also needs --fewer-flights. Standard input can end early without an error, so it
    replaces a file only with --bytes "$(wc -c < FILE)".
    """
    settings = settings_of(lake, warehouse, threads, needs_warehouse=False)
    _check_options(year, csv, replace, fewer_flights, size)
    if csv is None:
        for_years(_show, year, settings)
        return

    def put(settings: Settings, single_year: int, bars: Progress) -> None:
        from utils.sources.bronze import put_bronze

        with _file_of(csv, settings, single_year, size) as path, megabytes(bars, f"{single_year} check, MB") as show:
            shown_as = path.name if csv == STANDARD_INPUT else None
            key = put_bronze(
                settings,
                single_year,
                path,
                replace=replace,
                allow_fewer=fewer_flights,
                shown_as=shown_as,
                progress=show,
            )
        say(key)

    for_years(put, year, settings)


def _check_options(years: list[str], csv: Path | None, replace: bool, fewer_flights: bool, size: int | None) -> None:
    """Raise InvalidInput for conflicting options."""
    if csv is None and (replace or size or fewer_flights):
        raise InvalidInput("--replace, --fewer-flights and --bytes need --from; add the file.")
    if csv and len(years_of(years)) > 1:
        raise InvalidInput("--from loads one file as one year; give a single --year.")
    if csv and size and csv != STANDARD_INPUT:
        raise InvalidInput("--bytes needs --from -; leave it out for a file.")
    if csv == STANDARD_INPUT and replace and not size:
        raise InvalidInput(
            'Standard input can end early without an error, so --replace needs its size; add --bytes "$(wc -c < FILE)".'
        )


def _show(settings: Settings, year: int, _: Progress) -> None:
    from utils.pipeline import refine

    say(refine.bronze_key(settings, year))


@contextmanager
def _file_of(csv: Path, settings: Settings, year: int, size: int | None) -> Iterator[Path]:
    """Yield the file, or a temporary copy of standard input with the suffix of its format.

    Raises InvalidInput if standard input is closed or a terminal, or may be incomplete.
    """
    from utils.sources.bronze import check_csv
    from utils.storage.folder import folder_errors

    if csv != STANDARD_INPUT:
        yield csv
        return
    if sys.stdin is None or sys.stdin.isatty():
        raise InvalidInput(
            "--from - reads standard input, but that is closed or a terminal; add < FILE to the command."
        )
    with ExitStack() as stack:
        with folder_errors(settings.scratch, "copying standard input", "DELAYWATCH_SCRATCH"):
            settings.scratch.mkdir(parents=True, exist_ok=True)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="delaywatch-", dir=settings.scratch)))
            path, copied_bytes, is_cut = _copy_standard_input(folder)
        if size and copied_bytes != size:
            raise InvalidInput(
                f"Standard input has {copied_bytes:,} bytes, but --bytes is {size:,}; send the whole file again, with "
                "its exact size."
            )
        if is_cut and not size:
            check_csv(path, year, path.name)  # raises if the input is not a CSV
            raise InvalidInput(
                "Standard input ends in the middle of a line, so it may be incomplete; send the whole file again, or "
                "add a line end to its last line."
            )
        yield path


def _copy_standard_input(folder: Path) -> tuple[Path, int, bool]:
    """Return the copy, its size in bytes, and True if it is plain text without a line end at its end."""
    path = folder / "standard-input.csv"
    with path.open("wb+") as file:
        shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
        size = file.tell()
        file.seek(0)
        is_compressed = file.read(2) == b"\x1f\x8b"
        file.seek(max(0, size - 1))
        is_cut = not is_compressed and size > 0 and file.read(1) != b"\n"
    if is_compressed:
        path = path.rename(path.with_suffix(".csv.gz"))
    return path, size, is_cut
