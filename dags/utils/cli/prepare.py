"""`python -m utils prepare`: create lake, tables, view and logins before the first year."""

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
    labeller: Annotated[
        str | None,
        typer.Option("--labeller", help="Name of a Postgres login to create that writes feedback only, for the pages."),
    ] = None,
    labeller_password_file: Annotated[
        Path | None,
        typer.Option("--labeller-password-file", readable=False, help="File with the password of this login."),
    ] = None,
) -> None:
    """Create the lake, tables, view and logins that are missing. Safe to run again."""
    from utils.pipeline import prepare

    reader_login = _login("--reader", reader, reader_password_file)
    labeller_login = _login("--labeller", labeller, labeller_password_file)
    prepare.prepare(settings_of(lake, warehouse), reader_login, say, labeller_login)


def _login(option: str, name: str | None, password_file: Path | None) -> tuple[str, str] | None:
    """Return name and password of the login of an option, or None without the option."""
    if (name is None) != (password_file is None):
        raise InvalidInput(f"{option} and {option}-password-file belong together; give both or neither.")
    if name is None or password_file is None:
        return None
    return name, read_secret(password_file, "The password file")
