"""Find out whether a step of `flight_anomalies` is running. Contains no DAG."""

from __future__ import annotations

from typing import Any

FOLLOWED = "flight_anomalies"
# Without up_for_reschedule: a task that waits for a file has this state.
UNDER_WAY = ["scheduled", "queued", "running", "restarting", "up_for_retry", "deferred"]


def is_quiet(context: Any) -> bool:
    """Return True if no step of a year is running; a run that waits for its file does not count."""
    running: int = context["ti"].get_ti_count(FOLLOWED, states=UNDER_WAY)
    return running == 0
