"""The files of superset/assets/ among themselves and against a real warehouse: what a chart names is there, and it is
summed right. Superset itself is not here; what it does with them is seen in the end-to-end test.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import uuid
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg2
import pytest
import yaml
from superset import bundle

from tests.conftest import sql
from utils import detectors, schemas
from utils.db_handler import DBHandler
from utils.layers.gold import DELAY_CAP_MIN

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "superset" / "assets"
ASSETS = bundle.read(FOLDER, detectors.NAMES)
DATASETS, CHARTS, DASHBOARDS = (ASSETS[kind] for kind in ("datasets", "charts", "dashboards"))
VIRTUAL = sorted(name for name, dataset in DATASETS.items() if "sql" in dataset)

# What Superset 6.1 takes in a file of each kind, and what bundle.py makes of ours before; it refuses anything else
# without saying what.
KEYS = {
    "databases": "uuid database_name extra"
    " expose_in_sqllab allow_run_async allow_ctas allow_cvas allow_dml allow_csv_upload",
    "datasets": "uuid database schema table_name description main_dttm_col sql columns metrics",
    "charts": "uuid slice_name description dataset viz_type params",
    "dashboards": "uuid dashboard_title slug description css top tabs filters colours",
}
COLUMN_KEYS = {"column_name", "type", "verbose_name", "description", "is_dttm"}
METRIC_KEYS = {"metric_name", "verbose_name", "description", "expression", "d3format"}
FILTER_KEYS = {"name", "description", "date_range", "column", "where", "within", "value", "not_on"}
ROW_KEYS = {"header", "height", "charts", "text"}

Row = dict[str, Any]


def day(origin: str, fl_date: str, scheduled: int, **columns: Any) -> Row:
    row: Row = {field.name: None if field.nullable else 0 for field in schemas.AIRPORT_DAYS}
    return row | {"origin": origin, "fl_date": date.fromisoformat(fl_date), "scheduled": scheduled} | columns


def verdict(detector: str, origin: str, fl_date: str, **columns: Any) -> Row:
    row: Row = dict.fromkeys(schemas.WAREHOUSE_ANOMALIES.names) | {
        "origin": origin,
        "fl_date": date.fromisoformat(fl_date),
        "detector": detector,
        "metric": "mean_effective_delay_min",
        "is_anomaly": False,
        "severity": 0,
        "status": "ok",
        "params_hash": "abc",
    }
    return row | columns


def reason(origin: str, fl_date: str, sentence: str, **columns: Any) -> Row:
    row: Row = {field.name: None if field.nullable else 0 for field in schemas.ANOMALY_REASONS}
    row |= {"origin": origin, "fl_date": date.fromisoformat(fl_date), "sentence": sentence}
    return row | {"direction": "late", "severity": 1} | columns


def factor(origin: str, fl_date: str, dimension: str, name: str, **columns: Any) -> Row:
    row: Row = dict.fromkeys(schemas.ANOMALY_FACTORS.names)
    row |= {"origin": origin, "fl_date": date.fromisoformat(fl_date), "dimension": dimension, "name": name}
    counted: Row = {} if dimension == "cause" else {"scheduled": 1, "delay_min": 0.0, "cancelled": 0}
    return row | counted | columns


def event(event_id: str, *days: tuple[str, str], **columns: Any) -> tuple[Row, list[Row]]:
    """The row of an event, and those of its days, which are given as (origin, date)."""
    dates = [date.fromisoformat(one) for _, one in days]
    row: Row = dict.fromkeys(schemas.EVENTS.names) | {
        "event_id": event_id,
        "name": f"{event_id} delay",
        "kind": "delay",
    }
    row |= {"first_day": min(dates), "last_day": max(dates), "airport_days": len(days), "severity": 1}
    row |= {
        "airports": len({origin for origin, _ in days}),
        "scheduled": 100,
        "cancelled": 0,
        "worst_origin": days[0][0],
    }
    of_days: list[Row] = [
        {"event_id": event_id, "origin": origin, "fl_date": one} for (origin, _), one in zip(days, dates, strict=True)
    ]
    return row | columns, of_days


def fill(warehouse: str, days: list[Row], verdicts: list[Row], **tables: list[Row]) -> None:
    """Put rows of 2018 there; of other tables than these two by the table's name."""
    with closing(DBHandler(warehouse)) as handler:
        handler.publish_view(detectors.NAMES, detectors.PUBLISHED)
        for name, rows in {"airport_days": days, "anomalies": verdicts, **tables}.items():
            handler.upsert(name, pd.DataFrame(rows), 2018)


def say(warehouse: str, origin: str, fl_date: str, opinion: str, note: str = "") -> None:
    with closing(DBHandler(warehouse)) as handler:
        handler.give_feedback(origin, date.fromisoformat(fl_date), opinion, note, "anna")


def storm(warehouse: str) -> None:
    """A day of a closed and a late airport of which everything is known, and feedback on one of them."""
    flagged: Row = {"is_anomaly": True, "severity": 2, "score": 900.0, "observed": 90.0, "expected": 9.0}
    event_row, event_days = event("20180104-JFK", ("JFK", "2018-01-04"), ("LGA", "2018-01-04"))
    names = ("cause", "weather"), ("carrier", "B6"), ("destination", "BOS")
    parts = [
        factor("JFK", "2018-01-04", dimension, name, excess_delay_min=60.0, excess_cancelled=2.0)
        for dimension, name in names
    ]
    report = {"rows_per_month": {"1": 2}, "duplicate_per_month": {}, "warnings": []}
    quality = {field.name: 0 for field in schemas.BRONZE_QUALITY} | {"year": 2018, "bronze_key": "2018.csv"}
    quality |= {"sha256": "0", "missing_months": "", "doubled_months": "", "report": json.dumps(report)}
    fill(
        warehouse,
        [day(origin, "2018-01-04", 100, departed=40, mean_effective_delay_min=90.0) for origin in ("JFK", "LGA")],
        [
            verdict(name, origin, "2018-01-04", direction=direction, **flagged)
            for name in detectors.NAMES
            for origin, direction in (("JFK", "closure"), ("LGA", "late"))
        ],
        anomaly_reasons=[reason(origin, "2018-01-04", "Snow.", excess_delay_min=60.0) for origin in ("JFK", "LGA")],
        anomaly_factors=parts,
        events=[event_row],
        event_days=event_days,
        bronze_quality=[quality],
    )
    say(warehouse, "JFK", "2018-01-04", "right")


