"""Where airports are: coordinates, region, metropolitan area. The only module that knows the package airportsdata.

What happens at an airport lives in gold; which airports an event joins is decided in `events`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import airportsdata
import numpy as np
import numpy.typing as npt
import pandas as pd

EARTH_RADIUS_KM = 6371.0088  # mean radius, IUGG

# Names as a forecaster would say them. Kentucky's airports lie on the Ohio river, so they go with the midwest.
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
# Airports of one metropolitan area, which share their weather; Seattle and Portland, 210 km apart, are the loosest.
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
PACIFIC = ("GU", "MP", "AS", "PW", "FM", "MH", "UM")  # countries; the package knows no states there
# In the flights of their years and closed since, so no longer in the package: latitude, longitude, state.
CLOSED = {
    "PFN": (30.2121, -85.6828, "Florida"),  # Panama City, until 2010
    "ISN": (48.1779, -103.6423, "North Dakota"),  # Williston, until 2019
}
_REGION_OF = {state: region for region, states in REGIONS.items() for state in states}


def coordinates(origins: Iterable[str]) -> pd.DataFrame:
    """One row per airport of `origins` that is known, by code: origin, latitude and longitude in degrees, region.

    Airports are looked up by their IATA code, which the flights use. The package airportsdata (MIT) carries the table;
    on all 4,975 routes of the first months of 2008 its distances lie within 18 miles of those that the flights state.
    """
    table = _table()
    return table[table["origin"].isin(set(origins))].reset_index(drop=True)


def distances_km(latitude: npt.ArrayLike, longitude: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Great-circle distances between all pairs of n places in degrees, shape (n, n), by the haversine formula."""
    north, east = (np.radians(np.asarray(angle, dtype=np.float64))[:, None] for angle in (latitude, longitude))
    half = np.sin((north - north.T) / 2) ** 2 + np.cos(north) * np.cos(north.T) * np.sin((east - east.T) / 2) ** 2
    distance: npt.NDArray[np.float64] = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(half))
    return distance


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
    return "Pacific islands" if country in PACIFIC else "abroad"
