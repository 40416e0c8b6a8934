"""Coordinates and regions of airports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from utils.analysis import airports

CALIBRATION = Path(__file__).parents[2] / "benchmarks" / "make_year_calib.npz"  # 335 airports with flights in 2018


def test_every_airport_of_a_year_has_its_coordinates_and_a_region() -> None:
    with np.load(CALIBRATION) as known:
        names, latitude, longitude = (known[name] for name in ("names", "lat", "lon"))

    located = airports.coordinates(names).set_index("origin").loc[names]

    assert np.abs(located["latitude"] - latitude).max() < 0.3
    assert np.abs(located["longitude"] - longitude).max() < 0.3
    assert "abroad" not in set(located["region"])


def test_closed_airports_have_coordinates_and_unknown_codes_are_left_out() -> None:
    located = airports.coordinates(["PFN", "???", "ISN", "isn"])

    assert located[["origin", "region"]].to_numpy().tolist() == [["ISN", "plains"], ["PFN", "Florida"]]


@pytest.mark.parametrize(
    ("code", "region"),
    [("LGA", "north-east"), ("DCA", "mid-Atlantic"), ("ATL", "south-east"), ("CVG", "midwest"), ("DFW", "Texas"),
     ("SLC", "mountains"), ("LAS", "south-west"), ("SEA", "north-west"), ("SJU", "Caribbean"), ("STT", "Caribbean"),
     ("GUM", "Pacific islands"), ("YYZ", "abroad")],
)  # fmt: skip
def test_an_airport_belongs_to_its_region(code: str, region: str) -> None:
    assert airports.coordinates([code])["region"].tolist() == [region]
