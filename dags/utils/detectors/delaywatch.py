"""Delaywatch, the published verdict: a day's lateness and disruption against what season and chance can explain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from utils.detectors.verdicts import Flags, Floats, calendar, severities, usable, verdicts

METRIC = "mean_effective_delay_min"
DELAY_SHIFT_MIN = 12.0  # effective delays seldom average below -12 minutes, so the square root exists
LIMITS = {
    "levels": (0.1, 100.0),
    "min_flights": (2, 1_000),
    "min_days": (2, 366),
    "season_days": (7, 365),
    "season_weight": (0.0, 1.0),
    "weekday_weeks": (0.1, 1_000.0),
    "noise_flights": (0.1, 1_000.0),
    "spread_days": (0.0, 10_000.0),
    "least_spread_delay": (0.001, 10.0),
    "least_spread_share": (0.001, 1.0),
    "closure_share": (0.01, 1.0),
}


@dataclass(frozen=True)
class History:
    """What a day may be compared with: the whole year for a report, only the days before it for an alert."""

    past_only: bool

    def total(self, values: Floats | Flags, every: int = 1) -> Floats:
        """Sum, for each day of days × airports, over its history; with `every=7` only over the same weekday."""
        n_days, n_airports = values.shape
        periods = np.zeros((-(-n_days // every) * every, n_airports))
        periods[:n_days] = values
        periods = periods.reshape(-1, every, n_airports)
        before = periods.cumsum(axis=0) - periods if self.past_only else periods.sum(axis=0, keepdims=True)
        return np.broadcast_to(before, periods.shape).reshape(-1, n_airports)[:n_days]

    def season(self, values: Floats, window_days: int, weight: float) -> Floats:
        """`weight` parts of the median of the surrounding (or preceding) window, the rest of the whole history's."""
        frame = pd.DataFrame(values)
        if self.past_only:
            frame = frame.shift(1)
            whole = frame.expanding(min_periods=1).median()
            near = frame.rolling(window_days, min_periods=1).median().fillna(whole)
        else:
            whole = frame.median().to_frame().T
            near = frame.rolling(window_days, min_periods=1, center=True).median()
        return weight * near.to_numpy() + (1 - weight) * whole.to_numpy()


