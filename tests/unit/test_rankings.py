"""Sentences about airport-days, and the rankings of days."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.builders import airport_day_row, verdict_row
from utils.reporting import pages, wording

Frames = tuple[pd.DataFrame, pd.DataFrame]


def day(origin: str = "JFK", fl_date: str = "2013-02-09", **changes: Any) -> dict[str, Any]:
    """An airport-day with 200 flights of 10 minutes delay, with `changes`."""
    usual: dict[str, Any] = {"mean_dep_delay_min": 10.0, "mean_effective_delay_min": 10.0}
    return airport_day_row(origin, fl_date, **{"scheduled": 200, "departed": 200, **usual, **changes})


def verdict(origin: str = "JFK", fl_date: str = "2013-02-09", **changes: Any) -> dict[str, Any]:
    """The verdict on such a day, flagged if `changes` has a direction."""
    usual: dict[str, Any] = {"metric": "mean_effective_delay_min", "observed": 10.0, "expected": 9.0, "score": 2.0}
    if "direction" in changes:
        usual |= {"is_anomaly": True, "score": 210.0, "severity": 2}
    return verdict_row("delaywatch", origin, fl_date, **usual | changes)


def frames(*rows: tuple[dict[str, Any], dict[str, Any]]) -> Frames:
    return pd.DataFrame([row[0] for row in rows]), pd.DataFrame([row[1] for row in rows])


def storm() -> Frames:
    """Two airports on two days: JFK is late on the first day, both are closed on the second."""
    return frames(
        (day("JFK", "2013-02-08"), verdict("JFK", "2013-02-08", direction="late", score=3.0, observed=44.0)),
        (day("LGA", "2013-02-08"), verdict("LGA", "2013-02-08")),
        (
            day("JFK", "2013-02-09", cancelled=104, departed=96, mean_effective_delay_min=67.0),
            verdict("JFK", "2013-02-09", direction="closure", score=6.0, severity=3, observed=67.0),
        ),
        (
            day("LGA", "2013-02-09", scheduled=100, cancelled=90, departed=10, mean_effective_delay_min=109.0),
            verdict("LGA", "2013-02-09", direction="closure", score=7.0, severity=3, observed=109.0),
        ),
    )


@pytest.mark.parametrize(
    ("facts", "judged", "parts"),
    [
        (
            {"scheduled": 214, "cancelled": 111},
            {"observed": 61.2, "expected": 17.8, "direction": "closure", "severity": 3},
            ["214 scheduled flights", "61 min effective delay (expected 18)", "52% cancelled", "closure", "extreme"],
        ),
        (
            {"scheduled": 1},
            {"observed": 3.0, "expected": np.nan, "status": "insufficient_data"},
            ["1 scheduled flight,", "3 min effective delay,", "none cancelled", "too few flights"],
        ),
        (
            {"scheduled": 1_250, "cancelled": 3},
            {"metric": "mean_dep_delay_min", "observed": 8.0},
            ["1,250 scheduled flights", "8 min mean delay (expected 9)", "under 1% cancelled", "as usual"],
        ),
        ({"scheduled": 0}, {"observed": None, "status": "no_flights"}, ["no scheduled flights"]),
    ],
)
def test_a_sentence_has_the_facts_of_the_day_and_its_verdict(
    facts: dict[str, Any], judged: dict[str, Any], parts: list[str]
) -> None:
    sentence = pages.sentence(day(**facts), verdict(**judged))

    assert sentence.startswith("JFK, Sat 9 Feb 2013: ")
    places = [sentence.index(part) for part in parts]
    assert places == sorted(places)


def test_the_worst_days_have_most_abnormal_airports_and_figures_of_all_flights() -> None:
    worst = pages.worst_days(*storm(), n=5)

    figures = worst.drop(columns=["fl_date", "sentence"]).to_dict("records")
    assert [f"{day:%F}" for day in worst["fl_date"]] == ["2013-02-09", "2013-02-08"]
    assert figures == [
        {
            "airports": 2, "abnormal_airports": 2, "late": 0, "closures": 2, "scheduled": 300, "cancelled": 194,
            "mean_effective_delay_min": pytest.approx(81), "worst_origin": "LGA",
        },
        {
            "airports": 2, "abnormal_airports": 1, "late": 1, "closures": 0, "scheduled": 400, "cancelled": 0,
            "mean_effective_delay_min": pytest.approx(10), "worst_origin": "JFK",
        },
    ]  # fmt: skip
    assert "2 of 2 airports abnormal (2 closures), 300 scheduled flights" in worst["sentence"][0]


def test_equal_days_are_ordered_by_date_and_airport_in_any_order_of_rows() -> None:
    dates = [f"2013-03-{number:02}" for number in range(1, 11)]
    days, verdicts = frames(*((day(a, d), verdict(a, d, direction="late")) for d in dates for a in ("JFK", "LGA")))
    shuffled = days.sample(frac=1, random_state=3), verdicts.sample(frac=1, random_state=4)

    network, airport_days = pages.worst_days(*shuffled, 10), pages.worst_airport_days(*shuffled, 3)

    assert [f"{day:%F}" for day in network["fl_date"]] == dates
    assert set(network["worst_origin"]) == {"JFK"}
    assert [f"{row.origin} {row.fl_date:%F}" for row in airport_days.itertuples()] == [f"JFK {d}" for d in dates[:3]]


def test_early_days_are_not_among_the_worst() -> None:
    year = frames((day(), verdict(direction="early", severity=3, score=9.0)))

    assert pages.worst_days(*year, 5).empty
    assert pages.worst_airport_days(*year, 5).empty


def test_a_day_that_is_flagged_without_a_score_comes_after_an_equal_day_with_one() -> None:
    scores = {"2013-02-08": np.nan, "2013-02-09": 210.0}
    year = frames(*((day("JFK", date), verdict("JFK", date, direction="late", score=scores[date])) for date in scores))

    worst_dates = pages.worst_airport_days(*year, 5)["fl_date"].dt.strftime("%F").tolist()

    assert worst_dates == ["2013-02-09", "2013-02-08"]


def test_of_days_with_equally_many_abnormal_airports_those_with_more_effective_delay_are_worse() -> None:
    delays = {"2013-02-07": 54.0, "2013-02-08": 71.0, "2013-02-09": 76.0}
    year = frames(
        *(
            (day("JFK", date, mean_effective_delay_min=delay), verdict("JFK", date, direction="late"))
            for date, delay in delays.items()
        )
    )

    worst_dates = pages.worst_days(*year, 5)["fl_date"].dt.strftime("%F").tolist()

    assert worst_dates == ["2013-02-09", "2013-02-08", "2013-02-07"]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (1, "worst day since 2009"),
        (3, "third worst day since 2009"),
        (11, "11th worst day since 2009"),
        (21, "21st worst day since 2009"),
        (112, "112th worst day since 2009"),
        (122, "122nd worst day since 2009"),
        (1003, "1003rd worst day since 2009"),
    ],
)
def test_the_place_of_a_day_is_a_word_or_has_its_english_ending(place: int, words: str) -> None:
    assert wording.worst_day(place, 2009, 2013) == words


def test_the_worst_day_of_a_single_year_is_not_since_that_year() -> None:
    assert wording.worst_day(2, 2013, 2013) == "second worst day of 2013"
