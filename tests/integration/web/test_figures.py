"""The figures of the pages: the static and the served page show the same ones, and they equal those of SQL."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.conftest import sql
from tests.integration.web.conftest import Visit
from tests.page import Page
from utils.reporting import wording
from utils.schemas import SEVERITIES
from utils.settings import Settings
from utils.storage import keys
from utils.storage.lake import Lake

DAY = "airports/EWR/2015-02-08/"
EVENT = "events/20150208-JFK/"
STATIC = {  # by the address of the served page below /flights/; the folder has no page of a day
    "": "index.html",
    "2015/": "years/2015.html",
    "airports/": "airports/index.html",
    "airports/EWR/": "airports/EWR/index.html",
    "airports/EWR/2015/": "airports/EWR/2015.html",
    EVENT: "events/20150208-JFK.html",
}
# 20150208-JFK is the only event; the day is the only one that is abnormal at EWR.
SUMS = """
    SELECT sum(scheduled), sum(cancelled), sum(scheduled * mean_effective_delay_min) / sum(scheduled),
           count(*) FILTER (WHERE is_anomaly AND direction <> 'early'),
           count(*) FILTER (WHERE is_anomaly AND direction <> 'early' AND severity = 3),
           count(*) FILTER (WHERE is_anomaly AND direction = 'closure'), count(DISTINCT fl_date)
    FROM flights.airport_days JOIN flights.anomalies USING (origin, fl_date)
    WHERE detector = 'delaywatch' AND origin LIKE '{}'
