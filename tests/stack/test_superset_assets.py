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

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "superset" / "assets"
ASSETS = bundle.read(FOLDER)
DATASETS, CHARTS, DASHBOARDS = (ASSETS[kind] for kind in ("datasets", "charts", "dashboards"))
VIRTUAL = sorted(name for name, dataset in DATASETS.items() if "sql" in dataset)

# What Superset 6.1 takes in a file of each kind, and what bundle.py makes of ours before; it refuses anything else
# without saying what.
KEYS = {
    "databases": "uuid database_name extra"
    " expose_in_sqllab allow_run_async allow_ctas allow_cvas allow_dml allow_csv_upload",
    "datasets": "uuid database schema table_name description main_dttm_col sql columns metrics",
    "charts": "uuid slice_name description dataset viz_type params",
    "dashboards": "uuid dashboard_title slug description css rows filters colours",
}
COLUMN_KEYS = {"column_name", "type", "verbose_name", "description", "is_dttm"}
METRIC_KEYS = {"metric_name", "verbose_name", "description", "expression", "d3format"}
FILTER_KEYS = {"name", "description", "date_range", "column", "where", "value", "not_on"}

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


def fill(warehouse: str, days: list[Row], verdicts: list[Row]) -> None:
    with closing(DBHandler(warehouse)) as handler:
        handler.publish_view(detectors.NAMES, detectors.PUBLISHED)
        handler.upsert("airport_days", pd.DataFrame(days), 2018)
        handler.upsert("anomalies", pd.DataFrame(verdicts), 2018)


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


def test_every_file_of_the_folder_is_an_asset() -> None:
    assert sum(map(len, ASSETS.values())) == len([path for path in FOLDER.rglob("*") if path.is_file()])


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
    values |= {"alone", "with one other", "with several others"}

    for dashboard in DASHBOARDS.values():
        metrics = [metric for dataset in DATASETS.values() for metric in dataset["metrics"]]
        named = {metric[key] for metric in metrics for key in ("metric_name", "verbose_name")}
        named |= {f"{metric['verbose_name']}{end}" for metric in metrics for end in ("__yhat_lower", "__yhat_upper")}
        assert set(dashboard["colours"]) <= values | named


def test_flight_anomalies_opens_with_one_airport_and_the_demo_year() -> None:
    metadata = bundle.expand(ASSETS)["dashboards"]["flight_anomalies"]["metadata"]

    chosen = {one["name"]: one["defaultDataMask"] for one in metadata["native_filter_configuration"]}
    assert list(chosen) == ["Airport", "Date range", "Detector", "Severity"]
    assert chosen["Airport"]["filterState"]["value"] == ["LGA"]
    assert chosen["Date range"]["extraFormData"] == {"time_range": "2013-01-01 : 2014-01-01"}
    assert chosen["Detector"]["filterState"]["value"] == [detectors.PUBLISHED]
    assert chosen["Severity"]["extraFormData"] == {"filters": []}


def reached(dashboard: str, filter_name: str) -> set[str]:
    """The charts that a filter reaches, as Superset is told."""
    expanded = bundle.expand(ASSETS)["dashboards"][dashboard]
    numbers = dict(enumerate(bundle.charts_of(DASHBOARDS[dashboard]), 1))
    (one,) = (one for one in expanded["metadata"]["native_filter_configuration"] if one["name"] == filter_name)
    return set(numbers.values()) - {numbers[number] for number in one["scope"]["excluded"]}


def test_all_airports_are_compared_whatever_the_airport_is() -> None:
    assert {"worst_airport", "airports_ranked"}.isdisjoint(reached("flight_anomalies", "Airport"))


def test_detectors_are_compared_whatever_the_detector_is() -> None:
    assert {"detector_counts", "detector_agreement"}.isdisjoint(reached("flight_anomalies", "Detector"))


@pytest.mark.parametrize("dashboard", sorted(DASHBOARDS))
def test_severity_reaches_no_chart_that_tells_of_normal_days_too(dashboard: str) -> None:
    totals = {"flights", "cancelled_share", "effective_delay"}
    charts = {name for name in bundle.charts_of(DASHBOARDS[dashboard]) if totals & metrics_of(CHARTS[name])}

    assert charts
    assert charts.isdisjoint(reached(dashboard, "Severity"))


@pytest.mark.parametrize("dashboard", sorted(DASHBOARDS))
def test_quality_of_the_data_is_shown_of_all_years(dashboard: str) -> None:
    quality = {name for name, chart in CHARTS.items() if chart["dataset"].startswith("quality_")}

    for one in DASHBOARDS[dashboard]["filters"]:
        assert quality.isdisjoint(reached(dashboard, one["name"]))


def test_no_password_is_in_the_tree() -> None:
    for path in (ROOT / "superset").rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            found = re.findall(r"://[^\s:/@]+:([^\s@]+)@", path.read_text(encoding="utf-8"))
            assert set(found) <= {"password"}, path  # as in the sentence that says how an address is written
    assert "sqlalchemy_uri" not in ASSETS["databases"]["warehouse"]


def test_the_zip_is_what_the_assets_api_takes() -> None:
    packed = zipfile.ZipFile(io.BytesIO(bundle.pack(FOLDER, "postgresql+psycopg2://reader@db/warehouse")))

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
        ("dashboards/network.yaml", "airports: 2", "airports: 3", "the charts of row 1 are not 12 columns wide"),
        ("dashboards/network.yaml", "days.detector", "days.robot", "filter Detector, names the column robot"),
        ("dashboards/network.yaml", "not_on: [airports", "not_on: [planes", "filter Severity, names planes"),
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
        bundle.pack(tmp_path, "postgresql://reader@db/warehouse")


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


def test_no_metric_is_an_average_of_averages() -> None:
    """A day's mean or share goes into no sum but times its flights, and into no average at all."""
    for name in DATASETS:
        for metric, expression in expressions(name).items():
            assert not re.search(r"\b(avg|stddev|percentile)", expression, re.IGNORECASE), metric
            for summed in re.findall(r"SUM\(([^()]*)\)", expression):
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
        ("delaywatch", "with one other"),
        ("three_sigma", "with one other"),
        ("delaywatch", "alone"),
    ]


def test_minutes_by_cause_are_empty_where_the_file_names_none(warehouse: str) -> None:
    days = [day("LGA", "2018-01-01", 300, weather_min=900), day("LGA", "2018-01-02", 300)]
    fill(warehouse, days, [verdict("delaywatch", "LGA", str(one["fl_date"])) for one in days])

    causes = read_only(
        warehouse, f"SELECT weather_min, nas_min FROM {source(DATASETS['judged_days'])} ORDER BY fl_date"
    )

    assert causes == [(900, 0), (None, None)]


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
