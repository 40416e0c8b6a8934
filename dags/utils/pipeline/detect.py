"""Write the detectors' verdicts on gold, and explain the flagged days of the published detector."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from utils import detectors, schemas
from utils.analysis import airports, attribution, events, exclusions
from utils.errors import Missing, within_memory
from utils.parallel import in_processes
from utils.pipeline import inputs, prepare
from utils.settings import Settings
from utils.storage import keys
from utils.storage.freshness import gold_of
from utils.storage.keys import check_year
from utils.storage.lake import Lake

log = logging.getLogger(__name__)


@within_memory
def write_anomalies(settings: Settings, year: int, detector: str) -> str:
    """Replace one detector's verdicts on every airport and day of the year.

    Incidents of incidents.yaml are scored but not used for fitting. With a warehouse, days with the feedback `expected`
    are also scored but not used for fitting their airport.
    """
    inputs.detector_names(settings, [detector])
    source = _detector_input(settings, year)
    params = inputs.detector_settings()[detector]
    return _write_verdicts(settings, year, detector, source, detectors.run(detector, *source.arguments(params)))


@within_memory
def write_all_anomalies(
    settings: Settings, year: int, names: Sequence[str], done: Callable[[str], None] = lambda _: None
) -> list[str]:
    """Replace the verdicts of several detectors as `write_anomalies` does.

    The detectors of a large year run in `settings.threads` processes. Calls `done` with the name of each detector whose
    verdicts are written. Raises Unavailable if the system ends one of the processes.
    """
    source, all_params = _detector_input(settings, year), inputs.detector_settings()
    calls = [(name, *source.arguments(all_params[name])) for name in names]
    processes = min(settings.threads, len(names)) if len(source.days) >= inputs.MIN_LARGE_ROWS else 1
    verdicts = in_processes(detectors.run, calls, processes, f"ran a detector on {year}")
    written = []
    for name, table in zip(names, verdicts, strict=True):
        written.append(_write_verdicts(settings, year, name, source, table))
        done(name)
    return written


class _DetectorInput(NamedTuple):
    """Input of the detectors: airport-days with marked exclusions, and the hashes of both."""

    days: pd.DataFrame
    version: str  # content hash of the airport-days
    excluded: str  # see exclusions.fingerprint

    def arguments(self, params: Mapping[str, object]) -> tuple[pd.DataFrame, Mapping[str, object], str]:
        """Return the arguments of detectors.run after the detector's name."""
        return self.days, params, self.excluded


def _detector_input(settings: Settings, year: int) -> _DetectorInput:
    if settings.warehouse:
        prepare.check_warehouse(settings)  # this is the first step that reads feedback
    else:
        log.info("%d: DELAYWATCH_WAREHOUSE is not set, so feedback is not read", year)
    table, version = Lake(settings).read_hashed(keys.airport_days_key(check_year(year)))
    days = inputs.with_exclusions(settings, inputs.frame(table), year)
    return _DetectorInput(days, version, exclusions.fingerprint(days))


def _write_verdicts(settings: Settings, year: int, detector: str, source: _DetectorInput, verdicts: pa.Table) -> str:
    schemas.check(verdicts, schemas.ANOMALIES, f"The verdicts of {detector} on {year}")
    rows = verdicts.num_rows
    if rows != len(source.days):
        raise AssertionError(f"{detector} returned {rows} verdicts on {len(source.days)} airport-days of {year}")
    log.info("%d: %s flags %d of %d airport-days", year, detector, pc.sum(verdicts["is_anomaly"]).as_py() or 0, rows)
    return Lake(settings).write_table(keys.anomalies_key(year, detector), verdicts, source.version)


@within_memory
def explain(settings: Settings, year: int) -> str:
    """Replace reasons, factors and events of the published detector's flagged days.

    Raises DelaywatchError if its verdicts were made with other settings or excluded days than the current ones: the
    expectations are recomputed here and would differ from the verdicts.
    """
    lake = Lake(settings)
    if settings.warehouse:
        prepare.check_warehouse(settings)
    tables = gold_of(lake, check_year(year), detectors.PUBLISHED)
    days = inputs.with_exclusions(settings, inputs.frame(tables.airport_days.read()), year)
    verdicts = inputs.frame(tables.published.read())
    current_hash = inputs.params_hashes(exclusions.fingerprint(days))[detectors.PUBLISHED]
    if set(verdicts["params_hash"]) != {current_hash}:
        raise Missing(
            f"Settings, incidents or feedback have changed since the verdicts of {detectors.PUBLISHED} on {year} in "
            f"{lake.uri}; run the detect step of {year}."
        )
    params = inputs.detector_settings()[detectors.PUBLISHED]
    flights = lake.read_silver(year, attribution.FLIGHT_COLUMNS)
    reasons, factors = attribution.explain(flights, days, verdicts, detectors.expectations(days, params))
    event_table, event_days = events.find(verdicts, days, airports.coordinates(days["origin"].unique()))
    for name, explanation in zip(keys.EXPLANATIONS, (reasons, factors, event_table, event_days), strict=True):
        # The hash of the verdicts that were read above; another run may have replaced them in the meantime.
        lake.write_table(keys.explanation_key(year, name), explanation, tables.published.hash or "")
    log.info("%d: explained %d flagged airport-days, %d events", year, reasons.num_rows, event_table.num_rows)
    return keys.explanation_key(year, "anomaly_reasons")
