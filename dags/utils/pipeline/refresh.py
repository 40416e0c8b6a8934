"""Score the years again whose verdicts are out of date: labels, incidents, settings or history have changed."""

from __future__ import annotations

from datetime import datetime

from utils import detectors
from utils.pipeline import detect, inputs, plots, publish, refine, status
from utils.settings import Settings
from utils.storage import keys
from utils.storage.freshness import State, gold_of
from utils.storage.lake import Lake


def stale_years(settings: Settings) -> list[int]:
    """Return the years with out-of-date verdicts, ascending.

    A year whose gold is older than its silver is left out, because a run of it has not ended. Detectors that are no
    longer in detectors.yaml do not count.
    """
    lake = Lake(settings)
    return [
        row["year"]
        for row in status.status(settings)
        if _outdated(row["detectors"]) and not _is_being_run(lake, row["year"])
    ]


def refresh(settings: Settings, year: int, run_id: str, started: datetime) -> str:
    """Write the out-of-date verdicts of the year, explain and publish them; return the published page's key.

    run_id, started: for the record of the run. Silver is written again if its flights, which `explain` reads, or its
    manifest were deleted. Plots are drawn again if the year has plots. Running it twice changes nothing.
    """
    lake = Lake(settings)
    if not (lake.has(keys.manifest_key(year)) and all(map(lake.has, lake.silver_parts(year)))):
        refine.write_silver(settings, year)
    refine.write_gold(settings, year)  # copies the history, which may be out of date
    (states,) = (row["detectors"] for row in status.status(settings) if row["year"] == year)
    for name in _outdated(states):
        detect.write_anomalies(settings, year, name)
    detect.explain(settings, year)
    publish.upsert(settings, year)
    if any(key.endswith(".png") for key in lake.store.list(keys.plots_folder(year))):
        plots.write_plots(settings, year)
    return publish.publish(settings, year, run_id, started)


def _is_being_run(lake: Lake, year: int) -> bool:
    """Return True if silver is newer than gold; False without silver, which a person has deleted."""
    airport_days = gold_of(lake, year, detectors.PUBLISHED).airport_days
    return lake.has(keys.manifest_key(year)) and airport_days.state is not State.CURRENT


def _outdated(states: dict[str, str]) -> list[str]:
    """Return the detectors of detectors.yaml whose verdicts are not current. states: by detector."""
    known = inputs.detector_settings()
    return [name for name, state in states.items() if state != "current" and name in known]
