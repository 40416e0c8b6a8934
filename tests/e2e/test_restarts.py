"""A container that restarts during a run of the DAG: the run succeeds without help, and no row is lost or doubled.

`make test-restarts` runs these; each waits for the retries of Airflow, which take minutes.
"""

from __future__ import annotations

import subprocess
import time

import pytest

from tests.e2e.installation import TIMEOUT_S, Installation, end_of, is_running, results, trigger
from tests.servers.startup import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def undisturbed(stack: Installation) -> dict[str, str]:
    """The rows of a run without a restart."""
    trigger(stack, "undisturbed")
    assert end_of(stack, "undisturbed") == "success"
    return results(stack)


@pytest.mark.parametrize(
    ("service", "task"),
    [
        ("airflow-scheduler", "detect"),  # the restart kills the tasks too
        ("airflow-apiserver", "silver"),
        ("postgres", "gold"),
        ("postgres", "upsert"),
    ],
)
def test_a_run_survives_the_restart_of_a_container(
    stack: Installation, undisturbed: dict[str, str], service: str, task: str
) -> None:
    run = f"restart-{service}-{task}"
    trigger(stack, run)
    wait_until(lambda: is_running(stack, run, task), f"{task} has started", TIMEOUT_S)

    stack.compose("restart", service)

    stack.compose("up", "--detach", "--wait", "--no-recreate", "--no-deps", "postgres", "airflow-scheduler")
    assert end_of(stack, run) == "success"
    assert results(stack) == undisturbed


def test_a_run_survives_an_object_store_that_does_not_answer_for_30_seconds(
    stack: Installation, undisturbed: dict[str, str]
) -> None:
    run, store = "silent-store", stack.containers()["s3"].id
    trigger(stack, run)
    wait_until(lambda: is_running(stack, run, "silver"), "silver has started", TIMEOUT_S)

    subprocess.run(["docker", "pause", store], check=True, capture_output=True)
    time.sleep(30)
    subprocess.run(["docker", "unpause", store], check=True, capture_output=True)

    assert end_of(stack, run) == "success"
    assert results(stack) == undisturbed
