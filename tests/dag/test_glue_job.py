"""The task `silver` with DELAYWATCH_SILVER_JOB: a run of a Glue job, on moto or on a local stand-in for Glue's API."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from tests.dag.conftest import context_of
from tests.servers.glue import RUN_ID, Glue, glue
from tests.servers.keys import KEYS
from tests.servers.startup import wait_until
from tests.steps import YEAR
from utils.errors import Busy, DelaywatchError, InvalidInput, Missing, Unavailable
from utils.storage import keys

JOB = "delaywatch-silver"
REGION = "eu-west-1"
ARGUMENTS = {"--year": str(YEAR), "--lake": "s3://flights/lake"}
Dag = Callable[[], Any]


class Store(dict[str, str]):
    """Airflow's store of a task's state, which stays from try to try."""

    def set(self, key: str, value: str) -> None:
        self[key] = value


def connect(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Let Airflow's connection aws_default lead to `url`."""
    extra = {"region_name": REGION, "endpoint_url": url}
    connection = {"conn_type": "aws", "login": "test", "password": "test", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    monkeypatch.setenv("DELAYWATCH_LAKE", "s3://flights/lake")
    monkeypatch.setenv("DELAYWATCH_SILVER_JOB", JOB)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Glue]:
    with glue() as served:
        connect(monkeypatch, served.url)
        yield served


@pytest.fixture
def silver(stand_in: Glue, read_dags: Dag, monkeypatch: pytest.MonkeyPatch) -> Any:
    from airflow.sdk.bases.operator import ExecutorSafeguard

    monkeypatch.setattr(ExecutorSafeguard, "test_mode", True)  # Airflow forbids to call an operator without its runner
    task = read_dags()["flight_anomalies"].get_task("silver")
    task.job_poll_interval = 0.01
    return task


def only_silver(read_dags: Dag) -> Any:
    """Return a DAG with the task alone, to run it by Airflow."""
    return read_dags()["flight_anomalies"].partial_subset("silver", include_downstream=False, include_upstream=False)


def execute(task: Any, store: Store | None = None) -> Any:
    """Run a try of the task."""
    pushed: dict[str, Any] = {}
    instance = SimpleNamespace(stats_tags={}, try_number=1, xcom_push=lambda key, value: pushed.update({key: value}))
    context = context_of("manual", YEAR) | {"ti": instance, "task_state_store": Store() if store is None else store}
    return task.execute(context)


def raised(task: Any, store: Store | None = None) -> DelaywatchError:
    with pytest.raises(DelaywatchError) as caught:
        execute(task, store)
    return caught.value


# --- the DAG ----------------------------------------------------------------------------------------------------------


