"""Labels: which airport-days are abnormal, by facts that do not depend on any detector. Pure.

A list of all truly abnormal days does not exist, so labels have three sources. *Split halves*: the flights of a year
are split into two halves; a detector judges one half, and the worst days of the other half are the truth. *Neighbours*:
the truth of an airport is the worst days of the airports around it. *Planted truth*: a synthetic year with known
abnormal days.

Labels are a frame with `origin`, `fl_date` and `is_abnormal`, one row per airport-day. `metrics` compares them with the
verdicts of a detector. Notebooks 02 and 03 and benchmarks/detection use both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import pandas as pd
import pyarrow as pa

from utils.errors import InvalidInput
from utils.layers import gold, silver

METRIC = "mean_effective_delay_min"
MIN_FLIGHTS = 5  # days with fewer flights get no label: their mean is too noisy
PLANTED = ("storm", "strong", "moderate", "traffic_drop")  # kinds of a truth file that a detector should flag
BACKGROUND = "background"  # as bad as a planted day but not planted: three robust sigmas or more
NEUTRAL = ("gap",)  # days without flights
ORDINARY = ("short_presence",)  # an airport served for some weeks: its days are normal
_KEY = ["origin", "fl_date"]


def halves(tables: Iterable[pa.Table], year: int, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the airport-days (schemas.AIRPORT_DAYS) of each half of a year of silver tables.

    A hash of the flight's natural key and `seed` assigns each flight to one half, whatever the order of rows and
    tables. Raises InvalidInput if a half is empty.
    """
    sums = gold.DaySums(year), gold.DaySums(year)
    for flights in tables:
        is_other = (silver.fingerprints(flights, seed=seed) & np.uint64(1)).astype(np.bool_)
        for half, is_in in zip(sums, (~is_other, is_other), strict=True):
            half.add(gold.day_sums(flights.take(pa.array(np.flatnonzero(is_in)))))
    tables_of_halves = tuple(half.table() for half in sums)
    if not all(half.num_rows for half in tables_of_halves):
        raise InvalidInput(f"{year} has too few flights to be split into halves; choose a year with more flights.")
    one, other = (gold.airport_days(half, year).to_pandas(date_as_object=False) for half in tables_of_halves)
    return one, other


def worst_days(
    days: pd.DataFrame, share: float = 0.02, metric: str = METRIC, min_flights: int = MIN_FLIGHTS
) -> pd.DataFrame:
    """Label the `share` (rounded up) of each airport's days with the highest `metric`.

    Only days with at least `min_flights` flights are labelled.
    """
    counted = days[(days["scheduled"] >= min_flights) & days[metric].notna()]
    is_worst = counted.groupby("origin")[metric].transform(lambda values: _is_worst(values, share)).astype(np.bool_)
    return _labels(counted, is_worst)


def networks_worst_days(
    days: pd.DataFrame, share: float = 0.02, metric: str = METRIC, min_flights: int = MIN_FLIGHTS
) -> pd.DataFrame:
    """Label the `share` of all airports' days together with the highest `metric`; a few airports get most of them."""
    counted = days[(days["scheduled"] >= min_flights) & days[metric].notna()]
    return _labels(counted, _is_worst(counted[metric], share))


def neighbours_worst_days(
    days: pd.DataFrame,
    areas: Iterable[Collection[str]],
    share: float = 0.05,
    metric: str = METRIC,
    min_flights: int = MIN_FLIGHTS,
) -> pd.DataFrame:
    """Label each airport's days by the other airports of its area: their worst `share` of days, weighted by flights.

    An airport's own flights do not enter its labels. Areas with fewer than two airports in `days` give no labels; an
    airport belongs to at most one area.
    """
    counted = days[(days["scheduled"] >= min_flights) & days[metric].notna()]
    labels = [_labels(counted.iloc[:0], pd.Series(dtype=np.bool_))]
    for area in areas:
        in_area = counted[counted["origin"].isin(area)]
        for airport in sorted(in_area["origin"].unique()):
            others = in_area[in_area["origin"] != airport]
            minutes = (others[metric] * others["scheduled"]).groupby(others["fl_date"]).sum()
            theirs = minutes / others.groupby("fl_date")["scheduled"].sum()
            own = in_area[(in_area["origin"] == airport) & in_area["fl_date"].isin(theirs.index)]
            if len(own):
                labels.append(_labels(own, _is_worst(own["fl_date"].map(theirs), share)))
    return pd.concat(labels, ignore_index=True)


def planted_days(days: pd.DataFrame, truth: pd.DataFrame, *, is_background_abnormal: bool = True) -> pd.DataFrame:
    """Return the labels of a synthetic year from its truth file (`date`, `origin`, `kind`, `event`).

    benchmarks/make_year.py writes the truth file. Days of a kind in PLANTED are abnormal. BACKGROUND days, as bad but
    not planted, are abnormal too, or do not count (`is_counted`) without `is_background_abnormal`: flagging them is
    neither right nor wrong. Days of NEUTRAL never count; all others are normal. Two more columns: `kind`, and the
    `event` of storms. Raises InvalidInput for an unknown kind and for a planted day that the year does not have.
    """
    abnormal = {*PLANTED, BACKGROUND} if is_background_abnormal else {*PLANTED}
    left_out = {*NEUTRAL, BACKGROUND} - abnormal
    unknown = sorted(set(truth["kind"]) - {*PLANTED, BACKGROUND, *NEUTRAL, *ORDINARY})
    if unknown:
        known = ", ".join([*PLANTED, BACKGROUND, *NEUTRAL, *ORDINARY])
        raise InvalidInput(f"{unknown[0]} is not a kind of a truth file; use one of {known}.")
    truth_days = truth[["origin", "kind", "event"]].assign(fl_date=pd.to_datetime(truth["date"]))
    flown = days.loc[days["scheduled"] > 0, _KEY].assign(fl_date=pd.to_datetime(days["fl_date"]))
    joined = flown.merge(truth_days, on=_KEY, how="left", validate="one_to_one")
    if int(joined["kind"].isin(PLANTED).sum()) != int(truth_days["kind"].isin(PLANTED).sum()):
        raise InvalidInput("The truth file has planted days that the year does not have; pass files of the same run.")
    events = joined["event"].where(joined["kind"] == "storm")
    labels = _labels(joined, joined["kind"].isin(abnormal)).assign(is_counted=~joined["kind"].isin(left_out))
    return labels.assign(kind=joined["kind"], event=events)


def _labels(days: pd.DataFrame, is_abnormal: pd.Series) -> pd.DataFrame:
    labels = {"origin": days["origin"], "fl_date": pd.to_datetime(days["fl_date"]), "is_abnormal": is_abnormal}
    return pd.DataFrame(labels).reset_index(drop=True)


def _is_worst(values: pd.Series, share: float) -> pd.Series:
    """Return True for the highest `share` of values, rounded up, with all ties, but never for the lowest value.

    So a day without cancellations is not a worst day by cancelled share at an airport that rarely cancels.
    """
    is_among = values.rank(ascending=False, method="min") <= np.ceil(share * len(values))
    is_worst: pd.Series = is_among & (values > values.min())
    return is_worst
