"""Output of the commands: lines, tables, errors, the log and progress bars."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import Progress, ProgressColumn
from rich.table import Table

from utils.errors import DelaywatchError

err = Console(stderr=True)


def say(line: str) -> None:
    """Print one line to standard output, without wrapping it."""
    Console().print(line, markup=False, highlight=False, soft_wrap=True)


def show(table: Table) -> None:
    """Print a table to standard output, as wide as the terminal."""
    Console().print(table)


def complain(error: DelaywatchError) -> None:
    """Print the message of an error to standard error."""
    err.print(f"Error: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress(*columns: ProgressColumn) -> Iterator[Progress]:
    """Show progress bars with these columns on standard error, and the log above them."""
    with Progress(*columns, console=err, transient=True) as bars:
        if err.is_terminal:
            handler: logging.Handler = RichHandler(console=bars.console, show_path=False, markup=False)
            text = "%(message)s"
        else:  # RichHandler would wrap lines at 80 columns
            handler, text = logging.StreamHandler(), "%(asctime)s %(levelname)-8s %(message)s"
        logging.basicConfig(level=logging.WARNING, format=text, datefmt="%X", handlers=[handler], force=True)
        logging.getLogger("utils").setLevel(logging.INFO)
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # it warns of every retry; our error reports the outcome
        yield bars


@contextmanager
def megabytes(bars: Progress, description: str) -> Iterator[Callable[[int, int], None]]:
    """Add a bar in megabytes. Yields a function of the done and the total number of bytes."""
    task = bars.add_task(description, total=None)
    mb = 1e6
    yield lambda done, total: bars.update(task, completed=round(done / mb), total=round(total / mb))
    bars.remove_task(task)
