"""Seasonal baseline of a series: season, weekday, holidays, and shifts of the level.

All matrices are days × airports on a scale that the detector chooses, NaN on days that are not used for fitting. The
detector decides how large a residual may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import holidays
import numpy as np
import pandas as pd

from utils.detectors.shared.verdicts import Flags, Floats

RUSH_DAYS = 3  # before and after a holiday
TURN_OF_THE_YEAR = (12, 20), (1, 4)  # first and last (month, day)
# A median residual of some weeks below this many spreads is weather; a larger one is a new level and is followed.
MOVED_SPREADS, FOLLOWED_SPREADS = 1.5, 2.5
NOW_DAYS = 7  # window of the current level: days before a day, in a report also after it
STEP_PER_SPREAD = 2 / np.sqrt(np.pi)  # mean absolute difference of successive values of white noise


@dataclass(frozen=True)
class History:
    """The days that a day is compared with: the whole year for a report, only earlier days for an alert."""

    past_only: bool

    def total(self, values: Floats | Flags, every: int = 1) -> Floats:
        """Return the sum over each day's history, days × airports; with `every=7` only over the same weekday."""
        n_days, n_airports = values.shape
        periods = np.zeros((-(-n_days // every) * every, n_airports))
        periods[:n_days] = values
        periods = periods.reshape(-1, every, n_airports)
        before = periods.cumsum(axis=0) - periods if self.past_only else periods.sum(axis=0, keepdims=True)
        return np.broadcast_to(before, periods.shape).reshape(-1, n_airports)[:n_days]

    def mean(self, values: Floats) -> Floats:
        """Return the mean over each day's history; NaN for an empty history."""
        count = self.total(np.isfinite(values))
        return np.where(count > 0, self.total(np.nan_to_num(values)) / np.maximum(count, 1.0), np.nan)

    def spread(self, values: Floats) -> Floats:
        """Return the standard deviation from day-to-day differences, robust to level shifts; NaN without any."""
        steps: Floats = np.abs(np.diff(values, axis=0, prepend=np.nan))
        return self.mean(steps / STEP_PER_SPREAD)

    def median(self, values: Floats) -> Floats:
        """Return the median over each day's history; NaN for an empty history."""
        frame = pd.DataFrame(values)
        if self.past_only:
            return frame.shift(1).expanding(min_periods=1).median().to_numpy()
        return np.broadcast_to(frame.median().to_numpy(), values.shape)

    def near_median(self, values: Floats, window_days: int) -> Floats:
        """Return the median over the window around, or before, each day; NaN for an empty window."""
        median: Floats = self._window(values, window_days, 1).median().to_numpy()
        return median

    def near_quantile(self, values: Floats, share: float, window_days: int, min_days: int) -> Floats:
        """Return the quantile over the window around, or before, each day.

        A window with fewer than `min_days` values is replaced with the whole history; NaN if that has fewer, too.
        """
        if self.past_only:
            # A new day is below the quantile of `window_days` earlier days with this probability (Weibull 1939). A
            # window around a day contains the day, so it needs no correction.
            share = min(max((share * (window_days + 1) - 1) / (window_days - 1), 0.0), 1.0)
        quantile: Floats = self._window(values, window_days, min_days).quantile(share).to_numpy(copy=True)
        is_open = np.isnan(quantile) & (self.total(np.isfinite(values)) >= min_days)
        airports = is_open.any(axis=0)  # mostly none
        whole = self._window(values[:, airports], 2 * len(values) + 1, min_days).quantile(share).to_numpy()
        quantile[:, airports] = np.where(is_open[:, airports], whole, quantile[:, airports])
        return quantile

    def _window(self, values: Floats, window_days: int, min_days: int) -> Any:
        frame = pd.DataFrame(values).shift(1) if self.past_only else pd.DataFrame(values)
        return frame.rolling(window_days, min_periods=min(min_days, window_days), center=not self.past_only)


@dataclass(frozen=True)
class Baseline:
    """Settings of the baseline; the docstring of `delaywatch` describes them."""

    history: History
    season_days: int
    season_weight: float
    weekday_weeks: float
    holiday_days: float
    shift_days: int
    airports: int  # `Calendar.airports`: first columns, which national effects are fitted on

    def expected(self, train: Floats, dates: pd.DatetimeIndex) -> Floats:
        """Return the expected value of each day, also of days that are NaN in `train`; NaN without any history."""
        expected = self._season(train)
        expected = expected + self._weekday_effect(train - expected)
        expected = expected + self._holiday_effect(train - expected, dates)
        return expected + self._shift(train - expected)

    def usual_range(self, train: Floats, shares: Sequence[float], window_days: int, min_days: int) -> list[Floats]:
        """Return quantiles of the days around, or before, each day, corrected for the weekday; see `near_quantile`."""
        weekday = self._weekday_effect(train - self.history.mean(train))
        return [self.history.near_quantile(train - weekday, share, window_days, min_days) + weekday for share in shares]

    def _season(self, train: Floats) -> Floats:
        """Return the seasonal median, shrunk towards that of all days: one stormy summer is not a season."""
        always = self.history.median(train)
        near = self.history.near_median(train, self.season_days)
        return always + self.season_weight * np.nan_to_num(near - always)

    def _weekday_effect(self, error: Floats) -> Floats:
        """Return the weekday's mean residual: the airport's shrunk towards the national one, that towards 0."""
        total = self.history.total(np.nan_to_num(error), every=7)
        weeks = self.history.total(np.isfinite(error), every=7)
        pooled_weeks = weeks + self.weekday_weeks * (weeks > 0)
        nation = self._nation(total) / np.maximum(self._nation(pooled_weeks), 1.0)
        effect: Floats = (total + self.weekday_weeks * nation) / (weeks + self.weekday_weeks)
        return effect

    def _holiday_effect(self, error: Floats, dates: pd.DatetimeIndex) -> Floats:
        """Return the national median residual on days of the same kind, shrunk towards 0: days × 1.

        A year has too few holidays to fit each airport, and the median keeps one storm at Christmas from becoming a
        holiday effect.
        """
        airports = self._nation(np.isfinite(error))
        nation = np.where(airports > 0, self._nation(np.nan_to_num(error)) / np.maximum(airports, 1.0), np.nan)
        effect = np.zeros_like(nation)
        for is_kind in _kinds_of_holidays(dates):
            usual = np.nan_to_num(self.history.median(np.where(is_kind, nation, np.nan)))
            known_days = self.history.total(is_kind & (airports > 0))
            effect += is_kind * usual * known_days / (known_days + self.holiday_days)
        return effect

    def _shift(self, error: Floats) -> Floats:
        """Return the shift of the level: the median residual of the last weeks if it is too large for weather, else 0.

        Only the first weeks of a new level have large residuals. To return to the old level on the same day as the
        airport, the shift is the median residual of the current days where that is smaller.
        """
        weeks = pd.DataFrame(error).shift(1).rolling(self.shift_days, min_periods=-(-self.shift_days // 2))
        moved = weeks.median().to_numpy()
        spread = np.maximum(self.history.spread(error), np.finfo(float).eps)
        # Mostly none, which makes the next median cheap.
        airports = (np.abs(moved) > MOVED_SPREADS * spread).any(axis=0)
        moved, spread = moved[:, airports], spread[:, airports]
        now = self.history.near_median(error[:, airports], NOW_DAYS if self.history.past_only else 2 * NOW_DAYS + 1)
        least = np.median([np.zeros_like(now), moved, now], axis=0)  # the one nearer to 0, and 0 where the signs differ
        part = np.clip((np.abs(least) / spread - MOVED_SPREADS) / (FOLLOWED_SPREADS - MOVED_SPREADS), 0.0, 1.0)
        shift = np.zeros(error.shape)
        shift[:, airports] = np.nan_to_num(part * least)
        return shift

    def _nation(self, values: Floats | Flags) -> Floats:
        return over_airports(values, self.airports)


def over_airports(values: Floats | Flags, airports: int) -> Floats:
    """Return the sum over the first columns (see `Calendar`) of each day, as days × 1.

    The columns are added one after the other, so that a column of zeros, such as an airport that opens later in the
    year, does not change the last bit.
    """
    return np.cumsum(values[:, :airports], axis=1, dtype=np.float64)[:, -1:]


def _kinds_of_holidays(dates: pd.DatetimeIndex) -> tuple[Flags, ...]:
    """Return three masks, days × 1 each: US federal holidays, the turn of the year, and days near another holiday."""
    years = range(dates[0].year - 1, dates[-1].year + 2)
    known = pd.DatetimeIndex(sorted(holidays.country_holidays("US", years=years, observed=False)))
    apart_days = np.abs(dates.to_numpy()[:, None] - known.to_numpy()).min(axis=1) / np.timedelta64(1, "D")
    is_holiday = apart_days == 0
    month_and_day = dates.month * 100 + dates.day
    first, last = (month * 100 + day for month, day in TURN_OF_THE_YEAR)
    is_turn = ((month_and_day >= first) | (month_and_day <= last)) & ~is_holiday
    is_rush = (apart_days <= RUSH_DAYS) & ~is_holiday & ~is_turn
    return tuple(np.asarray(kind)[:, None] for kind in (is_holiday, is_turn, is_rush))
