"""Three sigma: a day is abnormal if its mean delay is far above the airport's mean of the year."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pydantic import Field

from utils.detectors.shared import parameters
from utils.detectors.shared.baseline import History
from utils.detectors.shared.verdicts import Band, calendar, usable

METRIC = "mean_dep_delay_min"


class Parameters(parameters.Parameters):
    """Parameters of `detect`."""

    threshold: float = Field(3.0, ge=0.1, le=100.0, description="standard deviations from the airport's mean: mild")
    late_only: bool = Field(True, description="false: days far below the mean are flagged too")
    min_flights: parameters.MinFlights = 5
    min_days: parameters.MinDays = 28
    past_only: parameters.PastOnly = False


def detect(days: pd.DataFrame, params: Parameters) -> pd.DataFrame:
    """Judge each day by z = (mean delay - mean of the year) / standard deviation of the year, both of its airport.

    The rule is Shewhart's (1931). With `late_only` the score is z and only late days are flagged; without it the score
    is |z| and days on both sides are flagged. A day is mild from `threshold` on, strong one deviation further and
    extreme two further; `lower` and `upper` are the mean -/+ `threshold` deviations, in minutes. Days with fewer than
    `min_flights` scheduled flights are neither judged nor used for fitting; airports with fewer than `min_days` such
    days are not judged. `is_excluded` days are judged and not used for mean and deviation. With `past_only` both are
    those of the days before, so that later days cannot change a verdict.
    """
    grid = calendar(days)
    known = usable(grid, METRIC, params.min_flights)
    delay = np.where(known & ~grid.excluded(), grid.numbers(METRIC), np.nan)
    history = History(params.past_only)
    count, mean = history.total(np.isfinite(delay)), np.nan_to_num(history.mean(delay))
    squares = history.total(np.nan_to_num(delay) ** 2) - count * mean**2
    sigma = np.sqrt(np.maximum(squares, 0.0) / np.maximum(count - 1, 1))
    levels = params.threshold, params.threshold + 1, params.threshold + 2
    band = Band(mean, sigma, sigma, known & (count >= params.min_days))
    return band.verdicts(grid, METRIC, levels, params.late_only)
