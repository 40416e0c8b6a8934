"""Gradient boosting: a day is abnormal if its mean delay is far from the prediction of boosted trees for that date.

Three scikit-learn HistGradientBoostingRegressors (the histogram method of LightGBM, and of XGBoost's `hist`) with
quantile loss (Koenker and Bassett, "Regression quantiles", 1978) predict the median of a day's mean delay, relative to
the airport's median in units of the airport's spread, and the 10% and 90% quantiles of the residual. Features:

    calendar   weekday, day of the year, days from the nearest federal holiday
    airport    scheduled flights, their ratio to the usual number, the airport's median and spread
    lags       its delays of 1, 2 and 7 days before, and their mean of the last 7
    network    the mean delay of the other airports, and of those with similar days, on the day before

The trees of the two tails use only the airport's features: with lags, bad days would widen the band of the following
days, and the worst day of a bad week would not be flagged. With `same_day_network` the trees of the median also get the
other airports' means of the same day: then a storm over many airports is expected, and only the residual of a single
airport is abnormal. No feature of a day depends on its own delay.

Cross-fitting (Chernozhukov et al., "Double/debiased machine learning", 2018): blocks of `block_days` days are assigned
to `folds` folds in turn, and the days of a fold are judged by trees, medians and spreads of the other folds. The 7 days
after a block, whose features depend on it, are not used for fitting either. So a day is also compared with later days,
which suits a report. With `past_only`, for alerts, medians, spreads and trees are fitted on `is_history` days only.
"""

from __future__ import annotations

from collections.abc import Iterator

import holidays
import numpy as np
import pandas as pd
from pydantic import Field
from threadpoolctl import threadpool_limits

from utils.detectors.shared import parameters
from utils.detectors.shared.verdicts import Band, Calendar, Flags, Floats, calendar, usable

METRIC = "mean_dep_delay_min"
MIN_SPREAD_MIN = 1.0  # of an airport's days and of a prediction; avoids flags for a few minutes at a steady airport
LOOK_BACK_DAYS = 7  # the largest lag of a feature
TAIL = 0.9  # the quantile of the residuals on either side that gives the spread
TAIL_SPREADS = 1.2816  # that quantile of a Gaussian, in standard deviations


class Parameters(parameters.Parameters):
    """Parameters of `detect`."""

    threshold: float = Field(4.0, ge=0.1, le=100.0, description="spreads from the expected delay: mild")
    n_estimators: int = Field(40, ge=1, le=10_000, description="number of trees of each of the three models")
    learning_rate: float = Field(0.1, ge=0.001, le=1.0, description="shrinkage of each tree (scikit-learn)")
    max_leaf_nodes: int = Field(8, ge=2, le=1_000, description="most leaves of a tree (scikit-learn)")
    min_samples_leaf: int = Field(200, ge=1, le=100_000, description="fewest airport-days in a leaf (scikit-learn)")
    folds: int = Field(5, ge=2, le=50, description="number of folds; a fold is scored by trees of the other folds")
    block_days: int = Field(14, ge=1, le=183, description="days in a row that belong to the same fold")
    same_day_network: bool = Field(False, description="true: other airports' delays of the same day are features")
    late_only: bool = Field(True, description="false: days below the band are flagged too")
    random_state: parameters.Seed = 0
    min_flights: parameters.MinFlights = 5
    min_days: parameters.MinDays = 28
    past_only: parameters.PastOnly = False


def detect(days: pd.DataFrame, params: Parameters) -> pd.DataFrame:
    """Judge each day by its residual in a boosted-tree regression over all airports that was not fitted on the day.

    The spread is the residual's 90% quantile (below the median: the 10% quantile) / 1.28. A day is mild at `threshold`
    spreads, strong at two and extreme at four spreads more; `lower` and `upper` are the median -/+ `threshold` spreads,
    in minutes. The quantiles describe ordinary days and are no quota: a year without events has few flags. The score is
    residual / spread; with `late_only` it keeps its sign and only days above the band are flagged, without it days on
    both sides are. Days with fewer than `min_flights` scheduled flights are neither judged nor used for fitting, and
    neither are airports with fewer than `min_days` such days. A day is judged if at least half of `min_days` outside
    its fold are used; with `past_only`, if at least `min_days` days of history are. `is_excluded` days are judged, and
    used neither for fitting nor in a feature.
    """
    grid = calendar(days)
    levels = params.threshold, params.threshold + 2, params.threshold + 4
    return _predictions(grid, params).verdicts(grid, METRIC, levels, params.late_only)


