"""What a notebook is about: the natural choice, the one that was asked for, and what is said when it is not there."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from utils.errors import DelaywatchError
from utils.tuning import choice

LAKE = "file:///lake"


def status(**has_page: bool) -> list[dict[str, Any]]:
    return [{"year": int(year.removeprefix("y")), "has_page": is_there} for year, is_there in has_page.items()]


def days(**flights: int) -> pd.DataFrame:
    """Two equal days of each airport."""
    return pd.DataFrame({"origin": list(flights), "scheduled": list(flights.values())}).loc[
        lambda one: [*one.index] * 2
    ]


def events(*ids: str, airports: int = 1) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "event_id": list(ids),
            "airports": [airports + place for place in range(len(ids))],
            "airport_days": 9,
            "severity": 1,
            "first_day": pd.Timestamp("2013-02-08"),
        }
    )


def test_the_natural_year_is_the_newest_that_is_finished() -> None:
    assert choice.year(status(y2011=True, y2013=True, y2014=False), LAKE) == 2013
    assert choice.year(status(y2011=True, y2013=True), LAKE, 2011) == 2011


def test_a_year_that_is_not_finished_is_told_with_those_that_are() -> None:
    with pytest.raises(
        DelaywatchError, match=r"no finished year 2014 in file:///lake; there are 2011, 2012 and 2013\.$"
    ):
        choice.year(status(y2011=True, y2012=True, y2013=True, y2014=False), LAKE, 2014)


def test_a_lake_without_a_finished_year_says_how_to_get_one() -> None:
    with pytest.raises(DelaywatchError, match=r"file:///lake has no finished year yet; run one with the DAG"):
        choice.year(status(y2014=False), LAKE)


def test_a_year_in_quotes_is_told_apart_from_the_year() -> None:
    with pytest.raises(DelaywatchError, match=r"no finished year '2013' in .*; there is 2013"):
        choice.year(status(y2013=True), LAKE, "2013")  # type: ignore[arg-type]  # what a reader may write


def test_the_natural_airport_has_the_most_flights_of_the_year() -> None:
    assert choice.airport(days(EWR=340, JFK=310, LGA=290)) == "EWR"
    assert choice.airport(days(EWR=340, JFK=310, LGA=290), "LGA") == "LGA"


def test_of_many_airports_those_close_in_spelling_are_named() -> None:
    many = days(**{f"A{letter}B": 5 for letter in "CDEFGHIJ"}, JFK=9, JFY=9)

    with pytest.raises(
        DelaywatchError, match=r"There is no airport 'JFX' in these days; close to it are JF[KY] and JF"
    ):
        choice.airport(many, "JFX")
    with pytest.raises(DelaywatchError, match=r"no airport 'QQQ' in these days; there are 10, from ACB to JFY\.$"):
        choice.airport(many, "QQQ")


def test_detectors_are_all_that_judged_the_year_or_those_asked_for_in_their_order() -> None:
    judged = ["three_sigma", "arima", "delaywatch"]

    assert choice.detectors(judged) == judged
    assert choice.detectors(judged, ["delaywatch", "arima"]) == ["delaywatch", "arima"]
    with pytest.raises(DelaywatchError, match="no detector 'delaywach' in the verdicts of this year; there are arima"):
        choice.detectors(judged, ["delaywach"])


def test_the_natural_event_is_the_largest() -> None:
    found = events("20130101-JFK", "20130208-LGA")

    assert choice.event(found)["event_id"] == "20130208-LGA"
    assert choice.event(found, "20130101-JFK")["event_id"] == "20130101-JFK"


def test_a_year_without_an_event_says_so() -> None:
    with pytest.raises(DelaywatchError, match="This year has no event, because no airport-day is flagged"):
        choice.event(events())