def read_only(warehouse: str, query: str) -> list[tuple[Any, ...]]:
    """What a login that may only read is told."""
    return sql(warehouse, "SET ROLE flights_reader", "SET default_transaction_read_only = on", query)


def source(dataset: bundle.Asset) -> str:
    """The dataset as something to select from."""
    return f"({dataset['sql']}) AS rows" if "sql" in dataset else f"{dataset['schema']}.{dataset['table_name']}"


def expressions(dataset: str) -> dict[str, str]:
    return {metric["metric_name"]: metric["expression"] for metric in DATASETS[dataset]["metrics"]}


def measured(warehouse: str, metric: str, where: str = "true") -> Any:
    """One metric of judged_days over the rows that a filter leaves."""
    query = f"SELECT {expressions('judged_days')[metric]} FROM {source(DATASETS['judged_days'])} WHERE {where}"
    ((value,),) = read_only(warehouse, query)
    return value


def query_of(chart: bundle.Asset) -> str:
    """What Superset asks for a chart of the published detector: its columns, or metrics by dimensions, in its order."""
    params, dataset = chart["params"], DATASETS[chart["dataset"]]
    known = expressions(chart["dataset"])
    metrics = [known[name] for name in dict.fromkeys(texts([params.get("metric", []), params.get("metrics", [])]))]
    dimensions = list(dict.fromkeys(texts([params.get("x_axis", []), params.get("groupby", [])])))
    conditions = [one["sqlExpression"] for one in params.get("adhoc_filters", [])]
    if "detector" in bundle.columns_of(dataset):
        conditions.append(f"detector = '{detectors.PUBLISHED}'")
    asked = ", ".join([*params.get("all_columns", []), *dimensions, *metrics])
    query = f"SELECT {asked} FROM {source(dataset)} WHERE {' AND '.join(conditions) or 'true'}"
    query += f" GROUP BY {', '.join(dimensions)}" if dimensions else ""
    orders = [yaml.safe_load(order)[0] for order in params.get("order_by_cols", [])]
    orders += [known[name] for name in texts(params.get("timeseries_limit_metric", []))]
    return query + (f" ORDER BY {', '.join(f'{order} DESC' for order in orders)}" if orders else "")


