"""ARIMA: a day is abnormal when its mean delay leaves the band that a forecast from the airport's days before gave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from utils.detectors.verdicts import Floats, calendar, severities, usable, verdicts

METRIC = "mean_dep_delay_min"
LEAST_SPREAD_MIN = 1.0  # of a forecast; below, a steady airport would be flagged for a few minutes
ERRORS_OF_A_SPREAD = 5  # fewer do not tell what a large error is
LIMITS = {
    "level": (0.5, 0.999999),
    "max_p": (0, 14),
    "max_d": (0, 1),
    "max_q": (0, 7),
    "shrink_days": (0.1, 1_000.0),
    "most_spreads": (1.0, 1_000.0),
    "burn_in_days": (3, 366),
    "min_flights": (1, 1_000),
    "min_days": (4, 366),
}


def detect(
    days: pd.DataFrame,
    *,
    level: float = 0.9995,
    max_p: int = 5,
    max_d: int = 1,
    max_q: int = 1,
    shrink_days: float = 10.0,
    most_spreads: float = 4.0,
    late_only: bool = True,
    past_only: bool = False,
    burn_in_days: int = 14,
    min_flights: int = 5,
    min_days: int = 28,
) -> pd.DataFrame:
    """Judge each day by its one-step-ahead forecast from ARIMA models that learn as they walk through the year.

    Every order (p, d, q) up to `max_p`, `max_d` and `max_q` forecasts each day of each airport from the days before it.
    Nothing is fitted again: a day adds its products to the normal equations of the conditional least squares, in which
    the models' own errors stand for the unseen shocks (extended least squares; Ljung and Söderström, "Theory and
    Practice of Recursive Identification", 1983). The forecast that counts is that of the order whose forecasts had the
    least mean absolute error until then (accumulated prediction error; Rissanen, "Order estimation by accumulated
    prediction errors", 1986). Coefficients are drawn towards none by `shrink_days` days, and an error teaches no more
    than `most_spreads` spreads, so that one storm spoils neither the coefficients nor the days after it.

    The band holds the share `level` of the days if the errors are Gaussian: expected -/+ Student's quantile times the
    root mean square of the errors that the same order made before. Delays have a heavier tail: 6 to 8 days of an
    airport-year leave the band of 0.9995. A day is mild outside the band, strong and extreme one and two spreads
    further. The score is error / spread, in Gaussian deviations; with `late_only` its sign stays and only days above
    the band are flagged, without it the score has no sign and both sides are.

    A day without a value, with fewer than `min_flights` scheduled flights or `is_excluded` is a gap: it keeps its
    place in time, the forecast stands in for it, and the band widens until the next day that is learnt from. An airport
    with fewer than `min_days` days to learn from is not judged. The first `burn_in_days` have too short a past: they
    are judged by the same models walking backwards from the year's end (a stationary series has the same correlations
    in both directions; Box and Jenkins' backcasting). With `past_only` they are not judged, nor is any day before
    `min_days` days were learnt from, and later days cannot change a verdict.
    """
    from scipy import stats

    where = calendar(days)
    known = usable(where, METRIC, min_flights)
    train_mask = known & ~where.excluded()
    delay = where.numbers(METRIC)
    series = np.where(train_mask, delay, np.nan)
    orders = _orders(max_p, max_d, max_q)
    forecast = _walk(series, orders, shrink_days, most_spreads)
    if past_only:
        judged = known & (forecast.days >= max(burn_in_days, min_days))
    else:
        backward = _walk(series[::-1], orders, shrink_days, most_spreads).reversed()
        forecast = forecast.where(forecast.days >= burn_in_days, backward)
        judged = known & (forecast.days >= burn_in_days) & (train_mask.sum(axis=0) >= min_days)

    gaussian = stats.norm.ppf((1 + level) / 2)
    students = stats.t.ppf((1 + level) / 2, np.maximum(forecast.days - 1, 1))
    spread = np.maximum(forecast.spread * students / gaussian, LEAST_SPREAD_MIN)
    error = (delay - forecast.expected) / spread
    score = error if late_only else np.abs(error)
    return verdicts(
        where,
        metric=METRIC,
        judged=judged,
        expected=forecast.expected,
        lower=forecast.expected - gaussian * spread,
        upper=forecast.expected + gaussian * spread,
        score=score,
        severity=severities(score, (gaussian, gaussian + 1, gaussian + 2)),
        direction=np.where(error > 0, "late", "early"),
    )


@dataclass(frozen=True)
class _Forecast:
    """Days × airports: expected delay and its standard error in minutes, and from how many days both were learnt."""

    expected: Floats
    spread: Floats
    days: Floats

    def reversed(self) -> _Forecast:
        return _Forecast(self.expected[::-1], self.spread[::-1], self.days[::-1])

    def where(self, condition: npt.NDArray[np.bool_], other: _Forecast) -> _Forecast:
        """This forecast where `condition` holds, `other` elsewhere."""
        return _Forecast(
            np.where(condition, self.expected, other.expected),
            np.where(condition, self.spread, other.spread),
            np.where(condition, self.days, other.days),
        )


def _orders(max_p: int, max_d: int, max_q: int) -> npt.NDArray[np.intp]:
    """All (p, d, q) as three columns, the simplest first: of equally good ones the first is taken."""
    grid = np.array([(p, d, q) for p in range(max_p + 1) for d in range(max_d + 1) for q in range(max_q + 1)])
    return grid[np.argsort(grid.sum(axis=1), kind="stable")]


def _walk(series: Floats, orders: npt.NDArray[np.intp], shrink_days: float, most_spreads: float) -> _Forecast:
    """Forecast each day of days × airports from the days before it; NaN is a gap.

    Arrays of state are orders × airports, with one more axis in front where there is one entry per regressor or lag.
    The regressors are the values of p days (differences where d is 1, deviations from the mean so far where it is 0)
    and the errors of q days; an order that lacks one has 0 in its place.
    """
    n_days, n_airports = series.shape
    p, d, q = (column[:, None] for column in orders.T)
    max_p, max_q = int(p.max()), int(q.max())
    shape = (len(orders), n_airports)
    airports = np.arange(n_airports)
    is_used = np.concatenate([p > np.arange(max_p), q > np.arange(max_q)], axis=1).T[..., None]

    equations = _NormalEquations((len(is_used), *shape))
    growth = _Growth(max_p, shape)
    values, errors = np.zeros((max_p + 1, *shape)), np.zeros((max_q, *shape))  # the latest first
    missed, squares = np.zeros(shape), np.zeros(shape)  # sums of the absolute and of the squared errors
    count, total = np.zeros(n_airports), np.zeros(n_airports)
    lowest, highest = np.full(n_airports, np.inf), np.full(n_airports, -np.inf)
    expected, spread, learnt_days = (np.full(series.shape, np.nan) for _ in range(3))

    for day in range(n_days):
        has_past, n_errors = count > 0, np.maximum(count - 1, 0)
        base = np.where(d == 1, values[0], total / np.maximum(count, 1))
        lags = np.where(d == 1, values[:-1] - values[1:], values[:-1] - base)
        regressors = np.concatenate([lags, errors]) * is_used
        coefficients = equations.solution(shrink_days / np.maximum(n_errors, 1))
        # Without the bounds, an explosive model would leave a long gap with a forecast beyond all reason.
        forecast = np.clip(base + (coefficients * regressors).sum(axis=0), lowest, highest)
        forecast = np.where(has_past, forecast, 0.0)
        sigma = np.sqrt(squares / np.maximum(n_errors, 1) * growth.factor)
        best = missed.argmin(axis=0)
        expected[day], spread[day], learnt_days[day] = forecast[best, airports], sigma[best, airports], count

        value = series[day]
        is_learnt = np.isfinite(value)
        is_first = is_learnt & ~has_past
        forecast = np.where(is_first, value, forecast)
        error = np.where(is_learnt, value - forecast, 0.0)
        most = np.where(n_errors >= ERRORS_OF_A_SPREAD, most_spreads * sigma, np.inf)
        taught = np.clip(error, -most, most)
        seen = forecast + taught  # the value; in a gap the forecast
        equations.learn(regressors, seen - base, is_learnt & has_past)
        missed += np.abs(error)
        squares += taught**2 / growth.factor
        values = np.where(is_first, value, np.concatenate([seen[None], values[:-1]]))
        errors = np.concatenate([taught[None], errors])[:max_q]
        growth.step(is_learnt, coefficients[:max_p], coefficients[max_p:], d)
        latest = seen[best, airports]
        total += np.where(is_learnt, latest, 0.0)
        count += is_learnt
        lowest = np.where(is_learnt, np.minimum(lowest, latest), lowest)
        highest = np.where(is_learnt, np.maximum(highest, latest), highest)
    return _Forecast(expected, spread, learnt_days)


class _NormalEquations:
    """Least squares of one regression per order and airport, without a constant."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        """Nothing is known of any regression yet; shape: regressors × orders × airports."""
        self._moments = np.zeros((shape[0], *shape))
        self._products = np.zeros(shape)

    def learn(self, regressors: Floats, target: Floats, counts: npt.NDArray[np.bool_]) -> None:
        """Add one day's equation of the airports that `counts` names."""
        counted = regressors * counts
        self._moments += counted[:, None] * regressors
        self._products += counted * target

    def solution(self, shrinkage: Floats) -> Floats:
        """The coefficients, drawn towards 0 by `shrinkage` times what was learnt so far.

        Cholesky's decomposition of all the small systems at once: with numpy's `solve`, which calls LAPACK for each of
        them, the whole walk takes twice as long.
        """
        moments, solution = self._moments.copy(), np.empty_like(self._products)
        n = len(solution)
        diagonal = np.arange(n)
        moments[diagonal, diagonal] *= 1 + shrinkage
        moments[diagonal, diagonal] += 1e-6  # for the regressors that an order lacks
        root = np.zeros_like(moments)
        for j in range(n):
            root[j, j] = np.sqrt(moments[j, j] - (root[j, :j] ** 2).sum(axis=0))
            below = (root[j + 1 :, :j] * root[j, :j]).sum(axis=1)
            root[j + 1 :, j] = (moments[j + 1 :, j] - below) / root[j, j]
            solution[j] = (self._products[j] - (root[j, :j] * solution[:j]).sum(axis=0)) / root[j, j]
        for j in reversed(range(n)):
            solution[j] = (solution[j] - (root[j + 1 :, j] * solution[j + 1 :]).sum(axis=0)) / root[j, j]
        return solution


class _Growth:
    """By which factor a gap lets the forecast's variance grow: the sum of the squared weights of its unseen shocks."""

    def __init__(self, max_p: int, shape: tuple[int, int]) -> None:
        self.factor = np.ones(shape)
        self._weights = np.zeros((max_p + 1, *shape))  # of the shocks so far, the latest first
        self._weights[0] = 1.0
        self._level = np.ones(shape)  # their sum, which a differenced model keeps for ever
        self._gap_days = np.zeros(shape[1])

    def step(self, is_learnt: npt.NDArray[np.bool_], ar: Floats, ma: Floats, d: npt.NDArray[np.intp]) -> None:
        """Start again where the day was learnt from; elsewhere one more day is unseen."""
        if is_learnt.all():
            self._gap_days[:] = 0
            self.factor[:] = self._level[:] = 1.0
            self._weights[0], self._weights[1:] = 1.0, 0.0
            return
        weight = (ar * self._weights[:-1]).sum(axis=0)
        for lag, coefficient in enumerate(ma):
            weight = weight + np.where(self._gap_days == lag, coefficient, 0.0)
        weight = np.clip(weight, -2.0, 2.0)  # an explosive model's weights have no end
        level = np.clip(self._level + weight, -2.0, 2.0)
        self.factor = np.where(is_learnt, 1.0, self.factor + np.where(d == 1, level, weight) ** 2)
        self._level = np.where(is_learnt, 1.0, level)
        latest = np.where(is_learnt, 1.0, weight)[None]
        self._weights = np.concatenate([latest, np.where(is_learnt, 0.0, self._weights[:-1])])
        self._gap_days = np.where(is_learnt, 0, self._gap_days + 1)