def _predictions(grid: Calendar, params: Parameters) -> Band:
    """Predict the days of each fold by trees that are fitted on the other folds."""
    known = usable(grid, METRIC, params.min_flights)
    train_mask = known & ~grid.excluded()
    delay = grid.numbers(METRIC)
    about_date = _calendar_features(grid)
    judged = np.zeros(grid.shape, dtype=np.bool_)
    expected, below, above = (np.full(grid.shape, np.nan) for _ in range(3))
    for is_test, is_train in _folds(grid, params):
        trained = train_mask & is_train[:, None]
        min_days = params.min_days if params.past_only else params.min_days / 2
        has_days = (train_mask.sum(axis=0) >= params.min_days) & (trained.sum(axis=0) >= min_days)
        trained &= has_days
        tested = known & is_test[:, None] & has_days
        if not tested.any():
            continue
        median, spread = _usual(np.where(trained, delay, np.nan))
        relative = np.where(train_mask & has_days, (delay - median) / spread, np.nan)
        about_airport = _airport_features(grid, trained, median, spread)
        network = _network_features(relative, trained, grid, params.same_day_network)
        features = np.stack([*about_airport, *about_date, *_lag_features(relative), *network], axis=2)
        trained[:, grid.airports :] = False  # see Calendar: feedback does not change the trees
        middle, *tails = _predict(features, len(about_airport), relative, trained, tested, params)
        airport = np.nonzero(tested)[1]
        expected[tested] = middle * spread[airport] + median[airport]
        for side, tail in zip((below, above), tails, strict=True):
            side[tested] = tail * spread[airport] / TAIL_SPREADS
        judged |= tested
    return Band(expected, np.maximum(below, MIN_SPREAD_MIN), np.maximum(above, MIN_SPREAD_MIN), judged)


def _predict(
    features: Floats, n_about_airport: int, relative: Floats, trained: Flags, tested: Flags, params: Parameters
) -> tuple[Floats, Floats, Floats]:
    """Return the median of the test days and the residual's tails below and above it, in airports' spreads.

    features: days × airports × features, airport features first; the trees of the tails use only these.
    """
    # Imported on use: 70 MB and 0.7 s for each process that only reads settings.
    from sklearn.ensemble import HistGradientBoostingRegressor

    # scikit-learn rejects a feature without values, such as the network's with a single airport.
    features = features[:, :, np.isfinite(features[trained]).any(axis=0)]
    about_airport = features[:, :, :n_about_airport]

    def fitted(features: Floats, target: Floats, quantile: float) -> HistGradientBoostingRegressor:
        model = HistGradientBoostingRegressor(
            loss="quantile",
            quantile=quantile,
            max_iter=params.n_estimators,
            learning_rate=params.learning_rate,
            max_leaf_nodes=params.max_leaf_nodes,
            min_samples_leaf=params.min_samples_leaf,
            early_stopping=False,
            random_state=params.random_state,
        )
        return model.fit(features, target)

    with threadpool_limits(limits=1, user_api="openmp"):  # on a busy machine, more threads are slower
        median = fitted(features[trained], relative[trained], 0.5)
        residual = relative[trained] - median.predict(features[trained])
        below, above = (fitted(about_airport[trained], side, TAIL) for side in (-residual, residual))
        tested_airport = about_airport[tested]
        return median.predict(features[tested]), below.predict(tested_airport), above.predict(tested_airport)