def texts(value: Any) -> Iterator[str]:
    """The texts in a value, whatever lists it is in."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def metrics_of(chart: bundle.Asset) -> set[str]:
    return set(texts([chart["params"].get(key, []) for key in ("metric", "metrics", "timeseries_limit_metric")]))


# --- the files among themselves ---------------------------------------------------------------------------------------


def test_every_file_holds_only_keys_that_superset_takes() -> None:
    for kind, keys in KEYS.items():
        for name, asset in ASSETS[kind].items():
            assert set(asset) <= set(keys.split()), f"{kind}/{name}.yaml"
    for dataset in DATASETS.values():
        assert {key for column in dataset["columns"] for key in column} <= COLUMN_KEYS
        assert {key for metric in dataset["metrics"] for key in metric} <= METRIC_KEYS
    for dashboard in DASHBOARDS.values():
        assert {key for one in dashboard["filters"] for key in one} <= FILTER_KEYS
        rows = [*dashboard["top"], *(row for tab in dashboard["tabs"] for row in tab["rows"])]
        assert {key for row in rows for key in row} <= ROW_KEYS


def test_every_file_of_the_folder_is_an_asset() -> None:
    assert sum(map(len, ASSETS.values())) == len([path for path in FOLDER.rglob("*.yaml") if path.is_file()])


def test_uuids_are_unique() -> None:
    uuids = [str(uuid.UUID(asset["uuid"])) for assets in ASSETS.values() for asset in assets.values()]

    assert len(uuids) == len(set(uuids))


def test_what_an_analyst_reads_is_unique() -> None:
    """Charts by their name; columns and metrics too, because Superset finds a colour by what it shows."""
    assert max(Counter(chart["slice_name"] for chart in CHARTS.values()).values()) == 1
    for name, dataset in DATASETS.items():
        shown = Counter(item.get("verbose_name") for item in dataset["columns"] + dataset["metrics"])
        del shown[None]
        assert [label for label, count in shown.items() if count > 1] == [], name


def test_every_metric_says_what_it_is_and_how_it_is_written() -> None:
    for dataset in DATASETS.values():
        for metric in dataset["metrics"]:
            assert set(metric) == METRIC_KEYS, metric["metric_name"]


def test_every_column_has_a_label_for_people() -> None:
    for name, dataset in DATASETS.items():
        assert not [one["column_name"] for one in dataset["columns"] if not one.get("verbose_name")], name


def test_every_chart_stands_on_a_dashboard_and_on_each_only_once() -> None:
    placed = {name: bundle.charts_of(dashboard) for name, dashboard in DASHBOARDS.items()}

    assert set().union(*placed.values()) == set(CHARTS)
    assert all(len(charts) == len(set(charts)) for charts in placed.values())


@pytest.mark.parametrize("name", sorted(CHARTS))
def test_a_chart_names_columns_and_metrics_that_its_dataset_has(name: str) -> None:
    params, dataset = CHARTS[name]["params"], DATASETS[CHARTS[name]["dataset"]]
    columns, metrics = bundle.columns_of(dataset), {metric["metric_name"] for metric in dataset["metrics"]}

    assert set(texts([params.get(key, []) for key in ("x_axis", "groupby", "all_columns")])) <= columns
    assert metrics_of(CHARTS[name]) <= metrics
    ordered = {yaml.safe_load(order)[0] for order in params.get("order_by_cols", [])}
    formatted = {rule["column"] for rule in params.get("conditional_formatting", [])}
    assert ordered | formatted | set(params.get("column_config", {})) <= columns | metrics
    assert {params.get("x_axis_sort", "sum")} <= columns | metrics | {"sum"}


def test_every_colour_is_that_of_a_series() -> None:
    """A misspelt name would leave a series in whatever colour comes next, without a word."""
    values = {"normal", *schemas.DIRECTIONS, "insufficient_data", "no_flights"}
    values |= {"acknowledged", *schemas.EVENT_KINDS}
    values |= {"by 1 detector", "by 2 detectors", "by 3 or 4 detectors", "by 5 or more detectors"}

    for dashboard in DASHBOARDS.values():
        metrics = [metric for dataset in DATASETS.values() for metric in dataset["metrics"]]
        named = {metric[key] for metric in metrics for key in ("metric_name", "verbose_name")}
        named |= {f"{metric['verbose_name']}{end}" for metric in metrics for end in ("__yhat_lower", "__yhat_upper")}
        assert set(dashboard["colours"]) <= values | named


def test_flight_anomalies_opens_with_one_airport_and_the_demo_year() -> None:
    metadata = bundle.expand(ASSETS)["dashboards"]["flight_anomalies"]["metadata"]

    chosen = {one["name"]: one["defaultDataMask"] for one in metadata["native_filter_configuration"]}
    assert list(chosen) == ["Airport", "Date range", "Abnormal day", "Detector", "Severity"]
    assert chosen["Airport"]["filterState"]["value"] == ["LGA"]
    assert chosen["Date range"]["extraFormData"] == {"time_range": "2013-01-01 : 2014-01-01"}
    assert chosen["Detector"]["filterState"]["value"] == [detectors.PUBLISHED]
    assert chosen["Severity"]["extraFormData"] == {"filters": []}
    assert chosen["Abnormal day"]["extraFormData"] == {"filters": []}


def with_an_axis() -> dict[str, Row]:
    """The parameters of the charts with an axis of values."""
    return {name: one["params"] for name, one in CHARTS.items() if one["viz_type"].startswith("echarts_timeseries")}


def formats_of(chart: bundle.Asset) -> set[str]:
    """How the metrics of a chart are written."""
    formats = {metric["metric_name"]: metric["d3format"] for metric in DATASETS[chart["dataset"]]["metrics"]}
    return {formats[metric] for metric in metrics_of(chart)}


@pytest.mark.parametrize("name", sorted(name for name in with_an_axis() if formats_of(CHARTS[name]) == {",d"}))
def test_an_axis_of_counts_has_whole_numbers_at_whole_steps(name: str) -> None:
    """With the format alone, an axis up to 2 reads 0, 1, 1, 2, 2."""
    params = CHARTS[name]["params"]
    axis = "xAxis" if params.get("orientation") == "horizontal" else "yAxis"

    assert params["y_axis_format"] == ",d"
    assert yaml.safe_load(params["echart_options"])[axis] == {"minInterval": 1}


@pytest.mark.parametrize("name", sorted(with_an_axis()))
def test_an_axis_of_values_has_a_title(name: str) -> None:
    assert CHARTS[name]["params"]["y_axis_title"]


@pytest.mark.parametrize("name", sorted(name for name, chart in CHARTS.items() if "row_limit" in chart["params"]))
def test_a_chart_of_the_first_airports_says_how_many_it_shows(name: str) -> None:
    assert f"the {CHARTS[name]['params']['row_limit']} airports with the most" in CHARTS[name]["slice_name"]


def reached(dashboard: str, filter_name: str) -> set[str]:
    """The charts that a filter reaches, as Superset is told."""
    expanded = bundle.expand(ASSETS)["dashboards"][dashboard]
    numbers = dict(enumerate(bundle.charts_of(DASHBOARDS[dashboard]), 1))
    (one,) = (one for one in expanded["metadata"]["native_filter_configuration"] if one["name"] == filter_name)
    return set(numbers.values()) - {numbers[number] for number in one["scope"]["excluded"]}


def test_all_airports_are_compared_whatever_the_airport_is() -> None:
    assert {"worst_airport", "airports_ranked"}.isdisjoint(reached("flight_anomalies", "Airport"))


@pytest.mark.parametrize("dashboard", sorted(DASHBOARDS))
def test_detectors_are_compared_whatever_the_detector_is(dashboard: str) -> None:
    compared = {"detector_counts", "detector_agreement", "precision_by_feedback"}

    assert compared <= set(bundle.charts_of(DASHBOARDS[dashboard]))
    assert compared.isdisjoint(reached(dashboard, "Detector"))


def test_an_abnormal_day_narrows_what_made_it_and_nothing_else() -> None:
    of_reasons = {"factors_by_cause", "factors_by_carrier", "factors_by_destination", "observed_and_usual"}

    assert reached("flight_anomalies", "Abnormal day") == of_reasons | {"airports_events"}


def test_the_abnormal_days_to_choose_from_are_those_of_the_airport_and_the_dates() -> None:
    filters = bundle.expand(ASSETS)["dashboards"]["flight_anomalies"]["metadata"]["native_filter_configuration"]
    by_name = {one["name"]: one for one in filters}

    within = {by_name[name]["id"] for name in ("Airport", "Date range", "Severity")}
    assert set(by_name["Abnormal day"]["cascadeParentIds"]) == within
    assert by_name["Abnormal day"]["granularity_sqla"] == "fl_date"  # without it Superset forgets the dates


@pytest.mark.parametrize("dashboard", sorted(DASHBOARDS))
def test_every_chart_stands_in_a_row_above_the_tabs_or_of_a_tab(dashboard: str) -> None:
    places = bundle.expand(ASSETS)["dashboards"][dashboard]["position"]

    *above, tabs_name = places["GRID_ID"]["children"]
    tabs = [places[name] for name in places[tabs_name]["children"]]
    assert [tab["meta"]["text"] for tab in tabs] == [tab["tab"] for tab in DASHBOARDS[dashboard]["tabs"]]
    rows = [places[name] for name in [*above, *(name for tab in tabs for name in tab["children"])]]
    shown = [name for row in rows for name in row["children"] if name.startswith("CHART-")]
    assert [name.removeprefix("CHART-") for name in shown] == bundle.charts_of(DASHBOARDS[dashboard])
    for row in rows:
        assert all(places[name]["parents"] == [*row["parents"], row["id"]] for name in row["children"])


@pytest.mark.parametrize("dashboard", sorted(DASHBOARDS))
def test_severity_reaches_no_chart_that_tells_of_normal_days_too(dashboard: str) -> None:
    totals = {"flights", "cancelled_share", "effective_delay"}
    charts = {name for name in bundle.charts_of(DASHBOARDS[dashboard]) if totals & metrics_of(CHARTS[name])}

    assert charts
    assert charts.isdisjoint(reached(dashboard, "Severity"))


@pytest.mark.parametrize("dashboard", sorted(DASHBOARDS))
def test_a_notice_of_the_chosen_years_stands_above_the_tabs(dashboard: str) -> None:
    above = {chart for row in DASHBOARDS[dashboard]["top"] for chart in row["charts"]}

    assert above == {"year_notice", "judged_notice"}
    assert above <= reached(dashboard, "Date range")
    assert above.isdisjoint(reached(dashboard, "Severity"))


@pytest.mark.parametrize("dashboard", sorted(DASHBOARDS))
def test_quality_of_the_data_is_shown_of_all_years(dashboard: str) -> None:
    quality = {name for name, chart in CHARTS.items() if chart["dataset"].startswith("quality_")}

    assert quality <= set(bundle.charts_of(DASHBOARDS[dashboard]))
    for one in DASHBOARDS[dashboard]["filters"]:
        assert quality.isdisjoint(reached(dashboard, one["name"]))


def test_no_password_is_in_the_tree() -> None:
    for path in (ROOT / "superset").rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            found = re.findall(r"://[^\s:/@]+:([^\s@]+)@", path.read_text(encoding="utf-8"))
            assert set(found) <= {"password"}, path  # as in the sentence that says how an address is written
    assert "sqlalchemy_uri" not in ASSETS["databases"]["warehouse"]


def test_the_zip_is_what_the_assets_api_takes() -> None:
    packed = zipfile.ZipFile(
        io.BytesIO(bundle.pack(FOLDER, "postgresql+psycopg2://reader@db/warehouse", detectors.NAMES))
    )

    files = {name.removeprefix("bundle/"): yaml.safe_load(packed.read(name)) for name in packed.namelist()}
    assert files["metadata.yaml"]["type"] == "assets"
    assert files["databases/warehouse.yaml"]["sqlalchemy_uri"] == "postgresql+psycopg2://reader@db/warehouse"
    assert {name.split("/")[0] for name in files} == {*KEYS, "metadata.yaml"}
    assert len(files) == sum(map(len, ASSETS.values())) + 1
    assert all(file["is_managed_externally"] for name, file in files.items() if name != "metadata.yaml")


@pytest.mark.parametrize(
    ("path", "old", "new", "sentence"),
    [
        ("charts/flights.yaml", "dataset: ", "dataset: no_", "charts/flights.yaml names datasets/no_judged_days.yaml"),
        ("charts/flights.yaml", "slice_name: ", "name: ", "charts/flights.yaml lacks slice_name"),
        ("charts/flights.yaml", "params:", "params: [", "charts/flights.yaml is not YAML"),
        ("dashboards/network.yaml", "airports: 2", "airport: 2", "names charts/airport.yaml, which is not there"),
        (
            "dashboards/network.yaml",
            "airports: 2",
            "airports: 3",
            "tab What happened: the charts of row 1 are not 12 columns wide",
        ),
        (
            "dashboards/network.yaml",
            "feedback_list: 8",
            "feedback_list: 12",
            "tab How sure: the charts of row 5 are not 12 columns wide",
        ),
        ("dashboards/network.yaml", "year_notice: 8", "year_notice: 9", "above the tabs: the charts of row 1"),
        ("dashboards/flight_anomalies.yaml", "within: [Airport", "within: [City", "Abnormal day, is within City"),
        ("dashboards/network.yaml", "days.detector", "days.robot", "filter Detector, names the column robot"),
        ("dashboards/network.yaml", "- judged_notice", "- planes", "filter Severity, names planes"),
        ("dashboards/network.yaml", "- name: Detector", "- title: Detector", "network.yaml lacks the key 'name'"),
    ],
)
def test_a_mistake_in_a_file_is_told_in_a_sentence(
    tmp_path: Path, path: str, old: str, new: str, sentence: str
) -> None:
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    text = (tmp_path / path).read_text()
    assert old in text
    (tmp_path / path).write_text(text.replace(old, new, 1))

    with pytest.raises(bundle.BundleError, match=re.escape(sentence)):
        bundle.pack(tmp_path, "postgresql://reader@db/warehouse", detectors.NAMES)


# --- the files against the warehouse ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_a_dataset_has_the_columns_and_types_that_the_warehouse_gives(name: str, warehouse: str) -> None:
    fill(warehouse, [day("LGA", "2018-01-01", 1)], [verdict("delaywatch", "LGA", "2018-01-01")])

    with closing(psycopg2.connect(warehouse)) as connection, connection.cursor() as cursor:
        cursor.execute("SET ROLE flights_reader; SET TRANSACTION READ ONLY")
        cursor.execute(f"SELECT * FROM {source(DATASETS[name])}")
        given = [(column.name, column.type_code) for column in cursor.description or ()]
        cursor.execute("SELECT oid, format_type(oid, NULL) FROM pg_type")
        types = dict(cursor.fetchall())
    declared = [(column["column_name"], column["type"]) for column in DATASETS[name]["columns"]]
    assert declared == [(column, types[oid].upper()) for column, oid in given]


def test_a_dataset_has_a_flag_for_every_detector_of_the_view(warehouse: str) -> None:
    with closing(DBHandler(warehouse)) as handler:
        handler.publish_view(["delaywatch", "newcomer"], "newcomer")

    ((names,),) = read_only(warehouse, bundle.DETECTORS)

    columns = bundle.read(FOLDER, names)["datasets"]["agg_dep_delay_by_date"]["columns"]
    assert columns[-1] == {
        "column_name": "is_anomaly_newcomer",
        "type": "BOOLEAN",
        "verbose_name": "Abnormal by newcomer",
        "description": "verdict of newcomer; null when it has not judged the day",
    }
    assert [column["column_name"] for column in columns if "delaywatch" in column["column_name"]] == [
        "is_anomaly_delaywatch"
    ]


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_metric_of_a_dataset_can_be_asked(name: str, warehouse: str) -> None:
    fill(warehouse, [day("LGA", "2018-01-01", 1)], [verdict("delaywatch", "LGA", "2018-01-01")])

    (row,) = read_only(warehouse, f"SELECT {', '.join(expressions(name).values())} FROM {source(DATASETS[name])}")

    assert len(row) == len(DATASETS[name]["metrics"])


@pytest.mark.parametrize("name", sorted(CHARTS))
def test_a_charts_own_conditions_can_be_asked(name: str, warehouse: str) -> None:
    dataset = DATASETS[CHARTS[name]["dataset"]]
    conditions = [one["sqlExpression"] for one in CHARTS[name]["params"].get("adhoc_filters", [])]
    fill(warehouse, [day("LGA", "2018-01-01", 1)], [verdict("delaywatch", "LGA", "2018-01-01")])

    assert not read_only(warehouse, f"SELECT FROM {source(dataset)} WHERE {' AND '.join([*conditions, 'false'])}")


@pytest.mark.parametrize("name", sorted(CHARTS))
def test_a_chart_has_something_to_show_of_a_storm(name: str, warehouse: str) -> None:
    storm(warehouse)

    rows = read_only(warehouse, query_of(CHARTS[name]))

    assert rows
    assert any(value is not None for row in rows for value in row)


def test_no_metric_is_an_average_of_averages() -> None:
    """A day's mean or share goes into no sum but times its flights, and into no average at all."""
    for name in DATASETS:
        for metric, expression in expressions(name).items():
            assert not re.search(r"\b(avg|stddev|percentile)", expression, re.IGNORECASE), metric
            for summed in re.findall(r"SUM\(([^()]*)\)", expression, re.IGNORECASE):
                assert not re.search(r"\b(score|once_in_days)\b", summed), metric  # a sum of rarities means nothing
                if re.search(r"mean|share|std|observed|expected|lower|upper", summed):
                    assert re.fullmatch(r"\w+ \* (departed|scheduled|weight)", summed), metric
    for chart in CHARTS.values():  # which has no metric of its own beside those
        assert all(isinstance(metric, str) for metric in chart["params"].get("metrics", []))
        assert isinstance(chart["params"].get("metric", ""), str)


