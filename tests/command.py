"""Run `python -m utils` in this process, and read its output; a new process takes seconds to load the libraries."""

from __future__ import annotations

import io
import logging
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from subprocess import CompletedProcess
from unittest import mock

import boto3

from utils.cli.app import main


def utils(*line: str, **variables: str) -> CompletedProcess[str]:
    """Run the command; `variables` replace all AWS_* and DELAYWATCH_* variables of the environment."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DELAYWATCH_"))}
    root, code = logging.getLogger(), 0
    handlers, level = root.handlers[:], root.level  # the command configures logging
    with (
        mock.patch.dict(os.environ, {**others, "COLUMNS": "400", **variables}, clear=True),
        mock.patch.object(sys, "argv", ["utils", *line]),
        mock.patch.object(boto3, "DEFAULT_SESSION", None),  # it caches files of ~/.aws
        redirect_stdout(io.StringIO()) as stdout,
        redirect_stderr(io.StringIO()) as stderr,
    ):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
    return CompletedProcess(line, code, stdout.getvalue(), stderr.getvalue())


def error_of(done: CompletedProcess[str]) -> str:
    """Return the only error of a command that failed."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("Error: "))
    return line


def cells(done: CompletedProcess[str]) -> list[list[str]]:
    """Return the rows of the tables on stdout, without their heads."""
    assert done.returncode == 0, done.stderr
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in done.stdout.splitlines() if "│" in line]
