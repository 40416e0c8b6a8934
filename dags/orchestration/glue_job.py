"""The task `silver` as a run of the Glue job in DELAYWATCH_SILVER_JOB. Contains no DAG.

infra-notes/spark.md describes the job. Amazon's operator starts the run, stores its ID so that another try waits for
the same run, stops it when the task is killed, and links to it. It would also create a job that does not exist, report
every failure as the same error, wait forever for a run that ends as ERROR or EXPIRED, and take a run that succeeded
earlier as the result of a cleared task; the classes here do not.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from airflow.providers.amazon.aws.hooks.glue import GlueJobHook
from airflow.providers.amazon.aws.operators.glue import JOB_RUN_TERMINAL_STATES, NOT_FOUND_STATE, GlueJobOperator
from botocore.exceptions import BotoCoreError, ClientError, NoRegionError

from utils.errors import Busy, DelaywatchError, InvalidInput, Missing, Unavailable
from utils.settings import Settings
from utils.storage import keys

POLL_S = 15.0
# Glue wraps the script's last exception: "Error Category: ...; Failed Line Number: 31; InvalidInput: 2013.csv has ...".
OWN_ERROR = re.compile(r"\b(InvalidInput|Missing|Unavailable|Busy): (.+)", re.DOTALL)
KINDS = {kind.__name__: kind for kind in (InvalidInput, Missing, Unavailable, Busy)}

Fault = tuple[type[DelaywatchError], str]  # `_error` fills in the names in braces

_CREDENTIALS: Fault = (
    InvalidInput,
    "Glue rejects the credentials of Airflow ({code}); correct the connection aws_default or AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, or the role of this machine.",
)
_UNKNOWN: Fault = (
    Unavailable,
    "Glue failed in {operation} of the job {job} ({code}: {reason}); look up the code in Glue's manual and clear the "
    "task to try again.",
)
FAULTS: dict[str, Fault] = {
    "EntityNotFoundException": (
        Missing,
        "The Glue job {job} does not exist in {region} ({reason}); create it with SPARK=yes make aws-up, or correct "
        "DELAYWATCH_SILVER_JOB.",
    ),
    "AccessDeniedException": (
        InvalidInput,
        "Airflow may not call glue:{operation} on the Glue job {job}; add this right to its role or user, as in "
        "infra-notes/cloudformation/spark.yaml.",
    ),
    "ConcurrentRunsExceededException": (
        Busy,
        "The Glue job {job} already has as many runs as it may have at once; wait until one ends, or raise "
        "MaxConcurrentRuns of the job.",
    ),
    "ResourceNumberLimitExceededException": (
        Busy,
        "Glue has no capacity left for the job {job} in this account ({reason}); wait until other runs end, or ask AWS "
        "for a higher quota.",
    ),
    "InvalidInputException": (
        InvalidInput,
        "Glue refuses to run the job {job} ({reason}); correct the definition of the job.",
    ),
    "UnrecognizedClientException": _CREDENTIALS,
    "InvalidSignatureException": _CREDENTIALS,
    "ExpiredTokenException": _CREDENTIALS,
}


class _Jobs(GlueJobHook):
    """Glue's API, without the right to create or change a job."""

    def get_or_create_glue_job(self) -> str:
        """Return the name of the job. Raises ClientError if it does not exist."""
        self.conn.get_job(JobName=self.job_name)
        return str(self.job_name)


