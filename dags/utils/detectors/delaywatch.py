"""Delaywatch, the published detector: lateness and disruption of a day beyond its seasonal baseline and chance.

A day has three z-scores: of its effective delay, of its cancelled share and of the mean delay of the flights that
departed. The z of the day is their weighted mean (`delay_weight`, `cancelled_weight`, `mean_weight`), without the mean
delay if no flight departed. A mean delay below its expectation counts as z = 0, because few and punctual departures
must not hide a closure. The series are transformed so that their spread does not depend on their level: sqrt(delay +
12) and arcsin sqrt((k + 3/8) / (n + 3/4)) of k cancelled among n flights (Anscombe 1948). On that scale

    z = (observed - expected) / sqrt(spread² + noise²)

    expected   the season (the median of the surrounding `season_days` with weight `season_weight`, the median of the
               year with the rest), plus the weekday effect (the airport's, shrunk towards the national one by
               `weekday_weeks` weeks), plus the national effect of holidays and of the days around them (shrunk towards
               0 by `holiday_days` days). If the median residual of the last `shift_days` is large, the level has
               shifted and the baseline follows it: only the first weeks of a new level are abnormal. See
               `shared/baseline.py`.
    noise²     the sampling variance of a mean of n flights: s² / n by the delta method, with the day's s² shrunk
               towards the airport's by `noise_flights` flights, and 1 / (4n + 2) for the share. So a hub and an
               airport with six flights a day are on the same scale, and one ten-hour delay at the latter is no event.
    spread²    the variance between the airport's days beyond the noise, by the method of moments, shrunk towards the
               network's by `spread_days` days (empirical Bayes with a fixed weight) and at least the square of
               `least_spread_*`, which avoids flags for a few minutes at a steady airport. A late day has the weight
               LATE_WEIGHT, and every residual is clipped to SPREAD_CLIP spreads.

The score is the return period of z in days, `return_period_days`: the airport reaches z once in that many days.

A reader sees another expectation than the score uses: the median of the season's days without a flag, and the range of
nine tenths of them (see `detect`). The score must not follow a bad season that closely, or its days would be usual.

Beside the score, one rule looks at the day alone: if at least `cancelled_share` of at least `cancelled_flights`
scheduled flights were cancelled, the day is at least mild. Such a day is abnormal for every reader, even if the airport
had many of them or has too little history for a score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from utils.detectors.shared import parameters
from utils.detectors.shared.baseline import Baseline, History, over_airports
from utils.detectors.shared.verdicts import Calendar, Flags, Floats, calendar, severities, usable, verdicts

METRIC = "mean_effective_delay_min"
DELAY_SHIFT_MIN = 12.0  # effective delays average above -12 minutes with rare exceptions, so the square root exists
# Residuals are clipped to this many spreads, so that a month without service does not mask all later days.
SPREAD_CLIP = 8.0
LATE_WEIGHT = 2.0  # weight in the spread of a day that is later than expected: airports differ most there
# Return period of z, fitted on the real tuning sets of docs/delaywatch.md: 1 of TAIL_DAYS days reaches TAIL_Z; above it
# an exponential tail (Pickands 1975 with shape 0), below it a logistic curve.
TAIL_Z, TAIL_DAYS, TAIL_SCALE = 1.85, 38.0, 0.8
BODY_SLOPE = 1.65
# What a reader sees: `lower`, `expected` and `upper` are these quantiles of the surrounding days.
USUAL_DAYS, USUAL_SHARES = 61, (0.05, 0.5, 0.95)


class Parameters(parameters.Parameters):
    """Parameters of `detect` and `expectations`."""

    levels: parameters.Levels[Annotated[float, Field(ge=1.01, le=1e9)]] = Field(
        (60.0, 180.0, 500.0), description="return periods in days at which a day is mild, strong and extreme"
    )
    min_flights: int = Field(5, ge=2, le=1_000, description="fewest scheduled flights of a day that is scored")
    min_days: int = Field(28, ge=2, le=366, description="fewest days for fitting in the history of a scored day")
    season_days: int = Field(91, ge=7, le=365, description="window of the seasonal median, in days")
    season_weight: float = Field(
        0.2, ge=0.0, le=1.0, description="weight of the seasonal median; the year's has the rest"
    )
    weekday_weeks: float = Field(
        300.0, ge=0.1, le=1_000.0, description="weight of the national weekday effect, in weeks"
    )
    holiday_days: float = Field(
        300.0, ge=0.1, le=1_000.0, description="weight of no holiday effect, in days of one kind of holiday"
    )
    shift_days: int = Field(35, ge=7, le=183, description="window for a new level, followed after half the window")
    noise_flights: float = Field(
        5.0,
        ge=0.1,
        le=1_000.0,
        description="weight of the airport's usual variance among flights, in flights",
    )
    spread_days: float = Field(20.0, ge=0.0, le=10_000.0, description="weight of the network's spread of days, in days")
    least_spread_delay: float = Field(
        0.3, ge=0.001, le=10.0, description="lowest spread of sqrt(delay + 12 min), of both delays"
    )
    least_spread_share: float = Field(
        0.08, ge=0.001, le=1.0, description="lowest spread of arcsin sqrt(cancelled share)"
    )
    delay_weight: float = Field(0.6, ge=0.01, le=1.0, description="weight of the effective delay's z-score")
    cancelled_weight: float = Field(0.2, ge=0.0, le=1.0, description="weight of the cancelled share's z-score")
    mean_weight: float = Field(0.2, ge=0.0, le=1.0, description="weight of the mean delay's z-score")
    cancelled_share: float = Field(
        0.25, ge=0.01, le=1.0, description="cancelled share of the schedule from which a day is at least mild"
    )
    cancelled_flights: int = Field(
        20, ge=2, le=10_000, description="fewest scheduled flights of a day that `cancelled_share` makes mild"
    )
    closure_share: float = Field(
        0.45, ge=0.01, le=1.0, description="cancelled share of the schedule at which a flagged day is a closure"
    )
    past_only: bool = Field(False, description="true: score from earlier days only, for alerts")


def detect(days: pd.DataFrame, params: Parameters) -> pd.DataFrame:
    """Judge each day by the weighted z-score of its effective delay, cancelled share and mean delay.

    `levels` are the scores from which a day is mild, strong and extreme. Only lateness is abnormal. A flagged day is a
    `closure` if at least `closure_share` of its schedule was cancelled; the default is a little less than half, because
    an airport that closes at noon still flies in the morning.

    `expected`, `lower` and `upper` are minutes of effective delay: the 50%, 5% and 95% quantiles of the airport's days
    without a flag, among the USUAL_DAYS around the day (with `past_only`: before it), corrected for the weekday. They
    follow the season and change no score; a day outside is not abnormal for that reason alone.

    Days with fewer than `min_flights` scheduled flights are neither judged nor used for fitting, excluded days are not
    used for fitting, and a day whose history has fewer than `min_days` days for fitting has no score. The history is
    the whole year, or with `past_only` the days before, so that later days cannot change a score.

    A day with many cancelled flights is at least mild whatever its score (see `cancelled_share`). If it has no score,
    it is flagged without one: its status is `ok` and its other figures are missing.
    """
    series = _series(days, params.min_flights)
    history = History(params.past_only)
    with np.errstate(invalid="ignore", divide="ignore"):  # days without history give 0 / 0; they are not judged
        score, severity = _scores(series, history, params)
        usual = _usual(series.delay, USUAL_SHARES, severity, series, history, params)
    is_scored = np.isfinite(score)
    lower, expected, upper = (np.where(is_scored, _minutes(delay), np.nan) for delay in usual)
    is_closed = series.grid.numbers("cancelled") >= params.closure_share * series.flights
    return verdicts(
        series.grid,
        metric=METRIC,
        judged=is_scored | (severity > 0),
        expected=expected,
        lower=lower,
        upper=upper,
        score=score,
        severity=severity,
        direction=np.where(is_closed, "closure", "late"),
    )


def expectations(days: pd.DataFrame, params: Parameters) -> pd.DataFrame:
    """Return the expected effective delay and disrupted share, in their own units and with the index of `days`.

    `expected_effective_delay_min` is `expected` of `detect`, in minutes; `expected_disrupted_share` is computed in the
    same way, from 0 to 1. Both are NaN on days without a score.
    """
    series = _series(days, params.min_flights)
    history = History(params.past_only)
    with np.errstate(invalid="ignore", divide="ignore"):
        score, severity = _scores(series, history, params)
        (delay,), (share,) = (
            _usual(scale, [0.5], severity, series, history, params) for scale in (series.delay, series.disrupted)
        )
    disrupted = np.sin(np.clip(share, 0.0, np.pi / 2)) ** 2 * (series.flights + 0.75) - 0.375
    columns = {
        "expected_effective_delay_min": _minutes(delay),
        "expected_disrupted_share": np.clip(disrupted / series.flights, 0.0, 1.0),
    }
    is_scored = np.isfinite(score)
    rows = {name: series.grid.rows(np.where(is_scored, values, np.nan)) for name, values in columns.items()}
    return pd.DataFrame(rows, index=days.index)


def return_period_days(z: Floats) -> Floats:
    """Return the period in days in which an airport reaches `z` once on average. Strictly increasing from 1."""
    tail: Floats = TAIL_DAYS * np.exp(np.maximum(z - TAIL_Z, 0.0) / TAIL_SCALE)
    body = 1 + (TAIL_DAYS - 1) * np.exp(BODY_SLOPE * np.minimum(z - TAIL_Z, 0.0))
    return np.where(z > TAIL_Z, tail, body)


@dataclass(frozen=True)
class _Series:
    """The series of a year, days × airports; NaN where too few flights were scheduled."""

    grid: Calendar
    dates: pd.DatetimeIndex
    is_known: Flags
    train_mask: Flags
    flights: Floats
    delay: Floats
    mean_delay: Floats  # NaN if no flight departed
    cancelled: Floats
    disrupted: Floats

    def expected(self, scale: Floats, baseline: Baseline) -> Floats:
        return baseline.expected(np.where(self.train_mask, scale, np.nan), self.dates)


def _series(days: pd.DataFrame, min_flights: int) -> _Series:
    grid = calendar(days)
    is_known = usable(grid, METRIC, min_flights)
    flights = np.where(is_known, grid.numbers("scheduled"), np.nan)

    def delay(metric: str) -> Floats:
        return np.sqrt(np.maximum(np.where(is_known, grid.numbers(metric), np.nan) + DELAY_SHIFT_MIN, 0.0))

    def share(count: str) -> Floats:
        return np.arcsin(np.sqrt((np.minimum(grid.numbers(count), flights) + 0.375) / (flights + 0.75)))

    return _Series(
        grid,
        dates=pd.date_range(pd.to_datetime(days["fl_date"]).min(), periods=grid.shape[0]),
        is_known=is_known,
        train_mask=is_known & ~grid.excluded(),
        flights=flights,
        delay=delay(METRIC),
        mean_delay=delay("mean_dep_delay_min"),
        cancelled=share("cancelled"),
        disrupted=share("disrupted"),
    )


def _baseline(series: _Series, history: History, params: Parameters) -> Baseline:
    return Baseline(
        history,
        season_days=params.season_days,
        season_weight=params.season_weight,
        weekday_weeks=params.weekday_weeks,
        holiday_days=params.holiday_days,
        shift_days=params.shift_days,
        airports=series.grid.airports,
    )


def _scores(series: _Series, history: History, params: Parameters) -> tuple[Floats, npt.NDArray[np.int16]]:
    """Return the score, NaN on days with too few flights or too little history, and the severity of each day."""
    is_judged = series.is_known & (history.total(series.train_mask) >= params.min_days)
    score = np.where(is_judged, return_period_days(_z_scores(series, history, params)), np.nan)
    has_many_cancelled = (series.grid.numbers("cancelled") >= params.cancelled_share * series.flights) & (
        series.flights >= params.cancelled_flights
    )
    return score, np.maximum(severities(score, params.levels), has_many_cancelled)


def _usual(
    scale: Floats,
    shares: Sequence[float],
    severity: npt.NDArray[np.int16],
    series: _Series,
    history: History,
    params: Parameters,
) -> list[Floats]:
    """Return the usual values of each day, one array per share: quantiles of `scale` over the days without a flag.

    scale: a transformed series; all arrays are days × airports. Flagged days count as usual while an airport's history
    has fewer than `min_days` other days.
    """
    is_usual = series.train_mask & (severity == 0)
    is_usual |= series.train_mask & (history.total(is_usual) < params.min_days)
    baseline = _baseline(series, history, params)
    # Half of `min_days` suffices: at both ends of the year, a window has half of its days.
    return baseline.usual_range(np.where(is_usual, scale, np.nan), shares, USUAL_DAYS, params.min_days // 2)


def _z_scores(series: _Series, history: History, params: Parameters) -> Floats:
    """Return the z-score of each day, days × airports: the weighted mean of those of the three series."""
    baseline = _baseline(series, history, params)

    def deviation(error: Floats, noise: Floats, least_spread: float) -> Floats:
        train_error = np.where(series.train_mask, error, np.nan)
        variance = _spread_variance(train_error, noise, history, params.spread_days, series.grid.airports)
        return np.sqrt(np.maximum(variance, least_spread**2) + noise)

    def delay_noise(std: str, flights: Floats, expected: Floats) -> Floats:
        per_flight = _flight_variance(series, std, flights, history, params.noise_flights)
        noise: Floats = per_flight / (4 * np.maximum(flights, 1.0) * np.maximum(expected, 1.0) ** 2)
        return noise

    expected = series.expected(series.delay, baseline)
    error = series.delay - expected
    noise = delay_noise("std_effective_delay_min", series.flights, expected)
    delay_z = error / deviation(error, noise, params.least_spread_delay)

    error = series.cancelled - series.expected(series.cancelled, baseline)
    cancelled_z = error / deviation(error, 1 / (4 * series.flights + 2), params.least_spread_share)

    expected_mean = series.expected(series.mean_delay, baseline)
    error = series.mean_delay - expected_mean
    noise = delay_noise("std_dep_delay_min", series.grid.numbers("departed"), expected_mean)
    mean_z = np.maximum(error / deviation(error, noise, params.least_spread_delay), 0.0)

    mean_weight = np.where(np.isfinite(mean_z), params.mean_weight, 0.0)
    z = params.delay_weight * delay_z + params.cancelled_weight * cancelled_z + mean_weight * np.nan_to_num(mean_z)
    return np.asarray(z / (params.delay_weight + params.cancelled_weight + mean_weight))


def _minutes(delay_scale: Floats) -> Floats:
    # Rounded, because the square of a root is not exact: a day of 0 minutes would be above a limit of -2e-15.
    return np.round(np.maximum(delay_scale, 0.0) ** 2 - DELAY_SHIFT_MIN, 9) + 0.0


def _flight_variance(series: _Series, std: str, flights: Floats, history: History, prior_flights: float) -> Floats:
    """Return the variance among one day's flights, shrunk towards the airport's by `prior_flights` flights.

    std: the column with the standard deviation among `flights`.
    """
    variance = series.grid.numbers(std) ** 2
    freedom = np.where(np.isfinite(variance) & series.is_known, np.maximum(flights - 1, 0.0), 0.0)
    squares = np.where(freedom > 0, variance * freedom, 0.0)
    train_freedom = history.total(freedom * series.train_mask)
    usual = history.total(squares * series.train_mask) / np.maximum(train_freedom, 1.0)
    return (squares + prior_flights * usual) / (freedom + prior_flights)


def _spread_variance(error: Floats, noise: Floats, history: History, prior_days: float, airports: int) -> Floats:
    """Return the variance of an airport's residuals beyond their noise, shrunk towards the network's.

    prior_days: weight of the network's variance. airports: number of first columns (see `Calendar`), which the
    network's variance is computed from.
    """
    most = SPREAD_CLIP * history.spread(error)
    excess = np.minimum(np.abs(error), np.where(np.isnan(most), np.inf, most)) ** 2 - noise
    is_known = np.isfinite(excess)
    weight = np.where(error > 0, LATE_WEIGHT, 1.0) * is_known
    own = np.maximum(history.total(weight * np.nan_to_num(excess)) / history.total(weight), 0.0)
    n_days = history.total(is_known)
    weighted = np.where(n_days > 0, n_days * own, 0.0)
    network = over_airports(weighted, airports) / over_airports(n_days, airports)
    variance: Floats = (weighted + prior_days * network) / (n_days + prior_days)
    return variance