def test_a_days_delay_weighs_by_its_flights(warehouse: str) -> None:
    busy = day("ORD", "2018-01-01", 99, departed=98, mean_dep_delay_min=10.0, mean_effective_delay_min=12.0)
    quiet = day("PIR", "2018-01-01", 1, departed=1, mean_dep_delay_min=109.0, mean_effective_delay_min=112.0)
    none = day("LEX", "2018-01-01", 0)
    verdicts = [
        verdict("three_sigma", "ORD", "2018-01-01", metric="mean_dep_delay_min", observed=10.0, expected=5.0),
        verdict("three_sigma", "PIR", "2018-01-01", metric="mean_dep_delay_min", observed=109.0, expected=5.0),
        verdict("three_sigma", "LEX", "2018-01-01", metric="mean_dep_delay_min", status="no_flights"),
    ]
    fill(warehouse, [busy, quiet, none], verdicts)

    assert measured(warehouse, "mean_delay") == pytest.approx(11.0)
    assert measured(warehouse, "effective_delay") == pytest.approx(13.0)
    assert measured(warehouse, "observed_delay") == pytest.approx(11.0)
    assert measured(warehouse, "expected_delay") == pytest.approx(5.0)


def test_a_flight_is_not_counted_once_per_detector(warehouse: str) -> None:
    verdicts = [verdict(name, "LGA", "2018-01-01") for name in ("three_sigma", "delaywatch")]
    fill(warehouse, [day("LGA", "2018-01-01", 300, cancelled=30)], verdicts)

    assert measured(warehouse, "flights", "detector = 'delaywatch'") == 300
    assert measured(warehouse, "flights") is None  # nothing rather than 600
    assert float(measured(warehouse, "cancelled_share")) == pytest.approx(0.1)


