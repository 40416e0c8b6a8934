"""Contents of lake and warehouse by year."""

from __future__ import annotations

import calendar
from collections.abc import Iterable
from contextlib import closing
from typing import Any

from utils import detectors
from utils.db_handler import DBHandler
from utils.layers.gold import is_so_far, last_day
from utils.pipeline import inputs
from utils.settings import Settings
from utils.storage import keys
from utils.storage.freshness import Gold, State, gold_of
from utils.storage.lake import Lake


def status(settings: Settings) -> list[dict[str, Any]]:
    """Return one dict per year in the lake: bronze key, rows of silver and gold, state by detector, has_page.

    `so_far_to` is the name of the newest month with flights if the year has none in December, else None. A detector is
    `current` if its verdicts were made from the present gold of the year and of the year before, with the present
    settings and excluded days, else `stale`. The published detector is `unexplained` if its verdicts are current but
    its reasons are not.
    """
    lake = Lake(settings)
    return [_status_of_year(settings, lake, year) for year in lake.years()]


def has_old_history(settings: Settings, year: int) -> bool:
    """Return True if the year has gold, and the airport-days of the year before changed since or were added."""
    gold = gold_of(Lake(settings), year, detectors.PUBLISHED)
    return gold.airport_days.hash is not None and not gold.has_current_history


def _status_of_year(settings: Settings, lake: Lake, year: int) -> dict[str, Any]:
    manifest = lake.manifest(year) if lake.has(keys.manifest_key(year)) else None
    gold = gold_of(lake, year, detectors.PUBLISHED)
    return {
        "year": year,
        "so_far_to": _so_far_to(gold),
        "bronze": lake.bronze_key(year) if year in lake.bronze_years() else None,
        "silver_rows": manifest and manifest["rows"],
        "gold_rows": gold.airport_days.rows,
        "detectors": _states_of_detectors(settings, gold),
        "has_page": lake.has(keys.site_year_key(year)),
    }


def _so_far_to(gold: Gold) -> str | None:
    """Return the name of the newest month with flights if it is before December, else None."""
    if not gold.airport_days.rows:
        return None
    days = gold.airport_days.read_any(["fl_date"])
    return calendar.month_name[last_day(days).month] if is_so_far(days) else None


def _states_of_detectors(settings: Settings, gold: Gold) -> dict[str, str]:
    """Return `current`, `stale` or `unexplained` by detector, for detectors with verdicts."""
    hashes: dict[str, str] = {}
    if gold.airport_days.rows is not None:
        hashes = inputs.detector_input(settings, gold, ["origin", "fl_date"]).params_hashes()
    states = {}
    for name, verdicts in gold.anomalies.items():
        if verdicts.state is State.MISSING:
            continue
        params_hashes = set(verdicts.read_any(["params_hash"])["params_hash"].to_pylist())
        has_present_input = verdicts.state is State.CURRENT and gold.has_current_history
        states[name] = "current" if has_present_input and params_hashes == {hashes.get(name)} else "stale"
    if states.get(detectors.PUBLISHED) == "current" and not gold.is_explained:
        states[detectors.PUBLISHED] = "unexplained"
    return states


def warehouse_rows(settings: Settings, years: Iterable[int] = ()) -> dict[int, int]:
    """Return the number of airport-days in the warehouse by year, for `years` and every year with a complete upsert."""
    with closing(DBHandler(settings.warehouse)) as warehouse:
        ended = map(int, warehouse.read("bronze_quality")["year"])  # an upsert writes this table last
        return {year: warehouse.count("airport_days", year) for year in sorted({*years, *ended})}
