"""Airflow notifiers: send a message when a run fails or a year is finished. Contains no DAG.

Every DAG uses `note_failure` as callback of its tasks and `RunFailed` as its own callback; the last step of
`flight_anomalies` also has `YearFinished`. Airflow calls the DAG's callback once per run, so six failing detectors give
one message. It runs in the DAG processor, which does not have the exception, so each failed task stores its message as
an XCom. `YearFinished` runs in the last task, which can reach lake and warehouse. `utils.monitoring.messages` has the
texts, `utils.monitoring.channels` the delivery.

The SMTP provider's notifier is not used: it renders its text as a template, so a carrier called {{ ... }} would be
executed; it sends only HTML; and it tries a dead server five times, longer than Airflow lets a task run after success.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow import sdk
from airflow.sdk.log import redact  # type: ignore[attr-defined]  # masks Airflow's secrets

from orchestration import connections, run_year
from utils.errors import DelaywatchError
from utils.settings import Settings

if TYPE_CHECKING:
    from utils.monitoring.messages import Failure

FAILURE = "failure"  # key of the XCom


def note_failure(context: Any) -> None:
    """Store the failed task's message, time and log URL as an XCom for `RunFailed`."""
    error = context.get("exception")
    if error is None:  # the task's process was killed, and this callback runs outside a task
        return
    message = str(error) if isinstance(error, DelaywatchError) else f"{type(error).__name__}: {error}"
    task = context["ti"]
    note = {"part": task.rendered_map_index, "sentence": str(redact(message)), "log": task.log_url}
    task.xcom_push(FAILURE, note | {"at": str(task.end_date)})


class _Notifier(sdk.BaseNotifier, ABC):
    """Log a failed delivery in one sentence; Airflow logs any other exception with its traceback."""

    @abstractmethod
    def send(self, context: Any) -> None:
        """Send the message. Raises DelaywatchError if it may not have arrived."""

    def notify(self, context: Any) -> None:
        try:
            self.send(context)
        except DelaywatchError as error:
            self.log.error("The message may not have arrived: %s", error)


class RunFailed(_Notifier):
    """Send one message for a failed run: its first failed step, the error and the log's URL.

    is_repeated: send it also if the scheduled run before failed at the same step with the same error.
    """

    def __init__(self, *, is_repeated: bool = True) -> None:  # noqa: D107
        super().__init__()
        self._is_repeated = is_repeated

    def send(self, context: Any) -> None:  # noqa: D102
        alerts = connections.alerts()
        if not alerts.is_configured:
            return
        from utils.monitoring import notifications

        failure = _first_failure(context, context["run_id"])
        if not self._is_repeated and _is_known(failure, context):
            self.log.info("The run before failed at %s with the same error, so no message is sent.", failure.step)
            return
        notifications.notify_failure(alerts, failure)


class YearFinished(_Notifier):
    """Send each subscriber one message for a finished year, if anything in it is new for the subscriber.

    run: returns settings and year of a context.
    """

    def __init__(self, run: Callable[[Any], tuple[Settings, int]]) -> None:  # noqa: D107
        super().__init__()
        self._run = run

    def send(self, context: Any) -> None:  # noqa: D102
        from utils.monitoring import notifications

        settings, year = self._run(context)
        address, run = context["ti"].log_url.partition("/tasks/")[0], context["dag_run"]
        notifications.notify_year(
            settings,
            connections.alerts(),
            year,
            f"Run: {address}\nLake: {settings.lake}",
            (run.start_date or run.run_after).date(),
            connections.channel_url,
        )


def _is_known(failure: Failure, context: Any) -> bool:
    """Return True if the run before failed at the same step with the same error."""
    before = context["ti"].get_previous_dagrun() if "ti" in context else None
    if before is None or before.state != "failed":
        return False
    earlier = _first_failure(context, before.run_id)
    return (earlier.step, earlier.sentence, earlier.others) == (failure.step, failure.sentence, failure.others)


def _first_failure(context: Any, run_id: str) -> Failure:
    """Return the first failed task of a run in the DAG's order; of a mapped task, the instance that failed first."""
    from utils.monitoring.messages import Failure

    year, task, dag = _year(context), context.get("ti"), context["dag"]
    run = f"{run_id} of {dag.dag_id}"
    states = task.get_task_states(dag_id=dag.dag_id, run_ids=[run_id]).get(run_id, {}) if task else {}
    failed = [name for name, state in states.items() if state == "failed"]
    for operator in dag.topological_sort():
        # `states` names the third mapped instance of `detect` detect_2.
        if not any(re.fullmatch(rf"{re.escape(operator.task_id)}(_[0-9]+)?", name) for name in failed):
            continue
        pulled = task.xcom_pull(task_ids=operator.task_id, key=FAILURE, run_id=run_id)
        notes = [note for note in (pulled if isinstance(pulled, list) else [pulled]) if note]
        first = min(notes, key=lambda note: note["at"]) if notes else {"part": None, "sentence": None, "log": None}
        step = f"{operator.task_id} {first['part'] or ''}".strip()
        return Failure(run, year, step, first["sentence"], first["log"], others=len(failed) - 1)
    return Failure(run, year, None, None, None)


def _year(context: Any) -> int | None:
    try:
        return run_year.find(context)
    except (KeyError, DelaywatchError):  # a context without a task has no params; retention has no year
        return None