def detect(
    days: pd.DataFrame,
    *,
    levels: tuple[float, float, float] = (2.5, 3.2, 4.2),
    min_flights: int = 5,
    min_days: int = 28,
    season_days: int = 91,
    season_weight: float = 0.4,
    weekday_weeks: float = 20.0,
    noise_flights: float = 5.0,
    spread_days: float = 30.0,
    least_spread_delay: float = 0.3,
    least_spread_share: float = 0.08,
    closure_share: float = 0.45,
    past_only: bool = False,
) -> pd.DataFrame:
    """Judge each day by the mean of two z-scores: of its effective delay and of its share of disrupted flights.

    Both series are brought to a scale on which their spread does not depend on their level: sqrt(effective delay + 12)
    and arcsin sqrt((k + 3/8) / (n + 3/4)) of k disrupted among n flights (Anscombe 1948). On that scale

        z = (observed - expected) / sqrt(spread² + noise²)

    expected   the season (`season_weight` parts of the centred median of `season_days`, the rest of the year's median)
               plus the weekday's effect, the airport's own drawn towards the nation's by `weekday_weeks` weeks.
    noise²     what a mean of n flights varies by chance: s² / n by the delta method, with the day's s² drawn towards
               the airport's by `noise_flights` flights, and 1 / (4n + 2) for the share. So a hub and a field with six
               flights a day share one scale, and one ten-hour delay at the latter is no event.
    spread²    what the airport's days vary beyond that, by the method of moments, drawn towards the network's by
               `spread_days` days (empirical Bayes with a fixed weight) and never below the square of `least_spread_*`,
               so that a very steady airport is not flagged for a few minutes.

    Only lateness is abnormal. `levels` are the scores from which a day is mild, strong and extreme. A flagged day is a
    `closure` when `closure_share` of its schedule was cancelled: a little less than half, because an airport that
    closes at noon keeps its morning. `expected`, `lower` and `upper` are in minutes of effective delay; `upper` is
    what it would need to reach the mild level by itself.

    Days with fewer than `min_flights` scheduled flights are neither judged nor learnt from; a day whose history has
    fewer than `min_days` such days is not judged. With `past_only` its history is what came before it, so that later
    days cannot change a score; without it, the whole year.
    """
    history = History(past_only)
    where = calendar(days)
    known = usable(where, METRIC, min_flights)
    flights = np.where(known, where.numbers("scheduled"), np.nan)

    def expectation(scale: Floats) -> Floats:
        season = history.season(scale, season_days, season_weight)
        return season + _weekday_effect(scale - season, history, weekday_weeks)

    def spread(error: Floats, noise: Floats, least: float) -> Floats:
        return np.sqrt(np.maximum(_spread_variance(error, noise, history, spread_days), least**2))

    with np.errstate(invalid="ignore", divide="ignore"):  # a day without history divides nothing by nothing; not judged
        delay = np.sqrt(np.maximum(where.numbers(METRIC) + DELAY_SHIFT_MIN, 0.0))
        delay[~known] = np.nan
        delay_expected = expectation(delay)
        per_flight = _flight_variance(where.numbers("std_effective_delay_min") ** 2, flights, history, noise_flights)
        delay_noise = per_flight / (4 * flights * np.maximum(delay_expected, 1.0) ** 2)
        error = delay - delay_expected
        delay_sigma = np.hypot(spread(error, delay_noise, least_spread_delay), np.sqrt(delay_noise))
        delay_z = error / delay_sigma

        disrupted = np.minimum(where.numbers("disrupted"), flights)
        share = np.arcsin(np.sqrt((disrupted + 0.375) / (flights + 0.75)))
        share_noise = 1 / (4 * flights + 2)
        error = share - expectation(share)
        share_z = error / np.hypot(spread(error, share_noise, least_spread_share), np.sqrt(share_noise))

        score = (delay_z + share_z) / 2
        is_closed = where.numbers("cancelled") >= closure_share * flights
    return verdicts(
        where,
        metric=METRIC,
        judged=known & np.isfinite(score) & (history.total(known) >= min_days),
        expected=_minutes(delay_expected),
        lower=_minutes(delay_expected - levels[0] * delay_sigma),
        upper=_minutes(delay_expected + levels[0] * delay_sigma),
        score=score,
        severity=severities(score, levels),
        direction=np.where(is_closed, "closure", "late"),
    )


def _over_airports(values: Floats) -> Floats:
    total: Floats = values.sum(axis=1, keepdims=True)
    return total


def _minutes(scale: Floats) -> Floats:
    return np.maximum(scale, 0.0) ** 2 - DELAY_SHIFT_MIN


def _weekday_effect(error: Floats, history: History, prior_weeks: float) -> Floats:
    """Mean error of the weekday: the airport's drawn towards the nation's, the nation's towards none."""
    total = history.total(np.nan_to_num(error), every=7)
    weeks = history.total(np.isfinite(error), every=7)
    pooled_weeks = weeks + prior_weeks * (weeks > 0)
    nation = _over_airports(total) / np.maximum(_over_airports(pooled_weeks), 1.0)
    effect: Floats = (total + prior_weeks * nation) / (weeks + prior_weeks)
    return effect


def _flight_variance(variance: Floats, flights: Floats, history: History, prior_flights: float) -> Floats:
    """Variance among one day's flights, drawn towards the airport's pooled variance by `prior_flights` flights."""
    freedom = np.where(np.isfinite(variance) & np.isfinite(flights), flights - 1, 0.0)
    squares = np.where(freedom > 0, variance * freedom, 0.0)
    usual = history.total(squares) / np.maximum(history.total(freedom), 1.0)
    return (squares + prior_flights * usual) / (freedom + prior_flights)


def _spread_variance(error: Floats, noise: Floats, history: History, prior_days: float) -> Floats:
    """Variance of an airport's errors beyond their noise, drawn towards the network's by `prior_days` days."""
    excess = error**2 - noise
    n_days = history.total(np.isfinite(excess))
    own = np.maximum(history.total(np.nan_to_num(excess)) / n_days, 0.0)
    weighted = np.where(n_days > 0, n_days * own, 0.0)
    network = _over_airports(weighted) / _over_airports(n_days)
    variance: Floats = (weighted + prior_days * network) / (n_days + prior_days)
    return variance
