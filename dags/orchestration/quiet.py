"""Find out whether a step of a year is running. Contains no DAG."""

from __future__ import annotations

from typing import Any

# Without up_for_reschedule: a task that waits for a file has this state.
UNDER_WAY = ["scheduled", "queued", "running", "restarting", "up_for_retry", "deferred"]


def is_quiet(context: Any, *dags: str) -> bool:
    """Return True if no task of these DAGs is running; a run that waits for its file does not count."""
    return not any(context["ti"].get_ti_count(dag, states=UNDER_WAY) for dag in dags)
