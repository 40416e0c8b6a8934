"""ARIMA: a day is abnormal if its mean delay is outside the band around the forecast from the airport's earlier days.

Every order (p, d, q) up to `max_p`, `max_d` and `max_q` makes a one-step-ahead forecast for each day of each airport.
Models are updated, not refitted: each day adds its products to the normal equations of conditional least squares, in
which the models' own residuals replace the unobserved shocks (extended least squares; Ljung and Söderström, "Theory and
Practice of Recursive Identification", 1983). The day's forecast is taken from the order with the smallest mean absolute
error so far (accumulated prediction error; Rissanen, "Order estimation by accumulated prediction errors", 1986).
Coefficients are shrunk towards 0 by `shrink_days` days, and an error is clipped to `most_spreads` spreads, so that one
storm changes neither the coefficients nor the following forecasts much.

The band starts with the typical tails of delays and is then calibrated for each airport and each side: a day outside
the band widens it for the following days, a day inside narrows it a little, so that in the long run the share `level`
of the days is inside, whatever the distribution (quantile tracking; Angelopoulos, Candès and Tibshirani, "Conformal PID
control for time series prediction", 2023).

A day without a value, with fewer than `min_flights` scheduled flights or `is_excluded` is a gap: the forecast replaces
its value, and the band is wider until the next day that is used for fitting. The first `burn_in_days` have too short a
history: they are judged by the same models running backwards from the end of the year (a stationary series has the same
correlations in both directions; Box and Jenkins' backcasting).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field
from scipy import special

from utils.detectors.shared import parameters
from utils.detectors.shared.verdicts import Band, Flags, Floats, calendar, usable

METRIC = "mean_dep_delay_min"
MIN_SPREAD_MIN = 1.0  # avoids flags for a few minutes at a steady airport
MIN_ERRORS = 5  # with fewer errors, none is clipped
# Scale and degrees of freedom of Student's t for the forecast errors above and below the forecast, in standard errors.
# On HOU 2011, PNW 2014, BAY 2020 and ABQ 2009 to 2011, quantiles from 0.9 to 0.9998 are within 15% of these tails.
TAIL_ABOVE = 0.75, 3
TAIL_BELOW = 0.67, 8


class Parameters(parameters.Parameters):
    """Parameters of `detect`."""

    level: float = Field(0.98, ge=0.5, le=0.999999, description="share of days inside the band")
    band_step: float = Field(
        0.12, ge=0.0, le=1.0, description="a day outside the band widens this side of it by about this share"
    )
    max_p: int = Field(5, ge=0, le=14, description="largest number of earlier days that a model uses")
    max_d: int = Field(1, ge=0, le=1, description="1: models of day-to-day differences compete too")
    max_q: int = Field(1, ge=0, le=7, description="largest number of earlier errors that a model uses")
    shrink_days: float = Field(
        10.0, ge=0.1, le=1_000.0, description="weight of a model without memory against the fitted one, in days"
    )
    most_spreads: float = Field(4.0, ge=1.0, le=1_000.0, description="limit of one error in the fit, in spreads")
    late_only: bool = Field(True, description="false: days below the band are flagged too")
    past_only: bool = Field(False, description="true: score from earlier days only, for alerts; skip the first days")
    burn_in_days: int = Field(14, ge=3, le=366, description="days for fitting before the first forecast is used")
    min_flights: parameters.MinFlights = 5
    min_days: int = Field(28, ge=4, le=366, description="fewest days for fitting of an airport that is scored")


def detect(days: pd.DataFrame, params: Parameters) -> pd.DataFrame:
    """Judge each day by the one-step-ahead forecast of ARIMA models that are updated day by day.

    `lower` and `upper` are the band: about the share `level` of the days is inside, and half of the others on each
    side. The score is the distance from the forecast, in units in which the limit of the band is the Gaussian quantile
    of `level`: 2.33 for 0.98. A day is mild from there on, strong and extreme one and two units further: at 1.43 and
    1.86 times the distance for 0.98. With `late_only` the score keeps its sign and only days above the band are
    flagged; without it the score has no sign and days on both sides are flagged.

    An airport with fewer than `min_days` days for fitting is not judged. With `past_only` the first `burn_in_days` and
    all days before `min_days` days were used are not judged, and later days cannot change a verdict.
    """
    grid = calendar(days)
    known = usable(grid, METRIC, params.min_flights)
    delay = grid.numbers(METRIC)
    forecast, judged = _forecasts(delay, known, known & ~grid.excluded(), params)
    gaussian = float(special.ndtri((1 + params.level) / 2))
    below, above = (np.maximum(width / gaussian, MIN_SPREAD_MIN) for width in (forecast.below, forecast.above))
    band = Band(forecast.expected, below, above, judged)
    return band.verdicts(grid, METRIC, (gaussian, gaussian + 1, gaussian + 2), params.late_only)


@dataclass(frozen=True)
class _Forecast:
    """Days × airports: expected delay, width of the band below and above it in minutes, number of days fitted on."""

    expected: Floats
    below: Floats
    above: Floats
    days: Floats

    def reversed(self) -> _Forecast:
        return _Forecast(self.expected[::-1], self.below[::-1], self.above[::-1], self.days[::-1])

    def where(self, condition: Flags, other: _Forecast) -> _Forecast:
        """Return this forecast where `condition` is True, `other` elsewhere."""
        return _Forecast(
            np.where(condition, self.expected, other.expected),
            np.where(condition, self.below, other.below),
            np.where(condition, self.above, other.above),
            np.where(condition, self.days, other.days),
        )


def _forecasts(delay: Floats, known: Flags, train_mask: Flags, params: Parameters) -> tuple[_Forecast, Flags]:
    """Return the forecast of each day, and the days with enough history to be judged."""
    series = np.where(train_mask, delay, np.nan)
    forecast = _walk(series, params)
    if params.past_only:
        return forecast, known & (forecast.days >= max(params.burn_in_days, params.min_days))
    backward = _walk(series[::-1], params).reversed()
    forecast = forecast.where(forecast.days >= params.burn_in_days, backward)
    has_days = train_mask.sum(axis=0) >= params.min_days
    return forecast, known & (forecast.days >= params.burn_in_days) & has_days


def _walk(series: Floats, params: Parameters) -> _Forecast:
    """Forecast each day of days × airports from the days before it; NaN is a gap."""
    expected, spread, fitted_days = (np.full(series.shape, np.nan) for _ in range(3))
    airports = np.arange(series.shape[1])
    models = _Models(len(airports), params)
    for day, value in enumerate(series):
        step = models.forecast()
        expected[day], spread[day] = step.forecast[step.best, airports], step.sigma[step.best, airports]
        fitted_days[day] = models.count
        models.update(value, step)
    error = np.where(fitted_days >= params.burn_in_days, series - expected, np.nan)
    below, above = _width(-error, spread, TAIL_BELOW, params), _width(error, spread, TAIL_ABOVE, params)
    return _Forecast(expected, below, above, fitted_days)


def _width(error: Floats, spread: Floats, tail: tuple[float, int], params: Parameters) -> Floats:
    """Return how far one side of the band is from the forecast, in minutes; all arrays are days × airports.

    error: distance beyond the forecast on this side; NaN for a day that does not calibrate the band. A day outside
    widens the following days by the factor exp(band_step), and every day narrows them so that 1 / share_outside days
    undo one such step.
    """
    share_outside = (1 - params.level) / 2
    scale, degrees = tail
    start = np.log(scale * special.stdtrit(degrees, 1 - share_outside))
    log_factor = np.full(error.shape[1], start)
    width = np.empty_like(error)
    for day in range(len(error)):
        width[day] = np.exp(log_factor) * spread[day]
        step = params.band_step * ((error[day] > width[day]) - share_outside)
        log_factor += np.where(np.isfinite(error[day]), step, 0.0)
    return width


def _orders(max_p: int, max_d: int, max_q: int) -> npt.NDArray[np.intp]:
    """Return all (p, d, q) as three columns, simplest first: ties are won by the first order."""
    grid = np.array([(p, d, q) for p in range(max_p + 1) for d in range(max_d + 1) for q in range(max_q + 1)])
    return grid[np.argsort(grid.sum(axis=1), kind="stable")]


@dataclass(frozen=True)
class _Step:
    """The models' forecasts of the next day, orders × airports, and the regression behind them."""

    forecast: Floats
    sigma: Floats  # standard error of the forecast
    best: npt.NDArray[np.intp]  # by airport: the order with the smallest error so far
    base: Floats  # the value that the regression adds to
    regressors: Floats
    coefficients: Floats


