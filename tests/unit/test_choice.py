"""What a notebook shows by default and on request, and which names an error suggests."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from tests.builders import airport_day_row, airport_days_table, event_row, table_of, verdict_row, verdicts_table
from utils import schemas
from utils.errors import Missing
from utils.tuning import choice

LAKE = "file:///lake"
STATUS = [{"year": year, "has_page": year != 2014} for year in (2011, 2013, 2014)]
DETECTORS = ["three_sigma", "arima", "delaywatch"]
CODES = ["JFK", "LGA", "EWR", "BOS", "ORD", "DFW", "SFO", "LAX", "JFY"]
DAYS = airport_days_table(
    *(
        airport_day_row(code, day, scheduled=10 + (code == "LGA"))
        for code in CODES
        for day in ("2013-02-08", "2013-02-09")
    )
).to_pandas(date_as_object=False)
EVENTS = table_of(
    schemas.EVENTS, event_row("20130101-JFK", "2013-01-01"), event_row("20130208-LGA", "2013-02-08", airports=2)
).to_pandas()


def test_the_defaults_are_the_newest_finished_year_the_largest_airport_and_the_largest_event() -> None:
    assert choice.year(STATUS, LAKE) == 2013
    assert choice.airport(DAYS) == "LGA"
    assert choice.event(EVENTS)["event_id"] == "20130208-LGA"


@pytest.mark.parametrize(
    ("ask", "named"),
    [
        (lambda: choice.year(STATUS, LAKE, 2014), r"2014.*file:///lake.*2011 or 2013"),
        (lambda: choice.airport(DAYS, "JFX"), r"'JFX'.*JFK|JFY"),
        (lambda: choice.detectors(DETECTORS, ["delaywach"]), r"'delaywach'.*arima"),
        (lambda: choice.event(EVENTS, "20130101"), r"'20130101'.*20130101-JFK"),
        (lambda: choice.most_unusual_day(DAYS, verdicts_table().to_pandas()), r"no scored day"),
    ],
)
def test_a_missing_name_is_answered_with_the_existing_names(ask: Callable[[], object], named: str) -> None:
    with pytest.raises(Missing, match=named):
        ask()


def test_a_year_without_flags_shows_the_airport_day_with_the_highest_score() -> None:
    scores = {"JFK": 20.0, "LGA": 70.0, "EWR": None}
    rows = (verdict_row("delaywatch", code, "2013-02-09", score=score) for code, score in scores.items())
    verdicts = verdicts_table(*rows).to_pandas(date_as_object=False)

    event, event_days = choice.most_unusual_day(DAYS, verdicts)

    assert event["event_id"].tolist() == event_days["event_id"].tolist() == ["20130209-LGA"]
    assert event_days[["origin", "fl_date"]].to_numpy().tolist() == [["LGA", pd.Timestamp("2013-02-09")]]
    assert event["severity"].tolist() == [0]
