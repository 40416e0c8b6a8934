"""Where airports are, how far apart, and what their regions are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.analysis import airports

CALIBRATION = Path(__file__).parents[2] / "benchmarks" / "make_year_calib.npz"  # of 335 airports with flights in 2018
degrees = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


def test_every_airport_of_a_year_is_known_and_lies_where_its_flights_say() -> None:
    with np.load(CALIBRATION) as known:
        names, latitude, longitude = (known[name] for name in ("names", "lat", "lon"))

    found = airports.coordinates(names).set_index("origin")

    assert sorted(set(names) - set(found.index)) == []
    found = found.loc[names]
    assert np.abs(found["latitude"] - latitude).max() < 0.3
    assert np.abs(found["longitude"] - longitude).max() < 0.3
    assert "abroad" not in set(found["region"])


def test_an_airport_that_is_closed_by_now_is_still_found() -> None:
    found = airports.coordinates(["PFN", "ISN"])

    assert found[["origin", "region"]].to_numpy().tolist() == [["ISN", "plains"], ["PFN", "Florida"]]


def test_a_code_that_nobody_knows_is_left_out() -> None:
    assert airports.coordinates(["JFK", "???", "jfk"])["origin"].tolist() == ["JFK"]


@pytest.mark.parametrize(
    ("code", "region"),
    [("LGA", "north-east"), ("DCA", "mid-Atlantic"), ("ATL", "south-east"), ("CVG", "midwest"), ("DFW", "Texas"),
     ("SLC", "mountains"), ("LAS", "south-west"), ("SEA", "north-west"), ("SJU", "Caribbean"), ("STT", "Caribbean"),
     ("GUM", "Pacific islands"), ("YYZ", "abroad")],
)  # fmt: skip
def test_a_region_has_the_name_that_people_use(code: str, region: str) -> None:
    assert airports.coordinates([code])["region"].tolist() == [region]


def test_new_york_is_3974_km_from_los_angeles() -> None:
    place = airports.coordinates(["JFK", "LAX"])

    km = airports.distances_km(place["latitude"], place["longitude"])

    assert km[0, 1] == pytest.approx(3974, abs=5)


@given(st.lists(degrees, min_size=3, max_size=3))
def test_distances_are_those_of_a_sphere(places: list[tuple[float, float]]) -> None:
    latitude, longitude = zip(*places, strict=True)

    km = airports.distances_km(latitude, longitude)

    assert (km == km.T).all()
    assert (np.diag(km) == 0).all()
    assert km.max() <= np.pi * airports.EARTH_RADIUS_KM + 1e-6
    assert km[0, 2] <= km[0, 1] + km[1, 2] + 1e-3
