"""What the year's page and its sentences say, and that the page is safe, whole and needs nothing beside it."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import io
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from utils import schemas
from utils.errors import DelaywatchError
from utils.reporting import pages, plots

Frames = tuple[pd.DataFrame, pd.DataFrame]
HOSTILE = "<script>alert(1)</script>"

QUALITY: dict[str, Any] = {
    "year": 2013,
    "bronze_key": "01_bronze/2013.csv",
    "bytes": 31_000_000,
    "sha256": "ab" * 32,
    "etag": "e",
    "rows_read": 336_779,
    "rows_kept": 331_673,
    "rows_duplicate": 5_100,
    "rows_rejected": 6,
    "rejected_by_reason": {"FL_DATE is not a date": 6},
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
    "ignored_columns": ["EXTRA"],
    "warnings": ["No flights at all in October 2013."],
}


def day(origin: str = "JFK", fl_date: str = "2013-02-09", **given: Any) -> dict[str, Any]:
    """An airport-day with 200 flights of 10 minutes, changed by what is given."""
    usual = {
        "scheduled": 200,
        "departed": 200,
        "cancelled": 0,
        "mean_dep_delay_min": 10.0,
        "mean_effective_delay_min": 10.0,
    }
    return {"origin": origin, "fl_date": dt.date.fromisoformat(fl_date), **usual, **given}


def verdict(origin: str = "JFK", fl_date: str = "2013-02-09", **given: Any) -> dict[str, Any]:
    """The verdict on such a day: nothing to see, unless a direction is given."""
    usual = {
        "metric": "mean_effective_delay_min",
        "observed": 10.0,
        "expected": 9.0,
        "lower": 0.0,
        "upper": 25.0,
        "score": 210.0 if "direction" in given else 2.0,
        "is_anomaly": "direction" in given,
        "direction": None,
        "severity": 2 if "direction" in given else 0,
        "status": "ok",
    }
    return {"origin": origin, "fl_date": dt.date.fromisoformat(fl_date), **usual, **given}


def frames(*rows: tuple[dict[str, Any], dict[str, Any]]) -> Frames:
    return pd.DataFrame([row[0] for row in rows]), pd.DataFrame([row[1] for row in rows])


def storm() -> Frames:
    """Two airports on two days: both closed on the second, one late on the first."""
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


NOTHING: dict[str, Any] = {  # neither explained nor said
    "reasons": schemas.ANOMALY_REASONS.empty_table().to_pandas(),
    "events": schemas.EVENTS.empty_table().to_pandas(),
    "feedback": schemas.FEEDBACK.empty_table().to_pandas(),
}


def page(days: pd.DataFrame, verdicts: pd.DataFrame, pngs: Any = (), **quality: Any) -> str:
    return pages.year_page(2013, days, {"delaywatch": verdicts}, "delaywatch", QUALITY | quality, pngs, **NOTHING)


def opinion(origin: str, fl_date: str, said: str, note: str = "") -> dict[str, Any]:
    return {"origin": origin, "fl_date": dt.date.fromisoformat(fl_date), "opinion": said, "note": note, "author": "ann"}


def event(**given: Any) -> dict[str, Any]:
    """A storm over two airports, changed by what is given."""
    usual = {
        "event_id": "20130208-JFK",
        "name": "2013-02-08..09 JFK and LGA, closure",
        "first_day": dt.date(2013, 2, 8),
        "kind": "closure",
        "airports": 2,
        "airport_days": 3,
        "severity": 3,
        "scheduled": 500,
        "cancelled": 194,
        "mean_effective_delay_min": 55.0,
        "worst_origin": "LGA",
    }
    return usual | given


class Reader(HTMLParser):
    """Keeps the tags with their attributes, and the text as a reader sees it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside = ""
        self.text = ""
        self.feed(html)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""
        self.text += " " if tag in ("dt", "dd", "li", "p", "td", "th", "caption", "h1", "h2", "h3") else ""

    def handle_data(self, data: str) -> None:
        self.text += "" if self.inside in ("script", "style") else data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


