"""Write the detectors' verdicts on gold, and explain the flagged days of the published detector."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from utils import detectors, schemas
from utils.analysis import airports, attribution, events
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
    source = _versioned_input(settings, year)
    return _write_verdicts(settings, year, detector, source, detectors.run(detector, *source.arguments(detector)))


@within_memory
def write_all_anomalies(
    settings: Settings, year: int, names: Sequence[str], done: Callable[[str], None] = lambda _: None
) -> list[str]:
    """Replace the verdicts of several detectors as `write_anomalies` does.

    The detectors of a large year run in `settings.threads` processes. Calls `done` with the name of each detector whose
    verdicts are written. Raises Unavailable if the system ends one of the processes.
    """
    source = _versioned_input(settings, year)
    calls = [(name, *source.arguments(name)) for name in names]
    processes = min(settings.threads, len(names)) if len(source.year.days) >= inputs.MIN_LARGE_ROWS else 1
    verdicts = in_processes(detectors.run, calls, processes, f"ran a detector on {year}")
    written = []
    for name, table in zip(names, verdicts, strict=True):
        written.append(_write_verdicts(settings, year, name, source, table))
        done(name)
    return written


class _VersionedInput(NamedTuple):
    """Input of the detectors, and the hash of the files that it was read from."""

    year: inputs.DetectorInput
    version: str

    def arguments(self, detector: str) -> tuple[pd.DataFrame, Mapping[str, object], str, bool]:
        """Return the arguments of detectors.run after the detector's name."""
        return self.year.days, self.year.params[detector], self.year.excluded, self.year.is_so_far


def _versioned_input(settings: Settings, year: int) -> _VersionedInput:
    if settings.warehouse:
        prepare.check_warehouse(settings)  # this is the first step that reads feedback
    else:
        log.info("%d: DELAYWATCH_WAREHOUSE is not set, so feedback is not read", year)
    tables = gold_of(Lake(settings), check_year(year), detectors.PUBLISHED)
    return _VersionedInput(inputs.detector_input(settings, tables), tables.published.source_hash() or "")


def _write_verdicts(settings: Settings, year: int, detector: str, source: _VersionedInput, verdicts: pa.Table) -> str:
    schemas.check(verdicts, schemas.ANOMALIES, f"The verdicts of {detector} on {year}")
    rows, expected_rows = verdicts.num_rows, len(source.year.judged_days)
    if rows != expected_rows:
        raise AssertionError(f"{detector} returned {rows} verdicts on {expected_rows} airport-days of {year}")
    if source.year.is_so_far and not detectors.has_past_only(detector):
        log.info("%d: %s cannot score from earlier days only, so it scores no day until December", year, detector)
    else:
        flagged = pc.sum(verdicts["is_anomaly"]).as_py() or 0
        log.info("%d: %s flags %d of %d airport-days", year, detector, flagged, rows)
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
    tables.airport_days.check()
    verdicts = inputs.frame(tables.published.read())
    source = inputs.detector_input(settings, tables)
    if set(verdicts["params_hash"]) != {source.params_hashes()[detectors.PUBLISHED]}:
        raise Missing(
            f"Settings, incidents or feedback have changed since the verdicts of {detectors.PUBLISHED} on {year} in "
            f"{lake.uri}; run the detect step of {year}."
        )
    days, expected = source.judged_days, detectors.expectations(source.days, source.params[detectors.PUBLISHED])
    flights = lake.read_silver(year, attribution.FLIGHT_COLUMNS)
    reasons, factors = attribution.explain(flights, days, verdicts, expected)
    event_table, event_days = events.find(verdicts, days, airports.coordinates(days["origin"].unique()))
    for name, explanation in zip(keys.EXPLANATIONS, (reasons, factors, event_table, event_days), strict=True):
        # The hash of the verdicts that were read above; another run may have replaced them in the meantime.
        lake.write_table(keys.explanation_key(year, name), explanation, tables.published.hash or "")
    log.info("%d: explained %d flagged airport-days, %d events", year, reasons.num_rows, event_table.num_rows)
    return keys.explanation_key(year, "anomaly_reasons")
