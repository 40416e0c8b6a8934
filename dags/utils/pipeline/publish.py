"""Upsert gold into the warehouse, then bring the site up to date and record the run."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from utils import __version__, detectors, schemas
from utils.db_handler import Changes, DBHandler
from utils.errors import Missing, within_memory
from utils.layers import quality
from utils.pipeline import inputs
from utils.pipeline.site import write_site
from utils.reporting import wording
from utils.settings import Settings
from utils.storage import keys
from utils.storage.freshness import gold_of, joint_hash
from utils.storage.keys import check_year
from utils.storage.lake import Damaged, Lake

MAX_NAMED_CHANGES = 8  # changed verdicts that the log names
COUNTED = ["is_anomaly", "params_hash"]  # columns of verdicts that are only counted

log = logging.getLogger(__name__)


@within_memory
def upsert(settings: Settings, year: int) -> str:
    """Load the year's airport-days, verdicts, explanations and quality report into the warehouse in one transaction.

    Equal rows are not written. Verdicts that were not made from these airport-days, and verdicts of detectors that are
    no longer in detectors.yaml, are deleted from the warehouse. Days that had a verdict of the published detector and
    get another severity are inserted into `verdict_changes` and logged.
    """
    lake = Lake(settings)
    tables = gold_of(lake, check_year(year), detectors.PUBLISHED)
    verdicts = inputs.current_verdicts(settings, tables)
    days = tables.airport_days.read()
    report = quality.row(_report(lake, year, days))

    with closing(DBHandler(settings.warehouse)) as warehouse:
        warehouse.create()
        warehouse.publish_view(detectors.NAMES, detectors.PUBLISHED)
        names = sorted({*verdicts, *warehouse.detectors(year)})

        def verdict_rows(name: str) -> pa.Table:
            rows = verdicts[name].read() if name in verdicts else schemas.ANOMALIES.empty_table()
            return _with_detector(rows, name)

        # Table, function that reads its rows, values within which rows are replaced. One table is in memory at a time.
        batches: list[tuple[str, Callable[[], Any], dict[str, str]]] = [
            ("airport_days", lambda: days, {}),
            *(("anomalies", functools.partial(verdict_rows, name), {"detector": name}) for name in names),
            *((name, table.read, {}) for name, table in tables.explanations.items()),
            ("bronze_quality", lambda: report, {}),
        ]
        started = datetime.now(UTC)
        rows = ((table, read(), within) for table, read, within in batches)
        changes = warehouse.upsert_year(rows, year, published=detectors.PUBLISHED, now=started)
        changed_verdicts = warehouse.verdict_changes(year, since=started)
    changed = dict.fromkeys(table for (table, *_), change in zip(batches, changes, strict=True) if change.has_changes)
    log.info("%d: rows %s; tables changed: %s", year, Changes.total(changes), ", ".join(changed) or "none")
    if len(changed_verdicts):
        log.info("%d: %s", year, _sentence(changed_verdicts))
    return "flights.agg_dep_delay_by_date"


def _sentence(changes: pd.DataFrame) -> str:
    """Return for example `2 verdicts changed: JFK 2018-03-02 from none to mild, LGA 2018-03-02 from strong to mild.`"""
    named = [
        f"{day['origin']} {day['fl_date']:%Y-%m-%d} from {schemas.SEVERITIES[day['old_severity']]} to "
        f"{schemas.SEVERITIES[day['new_severity']]}"
        for day in changes.head(MAX_NAMED_CHANGES).to_dict("records")
    ]
    others = len(changes) - len(named)
    more = f", and {others:,} more" if others else ""
    return f"{wording.count(len(changes), 'verdict')} changed: {', '.join(named)}{more}."


@within_memory
def publish(settings: Settings, year: int, run_id: str, started: datetime) -> str:
    """Write the pages that changed and the record of the run. Raises Missing if warehouse and gold have other rows."""
    lake = Lake(settings)
    tables = gold_of(lake, check_year(year), detectors.PUBLISHED)
    days = tables.airport_days.read()
    current = inputs.current_verdicts(settings, tables)
    verdicts = {name: table.read(COUNTED) for name, table in current.items()}
    quality = _report(lake, year, days)
    explanations = {name: explanation.read() for name, explanation in tables.explanations.items()}
    in_gold = {"airport_days": len(days), **{f"anomalies of {name}": len(table) for name, table in verdicts.items()}}
    in_gold |= {name: len(table) for name, table in explanations.items()}
    hashes = {name: str(table["params_hash"][0]) for name, table in sorted(verdicts.items()) if len(table)}
    with closing(DBHandler(settings.warehouse)) as warehouse:
        _check_warehouse_holds(warehouse, year, in_gold, hashes)
        write_site(settings)
        rows = {name: quality[f"rows_{name}"] for name in ("read", "kept", "duplicate", "rejected")} | in_gold
        rows["verdicts_changed"] = len(warehouse.verdict_changes(year, since=started))
        warehouse.record_run(
            {
                "run_id": run_id,
                "year": year,
                "code_version": __version__,
                "params_hash": joint_hash((value, current[name].source_hash() or "") for name, value in hashes.items()),
                "started": started,
                "ended": datetime.now(UTC),
                "rows": rows,
            }
        )
    flagged = int(pc.sum(verdicts[detectors.PUBLISHED]["is_anomaly"]).as_py() or 0)
    log.info("%d: %d flagged airport-days; the page is %s", year, flagged, keys.site_year_key(year))
    return keys.site_year_key(year)


def _check_warehouse_holds(
    warehouse: DBHandler, year: int, in_gold: Mapping[str, int], hashes: Mapping[str, str]
) -> None:
    """Raise Missing if the row count of any table differs between warehouse and gold.

    in_gold: rows by table, verdicts as `anomalies of DETECTOR`. hashes: params_hash of the verdicts by detector.
    """
    in_warehouse = {name: warehouse.count(name, year) for name in ("airport_days", *keys.EXPLANATIONS)}
    for name in sorted({*hashes, *warehouse.detectors(year)}):
        within = {"detector": name} | ({"params_hash": hashes[name]} if name in hashes else {})
        in_warehouse[f"anomalies of {name}"] = warehouse.count("anomalies", year, within=within)
    differing = [
        f"{table}: {in_gold.get(table, 0)} in gold, {rows} in the warehouse"
        for table, rows in in_warehouse.items()
        if in_gold.get(table, 0) != rows
    ]
    if differing:
        raise Missing(
            f"Warehouse and gold differ in {year} ({'; '.join(differing)}); run the upsert step of {year} again."
        )


def _report(lake: Lake, year: int, days: pa.Table) -> dict[str, Any]:
    """Return the year's quality report, compared with the airports of the previous year in gold.

    If the previous year is added or changed later, run `upsert` and `publish` of this year again to update the report.
    """
    return quality.with_airports(lake.read_quality(year), _airports(days), _airports_of(lake, year - 1))


def _airports_of(lake: Lake, year: int) -> list[str] | None:
    """Return the airports of a year, or None if its gold is missing or damaged, which must not fail this year."""
    try:
        return _airports(lake.read_table(keys.airport_days_key(year), ["origin"]))
    except (Missing, Damaged):
        return None


def _airports(days: pa.Table) -> list[str]:
    return list(pc.unique(days["origin"]).to_pylist())


def _with_detector(verdicts: pa.Table, name: str) -> pa.Table:
    index = schemas.WAREHOUSE_ANOMALIES.get_field_index("detector")
    field = schemas.WAREHOUSE_ANOMALIES.field(index)
    return verdicts.add_column(index, field, pa.array([name] * verdicts.num_rows, pa.string()))
