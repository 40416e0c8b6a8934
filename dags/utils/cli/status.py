"""`python -m utils status`: print the contents of lake and warehouse by year."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from utils.cli.options import LakeOption, OnlyYearOption, WarehouseOption, settings_of, years_of
from utils.cli.output import say, show
from utils.errors import Missing

COLUMNS = ("year", "bronze", "silver", "gold", "verdicts", "warehouse", "page")
CAPTION = (
    "silver: flights; gold and warehouse: airport-days; stale: gold of the year or of the year before, settings, "
    "incidents or feedback have changed since the verdicts; unexplained: the reasons belong to older verdicts; "
    "missing: a detector in detectors.yaml has no verdicts"
)
NOTHING = "–"


def status(year: OnlyYearOption = None, lake: LakeOption = None, warehouse: WarehouseOption = None) -> None:
    """Print the contents of lake and warehouse by year, and which verdicts are stale."""
    from utils.pipeline import inputs, status

    settings = settings_of(lake, warehouse, needs_warehouse=False)
    wanted = years_of(year) if year else None
    in_lake = {row["year"]: row for row in status.status(settings)}
    rows = status.warehouse_rows(settings, in_lake) if settings.warehouse else {}
    years = [single_year for single_year in sorted({*in_lake, *rows}) if wanted is None or single_year in wanted]
    if not years:
        raise Missing(
            f"{settings.lake} has no data of {'these years' if wanted else 'any year'}; add a CSV with "
            "`python -m utils bronze --year YEAR --from FILE`."
        )
    table = Table(*COLUMNS, caption=CAPTION)
    for single_year in years:
        row = in_lake.get(single_year)
        so_far = f" so far, to {row['so_far_to']}" if row and row["so_far_to"] else ""
        table.add_row(f"{single_year}{so_far}", *_cells(row, rows.get(single_year), inputs.detector_names(settings)))
    show(table)
    if not settings.warehouse:
        say(
            "DELAYWATCH_WAREHOUSE is not set, so feedback is not read, and verdicts that were fitted with feedback "
            "are shown as stale."
        )


def _cells(year: Mapping[str, Any] | None, warehouse_rows: int | None, detectors: Sequence[str]) -> list[str]:
    """Return the row of one year without its first cell.

    year: None if the year is not in the lake. detectors: names in detectors.yaml.
    """
    in_warehouse = NOTHING if warehouse_rows is None else f"{warehouse_rows:,}"
    if year is None:
        return [*[NOTHING] * 4, in_warehouse, NOTHING]
    silver, gold = (f"{year[name]:,}" if year[name] is not None else NOTHING for name in ("silver_rows", "gold_rows"))
    verdicts = str(len(year["detectors"]))
    states = dict.fromkeys(detectors if year["detectors"] else (), "missing") | year["detectors"]
    for state in ("stale", "unexplained", "missing"):
        if names := [name for name, detector_state in states.items() if detector_state == state]:
            verdicts += f", {state}: {', '.join(names)}"
    bronze = (year["bronze"] or NOTHING).removeprefix("01_bronze/")
    return [bronze, silver, gold, verdicts, in_warehouse, "yes" if year["has_page"] else NOTHING]
