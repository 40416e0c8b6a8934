"""Inputs of several steps: settings of the detectors, excluded days, and current verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa

from utils import detectors
from utils.analysis import exclusions
from utils.db_handler import DBHandler
from utils.errors import InvalidInput
from utils.layers import gold
from utils.settings import Settings
from utils.storage import keys
from utils.storage.freshness import Gold, GoldTable, State
from utils.storage.lake import Lake

DETECTORS_FILE = Path(__file__).resolve().parents[2] / "detectors.yaml"
INCIDENTS_FILE = DETECTORS_FILE.with_name("incidents.yaml")
MIN_LARGE_ROWS = 20_000  # airport-days; with fewer, starting a process (1 s of CPU) costs more than it saves


def is_large(settings: Settings, year: int) -> bool:
    """Return True if the year's gold is large enough for separate processes."""
    return Lake(settings).summary(keys.airport_days_key(year)).rows >= MIN_LARGE_ROWS


def detector_settings() -> Mapping[str, Mapping[str, object]]:
    """Return the parameters of every detector in detectors.yaml, by name."""
    return detectors.read_settings(DETECTORS_FILE)


def detector_names(settings: Settings, wanted: list[str] | None = None) -> list[str]:
    """Return the detectors to run: `wanted` and the published one, or all of detectors.yaml if `wanted` is empty.

    Raises DelaywatchError for a name that is not in detectors.yaml.
    """
    known = list(detector_settings())
    unknown = sorted(set(wanted or ()) - set(known))
    if unknown:
        raise InvalidInput(f"detectors.yaml has no detector {', '.join(unknown)}; choose from {', '.join(known)}.")
    return [name for name in known if not wanted or name in wanted or name == detectors.PUBLISHED]


class DetectorInput(NamedTuple):
    """Input of the detectors on one year."""

    days: pd.DataFrame  # airport-days with is_history, is_excluded and is_expected; history, if there is any, first
    excluded: str  # see exclusions.fingerprint
    is_so_far: bool  # the year is not over
    params: Mapping[str, Mapping[str, object]]  # by detector of detectors.yaml; past-only if the year is not over

    @property
    def judged_days(self) -> pd.DataFrame:
        """The airport-days of the year, without history."""
        return detectors.without_history(self.days, self.days)

    def params_hashes(self) -> dict[str, str]:
        """Return the hash of the current settings and excluded days, by detector."""
        return {name: detectors.params_hash(name, params, self.excluded) for name, params in self.params.items()}


def detector_input(settings: Settings, tables: Gold, columns: list[str] | None = None) -> DetectorInput:
    """Return the year's airport-days after its history, if it has one, with marked exclusions.

    columns: of AIRPORT_DAYS, at least origin and fl_date; default all. Raises Missing without airport-days of the year,
    and Damaged if a file cannot be decoded.
    """

    def marked(rows: pa.Table, year: int, *, is_history: bool) -> pd.DataFrame:
        return with_exclusions(settings, frame(rows), year).assign(is_history=is_history)

    year, rows = tables.airport_days.year, tables.airport_days.read_any(columns)
    frames = [marked(rows, year, is_history=False)]
    if tables.history.rows:
        frames.insert(0, marked(tables.history.read_any(columns), year - 1, is_history=True))
    days = pd.concat(frames, ignore_index=True)
    is_so_far = gold.is_so_far(rows)
    params = detector_settings()
    if is_so_far:
        params = {name: detectors.in_year_so_far(name, given) for name, given in params.items()}
    return DetectorInput(days, exclusions.fingerprint(days), is_so_far, params)


def with_exclusions(settings: Settings, days: pd.DataFrame, year: int) -> pd.DataFrame:
    """Return the airport-days with `is_excluded` and `is_expected`; without a warehouse, feedback is empty."""
    expected = pd.DataFrame({"origin": [], "fl_date": []})
    if settings.warehouse:
        with closing(DBHandler(settings.warehouse)) as warehouse:
            feedback = warehouse.feedback(year)
        expected = feedback[feedback["opinion"] == "expected"]
    return days.assign(**exclusions.exclusions(days, exclusions.read(INCIDENTS_FILE), expected))


def frame(table: pa.Table) -> pd.DataFrame:
    """Convert an Arrow table to pandas, dates as datetime64."""
    frame: pd.DataFrame = table.to_pandas(date_as_object=False)
    return frame


def current_verdicts(settings: Settings, tables: Gold) -> dict[str, GoldTable]:
    """Return the tables of verdicts that were made from the airport-days of `tables`, by detector.

    Stale tables are left out, because old verdicts beside new days would mislead. The published detector's table is
    always included; its `read` raises Missing if it is stale.
    """
    return {
        name: tables.anomalies[name]
        for name in detector_names(settings)
        if name == detectors.PUBLISHED or (name in tables.anomalies and tables.anomalies[name].state is State.CURRENT)
    }
