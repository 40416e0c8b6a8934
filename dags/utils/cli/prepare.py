"""`python -m utils prepare`: create lake, tables, view and read-only login before the first year."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from utils.cli.options import LakeOption, WarehouseOption, settings_of
from utils.cli.output import say
from utils.errors import InvalidInput
from utils.settings import read_secret


def prepare(
    lake: LakeOption = None,
    warehouse: WarehouseOption = None,
    reader: Annotated[
        str | None, typer.Option("--reader", help="Name of a read-only Postgres login to create, for dashboards.")
    ] = None,
    reader_password_file: Annotated[
        Path | None,
        typer.Option("--reader-password-file", readable=False, help="File with the password of this login."),
    ] = None,
) -> None:
    """Create the lake, tables, view and read-only login that are missing. Safe to run again."""
    from utils.pipeline import prepare

    if (reader is None) != (reader_password_file is None):
        raise InvalidInput("--reader and --reader-password-file belong together; give both or neither.")
    settings, login = settings_of(lake, warehouse), None
    if reader is not None and reader_password_file is not None:
        login = reader, read_secret(reader_password_file, "The password file")
    prepare.prepare(settings, login, say)