def test_the_band_is_that_of_a_single_day_or_none(warehouse: str) -> None:
    days = [day("LGA", "2018-01-01", 300), day("LGA", "2018-01-02", 300)]
    verdicts = [verdict("delaywatch", "LGA", str(one["fl_date"]), lower=2.0, upper=30.0) for one in days]
    fill(warehouse, days, verdicts)

    assert measured(warehouse, "expected_delay__yhat_upper", "fl_date = '2018-01-02'") == 30.0
    assert measured(warehouse, "expected_delay__yhat_upper") is None


def test_the_verdict_of_a_day_is_that_of_the_view(warehouse: str) -> None:
    kinds: list[Row] = [
        {"is_anomaly": True, "direction": "closure", "severity": 3},
        {"is_anomaly": True, "direction": "late", "severity": 1},
        {},
        {"status": "insufficient_data"},
        {"status": "no_flights"},
    ]
    dates = [f"2018-01-{number:02}" for number in range(1, 6)]
    fill(
        warehouse,
        [day("LGA", one, 10) for one in dates],
        [verdict("delaywatch", "LGA", one, **kind) for one, kind in zip(dates, kinds, strict=True)],
    )

    query = "SELECT fl_date, verdict, severity FROM {} ORDER BY fl_date"
    judged = read_only(warehouse, query.format(source(DATASETS["judged_days"])))
    assert judged == read_only(warehouse, query.format("flights.agg_dep_delay_by_date"))
    assert [row[1] for row in judged] == ["closure", "late", "normal", "insufficient_data", "no_flights"]


