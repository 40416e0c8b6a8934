"""What is watched and how much is kept: nothing is removed by default, and a limit that is none is named."""

from __future__ import annotations

import pytest

from utils.errors import DelaywatchError
from utils.watch_settings import WatchSettings


def test_without_any_variable_nothing_is_removed() -> None:
    assert WatchSettings.from_environment({"DELAYWATCH_KEEP_LOGS_DAYS": ""}) == WatchSettings()
    assert not WatchSettings.from_environment({}).removes_anything


@pytest.mark.parametrize("limit", ["KEEP_LOGS_DAYS", "KEEP_PLOTS_YEARS", "KEEP_SILVER_YEARS"])
def test_each_limit_alone_removes_something(limit: str) -> None:
    assert WatchSettings.from_environment({f"DELAYWATCH_{limit}": "3"}).removes_anything


@pytest.mark.parametrize("value", ["0", "-1", "ten", "1.5", "²"])
def test_a_limit_that_is_no_whole_number_from_one_on_is_refused(value: str) -> None:
    with pytest.raises(DelaywatchError, match="DELAYWATCH_KEEP_SILVER_YEARS is"):
        WatchSettings.from_environment({"DELAYWATCH_KEEP_SILVER_YEARS": value})