def _folds(grid: Calendar, params: Parameters) -> Iterator[tuple[Flags, Flags]]:
    """Yield test and train days of each fold; blocks are shorter if there are few days.

    History is used for fitting in every fold. With `past_only` nothing else is, and all other days are one fold.
    """
    n_days, n_history = grid.shape[0], grid.history_days
    is_history = np.arange(n_days) < n_history
    if params.past_only:
        yield ~is_history, is_history
        return
    block_days = min(params.block_days, -(-(n_days - n_history) // params.folds))
    fold = (np.arange(n_days) - n_history) // block_days % params.folds
    for number in range(params.folds):
        is_test = (fold == number) & ~is_history
        depends_on_test = np.convolve(is_test, np.ones(LOOK_BACK_DAYS + 1))[:n_days] > 0
        yield is_test, ~depends_on_test


def _usual(trained: Floats) -> tuple[Floats, Floats]:
    """Return each airport's median and spread in minutes; 0 and MIN_SPREAD_MIN without days for fitting."""
    has_days = np.isfinite(trained).any(axis=0)
    median, spread = np.zeros(trained.shape[1]), np.full(trained.shape[1], MIN_SPREAD_MIN)
    median[has_days] = np.nanmedian(trained[:, has_days], axis=0)
    spread[has_days] = np.sqrt(np.nanmean((trained - median)[:, has_days] ** 2, axis=0))
    return median, np.maximum(spread, MIN_SPREAD_MIN)


def _calendar_features(grid: Calendar) -> list[Floats]:
    """Return weekday, day of the year and days from the nearest federal holiday, as days × airports."""
    first = pd.to_datetime(grid.days["fl_date"]).min()
    dates = pd.date_range(first, periods=grid.shape[0])
    celebrated = holidays.country_holidays("US", years=range(dates[0].year - 1, dates[-1].year + 2))
    distance = (dates.to_numpy()[:, None] - pd.to_datetime(sorted(celebrated)).to_numpy()) / np.timedelta64(1, "D")
    nearest = distance[np.arange(len(dates)), np.abs(distance).argmin(axis=1)]
    columns = (dates.day_of_week.to_numpy(), dates.day_of_year.to_numpy(), np.clip(nearest, -7, 7))
    return [np.broadcast_to(column.astype(np.float64)[:, None], grid.shape) for column in columns]


def _airport_features(grid: Calendar, trained: Flags, median: Floats, spread: Floats) -> list[Floats]:
    """Return scheduled flights, their ratio to the mean of the train days, and the airport's median and spread."""
    flights = grid.numbers("scheduled")
    usual = np.nansum(flights, axis=0, where=trained) / np.maximum(trained.sum(axis=0), 1)
    return [
        flights,
        flights / np.maximum(usual, 1.0),
        np.broadcast_to(median, grid.shape),
        np.broadcast_to(spread, grid.shape),
    ]


def _lag_features(relative: Floats) -> list[Floats]:
    """Return the airport's own delays of 1, 2 and 7 days before, and their mean of the last 7 days."""
    week = np.stack([_before(relative, lag) for lag in range(1, LOOK_BACK_DAYS + 1)])
    known_days = np.isfinite(week).sum(axis=0)
    # Not a running sum, because its rounding would leak a judged day into days that are used for fitting.
    mean = np.where(known_days > 0, np.nansum(week, axis=0) / np.maximum(known_days, 1), np.nan)
    return [week[0], week[1], week[-1], mean]


def _network_features(relative: Floats, trained: Flags, grid: Calendar, same_day: bool) -> list[Floats]:
    """Return the mean delay of the other airports, and of airports with similar days, on the day before.

    An airport's weight is the fourth power of its correlation on the train days. No airport enters its own means. All
    means are over first columns (see Calendar).
    """
    is_known = np.isfinite(relative)
    value = np.where(is_known, np.clip(relative, -3.0, 6.0), 0.0)  # limits the weight of one extreme airport
    basis = np.where(trained, value, 0.0)
    size = np.sqrt(np.maximum((basis**2).sum(axis=0), 1e-9))
    first = grid.airports
    sources, weight_of_day = value[:, :first], is_known[:, :first].astype(np.float64)
    correlation = _product(basis[:, :first].T, basis) / size / size[:first, None]
    own = np.concatenate([np.arange(first), grid.with_feedback])  # the first column of each column's airport
    means = []
    for weights in (np.ones_like(correlation), np.maximum(correlation, 0.0) ** 4):
        weights[own, np.arange(len(own))] = 0.0
        total, weight = _product(sources, weights), _product(weight_of_day, weights)
        means.append(np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), np.nan))
    return [*(_before(mean, 1) for mean in means), *(means if same_day else [])]


def _product(left: Floats, right: Floats) -> Floats:
    """Return the matrix product, summed in the order of the columns of `left`.

    With `numpy.matmul`, the size of a matrix may change the last bit of every sum. Then feedback on an airport, or an
    airport that opens later, would change verdicts on others.
    """
    total = np.zeros((len(left), right.shape[1]))
    for column, row in zip(left.T, right, strict=True):
        total += column[:, None] * row
    return total


def _before(matrix: Floats, days: int) -> Floats:
    """Shift the values by `days` days; NaN before the first day."""
    shifted = np.full(matrix.shape, np.nan)
    shifted[days:] = matrix[: max(len(matrix) - days, 0)]
    return shifted