def test_detectors_agree_where_they_flag_the_same_day(warehouse: str) -> None:
    flagged: Row = {"is_anomaly": True, "direction": "late", "severity": 2}
    days = [day("LGA", "2018-01-01", 300), day("LGA", "2018-01-02", 300)]
    verdicts = [
        verdict("delaywatch", "LGA", "2018-01-01", **flagged),
        verdict("three_sigma", "LGA", "2018-01-01", **flagged),
        verdict("delaywatch", "LGA", "2018-01-02", **flagged),
        verdict("three_sigma", "LGA", "2018-01-02"),
    ]
    fill(warehouse, days, verdicts)

    pairs = f"SELECT detector, other_detector, count(*) FROM {source(DATASETS['detector_pairs'])}"
    assert read_only(warehouse, f"{pairs} GROUP BY 1, 2 ORDER BY 1, 2") == [
        ("delaywatch", "delaywatch", 2),
        ("delaywatch", "three_sigma", 1),
        ("three_sigma", "delaywatch", 1),
        ("three_sigma", "three_sigma", 1),
    ]
    flags = f"SELECT detector, agreement FROM {source(DATASETS['detector_flags'])} ORDER BY fl_date, 1"
    assert read_only(warehouse, flags) == [
        ("delaywatch", "by 2 detectors"),
        ("three_sigma", "by 2 detectors"),
        ("delaywatch", "by 1 detector"),
    ]


# --- why, events and feedback


def test_a_day_says_why_it_is_abnormal_and_that_it_was_expected(warehouse: str) -> None:
    flagged: Row = {"is_anomaly": True, "direction": "late", "severity": 1, "score": 90.0}
    event_row, event_days = event("20180104-LGA", ("LGA", "2018-01-04"), name="2018-01-04 LGA, delay")
    said = "300 scheduled flights: 3 cancellations more than usual."
    sentence = f"LGA, Thu 4 Jan 2018, late, severity mild, once in 90 days: {said}"
    fill(
        warehouse,
        [day("LGA", "2018-01-03", 300), day("LGA", "2018-01-04", 300)],
        [verdict("delaywatch", "LGA", "2018-01-03"), verdict("delaywatch", "LGA", "2018-01-04", **flagged)],
        anomaly_reasons=[reason("LGA", "2018-01-04", sentence)],
        events=[event_row],
        event_days=event_days,
    )
    say(warehouse, "LGA", "2018-01-04", "expected", "Snow was forecast.")

    shown = (
        f"SELECT standing, sentence, event, said, once_in_days FROM {source(DATASETS['judged_days'])} ORDER BY fl_date"
    )

    assert read_only(warehouse, shown) == [
        ("normal", None, None, None, None),
        (
            "acknowledged",
            "300 scheduled flights: 3 cancellations more than usual.",  # airport, day and verdict have columns
            "2018-01-04 LGA, delay",
            "acknowledged: Snow was forecast.",
            90.0,
        ),
    ]
    assert measured(warehouse, "acknowledged_days") == 1


def test_another_detectors_day_says_that_it_has_no_reason_and_no_return_period(warehouse: str) -> None:
    flagged: Row = {"is_anomaly": True, "direction": "late", "severity": 1, "score": 4.2}
    fill(warehouse, [day("LGA", "2018-01-04", 300)], [verdict("three_sigma", "LGA", "2018-01-04", **flagged)])

    ((sentence, once_in_days),) = read_only(
        warehouse, f"SELECT sentence, once_in_days FROM {source(DATASETS['judged_days'])}"
    )

    assert detectors.PUBLISHED in sentence
    assert once_in_days is None


def test_a_year_without_causes_says_so_and_keeps_its_carriers(warehouse: str) -> None:
    fill(
        warehouse,
        [day("LGA", "2018-01-04", 300)],
        [verdict("delaywatch", "LGA", "2018-01-04")],
        anomaly_reasons=[reason("LGA", "2018-01-04", "Snow.")],
        anomaly_factors=[factor("LGA", "2018-01-04", "carrier", "DL", excess_delay_min=60.0)],
    )

    rows = read_only(
        warehouse,
        f"SELECT dimension, cause, carrier, excess_delay_min FROM {source(DATASETS['factors'])} ORDER BY dimension",
    )

    assert rows == [("carrier", None, "DL", 60.0), ("cause", "the year's file names no causes", None, None)]


