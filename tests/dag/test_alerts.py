"""One message for a failed run, with its step, error and log; a failed delivery is one line in the log.

The run's tasks run in this process. Airflow calls the DAG's callback in a process of the DAG processor, as here.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from demo.airflow_home import DAGS
from tests.servers.receivers import webhook
from utils.storage import keys

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # of Airflow's DAG processor


def call_failure_callback(run: Any, log: Path) -> str:
    """Let a DAG processor call the DAG's callback for a failed run, as the scheduler requests it. Return its log."""
    import structlog
    from airflow.callbacks.callback_requests import DagCallbackRequest, DagRunContext
    from airflow.dag_processing.processor import DagFileProcessorProcess
    from airflow.models.dagrun import DagRun
    from airflow.sdk.execution_time.supervisor import InProcessTestSupervisor
    from airflow.sdk.log import logging_processors
    from airflow.utils.session import create_session
    from uuid6 import uuid7

    with create_session() as session:
        stored = session.query(DagRun).filter(DagRun.dag_id == run.dag_id, DagRun.run_id == run.run_id).one()
        failed = [instance for instance in stored.get_task_instances(session=session) if instance.state == "failed"]
        request = DagCallbackRequest(
            filepath=f"{run.dag_id}.py",
            dag_id=stored.dag_id,
            run_id=stored.run_id,
            bundle_name="dags-folder",
            bundle_version=None,
            context_from_server=DagRunContext(dag_run=stored, last_ti=failed[-1]),
            is_failure_callback=True,
            msg="task_failure",
        )
    with selectors.DefaultSelector() as selector, log.open("ab") as file:
        logger = structlog.wrap_logger(structlog.BytesLogger(file), processors=logging_processors(json_output=True))
        process = DagFileProcessorProcess.start(
            id=uuid7(),
            path=DAGS / f"{run.dag_id}.py",
            bundle_path=DAGS,
            bundle_name="dags-folder",
            dag_file_rel_path=f"{run.dag_id}.py",
            callbacks=[request],
            selector=selector,
            logger=logger.bind(),
            logger_filehandle=file,
            client=InProcessTestSupervisor._api_client(),  # type: ignore[no-untyped-call]
        )
        while not process.is_ready:
            process._service_subprocess(0.1)
    return log.read_text()


def message_of(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the only message that a webhook gets about the run."""
    with webhook() as hook:
        monkeypatch.setenv("DELAYWATCH_ALERT_WEBHOOK", hook.url)
        log = call_failure_callback(run, tmp_path / "processor.log")
    assert len(hook.texts) == 1, log
    return hook.texts[0]


@pytest.fixture(scope="module")
def failed_run(read_dags: Callable[[], Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of a year without a file, while no notifications are configured."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DELAYWATCH_LAKE", tmp_path_factory.mktemp("lake").as_uri())
        return read_dags()["flight_anomalies"].test(run_conf={"year": 1999})


def test_the_message_has_step_error_and_log_of_the_failed_run(
    failed_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = message_of(failed_run, tmp_path, monkeypatch)

    assert failed_run.state == "failed", "although the last task, which deletes scratch files, succeeds"
    quoted_id = failed_run.run_id.replace(":", "%3A").replace("+", "%2B")
    assert message.startswith("*Delaywatch 1999: wait_for_bronze failed*\n")
    assert "01_bronze/1999.csv" in message
    assert f"/dags/flight_anomalies/runs/{quoted_id}/tasks/wait_for_bronze?try_number=1" in message


def test_a_secret_in_the_error_of_a_failed_step_is_hidden(airflow: Path) -> None:
    from airflow.sdk.log import mask_secret

    from orchestration import notifiers

    xcoms: dict[str, Any] = {}
    task = SimpleNamespace(rendered_map_index=None, log_url="", end_date=None, xcom_push=xcoms.__setitem__)
    mask_secret("pa55-of-the-warehouse")

    notifiers.note_failure({"exception": RuntimeError("login with pa55-of-the-warehouse failed"), "ti": task})

    (note,) = xcoms.values()
    assert note["sentence"] == "RuntimeError: login with *** failed"


def test_a_failed_run_of_another_dag_is_reported_with_its_name(
    read_dags: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retention = read_dags()["retention"]
    monkeypatch.setattr(retention.get_task("wait_for_quiet"), "retries", 0)
    monkeypatch.setenv("DELAYWATCH_KEEP_LOGS_DAYS", "many")
    run = retention.test()

    message = message_of(run, tmp_path, monkeypatch)

    assert message.startswith("*Delaywatch: wait_for_quiet failed*\n")
    assert f"{run.run_id} of retention" in message
    assert "DELAYWATCH_KEEP_LOGS_DAYS" in message


def test_a_failed_fetch_is_reported_with_its_year(
    read_dags: Callable[[], Any], lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lake / "01_bronze/2015.csv.gz").touch()
    run = read_dags()["fetch_bronze"].test(run_conf={"year": 2015})

    message = message_of(run, tmp_path, monkeypatch)

    assert message.startswith("*Delaywatch 2015: fetch 2015 failed*\n")
    assert "01_bronze/2015.csv.gz" in message


def test_a_run_of_refresh_scores_that_fails_like_the_one_before_is_not_reported_again(
    read_dags: Callable[[], Any], lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(year: int) -> list[str]:
        """Damage the gold of a year, and return the messages about the next run."""
        (lake / f"01_bronze/{year}.csv").touch()
        gold = lake / keys.airport_days_key(year)
        gold.parent.mkdir(parents=True, exist_ok=True)
        gold.write_bytes(b"damaged")
        with webhook() as hook:
            monkeypatch.setenv("DELAYWATCH_ALERT_WEBHOOK", hook.url)
            run = read_dags()["refresh_scores"].test()
            assert run.state == "failed"
            call_failure_callback(run, tmp_path / "processor.log")
        return list(hook.texts)

    first, again, other = fail(2015), fail(2015), fail(2014)

    assert "year=2015" in first[0]
    assert again == []
    assert "year=2014" in other[0]


def test_a_step_whose_process_was_killed_is_reported_without_an_error(
    failed_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestration import notifiers

    # The callback runs in a fork of this process, so it looks for a note that the step could not store.
    monkeypatch.setattr(notifiers, "FAILURE", "note of a killed process")

    message = message_of(failed_run, tmp_path, monkeypatch)

    assert message.startswith("*Delaywatch 1999: wait_for_bronze failed*\n")
    assert "killed" in message


def test_a_dead_mail_server_is_one_line_in_the_log_of_the_processor(
    failed_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELAYWATCH_ALERT_EMAIL", "ops@here.org")
    monkeypatch.setenv("DELAYWATCH_SMTP", "smtp://127.0.0.1:1")

    log = call_failure_callback(failed_run, tmp_path / "processor.log")

    assert "mail server 127.0.0.1:1" in log
    assert "Traceback" not in log
