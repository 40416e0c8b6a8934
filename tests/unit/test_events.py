"""Which flagged days become one event, what it is called, and that single links never chain a country into one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils import schemas
from utils.analysis import airports, events
from utils.errors import DelaywatchError

Flag = tuple[str, str]  # airport and day; "09" is 9 February 2013
Found = tuple[pd.DataFrame, pd.DataFrame]
REAL = ("BOS", "DCA", "EWR", "JFK", "LAX", "LGA", "ORD", "PHL", "SAN", "SFO")
KM_PER_DEGREE = np.pi * airports.EARTH_RADIUS_KM / 180


def february(day: str) -> dt.date:
    return dt.date(2013, 2, 1) + dt.timedelta(days=int(day) - 1)


def judged(
    flags: Mapping[Flag, Mapping[str, Any]], codes: Iterable[str] = REAL, days: int = 28
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Verdicts and days: every airport has 100 flights on every day, and all is well but for the `flags`."""
    keys = [(code, february(str(day))) for code in codes for day in range(1, days + 1)]
    frame = pd.DataFrame(keys, columns=["origin", "fl_date"])
    told = {(code, february(day)): dict(flag) for (code, day), flag in flags.items()}
    assert set(told) <= set(keys)
    verdicts = pd.DataFrame(
        [
            {"is_anomaly": key in told, "status": "ok", "direction": None, "severity": 0, "score": 0.5}
            | ({"direction": "late", "severity": 1, "score": 3.0} | told[key] if key in told else {})
            for key in keys
        ]
    )
    figures = pd.DataFrame({"scheduled": 100, "cancelled": 0, "mean_effective_delay_min": np.float32(10)}, frame.index)
    return frame.join(verdicts), frame.join(figures)


def find(
    flags: Mapping[Flag, Mapping[str, Any]] | Iterable[Flag],
    coordinates: pd.DataFrame | None = None,
    codes: Iterable[str] = REAL,
    days: int = 28,
) -> Found:
    if not isinstance(flags, Mapping):
        flags = {flag: {} for flag in flags}
    verdicts, figures = judged(flags, codes, days)
    found = events.find(verdicts, figures, airports.coordinates(codes) if coordinates is None else coordinates)
    return found[0].to_pandas(), found[1].to_pandas()


def together(found: Found) -> list[list[str]]:
    """The airport-days of every event, as `JFK 09`."""
    days = found[1]
    words = days["origin"] + " " + [f"{day:%d}" for day in days["fl_date"]]
    return sorted(sorted(words[days["event_id"] == event]) for event in found[0]["event_id"])


def grid(rows: int, columns: int, step_km: float) -> pd.DataFrame:
    """Airports r0c00, r0c01, ... at equal distances, around the equator."""
    places = [(row, column) for row in range(rows) for column in range(columns)]
    return pd.DataFrame(
        {
            "origin": [f"r{row}c{column:02d}" for row, column in places],
            "latitude": [row * step_km / KM_PER_DEGREE for row, _ in places],
            "longitude": [column * step_km / KM_PER_DEGREE for _, column in places],
            "region": "midwest",
        }
    )


# What belongs together


def test_near_airports_on_the_same_day_are_one_event_and_far_ones_another() -> None:
    found = find([("JFK", "09"), ("LGA", "09"), ("LAX", "09")])

    assert together(found) == [["JFK 09", "LGA 09"], ["LAX 09"]]


def test_an_airport_that_is_flagged_on_the_next_day_too_goes_on() -> None:
    found = find([("JFK", "08"), ("JFK", "09"), ("JFK", "11")])

    assert together(found) == [["JFK 08", "JFK 09"], ["JFK 11"]]


def test_a_storm_that_reaches_the_neighbour_a_day_later_is_one_event() -> None:
    found = find([("EWR", "08"), ("LGA", "09"), ("BOS", "11")])

    assert together(found) == [["BOS 11"], ["EWR 08", "LGA 09"]]


def test_an_airport_400_km_away_that_is_flagged_a_day_later_is_an_event_of_its_own() -> None:
    place = grid(1, 3, step_km=400)

    found = find([("r0c00", "09"), ("r0c01", "10")], place, place["origin"])

    assert together(found) == [["r0c00 09"], ["r0c01 10"]]


