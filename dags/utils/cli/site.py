"""`python -m utils site`: bring the static site in the lake up to date."""

from __future__ import annotations

from utils.cli.options import LakeOption, ThreadsOption, WarehouseOption, settings_of
from utils.cli.output import progress, say


def site(lake: LakeOption = None, warehouse: WarehouseOption = None, threads: ThreadsOption = None) -> None:
    """Write the pages of all finished years into the lake, above the plots; only pages that changed are written.

    `run` and `page` do this at their end. Without a warehouse, the pages do not show labels.
    """
    from utils.pipeline.site import write_site

    settings = settings_of(lake, warehouse, threads, needs_warehouse=False)
    with progress() as bars:
        task = bars.add_task("site", total=None)
        key = write_site(settings, lambda done, total: bars.update(task, completed=done, total=total))
    say(f"{settings.lake.rstrip('/')}/{key}")
