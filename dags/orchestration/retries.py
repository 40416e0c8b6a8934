"""Which faults of a task are tried again: the retry policy that the DAGs share. Holds no DAG."""

from __future__ import annotations

from typing import Any

from airflow import sdk

from utils.errors import DelaywatchError


class RetryWhatMayPass(sdk.RetryPolicy):
    """A DelaywatchError is final unless system, memory, network, Postgres or S3 caused it; all else may pass."""

    def evaluate(self, exception: BaseException, *_: Any, **__: Any) -> sdk.RetryDecision:  # noqa: D102
        cause = type(exception.__cause__)
        may_pass = issubclass(cause, (OSError, MemoryError)) or cause.__module__.startswith(("psycopg2", "botocore"))
        is_final = isinstance(exception, DelaywatchError) and not may_pass
        return sdk.RetryDecision.fail("A person must mend this first.") if is_final else sdk.RetryDecision.default()
