"""The SQL of superset/assets/ on a real warehouse: columns, types, metrics and notices.

tests/unit/test_dashboards.py compares the files with each other, tests/e2e shows them in Superset.
"""

from __future__ import annotations

import calendar
import json
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

import pandas as pd
import psycopg2
import pytest
from superset import bundle

from tests.builders import (
    LATE,
    Row,
    airport_day_row,
    event_day_row,
    event_row,
    factor_row,
    reason_row,
    verdict_row,
)
from tests.conftest import fresh, sql
from tests.superset_assets import CHARTS, DATASETS, FOLDER
from utils import detectors, schemas
from utils.db_handler import DBHandler
from utils.layers.gold import DELAY_CAP_MIN
from utils.reporting import pages

CLOSURE = LATE | {"direction": "closure", "severity": 3}


def fill(warehouse: str, days: list[Row], verdicts: list[Row], **tables: list[Row]) -> None:
    """Put rows of 2018 into the warehouse. tables: rows by the name of their table."""
    with closing(DBHandler(warehouse)) as handler:
        handler.publish_view(detectors.NAMES, detectors.PUBLISHED)
        for name, rows in {"airport_days": days, "anomalies": verdicts, **tables}.items():
            handler.upsert(name, pd.DataFrame(rows), 2018)


def give_feedback(warehouse: str, fl_date: str, opinion: str, note: str = "") -> None:
    with closing(DBHandler(warehouse)) as handler:
        handler.give_feedback("JFK", date.fromisoformat(fl_date), opinion, note, "anna")


def quality_row(year: int, missing_months: str = "", **report: Any) -> Row:
    row: Row = {field.name: 0 for field in schemas.BRONZE_QUALITY}
    report = {"rows_per_month": {"12": 1234}, "duplicate_per_month": {}, "airports": 3, "warnings": []} | report
    row |= {"year": year, "bronze_key": f"{year}.csv", "sha256": "0", "rows_read": 1234, "rows_kept": 1234}
    return row | {"missing_months": missing_months, "doubled_months": "", "report": json.dumps(report)}


def read(warehouse: str, query: str) -> list[tuple[Any, ...]]:
    """Return the rows as a login that can only read gets them."""
    return sql(warehouse, "SET ROLE flights_reader", "SET default_transaction_read_only = on", query)


def source(dataset: str) -> str:
    """Return the dataset as an item of FROM."""
    given = DATASETS[dataset]
    return f"({given['sql']}) AS rows" if "sql" in given else f"{given['schema']}.{given['table_name']}"


def expressions(dataset: str) -> dict[str, str]:
    return {metric["metric_name"]: metric["expression"] for metric in DATASETS[dataset]["metrics"]}


def measure(warehouse: str, dataset: str, *metrics: str, where: str = "true") -> Any:
    """Return one metric, or a tuple of metrics, over the rows that a filter leaves."""
    known = expressions(dataset)
    (row,) = read(
        warehouse, f"SELECT {', '.join(known[name] for name in metrics)} FROM {source(dataset)} WHERE {where}"
    )
    return row if len(metrics) > 1 else row[0]


