"""The sentences, rankings and tables of the year page, and that the page is one safe file."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.builders import airport_day_row, event_row, verdict_row
from tests.page import Page
from utils import schemas
from utils.errors import Missing
from utils.reporting import pages, plots

Frames = tuple[pd.DataFrame, pd.DataFrame]

QUALITY: dict[str, Any] = {
    "year": 2013,
    "bronze_key": "01_bronze/2013.csv",
    "bytes": 0,
    "sha256": "",
    "rows_read": 336_779,
    "rows_kept": 331_673,
    "rows_duplicate": 5_100,
    "rows_rejected": 6,
    "rejected_by_reason": {},
    "rows_per_month": {str(month): 30_000 for month in range(1, 13) if month != 10},
    "duplicate_per_month": {"6": 5_100},
    "missing_months": [10],
    "doubled_months": [6],
    "missing_days": ["2013-10-01", "2013-10-02"],
    "unusual_months": [{"month": 9, "rows": 12_345, "typical": 29_876}],
    "airports": 2,
    "airports_new": None,
    "airports_gone": ["ACK"],
    "null_share": {"dep_delay": 0.0245, "origin": 0.0},
    "ignored_columns": [],
    "warnings": ["The file has no flights in October 2013."],
}


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


def figures(*origins: str) -> list[tuple[str, str, bytes]]:
    png = io.BytesIO()
    Image.new("P", (120, 45)).save(png, "png")
    return [(origin, kind, png.getvalue()) for origin in origins for kind in plots.KINDS]


def page(
    year: Frames,
    pngs: Any = (),
    *,
    others: dict[str, pd.DataFrame] | None = None,
    quality: dict[str, Any] | None = None,
    **tables: list[dict[str, Any]],
) -> str:
    """The year page; `tables` are rows of reasons, events and feedback."""
    empty = {
        "reasons": schemas.ANOMALY_REASONS.empty_table().to_pandas(),
        "events": schemas.EVENTS.empty_table().to_pandas(),
        "feedback": schemas.FEEDBACK.empty_table().to_pandas(),
    }
    given = {name: pd.DataFrame(rows) for name, rows in tables.items()}
    days, verdicts = year
    by_detector = {**(others or {}), "delaywatch": verdicts}
    return pages.year_page(2013, days, by_detector, "delaywatch", QUALITY | (quality or {}), pngs, **empty | given)


def opinion(origin: str, fl_date: str, opinion: str, note: str = "") -> dict[str, Any]:
    day = dt.date.fromisoformat(fl_date)
    return {"origin": origin, "fl_date": day, "opinion": opinion, "note": note, "author": "ann"}


def event(**changes: Any) -> dict[str, Any]:
    """A storm at two airports, with `changes`."""
    facts: dict[str, Any] = {"name": "2013-02-08..09 JFK and LGA, closure", "kind": "closure", "worst_origin": "LGA"}
    sizes: dict[str, Any] = {"airports": 2, "airport_days": 3, "severity": 3, "scheduled": 500, "cancelled": 194}
    return event_row("20130208-JFK") | facts | sizes | {"mean_effective_delay_min": 55.0} | changes


# --- sentences and rankings -------------------------------------------------------------------------------------------


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

    worst_dates = pages.worst_days(*year, 5)["fl_date"].dt.strftime("%F").tolist()

    assert worst_dates == ["2013-02-09", "2013-02-08"]


# --- the page ---------------------------------------------------------------------------------------------------------


def test_key_figures_weigh_flights_not_days() -> None:
    busy = day("JFK", scheduled=900, departed=900)
    quiet = day("LGA", scheduled=100, departed=50, cancelled=50, mean_dep_delay_min=105, mean_effective_delay_min=110)

    text = Page(page(frames((busy, verdict("JFK")), (quiet, verdict("LGA"))))).text

    for name, figure in {
        "scheduled flights": "1,000",
        "airports": "2",
        "of all flights cancelled": "5.0%",
        "mean departure delay per departed flight": "15.0 min",
        "mean effective delay per scheduled flight": "20.0 min",
        "abnormal airport-days": "0",
    }.items():
        assert f"{name} {figure}" in text


def test_every_airport_has_a_section_with_both_figures_busiest_first() -> None:
    html = Page(page(storm(), reversed(figures("JFK", "LGA"))))

    images = html.attributes_of("img")
    assert [section["data-origin"] for section in html.attributes_of("section")] == ["JFK", "LGA"]
    assert [section["data-abnormal"] for section in html.attributes_of("section")] == ["2", "1"]
    assert [image["alt"] for image in images] == [
        f"{origin} 2013: {pages.FIGURES[kind]}" for origin in ("JFK", "LGA") for kind in plots.KINDS
    ]
    assert {(image["width"], image["height"]) for image in images} == {("120", "45")}
    assert base64.b64decode(str(images[0]["src"]).partition(",")[2]) == figures("JFK")[0][2]


def test_the_page_is_one_file_whose_links_stay_on_it() -> None:
    html = Page(page(storm(), figures("JFK", "LGA")))

    names = ("src", "href", "srcset", "action", "data", "poster")
    addresses = [str(value) for _, attributes in html.tags for name, value in attributes.items() if name in names]
    anchors = {attributes["id"] for _, attributes in html.tags if "id" in attributes}
    assert {address.removeprefix("#") for address in addresses if not address.startswith("data:image/png")} <= anchors
    assert not [tag for tag, _ in html.tags if tag in ("link", "iframe", "object", "embed")]


def test_the_policy_of_the_page_allows_only_its_own_script_and_style() -> None:
    html = page(storm())

    (policy,) = [meta["content"] for meta in Page(html).attributes_of("meta") if meta.get("http-equiv")]
    assert str(policy).startswith("default-src 'none'; img-src data:;")
    for tag in ("script", "style"):
        body = html.split(f"<{tag}>")[1].split(f"</{tag}>")[0]
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in str(policy)


def test_hostile_values_are_shown_as_text() -> None:
    script, image = "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>'
    days, verdicts = (frame.replace({"origin": {"JFK": script}}) for frame in storm())
    lists = {key: [image] for key in ("warnings", "ignored_columns", "missing_days", "airports_new")}
    quality = {**lists, "bronze_key": image, "rejected_by_reason": {image: 1}, "null_share": {image: 0.5}}

    html = Page(
        page(
            (days, verdicts),
            figures(script, "LGA"),
            others={image: verdicts},
            quality=quality | {"unreadable_values": {image: {"rows": 1}}},
            reasons=[{"origin": script, "fl_date": dt.date(2013, 2, 9), "sentence": image}],
            events=[event(name=image, kind=image, worst_origin=script)],
            feedback=[opinion("LGA", "2013-02-09", "expected", image)],
        )
    )

    assert html.scripts() == ["script"]
    assert all(str(attributes["src"]).startswith("data:") for attributes in html.attributes_of("img"))
    assert html.text.count(script) >= 4
    assert html.text.count(image) >= 13


def test_the_quality_report_is_shown_after_its_warnings() -> None:
    text = Page(page(storm())).text

    assert text.index(QUALITY["warnings"][0]) < text.index("scheduled flights")
    for part in (
        "read 336,779",
        "duplicates, dropped 5,100",
        "rejected 6",
        "Jun 30,000 5,100 was in the file twice",
        "Oct 0 0 missing",
        "days without flights 2: 2013-10-01, 2013-10-02",
        "airports only in 2012 1: ACK",
        "dep_delay 2.5%",
    ):
        assert part in text


def test_detectors_are_counted_with_the_published_one_first() -> None:
    days, verdicts = storm()
    statuses = ["ok", "ok", "insufficient_data", "no_flights"]
    arima = verdicts.assign(is_anomaly=[True, False, False, False], status=statuses)
    feedback = [
        opinion("JFK", "2013-02-08", "wrong"),
        opinion("LGA", "2013-02-08", "wrong"),  # not flagged, so not a false alarm
        opinion("JFK", "2013-02-09", "right"),
        opinion("LGA", "2013-02-09", "expected"),  # neither right nor wrong
    ]

    rows = [" ".join(row) for row in Page(page((days, verdicts), others={"arima": arima}, feedback=feedback)).rows]

    # flagged, share of judged, airports, judged, not judged, right, wrong, precision
    published = rows.index("delaywatch 3 75.0% 2 4 0 1 1 50.0%")
    assert rows[published + 1] == "arima 1 50.0% 1 2 2 0 1 0.0%"
    assert {"late 0 1 0 1", "early 0 0 0 0", "closure 0 0 2 2"} <= set(rows)  # mild, strong, extreme, all


def test_the_page_states_the_measured_coverage_of_the_usual_range() -> None:
    """Of four days with a range, two are inside it, and one of the others is flagged. LGA has no range."""
    observed = {"2013-02-06": 10.0, "2013-02-07": 20.0, "2013-02-08": 31.0, "2013-02-10": 9.9}
    band = {"lower": 10.0, "upper": 20.0}
    rows = [(day("JFK", date), verdict("JFK", date, observed=value, **band)) for date, value in observed.items()]
    rows[2][1].update(is_anomaly=True, direction="late", severity=2)

    text = Page(page(frames(*rows, (day("LGA"), verdict("LGA", status="insufficient_data"))))).text

    assert "contains 66.7% of the judged days without a flag, and 50.0% of all judged days" in text


def test_a_flagged_day_is_shown_with_its_reasons_and_feedback() -> None:
    reason = {"origin": "LGA", "fl_date": dt.date(2013, 2, 9), "sentence": "LGA: most for weather."}
    feedback = [opinion("LGA", "2013-02-09", "expected", "blizzard Nemo"), opinion("JFK", "2013-02-08", "wrong")]

    items = Page(page(storm(), reasons=[reason], feedback=feedback)).texts_of("li")

    def with_words(*words: str) -> list[str]:
        return [item for item in items if all(word in item for word in words)]

    # Each sentence is in the list of the worst days and in the section of the airport.
    assert len(with_words("LGA: most for weather.", "ann", "blizzard Nemo")) == 2
    assert len(with_words("JFK", "8 Feb", "late", "strong", "false alarm", "ann")) == 2
    assert len(with_words("JFK", "9 Feb", "closure", "extreme")) == 2  # has no reasons
    assert len(with_words("ann")) == 4


def test_a_year_without_flights_has_a_page() -> None:
    empty = day(scheduled=0, departed=0, mean_dep_delay_min=np.nan, mean_effective_delay_min=np.nan)
    silent = verdict(observed=np.nan, expected=np.nan, score=np.nan, status="no_flights")

    html = Page(page(frames((empty, silent))))

    key_figures = dict(zip(html.texts_of("dt"), html.texts_of("dd"), strict=True))
    assert key_figures["scheduled flights"] == key_figures["airports"] == "0"
    assert key_figures["of all flights cancelled"] == "–"


def test_verdicts_of_the_published_detector_are_required() -> None:
    days, verdicts = storm()
    tables = dict.fromkeys(("reasons", "events", "feedback"), pd.DataFrame())

    with pytest.raises(Missing, match=r"arima.*delaywatch.*detect"):
        pages.year_page(2013, days, {"arima": verdicts}, "delaywatch", QUALITY, [], **tables)
