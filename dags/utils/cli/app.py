"""The command line `python -m utils`: its commands, its help, and its handling of errors."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from utils import __version__
from utils.cli import steps
from utils.cli.alert import alert
from utils.cli.bronze import bronze
from utils.cli.feedback import feedback
from utils.cli.fetch import fetch
from utils.cli.health import health
from utils.cli.output import complain
from utils.cli.prepare import prepare
from utils.cli.site import site
from utils.cli.status import status
from utils.cli.sweep import sweep
from utils.errors import DelaywatchError, InvalidInput

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help=f"""Delaywatch {__version__}: find and explain the abnormal days of US airports in a year's CSV of flights.

Put the CSV (Kaggle's "Airline Delay and Cancellation Data" or the same 27 columns) into the lake and run it:

    python -m utils bronze --year 2018 --from ~/Downloads/2018.csv

    python -m utils run --year 2018

`run` runs silver, gold, detect, explain and upsert, then page; plot runs beside explain and upsert. Each step is also a
command. After a change of detectors.yaml, incidents.yaml or feedback, run the steps from `detect` on. Running a step
twice changes nothing.

Without --lake and --warehouse, the commands read the environment: DELAYWATCH_LAKE (file:///folder or
s3://bucket/prefix), DELAYWATCH_WAREHOUSE (postgresql://user:password@host:5432/database) or
DELAYWATCH_WAREHOUSE_FILE (a file with this URL), and for S3 the usual AWS_* variables and AWS_ENDPOINT_URL. `prepare`
checks all of them before the first year.
`feedback` records an opinion on a day: `python -m utils feedback JFK 2013-02-08 expected --note "snow storm"`.

Exit codes: 0 success, 1 a year failed (the message says why), 2 invalid command line.
""",
)
COMMANDS: list[Callable[..., None]] = [prepare, bronze, *steps.COMMANDS]
COMMANDS += [status, site, alert, feedback, fetch, health, sweep]
for command in COMMANDS:
    app.command()(command)


def main() -> None:
    """Run the command line. On a DelaywatchError, print its message to standard error and exit with code 1."""
    try:
        app()
    except DelaywatchError as error:
        complain(error)
        sys.exit(1)
    except (PermissionError, NotADirectoryError) as error:
        file = error.filename or "A file"
        complain(
            InvalidInput(
                f"{file} cannot be opened ({error.strerror}); give this user the right to read it and to enter the "
                "folders above it, or correct its path."
            )
        )
        sys.exit(1)
