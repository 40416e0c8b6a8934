"""The band of `arima`: its coverage on simulated series, and gaps. test_verdict_columns.py has the model."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from tests.builders import days_of_delays, run_detector

Delays = npt.NDArray[np.float64]  # minutes, days × airports


def simulated(ar: float, ma: float, d: int, airports: int, n_days: int = 365) -> Delays:
    """ARIMA(1, d, 1) with Gaussian shocks of 10 minutes around 15 minutes."""
    shocks = np.random.default_rng(1).normal(0, 10, (n_days + 50, airports))
    values = np.zeros_like(shocks)
    for day in range(1, len(shocks)):
        values[day] = ar * values[day - 1] + shocks[day] + ma * shocks[day - 1]
    return 15 + (values.cumsum(axis=0) if d else values)[50:]


def share_outside(verdicts: pd.DataFrame) -> float:
    scored = verdicts[verdicts["status"] == "ok"]
    return float(((scored["observed"] > scored["upper"]) | (scored["observed"] < scored["lower"])).mean())


@pytest.mark.parametrize(("ar", "ma", "d"), [(0.8, -0.5, 0), (0, -0.8, 1)])
def test_the_band_contains_the_requested_share_of_days_also_at_the_start_and_with_missing_days(
    ar: float, ma: float, d: int
) -> None:
    delays = simulated(ar, ma, d, airports=20)
    delays[np.random.default_rng(2).random(delays.shape) < 0.1] = np.nan

    verdicts = run_detector("arima", days_of_delays(delays), level=0.9)

    assert share_outside(verdicts) == pytest.approx(0.1, abs=0.02)
    assert share_outside(verdicts[verdicts["fl_date"] < date(2015, 2, 1)]) == pytest.approx(0.1, abs=0.04)


@pytest.mark.parametrize("kind", ["excluded", "without a value", "without a row"])
def test_a_gap_keeps_its_place_and_widens_the_band_of_the_day_after_it(kind: str) -> None:
    days = days_of_delays(simulated(0, 0, 1, airports=1))
    is_gap = days.index.isin(range(200, 230))
    match kind:
        case "excluded":
            days["is_excluded"] = is_gap
        case "without a value":
            days.loc[is_gap, "mean_dep_delay_min"] = np.nan
        case "without a row":
            days = days[~is_gap]

    verdicts = run_detector("arima", days).set_index("fl_date")

    width = verdicts["upper"] - verdicts["lower"]
    before, first, second = (width[date(2015, 1, 1) + timedelta(days=number)] for number in (199, 230, 231))
    assert first > 3 * before
    assert second < 1.5 * before


@pytest.mark.parametrize("max_d", [0, 1])
def test_a_growth_is_not_continued_through_a_long_gap(max_d: int) -> None:
    delays = np.full((200, 1), np.nan)
    delays[:60, 0] = 5 * 1.08 ** np.arange(60)
    delays[150:, 0] = delays[59, 0]

    after = run_detector("arima", days_of_delays(delays), max_d=max_d, shrink_days=0.1).loc[150]

    assert after["expected"] < 1.01 * np.nanmax(delays)
    assert after["upper"] - after["expected"] < 2 * np.nanmax(delays)
