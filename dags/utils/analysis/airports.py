"""Airport locations: coordinates, region, metropolitan area. Only this module imports the package airportsdata.

Airport delays are computed in gold; `events` decides which airports belong to one event.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple

import airportsdata
import numpy as np
import numpy.typing as npt
import pandas as pd

EARTH_RADIUS_KM = 6371.0088  # mean radius, IUGG

# Region names as in a weather forecast. Kentucky belongs to the midwest because its airports lie on the Ohio river.
REGIONS = {
    "north-east": (
        *("Maine", "New Hampshire", "Vermont", "Massachusetts", "Rhode Island", "Connecticut", "New York"),
        "New Jersey",
    ),
    "mid-Atlantic": ("Pennsylvania", "Delaware", "Maryland", "District of Columbia", "Virginia", "West Virginia"),
    "south-east": ("North Carolina", "South Carolina", "Georgia", "Alabama", "Mississippi", "Tennessee"),
    "Florida": ("Florida",),
    "midwest": (
        *("Ohio", "Michigan", "Indiana", "Illinois", "Wisconsin", "Minnesota", "Iowa", "Missouri"),
        "Kentucky",
    ),
    "plains": ("North Dakota", "South Dakota", "Nebraska", "Kansas"),
    "south-central": ("Oklahoma", "Arkansas", "Louisiana"),
    "Texas": ("Texas",),
    "mountains": ("Montana", "Idaho", "Wyoming", "Colorado", "Utah"),
    "south-west": ("Arizona", "New Mexico", "Nevada"),
    "California": ("California",),
    "north-west": ("Washington", "Oregon"),
    "Alaska": ("Alaska",),
    "Hawaii": ("Hawaii",),
    "Caribbean": ("Puerto Rico", "Virgin Islands"),
}
PACIFIC_REGION = "Pacific islands"
REGION_NAMES = (*REGIONS, PACIFIC_REGION)
# Airports of one metropolitan area share their weather. Seattle and Portland are the farthest apart, at 210 km.
METRO_AREAS = (
    ("EWR", "JFK", "LGA"),
    ("SFO", "OAK", "SJC"),
    ("IAH", "HOU"),
    ("SEA", "PDX"),
    ("DCA", "IAD", "BWI"),
    ("ORD", "MDW"),
    ("MIA", "FLL"),
    ("DFW", "DAL"),
    ("BOS", "PVD", "MHT"),
    ("LAX", "BUR", "SNA", "ONT", "LGB"),
)
PACIFIC = ("GU", "MP", "AS", "PW", "FM", "MH", "UM")  # countries; the package has no states for them
# Closed airports that the flights contain and the package no longer lists: latitude, longitude, state.
CLOSED = {
    "PFN": (30.2121, -85.6828, "Florida"),  # Panama City, until 2010
    "ISN": (48.1779, -103.6423, "North Dakota"),  # Williston, until 2019
}
_REGION_OF = {state: region for region, states in REGIONS.items() for state in states}


def coordinates(origins: Iterable[str]) -> pd.DataFrame:
    """Return one row per known airport of `origins`, by code: origin, latitude and longitude in degrees, region.

    Unknown codes are skipped. Codes are IATA codes, as in the flights. The table comes from the package airportsdata
    (MIT). On all 4,975 routes of early 2008 its distances differ by at most 18 miles from the distances in the flights.
    """
    table = _table()
    return table[table["origin"].isin(set(origins))].reset_index(drop=True)


def distances_km(latitude: npt.ArrayLike, longitude: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return great-circle distances in km between n points in degrees, shape (n, n), by the haversine formula."""
    north, east = (np.radians(np.asarray(angle, dtype=np.float64))[:, None] for angle in (latitude, longitude))
    half = np.sin((north - north.T) / 2) ** 2 + np.cos(north) * np.cos(north.T) * np.sin((east - east.T) / 2) ** 2
    distance: npt.NDArray[np.float64] = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(half))
    return distance


class Place(NamedTuple):
    """Where an airport is: its own name, its city and its state or province; latitude and longitude in degrees."""

    name: str
    city: str
    state: str
    latitude: float
    longitude: float


@functools.lru_cache(maxsize=1)
def places() -> dict[str, Place]:
    """Return the place of every known airport by IATA code."""
    known = {
        code: Place(airport["name"], airport["city"], airport["subd"], airport["lat"], airport["lon"])
        for code, airport in airportsdata.load("IATA").items()
    }
    return {code: Place("", "", state, north, east) for code, (north, east, state) in CLOSED.items()} | known


@functools.lru_cache(maxsize=1)
def _table() -> pd.DataFrame:
    rows = [
        (code, airport["lat"], airport["lon"], _region(airport["country"], airport["subd"]))
        for code, airport in airportsdata.load("IATA").items()
    ]
    rows += [(code, north, east, _region("US", state)) for code, (north, east, state) in CLOSED.items()]
    table = pd.DataFrame(rows, columns=["origin", "latitude", "longitude", "region"])
    return table.drop_duplicates("origin").sort_values("origin", ignore_index=True)


def _region(country: str, state: str) -> str:
    if country == "US":
        return _REGION_OF[state]
    return PACIFIC_REGION if country in PACIFIC else "abroad"