class _Models:
    """The state of the models of every order and airport after the days so far.

    Arrays of state are orders × airports, with one more axis in front if there is one entry per regressor or lag. The
    regressors are the values of p days (differences if d is 1, deviations from the mean so far if it is 0) and the
    errors of q days; regressors that an order does not use are 0.
    """

    def __init__(self, n_airports: int, params: Parameters) -> None:
        """Create the state before the first day."""
        orders = _orders(params.max_p, params.max_d, params.max_q)
        p, d, q = (column[:, None] for column in orders.T)
        shape = (len(orders), n_airports)
        self._params, self._d = params, d
        is_used = [p > np.arange(params.max_p), q > np.arange(params.max_q)]
        self._is_used = np.concatenate(is_used, axis=1).T[..., None]
        self._equations = _NormalEquations((len(self._is_used), *shape))
        self._growth = _Growth(params.max_p, shape)
        self._values = np.zeros((params.max_p + 1, *shape))  # latest first
        self._errors = np.zeros((params.max_q, *shape))
        self._missed, self._squares = np.zeros(shape), np.zeros(shape)  # sums of absolute and of squared errors
        self.count, self._total = np.zeros(n_airports), np.zeros(n_airports)  # of the days used for fitting
        self._lowest, self._highest = np.full(n_airports, np.inf), np.full(n_airports, -np.inf)

    def forecast(self) -> _Step:
        """Return the forecast of the next day from the days used for fitting."""
        n_errors = self._n_errors()
        base = np.where(self._d == 1, self._values[0], self._total / np.maximum(self.count, 1))
        lags = np.where(self._d == 1, self._values[:-1] - self._values[1:], self._values[:-1] - base)
        regressors = np.concatenate([lags, self._errors]) * self._is_used
        coefficients = self._equations.solution(self._params.shrink_days / np.maximum(n_errors, 1))
        # The bounds keep the forecast of an explosive model finite in a long gap.
        forecast = np.clip(base + (coefficients * regressors).sum(axis=0), self._lowest, self._highest)
        forecast = np.where(self.count > 0, forecast, 0.0)
        sigma = np.sqrt(self._squares / np.maximum(n_errors, 1) * self._growth.factor)
        return _Step(forecast, sigma, self._missed.argmin(axis=0), base, regressors, coefficients)

    def update(self, value: Floats, step: _Step) -> None:
        """Add the day that `step` forecast; value: by airport, NaN in a gap, where the forecast replaces it."""
        has_past, is_train = self.count > 0, np.isfinite(value)
        is_first = is_train & ~has_past
        forecast = np.where(is_first, value, step.forecast)
        error = np.where(is_train, value - forecast, 0.0)
        max_error = np.where(self._n_errors() >= MIN_ERRORS, self._params.most_spreads * step.sigma, np.inf)
        clipped = np.clip(error, -max_error, max_error)
        seen = forecast + clipped  # the value; in a gap the forecast
        self._equations.add(step.regressors, seen - step.base, is_train & has_past)
        self._missed += np.abs(error)
        self._squares += clipped**2 / self._growth.factor
        self._values = np.where(is_first, value, np.concatenate([seen[None], self._values[:-1]]))
        self._errors = np.concatenate([clipped[None], self._errors])[: self._params.max_q]
        max_p = self._params.max_p
        self._growth.step(is_train, step.coefficients[:max_p], step.coefficients[max_p:], self._d)
        latest = seen[step.best, np.arange(len(value))]
        self._total += np.where(is_train, latest, 0.0)
        self.count += is_train
        self._lowest = np.where(is_train, np.minimum(self._lowest, latest), self._lowest)
        self._highest = np.where(is_train, np.maximum(self._highest, latest), self._highest)

    def _n_errors(self) -> Floats:
        """Return by airport the number of forecasts that were compared with a value."""
        return np.maximum(self.count - 1, 0)


