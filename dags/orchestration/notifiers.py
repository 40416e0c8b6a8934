"""Airflow's notifiers: messages when a run fails or a year is finished. No DAG is in this file.

Every DAG hangs them on: `note_failure` on each task, `RunFailed` on itself; `flight_anomalies` also `YearFinished` on
its last step. Airflow calls the DAG's own once a run, which is what keeps six failing detectors one message, but in the
DAG processor, where no exception is known; so each failing task leaves its sentence as an XCom. `YearFinished` runs in
the last task itself, beside lake and warehouse. Texts are in `utils.monitoring.messages`, delivery is in
`utils.monitoring.channels`.

Not the SMTP provider's notifier: its text is a template, so that a carrier called {{ ... }} would be run, it is HTML
alone, and it tries a dead server five times, which is longer than Airflow lets a task live after its success.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow import sdk
from airflow.sdk.log import redact  # type: ignore[attr-defined]  # it hides what Airflow knows as a secret

from orchestration import connections, run_year
from utils.errors import DelaywatchError
from utils.settings import Settings

if TYPE_CHECKING:
    from utils.monitoring.messages import Failure

FAILURE = "failure"  # key of the XCom


def note_failure(context: Any) -> None:
    """Leave what the failed task said, when, and where its log is, for `RunFailed`."""
    error = context.get("exception")
    if error is None:  # its process was killed, and this is not the process of a task
        return
    said = str(error) if isinstance(error, DelaywatchError) else f"{type(error).__name__}: {error}"
    task = context["ti"]
    note = {"part": task.rendered_map_index, "sentence": str(redact(said)), "log": task.log_url}
    task.xcom_push(FAILURE, note | {"at": str(task.end_date)})


class _Notifier(sdk.BaseNotifier, ABC):
    """Log a message that could not be sent in one sentence; Airflow logs any other exception with its traceback."""

    @abstractmethod
    def send(self, context: Any) -> None:
        """Send the message. Raises DelaywatchError when it may not have arrived."""

    def notify(self, context: Any) -> None:
        try:
            self.send(context)
        except DelaywatchError as error:
            self.log.error("The message may not have arrived: %s", error)


class RunFailed(_Notifier):
    """One message for a failed run: its first failed step, what that said, where its log is."""

    def send(self, context: Any) -> None:  # noqa: D102
        alerts = connections.alerts()
        if alerts.is_configured:
            from utils.monitoring import notifications

            notifications.notify_failure(alerts, _first_failure(context))


class YearFinished(_Notifier):
    """One message for a finished year, if anything in it is new. run: what gives the settings and the year of a run."""

    def __init__(self, run: Callable[[Any], tuple[Settings, int]]) -> None:  # noqa: D107
        super().__init__()
        self._run = run

    def send(self, context: Any) -> None:  # noqa: D102
        alerts = connections.alerts()
        if not alerts.is_configured:
            return
        from utils.monitoring import notifications

        settings, year = self._run(context)
        address = context["ti"].log_url.partition("/tasks/")[0]
        notifications.notify_year(settings, alerts, year, f"Run: {address}\nLake: {settings.lake}")


def _first_failure(context: Any) -> Failure:
    """The first failed task of the run, in the order of the DAG; among mapped ones the one that failed first."""
    from utils.monitoring.messages import Failure

    run_id, year, task, dag = context["run_id"], _year(context), context.get("ti"), context["dag"]
    run = f"{run_id} of {dag.dag_id}"
    states = task.get_task_states(dag_id=dag.dag_id, run_ids=[run_id]).get(run_id, {}) if task else {}
    failed = [name for name, state in states.items() if state == "failed"]
    for one in dag.topological_sort():
        # Airflow calls the third task that is mapped from `detect` detect_2 here.
        if not any(re.fullmatch(rf"{re.escape(one.task_id)}(_[0-9]+)?", name) for name in failed):
            continue
        found = task.xcom_pull(task_ids=one.task_id, key=FAILURE)
        notes = [note for note in (found if isinstance(found, list) else [found]) if note]
        first = min(notes, key=lambda note: note["at"]) if notes else {"part": None, "sentence": None, "log": None}
        step = f"{one.task_id} {first['part'] or ''}".strip()
        return Failure(run, year, step, first["sentence"], first["log"], others=len(failed) - 1)
    return Failure(run, year, None, None, None)


def _year(context: Any) -> int | None:
    try:
        return run_year.find(context)
    except (KeyError, DelaywatchError):  # a context without a task has only the run's name; retention has no year
        return None
