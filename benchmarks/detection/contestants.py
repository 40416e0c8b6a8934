"""The contestants: functions from airport-days to scores, and the dict that lists them. README.md shows how to add one.

A contestant gets the airport-days of a year (`schemas.AIRPORT_DAYS`) and returns `origin`, `fl_date` and `score` of the
days that it scores; a higher score is a worse day. It never sees a label. Detectors with thresholds of their own also
return `is_anomaly` and `status`.

External detectors score the days that ours would score (`usable`), so that no contestant wins by refusing small
airports. They run with the default settings of their package.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.detection.data import ROOT, digest_of_files
from utils import detectors

MIN_FLIGHTS, MIN_DAYS = 5, 28  # the defaults of our detectors
WEEK_DAYS = 7
MEAN, EFFECTIVE = "mean_dep_delay_min", "mean_effective_delay_min"
FOUR = (MEAN, EFFECTIVE, "disrupted_share", "cancelled_share")
SETTINGS = ROOT / "dags" / "detectors.yaml"
VERDICTS = ["origin", "fl_date", "score"]
OWN_FLAGS = ["is_anomaly", "status"]

OURS, SIMPLE, PACKAGE = "ours", "simple", "package"  # the groups of contestants


@dataclass(frozen=True)
class Contestant:
    """A function that scores airport-days, and its description for results.md."""

    judge: Callable[[pd.DataFrame], pd.DataFrame]
    group: str  # OURS, SIMPLE or PACKAGE
    about: str  # columns, settings and source, in one sentence
    packages: tuple[str, ...] = ()  # a new version of one of them makes cached scores stale
    sources: tuple[Path, ...] = ()  # so does a change of one of these files or folders
    is_return_period: bool = False  # the score states a return period in days

    @property
    def version(self) -> str:
        """A hash of the contestant's code, settings and packages: with the days, the key of its cached scores."""
        call = self.judge if isinstance(self.judge, partial) else partial(self.judge)
        facts = [
            *(inspect.getsource(function) for function in (call.func, usable, standardised)),
            repr((call.args, call.keywords)),
            *(f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "pandas", *self.packages)),
            digest_of_files(self.sources),
        ]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def usable(days: pd.DataFrame, columns: Sequence[str] = (EFFECTIVE,)) -> pd.DataFrame:
    """Return the days that our detectors would score, by airport and date, with the shares as columns.

    They have MIN_FLIGHTS scheduled flights and a value in one of `columns`, at airports with MIN_DAYS such days.
    """
    shares = {name: days[name.removesuffix("_share")] / days["scheduled"] for name in FOUR[2:]}
    kept = days.assign(**shares)
    kept = kept[(kept["scheduled"] >= MIN_FLIGHTS) & kept[list(columns)].notna().any(axis=1)]
    kept = kept[kept.groupby("origin")["origin"].transform("size") >= MIN_DAYS]
    return kept.sort_values(["origin", "fl_date"], ignore_index=True)


def standardised(days: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return columns in standard deviations above the airport's mean of the year; 0 if a value is missing.

    Only the mean delay can be missing, on a day on which all flights were cancelled.
    """
    values = days[list(columns)].astype(np.float64)
    by_airport = values.groupby(days["origin"])
    spread = by_airport.transform("std")
    scaled: pd.DataFrame = (values - by_airport.transform("mean")) / spread.where(spread > 0, 1.0)
    return scaled.fillna(0.0)


def own_detector(days: pd.DataFrame, name: str, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Score with one of our detectors."""
    return detectors.load(name)(days, **settings)[[*VERDICTS, *OWN_FLAGS]]


def signed_three_sigma(days: pd.DataFrame, column: str) -> pd.DataFrame:
    """Score by the standard deviations above the airport's mean of the year."""
    kept = usable(days, [column])
    return kept.assign(score=standardised(kept, [column])[column])[VERDICTS]


def pyod(days: pd.DataFrame, model: str, columns: Sequence[str], **settings: Any) -> pd.DataFrame:
    """Score all airports with one model of PyOD, on columns that are standardised per airport."""
    kept = usable(days, columns)
    fitted = getattr(importlib.import_module(f"pyod.models.{model.lower()}"), model)(**settings)
    fitted.fit(standardised(kept, columns).to_numpy())
    return kept.assign(score=fitted.decision_scores_)[VERDICTS]


def stl(days: pd.DataFrame, column: str) -> pd.DataFrame:
    """Score by the residual of a robust STL decomposition of each airport, over its median absolute deviation."""
    from statsmodels.tsa.seasonal import STL

    def score(series: pd.Series) -> pd.Series:
        residual = STL(series.to_numpy(dtype=np.float64), period=WEEK_DAYS, robust=True).fit().resid
        centred = residual - np.median(residual)
        return pd.Series(centred / max(1.4826 * float(np.median(np.abs(centred))), 1e-9), index=series.index)

    kept = usable(days, [column])
    return kept.assign(score=kept.groupby("origin")[column].transform(score))[VERDICTS]


def auto_arima(days: pd.DataFrame, column: str) -> pd.DataFrame:
    """Score by the one-step residual of AutoARIMA of each airport, over the residuals' standard deviation."""
    from statsforecast.models import AutoARIMA

    def score(series: pd.Series) -> pd.Series:
        values = series.to_numpy(dtype=np.float64)
        if values.std() == 0:
            return series * 0.0
        # `approximation` compares orders by a conditional sum of squares; without it, a year takes four times as long.
        model = AutoARIMA(season_length=WEEK_DAYS, approximation=True).fit(values)
        residual = values - model.predict_in_sample()["fitted"]
        return pd.Series(residual / max(float(residual.std()), 1e-9), index=series.index)

    kept = usable(days, [column])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "possible convergence problem")  # of orders that it then rejects
        return kept.assign(score=kept.groupby("origin")[column].transform(score))[VERDICTS]


