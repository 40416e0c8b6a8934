"""Detectors of other projects on the same airport-days, for benchmarks/detectors.py: PyOD and STL residuals.

Each gets the days that our detectors would judge and runs twice: on the mean delay, which its users would choose, and
on the columns of our own detector. No threshold is set, only scores are compared. requirements/bench.in lists the
packages.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd

MIN_FLIGHTS, MIN_DAYS = 5, 28  # the defaults of our detectors
PERIOD_DAYS = 7
MODELS = ("IForest", "ECOD", "HBOS", "KNN", "LOF")
FEW = ("mean_dep_delay_min",)
MANY = ("mean_dep_delay_min", "mean_effective_delay_min", "disrupted_share", "cancelled_share")

Outsider = Callable[[pd.DataFrame], pd.DataFrame]


def outsiders() -> dict[str, Outsider]:
    """Return functions from airport-days to `origin`, `fl_date`, `score`, by their name in the tables."""
    scorers: dict[str, Outsider] = {}
    for words, columns in (("mean delay", FEW), ("four columns", MANY)):
        for model in MODELS:
            scorers[f"PyOD {model}, {words}"] = lambda days, model=model, columns=columns: _pyod(days, model, columns)  # type: ignore[misc]
    for words, column in (("mean delay", "mean_dep_delay_min"), ("effective delay", "mean_effective_delay_min")):
        scorers[f"STL residual, {words}"] = lambda days, column=column: _stl(days, column)  # type: ignore[misc]
    return scorers


def _usable(days: pd.DataFrame) -> pd.DataFrame:
    """Return the days that our detectors would judge, by airport and date, with the shares as columns."""
    is_usable = (days["scheduled"] >= MIN_FLIGHTS) & days[
        ["mean_dep_delay_min", "mean_effective_delay_min"]
    ].notna().all(axis=1)
    kept = days[is_usable]
    kept = kept[kept.groupby("origin")["origin"].transform("size") >= MIN_DAYS].sort_values(["origin", "fl_date"])
    return kept.assign(
        disrupted_share=kept["disrupted"] / kept["scheduled"], cancelled_share=kept["cancelled"] / kept["scheduled"]
    )


def _pyod(days: pd.DataFrame, model: str, columns: tuple[str, ...]) -> pd.DataFrame:
    """Score all airports with one model, PyOD's default settings, and columns standardised per airport."""
    import importlib

    kept = _usable(days)
    values = kept[list(columns)].astype(np.float64)
    groups = values.groupby(kept["origin"])
    spread = groups.transform("std")
    scaled = ((values - groups.transform("mean")) / spread.where(spread > 0, 1.0)).to_numpy()
    make = getattr(importlib.import_module(f"pyod.models.{model.lower()}"), model)
    fitted = make(random_state=0) if model == "IForest" else make()
    fitted.fit(scaled)
    return kept[["origin", "fl_date"]].assign(score=fitted.decision_scores_)


def _stl(days: pd.DataFrame, column: str) -> pd.DataFrame:
    """Score by the residual of robust STL (Cleveland et al., 1990) of each airport, over its median absolute deviation.

    The period is a week. Days without a value are dropped, so a gap joins the days around it.
    """
    from statsmodels.tsa.seasonal import STL

    kept = _usable(days)
    score: npt.NDArray[np.float64] = np.zeros(len(kept))
    for rows in kept.groupby("origin").indices.values():
        residual = STL(kept[column].to_numpy(dtype=np.float64)[rows], period=PERIOD_DAYS, robust=True).fit().resid
        centred = residual - np.median(residual)
        score[rows] = centred / max(1.4826 * float(np.median(np.abs(centred))), 1e-9)
    return kept[["origin", "fl_date"]].assign(score=score)