def test_factors_are_ordered_as_reasons_choose_the_first_of_them(warehouse: str) -> None:
    """By minutes with a cancelled flight as DELAY_CAP_MIN: a closure has next to no minutes."""
    parts = [
        factor("LGA", "2018-01-04", "carrier", "DL", excess_delay_min=100.0, excess_cancelled=0.0),
        factor("LGA", "2018-01-04", "carrier", "B6", excess_delay_min=-10.0, excess_cancelled=2.0),
    ]
    fill(
        warehouse,
        [day("LGA", "2018-01-04", 300)],
        [verdict("delaywatch", "LGA", "2018-01-04")],
        anomaly_reasons=[reason("LGA", "2018-01-04", "Snow.")],
        anomaly_factors=parts,
    )
    weight = expressions("factors")["excess_weight"]

    carriers = f"SELECT carrier, {weight} FROM {source(DATASETS['factors'])} WHERE dimension = 'carrier' GROUP BY 1"
    rows = read_only(warehouse, f"{carriers} ORDER BY 2 DESC")

    assert rows == [("B6", 2 * DELAY_CAP_MIN - 10.0), ("DL", 100.0)]


def test_an_event_is_told_whole_by_any_of_its_airports(warehouse: str) -> None:
    row, days = event("20180104-JFK", ("JFK", "2018-01-04"), ("LGA", "2018-01-04"), ("JFK", "2018-01-05"))
    fill(
        warehouse,
        [day(one["origin"], str(one["fl_date"]), 300) for one in days],
        [verdict("delaywatch", one["origin"], str(one["fl_date"])) for one in days],
        events=[row],
        event_days=days,
    )
    known = expressions("events")
    asked = ", ".join(known[name] for name in ("events", "days_here", "event_airports", "event_size"))

    of_lga = (
        f"SELECT airport_list, {asked} FROM {source(DATASETS['events'])} WHERE origin = 'LGA' GROUP BY airport_list"
    )

    assert read_only(warehouse, of_lga) == [("JFK, LGA", 1, 1, 2, 3)]


def test_figures_of_several_events_are_not_mixed(warehouse: str) -> None:
    events = [event("20180104-JFK", ("JFK", "2018-01-04")), event("20180301-LGA", ("LGA", "2018-03-01"))]
    days = [one for _, of_event in events for one in of_event]
    fill(
        warehouse,
        [day(one["origin"], str(one["fl_date"]), 300) for one in days],
        [verdict("delaywatch", one["origin"], str(one["fl_date"])) for one in days],
        events=[row for row, _ in events],
        event_days=days,
    )
    known = expressions("events")

    query = f"SELECT {known['events']}, {known['event_size']} FROM {source(DATASETS['events'])}"

    assert read_only(warehouse, query) == [(2, None)]


def test_the_largest_event_of_a_day_is_one_point_in_the_colour_of_its_kind(warehouse: str) -> None:
    small = event("20180104-BOS", ("BOS", "2018-01-04"), kind="closure")
    large = event("20180104-JFK", ("JFK", "2018-01-04"), ("LGA", "2018-01-04"), ("LGA", "2018-01-05"), kind="mixed")
    days = [one for _, of_event in (small, large) for one in of_event]
    fill(
        warehouse,
        [day(one["origin"], str(one["fl_date"]), 300) for one in days],
        [verdict("delaywatch", one["origin"], str(one["fl_date"])) for one in days],
        events=[small[0], large[0]],
        event_days=days,
    )

    points = read_only(warehouse, query_of(CHARTS["events_over_time"]) + " ORDER BY 1")

    kinds = [metric.removeprefix("largest_is_") for metric in CHARTS["events_over_time"]["params"]["metrics"]]
    shown = [(point[0], {kind: size for kind, size in zip(kinds, point[1:], strict=True) if size}) for point in points]
    assert shown == [(date(2018, 1, 4), {"mixed": 2}), (date(2018, 1, 5), {"mixed": 2})]


def test_precision_by_feedback_is_that_of_the_warehouse(warehouse: str) -> None:
    """One flag right, one wrong, one expected, one without a word, and a right day that is not flagged."""
    dates = [f"2018-01-0{number}" for number in range(1, 6)]
    flagged: Row = {"is_anomaly": True, "direction": "late", "severity": 1}
    verdicts = [verdict("delaywatch", "LGA", one, **flagged) for one in dates[:4]]
    verdicts += [verdict("delaywatch", "LGA", dates[4]), verdict("arima", "LGA", dates[3], **flagged)]
    fill(warehouse, [day("LGA", one, 300) for one in dates], verdicts)
    for one, opinion in zip(dates[:3], ("right", "wrong", "expected"), strict=True):
        say(warehouse, "LGA", one, opinion)
    say(warehouse, "LGA", dates[4], "right")
    known = expressions("detector_opinions")
    names = ("right_days", "wrong_days", "expected_days", "missed_days", "precision_by_feedback", "feedback_share")

    query = f"SELECT detector, {', '.join(known[name] for name in names)} FROM {source(DATASETS['detector_opinions'])}"

    rows = read_only(warehouse, f"{query} GROUP BY detector ORDER BY detector")
    assert rows == [("arima", 0, 0, 0, 0, None, 0), ("delaywatch", 1, 1, 1, 1, 0.5, 0.75)]
    counted = "right_flags, wrong_flags, expected_flags, right_missed, precision_by_feedback"
    of_view = f"SELECT {counted} FROM flights.detector_feedback WHERE detector = 'delaywatch'"
    assert read_only(warehouse, of_view) == [rows[1][1:6]]


def test_what_people_said_stands_beside_the_published_verdict(warehouse: str) -> None:
    fill(warehouse, [day("LGA", "2018-01-04", 300)], [verdict("delaywatch", "LGA", "2018-01-04")])
    say(warehouse, "LGA", "2018-01-04", "right", "Snow.")

    listed = read_only(warehouse, f"SELECT opinion, verdict, note, author FROM {source(DATASETS['feedback'])}")

    assert listed == [("right", "normal", "Snow.", "anna")]


