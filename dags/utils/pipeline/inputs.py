"""What several steps read: the people's settings of detectors and incidents, and gold as it may be used together."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pandas as pd
import pyarrow as pa

from utils import detectors
from utils.analysis import exclusions
from utils.db_handler import DBHandler
from utils.errors import InvalidInput
from utils.settings import Settings
from utils.storage import keys
from utils.storage.freshness import Gold, GoldTable, State
from utils.storage.lake import Lake

DETECTORS_FILE = Path(__file__).resolve().parents[2] / "detectors.yaml"
INCIDENTS_FILE = DETECTORS_FILE.with_name("incidents.yaml")
MIN_LARGE_ROWS = 20_000  # airport-days; below, starting a process (1 s of CPU) costs more than it saves


def is_large(settings: Settings, year: int) -> bool:
    """Return whether the year's gold is large enough for processes of its own."""
    rows, _ = Lake(settings).rows_and_first(keys.airport_days_key(year))
    return rows >= MIN_LARGE_ROWS


def detector_settings() -> Mapping[str, Mapping[str, detectors.Parameter]]:
    """Return the parameters of every detector of detectors.yaml, by name."""
    return detectors.read_settings(DETECTORS_FILE)


def detector_names(settings: Settings, wanted: list[str] | None = None) -> list[str]:
    """The detectors to run: those of detectors.yaml or, of them, the wanted ones; the published one always runs.

    Raises DelaywatchError for a name that detectors.yaml does not have.
    """
    known = list(detector_settings())
    unknown = sorted(set(wanted or ()) - set(known))
    if unknown:
        raise InvalidInput(f"There is no detector {', '.join(unknown)}; detectors.yaml has {', '.join(known)}.")
    return [name for name in known if not wanted or name in wanted or name == detectors.PUBLISHED]


def params_hashes(excluded: str) -> dict[str, str]:
    """The hash of every detector's settings as they are in detectors.yaml, by detector."""
    return {name: detectors.params_hash(name, params, excluded) for name, params in detector_settings().items()}


def with_exclusions(settings: Settings, days: pd.DataFrame, year: int) -> pd.DataFrame:
    """Return the airport-days with `is_excluded` and `is_expected`; without a warehouse there is no feedback."""
    expected = pd.DataFrame({"origin": [], "fl_date": []})
    if settings.warehouse:
        with closing(DBHandler(settings.warehouse)) as warehouse:
            said = warehouse.feedback(year)
        expected = said[said["opinion"] == "expected"]
    return days.assign(**exclusions.exclusions(days, exclusions.read(INCIDENTS_FILE), expected))


def frame(table: pa.Table) -> pd.DataFrame:
    """Return an Arrow table in pandas, dates as datetime64."""
    frame: pd.DataFrame = table.to_pandas(date_as_object=False)
    return frame


def current_verdicts(settings: Settings, tables: Gold) -> dict[str, GoldTable]:
    """Return by detector the tables of verdicts that were made from the airport-days of `tables`.

    The published detector's table is always one of them, and `read` of it raises Missing if it is stale. A stale table
    of another detector is left out: an old verdict beside a new day would mislead.
    """
    return {
        name: tables.anomalies[name]
        for name in detector_names(settings)
        if name == detectors.PUBLISHED or (name in tables.anomalies and tables.anomalies[name].state is State.CURRENT)
    }