def test_airports_at_both_ends_of_a_calm_land_are_two_events_and_those_of_an_affected_land_are_one() -> None:
    """Ten airports in a line, 50 km apart."""
    place = grid(1, 10, step_km=50)
    ends = [("r0c00", "09"), ("r0c09", "09")]

    calm = find(ends, place, place["origin"])
    affected = find([*ends, ("r0c03", "09"), ("r0c06", "09")], place, place["origin"])

    assert together(calm) == [["r0c00 09"], ["r0c09 09"]]
    assert len(together(affected)) == 1


def test_where_airports_are_few_the_distance_alone_decides() -> None:
    place = grid(1, 3, step_km=400)

    found = find([("r0c00", "09"), ("r0c01", "09"), ("r0c02", "11")], place, place["origin"])

    assert together(found) == [["r0c00 09", "r0c01 09"], ["r0c02 11"]]


def test_an_airport_at_the_edge_of_a_calm_land_is_not_joined_with_one_far_outside() -> None:
    """At 0 and 400 km an affected airport each, nothing between them, and calm ones all the way from 450 to 800 km."""
    place = grid(1, 17, step_km=50).iloc[[0, *range(8, 17)]]

    found = find([("r0c00", "09"), ("r0c08", "09")], place, place["origin"])

    assert together(found) == [["r0c00 09"], ["r0c08 09"]]


@pytest.mark.parametrize("day", ["08", "10"])
def test_one_airport_alone_before_or_after_a_storm_around_it_is_an_event_of_its_own(day: str) -> None:
    """A ring of 40 airports around nine calm ones, of which the middle one is flagged on the day before or after."""
    place = grid(7, 7, step_km=100)
    calm = {f"r{row}c{column:02d}" for row in (2, 3, 4) for column in (2, 3, 4)}
    ring = [(code, "09") for code in place["origin"] if code not in calm]

    found = find([*ring, ("r3c03", day)], place, place["origin"])

    assert sorted(found[0]["airport_days"]) == [1, 40]


def test_an_airport_without_a_verdict_does_not_count_as_calm() -> None:
    place = grid(1, 10, step_km=50)
    verdicts, days = judged({("r0c00", "09"): {}, ("r0c09", "09"): {}}, place["origin"])
    verdicts.loc[~verdicts["is_anomaly"], "status"] = "insufficient_data"

    found, _ = events.find(verdicts, days, place)

    assert found["airports"].to_pylist() == [2]


def test_early_days_are_no_part_of_an_event() -> None:
    found = find({("JFK", "09"): {}, ("LGA", "09"): {"direction": "early"}})

    assert together(found) == [["JFK 09"]]


def test_airports_without_coordinates_have_events_of_their_own() -> None:
    codes = ("JFK", "XXA", "XXB")

    found = find([("XXA", "08"), ("XXA", "09"), ("XXB", "09"), ("JFK", "09")], codes=codes)

    assert together(found) == [["JFK 09"], ["XXA 08", "XXA 09"], ["XXB 09"]]
    latitudes = found[0].set_index("event_id")["latitude"].to_dict()
    assert {event for event, latitude in latitudes.items() if np.isnan(latitude)} == {"20130208-XXA", "20130209-XXB"}
    assert latitudes["20130209-JFK"] == pytest.approx(40.64, abs=0.01)


# Chains


def test_scattered_flags_across_a_country_are_not_chained_into_one_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """40 × 5 airports 100 km apart, every fourth of a line flagged: each has another within reach."""
    place = grid(5, 40, step_km=100)
    scattered = [(f"r2c{column:02d}", "09") for column in range(0, 40, 4)]

    found = find(scattered, place, place["origin"])

    assert len(found[0]) == len(scattered)
    monkeypatch.setattr(events, "MIN_SHARE", 0.0)
    assert len(find(scattered, place, place["origin"])[0]) == 1  # so it is the share that keeps them apart


def test_a_front_across_a_country_is_one_event() -> None:
    place = grid(5, 40, step_km=100)
    front = [(f"r{row}c{column:02d}", "09") for row in (1, 2, 3) for column in range(40)]

    found = find(front, place, place["origin"])

    assert len(found[0]) == 1


