"""`python -m utils health`: run the health checks once, or serve their result."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from utils.cli.options import LakeOption, WarehouseOption, settings_of
from utils.cli.output import say
from utils.settings import WatchSettings
from utils.storage.keys import check_year


def health(
    lake: LakeOption = None,
    warehouse: WarehouseOption = None,
    year: Annotated[
        int | None,
        typer.Option(
            "--year",
            "-y",
            help="Year whose CSV must be in bronze. Default: DELAYWATCH_EXPECTED_YEAR, else the last complete year, or "
            "with DELAYWATCH_MONTHLY the newest month that ended at least 92 days ago.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    serve: Annotated[
        str | None,
        typer.Option("--serve", metavar="HOST:PORT", help="Serve the result as one word at /health until stopped."),
    ] = None,
) -> None:
    """Check bronze, last run, warehouse, disk, certificate and backup, a line each. Exit code 1 means a problem."""
    from utils.monitoring import health_page

    if serve:
        health_page.serve(serve, lambda: _report(lake, warehouse, year))
    report = _report(lake, warehouse, year)
    if as_json:
        say(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        for finding in report["findings"]:
            say(f"{'ok     ' if finding['is_well'] else 'PROBLEM'}  {finding['what']:<11}  {finding['sentence']}")
    if report["word"] != "ok":
        raise typer.Exit(1)


def _report(lake: str | None, warehouse: str | None, year: int | None) -> dict[str, Any]:
    """Check everything and return the report. Reads the environment each time, because secrets may have changed."""
    from utils.monitoring import health as checks

    now = datetime.now(UTC)
    settings, watch = settings_of(lake, warehouse), WatchSettings.from_environment()
    if year is not None:
        watch = watch.replace(expected_year=check_year(year))
    return checks.report(checks.check(settings, watch, now), now)