# Sentences


@pytest.mark.parametrize(
    ("facts", "judged", "expected"),
    [
        (
            {"scheduled": 214, "cancelled": 111},
            {"observed": 61.2, "expected": 17.8, "direction": "closure", "severity": 3},
            "JFK, Sat 9 Feb 2013: 214 scheduled flights, 61 min effective delay against 18 expected, 52% cancelled: "
            "closure, severity extreme.",
        ),
        (
            {"scheduled": 1, "cancelled": 0},
            {"observed": 3.0, "expected": np.nan, "status": "insufficient_data"},
            "JFK, Sat 9 Feb 2013: 1 scheduled flight, 3 min effective delay, none cancelled: too few flights to judge.",
        ),
        (
            {"scheduled": 1_250, "cancelled": 3},
            {"metric": "mean_dep_delay_min", "observed": 8.0, "expected": 9.0},
            "JFK, Sat 9 Feb 2013: 1,250 scheduled flights, 8 min mean delay against 9 expected, under 1% cancelled: "
            "as usual.",
        ),
        ({"scheduled": 0}, {"observed": None, "status": "no_flights"}, "JFK, Sat 9 Feb 2013: no scheduled flights."),
    ],
)
def test_a_sentence_says_what_happened_and_what_is_thought_of_it(
    facts: dict[str, Any], judged: dict[str, Any], expected: str
) -> None:
    assert pages.sentence(day(**facts), verdict(**judged)) == expected


def test_a_sentence_reads_the_same_from_rows_of_frames() -> None:
    days, verdicts = storm()

    from_rows = pages.sentence(days.iloc[2], verdicts.iloc[2])

    assert from_rows == pages.sentence(days.to_dict("records")[2], verdicts.to_dict("records")[2])  # type: ignore[arg-type]


# Rankings


def test_the_worst_day_is_the_one_with_most_abnormal_airports() -> None:
    found = pages.worst_days(*storm(), n=5)

    assert found["sentence"].to_list() == [
        "Sat 9 Feb 2013: 2 of 2 airports abnormal (2 closures), 300 scheduled flights, 81 min effective delay, "
        "65% cancelled; worst at LGA.",
        "Fri 8 Feb 2013: 1 of 2 airports abnormal (1 late), 400 scheduled flights, 10 min effective delay, "
        "none cancelled; worst at JFK.",
    ]


def test_equally_bad_days_are_ordered_by_date_and_airport_whatever_the_order_of_the_rows() -> None:
    dates = [f"2013-03-{number:02d}" for number in range(1, 11)]
    days, verdicts = frames(*((day(a, d), verdict(a, d, direction="late")) for d in dates for a in ("JFK", "LGA")))
    shuffled = days.sample(frac=1, random_state=3), verdicts.sample(frac=1, random_state=4)

    assert [f"{when:%F}" for when in pages.worst_days(*shuffled, 10)["fl_date"]] == dates
    assert pages.worst_days(*shuffled, 4)["worst_origin"].to_list() == ["JFK"] * 4
    first = pages.worst_airport_days(*shuffled, 3)
    assert [(o, f"{d:%F}") for o, d in zip(first["origin"], first["fl_date"], strict=True)] == [
        ("JFK", date) for date in dates[:3]
    ]


def test_the_worst_airport_days_are_the_severest_and_then_the_highest_scores() -> None:
    found = pages.worst_airport_days(*storm(), n=2)

    assert found[["origin", "severity", "score"]].to_numpy().tolist() == [["LGA", 3, 7.0], ["JFK", 3, 6.0]]
    assert found["sentence"].iloc[0].startswith("LGA, Sat 9 Feb 2013: 100 scheduled flights, 109 min")


def test_an_early_day_is_never_among_the_worst() -> None:
    early = frames((day(), verdict(direction="early", severity=3, score=9.0)))

    assert pages.worst_days(*early, 5).empty
    assert pages.worst_airport_days(*early, 5).empty


