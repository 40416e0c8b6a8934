"""The SQL of superset/assets/ on a real warehouse: columns, types, metrics and notices.

tests/unit/test_dashboards.py compares the files with each other, tests/e2e shows them in Superset.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from random import Random
from typing import Any

import pandas as pd
import psycopg2
import pytest
import yaml
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
from tests.unit.test_dashboards import CHARTS, DATASETS, FOLDER, texts
from utils import detectors, schemas
from utils.db_handler import DBHandler
from utils.layers.gold import DELAY_CAP_MIN

CLOSURE = LATE | {"direction": "closure", "severity": 3}


def fill(warehouse: str, days: list[Row], verdicts: list[Row], **tables: list[Row]) -> None:
    """Put rows of 2018 into the warehouse. tables: rows by the name of their table."""
    with closing(DBHandler(warehouse)) as handler:
        handler.publish_view(detectors.NAMES, detectors.PUBLISHED)
        for name, rows in {"airport_days": days, "anomalies": verdicts, **tables}.items():
            handler.upsert(name, pd.DataFrame(rows), 2018)


def fill_one_day(warehouse: str, **tables: list[Row]) -> None:
    """Put one late day at JFK, 2018-01-01, into the warehouse."""
    fill(warehouse, [airport_day_row(scheduled=300)], [verdict_row("delaywatch", **LATE)], **tables)


def give_feedback(warehouse: str, fl_date: str, opinion: str, note: str = "") -> None:
    with closing(DBHandler(warehouse)) as handler:
        handler.give_feedback("JFK", date.fromisoformat(fl_date), opinion, note, "anna")


def quality_row(year: int, missing_months: str = "", **report: Any) -> Row:
    row: Row = {field.name: 0 for field in schemas.BRONZE_QUALITY}
    report = {"rows_per_month": {}, "duplicate_per_month": {}, "airports": 3, "warnings": []} | report
    row |= {"year": year, "bronze_key": f"{year}.csv", "sha256": "0", "rows_read": 1234, "rows_kept": 1234}
    return row | {"missing_months": missing_months, "doubled_months": "", "report": json.dumps(report)}


def load_quality(warehouse: str, *rows: Row) -> None:
    with closing(DBHandler(warehouse)) as handler:
        for row in rows:
            handler.upsert("bronze_quality", pd.DataFrame([row]), row["year"])


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


def query_of(chart: bundle.Asset) -> str:
    """Return the query that Superset sends for a chart: its columns, or metrics by dimensions, of `delaywatch`."""
    params, known = chart["params"], expressions(chart["dataset"])
    metrics = [known[name] for name in dict.fromkeys(texts([params.get("metric", []), params.get("metrics", [])]))]
    dimensions = list(dict.fromkeys(texts([params.get("x_axis", []), params.get("groupby", [])])))
    conditions = ["true", *(each["sqlExpression"] for each in params.get("adhoc_filters", []))]
    if "detector" in bundle.columns_of(DATASETS[chart["dataset"]]):
        conditions.append(f"detector = '{detectors.PUBLISHED}'")
    selected = ", ".join([*params.get("all_columns", []), *dimensions, *metrics])
    query = f"SELECT {selected} FROM {source(chart['dataset'])} WHERE {' AND '.join(conditions)}"
    query += f" GROUP BY {', '.join(dimensions)}" if dimensions else ""
    orders = [yaml.safe_load(order)[0] for order in params.get("order_by_cols", [])]
    orders += [known[name] for name in texts(params.get("timeseries_limit_metric", []))]
    return query + (f" ORDER BY {', '.join(f'{order} DESC' for order in orders)}" if orders else "")


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


@pytest.mark.parametrize("name", sorted(CHARTS))
def test_a_chart_shows_something_of_a_storm(name: str, storm: str) -> None:
    rows = read(storm, query_of(CHARTS[name]))

    assert any(value is not None for row in rows for value in row)


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


def test_counts_are_empty_rather_than_multiplied_for_several_detectors(warehouse: str) -> None:
    flags = [verdict_row(name, **LATE) for name in ("three_sigma", "delaywatch")]
    fill(warehouse, [airport_day_row(scheduled=300, cancelled=30)], flags)
    counts = ("flights", "abnormal_days", "closures", "mild_days", "strong_days", "extreme_days", "acknowledged_days")

    assert measure(warehouse, "judged_days", "flights", where="detector = 'delaywatch'") == 300
    assert measure(warehouse, "judged_days", *counts) == (None,) * len(counts)
    assert float(measure(warehouse, "judged_days", "cancelled_share")) == pytest.approx(0.1)
    assert measure(warehouse, "network_days", "days") is None


def test_the_usual_range_is_shown_for_a_single_day_only(warehouse: str) -> None:
    dates = ("2018-01-01", "2018-01-02")
    judged = [verdict_row("delaywatch", fl_date=each, lower=2.0, upper=30.0) for each in dates]
    fill(warehouse, [airport_day_row(fl_date=each) for each in dates], judged)
    ends = ("expected_delay__yhat_lower", "expected_delay__yhat_upper")

    assert measure(warehouse, "judged_days", *ends, where="fl_date = '2018-01-02'") == (2.0, 30.0)
    assert measure(warehouse, "judged_days", *ends) == (None, None)


def test_verdicts_equal_those_of_the_view(warehouse: str) -> None:
    states: list[Row] = [CLOSURE, LATE, {}, {"status": "insufficient_data"}, {"status": "no_flights"}]
    dates = [f"2018-01-0{number}" for number in range(1, 6)]
    judged = [verdict_row("delaywatch", fl_date=each, **state) for each, state in zip(dates, states, strict=True)]
    fill(warehouse, [airport_day_row(fl_date=each) for each in dates], judged)

    query = "SELECT fl_date, verdict, severity FROM {} ORDER BY fl_date"
    rows = read(warehouse, query.format(source("judged_days")))
    assert rows == read(warehouse, query.format("flights.agg_dep_delay_by_date"))
    assert [row[1] for row in rows] == ["closure", "late", "normal", "insufficient_data", "no_flights"]


def test_agreement_counts_the_detectors_that_flag_the_same_day(warehouse: str) -> None:
    names = ("arima", "delaywatch", "three_sigma")
    flags = [verdict_row(name, **LATE) for name in names]
    second_day = [verdict_row("arima", fl_date="2018-01-02", **LATE), verdict_row("delaywatch", fl_date="2018-01-02")]
    fill(warehouse, [airport_day_row(), airport_day_row(fl_date="2018-01-02")], flags + second_day)

    pairs = read(warehouse, f"SELECT detector, other_detector, count(*) FROM {source('detector_pairs')} GROUP BY 1, 2")
    agreements = read(warehouse, f"SELECT detector, agreement FROM {source('detector_flags')} ORDER BY fl_date, 1")
    assert set(pairs) == {(one, other, 2 if one == other == "arima" else 1) for one in names for other in names}
    assert agreements == [*((name, "by 3 or 4 detectors") for name in names), ("arima", "by 1 detector")]


# --- reasons, events and feedback -------------------------------------------------------------------------------------


def test_an_acknowledged_day_shows_its_reason_event_and_note(warehouse: str) -> None:
    reason = reason_row(sentence="JFK, Mon 1 Jan 2018, late: 3 cancellations more than usual.")
    tables = {"anomaly_reasons": [reason], "events": [event_row("storm")], "event_days": [event_day_row("storm")]}
    normal = "2018-01-02"
    days, judged = [airport_day_row(), airport_day_row(fl_date=normal)], [verdict_row("delaywatch", **LATE)]
    fill(warehouse, days, [*judged, verdict_row("delaywatch", fl_date=normal)], **tables)
    give_feedback(warehouse, "2018-01-01", "expected", "Snow was forecast.")

    columns = "standing, sentence, event, said, once_in_days"
    rows = read(warehouse, f"SELECT {columns} FROM {source('judged_days')} ORDER BY fl_date")

    shown = "acknowledged", "3 cancellations more than usual.", "storm", "acknowledged: Snow was forecast.", 4.5
    assert rows == [shown, ("normal", None, None, None, None)]
    assert measure(warehouse, "judged_days", "acknowledged_days") == 1


def test_a_day_that_only_another_detector_flags_has_no_reason_and_no_return_period(warehouse: str) -> None:
    fill(warehouse, [airport_day_row()], [verdict_row("three_sigma", **LATE)])

    ((sentence, once_in_days),) = read(warehouse, f"SELECT sentence, once_in_days FROM {source('judged_days')}")

    assert detectors.PUBLISHED in sentence
    assert once_in_days is None


def test_a_file_without_causes_has_one_row_that_says_so_and_empty_minutes(warehouse: str) -> None:
    carrier = factor_row("carrier", "DL", excess_delay_min=60.0)
    fill_one_day(warehouse, anomaly_reasons=[reason_row()], anomaly_factors=[carrier])

    rows = read(warehouse, f"SELECT dimension, cause, carrier, excess_delay_min FROM {source('factors')} ORDER BY 1")

    assert rows == [("carrier", None, "DL", 60.0), ("cause", "the year's file names no causes", None, None)]
    assert read(warehouse, f"SELECT weather_min, nas_min FROM {source('judged_days')}") == [(None, None)]


def test_factors_are_ranked_by_minutes_with_a_cancelled_flight_as_the_cap(warehouse: str) -> None:
    factors = [
        factor_row("carrier", "DL", excess_delay_min=100.0, excess_cancelled=0.0),
        factor_row("carrier", "B6", excess_delay_min=-10.0, excess_cancelled=2.0),
    ]
    fill_one_day(warehouse, anomaly_reasons=[reason_row()], anomaly_factors=factors)

    query = f"SELECT carrier, {expressions('factors')['excess_weight']} FROM {source('factors')} WHERE carrier <> ''"

    assert dict(read(warehouse, f"{query} GROUP BY carrier")) == {"B6": 2 * DELAY_CAP_MIN - 10.0, "DL": 100.0}


def test_an_event_is_found_by_any_of_its_airports_and_figures_of_several_are_not_mixed(warehouse: str) -> None:
    members = [("snow", "JFK"), ("snow", "LGA"), ("snow", "BOS"), ("fog", "SFO")]
    events = [event_row("snow", airports=3, airport_days=5), event_row("fog")]
    fill_one_day(warehouse, events=events, event_days=[event_day_row(*member) for member in members])
    figures = ("events", "days_here", "event_airports", "event_size")

    assert measure(warehouse, "events", *figures, where="origin = 'LGA'") == (1, 1, 3, 5)
    assert measure(warehouse, "events", *figures) == (2, 4, None, None)
    lists = dict(read(warehouse, f"SELECT event, airport_list FROM {source('events')}"))
    assert lists == {"snow": "BOS, JFK, LGA", "fog": "SFO"}


def test_the_largest_event_of_each_day_is_one_point_of_its_kind(warehouse: str) -> None:
    events = [event_row("large", airports=2, airport_days=2, kind="mixed"), event_row("small", kind="closure")]
    members = [event_day_row("large"), event_day_row("large", "LGA", "2018-01-02"), event_day_row("small", "BOS")]
    fill_one_day(warehouse, events=events, event_days=members)

    points = read(warehouse, query_of(CHARTS["events_over_time"]) + " ORDER BY 1")

    metrics = CHARTS["events_over_time"]["params"]["metrics"]
    shown = [(point[0].day, dict(zip(metrics, point[1:], strict=True))) for point in points]
    only_mixed = {"largest_is_delay": None, "largest_is_closure": None, "largest_is_mixed": 2}
    assert shown == [(1, only_mixed), (2, only_mixed)]


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


def test_feedback_is_listed_with_the_published_verdict(warehouse: str) -> None:
    fill(warehouse, [airport_day_row()], [verdict_row("delaywatch"), verdict_row("arima", **LATE)])
    give_feedback(warehouse, "2018-01-01", "right", "Snow.")

    rows = read(warehouse, f"SELECT opinion, verdict, severity_level, note, author FROM {source('feedback')}")

    assert rows == [("right", "normal", "0 none", "Snow.", "anna")]


# --- notices and quality ----------------------------------------------------------------------------------------------


def notice(warehouse: str, first: str, end: str) -> str:
    """Return the notice above the tabs for the dates from `first` to before `end`."""
    return str(measure(warehouse, "year_notices", "notice", where=f"fl_date >= '{first}' AND fl_date < '{end}'"))


@pytest.mark.parametrize(
    ("missing_months", "state", "months"),
    [
        ("", "is complete", ""),
        ("5,6,7,8,9,10,11,12", "is unfinished", "May to December"),
        ("12", "is unfinished", "December"),
        ("10", "is incomplete", "October"),
        ("1,2,7", "is incomplete", "January to February, July"),
        ("7,12", "is incomplete", "July, December"),
    ],
)
def test_the_notice_names_the_missing_months_of_the_chosen_year(
    warehouse: str, missing_months: str, state: str, months: str
) -> None:
    load_quality(warehouse, quality_row(2008, missing_months), quality_row(2007, "1"))

    (line,) = notice(warehouse, "2008-02-01", "2008-03-01").splitlines()

    assert line.startswith(f"2008 (1,234 flights, 3 airports) {state}")
    assert months in line


def test_the_notice_names_every_year_of_a_longer_range_its_gaps_and_its_warnings(warehouse: str) -> None:
    with_warnings = quality_row(2012, warnings=["A warning."] * 2)
    load_quality(warehouse, quality_row(2008, "11,12"), quality_row(2010), with_warnings)

    unfinished, complete, gaps, warnings = notice(warehouse, "2000-01-01", "2020-01-01").splitlines()

    assert unfinished.startswith("2008 ")
    assert "2010 (1,234 flights, 3 airports) is complete" in complete
    assert "2012 (1,234 flights, 3 airports, 2 warnings) is complete" in complete
    assert re.findall(r"\d{4}", gaps) == ["2009", "2011"]
    assert "How sure" in warnings


def test_the_notice_says_what_to_do_when_the_chosen_dates_have_no_year(warehouse: str) -> None:
    assert "flight_anomalies" in notice(warehouse, "2013-01-01", "2014-01-01")
    assert "Date range" in notice(warehouse, "1900-01-01", "1901-01-01")
    assert "another airport" in measure(warehouse, "judged_days", "coverage")

    load_quality(warehouse, quality_row(2008), quality_row(2013))

    assert re.findall(r"\d{4}", notice(warehouse, "2016-01-01", "2017-01-01")) == ["2008", "2013"]


def test_the_notice_counts_flagged_days_and_days_that_cannot_be_judged(warehouse: str) -> None:
    states: list[Row] = [LATE, {}, {}, {"status": "insufficient_data"}, {"status": "no_flights"}]
    dates = [f"2018-01-0{number}" for number in range(1, 6)]
    at_lga = [verdict_row("delaywatch", "LGA", each, **state) for each, state in zip(dates, states, strict=True)]
    at_jfk = [verdict_row("delaywatch", "JFK", each) for each in dates]
    fill(warehouse, [airport_day_row(origin, each) for origin in ("JFK", "LGA") for each in dates], at_lga + at_jfk)

    of_lga, of_jfk, of_both = (
        measure(warehouse, "judged_days", "coverage", where=where)
        for where in ("origin = 'LGA'", "origin = 'JFK'", "true")
    )

    assert re.findall(r"LGA|\d+", of_lga) == ["LGA", "5", "1", "1", "1"]
    assert re.findall(r"JFK|\d+", of_jfk) == ["JFK", "5", "0"]
    assert re.findall(r"\d+", of_both) == ["2", "10", "1", "1", "1"]


def test_data_quality_names_months_and_joins_warnings(warehouse: str) -> None:
    counts = {"rows_per_month": {"9": 10, "10": 0}, "duplicate_per_month": {"9": 10}}
    load_quality(warehouse, quality_row(2018, "10,11", **counts, warnings=["October is missing.", "So is November."]))

    by_year = f"SELECT missing_months, doubled_months, warnings FROM {source('quality_by_year')}"
    by_month = f"SELECT month_start, rows_kept, rows_duplicate FROM {source('quality_by_month')} ORDER BY 1"

    assert read(warehouse, by_year) == [("October, November", "none", "October is missing. So is November.")]
    assert read(warehouse, by_month) == [(date(2018, 9, 1), 10, 10), (date(2018, 10, 1), 0, 0)]