class SilverJob(GlueJobOperator):
    """Start a run of the Glue job for the year, wait for its end, and return the key of the year's manifest.

    run: returns settings and year of a context. Raises InvalidInput or Missing if a person must correct something
    first, Unavailable or Busy if another try may succeed.
    """

    aws_hook_class = _Jobs

    def __init__(self, *, run: Callable[[Any], tuple[Settings, int]], **kwargs: Any) -> None:  # noqa: D107
        super().__init__(stop_job_run_on_kill=True, job_poll_interval=POLL_S, deferrable=False, **kwargs)
        self._run = run

    def execute(self, context: Any) -> str:
        """Run the job with --year and --lake."""
        settings, year = self._run(context)
        if not settings.lake.startswith("s3://"):
            raise InvalidInput(
                f"The Glue job {self.job_name} cannot read the lake {settings.lake}; set DELAYWATCH_LAKE to a bucket, "
                "or leave DELAYWATCH_SILVER_JOB empty."
            )
        self.script_args = {"--year": str(year), "--lake": settings.lake}
        with self._own_errors():
            super().execute(context)
        return keys.manifest_key(year)

    def is_job_active(self, status: str) -> bool:
        """Return True if another try should wait for this run; a run that is being stopped will not succeed."""
        return status != "STOPPING" and super().is_job_active(status)

    def get_job_status(self, external_id: Any, context: Any) -> str:
        """Return the state of an earlier run if it is active, else NOT_FOUND_STATE, so that this try starts a new run.

        The CSV may have changed since the earlier run, so its success is not the result of this try.
        """
        state = str(super().get_job_status(external_id, context))
        return state if self.is_job_active(state) else NOT_FOUND_STATE

    def poll_until_complete(self, external_id: Any, context: Any) -> None:
        """Wait for the end of the run; raise an error if it did not succeed."""
        run_id = str(external_id)
        self._set_job_run_id(context, run_id)
        while (state := self.hook.get_job_state(self.job_name, run_id)) not in JOB_RUN_TERMINAL_STATES:
            self.log.info("Run %s of the Glue job %s is %s.", run_id, self.job_name, state)
            time.sleep(self.job_poll_interval)
        if not self.is_job_succeeded(state):
            raise run_error(self.hook.conn.get_job_run(JobName=self.job_name, RunId=run_id)["JobRun"])

    @contextmanager
    def _own_errors(self) -> Iterator[None]:
        """Convert errors of Glue's API to the errors in FAULTS."""
        try:
            yield
        except NoRegionError as error:
            raise InvalidInput(
                f"The region of the Glue job {self.job_name} is not set; set AWS_DEFAULT_REGION, or region_name in the "
                "extra of the connection aws_default."
            ) from error
        except ClientError as error:
            answer = error.response["Error"]
            kind, message = FAULTS.get(answer["Code"], _UNKNOWN)
            text = message.format(
                job=self.job_name,
                operation=error.operation_name,
                code=answer["Code"],
                reason=answer.get("Message", "").rstrip(".") or "without a reason",
                region=self.hook.conn_region_name,
            )
            raise kind(text) from error
        except BotoCoreError as error:
            raise Unavailable(
                f"Glue does not answer about the job {self.job_name} ({error}); check the network and the credentials "
                "of this machine, then clear the task to try again. A run that has started goes on."
            ) from error


def run_error(run: dict[str, Any]) -> DelaywatchError:
    """Return the script's error, or else an error for the state of the run. Never raises.

    run: `JobRun` of Glue's API, which ended without success.
    """
    job, state, reason = run["JobName"], run["JobRunState"], run.get("ErrorMessage", "").strip()
    name = f"run {run['Id']} of the Glue job {job}"
    if own := OWN_ERROR.search(reason):
        return KINDS[own[1]](f"{own[2].strip()} ({name})")
    if state == "STOPPED":
        return InvalidInput(f"A person or a program stopped {name}; clear the task to start a new run.")
    if state == "TIMEOUT":
        return InvalidInput(
            f"The {run.get('Timeout')} minutes of its timeout were too short for {name}; raise Timeout or "
            "NumberOfWorkers of the job, then clear the task."
        )
    return Unavailable(
        f"The {name} ended as {state} ({reason.rstrip('.') or 'Glue gives no reason'}); read its log, to which the "
        "page of the task links, and clear the task to try again."
    )