@pytest.fixture(scope="module")
def storm(postgres: str) -> Iterator[str]:
    """A warehouse with one closed airport: verdicts, reasons, factors, an event, quality and feedback."""
    for warehouse in fresh(postgres, "template_warehouse"):
        fill(
            warehouse,
            [airport_day_row(scheduled=100, departed=40, mean_effective_delay_min=90.0)],
            [verdict_row(name, **CLOSURE, observed=90.0, expected=9.0) for name in detectors.NAMES],
            anomaly_reasons=[reason_row(excess_delay_min=60.0)],
            anomaly_factors=[
                factor_row(dimension, name, excess_delay_min=60.0, excess_cancelled=2.0)
                for dimension, name in (("cause", "weather"), ("carrier", "B6"), ("destination", "BOS"))
            ],
            events=[event_row("storm")],
            event_days=[event_day_row("storm")],
            bronze_quality=[quality_row(2018, rows_per_month={"1": 2})],
        )
        give_feedback(warehouse, "2018-01-01", "right")
        yield warehouse


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_a_dataset_declares_the_columns_and_types_of_its_query_and_its_metrics_run(name: str, storm: str) -> None:
    with closing(psycopg2.connect(storm)) as connection, connection.cursor() as cursor:
        cursor.execute("SET ROLE flights_reader; SET TRANSACTION READ ONLY")
        cursor.execute(f"SELECT * FROM {source(name)}")
        columns = [(column.name, column.type_code) for column in cursor.description or ()]
        cursor.execute("SELECT oid, format_type(oid, NULL) FROM pg_type")
        types = dict(cursor.fetchall())

    declared = [(column["column_name"], column["type"]) for column in DATASETS[name]["columns"]]
    assert declared == [(column, types[oid].upper()) for column, oid in columns]
    measure(storm, name, *expressions(name))


def test_the_view_of_the_warehouse_decides_which_detectors_have_a_column(warehouse: str) -> None:
    with closing(DBHandler(warehouse)) as handler:
        handler.publish_view(["delaywatch", "newcomer"], "newcomer")

    ((names,),) = read(warehouse, bundle.DETECTORS)

    columns = bundle.read(FOLDER, names)["datasets"]["agg_dep_delay_by_date"]["columns"]
    flags = [column["column_name"] for column in columns if column["column_name"].startswith("is_anomaly_")]
    assert flags == ["is_anomaly_delaywatch", "is_anomaly_newcomer"]


# --- days and verdicts ------------------------------------------------------------------------------------------------