def test_a_year_without_abnormal_days_has_empty_lists_with_the_same_columns() -> None:
    calm = frames((day(), verdict()))

    assert list(pages.worst_days(*calm, 5)) == list(pages.worst_days(*storm(), 5))
    assert list(pages.worst_airport_days(*calm, 5)) == list(pages.worst_airport_days(*storm(), 5))


def test_gold_as_it_is_stored_is_ranked_like_frames_made_by_hand() -> None:
    days, verdicts = storm()
    import pyarrow as pa

    fields = [field for field in schemas.ANOMALIES if field.name in verdicts]
    stored = pa.Table.from_pandas(verdicts, pa.schema(fields), preserve_index=False).to_pandas()

    assert pages.worst_days(days, stored, 5)["sentence"].equals(pages.worst_days(days, verdicts, 5)["sentence"])


def test_a_mean_over_days_counts_every_flight_once() -> None:
    per_day, flights = pd.Series([100.0, 10.0, np.nan]), pd.Series([1, 9, 1_000])

    assert pages.weighted_mean(per_day, flights) == pytest.approx(19.0)  # the average of the averages is 55
    assert np.isnan(pages.weighted_mean(per_day[2:], flights[2:]))
    assert np.isnan(pages.weighted_mean(per_day[:1], flights[:1] * 0))


# Page


def test_key_figures_are_of_flights_and_not_of_days() -> None:
    busy = day("JFK", scheduled=900, departed=900, mean_dep_delay_min=10.0, mean_effective_delay_min=10.0)
    quiet = day(
        "LGA", scheduled=100, departed=50, cancelled=50, mean_dep_delay_min=105.0, mean_effective_delay_min=110.0
    )

    text = Reader(page(*frames((busy, verdict("JFK")), (quiet, verdict("LGA"))))).text

    assert "scheduled flights 1,000" in text
    assert "of all flights cancelled 5.0%" in text
    assert "mean departure delay per departed flight 15.0 min" in text
    assert "mean effective delay per scheduled flight 20.0 min" in text


def figures(*origins: str) -> list[tuple[str, str, bytes]]:
    out = io.BytesIO()
    Image.new("P", (120, 45)).save(out, "png")
    return [(origin, kind, out.getvalue()) for origin in origins for kind in plots.KINDS]


def test_every_airport_has_a_section_with_both_figures_inlined_busiest_first() -> None:
    read = Reader(page(*storm(), reversed(figures("JFK", "LGA"))))

    assert [section["data-origin"] for section in read.all("section")] == ["JFK", "LGA"]
    images = read.all("img")
    assert tuple(pages.FIGURES) == plots.KINDS
    assert [image["alt"] for image in images] == [
        f"{origin} 2013: {pages.FIGURES[kind]}" for origin in ("JFK", "LGA") for kind in plots.KINDS
    ]
    assert {(image["width"], image["height"], image["loading"], image["decoding"]) for image in images} == {
        ("120", "45", "lazy", "async")
    }
    prefix = "data:image/png;base64,"
    assert base64.b64decode(str(images[0]["src"]).removeprefix(prefix)) == figures("JFK")[0][2]


def test_the_page_loads_nothing_from_anywhere() -> None:
    read = Reader(page(*storm(), figures("JFK", "LGA")))

    addresses = [
        value
        for _, attributes in read.tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster")
    ]
    assert {str(address).split(",")[0] for address in addresses if not str(address).startswith("#")} == {
        "data:image/png;base64"
    }
    assert not read.all("link")
    assert not read.all("iframe")


def test_every_link_leads_to_something_on_the_page() -> None:
    read = Reader(page(*storm()))

    targets = {attributes["id"] for _, attributes in read.tags if "id" in attributes}
    assert {str(link["href"]).removeprefix("#") for link in read.all("a")} <= targets


