"""Helpers for all detectors: airport days as a calendar of days × airports, and verdicts as rows.

Methods and defaults are in the module of each detector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from utils import schemas
from utils.errors import InvalidInput, Missing

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Calendar:
    """Position of each row of `days` in a gapless matrix with one row per calendar day and one column per airport.

    Days and airports are in ascending order whatever the order of the rows, so that every sum, and so every verdict, is
    bit-identical when the rows are shuffled.

    An airport with `is_expected` days has a second column, placed after the first columns of all airports. Its expected
    days are in the train mask of the first column and not in that of the second, and the airport's verdicts are read
    from the second. Values that are fitted over several airports use first columns only. So feedback on one airport
    changes no verdict of another airport.
    """

    days: pd.DataFrame
    row: npt.NDArray[np.intp]
    column: npt.NDArray[np.intp]
    airports: int
    shape: tuple[int, int]  # days, then number of first and second columns
    with_feedback: npt.NDArray[np.intp]  # the first columns that have a second one, in the order of the second ones
    history_days: int  # number of days, from the first on, that are history

    def numbers(self, name: str) -> Floats:
        """Return the column `name` as days × airports; NaN where the value or the row is missing."""
        values = _column(self.days, name).to_numpy(dtype=np.float64, na_value=np.nan)
        return self._matrix(values, np.full((self.shape[0], self.airports), np.nan))

    def excluded(self) -> Flags:
        """Return the days that are not used for fitting, as days × airports."""
        excluded = self._flags("is_excluded")
        excluded[:, self.airports :] |= self._flags("is_expected")[:, self.airports :]
        return excluded

    def rows(self, matrix: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Return a matrix of (or broadcast to) days × airports as one value per row of `days`, in their order."""
        judged_in = np.arange(self.airports)
        judged_in[self.with_feedback] = np.arange(self.airports, self.shape[1])
        return np.broadcast_to(matrix, self.shape)[self.row, judged_in[self.column]]

    def _flags(self, name: str) -> Flags:
        """Return the column `name` as days × airports; False where the value, the row or the column is missing."""
        return self._matrix(_booleans(self.days, name), np.zeros((self.shape[0], self.airports), dtype=np.bool_))

    def _matrix(self, values: npt.NDArray[Any], matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
        matrix[self.row, self.column] = values
        return np.concatenate([matrix, matrix[:, self.with_feedback]], axis=1)


def calendar(days: pd.DataFrame) -> Calendar:
    """Create the calendar of `days` (columns of AIRPORT_DAYS, one row per airport and day, any order, any index).

    Raises Missing if `days` is empty, and InvalidInput if an airport has two rows for one day or a row has no airport
    or no date.
    """
    origins, dates = _column(days, "origin"), pd.to_datetime(_column(days, "fl_date"))
    if not len(days):
        raise Missing("The table of airport-days is empty; run the gold step of the year.")
    unnamed = int((origins.isna() | dates.isna()).sum())
    if unnamed:
        raise InvalidInput(f"{unnamed} airport-days have no origin or no fl_date; run the gold step of the year again.")
    codes, airports = pd.factorize(origins, sort=True)
    column = np.asarray(codes, dtype=np.intp)
    row = np.asarray((dates - dates.min()).dt.days, dtype=np.intp)
    n_days = int(row.max()) + 1
    rows_at = np.bincount(row * len(airports) + column, minlength=n_days * len(airports))
    if rows_at.max() > 1:
        day, airport = divmod(int(rows_at.argmax()), len(airports))
        date = (dates.min() + pd.Timedelta(days=day)).date()
        raise InvalidInput(f"Airport {airports[airport]} has two rows for {date}; run the gold step of the year again.")
    with_feedback = np.unique(column[_booleans(days, "is_expected")])
    shape = (n_days, len(airports) + len(with_feedback))
    is_history = _booleans(days, "is_history")
    history_days = n_days if is_history.all() else int(row[~is_history].min())
    return Calendar(days, row, column, len(airports), shape, with_feedback, history_days)


def _booleans(days: pd.DataFrame, name: str) -> Flags:
    """Return an optional column; False where the value or the column is missing."""
    return days[name].to_numpy(dtype=np.bool_, na_value=False) if name in days else np.zeros(len(days), dtype=np.bool_)


def _column(days: pd.DataFrame, name: str) -> pd.Series:
    if name not in days:
        raise InvalidInput(f"The airport-days have no column {name}; pass the table airport_days of gold.")
    return days[name]


def usable(grid: Calendar, metric: str, min_flights: int) -> Flags:
    """Return the days with at least `min_flights` scheduled flights and a value of `metric`, as days × airports."""
    return (grid.numbers("scheduled") >= min_flights) & np.isfinite(grid.numbers(metric))


def severities(score: Floats, levels: Sequence[float]) -> npt.NDArray[np.int16]:
    """Return how many of the ascending `levels` each score reaches; 0 for a missing score."""
    reached: npt.NDArray[np.int16] = np.sum([score >= level for level in levels], axis=0, dtype=np.int16)
    return reached


def verdicts(
    grid: Calendar,
    *,
    metric: str,
    judged: Flags,
    expected: Floats,
    lower: Floats,
    upper: Floats,
    score: Floats,
    severity: npt.NDArray[np.int16],
    direction: npt.NDArray[np.str_],
) -> pd.DataFrame:
    """Return one verdict per row of `grid.days`, with their order and index: ANOMALIES without `params_hash`.

    All matrices are days × airports or broadcast to it. Days that are not `judged` keep only their observed value;
    their status is `no_flights` if nothing was scheduled, else `insufficient_data`.
    """
    judged_rows = grid.rows(judged).astype(np.bool_)
    severity_rows = np.where(judged_rows, grid.rows(severity), 0).astype(np.int16)
    is_anomaly = severity_rows > 0
    direction_rows = grid.rows(direction).astype(object)
    direction_rows[~is_anomaly] = None
    figures = {"expected": expected, "lower": lower, "upper": upper, "score": score}
    figure_rows = {name: np.where(judged_rows, grid.rows(matrix), np.nan) for name, matrix in figures.items()}
    columns = {
        "origin": grid.days["origin"].to_numpy(),
        "fl_date": grid.days["fl_date"].to_numpy(),
        "metric": metric,
        "observed": grid.rows(grid.numbers(metric)).astype(np.float32),
        **{name: rows.astype(np.float32) for name, rows in figure_rows.items()},
        "is_anomaly": is_anomaly,
        "direction": pd.Series(direction_rows, index=grid.days.index, dtype=object),
        "severity": severity_rows,
        "status": _status(grid, judged_rows),
    }
    return pd.DataFrame(columns, index=grid.days.index)


def unscored(days: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return verdicts without a score for all of `days`: `no_flights` or `insufficient_data`."""
    grid = calendar(days)
    nothing = np.full(grid.shape, np.nan)
    return verdicts(
        grid,
        metric=metric,
        judged=np.zeros(grid.shape, dtype=np.bool_),
        expected=nothing,
        lower=nothing,
        upper=nothing,
        score=nothing,
        severity=np.zeros(grid.shape, dtype=np.int16),
        direction=np.full(grid.shape, "late"),
    )


@dataclass(frozen=True)
class Band:
    """Expected value of each day, its spread below and above in units of the metric, and which days are judged.

    All are days × airports or broadcast to it. Where a spread is 0, the score is the residual in units of the metric;
    set a minimum spread if an airport with equal days should not be flagged.
    """

    expected: Floats
    below: Floats
    above: Floats
    judged: Flags

    def verdicts(self, grid: Calendar, metric: str, levels: Sequence[float], late_only: bool) -> pd.DataFrame:
        """Return the verdicts with the score residual / spread. `lower` and `upper` are `levels[0]` spreads away.

        levels: the scores from which a day is mild, strong and extreme. late_only: the score keeps the sign of the
        residual, so days below the band are not flagged.
        """
        error = grid.numbers(metric) - self.expected
        spread = np.where(error > 0, self.above, self.below)
        score = error / np.where(spread > 0, spread, 1.0)
        if not late_only:
            score = np.abs(score)
        return verdicts(
            grid,
            metric=metric,
            judged=self.judged,
            expected=self.expected,
            lower=self.expected - levels[0] * self.below,
            upper=self.expected + levels[0] * self.above,
            score=score,
            severity=severities(score, levels),
            direction=np.where(error > 0, "late", "early"),
        )


def _status(grid: Calendar, judged_rows: Flags) -> npt.NDArray[np.str_]:
    without_flights = grid.rows(grid.numbers("scheduled")) == 0
    return np.where(judged_rows, "ok", np.where(without_flights, "no_flights", "insufficient_data"))


def table(verdicts: pd.DataFrame, table_name: str) -> pa.Table:
    """Return the verdicts as a table with exactly `schemas.ANOMALIES`, by origin and fl_date.

    table_name: the name of the table in error messages.
    """
    ordered = verdicts.sort_values(["origin", "fl_date"])
    rows = pa.Table.from_pandas(ordered, schema=schemas.ANOMALIES, preserve_index=False).replace_schema_metadata(None)
    return schemas.check(rows, schemas.ANOMALIES, table_name)
