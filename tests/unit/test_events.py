"""Airports and events: which flagged days belong together, and every column against an independent computation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from itertools import combinations
from math import asin, cos, radians, sin, sqrt
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest

from utils.analysis import airports, events
from utils.errors import Missing

Flag = tuple[str, int]  # airport and day of February 2013
CODES = ("BOS", "DCA", "EWR", "JFK", "LAX", "LGA", "ORD", "PHL", "SAN", "XXX")  # XXX has no coordinates
PLACES = airports.coordinates(CODES)
KM_PER_DEGREE = 111.195
CALIBRATION = Path(__file__).parents[2] / "benchmarks" / "make_year_calib.npz"  # 335 airports with flights in 2018


def february(day: int) -> date:
    return date(2013, 1, 31) + timedelta(days=day)


def days_and_verdicts(
    flags: Mapping[Flag, Mapping[str, Any]], codes: Iterable[str], n_days: int, not_judged: Iterable[Flag] = ()
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Airport-days and their verdicts; all days are normal except `flags`."""
    keys = [(code, day) for code in codes for day in range(1, n_days + 1)]
    frame = pd.DataFrame({"origin": [code for code, _ in keys], "fl_date": [february(day) for _, day in keys]})
    normal = {"is_anomaly": False, "status": "ok", "direction": None, "severity": 0, "score": 0.5}
    late = normal | {"is_anomaly": True, "direction": "late", "severity": 1, "score": 100.0}
    rows = [late | dict(flags[key]) if key in flags else normal for key in keys]
    verdicts = frame.join(pd.DataFrame(rows))
    verdicts.loc[[key in set(not_judged) for key in keys], "status"] = "insufficient_data"
    scheduled = np.arange(len(keys)) % 7 * 50 + 10
    delay = pd.Series(np.where(scheduled == 10, np.nan, scheduled / 4), dtype=np.float32)
    days = frame.assign(scheduled=scheduled, cancelled=scheduled // 3, mean_effective_delay_min=delay)
    return days, verdicts


def grid(rows: int, columns: int, step_km: float) -> pd.DataFrame:
    """Airports a0.0, a0.1, ... on the equator and the rows north of it."""
    places = [(row, column) for row in range(rows) for column in range(columns)]
    degrees = step_km / KM_PER_DEGREE
    return pd.DataFrame(
        {
            "origin": [f"a{row}.{column}" for row, column in places],
            "latitude": [row * degrees for row, _ in places],
            "longitude": [column * degrees for _, column in places],
            "region": "midwest",
        }
    )


def on_one_day(*origins: str) -> list[Flag]:
    return [(origin, 9) for origin in origins]


# Which days belong together


@pytest.mark.parametrize(
    ("places", "flags", "expected"),
    [
        (grid(1, 2, 499), [("a0.0", 9), ("a0.1", 9)], 1),
        (grid(1, 2, 501), [("a0.0", 9), ("a0.1", 9)], 2),
        (grid(1, 2, 299), [("a0.0", 9), ("a0.1", 10)], 1),
        (grid(1, 2, 301), [("a0.0", 9), ("a0.1", 10)], 2),
        (grid(1, 2, 299), [("a0.0", 8), ("a0.0", 9), ("a0.0", 11)], 2),
        # The ends of a line are linked only if a quarter of its airports are flagged.
        (grid(1, 8, 50), on_one_day("a0.0", "a0.7"), 1),
        (grid(1, 9, 50), on_one_day("a0.0", "a0.8"), 2),
        # One flagged airport near two storms does not join them.
        (
            grid(5, 9, 100),
            [
                *[(f"a{row}.{column}", 9) for row in (1, 2, 3) for column in (0, 1, 2)],
                ("a2.4", 10),
                *[(f"a{row}.{column}", 11) for row in (1, 2, 3) for column in (6, 7, 8)],
            ],
            3,
        ),
        # Across a country: scattered flags are separate events, a front is one.
        (grid(5, 40, 100), [(f"a2.{column}", 9) for column in range(0, 40, 4)], 10),
        (grid(5, 40, 100), [(f"a{row}.{column}", 9) for row in (1, 2, 3) for column in range(40)], 1),
    ],
)
def test_near_days_are_one_event_if_a_quarter_of_the_airports_between_them_are_flagged(
    places: pd.DataFrame, flags: list[Flag], expected: int
) -> None:
    days, verdicts = days_and_verdicts({flag: {} for flag in flags}, places["origin"], 28)

    assert events.find(verdicts, days, places)[0].num_rows == expected


def test_an_airport_without_a_verdict_does_not_count_as_normal() -> None:
    places = grid(1, 10, 50)
    between = on_one_day(*places["origin"][1:9])
    days, verdicts = days_and_verdicts({("a0.0", 9): {}, ("a0.9", 9): {}}, places["origin"], 9, between)

    found, _ = events.find(verdicts, days, places)

    assert found["airports"].to_pylist() == [2]


def test_a_flagged_day_that_gold_does_not_have_is_named() -> None:
    days, verdicts = days_and_verdicts({("JFK", 9): {}}, CODES, 9)

    with pytest.raises(Missing, match=r"JFK.* 2013-02-09"):
        events.find(verdicts, days[days["origin"] != "JFK"], PLACES)


# Against an independent computation


def generated_flags(seed: int) -> dict[Flag, dict[str, Any]]:
    random = Random(seed)
    airport_days = [(code, day) for code in CODES for day in range(1, 6)]
    return {
        airport_day: {
            "direction": random.choice(["late", "late", "closure", "early"]),
            "severity": random.randint(1, 3),
            "score": random.choice([80.0, 200.0, 700.0]),
        }
        for airport_day in random.sample(airport_days, random.choice([0, 3, 15, 30, 45]))
    }


def km(one: str, other: str) -> float:
    """Great-circle distance by the haversine formula; infinite if a place is unknown."""
    if one == other:
        return 0.0
    place = PLACES.set_index("origin")[["latitude", "longitude"]].to_dict("index")
    if not {one, other} <= place.keys():
        return float("inf")
    (north, east), (other_north, other_east) = (map(radians, place[code].values()) for code in (one, other))
    half = sin((north - other_north) / 2) ** 2 + cos(north) * cos(other_north) * sin((east - other_east) / 2) ** 2
    return 2 * 6371.0088 * asin(sqrt(half))


DISTANCE = {(one, other): km(one, other) for one in CODES for other in CODES}


def components(late: set[Flag]) -> list[set[Flag]]:
    """Link pairs of flagged days by the rule in the docstring of `find`, all airports being judged."""

    def share(around: str, up_to: str, day: int) -> float:
        near = [code for code in CODES if DISTANCE[around, code] <= DISTANCE[around, up_to]]
        return sum((code, day) in late for code in near) / len(near)

    def is_linked(one: Flag, other: Flag) -> bool:
        reach = {0: 500, 1: 300}.get(abs(one[1] - other[1]), -1)
        (a, a_day), (b, b_day) = one, other
        is_dense = share(a, b, b_day) >= 0.25 and share(b, a, a_day) >= 0.25
        return DISTANCE[a, b] <= reach and is_dense

    parts = [{flag} for flag in sorted(late)]
    for one, other in combinations(sorted(late), 2):
        if is_linked(one, other):
            first, second = (next(part for part in parts if flag in part) for flag in (one, other))
            if first is not second:
                parts.remove(second)
                first |= second
    return parts


@pytest.mark.parametrize("seed", range(16))
def test_every_column_of_events_is_that_of_an_independent_computation(seed: int) -> None:
    flags = generated_flags(seed)
    days, verdicts = days_and_verdicts(flags, CODES, 5)
    late = {flag for flag, verdict in flags.items() if verdict["direction"] != "early"}
    figures = days.merge(verdicts, on=["origin", "fl_date"]).merge(PLACES, on="origin", how="left")
    figures["fl_day"] = [day.toordinal() - february(0).toordinal() for day in figures["fl_date"]]
    expected, expected_days = [], []
    for part in components(late):
        rows = figures[[key in part for key in zip(figures["origin"], figures["fl_day"], strict=True)]]
        worst = rows.sort_values(["severity", "score", "origin"], ascending=[False, False, True])
        first_day, last_day = rows["fl_date"].min(), rows["fl_date"].max()
        event_id = f"{first_day:%Y%m%d}-{worst[worst['fl_date'] == first_day]['origin'].iloc[0]}"
        share = (rows["direction"] == "closure").mean()
        valued, placed = rows.dropna(subset="mean_effective_delay_min"), rows.dropna(subset="latitude")
        north, east = (np.radians(placed[name]) for name in ("latitude", "longitude"))
        x, y, z = (
            np.average(axis, weights=placed["scheduled"]) if len(placed) else np.nan
            for axis in (np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north))
        )
        expected.append(
            {
                "event_id": event_id,
                "first_day": first_day,
                "last_day": last_day,
                "kind": "closure" if share >= 0.8 else "delay" if share <= 0.2 else "mixed",
                "airports": rows["origin"].nunique(),
                "airport_days": len(rows),
                "severity": rows["severity"].max(),
                "scheduled": rows["scheduled"].sum(),
                "cancelled": rows["cancelled"].sum(),
                "mean_effective_delay_min": (
                    np.average(valued["mean_effective_delay_min"], weights=valued["scheduled"])
                    if len(valued)
                    else np.nan
                ),
                "worst_origin": worst["origin"].iloc[0],
                "latitude": np.degrees(np.arctan2(z, np.hypot(x, y))),
                "longitude": np.degrees(np.arctan2(y, x)),
            }
        )
        expected_days += [(event_id, *key) for key in zip(rows["origin"], rows["fl_date"], strict=True)]

    shuffled = (frame.sample(frac=1, random_state=seed) for frame in (verdicts, days, PLACES))
    found, event_days = (table.to_pandas() for table in events.find(*shuffled))

    assert list(event_days.itertuples(index=False, name=None)) == sorted(expected_days)
    assert Counter(found["event_id"]) == Counter(event_days["event_id"].unique())
    names = found.pop("name") if late else pd.Series(dtype=str)
    if late:
        reference = pd.DataFrame(expected).sort_values(["first_day", "event_id"], ignore_index=True)
        pd.testing.assert_frame_equal(found[reference.columns], reference, check_dtype=False, rtol=1e-4)
        assert all(name.startswith(f"{day}") for name, day in zip(names, found["first_day"], strict=True))
        assert all(name.endswith(kind) for name, kind in zip(names, found["kind"], strict=True))


# Airports


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
