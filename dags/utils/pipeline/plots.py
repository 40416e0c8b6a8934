"""Write the plots of a year. A separate module, because it loads matplotlib."""

from __future__ import annotations

import logging
from collections.abc import Callable

from utils import detectors
from utils.errors import within_memory
from utils.pipeline import inputs
from utils.reporting import plots
from utils.settings import Settings
from utils.storage import keys
from utils.storage.freshness import gold_of
from utils.storage.keys import check_year
from utils.storage.lake import Lake

log = logging.getLogger(__name__)


@within_memory
def write_plots(settings: Settings, year: int, progress: Callable[[int, int], None] | None = None) -> str:
    """Replace the year's two plots per airport. progress: called with the done and the total number of plots."""
    lake = Lake(settings)
    tables = gold_of(lake, check_year(year), detectors.PUBLISHED)
    days, verdicts = inputs.frame(tables.airport_days.read()), inputs.frame(tables.published.read())
    total, done = 2 * days["origin"].nunique(), 0

    def one_more() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    count = lake.replace_plots(year, plots.render_year(days, verdicts, year, settings.threads), one_more)
    log.info("%d: %d plots", year, count)
    return keys.plots_folder(year)
