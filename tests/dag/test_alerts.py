"""Who hears of a run: one message for a finished year, one for a failed run, none of which can fail it.

The run's tasks are in this process; its failure is told where Airflow tells it, in a process of the DAG processor.
"""

from __future__ import annotations

import json
import selectors
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from demo.airflow_home import DAGS
from tests.servers.bureau import Bureau, serving
from tests.servers.receivers import webhook
from tests.steps import YEAR
from utils.storage import keys

pytestmark = pytest.mark.filterwarnings("ignore")  # Airflow's own


def tell_failure_of(run: Any, log: Path) -> str:
    """Have the DAG processor call what the DAG has for a failed run, as the scheduler asks it to; its log."""
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
        failed = [one for one in stored.get_task_instances(session=session) if one.state == "failed"]
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


@pytest.fixture(scope="module")
def failed_run(read_dags: Callable[[], Any]) -> Any:
    """A run of a year in a lake that has none; nobody was to be told of it."""
    return read_dags()["flight_anomalies"].test(run_conf={"year": 1999})


def told(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a webhook was told of the run; exactly one message."""
    with webhook() as hook:
        monkeypatch.setenv("DELAYWATCH_ALERT_WEBHOOK", hook.url)
        log = tell_failure_of(run, tmp_path / "processor.log")
    assert len(hook.texts) == 1, log
    return hook.texts[0]


def test_a_failed_run_is_told_with_its_step_its_sentence_and_its_log(
    failed_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = told(failed_run, tmp_path, monkeypatch)

    assert text.startswith("*Delaywatch 1999: wait_for_bronze failed*\n")
    assert "01_bronze/1999.csv (or .csv.gz) is not in" in text
    assert f"/dags/flight_anomalies/runs/{failed_run.run_id.replace(':', '%3A').replace('+', '%2B')}" in text
    assert "/tasks/wait_for_bronze?try_number=1" in text


def test_a_secret_in_the_sentence_of_a_failed_step_is_hidden(airflow: None) -> None:
    from airflow.sdk.log import mask_secret

    from orchestration import notifiers

    pushed: dict[str, Any] = {}
    task = SimpleNamespace(rendered_map_index=None, log_url="", end_date=None, xcom_push=pushed.__setitem__)
    mask_secret("pa55-of-the-warehouse")

    notifiers.note_failure({"exception": RuntimeError("login with pa55-of-the-warehouse failed"), "ti": task})

    (note,) = pushed.values()
    assert note["sentence"] == "RuntimeError: login with *** failed"


def test_a_year_that_could_not_be_fetched_is_told_with_the_name_of_the_dag(
    dags: dict[str, Any], lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Bureau()) as nothing_published:
        monkeypatch.setenv("DELAYWATCH_BTS_URL", f"{nothing_published.url}/PREZIP")
        run = dags["fetch_bronze"].test(run_conf={"year": 2016})

    text = told(run, tmp_path, monkeypatch)

    assert text.startswith("*Delaywatch 2016: fetch failed*\n")
    assert f"The step fetch of the run {run.run_id} of fetch_bronze failed." in text
    assert "_2016_12.zip is not published" in text


def test_a_sweep_that_failed_is_told_with_the_name_of_the_dag(
    dags: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retention = dags["retention"]
    monkeypatch.setattr(retention.get_task("wait_for_quiet"), "retries", 0)
    monkeypatch.setenv("DELAYWATCH_KEEP_LOGS_DAYS", "many")
    run = retention.test()

    text = told(run, tmp_path, monkeypatch)

    assert text.startswith("*Delaywatch: wait_for_quiet failed*\n")
    assert f"The step wait_for_quiet of the run {run.run_id} of retention failed." in text
    assert "DELAYWATCH_KEEP_LOGS_DAYS" in text


def test_a_step_that_was_killed_before_it_could_say_why_is_told_too(
    failed_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    def rename_note(key: str, to: str) -> None:
        with create_session() as session:
            notes = session.query(XComModel).filter(XComModel.run_id == failed_run.run_id, XComModel.key == key)
            assert notes.update({"key": to}) == 1

    rename_note("failure", to="hidden")
    try:
        text = told(failed_run, tmp_path, monkeypatch)
    finally:
        rename_note("hidden", to="failure")

    assert "The step wait_for_bronze of the run" in text
    assert "its process was killed" in text


@pytest.mark.slow
def test_several_failing_detectors_are_one_message(
    dag: Any, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", "postgresql://nobody@127.0.0.1:1/nothing")
    monkeypatch.setitem(dag.get_task("detect").partial_kwargs, "retries", 0)
    run = dag.test(run_conf={"year": 2015, "detectors": ["three_sigma"]})

    text = told(run, tmp_path, monkeypatch)

    assert text.startswith("*Delaywatch 2015: detect ")
    assert "No Postgres answers at the warehouse nothing at 127.0.0.1:1" in text
    assert "1 other task of the run failed" in text


def test_a_dead_mail_server_is_one_sentence_in_the_processors_log(
    failed_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELAYWATCH_ALERT_EMAIL", "ops@here.org")
    monkeypatch.setenv("DELAYWATCH_SMTP", "smtp://127.0.0.1:1")

    log = tell_failure_of(failed_run, tmp_path / "processor.log")

    assert "The mail server 127.0.0.1:1 did not accept" in log
    assert "Traceback" not in log


def test_nobody_is_told_and_nothing_is_logged_when_nothing_is_configured(failed_run: Any, tmp_path: Path) -> None:
    log = tell_failure_of(failed_run, tmp_path / "processor.log")

    assert "Executing on_failure dag callback" in log
    assert "error" not in log.lower()
    assert "told" not in log


def test_a_finished_year_is_told_once_and_a_dead_mail_server_does_not_fail_its_run(
    dag: Any, lake: Path, empty_database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", empty_database)
    monkeypatch.setenv("DELAYWATCH_ALERT_EMAIL", "ops@here.org")
    monkeypatch.setenv("DELAYWATCH_SMTP", "smtp://127.0.0.1:1")
    with webhook() as hook:
        monkeypatch.setenv("DELAYWATCH_ALERT_WEBHOOK", hook.url)

        run = dag.test(run_conf={"year": YEAR, "detectors": ["three_sigma"]})

    assert run.state == "success"
    (text,) = hook.texts
    assert text.startswith(f"*Delaywatch {YEAR}: ")
    assert f"/dags/flight_anomalies/runs/{run.run_id[:10]}" in text
    assert f"Lake: {lake.as_uri()}" in text
    assert (lake / keys.alerts_key(YEAR)).is_file()
    assert "The mail server 127.0.0.1:1 did not accept" in caplog.text


def test_connections_of_airflow_say_where_messages_go(airflow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestration import connections

    monkeypatch.setenv("DELAYWATCH_ALERT_EMAIL", "ops@here.org")
    monkeypatch.setenv("DELAYWATCH_SMTP", "smtp://wrong")
    mail = {"conn_type": "smtp", "host": "mail.here.org", "port": 465, "login": "me@here.org", "password": "p@ss/w"}
    hook = {"conn_type": "http", "host": "https://hooks.here.org/services/", "password": "T0/B0/x"}
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(mail | {"extra": {"from_email": "watch@here.org"}}))
    monkeypatch.setenv("AIRFLOW_CONN_ALERT_WEBHOOK", json.dumps(hook))

    found = connections.alerts()

    assert found.smtp == "smtps://me%40here.org:p%40ss%2Fw@mail.here.org:465"
    assert (found.sender, found.webhook) == ("watch@here.org", "https://hooks.here.org/services/T0/B0/x")


def test_a_connection_without_ssl_encrypts_only_where_the_server_offers_it(
    airflow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestration import connections

    relay = {"conn_type": "smtp", "host": "relay", "extra": {"disable_ssl": True}}
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(relay))

    assert connections.alerts().smtp == "smtp://relay"


def test_only_the_last_step_tells_of_the_year(dag: Any) -> None:
    from orchestration import notifiers

    told_by = {
        task.task_id
        for task in dag.tasks
        if any(isinstance(c, notifiers.YearFinished) for c in callbacks(task, "success"))
    }

    assert told_by == {"publish"}


def test_every_step_of_every_dag_leaves_its_sentence_and_every_dag_tells_of_its_failed_run(
    dags: dict[str, Any],
) -> None:
    from orchestration import notifiers

    silent = [
        f"{dag.dag_id}.{task.task_id}"
        for dag in dags.values()
        for task in dag.tasks
        if notifiers.note_failure not in callbacks(task, "failure")
    ]

    assert silent == []
    assert {name: [type(one) for one in listed(dag.on_failure_callback)] for name, dag in dags.items()} == {
        "flight_anomalies": [notifiers.RunFailed],
        "fetch_bronze": [notifiers.RunFailed],
        "retention": [notifiers.RunFailed],
    }


def callbacks(task: Any, kind: str) -> list[Any]:
    return listed(getattr(task, f"on_{kind}_callback"))


def listed(found: Any) -> list[Any]:
    return list(found) if isinstance(found, list | tuple) else [found] if found else []
