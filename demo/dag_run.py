"""Run the real DAG `flight_anomalies` in this process through Airflow, and report every step.

Import it after `airflow_home.enter`. Independent of flights, the warehouse and the output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow.dag_processing.dagbag import DagBag
from airflow.listeners import hookimpl
from airflow.sdk.definitions.mappedoperator import MappedOperator
from airflow.sdk.listener import get_listener_manager

from demo.airflow_home import DAGS
from utils.errors import DelaywatchError, InvalidInput, Unavailable

DAG_ID = "flight_anomalies"

Started = Callable[[str], None]  # argument: the step
Ended = Callable[[bool], None]  # argument: whether the last started step succeeded


class _Listener:
    """Airflow listener that forwards the events of every task and keeps the first failure."""

    def __init__(self, started: Started, ended: Ended) -> None:
        self._started, self._ended = started, ended
        self.failure: tuple[str, BaseException | str | None] | None = None

    @staticmethod
    def _name(task_instance: Any) -> str:
        detector = getattr(task_instance.task, "op_kwargs", {}).get("detector")
        return f"{task_instance.task_id} {detector}" if detector else str(task_instance.task_id)

    @hookimpl
    def on_task_instance_running(self, task_instance: Any) -> None:
        self._started(self._name(task_instance))

    @hookimpl
    def on_task_instance_success(self) -> None:
        self._ended(True)

    @hookimpl
    def on_task_instance_failed(self, task_instance: Any, error: BaseException | str | None) -> None:
        self.failure = self.failure or (self._name(task_instance), error)
        self._ended(False)


def run(conf: Mapping[str, Any], started: Started, ended: Ended) -> None:
    """Run the DAG once with `conf` and report every step. Steps are not retried, because a person waits.

    Raises DelaywatchError with the message of the failed step, or with step and fault if it has none.
    """
    bag = DagBag(DAGS)
    if DAG_ID not in bag.dags:
        raise InvalidInput(
            f"Airflow cannot read the DAG {DAG_ID} in {DAGS} ({bag.import_errors or 'missing'}); restore its file."
        )
    dag = bag.dags[DAG_ID]
    for task in dag.tasks:
        if isinstance(task, MappedOperator):
            task.partial_kwargs["retries"] = 0
        else:
            task.retries = 0
    listener = _Listener(started, ended)
    get_listener_manager().add_listener(listener)  # type: ignore[no-untyped-call]
    try:
        outcome = dag.test(run_conf=dict(conf))
    finally:
        get_listener_manager().pm.unregister(listener)
    if listener.failure:
        step, error = listener.failure
        if isinstance(error, DelaywatchError):
            raise error
        raise Unavailable(
            f"The step {step} failed with {type(error).__name__}: {error}; correct the cause and run it again."
        )
    if outcome.state != "success":
        raise Unavailable(f"The run of {DAG_ID} ended in the state {outcome.state}; read the log of the failed step.")