def test_one_airport_a_day_somewhere_near_the_last_one_is_not_a_season_long_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each day another airport 224 km from that of the day before."""
    place = grid(5, 28, step_km=100)
    wandering = [(f"r{2 * (day % 2)}c{day:02d}", f"{day + 1:02d}") for day in range(28)]

    found = find(wandering, place, place["origin"])

    assert len(found[0]) == len(wandering)
    monkeypatch.setattr(events, "MIN_SHARE", 0.0)
    assert len(find(wandering, place, place["origin"])[0]) == 1


def test_two_storms_with_one_flagged_airport_between_them_stay_two() -> None:
    """Blocks of 3 × 3 airports on the 9th and the 11th, and on the 10th one airport that is near both."""
    place = grid(5, 9, step_km=100)
    first = [(f"r{row}c{column:02d}", "09") for row in (1, 2, 3) for column in (0, 1, 2)]
    second = [(f"r{row}c{column:02d}", "11") for row in (1, 2, 3) for column in (6, 7, 8)]

    found = find([*first, ("r2c04", "10"), *second], place, place["origin"])

    assert sorted(found[0]["airport_days"]) == [1, 9, 9]


# What an event says


def test_an_event_sums_up_its_days() -> None:
    closed = {"direction": "closure", "severity": 3}
    flags = {("LGA", "09"): closed | {"score": 7.0}, ("JFK", "09"): closed | {"score": 6.0}, ("JFK", "08"): {}}
    verdicts, days = judged(flags)
    at_lga = (days["origin"] == "LGA") & (days["fl_date"] == february("09"))
    days.loc[at_lga, ["scheduled", "cancelled", "mean_effective_delay_min"]] = [200, 180, 110]

    found, found_days = events.find(verdicts, days, airports.coordinates(REAL))

    (event,) = found.to_pylist()
    assert event.pop("latitude") == pytest.approx(40.71, abs=0.01)
    assert event.pop("longitude") == pytest.approx(-73.83, abs=0.01)
    assert event == {
        "event_id": "20130208-JFK",
        "name": "2013-02-08..09 JFK and LGA, mixed",
        "first_day": february("08"),
        "last_day": february("09"),
        "kind": "mixed",
        "airports": 2,
        "airport_days": 3,
        "severity": 3,
        "scheduled": 400,
        "cancelled": 180,
        "mean_effective_delay_min": 60.0,
        "worst_origin": "LGA",
    }
    assert found_days["event_id"].to_pylist() == ["20130208-JFK"] * 3


def test_the_worst_airport_of_an_event_is_that_of_its_rarest_day() -> None:
    """By severity, then by score; neither by the code nor by the number of flagged days."""
    flags = {
        ("EWR", "08"): {"severity": 2, "score": 400.0},
        ("EWR", "09"): {"severity": 2, "score": 400.0},
        ("JFK", "08"): {"severity": 3, "score": 500.0},
        ("LGA", "08"): {"severity": 3, "score": 700.0},
    }

    assert find(flags)[0]["worst_origin"].tolist() == ["LGA"]


@pytest.mark.parametrize(("closures", "kind"), [(0, "delay"), (1, "delay"), (2, "mixed"), (4, "closure")])
def test_an_event_is_of_the_kind_of_most_of_its_days(closures: int, kind: str) -> None:
    flags = {("JFK", f"{day:02d}"): {"direction": "closure" if day <= closures else "late"} for day in range(1, 6)}

    assert find(flags)[0]["kind"].tolist() == [kind]


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ([("LGA", "08")], "2013-02-08 LGA, delay"),
        ([("JFK", "28"), ("JFK", "29")], "2013-02-28..03-01 JFK, delay"),
        ([("EWR", "08"), ("JFK", "08"), ("LGA", "08")], "2013-02-08 EWR, JFK and LGA, delay"),
        ([(code, "08") for code in ("BOS", "EWR", "JFK", "LGA")], "2013-02-08 north-east, 4 airports, delay"),
        (
            [(code, "08") for code in ("DCA", "EWR", "JFK", "LGA", "PHL")],
            "2013-02-08 north-east and mid-Atlantic, 5 airports, delay",
        ),
    ],
)
def test_the_name_tells_days_place_and_kind(flags: list[Flag], name: str) -> None:
    assert find(flags, days=29)[0]["name"].tolist() == [name]


@pytest.mark.parametrize(
    ("regions", "told"),
    [
        ("aaaaaaabcd", "a"),
        ("aaaabbbbcc", "a and b"),
        ("aabbcccdef", "c, a and b"),
        ("aabbcdefgh", "a, b, c and other regions"),
    ],
)
def test_the_regions_of_most_airports_name_an_event(regions: str, told: str) -> None:
    place = grid(1, 10, step_km=100).assign(region=list(regions))
    flags = [(code, "09") for code in place["origin"]]

    found = find(flags, place, place["origin"])[0]

    assert found["name"].tolist() == [f"2013-02-09 {told}, 10 airports, delay"]


def test_the_centre_of_an_event_at_the_date_line_lies_there() -> None:
    place = pd.DataFrame(
        {"origin": ["AAA", "BBB"], "latitude": [50.0, 50.0], "longitude": [179.0, -179.0], "region": "x"}
    )

    found = find([("AAA", "09"), ("BBB", "09")], place, place["origin"])[0]

    assert len(found) == 1
    assert abs(found["longitude"].iloc[0]) == pytest.approx(180)


def test_a_year_without_flags_has_no_events() -> None:
    verdicts, days = judged({})

    found, found_days = events.find(verdicts, days, airports.coordinates(REAL))

    assert (found.num_rows, found_days.num_rows) == (0, 0)
    assert found.schema.equals(schemas.EVENTS)
    assert found_days.schema.equals(schemas.EVENT_DAYS)


def test_a_flag_on_a_day_that_gold_does_not_have_is_named() -> None:
    verdicts, days = judged({("JFK", "09"): {}})

    with pytest.raises(DelaywatchError, match="JFK has a verdict on 2013-02-09 and no airport-day; run the detect"):
        events.find(verdicts, days[days["origin"] != "JFK"], airports.coordinates(REAL))


# Whatever the flags

flagged = st.sets(st.tuples(st.sampled_from(REAL), st.integers(1, 6).map(lambda day: f"{day:02d}")), max_size=30)


@settings(max_examples=25)
@given(flags=flagged)
def test_every_flagged_day_is_in_exactly_one_event_and_no_event_has_an_idle_day(flags: set[Flag]) -> None:
    found, days = find(flags, days=6)

    assert sorted(zip(days["origin"], days["fl_date"], strict=True)) == sorted((o, february(d)) for o, d in flags)
    assert sorted(found["event_id"]) == sorted(set(days["event_id"]))
    assert found["airport_days"].sum() == len(flags)
    for _, event in days.merge(found, on="event_id").groupby("event_id"):
        span = (event["last_day"].iloc[0] - event["first_day"].iloc[0]).days + 1
        assert event["fl_date"].nunique() == span
        assert event["origin"].nunique() == event["airports"].iloc[0]


@settings(max_examples=25)
@given(flags=flagged, seed=st.integers(0, 1000))
def test_the_order_of_rows_changes_nothing(flags: set[Flag], seed: int) -> None:
    verdicts, days = judged({flag: {"score": float(number % 3)} for number, flag in enumerate(sorted(flags))}, days=6)
    place = airports.coordinates(REAL)

    first = events.find(verdicts, days, place)
    again = events.find(*(frame.sample(frac=1, random_state=seed) for frame in (verdicts, days, place)))

    assert all(one.equals(other) for one, other in zip(first, again, strict=True))


@settings(max_examples=25)
@given(flags=flagged, gone=st.sampled_from(REAL))
def test_more_flags_never_part_what_was_one_event(flags: set[Flag], gone: str) -> None:
    fewer = {flag for flag in flags if flag[0] != gone}

    with_all = find(flags, days=6)[1].set_index(["origin", "fl_date"])["event_id"]
    with_fewer = find(fewer, days=6)[1]

    for _, event in with_fewer.groupby("event_id"):
        keys = list(zip(event["origin"], event["fl_date"], strict=True))
        assert with_all.loc[keys].nunique() == 1
