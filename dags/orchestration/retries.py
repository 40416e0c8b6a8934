"""The retry policy that the DAGs share. Holds no DAG."""

from __future__ import annotations

from typing import Any

from airflow import sdk

from utils.errors import Busy, DelaywatchError, Unavailable


class RetryWhatMayPass(sdk.RetryPolicy):
    """Retry `Unavailable`, `Busy` and every error that is not ours; fail at once on what a person must correct."""

    def evaluate(self, exception: BaseException, *_: Any, **__: Any) -> sdk.RetryDecision:  # noqa: D102
        if isinstance(exception, DelaywatchError) and not isinstance(exception, Unavailable | Busy):
            return sdk.RetryDecision.fail("A person must correct this first.")
        return sdk.RetryDecision.default()