"""


def served(admin: Visit, path: str) -> Page:
    return Page(admin.get(f"/flights/{path}").text.partition("<main")[2])


def facts(page: Page) -> dict[str, str]:
    """The key figures of a page by name."""
    return dict(zip(page.texts_of("dt"), page.texts_of("dd"), strict=True))


def rows_after(page: Page, head: str, last: str = "") -> list[list[str]]:
    """The rows of the first table whose heads start with `head` and end with `last`, without empty cells (the bars)."""
    start = next(i for i, row in enumerate(page.rows) if row[0] == head and row[-1].endswith(last))
    heads = page.rows[start]
    rows = itertools.takewhile(lambda row: len(row) == len(heads) and row[1:] != heads[1:], page.rows[start + 1 :])
    return [[cell for cell in row if cell] for row in rows]


@pytest.mark.parametrize("path", STATIC)
def test_static_and_served_pages_show_equal_figures(admin: Visit, done: Settings, path: str) -> None:
    content = Lake(done).store.get(keys.site_key(STATIC[path]))
    assert content
    static = Page(content.decode().partition("<main")[2])
    page = served(admin, path)

    for block in ("h1", "h3", "dt", "dd"):
        assert static.texts_of(block) == page.texts_of(block)
    assert static.texts_of("p")[:2] == page.texts_of("p")[:2]  # the lead is one of them
    assert static.rows == page.rows
    assert page.rows or page.texts_of("dd")


@pytest.mark.parametrize(("path", "origin"), [("2015/", "%"), ("airports/EWR/", "EWR"), ("airports/EWR/2015/", "EWR")])
def test_the_figures_of_a_year_and_of_an_airport_equal_sql(
    admin: Visit, done: Settings, path: str, origin: str
) -> None:
    ((flights, cancelled, delay_min, abnormal, extreme, closures, days),) = sql(done.warehouse, SUMS.format(origin))

    shown = facts(served(admin, path))

    expected = {
        "cancelled": wording.percent(cancelled / flights),
        "effective delay": f"{wording.minutes(delay_min)} min",
        "of them closures": str(closures),
    }
    if origin == "%":
        expected |= {"flights": f"{flights:,}", "abnormal airport-days": str(abnormal), "events": "1", "airports": "3"}
    else:
        expected |= {
            "flights a day": wording.whole(flights / days),
            "abnormal days": str(abnormal),
            "of them extreme": str(extreme),
        }
    assert {name: shown[name] for name in expected} == expected


def test_the_figures_of_home_equal_sql(admin: Visit, done: Settings) -> None:
    ((flights, cancelled, delay_min, abnormal, _, closures, _),) = sql(done.warehouse, SUMS.format("%"))
    ((judged,),) = sql(
        done.warehouse,
        "SELECT count(*) FROM flights.anomalies WHERE detector = 'delaywatch' AND status = 'ok'",
    )

    (year,) = rows_after(served(admin, ""), "year", "closures")

    shares = [wording.percent(cancelled / flights), wording.minutes(delay_min)]
    per_1000 = wording.whole(1000 * abnormal / judged)
    assert year == ["2015", "3", f"{flights:,}", *shares, str(abnormal), per_1000, str(closures)]


def test_the_figures_of_an_event_equal_sql(admin: Visit, done: Settings) -> None:
    ((airports, airport_days, scheduled, cancelled, delay_min),) = sql(
        done.warehouse,
        "SELECT airports, airport_days, scheduled, cancelled, mean_effective_delay_min FROM flights.events",
    )
    members = sql(
        done.warehouse,
        """
        SELECT origin, max(score), sum(cancelled)::float / sum(scheduled), bool_or(direction = 'closure')
        FROM flights.event_days JOIN flights.airport_days USING (origin, fl_date)
        JOIN flights.anomalies USING (origin, fl_date)
        WHERE event_id = '20150208-JFK' AND detector = 'delaywatch' GROUP BY origin ORDER BY max(score) DESC
        """,
    )

    page = served(admin, EVENT)

    assert facts(page) == {
        "airports": str(airports),
        "airport-days": str(airport_days),
        "airports closed": str(sum(is_closed for *_, is_closed in members)),
        "cancelled": wording.share(cancelled / scheduled),
        "effective delay": f"{wording.whole(delay_min)} min",
        "by size in 2015": "1 of 1",
    }
    shown = [[row[0].split()[0], *row[-2:]] for row in page.rows[-len(members) :]]
    assert shown == [[origin, wording.share(part), wording.rarity(score)] for origin, score, part, _ in members]


def test_the_figures_of_a_day_equal_sql(admin: Visit, done: Settings) -> None:
    (day,) = sql(
        done.warehouse,
        """
        SELECT days.scheduled, days.cancelled, usual_cancelled, delayed_60, disrupted, expected_disrupted_share,
               mean_effective_delay_min, max_dep_delay_min, verdicts.expected, score
        FROM flights.airport_days AS days JOIN flights.anomaly_reasons USING (origin, fl_date)
        JOIN flights.anomalies AS verdicts USING (origin, fl_date)
        WHERE origin = 'EWR' AND fl_date = '2015-02-08' AND detector = 'delaywatch'
        """,
    )
    scheduled, cancelled, usual, late, disrupted, usual_share, delay_min, longest, expected, score = day

    page = served(admin, DAY)

    assert facts(page) == {
        "flights scheduled": str(scheduled),
        f"cancelled, {wording.whole(usual)} usual": str(cancelled),
        "left an hour late or more": str(late),
        f"disrupted, {wording.share(usual_share)} expected": wording.share(disrupted / scheduled),
        f"effective delay, {wording.whole(expected)} expected": f"{wording.whole(delay_min)} min",
        "longest delay": f"{wording.minutes(longest / 60)} h",
    }
    lead = page.texts_of("p")[1]
    assert lead.startswith(wording.rarity(score).capitalize())
    assert f"{cancelled} of {scheduled} flights were cancelled" in lead


def test_the_verdicts_and_factors_of_a_day_equal_sql(admin: Visit, done: Settings) -> None:
    where = "WHERE origin = 'EWR' AND fl_date = '2015-02-08'"
    verdicts = sql(
        done.warehouse,
        f"SELECT detector, is_anomaly, direction, severity, observed, expected FROM flights.anomalies {where}"
        " ORDER BY detector",
    )
    factors: dict[str, Any] = {"cause": [], "carrier": [], "destination": []}
    for dimension, *factor in sql(
        done.warehouse,
        f"SELECT dimension, name, excess_delay_min, excess_cancelled FROM flights.anomaly_factors {where}"
        " AND abs(coalesce(excess_delay_min, 0)) + 120 * abs(coalesce(excess_cancelled, 0)) >= 1",
    ):
        factors[dimension].append(factor)

    page = served(admin, DAY)

    assert [[row[0], row[1], *row[3:5]] for row in rows_after(page, "detector")] == [
        [
            detector,
            f"{direction}, {SEVERITIES[severity]}" if is_anomaly else "usual",
            wording.whole(observed),
            wording.whole(expected),
        ]
        for detector, is_anomaly, direction, severity, observed, expected in verdicts
    ]
    for dimension, expected in factors.items():
        assert rows_after(page, dimension) == [
            [name.capitalize() if dimension == "cause" else name, wording.signed(delay), wording.signed(cancelled)]
            for name, delay, cancelled in expected
        ]
