"""Pages from frames in view: hostile texts, days without some of the figures, the served day and its flights."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tests.builders import airport_day_row, event_row, factor_row, reason_row, table_of, verdict_row
from tests.page import Page
from utils import schemas
from utils.analysis import judged_days
from utils.reporting.site import frames, render
from utils.reporting.site.links import ServedLinks, StaticLinks

SCRIPT = "<script>alert(1)</script>"
LEVELS = render.Levels((60.0, 180.0, 500.0), cancelled_share=0.25, closure_share=0.45)
STATIC = render.Layout(StaticLinks("airports/JFK/2013.html"), LEVELS)
SERVED = render.Layout(ServedLinks(), LEVELS, years=[2012, 2013], user=SCRIPT)
DATES = [f"2013-02-{number:02}" for number in range(1, 15)]
STORM = "2013-02-08"


def joined(*, origin: str = "JFK", **changes: Any) -> pd.DataFrame:
    """Two weeks of an airport, of which 8 February is closed; `changes` are columns of its verdict."""
    figures = {"scheduled": 200, "departed": 200, "mean_effective_delay_min": 10.0}
    closed = {"cancelled": 150, "departed": 50, "mean_effective_delay_min": 95.0, "disrupted": 150}
    days = [airport_day_row(origin, date, **figures | (closed if date == STORM else {})) for date in DATES]
    usual = {"observed": 10.0, "expected": 9.0, "lower": 2.0, "upper": 30.0, "score": 3.0, "status": "ok"}
    storm = {"observed": 95.0, "is_anomaly": True, "direction": "closure", "severity": 3, "score": 700.0} | changes
    verdicts = [verdict_row("delaywatch", origin, date, **usual | (storm if date == STORM else {})) for date in DATES]
    return judged_days.join(pd.DataFrame(days), pd.DataFrame(verdicts))


def table(schema: pa.Schema, *rows: dict[str, Any]) -> pd.DataFrame:
    frame: pd.DataFrame = table_of(schema, *rows).to_pandas(date_as_object=False)
    return frame


def label(note: str) -> pd.DataFrame:
    given = pd.Timestamp("2014-01-02 03:04", tz="UTC")
    day = {"origin": "JFK", "fl_date": dt.date.fromisoformat(STORM), "opinion": "right"}
    return table(schemas.FEEDBACK, day | {"note": note, "author": SCRIPT, "given_at": given})


def day_data(**changes: Any) -> frames.DayData:
    days = joined()
    detectors = [days.assign(detector=name) for name in ("delaywatch", "three_sigma", "new_detector")]
    on = pd.concat(detectors)[lambda rows: rows["fl_date"] == STORM]
    network = pd.concat([days, joined(origin="LGA"), joined(origin="ZZQ")])
    reason = reason_row(fl_date=STORM, sentence=f"It was; 3 minutes of delay more than usual: 50% at {SCRIPT}.")
    given: dict[str, Any] = {
        "days": days,
        "verdicts": on.assign(score=[700.0, 4.2, np.nan]),
        "network": network[network["fl_date"] == STORM],
        "flagged": frames.flagged_days(days),
        "reasons": table(schemas.ANOMALY_REASONS, reason),
        "factors": table(
            schemas.ANOMALY_FACTORS,
            factor_row("carrier", SCRIPT, fl_date=STORM, excess_delay_min=900.0, excess_cancelled=20.0),
            factor_row("cause", "weather", fl_date=STORM, excess_delay_min=None, excess_cancelled=120.0),
        ),
        "events": table(
            schemas.EVENTS,
            event_row("20130208-JFK", STORM, name=f"2013-02-08 {SCRIPT}, closure", airports=2, airport_days=2),
        ),
        "event_airports": ["LGA", SCRIPT],
        "years": [2012, 2013],
        "feedback": label(f"{SCRIPT} snow"),
    }
    return frames.DayData("JFK", dt.date.fromisoformat(STORM), **given | changes)


def test_the_served_day_shows_every_detector_neighbours_label_and_the_days_around_and_escapes_texts() -> None:
    form = render.LabelForm("/flights/airports/JFK/2013-02-08/label", 'token"><b>')
    html = render.day_page(day_data(), SERVED, form, "/flights/airports/JFK/2013-02-08/flights")
    page = Page(html)

    assert "JFK, Fri 8 Feb 2013: closed" in page.texts_of("h1")
    assert "150 of 200 flights were cancelled" in page.text
    assert "The worst day since 2012." in page.text
    assert [row[0] for row in page.rows if len(row) == 7 and row[0] != "detector"][-3:] == [
        "delaywatch",
        "three_sigma",
        "new_detector",
    ]
    assert "4.2 standard deviations above the mean" in page.text
    assert "LGA" in page.text
    hrefs = [link["href"] for link in page.attributes_of("a")]
    assert {"/flights/airports/JFK/2013-02-07/", "/flights/airports/JFK/2013-02-09/"} <= set(hrefs)
    assert "/flights/events/20130208-JFK/" in hrefs
    assert f" cancelled. On this day also: LGA, {SCRIPT}." in page.text
    hidden = next(field for field in page.attributes_of("input") if field.get("name") == "csrf_token")
    assert hidden["value"] == 'token"><b>'
    assert [field["value"] for field in page.attributes_of("input") if field.get("name") == "opinion"] == [
        "right",
        "wrong",
        "expected",
    ]
    assert page.text.count(SCRIPT) >= 5
    assert SCRIPT not in html
    assert len(page.attributes_of("script")) == 1


@pytest.mark.parametrize(("airport_days", "is_linked"), [(1, False), (2, True)])
def test_an_event_of_one_airport_is_named_if_it_has_other_days(airport_days: int, is_linked: bool) -> None:
    event = event_row("20130208-JFK", STORM, name="2013-02-08..09 JFK, closure", airport_days=airport_days)
    page = Page(render.day_page(day_data(events=table(schemas.EVENTS, event)), SERVED))

    hrefs = [link["href"] for link in page.attributes_of("a")]
    assert ("/flights/events/20130208-JFK/" in hrefs) == is_linked


def test_a_day_without_verdict_label_event_or_reasons_has_a_page() -> None:
    nothing = {name: table(schema) for name, schema in (("reasons", schemas.ANOMALY_REASONS),)}
    nothing |= {"factors": table(schemas.ANOMALY_FACTORS), "events": table(schemas.EVENTS)}
    days = joined(is_anomaly=False, direction=None, severity=0, status="insufficient_data", score=np.nan)
    data = day_data(days=days, verdicts=day_data().verdicts.head(0), flagged=frames.flagged_days(days), **nothing)

    page = Page(render.day_page(data, SERVED))

    assert page.texts_of("h1") == ["JFK, Fri 8 Feb 2013: too few flights to judge"]
    assert "No detector has judged this day." in page.text
    assert not page.attributes_of("textarea")
    assert not [link for link in page.attributes_of("a") if "None" in (link["href"] or "")]


FLIGHT = {
    "fl_date": dt.date(2013, 2, 8), "op_carrier": "B6", "op_carrier_fl_num": 12, "origin": "JFK", "dest": "BOS",
    "crs_dep_time": 905, "dep_time": 1020, "dep_delay": 75, "cancelled": False, "cancellation_code": None,
}  # fmt: skip


def test_flights_are_listed_by_time_and_counted_by_hour() -> None:
    gone = {"op_carrier": SCRIPT, "crs_dep_time": 900, "cancelled": True, "cancellation_code": "B"}
    rows = [FLIGHT | {"weather_delay": 10, "nas_delay": 65}, FLIGHT | gone | {"dep_time": None, "dep_delay": None}]
    rows.append(FLIGHT | {"crs_dep_time": None, "dep_delay": None, "dep_time": None})
    silver = pd.DataFrame([dict.fromkeys(schemas.SILVER.names) | row for row in rows])

    page = Page(render.flights_part(silver, SERVED, "/flights/api/flights?format=csv"))

    assert [row[:3] + row[4:] for row in page.rows[1:]] == [
        ["09:00", f"{SCRIPT} 12", "BOS", "cancelled", "weather"],
        ["09:05", "B6 12", "BOS", "75", "aviation system"],
        ["–", "B6 12", "BOS", "–", ""],
    ]
    assert {"c", "q4"} <= {box["class"] for box in page.attributes_of("rect")}
    assert len(page.attributes_of("script")) == 0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "Rarer than once a year. 150 of 200 flights cancelled, 95 min effective delay, 9 expected."),
        (
            {"score": np.nan, "expected": np.nan, "lower": np.nan, "upper": np.nan},
            "Too little history to say how rare.",
        ),
        ({"observed": np.nan, "direction": "late"}, "– min effective delay"),
    ],
)
def test_the_section_of_a_day_says_what_is_known(changes: dict[str, Any], sentence: str) -> None:
    factor = factor_row("carrier", SCRIPT, fl_date=STORM, excess_delay_min=None, excess_cancelled=20.0)
    reason = reason_row(fl_date=STORM, sentence="It was closed.")
    data = frames.AirportYearData(
        *("JFK", 2013, joined(**changes)),
        table(schemas.ANOMALY_REASONS, reason),
        table(schemas.ANOMALY_FACTORS, factor),
        table(schemas.EVENTS),
        table(schemas.EVENT_DAYS),
        [1, *range(3, 13)],
        label(f"{SCRIPT} snow"),
    )

    html = render.airport_year_page(data, STATIC)
    page = Page(html)

    assert sentence in page.text
    assert "January and March to December: no data." in page.text
    assert f"{SCRIPT} – min, +20" in page.text
    assert f"Labelled right by {SCRIPT} on Thu 2 Jan 2014: {SCRIPT} snow" in page.text
    assert SCRIPT not in html


def test_hostile_codes_stay_in_one_part_of_an_address() -> None:
    origin, day = 'A/../"x#?', dt.date(2013, 2, 8)

    for links in (StaticLinks("airports/JFK/2013.html"), ServedLinks()):
        for address in (
            links.airport(origin),
            links.day(origin, day),
            links.event(origin),
            links.plot(origin, 2013, "x"),
        ):
            assert "A%2F..%2F%22x%23%3F" in address


def test_static_links_are_as_short_as_they_can_be() -> None:
    links, day = StaticLinks("airports/JFK/2013.html"), dt.date(2013, 2, 8)

    assert links.day("JFK", day) == "#2013-02-08"
    assert links.day("JFK", day, is_flagged=False) == "2013.html"
    assert links.airport_year("JFK", 2012) == "2012.html"
    assert links.day("LGA", day) == "../LGA/2013.html#2013-02-08"
    assert links.home() == "../../index.html"


def test_summaries_count_early_days_as_usual_and_weigh_flights() -> None:
    days = pd.concat([joined(), joined(origin="LGA", direction="early")])
    days.loc[(days["origin"] == "LGA"), "mean_effective_delay_min"] = np.nan

    network = frames.network_days(days)
    (storm,) = network[network["fl_date"] == STORM].to_dict("records")
    years = frames.airport_years(days).set_index("origin")

    assert (storm["scheduled"], storm["cancelled"], storm["airports"]) == (400, 300, 2)
    assert (storm["abnormal"], storm["closures"], storm["abnormal_flights"], storm["worst_origin"]) == (
        1,
        1,
        200,
        "JFK",
    )
    assert (storm["effective_min"], storm["effective_flights"]) == (95.0 * 200, 200)
    columns = ["abnormal", "severity", "judged_days", "effective_flights"]
    assert years[columns].to_numpy().tolist() == [[1, 3, 14, 2800], [0, 0, 14, 0]]
    assert frames.flagged_days(days)["origin"].tolist() == ["JFK"]