class _NormalEquations:
    """Normal equations of one least-squares regression per order and airport, without a constant."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        """Create the equations before the first day; shape: regressors × orders × airports."""
        self._moments = np.zeros((shape[0], *shape))
        self._products = np.zeros(shape)

    def add(self, regressors: Floats, target: Floats, counts: Flags) -> None:
        """Add one day's equation for the airports in the mask `counts`."""
        counted = regressors * counts
        self._moments += counted[:, None] * regressors
        self._products += counted * target

    def solution(self, shrinkage: Floats) -> Floats:
        """Return the coefficients, with a ridge of `shrinkage` times the sums so far.

        All the small systems are solved at once by a Cholesky decomposition: numpy's `solve` calls LAPACK for each of
        them, which doubles the time of the detector.
        """
        moments, solution = self._moments.copy(), np.empty_like(self._products)
        n = len(solution)
        diagonal = np.arange(n)
        moments[diagonal, diagonal] *= 1 + shrinkage
        moments[diagonal, diagonal] += 1e-6  # for regressors that an order does not use
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
    """Growth of the forecast's variance in a gap: the sum of the squared weights of its unobserved shocks."""

    def __init__(self, max_p: int, shape: tuple[int, int]) -> None:
        self.factor = np.ones(shape)
        self._weights = np.zeros((max_p + 1, *shape))  # weights of the shocks so far, latest first
        self._weights[0] = 1.0
        self._level = np.ones(shape)  # their sum, which a differenced model keeps
        self._gap_days = np.zeros(shape[1])

    def step(self, is_train: Flags, ar: Floats, ma: Floats, d: npt.NDArray[np.intp]) -> None:
        """Reset the airports whose day is used for fitting; elsewhere lengthen the gap by one day."""
        if is_train.all():
            self._gap_days[:] = 0
            self.factor[:] = self._level[:] = 1.0
            self._weights[0], self._weights[1:] = 1.0, 0.0
            return
        weight = (ar * self._weights[:-1]).sum(axis=0)
        for lag, coefficient in enumerate(ma):
            weight = weight + np.where(self._gap_days == lag, coefficient, 0.0)
        weight = np.clip(weight, -2.0, 2.0)  # bounds for explosive models
        level = np.clip(self._level + weight, -2.0, 2.0)
        self.factor = np.where(is_train, 1.0, self.factor + np.where(d == 1, level, weight) ** 2)
        self._level = np.where(is_train, 1.0, level)
        latest = np.where(is_train, 1.0, weight)[None]
        self._weights = np.concatenate([latest, np.where(is_train, 0.0, self._weights[:-1])])
        self._gap_days = np.where(is_train, 0, self._gap_days + 1)
