"""The retry policy of every task in every DAG. Contains no DAG."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow import sdk

from orchestration import notifiers
from utils.errors import Busy, DelaywatchError, Unavailable


class RetryWhatMayPass(sdk.RetryPolicy):
    """Retry after `Unavailable`, `Busy` and exceptions that are not ours; fail at once after other DelaywatchErrors."""

    def evaluate(self, exception: BaseException, *_: Any, **__: Any) -> sdk.RetryDecision:  # noqa: D102
        if isinstance(exception, DelaywatchError) and not isinstance(exception, Unavailable | Busy):
            return sdk.RetryDecision.fail("A person must correct this first.")
        return sdk.RetryDecision.default()


DEFAULT_ARGS: dict[str, Any] = {
    "retries": 3,
    "retry_delay": timedelta(minutes=10),
    "retry_policy": RetryWhatMayPass(),
    "on_failure_callback": notifiers.note_failure,
}
