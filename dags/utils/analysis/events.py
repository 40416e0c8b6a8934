"""Group flagged airport-days into network events with a name, a kind and a place. Pure.

`attribution` explains a single airport-day; `airports` has the coordinates.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from utils import schemas
from utils.analysis import judged_days
from utils.analysis.airports import distances_km
from utils.reporting import wording

# How much likelier an airport is flagged when another one is, compared with any day, on real flights of January to
# April 2008: 20 times below 150 km, 12 at 400 to 500 km, 6 at 800 to 1,000 km, 1 beyond 2,000 km; one day later 3 times
# below 200 km, 2 from 300 km on. So weather reaches about 500 km, and less on the next day.
REACH_KM, NEXT_DAY_REACH_KM = 500.0, 300.0
# Minimum share of flagged airports among those between two flagged ones. In the east each airport has about 30 others
# within reach. At five flags per year, one of them is flagged every third day, so linking single airports would merge a
# whole season into one event.
MIN_SHARE = 0.25
CLOSURE_SHARE, DELAY_SHARE = 0.8, 0.2  # closed share of an event: from 0.8 on a closure, up to 0.2 a delay
LISTED_AIRPORTS = 3  # up to this many airports are listed by code, more by region
# An event is named after the regions with MAIN_SHARE of its airports, if they are at most MAX_REGIONS.
MAIN_SHARE, MAX_REGIONS = 2 / 3, 3

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def find(verdicts: pd.DataFrame, days: pd.DataFrame, coordinates: pd.DataFrame) -> tuple[pa.Table, pa.Table]:
    """Group a year's flags into events: tables of schemas.EVENTS and schemas.EVENT_DAYS.

    verdicts: ANOMALIES of one detector; early days belong to no event. days: AIRPORT_DAYS. coordinates: origin,
    latitude and longitude in degrees, region, as `airports.coordinates` returns them; an airport without coordinates
    gets events of its own.

    Two flagged airports are linked on a day if they are at most REACH_KM apart and at least MIN_SHARE of the judged
    airports around each of them are flagged. "Around" means no farther from the airport than the other airport of the
    pair. So close neighbours are linked, and distant airports only if the area between them is affected too, however
    dense its airports are. Days that follow each other are linked by the same rule within NEXT_DAY_REACH_KM, where the
    share around each airport is computed on the other airport's day; an airport that is flagged on both days is always
    linked to itself. Events are the connected components. The idea is density-based clustering (Ester et al., "DBSCAN",
    1996) with the density as a share, because airports are not evenly spread.

    Every flagged airport-day is in exactly one event, which may have no other. The order of rows does not matter.
    Raises Missing if a flagged day is not in `days`.
    """
    flagged = _flagged(verdicts, days)
    if flagged.empty:
        return schemas.EVENTS.empty_table(), schemas.EVENT_DAYS.empty_table()
    flagged["event"] = _Map.create(verdicts, coordinates).components(flagged)
    flagged = flagged.merge(coordinates, on="origin", how="left", validate="many_to_one")
    events = _events(flagged)
    event_days = flagged.join(events["event_id"], on="event").sort_values(["event_id", "origin", "fl_date"])
    events = events.sort_values(["first_day", "event_id"])
    return _table(events, schemas.EVENTS, "events"), _table(event_days, schemas.EVENT_DAYS, "days of the events")


def _flagged(verdicts: pd.DataFrame, days: pd.DataFrame) -> pd.DataFrame:
    """Return the late and closed airport-days with the columns of `days`, by airport and date."""
    figures = days[["origin", "fl_date", "scheduled", "cancelled", "mean_effective_delay_min"]]
    flags = verdicts[["origin", "fl_date", "is_anomaly", "direction", "severity", "score"]]
    joined = judged_days.join(figures, flags)
    return joined[joined["is_bad"]].sort_values(["origin", "fl_date"], ignore_index=True)


# Components


@dataclass(frozen=True)
class _Map:
    """The airports of a year with their distances, and the airports that were judged and flagged on each day."""

    codes: pd.Index
    first: pd.Timestamp
    judged: Flags  # days × airports
    flagged: Flags
    km: Floats  # airports × airports; infinite for an airport without coordinates
    order: npt.NDArray[np.intp]  # airports × airports: the other airports by distance, the airport itself first
    within: npt.NDArray[np.intp]  # airports × airports: number of airports no farther from the first than the second is

    @classmethod
    def create(cls, verdicts: pd.DataFrame, coordinates: pd.DataFrame) -> _Map:
        airport, codes = pd.factorize(verdicts["origin"], sort=True)
        dates = pd.to_datetime(verdicts["fl_date"])
        day = (dates - dates.min()).dt.days.to_numpy(dtype=np.intp)
        judged, flagged = (np.zeros((int(day.max(initial=-1)) + 1, len(codes)), dtype=np.bool_) for _ in range(2))
        flagged[day, airport] = verdicts["is_anomaly"].eq(True) & verdicts["direction"].ne("early")
        judged[day, airport] = verdicts["status"].eq("ok")
        judged |= flagged
        place = coordinates.set_index("origin").reindex(codes)
        km = distances_km(place["latitude"], place["longitude"])
        km[np.isnan(km)] = np.inf
        np.fill_diagonal(km, 0.0)
        order = np.argsort(km, axis=1, kind="stable")
        ascending = np.take_along_axis(km, order, axis=1)
        within = np.array(
            [np.searchsorted(row, distances, side="right") for row, distances in zip(ascending, km, strict=True)]
        )
        return cls(pd.Index(codes), dates.min(), judged, flagged, km, order, within.reshape(km.shape).astype(np.intp))

    def share(self, day: int, airports: npt.NDArray[np.intp], up_to: npt.NDArray[np.intp]) -> Floats:
        """Return a matrix: the flagged share of judged airports on `day` around each of `airports`, up to `up_to`."""
        nearest = self.order[airports]
        last = self.within[np.ix_(airports, up_to)] - 1
        flagged, judged = (
            np.take_along_axis(state[day][nearest].cumsum(axis=1), last, axis=1)
            for state in (self.flagged, self.judged)
        )
        share: Floats = flagged / np.maximum(judged, 1)
        return share

    def links(self, day: int, later: int, reach_km: float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Return pairs of linked airports, flagged on `day` and on `later`, which is the same day or the next."""
        on_day, on_later = np.flatnonzero(self.flagged[day]), np.flatnonzero(self.flagged[later])
        share = np.minimum(self.share(later, on_day, on_later), self.share(day, on_later, on_day).T)
        left, right = np.nonzero((self.km[np.ix_(on_day, on_later)] <= reach_km) & (share >= MIN_SHARE))
        return on_day[left], on_later[right]

    def components(self, flagged: pd.DataFrame) -> npt.NDArray[np.intp]:
        """Return the component number of each flagged airport-day."""
        row = np.full(self.flagged.shape, -1)
        airport = self.codes.get_indexer(pd.Index(flagged["origin"]))
        row[(flagged["fl_date"] - self.first).dt.days, airport] = np.arange(len(flagged))
        left, right = [np.zeros(0, np.intp)], [np.zeros(0, np.intp)]
        for day in map(int, np.flatnonzero(self.flagged.any(axis=1))):
            for later, reach_km in ((day, REACH_KM), (day + 1, NEXT_DAY_REACH_KM)):
                if later < len(self.flagged) and self.flagged[later].any():
                    on_day, on_later = self.links(day, later, reach_km)
                    left.append(row[day, on_day])
                    right.append(row[later, on_later])
        edges = np.concatenate(left), np.concatenate(right)
        graph = coo_array((np.ones(len(edges[0]), np.int8), edges), shape=(len(flagged), len(flagged)))
        component: npt.NDArray[np.intp] = connected_components(graph, directed=False)[1]
        return component