def test_minutes_by_cause_are_empty_where_the_file_names_none(warehouse: str) -> None:
    days = [day("LGA", "2018-01-01", 300, weather_min=900), day("LGA", "2018-01-02", 300)]
    fill(warehouse, days, [verdict("delaywatch", "LGA", str(one["fl_date"])) for one in days])

    causes = read_only(
        warehouse, f"SELECT weather_min, nas_min FROM {source(DATASETS['judged_days'])} ORDER BY fl_date"
    )

    assert causes == [(900, 0), (None, None)]


def load_year(warehouse: str, year: int, missing_months: str = "", warnings: int = 0) -> None:
    """Put the quality report of a year into the warehouse."""
    report = {"rows_per_month": {}, "duplicate_per_month": {}, "airports": 3, "warnings": ["A warning."] * warnings}
    row: Row = {field.name: 0 for field in schemas.BRONZE_QUALITY} | {"year": year, "bronze_key": f"{year}.csv"}
    row |= {"sha256": "0", "rows_read": 1234, "rows_kept": 1234}
    row |= {"missing_months": missing_months, "doubled_months": ""}
    with closing(DBHandler(warehouse)) as handler:
        handler.upsert("bronze_quality", pd.DataFrame([row | {"report": json.dumps(report)}]), year)


def notice(warehouse: str, first: str, end: str) -> str:
    """What a dashboard says at the top for a range of dates, line by line."""
    query = f"SELECT {expressions('year_notices')['notice']} FROM {source(DATASETS['year_notices'])}"
    ((text,),) = read_only(warehouse, f"{query} WHERE fl_date >= '{first}' AND fl_date < '{end}'")
    return str(text)


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
def test_a_dashboard_says_which_months_of_the_chosen_year_are_missing(
    warehouse: str, missing_months: str, state: str, months: str
) -> None:
    load_year(warehouse, 2008, missing_months)
    load_year(warehouse, 2007, "1")  # another year, which is not chosen

    said = notice(warehouse, "2008-02-01", "2008-03-01")

    assert said.startswith(f"2008 (1,234 flights, 3 airports) {state}")
    assert months in said
    assert "2007" not in said
    assert said.count("\n") == 0


def test_a_dashboard_names_every_year_of_a_longer_range_and_counts_the_warnings(warehouse: str) -> None:
    load_year(warehouse, 2008, "11,12")
    load_year(warehouse, 2010)
    load_year(warehouse, 2012, warnings=2)

    unfinished, complete, gaps, where = notice(warehouse, "2000-01-01", "2020-01-01").split("\n")

    assert unfinished.startswith("2008 ")
    assert "2010 (1,234 flights, 3 airports) is complete" in complete
    assert "2012 (1,234 flights, 3 airports, 2 warnings) is complete" in complete
    assert re.findall(r"\d{4}", gaps) == ["2009", "2011"]
    assert "How sure" in where


def test_a_dashboard_without_the_chosen_year_names_the_loaded_years(warehouse: str) -> None:
    load_year(warehouse, 2008)
    load_year(warehouse, 2013)

    assert re.findall(r"\d{4}", notice(warehouse, "2016-01-01", "2017-01-01")) == ["2008", "2013"]


def test_an_empty_dashboard_names_the_dag_to_trigger(warehouse: str) -> None:
    with closing(DBHandler(warehouse)) as handler:
        handler.publish_view(detectors.NAMES, detectors.PUBLISHED)

    assert "flight_anomalies" in notice(warehouse, "2013-01-01", "2014-01-01")
    assert "Choose others in Date range" in notice(warehouse, "1900-01-01", "1901-01-01")
    assert "choose another airport" in measured(warehouse, "coverage")


def test_a_dashboard_says_how_many_days_are_judged_and_abnormal(warehouse: str) -> None:
    states: list[Row] = [{"is_anomaly": True, "direction": "late", "severity": 1}, {}, {}]
    states += [{"status": "insufficient_data"}, {"status": "no_flights"}]
    dates = [f"2018-01-0{number}" for number in range(1, 6)]
    verdicts = [verdict("delaywatch", "LGA", one, **state) for one, state in zip(dates, states, strict=True)]
    calm = [verdict("delaywatch", "JFK", one) for one in dates]
    fill(warehouse, [day(airport, one, 9) for airport in ("JFK", "LGA") for one in dates], verdicts + calm)

    assert measured(warehouse, "coverage", "origin = 'LGA'") == (
        "LGA: 5 days, 1 abnormal by delaywatch. Not judged: 1 with too few flights, 1 without flights."
    )
    assert measured(warehouse, "coverage", "origin = 'JFK'") == "JFK: 5 days, none of them abnormal by delaywatch."
    assert measured(warehouse, "coverage").startswith("2 airports: 10 days, 1 abnormal")


def test_missing_and_doubled_months_are_named(warehouse: str) -> None:
    report = {
        "rows_per_month": {"9": 10, "10": 0},
        "duplicate_per_month": {"9": 10},
        "warnings": ["October is missing.", "So is November."],
    }
    row = {
        "year": 2018, "bronze_key": "01_bronze/2018.csv", "bytes": 1, "sha256": "0", "rows_read": 20, "rows_kept": 10,
        "rows_duplicate": 10, "rows_rejected": 0, "missing_days": 31, "missing_months": "10,11", "doubled_months": "",
        "report": json.dumps(report),
    }  # fmt: skip
    with closing(DBHandler(warehouse)) as handler:
        handler.upsert("bronze_quality", pd.DataFrame([row]), 2018)

    by_year = f"SELECT missing_months, doubled_months, warnings FROM {source(DATASETS['quality_by_year'])}"
    assert read_only(warehouse, by_year) == [("October, November", "none", "October is missing. So is November.")]
    by_month = f"SELECT month_start, rows_kept, rows_duplicate FROM {source(DATASETS['quality_by_month'])} ORDER BY 1"
    assert read_only(warehouse, by_month) == [(date(2018, 9, 1), 10, 10), (date(2018, 10, 1), 0, 0)]