def test_hostile_values_are_shown_and_never_run() -> None:
    days, verdicts = storm()
    days, verdicts = (frame.replace({"origin": {"JFK": HOSTILE}}) for frame in (days, verdicts))
    evil = '"><img src=x onerror=alert(1)>'

    html = pages.year_page(
        2013,
        days,
        {"delaywatch": verdicts, evil: verdicts},
        "delaywatch",
        QUALITY
        | {
            "warnings": [evil],
            "bronze_key": evil,
            "rejected_by_reason": {evil: 1},
            "airports_new": [HOSTILE],
            "ignored_columns": [evil],
            "null_share": {evil: 0.5},
            "missing_days": [evil],
        },
        figures(HOSTILE, "LGA"),
        reasons=pd.DataFrame([{"origin": HOSTILE, "fl_date": dt.date(2013, 2, 9), "sentence": evil}]),
        events=pd.DataFrame([event(name=evil, worst_origin=HOSTILE)]),
        feedback=pd.DataFrame([opinion("LGA", "2013-02-09", "expected", evil)]),
    )

    read = Reader(html)
    assert len(read.all("script")) == 1
    assert [image["src"] for image in read.all("img") if not str(image["src"]).startswith("data:")] == []
    assert not [name for _, attributes in read.tags for name in attributes if name.startswith("on")]
    assert read.text.count(HOSTILE) >= 4
    assert read.text.count(evil) >= 10


def test_the_policy_of_the_page_lets_only_its_own_script_and_style_run() -> None:
    html = page(*storm())

    policy = next(meta["content"] for meta in Reader(html).all("meta") if meta.get("http-equiv"))
    for tag in ("script", "style"):
        body = html.split(f"<{tag}>")[1].split(f"</{tag}>")[0]
        allowed = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{allowed}'" in str(policy)
    assert str(policy).startswith("default-src 'none'; img-src data:;")


def test_warnings_come_before_everything_else_and_again_before_the_quality_report() -> None:
    text = Reader(page(*storm())).text

    warning = QUALITY["warnings"][0]
    assert text.count(warning) == 2
    assert text.index(warning) < text.index("scheduled flights")
    assert text.rindex(warning) < text.index("01_bronze/2013.csv")
    assert "No warnings." in Reader(page(*storm(), warnings=[])).text


def test_the_quality_report_is_told_in_full() -> None:
    text = Reader(page(*storm())).text

    for told in (
        "read 336,779",
        "kept 331,673",
        "exact duplicates, dropped 5,100",
        "rejected 6 – FL_DATE is not a date 6",
        "31,000,000 bytes",
        "ab" * 32,
        "columns ignored EXTRA",
        "Jun 30,000 5,100 was in the file twice",
        "Sep 30,000 0 usually about 29,876",
        "Oct 0 0 missing",
        "days without any flight 2: 2013-10-01, 2013-10-02",
        "airports new against 2012 unknown: 2012 is not in the lake",
        "airports gone against 2012 1: ACK",
        "dep_delay 2.5%",
        "1 column has none",
    ):
        assert told in text


def test_detectors_are_counted_one_by_one_with_the_published_one_first() -> None:
    days, verdicts = storm()
    silent = verdicts.assign(is_anomaly=False, status=["ok", "ok", "insufficient_data", "no_flights"])

    judged = {"arima": silent, "delaywatch": verdicts}
    html = pages.year_page(2013, days, judged, "delaywatch", QUALITY, [], **NOTHING)

    text = Reader(html).text
    assert "delaywatch 3 75.0% 2 4 0 0 0 – arima 0 0.0% 0 2 2 0 0 –" in text
    assert "late 0 1 0 1 early 0 0 0 0 closure 0 0 2 2" in text


def test_a_detectors_precision_is_that_of_its_flagged_days_with_an_opinion() -> None:
    days, verdicts = storm()
    said = [
        opinion("JFK", "2013-02-08", "wrong"),
        opinion("LGA", "2013-02-08", "wrong"),  # not flagged, so no false alarm
        opinion("JFK", "2013-02-09", "right"),
        opinion("LGA", "2013-02-09", "expected"),  # neither
    ]

    html = pages.year_page(
        2013, days, {"delaywatch": verdicts}, "delaywatch", QUALITY, [], **NOTHING | {"feedback": pd.DataFrame(said)}
    )

    assert "delaywatch 3 75.0% 2 4 0 1 1 50.0%" in Reader(html).text