# Events


def _events(flagged: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of schemas.EVENTS, one row per number in the column `event`, which is the index.

    The worst airport is the airport of the rarest day: highest severity, then highest score (once in N days), then
    first code. It is the airport for which the event was most unusual, not the airport with the most flights.
    """
    order = {"severity": False, "score": False, "origin": True, "fl_date": True}
    worst_first = flagged.sort_values(list(order), ascending=list(order.values()))
    by_event = worst_first.assign(is_closure=worst_first["direction"] == "closure").groupby("event")
    events = by_event.agg(
        first_day=("fl_date", "min"),
        last_day=("fl_date", "max"),
        closures=("is_closure", "mean"),
        airports=("origin", "nunique"),
        airport_days=("origin", "size"),
        severity=("severity", "max"),
        scheduled=("scheduled", "sum"),
        cancelled=("cancelled", "sum"),
        worst_origin=("origin", "first"),
    )
    is_first = worst_first["fl_date"] == by_event["fl_date"].transform("min")
    at_first = worst_first[is_first].groupby("event")["origin"].first()
    events["event_id"] = events["first_day"].dt.strftime("%Y%m%d") + "-" + at_first
    events["kind"] = [_kind(share) for share in events["closures"]]
    places = _places(flagged)
    columns = [events.index, events["first_day"], events["last_day"], events["kind"]]
    events["name"] = [
        f"{_dates(first, last)} {places[event]}, {kind}" for event, first, last, kind in zip(*columns, strict=True)
    ]
    effective = worst_first["mean_effective_delay_min"].astype(np.float64)
    events["mean_effective_delay_min"] = _mean(effective, worst_first)
    return events.join(_centres(worst_first))


def _mean(values: pd.Series, days: pd.DataFrame) -> pd.Series:
    """Return by event the mean of `values`, weighted by flights; NaN if no day has both."""
    weights = days["scheduled"].where(values.notna(), 0.0)
    sums = pd.DataFrame({"total": values.fillna(0.0) * weights, "flights": weights}).groupby(days["event"]).sum()
    return sums["total"] / sums["flights"].where(sums["flights"] > 0)


def _centres(days: pd.DataFrame) -> pd.DataFrame:
    """Return by event the centre on the sphere, latitude and longitude in degrees; the date line has no effect."""
    north, east = np.radians(days["latitude"]), np.radians(days["longitude"])
    axes = (np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north))
    x, y, z = (_mean(axis, days) for axis in axes)
    return pd.DataFrame(
        {"latitude": np.degrees(np.arctan2(z, np.hypot(x, y))), "longitude": np.degrees(np.arctan2(y, x))}
    )


def _kind(closures: float) -> str:
    if closures >= CLOSURE_SHARE:
        return "closure"
    return "delay" if closures <= DELAY_SHARE else "mixed"


def place_of(name: str) -> str:
    """Return the place in the name of an event: `north-east` of `2013-02-08..09 north-east, 14 airports, closure`."""
    place = name.split(" ", 1)[-1].rsplit(", ", 1)[0]
    return re.sub(r", \d+ airports$", "", place)


def _dates(first: pd.Timestamp, last: pd.Timestamp) -> str:
    """Format as `2013-02-08`, `2013-02-08..09` or `2013-01-31..02-02`."""
    if first == last:
        return f"{first:%F}"
    same = "%d" if (first.year, first.month) == (last.year, last.month) else "%m-%d"
    return f"{first:%F}..{last.strftime(same if first.year == last.year else '%F')}"


def _places(flagged: pd.DataFrame) -> dict[int, str]:
    """Return by event `LGA`, `EWR, JFK and LGA`, or its regions: `north-east and mid-Atlantic, 14 airports`."""
    airports = flagged.drop_duplicates(["event", "origin"]).sort_values(["event", "origin"])
    codes: dict[int, list[str]] = {}
    regions: dict[int, Counter[str]] = {}
    for event, code, region in zip(airports["event"], airports["origin"], airports["region"], strict=True):
        codes.setdefault(event, []).append(code)
        regions.setdefault(event, Counter()).update([region])
    return {
        event: wording.listed(origins)
        if len(origins) <= LISTED_AIRPORTS
        else f"{_regions(regions[event])}, {len(origins)} airports"
        for event, origins in codes.items()
    }


def _regions(counts: Counter[str]) -> str:
    """Return the regions with the most airports that together have MAIN_SHARE of them: `midwest and plains`."""
    named: list[str] = []
    airports = 0
    for region, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if airports >= MAIN_SHARE * counts.total():
            break
        if len(named) == MAX_REGIONS:
            return wording.listed([*named, "other regions"])
        named.append(region)
        airports += count
    return wording.listed(named)


def _table(frame: pd.DataFrame, schema: pa.Schema, table_name: str) -> pa.Table:
    return schemas.check(
        pa.Table.from_pandas(frame[schema.names], schema, preserve_index=False).replace_schema_metadata(None),
        schema,
        f"The {table_name}",
    )
