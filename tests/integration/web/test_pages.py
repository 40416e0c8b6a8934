"""The pages: each answers with the figures of SQL, an unknown one is not found, and headers hold everywhere."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for

import pandas as pd
import pytest
from fastapi import FastAPI

from tests.conftest import sql
from tests.integration.web.conftest import Visit
from utils import detectors
from utils.analysis import judged_days
from utils.pipeline import inputs as pipeline_inputs
from utils.reporting.site import frames
from utils.settings import Settings
from utils.storage import keys
from utils.storage.lake import Lake
from utils.web.app import THREADS
from utils.web.auth import Visitor
from utils.web.data import Warehouse
from utils.web.rendered import MAX_RENDERED, Rendered

DAY = "/flights/airports/EWR/2015-02-08/"
EVENT = "/flights/events/20150208-JFK/"
PAGES = [
    *("/flights/", "/flights/2015/", "/flights/airports/", "/flights/airports/EWR/", "/flights/airports/EWR/2015/"),
    *(DAY, f"{DAY}flights", EVENT, "/flights/api/docs"),
]
UNKNOWN = [
    *("/flights/2014/", "/flights/1986/", "/flights/99999/", "/flights/airports/XXX/", "/flights/airports/ewr/"),
    *("/flights/airports/EWR/2014/", "/flights/airports/EWR/2015-02-30/", "/flights/airports/EWR/2016-02-08/"),
    *("/flights/airports/EWR/1423353600/", "/flights/airports/EWR/2016-02-08/flights", "/flights/events/20150208-XXX/"),
    *("/flights/events/x/", "/flights/events/20159999-EWR/"),
    *("/flights/plots/2015/EWR/other.png", "/flights/plots/2015/XXX/daily_delay.png"),
    *("/flights/assets/x/settings.py", "/flights/assets/x/..%2frender.py", "/flights/nothing/", "/nothing", "/docs"),
]


@pytest.mark.parametrize("path", PAGES)
def test_every_page_answers_for_a_visitor(admin: Visit, path: str) -> None:
    answer = admin.get(path)

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("path", UNKNOWN)
def test_an_unknown_address_is_not_found(admin: Visit, path: str) -> None:
    answer = admin.get(path)

    assert answer.status_code == 404
    assert "<h1>Not found</h1>" in answer.text


@pytest.mark.security
@pytest.mark.parametrize("path", [*PAGES, "/flights/nothing/", "/flights/airports/", "/flights/api/days", "/health"])
def test_every_answer_has_the_headers_and_no_page_needs_more_than_they_allow(admin: Visit, path: str) -> None:
    answer = admin.get(path)

    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "server" not in answer.headers
    if "html" in answer.headers["Content-Type"]:
        assert (
            re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|https?://(?!www\.w3\.org)", answer.text) == []
        )


@pytest.mark.parametrize("path", ["/flights/2015", "/flights/airports/EWR", "/flights/airports/EWR/2015-02-08"])
def test_a_missing_slash_is_added(admin: Visit, path: str) -> None:
    answer = admin.get(path)

    assert (answer.status_code, answer.headers["Location"]) == (308, f"{path}/")


def test_assets_have_their_hash_in_the_address_and_need_no_login(admin: Visit) -> None:
    addresses = set(re.findall(r'"(/flights/assets/[^"#]+)', admin.get("/flights/2015/").text))

    assert {address.rpartition("/")[2] for address in addresses} >= {"site.css", "site.js"}
    for address in addresses:
        answer = admin.client.get(address)
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        _, _, _, version, name = address.split("/")
        old = admin.client.get(f"/flights/assets/{version[::-1]}/{name}")
        assert old.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("airport=ewr&day=2015-02-08", DAY),
        ("airport=EWR", "/flights/airports/EWR/"),
        ("airport=EWR&day=", "/flights/airports/EWR/"),
        ("airport=newark&day=2015-02-08", DAY),
        ("airport=n&day=2015-02-08", "/flights/airports/?airport=n&day=2015-02-08"),
    ],
)
def test_the_search_leads_to_the_day_the_airport_or_the_list(admin: Visit, query: str, place: str) -> None:
    answer = admin.get(f"/flights/search?{query}")

    assert (answer.status_code, answer.headers["Location"]) == (303, place)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("airport=//evil.example", "No airport is called //evil.example."),
        ("airport=XXX&day=2015-02-08", "No airport is called XXX."),
        ("airport=&day=2015-02-08", "No airport is called"),
        ("airport=EWR&day=tomorrow", "tomorrow is not a day of the data: write a date such as 2013-02-08."),
        ("airport=EWR&day=2015-02-30", "2015-02-30 is not a day of the data"),
        ("airport=EWR&day=1815-02-08", "1815-02-08 is not a day of the data: write a date from 1987 to"),
        ("airport=EWR&day=2016-02-08", "EWR has no data of 2016-02-08; choose a day of 2015."),
    ],
)
def test_the_search_says_what_is_not_in_the_data(admin: Visit, query: str, message: str) -> None:
    answer = admin.get(f"/flights/search?{query}")
    while "Location" in answer.headers:
        answer = admin.get(answer.headers["Location"])

    assert answer.status_code == 404
    assert message in answer.text


def test_an_event_that_a_later_run_does_not_have_leads_to_the_day_in_its_identifier(admin: Visit) -> None:
    answer = admin.get("/flights/events/20150305-EWR/")

    assert (answer.status_code, answer.headers["Location"]) == (303, "/flights/airports/EWR/2015-03-05/")
    assert admin.get(answer.headers["Location"]).status_code == 200


def test_an_event_of_one_airport_has_a_page(admin: Visit, done: Settings) -> None:
    sql(
        done.warehouse,
        "DELETE FROM flights.event_days WHERE event_id = '20150208-JFK' AND origin <> 'JFK'",
        "UPDATE flights.events SET airports = 1, airport_days = 1 WHERE event_id = '20150208-JFK'",
    )

    answer = admin.get(EVENT)

    assert answer.status_code == 200
    assert "Closures at 1 airport." in answer.text


# --- figures ----------------------------------------------------------------------------------------------------------


def test_summaries_equal_those_of_the_gold_from_which_the_static_site_is_made(
    site_settings: tuple[Settings, object], done: Settings
) -> None:
    lake = Lake(done)
    days = judged_days.join(
        pipeline_inputs.frame(lake.read_airport_days(2015)),
        pipeline_inputs.frame(lake.read_anomalies(2015, detectors.PUBLISHED)),
    )

    data = Warehouse(site_settings[0].warehouse).year(2015)

    for name in ("network_days", "airport_years", "flagged_days"):
        expected, actual = getattr(frames, name)(days), getattr(data, name)
        assert list(actual.columns) == list(expected.columns)
        pd.testing.assert_frame_equal(actual, expected, check_dtype=False, rtol=1e-9, obj=name)
    events = pipeline_inputs.frame(lake.read_table(keys.explanation_key(2015, "events")))
    pd.testing.assert_frame_equal(data.events, events, check_dtype=False)
    assert {name: data.quality[name] for name in lake.read_quality(2015)} == lake.read_quality(2015)


def test_the_rows_of_a_day_equal_those_of_gold(site_settings: tuple[Settings, object], done: Settings) -> None:
    lake, day = Lake(done), dt.date(2015, 2, 8)
    gold = pipeline_inputs.frame(lake.read_airport_days(2015))

    data = Warehouse(site_settings[0].warehouse).day("EWR", day)

    near = gold[(gold["origin"] == "EWR") & (abs(gold["fl_date"] - pd.Timestamp(day)) <= pd.Timedelta(days=30))]
    pd.testing.assert_frame_equal(data.days[gold.columns], near.reset_index(drop=True))
    assert list(data.verdicts["detector"]) == ["delaywatch", "three_sigma"]
    assert list(data.network["origin"]) == sorted(gold["origin"].unique())
    assert list(data.events["event_id"]) == ["20150208-JFK"]
    assert data.event_airports == ["JFK"]
    assert data.years == [2015]
    factors = pipeline_inputs.frame(lake.read_table(keys.explanation_key(2015, "anomaly_factors")))
    assert len(data.factors) == len(factors[(factors["origin"] == "EWR") & (factors["fl_date"] == pd.Timestamp(day))])


def test_a_year_is_summed_up_again_after_its_next_run_and_after_a_while(
    site_settings: tuple[Settings, object], done: Settings
) -> None:
    now = [0.0]
    warehouse = Warehouse(site_settings[0].warehouse, lambda: now[0])

    def flights() -> int:
        return int(warehouse.year(2015).airport_years["scheduled"].sum())

    before = flights()
    sql(done.warehouse, "UPDATE flights.airport_days SET scheduled = scheduled + 1 WHERE fl_date = '2015-02-08'")
    assert flights() == before
    sql(done.warehouse, "UPDATE flights.runs SET ended = ended + interval '1 hour'")
    assert flights() == before + 3
    sql(done.warehouse, "UPDATE flights.airport_days SET scheduled = scheduled + 1 WHERE fl_date = '2015-02-09'")
    now[0] = 601
    assert flights() == before + 6


def test_of_too_many_kept_pages_the_one_that_was_not_read_for_longest_is_drawn_again() -> None:
    rendered = Rendered()

    def read(path: int, html: str) -> str:
        return rendered.page(str(path), "ann", (), lambda: html)

    for path in range(MAX_RENDERED):
        read(path, "old")
    read(0, "new")
    read(MAX_RENDERED, "new")

    assert read(0, "new") == "old"
    assert read(1, "new") == "new"


# --- flights of a day -------------------------------------------------------------------------------------------------


def test_the_flights_of_a_day_are_those_of_silver(admin: Visit, done: Settings) -> None:
    table = list(csv.DictReader(io.StringIO(admin.get(f"{DAY}flights.csv").text)))

    silver = pd.concat(part.to_pandas() for part in Lake(done).read_silver(2015))
    day = silver[(silver["origin"] == "EWR") & (silver["fl_date"] == dt.date(2015, 2, 8))]
    assert [row["op_carrier_fl_num"] for row in table] == [str(number) for number in day["op_carrier_fl_num"]]
    assert len(table) == 16
    assert sum(row["cancelled"] == "True" for row in table) == day["cancelled"].sum()
    part = admin.get(f"{DAY}flights").text
    assert "16 flights" in part
    assert "<html" not in part


@pytest.mark.parametrize("is_known", [False, True], ids=["at once", "after it was read"])
def test_the_page_says_that_retention_has_removed_the_flights(admin: Visit, done: Settings, is_known: bool) -> None:
    lake = Lake(done)
    if is_known:
        assert "16 flights" in admin.get(f"{DAY}flights").text
    lake.store.delete(lake.silver_parts(2015))

    part, table, page = admin.get(f"{DAY}flights"), admin.get(f"{DAY}flights.csv"), admin.get(DAY)

    assert (part.status_code, table.status_code, page.status_code) == (200, 404, 200)
    for answer in (part, table):
        assert "retention has removed the silver of 2015" in answer.text
        assert done.lake not in answer.text


def test_a_plot_comes_from_the_lake(admin: Visit, done: Settings) -> None:
    answer = admin.get("/flights/plots/2015/EWR/daily_delay.png")

    assert answer.content == Lake(done).store.get(keys.plot_key(2015, "EWR", "daily_delay"))
    assert answer.headers["Content-Type"] == "image/png"


# --- faults -----------------------------------------------------------------------------------------------------------


def test_without_the_warehouse_a_page_says_so_without_its_address(admin: Visit, done: Settings) -> None:
    sql(done.warehouse, "ALTER ROLE site_reader NOLOGIN")
    sql(done.warehouse, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'site_reader'")

    answer = admin.get("/flights/")
    answers = admin.get("/flights/api/days")

    assert (answer.status_code, answers.status_code) == (503, 503)
    assert "cannot be read" in answer.text
    assert "site_reader" not in answer.text + answers.text
    sql(done.warehouse, "ALTER ROLE site_reader LOGIN")
    assert admin.get("/flights/").status_code == 200


def test_the_health_check_is_answered_while_all_threads_wait_for_superset(
    admin: Visit, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_waiting, may_go = threading.Semaphore(0), threading.Event()

    def wait(_: str) -> Visitor:
        is_waiting.release()
        may_go.wait(60)
        return Visitor("ann", frozenset())

    monkeypatch.setattr(app.state.site.sessions, "visitor", wait)
    with ThreadPoolExecutor(THREADS + 1) as browsers:
        pages = [browsers.submit(admin.get, "/flights/airports/") for _ in range(THREADS)]
        for _ in pages:
            is_waiting.acquire()
        health = browsers.submit(admin.get, "/health")
        answered, _ = wait_for([health], timeout=10)
        may_go.set()

    assert answered
    assert health.result().text == "ok\n"
    assert {page.result().status_code for page in pages} == {200}