def test_a_day_is_told_with_its_reasons_and_what_was_said_of_it() -> None:
    days, verdicts = storm()
    why = pd.DataFrame([{"origin": "LGA", "fl_date": dt.date(2013, 2, 9), "sentence": "LGA: most for weather."}])
    said = pd.DataFrame(
        [opinion("LGA", "2013-02-09", "expected", "blizzard Nemo"), opinion("JFK", "2013-02-08", "wrong")]
    )

    html = pages.year_page(
        *(2013, days, {"delaywatch": verdicts}, "delaywatch", QUALITY, []),
        **NOTHING | {"reasons": why, "feedback": said},
    )

    text = Reader(html).text
    assert text.count("LGA: most for weather. Acknowledged by ann: blizzard Nemo.") == 2  # among the worst, and at LGA
    assert text.count("late, severity strong. Called a false alarm by ann.") == 2
    assert "closure, severity extreme." in text  # JFK on the second day, of which nothing more is known


def test_the_largest_events_come_first() -> None:
    days, verdicts = storm()
    small = event(event_id="20130301-JFK", name="2013-03-01 JFK, delay", kind="delay", airports=1, airport_days=9)

    html = pages.year_page(
        *(2013, days, {"delaywatch": verdicts}, "delaywatch", QUALITY, []),
        **NOTHING | {"events": pd.DataFrame([small, event()])},
    )

    text = Reader(html).text
    assert "2013 has 2, 1 of them of a single airport" in text
    assert "2013-02-08..09 JFK and LGA, closure closure extreme 3 500 38.8% 55.0 LGA 2013-03-01 JFK, delay" in text


def test_a_calm_year_says_so() -> None:
    text = Reader(page(*frames((day(), verdict())))).text

    assert "No airport-day that could be judged was abnormally late or closed in 2013" in text
    assert "No abnormal day among those that could be judged." in text
    assert "No figures were drawn for this airport." in text


def test_a_year_without_any_flight_still_makes_a_page() -> None:
    nothing = day(scheduled=0, departed=0, mean_dep_delay_min=np.nan, mean_effective_delay_min=np.nan)
    silent = verdict(observed=np.nan, expected=np.nan, score=np.nan, status="no_flights")

    text = Reader(page(*frames((nothing, silent)))).text

    assert "scheduled flights 0 airports 0 airport-days with flights 0 of all flights cancelled – " in text


def test_the_same_year_gives_the_same_page() -> None:
    assert page(*storm(), figures("JFK", "LGA")) == page(*storm(), figures("JFK", "LGA"))


def test_the_filter_is_hidden_until_its_script_runs_and_is_made_of_labelled_controls() -> None:
    read = Reader(page(*storm()))

    form = next(form for form in read.all("form"))
    assert "hidden" in form
    assert {control["type"] for control in read.all("input")} == {"search", "checkbox"}
    assert len(read.all("label")) == 2
    assert [row["data-abnormal"] for row in read.all("section")] == ["2", "1"]


def test_a_year_without_verdicts_of_the_published_detector_is_refused() -> None:
    days, verdicts = storm()

    with pytest.raises(DelaywatchError, match="2013 has verdicts of arima, not of delaywatch; run detect"):
        pages.year_page(2013, days, {"arima": verdicts}, "delaywatch", QUALITY, [], **NOTHING)


def test_a_figure_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(DelaywatchError, match="figure pie of JFK that this page cannot show"):
        page(*storm(), [("JFK", "pie", figures("JFK")[0][2])])


def test_a_figure_of_an_airport_without_days_is_refused() -> None:
    with pytest.raises(DelaywatchError, match="figure of EWR, which has no days in 2013"):
        page(*storm(), figures("EWR"))