def _ours() -> dict[str, Contestant]:
    """Return our detectors with the settings of detectors.yaml, and the published one also with `past_only`."""
    settings = detectors.read_settings(SETTINGS)
    source = (Path(str(detectors.__file__)).parent,)
    packages = ("scikit-learn",)
    abouts = {
        "three_sigma": "mean delay; distance to the airport's mean",
        "isolation_forest": "mean delay; scikit-learn's Isolation Forest (Liu 2008), one per airport",
        "arima": "mean delay; forecast error of an ARIMA that is estimated online",
        "random_cut_forest": "mean delay; collusive displacement (Guha 2016), one forest per airport",
        "gradient_boosting": "mean delay; boosted quantile trees, cross-fitted",
        "delaywatch": "effective delay, cancelled share, mean delay; docs/delaywatch.md",
    }
    published = detectors.PUBLISHED
    ours = {
        name: Contestant(
            partial(own_detector, name=name, settings=settings[name]),
            OURS,
            abouts.get(name, name),
            packages,
            source,
            is_return_period=name == published,
        )
        for name in detectors.NAMES
    }
    past = partial(own_detector, name=published, settings={**settings[published], "past_only": True})
    about = "the same with `past_only`: each day is scored from earlier days only, as for an alert"
    return {**ours, f"{published}, past only": Contestant(past, OURS, about, packages, source, is_return_period=True)}


def _external() -> dict[str, Contestant]:
    """Return two detectors of PyOD, each on the mean delay and on FOUR."""
    contestants: dict[str, Contestant] = {}
    for columns, shown in (((MEAN,), "mean delay"), (FOUR, "four columns")):
        contestants |= {
            f"PyOD IForest, {shown}": Contestant(
                partial(pyod, model="IForest", columns=columns, random_state=0),
                PACKAGE,
                f"{shown}; Isolation Forest (Liu 2008), one model for all airports, 100 trees, seed 0",
                ("pyod", "scikit-learn"),
            ),
            f"PyOD HBOS, {shown}": Contestant(
                partial(pyod, model="HBOS", columns=columns),
                PACKAGE,
                f"{shown}; histograms (Goldstein 2012), one model for all airports, 10 bins",
                ("pyod",),
            ),
        }
    return contestants


CONTESTANTS: dict[str, Contestant] = {
    **_ours(),
    "signed three sigma, mean delay": Contestant(
        partial(signed_three_sigma, column=MEAN), SIMPLE, "mean delay; standard deviations above the airport's mean"
    ),
    "signed three sigma, effective delay": Contestant(
        partial(signed_three_sigma, column=EFFECTIVE), SIMPLE, "the same on the effective delay"
    ),
    **_external(),
    "STL residual, effective delay": Contestant(
        partial(stl, column=EFFECTIVE),
        PACKAGE,
        "effective delay; robust STL (Cleveland 1990) of statsmodels with a weekly period; gaps are closed",
        ("statsmodels",),
    ),
    "AutoARIMA, effective delay": Contestant(
        partial(auto_arima, column=EFFECTIVE),
        PACKAGE,
        "effective delay; statsforecast's AutoARIMA (Hyndman 2008) with a weekly season, `approximation` on; "
        "in-sample one-step residual; gaps are closed",
        ("statsforecast",),
    ),
}