def random_days(random: Random) -> tuple[list[Row], list[Row]]:
    """Return 40 airport-days of four airports and their verdicts by delaywatch; some days have no flights."""
    days, verdicts = [], []
    for number in range(40):
        origin, fl_date = f"A{number % 4}", str(date(2018, 1, 1) + timedelta(number // 4))
        scheduled = random.choice([0, 1, 7, 300])
        cancelled = random.randint(0, scheduled)
        day: Row = {"scheduled": scheduled, "cancelled": cancelled, "departed": scheduled - cancelled}
        metric = random.choice(["mean_effective_delay_min", "mean_dep_delay_min"])
        verdict: Row = {"status": "no_flights", "metric": metric}
        if scheduled:
            day |= {"disrupted": random.randint(0, scheduled), "mean_effective_delay_min": random.uniform(0, 120)}
            verdict |= {"status": "ok", "observed": day["mean_effective_delay_min"], "expected": random.uniform(5, 20)}
            direction, severity = random.choice([(None, 0), ("late", 1), ("late", 2), ("closure", 3), ("early", 1)])
            verdict |= {"direction": direction, "severity": severity, "is_anomaly": severity > 0}
        if day["departed"]:
            day["mean_dep_delay_min"] = random.uniform(-5, 90)
        days.append(airport_day_row(origin, fl_date, **day))
        verdicts.append(verdict_row("delaywatch", origin, fl_date, **verdict))
    return days, verdicts


def weighted_mean(rows: pd.DataFrame, column: str, weight: str) -> float:
    known = rows[rows[column].notna()]
    return float((known[column] * known[weight]).sum() / known[weight].sum())


@pytest.mark.parametrize("seed", range(3))
def test_the_metrics_of_judged_days_equal_pandas(warehouse: str, seed: int) -> None:
    days, verdicts = random_days(Random(seed))
    fill(warehouse, days, verdicts)
    rows = pd.DataFrame(verdicts).merge(pd.DataFrame(days), on=["origin", "fl_date"])
    rows["weight"] = rows["departed"].where(rows["metric"] == "mean_dep_delay_min", rows["scheduled"])
    flagged = rows[rows["is_anomaly"]]

    expected = {
        "flights": rows["scheduled"].sum(),
        "airports": rows.loc[rows["scheduled"] > 0, "origin"].nunique(),
        "cancelled_share": rows["cancelled"].sum() / rows["scheduled"].sum(),
        "disrupted_share": rows["disrupted"].sum() / rows["scheduled"].sum(),
        "mean_delay": weighted_mean(rows, "mean_dep_delay_min", "departed"),
        "effective_delay": weighted_mean(rows, "mean_effective_delay_min", "scheduled"),
        "observed_delay": weighted_mean(rows, "observed", "weight"),
        "expected_delay": weighted_mean(rows, "expected", "weight"),
        "abnormal_days": len(flagged),
        "abnormal_airports": flagged["origin"].nunique(),
        "late_airports": flagged.loc[flagged["direction"] == "late", "origin"].nunique(),
        "closed_airports": flagged.loc[flagged["direction"] == "closure", "origin"].nunique(),
        "early_airports": flagged.loc[flagged["direction"] == "early", "origin"].nunique(),
        "closures": (flagged["direction"] == "closure").sum(),
        "mild_days": (flagged["severity"] == 1).sum(),
        "strong_days": (flagged["severity"] == 2).sum(),
        "extreme_days": (flagged["severity"] == 3).sum(),
        "worst_severity": flagged["severity"].max(),
    }
    measured = dict(zip(expected, map(float, measure(warehouse, "judged_days", *expected)), strict=True))

    assert measured == pytest.approx(expected, rel=1e-5)  # the warehouse stores delays as REAL


def test_figures_of_several_detectors_or_days_are_empty_rather_than_mixed(warehouse: str) -> None:
    flags = [verdict_row(name, **LATE, lower=2.0, upper=30.0) for name in ("three_sigma", "delaywatch")]
    second_day = verdict_row("delaywatch", fl_date="2018-01-02", lower=3.0, upper=40.0)
    days = [airport_day_row(fl_date=each, scheduled=300, cancelled=30) for each in ("2018-01-01", "2018-01-02")]
    fill(warehouse, days, [*flags, second_day])
    counts = ("flights", "abnormal_days", "closures", "mild_days", "strong_days", "extreme_days", "acknowledged_days")
    usual_range = ("expected_delay__yhat_lower", "expected_delay__yhat_upper")

    assert measure(warehouse, "judged_days", *counts) == (None,) * len(counts)
    assert measure(warehouse, "network_days", "days") is None
    assert float(measure(warehouse, "judged_days", "cancelled_share")) == pytest.approx(0.1)
    assert measure(warehouse, "judged_days", "flights", where="detector = 'delaywatch'") == 600
    assert measure(warehouse, "judged_days", *usual_range, where="detector = 'delaywatch'") == (None, None)
    assert measure(warehouse, "judged_days", *usual_range, where="fl_date = '2018-01-02'") == (3.0, 40.0)


def test_verdicts_equal_those_of_the_view_and_are_counted(warehouse: str) -> None:
    states: list[Row] = [CLOSURE, LATE, {}, {"status": "insufficient_data"}, {"status": "no_flights"}]
    dates = [f"2018-01-0{number}" for number in range(1, 6)]
    judged = [verdict_row("delaywatch", fl_date=each, **state) for each, state in zip(dates, states, strict=True)]
    fill(warehouse, [airport_day_row(fl_date=each) for each in dates], judged)

    query = "SELECT fl_date, verdict, severity FROM {} ORDER BY fl_date"
    rows = read(warehouse, query.format(source("judged_days")))
    coverage = measure(warehouse, "judged_days", "coverage")

    assert rows == read(warehouse, query.format("flights.agg_dep_delay_by_date"))
    assert [row[1] for row in rows] == ["closure", "late", "normal", "insufficient_data", "no_flights"]
    assert re.findall(r"JFK|\d+", coverage) == ["JFK", "5", "2", "1", "1"]


def test_agreement_counts_the_detectors_that_flag_the_same_day(warehouse: str) -> None:
    names = ("arima", "delaywatch", "three_sigma")
    flags = [verdict_row(name, **LATE) for name in names]
    second_day = [verdict_row("arima", fl_date="2018-01-02", **LATE), verdict_row("delaywatch", fl_date="2018-01-02")]
    fill(warehouse, [airport_day_row(), airport_day_row(fl_date="2018-01-02")], flags + second_day)

    pairs = read(warehouse, f"SELECT detector, other_detector, count(*) FROM {source('detector_pairs')} GROUP BY 1, 2")
    agreements = read(warehouse, f"SELECT detector, agreement FROM {source('detector_flags')} ORDER BY fl_date, 1")
    assert set(pairs) == {(one, other, 2 if one == other == "arima" else 1) for one in names for other in names}
    assert agreements == [*((name, "by 3 or 4 detectors") for name in names), ("arima", "by 1 detector")]


def test_a_month_has_the_figures_of_last_year_of_all_airports(warehouse: str) -> None:
    days = {"2017-01-01": ("JFK", "LGA"), "2018-01-01": ("JFK",)}
    with closing(DBHandler(warehouse)) as handler:
        handler.publish_view(detectors.NAMES, detectors.PUBLISHED)
        for fl_date, origins in days.items():
            year = int(fl_date[:4])
            figures = {
                "scheduled": 100,
                "departed": 90,
                "cancelled": 10,
                "mean_effective_delay_min": 5.0 * (year - 2015),
            }
            for name, rows in {
                "airport_days": [airport_day_row(origin, fl_date, **figures) for origin in origins],
                "anomalies": [verdict_row("delaywatch", origin, fl_date, **CLOSURE) for origin in origins],
                "bronze_quality": [quality_row(year, rows_per_month={"1": 2, "2": 0})],
            }.items():
                handler.upsert(name, pd.DataFrame(rows), year)
    metrics = ("flights", "flights_before", "effective_delay", "effective_delay_before", "abnormal_days", "closures")

    months = read(warehouse, f"SELECT DISTINCT month, year, month_of_year FROM {source('months')} ORDER BY 1")
    january = date(2000, 1, 1)  # both years in one column of a chart
    assert months == [("2017-01", "2017", january), ("2018-01", "2018", january)]  # none of 2019
    assert measure(warehouse, "months", *metrics, where="month = '2017-01'") == (200, None, 10.0, None, 2, 2)
    assert measure(warehouse, "months", *metrics, where="month = '2018-01'") == (100, 200, 15.0, 10.0, 1, 1)
    ranks = f"SELECT fl_date, page, delay_rank FROM {source('record_days')} ORDER BY delay_rank"
    assert read(warehouse, ranks) == [
        (date(2018, 1, 1), '<a href="/flights/2018/#2018-01-01">open</a>', 1),
        (date(2017, 1, 1), '<a href="/flights/2017/#2017-01-01">open</a>', 2),
    ]


def chart_rows(warehouse: str, chart: str, where: str) -> list[Row]:
    """Return the rows of a chart that groups its rows, with a filter of the dashboard."""
    params, dataset = CHARTS[chart]["params"], CHARTS[chart]["dataset"]
    groups = [params["groupby"]] if isinstance(params["groupby"], str) else params["groupby"]
    metrics = params.get("metrics") or [params["metric"]]
    columns = [*groups, *(f"{expressions(dataset)[name]} AS {name}" for name in metrics)]
    filters = params.get("adhoc_filters", [])
    conditions = {
        clause: " AND ".join(each["sqlExpression"] for each in filters if each["clause"] == clause) or "true"
        for clause in ("WHERE", "HAVING")
    }
    rows = read(
        warehouse,
        f"SELECT {', '.join(columns)} FROM {source(dataset)} WHERE {where} AND {conditions['WHERE']} "
        f"GROUP BY {', '.join(groups)} HAVING {conditions['HAVING']} ORDER BY {', '.join(groups)}",
    )
    return [dict(zip([*groups, *metrics], row, strict=True)) for row in rows]


def test_a_month_in_which_the_chosen_airport_has_no_flights_is_not_listed_with_empty_figures(warehouse: str) -> None:
    """ABQ has flights in January 2017, and days without flights in February. 2018 is loaded without ABQ."""
    flights = {"scheduled": 100, "departed": 90, "cancelled": 10, "mean_effective_delay_min": 10.0}
    none = {"scheduled": 0, "departed": 0, "cancelled": 0}
    days = {
        2017: [airport_day_row("ABQ", "2017-01-01", **flights), airport_day_row("ABQ", "2017-02-01", **none)],
        2018: [airport_day_row("JFK", f"2018-0{month}-01", **flights) for month in (1, 2)],
    }
    with closing(DBHandler(warehouse)) as handler:
        for year, rows in days.items():
            handler.upsert("airport_days", pd.DataFrame(rows), year)
            handler.upsert("bronze_quality", pd.DataFrame([quality_row(year, rows_per_month={"1": 2, "2": 2})]), year)

    abq = "origin = 'ABQ'"
    for chart in ("years_compared", "months_delay", "months_cancelled", "months_calendar", "months_abnormal"):
        assert {row["year"] for row in chart_rows(warehouse, chart, abq)} == {"2017"}, chart
    for chart in ("record_months", "months_compared"):
        assert [row["month"] for row in chart_rows(warehouse, chart, abq)] == ["2017-01"], chart
    (compared,) = chart_rows(warehouse, "months_compared", "month = '2018-01'")
    assert (compared["flights"], compared["flights_change"]) == (100, 0)  # of JFK, against ABQ last year


def test_the_choices_of_the_filters_are_those_of_the_tables(warehouse: str) -> None:
    flags = [verdict_row(name, origin, **LATE) for name in ("arima", "delaywatch") for origin in ("JFK", "LGA")]
    fill(warehouse, [airport_day_row(origin) for origin in ("JFK", "LGA")], flags)

    choices = read(warehouse, f"SELECT DISTINCT detector FROM {source('verdict_choices')} ORDER BY 1")
    assert choices == [("arima",), ("delaywatch",)]
    assert read(warehouse, f"SELECT origin FROM {source('airports')} ORDER BY 1") == [("JFK",), ("LGA",)]


# --- reasons, events and feedback -------------------------------------------------------------------------------------


def test_a_day_that_is_labelled_expected_shows_its_reason_event_and_note_and_other_days_do_not(warehouse: str) -> None:
    reason = reason_row(sentence="JFK, Mon 1 Jan 2018, late: 3 cancellations more than usual.")
    tables = {"anomaly_reasons": [reason], "events": [event_row("storm")], "event_days": [event_day_row("storm")]}
    days = [airport_day_row(fl_date=each) for each in ("2018-01-01", "2018-01-02", "2018-01-03")]
    judged = [verdict_row("delaywatch", **LATE), verdict_row("delaywatch", fl_date="2018-01-02")]
    fill(warehouse, days, [*judged, verdict_row("three_sigma", fl_date="2018-01-03", **LATE)], **tables)
    give_feedback(warehouse, "2018-01-01", "expected", "Snow was forecast.")

    columns = "standing, sentence, event, said, once_in_days"
    rows = read(warehouse, f"SELECT {columns} FROM {source('judged_days')} ORDER BY fl_date")

    shown = "labelled expected", "3 cancellations more than usual.", "storm", "expected: Snow was forecast.", 4.5
    assert rows[:2] == [shown, ("normal", None, None, None, None)]
    assert detectors.PUBLISHED in rows[2][1]  # has no reason for the flag of another detector
    assert rows[2][2:] == (None, None, None)
    expected_days = measure(warehouse, "judged_days", "acknowledged_days", where=f"detector = '{detectors.PUBLISHED}'")
    assert expected_days == 1


@pytest.mark.parametrize("name", ["abnormal_day_list", "observed_and_usual"])
def test_a_day_that_is_flagged_without_a_score_is_last_in_the_lists(name: str, warehouse: str) -> None:
    scores = {"2018-01-01": 70.0, "2018-01-02": None, "2018-01-03": 900.0}
    verdicts = [verdict_row("delaywatch", fl_date=each, **LATE | {"score": score}) for each, score in scores.items()]
    reasons = [reason_row(fl_date=each) for each in scores]
    fill(warehouse, [airport_day_row(fl_date=each) for each in scores], verdicts, anomaly_reasons=reasons)
    ((column, is_ascending),) = map(json.loads, CHARTS[name]["params"]["order_by_cols"])

    order = f"{column} {'ASC' if is_ascending else 'DESC'}"
    rows = read(warehouse, f"SELECT once_in_days FROM {source(CHARTS[name]['dataset'])} ORDER BY {order}")

    assert rows == [(900.0,), (70.0,), (None,)]


def test_tables_of_days_and_events_link_to_their_pages(warehouse: str) -> None:
    tables = {"anomaly_reasons": [reason_row()], "events": [event_row("storm")], "event_days": [event_day_row("storm")]}
    fill(warehouse, [airport_day_row()], [verdict_row("delaywatch", **LATE)], **tables)
    give_feedback(warehouse, "2018-01-01", "right")

    page = '<a href="/flights/airports/JFK/2018-01-01/">open</a>'
    for dataset in ("judged_days", "reasons", "feedback"):
        assert read(warehouse, f"SELECT page FROM {source(dataset)}") == [(page,)]
    linked = '<a href="/flights/events/storm/">storm</a>'
    assert read(warehouse, f"SELECT event_link FROM {source('events')}") == [(linked,)]


@pytest.mark.security
def test_a_table_that_renders_html_gets_none_from_persons_and_files(warehouse: str) -> None:
    hostile = "<b>snow</b>"
    reason = reason_row(sentence=f"JFK: {hostile}", top_carrier=hostile, top_destination=hostile)
    event = event_row("storm", name=hostile)
    tables = {"anomaly_reasons": [reason], "events": [event], "event_days": [event_day_row("storm")]}
    fill(warehouse, [airport_day_row()], [verdict_row("delaywatch", **LATE)], **tables)
    with closing(DBHandler(warehouse)) as handler:
        handler.give_feedback("JFK", date(2018, 1, 1), "right", hostile, hostile)

    rendering = [chart for chart in CHARTS.values() if chart["params"].get("allow_render_html")]
    for chart in rendering:
        columns = [*chart["params"].get("all_columns", []), *chart["params"].get("groupby", [])]
        for row in read(warehouse, f"SELECT {', '.join(columns)} FROM {source(chart['dataset'])}"):
            shown = [str(value) for name, value in zip(columns, row, strict=True) if name != "page"]
            assert "<b" not in " ".join(shown), chart["slice_name"]
    assert {chart["dataset"] for chart in rendering} >= {"judged_days", "reasons", "feedback", "events"}


def test_an_airport_without_ordinary_days_is_not_the_first_by_excess_delay(warehouse: str) -> None:
    reasons = [reason_row("JFK", excess_delay_min=60.0), reason_row("LGA", excess_delay_min=None)]
    verdicts = [verdict_row("delaywatch", each, **LATE) for each in ("JFK", "LGA")]
    fill(warehouse, [airport_day_row(each) for each in ("JFK", "LGA")], verdicts, anomaly_reasons=reasons)
    params = CHARTS["excess_by_airport"]["params"]
    where = " AND ".join(each["sqlExpression"] for each in params.get("adhoc_filters", [])) or "true"
    metric = expressions("reasons")[params["timeseries_limit_metric"]]

    rows = read(warehouse, f"SELECT origin FROM {source('reasons')} WHERE {where} GROUP BY 1 ORDER BY {metric} DESC")

    assert rows[0] == ("JFK",)


def test_factors_are_ranked_by_minutes_with_a_cancelled_flight_as_the_cap_and_unknown_causes_are_empty(
    warehouse: str,
) -> None:
    factors = [
        factor_row("carrier", "DL", excess_delay_min=100.0, excess_cancelled=0.0),
        factor_row("carrier", "B6", excess_delay_min=-10.0, excess_cancelled=2.0),
    ]
    judged = [verdict_row("delaywatch", **LATE)]
    fill(warehouse, [airport_day_row()], judged, anomaly_reasons=[reason_row()], anomaly_factors=factors)

    query = f"SELECT carrier, {expressions('factors')['excess_weight']} FROM {source('factors')} WHERE carrier <> ''"

    assert dict(read(warehouse, f"{query} GROUP BY carrier")) == {"B6": 2 * DELAY_CAP_MIN - 10.0, "DL": 100.0}
    assert read(warehouse, f"SELECT weather_min, nas_min FROM {source('judged_days')}") == [(None, None)]


def test_an_event_counts_for_each_of_its_airports_and_figures_of_several_are_not_mixed(warehouse: str) -> None:
    members = [("snow", "JFK"), ("snow", "LGA"), ("snow", "BOS"), ("fog", "SFO")]
    events = [event_row("snow", airports=3, airport_days=5, kind="mixed"), event_row("fog", kind="closure")]
    tables = {"events": events, "event_days": [event_day_row(*member) for member in members]}
    fill(warehouse, [airport_day_row()], [verdict_row("delaywatch", **LATE)], **tables)
    figures = ("events", "days_here", "event_airports", "event_size")

    assert measure(warehouse, "events", *figures, where="origin = 'LGA'") == (1, 1, 3, 5)
    assert measure(warehouse, "events", *figures) == (2, 4, None, None)
    assert measure(warehouse, "events", "largest_is_closure", "largest_is_mixed") == (None, 3)
    lists = dict(read(warehouse, f"SELECT event, airport_list FROM {source('events')}"))
    assert lists == {"snow": "BOS, JFK, LGA", "fog": "SFO"}


def test_events_of_equal_size_are_ordered_as_on_the_pages(warehouse: str) -> None:
    sizes = [(1, 9, 3, "01-05"), (2, 2, 3, "01-09"), (2, 2, 2, "01-01"), (2, 4, 1, "01-07"), (2, 2, 3, "01-08")]
    rows = [
        event_row(f"e{number}", f"2018-{day}", airports=airports, airport_days=airport_days, severity=severity)
        for number, (airports, airport_days, severity, day) in enumerate(sizes)
    ]
    members = [event_day_row(row["event_id"], fl_date=str(row["first_day"])) for row in rows]
    fill(warehouse, [airport_day_row()], [verdict_row("delaywatch", **LATE)], events=rows, event_days=members)

    order = f"{expressions('events')['event_order']} DESC"
    shown = read(warehouse, f"SELECT event_id FROM {source('events')} GROUP BY event_id ORDER BY {order}")

    assert [name for (name,) in shown] == list(pages.largest_events(pd.DataFrame(rows), 9)["event_id"])


def test_of_days_with_equally_many_abnormal_airports_the_one_with_more_delay_is_first(warehouse: str) -> None:
    figures = {
        "2018-01-01": (LATE, 70.0),
        "2018-01-02": ({}, 119.0),
        "2018-01-03": (LATE, 71.0),
        "2018-01-04": ({}, None),
    }
    days = [
        airport_day_row(fl_date=fl_date, scheduled=9, mean_effective_delay_min=delay)
        for fl_date, (_, delay) in figures.items()
    ]
    verdicts = [verdict_row("delaywatch", fl_date=fl_date, **verdict) for fl_date, (verdict, _) in figures.items()]
    fill(warehouse, days, verdicts)

    order = f"{expressions('judged_days')['day_order']} DESC"
    shown = read(warehouse, f"SELECT fl_date::text FROM {source('judged_days')} GROUP BY fl_date ORDER BY {order}")

    assert [fl_date for (fl_date,) in shown] == ["2018-01-03", "2018-01-01", "2018-01-02", "2018-01-04"]


def test_precision_by_feedback_equals_that_of_the_warehouse(warehouse: str) -> None:
    """Feedback right, wrong and expected on flags, one flag without feedback, and feedback right on a normal day."""
    dates = [f"2018-01-0{number}" for number in range(1, 6)]
    flags = [verdict_row("delaywatch", fl_date=each, **LATE) for each in dates[:4]]
    others = [verdict_row("delaywatch", fl_date=dates[4]), verdict_row("arima", fl_date=dates[3], **LATE)]
    fill(warehouse, [airport_day_row(fl_date=each) for each in dates], flags + others)
    for fl_date, opinion in zip([*dates[:3], dates[4]], ("right", "wrong", "expected", "right"), strict=True):
        give_feedback(warehouse, fl_date, opinion)
    metrics = ("right_days", "wrong_days", "expected_days", "missed_days", "precision_by_feedback", "feedback_share")

    counted = measure(warehouse, "detector_opinions", *metrics, where="detector = 'delaywatch'")

    columns = "right_flags, wrong_flags, expected_flags, right_missed, precision_by_feedback"
    view = f"SELECT {columns} FROM flights.detector_feedback WHERE detector = 'delaywatch'"
    assert counted == (1, 1, 1, 1, 0.5, 0.75)
    assert read(warehouse, view) == [counted[:5]]
    assert measure(warehouse, "detector_opinions", *metrics[4:], where="detector = 'arima'") == (None, 0)


# --- notices and quality ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("newest", "missing_months", "notice", "missing"),
    [
        (12, "", "Complete: 2008, 2010 (last run 2026-11-29).", "none"),
        (12, "1,2,7", "is incomplete: it has no flights in January to February, July.", "January, February, July"),
        (9, "", "2008 so far, to September (1,234 flights, 3 airports). Do not compare", "none"),
        (9, "10,11,12", "2008 so far, to September (1,234 flights, 3 airports). Do not", "none"),  # of an older release
        (9, "7", "2008 so far, to September (1,234 flights, 3 airports): it has no flights in July.", "July"),
    ],
)
def test_the_notice_names_every_chosen_year_its_missing_months_and_the_years_between(
    warehouse: str, newest: int, missing_months: str, notice: str, missing: str
) -> None:
    ended = datetime(2026, 11, 29, 23, 30, tzinfo=UTC)
    with closing(DBHandler(warehouse)) as handler:
        of_2008 = quality_row(2008, missing_months, rows_per_month={str(newest): 10})
        for row in (quality_row(2007, "1"), of_2008, quality_row(2010)):
            handler.upsert("bronze_quality", pd.DataFrame([row]), row["year"])
        for run_id, days in (("second", 0), ("first", 5)):
            handler.record_run({"run_id": run_id, "year": 2010, "ended": ended - timedelta(days=days)})

    shown = measure(warehouse, "year_notices", "notice", where="fl_date >= '2008-01-01'")
    of_2010 = measure(warehouse, "year_notices", "notice", where="fl_date >= '2010-01-01'")
    by_year = f"SELECT newest_month, missing_months, last_run FROM {source('quality_by_year')} WHERE year = "

    assert notice in shown
    assert "2010 (1,234 flights, 3 airports; last run 2026-11-29) is complete" in of_2010
    assert re.findall(r"\d{4}", shown.splitlines()[-1]) == ["2009"]  # the years between that are missing
    assert read(warehouse, f"{by_year} 2008") == [(calendar.month_name[newest], missing, None)]
    assert read(warehouse, f"{by_year} 2010") == [("December", "none", ended)]


def test_flights_and_duplicates_are_counted_by_month(warehouse: str) -> None:
    counts: Row = {"rows_per_month": {"9": 10, "10": 0}, "duplicate_per_month": {"9": 10}}
    with closing(DBHandler(warehouse)) as handler:
        handler.upsert("bronze_quality", pd.DataFrame([quality_row(2008, **counts)]), 2008)

    by_month = read(warehouse, f"SELECT month_start, rows_kept, rows_duplicate FROM {source('quality_by_month')}")

    assert sorted(by_month) == [(date(2008, 9, 1), 10, 10), (date(2008, 10, 1), 0, 0)]
