"""`python -m utils sweep`: delete data that is older than the settings keep."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from utils.cli.options import LakeOption, settings_of
from utils.cli.output import say
from utils.settings import WatchSettings
from utils.storage.keys import SITE_FOLDER

UNCONFIGURED = (
    "Nothing is deleted: silver has no old parts of earlier versions, and no limit is set; set "
    "DELAYWATCH_KEEP_LOGS_DAYS, DELAYWATCH_KEEP_PLOTS_YEARS or DELAYWATCH_KEEP_SILVER_YEARS."
)


def sweep(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted, and delete nothing.")] = False,
    lake: LakeOption = None,
) -> None:
    """Delete logs, plots and silver flights beyond the limits in DELAYWATCH_KEEP_*, and unused parts of silver."""
    from utils.monitoring import retention

    watch = WatchSettings.from_environment()
    needs_lake = bool(watch.keep_plots_years or watch.keep_silver_years or not watch.keep_logs_days)
    settings = settings_of(lake, needs_lake=needs_lake, needs_warehouse=False)
    groups = retention.sweep(settings, watch, datetime.now(UTC), dry_run)
    for group in groups:
        say(str(group) if group.kept_because else f"{'Would delete' if dry_run else 'Deleted'} {group}")
    if not dry_run and any(key.startswith(SITE_FOLDER) for group in groups for key in group.keys):
        say("Run `python -m utils site`, so that the pages of these years do not show their plots.")
    if not groups:
        say("Nothing is old enough to delete." if watch.has_limit else UNCONFIGURED)