def test_the_steps_are_in_the_same_order_with_and_without_a_job(
    dag: Any, read_dags: Dag, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELAYWATCH_SILVER_JOB", JOB)
    with_job = read_dags()["flight_anomalies"]

    for task in dag.tasks:
        same = with_job.get_task(task.task_id)
        assert (same.upstream_task_ids, same.downstream_task_ids) == (task.upstream_task_ids, task.downstream_task_ids)
        assert (same.retries, type(same.retry_policy)) == (task.retries, type(task.retry_policy))
        assert same.execution_timeout == task.execution_timeout
    assert type(with_job.get_task("silver")).__name__ == "SilverJob"
    assert type(dag.get_task("silver")).__name__ != "SilverJob"


# --- moto -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def moto_glue(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    connect(monkeypatch, moto_url)
    return boto3.client("glue", endpoint_url=moto_url, region_name=REGION, **KEYS)


def test_by_airflow_the_task_starts_a_run_on_moto_waits_for_its_end_and_links_to_it(
    moto_glue: Any, read_dags: Dag
) -> None:
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    moto_glue.create_job(Name=JOB, Role="role", Command={"Name": "glueetl"})
    dag = only_silver(read_dags)
    dag.get_task("silver").job_poll_interval = 0.01

    run = dag.test(run_conf={"year": YEAR})

    (started,) = moto_glue.get_job_runs(JobName=JOB)["JobRuns"]
    assert (started["JobRunState"], started["Arguments"]) == ("SUCCEEDED", ARGUMENTS)
    assert {str(task.state) for task in run.get_task_instances() if task.task_id == "silver"} == {"success"}
    with create_session() as session:
        rows = session.query(XComModel).filter(XComModel.run_id == run.run_id, XComModel.task_id == "silver").all()
        xcoms = {row.key: XComModel.deserialize_value(row) for row in rows}
    assert xcoms["return_value"] == keys.manifest_key(YEAR)
    link = xcoms["glue_job_run_details"]
    assert (link["job_name"], link["job_run_id"]) == (JOB, started["Id"])


def test_a_job_that_does_not_exist_on_moto_is_missing_and_not_created(
    moto_glue: Any, read_dags: Dag, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.bases.operator import ExecutorSafeguard

    monkeypatch.setattr(ExecutorSafeguard, "test_mode", True)
    monkeypatch.setenv("DELAYWATCH_SILVER_JOB", "no-such-job")

    error = raised(read_dags()["flight_anomalies"].get_task("silver"))

    assert isinstance(error, Missing)
    assert "no-such-job" in str(error)
    assert "no-such-job" not in moto_glue.list_jobs()["JobNames"]


# --- the stand-in: states over time, errors, stops --------------------------------------------------------------------


def test_on_the_stand_in_the_task_calls_only_get_job_start_job_run_and_get_job_run(stand_in: Glue, silver: Any) -> None:
    stand_in.states = ["STARTING", "RUNNING", "SUCCEEDED"]

    assert execute(silver) == keys.manifest_key(YEAR)
    assert stand_in.operations == ["GetJob", "StartJobRun", "GetJobRun", "GetJobRun", "GetJobRun"]
    assert stand_in.calls[1] == ("StartJobRun", {"JobName": JOB, "Arguments": ARGUMENTS})


@pytest.mark.parametrize(
    ("state", "message", "kind", "named"),
    [
        (
            "FAILED",
            "Error Category: UNCLASSIFIED_ERROR; Failed Line Number: 31; InvalidInput: 01_bronze/2015.csv has no column"
            " FL_DATE; add it.",
            InvalidInput,
            "01_bronze/2015.csv",
        ),
        ("FAILED", "Missing: 01_bronze/2015.csv is not in s3://flights/lake; load it.", Missing, "01_bronze/2015.csv"),
        ("FAILED", "utils.errors.Unavailable: S3 does not answer; run the step again.", Unavailable, "S3 does not"),
        ("FAILED", "Busy: 2015 is being written by another run; wait.", Busy, "2015 is being written"),
        ("FAILED", "Command failed with exit code 10", Unavailable, "exit code 10"),
        ("FAILED", "", Unavailable, RUN_ID),
        ("ERROR", "Internal service error", Unavailable, "Internal service error"),
        ("EXPIRED", "", Unavailable, "EXPIRED"),
        ("TIMEOUT", "Job run exceeded its timeout", InvalidInput, "60 minutes"),
        ("STOPPED", "", InvalidInput, RUN_ID),
    ],
)
def test_a_run_that_ends_badly_on_the_stand_in_is_an_error_of_the_kind_that_decides_about_another_try(
    stand_in: Glue, silver: Any, state: str, message: str, kind: type[DelaywatchError], named: str
) -> None:
    stand_in.states, stand_in.run = ["RUNNING", state], {"ErrorMessage": message}

    error = raised(silver)

    assert type(error) is kind
    assert named in str(error)
    assert JOB in str(error)


@pytest.mark.parametrize(("kind", "starts"), [("InvalidInput", 1), ("Unavailable", 4)])
def test_airflow_starts_a_run_on_the_stand_in_again_only_if_the_fault_may_pass(
    stand_in: Glue, read_dags: Dag, kind: str, starts: int
) -> None:
    stand_in.states, stand_in.run = ["FAILED"], {"ErrorMessage": f"{kind}: 2015.csv is empty; load it again."}
    dag = only_silver(read_dags)
    silver = dag.get_task("silver")
    silver.retry_delay, silver.retry_exponential_backoff = timedelta(0), 0

    run = dag.test(run_conf={"year": YEAR})

    assert {str(task.state) for task in run.get_task_instances() if task.task_id == "silver"} == {"failed"}
    assert stand_in.operations.count("StartJobRun") == starts


@pytest.mark.parametrize(
    ("operation", "code", "kind", "named"),
    [
        ("GetJob", "EntityNotFoundException", Missing, f"{JOB} does not exist in {REGION}"),
        ("GetJob", "AccessDeniedException", InvalidInput, f"glue:GetJob on the Glue job {JOB}"),
        ("StartJobRun", "AccessDeniedException", InvalidInput, f"glue:StartJobRun on the Glue job {JOB}"),
        ("GetJobRun", "AccessDeniedException", InvalidInput, f"glue:GetJobRun on the Glue job {JOB}"),
        ("StartJobRun", "ConcurrentRunsExceededException", Busy, f"{JOB} already has as many runs"),
        ("StartJobRun", "ResourceNumberLimitExceededException", Busy, f"job {JOB} in this account (because)"),
        ("StartJobRun", "InvalidInputException", InvalidInput, f"job {JOB} (because)"),
        ("GetJob", "ExpiredTokenException", InvalidInput, "connection aws_default"),
        ("StartJobRun", "OperationTimeoutException", Unavailable, f"job {JOB} (OperationTimeoutException: because)"),
    ],
)
def test_an_error_of_the_api_on_the_stand_in_names_its_place_and_creates_nothing(
    stand_in: Glue, silver: Any, operation: str, code: str, kind: type[DelaywatchError], named: str
) -> None:
    stand_in.errors[operation] = (code, "because")

    error = raised(silver)

    assert type(error) is kind
    assert named in str(error)
    assert set(stand_in.operations) <= {"GetJob", "StartJobRun", "GetJobRun"}


def test_glue_that_does_not_answer_is_unavailable(silver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "http://127.0.0.1:1")

    assert isinstance(raised(silver), Unavailable)


def test_a_lake_in_a_folder_is_refused_before_a_run_starts(
    stand_in: Glue, silver: Any, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = raised(silver)

    assert isinstance(error, InvalidInput)
    assert lake.as_uri() in str(error)
    assert stand_in.calls == []


def test_on_the_stand_in_a_killed_task_stops_its_run(stand_in: Glue, silver: Any) -> None:
    stand_in.states = ["RUNNING"]
    errors: list[DelaywatchError] = []
    trying = threading.Thread(target=lambda: errors.append(raised(silver)))
    trying.start()
    wait_until(lambda: "GetJobRun" in stand_in.operations, "the task waits for its run")

    silver.on_kill()
    trying.join(timeout=30)

    assert ("BatchStopJobRun", {"JobName": JOB, "JobRunIds": [RUN_ID]}) in stand_in.calls
    assert [type(error) for error in errors] == [InvalidInput]


@pytest.mark.parametrize(
    ("states", "starts"),
    [
        (["RUNNING", "SUCCEEDED"], False),
        (["SUCCEEDED"], True),
        (["STOPPING", "SUCCEEDED"], True),
        (["FAILED", "SUCCEEDED"], True),
    ],
)
def test_on_the_stand_in_another_try_waits_for_the_run_of_the_try_before_only_if_it_is_active(
    stand_in: Glue, silver: Any, states: list[str], *, starts: bool
) -> None:
    stand_in.states = states

    execute(silver, Store(glue_job_run_id="jr_0"))

    assert ("StartJobRun" in stand_in.operations) == starts


def test_on_the_stand_in_a_task_that_succeeded_starts_a_new_run_when_it_is_cleared(stand_in: Glue, silver: Any) -> None:
    store = Store()

    for _ in range(2):
        execute(silver, store)

    assert stand_in.operations.count("StartJobRun") == 2
