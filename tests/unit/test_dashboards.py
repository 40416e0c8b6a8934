"""The files of superset/assets/ agree with each other, and bundle.py converts them to what Superset imports.

tests/integration/superset/ runs their SQL on a real warehouse, tests/e2e shows them in Superset.
"""

from __future__ import annotations

import io
import re
import shutil
import uuid
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from superset import bundle

from utils import detectors, schemas

SUPERSET = Path(__file__).resolve().parents[2] / "superset"
FOLDER = SUPERSET / "assets"
ASSETS = bundle.read(FOLDER, detectors.NAMES)
DATASETS, CHARTS, DASHBOARDS = (ASSETS[kind] for kind in ("datasets", "charts", "dashboards"))
EXPANDED = bundle.expand(ASSETS)["dashboards"]
URL = "postgresql+psycopg2://reader@db/warehouse"

# The keys that Superset 6.1 accepts or bundle.py replaces. Superset rejects other keys without naming them.
KEYS = {
    "databases": "uuid database_name extra"
    " expose_in_sqllab allow_run_async allow_ctas allow_cvas allow_dml allow_csv_upload",
    "datasets": "uuid database schema table_name description main_dttm_col sql columns metrics",
    "charts": "uuid slice_name description dataset viz_type params",
    "dashboards": "uuid dashboard_title slug description css top tabs filters colours",
}
COLUMN_KEYS = {"column_name", "type", "verbose_name", "description", "is_dttm"}
METRIC_KEYS = frozenset({"metric_name", "verbose_name", "description", "expression", "d3format"})
FILTER_KEYS = {"name", "description", "date_range", "column", "where", "within", "value", "not_on"}
ROW_KEYS = {"header", "height", "charts", "text"}

QUALITY = {"quality_by_month", "quality_by_year"}
COMPARISONS = {"detector_counts", "detector_agreement", "precision_by_feedback"}
NOTICES = {"year_notice", "judged_notice"}
TOTALS = {"flights", "cancelled_share", "effective_delay"}  # metrics that include normal days


def texts(value: Any) -> Iterator[str]:
    """Yield the strings in nested lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def metrics_of(chart: bundle.Asset) -> set[str]:
    return set(texts([chart["params"].get(key, []) for key in ("metric", "metrics", "timeseries_limit_metric")]))


def formats_of(chart: bundle.Asset) -> set[str]:
    formats = {metric["metric_name"]: metric["d3format"] for metric in DATASETS[chart["dataset"]]["metrics"]}
    return {formats[metric] for metric in metrics_of(chart)}


def filters_of(dashboard: str) -> dict[str, Any]:
    return {each["name"]: each for each in EXPANDED[dashboard]["metadata"]["native_filter_configuration"]}


def reached(dashboard: str, filter_name: str) -> set[str]:
    """Return the charts to which Superset applies the filter."""
    excluded = filters_of(dashboard)[filter_name]["scope"]["excluded"]
    charts = enumerate(bundle.charts_of(DASHBOARDS[dashboard]), 1)
    return {chart for number, chart in charts if number not in excluded}


def test_every_yaml_file_is_an_asset_with_keys_that_superset_accepts() -> None:
    for kind, keys in KEYS.items():
        assert set(ASSETS[kind]) == {path.stem for path in (FOLDER / kind).iterdir()}
        for name, asset in ASSETS[kind].items():
            assert set(asset) <= set(keys.split()), name
    for name, dataset in DATASETS.items():
        assert set().union(*dataset["columns"]) <= COLUMN_KEYS, name
        assert {frozenset(metric) for metric in dataset["metrics"]} == {METRIC_KEYS}, name
    for name, dashboard in DASHBOARDS.items():
        rows = [*dashboard["top"], *(row for tab in dashboard["tabs"] for row in tab["rows"])]
        assert set().union(*dashboard["filters"]) <= FILTER_KEYS, name
        assert set().union(*rows) <= ROW_KEYS, name


def test_uuids_titles_and_labels_are_unique() -> None:
    """Superset finds an asset by its UUID, and the colour of a series by its label."""
    uuids = [str(uuid.UUID(asset["uuid"])) for assets in ASSETS.values() for asset in assets.values()]
    titles = [chart["slice_name"] for chart in CHARTS.values()]

    assert max(Counter(uuids).values()) == 1
    assert max(Counter(titles).values()) == 1
    for name, dataset in DATASETS.items():
        labels = Counter(item["verbose_name"] for item in dataset["columns"] + dataset["metrics"])
        assert max(labels.values()) == 1, name


def test_every_chart_is_on_a_dashboard_and_on_each_at_most_once() -> None:
    placed = [bundle.charts_of(dashboard) for dashboard in DASHBOARDS.values()]

    assert set().union(*placed) == set(CHARTS)
    assert all(len(charts) == len(set(charts)) for charts in placed)


@pytest.mark.parametrize("name", sorted(CHARTS))
def test_a_chart_uses_columns_and_metrics_of_its_dataset(name: str) -> None:
    params, dataset = CHARTS[name]["params"], DATASETS[CHARTS[name]["dataset"]]
    columns, metrics = bundle.columns_of(dataset), {metric["metric_name"] for metric in dataset["metrics"]}
    ordered = {yaml.safe_load(order)[0] for order in params.get("order_by_cols", [])}
    formatted = {rule["column"] for rule in params.get("conditional_formatting", [])}

    assert set(texts([params.get(key, []) for key in ("x_axis", "groupby", "all_columns")])) <= columns
    assert metrics_of(CHARTS[name]) <= metrics
    assert ordered | formatted | set(params.get("column_config", {})) <= columns | metrics
    assert params.get("x_axis_sort", "sum") in columns | metrics | {"sum"}


def test_every_colour_belongs_to_a_series() -> None:
    """Superset gives a series with a misspelt name some other colour, without a message."""
    values = {"normal", "insufficient_data", "no_flights", "acknowledged", *schemas.DIRECTIONS, *schemas.EVENT_KINDS}
    agreement = set(re.findall(r"'(by \d .*)'", DATASETS["detector_flags"]["sql"]))
    metrics = [metric for dataset in DATASETS.values() for metric in dataset["metrics"]]
    names = {metric[key] for metric in metrics for key in ("metric_name", "verbose_name")}
    bounds = {f"{metric['verbose_name']}{end}" for metric in metrics for end in ("__yhat_lower", "__yhat_upper")}

    for dashboard in DASHBOARDS.values():
        assert set(dashboard["colours"]) <= values | agreement | names | bounds


@pytest.mark.parametrize(
    "name", sorted(name for name, chart in CHARTS.items() if chart["viz_type"].startswith("echarts_timeseries"))
)
def test_a_chart_with_axes_has_titles_and_an_axis_of_counts_has_whole_steps(name: str) -> None:
    """With the format alone, an axis up to 2 reads 0, 1, 1, 2, 2."""
    params, title = CHARTS[name]["params"], CHARTS[name]["slice_name"]
    axis = "xAxis" if params.get("orientation") == "horizontal" else "yAxis"

    assert params["y_axis_title"]
    assert "row_limit" not in params or f"the {params['row_limit']} airports with the most" in title
    if formats_of(CHARTS[name]) == {",d"}:
        assert params["y_axis_format"] == ",d"
        assert yaml.safe_load(params["echart_options"])[axis] == {"minInterval": 1}


def test_means_and_shares_are_weighted_and_scores_are_not_added_up() -> None:
    for dataset in DATASETS.values():
        for metric in dataset["metrics"]:
            expression = metric["expression"]
            assert not re.search(r"\b(avg|stddev|percentile)", expression, re.IGNORECASE), metric["metric_name"]
            for summed in re.findall(r"SUM\(([^()]*)\)", expression, re.IGNORECASE):
                assert not re.search(r"\b(score|once_in_days)\b", summed), metric["metric_name"]
                if re.search(r"mean|share|std|observed|expected|lower|upper", summed):
                    assert re.fullmatch(r"\w+ \* (departed|scheduled|weight)", summed), metric["metric_name"]


# --- filters ----------------------------------------------------------------------------------------------------------


def test_flight_anomalies_opens_with_one_airport_and_the_demo_year() -> None:
    chosen = {name: each["defaultDataMask"] for name, each in filters_of("flight_anomalies").items()}

    assert list(chosen) == ["Airport", "Date range", "Abnormal day", "Detector", "Severity"]
    assert chosen["Airport"]["filterState"]["value"] == ["LGA"]
    assert chosen["Date range"]["extraFormData"] == {"time_range": "2013-01-01 : 2014-01-01"}
    assert chosen["Detector"]["filterState"]["value"] == [detectors.PUBLISHED]
    assert chosen["Severity"]["extraFormData"] == {"filters": []}
    assert chosen["Abnormal day"]["extraFormData"] == {"filters": []}


@pytest.mark.parametrize("dashboard", sorted(DASHBOARDS))
def test_filters_reach_the_charts_that_they_are_about(dashboard: str) -> None:
    charts = set(bundle.charts_of(DASHBOARDS[dashboard]))
    with_normal_days = {name for name in charts if TOTALS & metrics_of(CHARTS[name])}

    assert charts >= QUALITY | COMPARISONS | NOTICES
    assert reached(dashboard, "Date range") == charts - QUALITY
    assert reached(dashboard, "Detector").isdisjoint(COMPARISONS | QUALITY)
    assert reached(dashboard, "Detector") >= with_normal_days | {"judged_notice"}
    assert reached(dashboard, "Severity").isdisjoint(with_normal_days | NOTICES | QUALITY)
    assert reached(dashboard, "Severity") >= {"abnormal_days", *COMPARISONS}


def test_the_airport_and_an_abnormal_day_narrow_their_charts_only() -> None:
    charts = set(bundle.charts_of(DASHBOARDS["flight_anomalies"]))
    of_all_airports = {"worst_airport", "airports_ranked", "year_notice"}
    of_reasons = {"factors_by_cause", "factors_by_carrier", "factors_by_destination", "observed_and_usual"}

    assert reached("flight_anomalies", "Airport") == charts - of_all_airports - QUALITY
    assert reached("flight_anomalies", "Abnormal day") == of_reasons | {"airports_events"}


def test_the_choices_of_abnormal_days_depend_on_airport_dates_and_severity() -> None:
    filters = filters_of("flight_anomalies")

    parents = {filters[name]["id"] for name in ("Airport", "Date range", "Severity")}
    assert set(filters["Abnormal day"]["cascadeParentIds"]) == parents
    assert filters["Abnormal day"]["granularity_sqla"] == "fl_date"  # without it Superset ignores the dates


# --- the bundle -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dashboard", sorted(DASHBOARDS))
def test_every_chart_is_in_a_row_of_its_tab_or_above_the_tabs(dashboard: str) -> None:
    nodes = EXPANDED[dashboard]["position"]

    *above, tabs_id = nodes["GRID_ID"]["children"]
    tabs = [nodes[tab] for tab in nodes[tabs_id]["children"]]
    rows = [nodes[row] for row in [*above, *(row for tab in tabs for row in tab["children"])]]
    contents = [content for row in rows for content in row["children"]]
    charts = [content.removeprefix("CHART-") for content in contents if content.startswith("CHART-")]
    assert [tab["meta"]["text"] for tab in tabs] == [tab["tab"] for tab in DASHBOARDS[dashboard]["tabs"]]
    assert charts == bundle.charts_of(DASHBOARDS[dashboard])
    assert all(nodes[content]["parents"] == [*row["parents"], row["id"]] for row in rows for content in row["children"])


def test_the_zip_has_every_asset_and_the_address_of_the_warehouse() -> None:
    packed = zipfile.ZipFile(io.BytesIO(bundle.pack(FOLDER, URL, detectors.NAMES)))

    files = {name.removeprefix("bundle/"): yaml.safe_load(packed.read(name)) for name in packed.namelist()}
    assert files.pop("metadata.yaml")["type"] == "assets"
    assert files["databases/warehouse.yaml"]["sqlalchemy_uri"] == URL
    assert Counter(name.split("/")[0] for name in files) == {kind: len(assets) for kind, assets in ASSETS.items()}
    assert all(file["is_managed_externally"] for file in files.values())


def test_the_files_of_superset_contain_no_password() -> None:
    for path in SUPERSET.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            passwords = re.findall(r"://[^\s:/@]+:([^\s@]+)@", path.read_text(encoding="utf-8"))
            assert set(passwords) <= {"password"}, path  # the example in a message of provision.py


@pytest.mark.parametrize(
    ("path", "old", "new", "named"),
    [
        ("charts/flights.yaml", "dataset: ", "dataset: no_", ("charts/flights.yaml", "datasets/no_judged_days.yaml")),
        ("charts/flights.yaml", "slice_name: ", "name: ", ("charts/flights.yaml", "slice_name")),
        ("charts/flights.yaml", "params:", "params: [", ("charts/flights.yaml", "YAML")),
        ("dashboards/network.yaml", "airports: 2", "airport: 2", ("dashboards/network.yaml", "charts/airport.yaml")),
        ("dashboards/network.yaml", "airports: 2", "airports: 3", ("tab What happened", "row 1")),
        ("dashboards/network.yaml", "feedback_list: 8", "feedback_list: 12", ("tab How sure", "row 5")),
        ("dashboards/network.yaml", "year_notice: 8", "year_notice: 9", ("above the tabs", "row 1")),
        ("dashboards/flight_anomalies.yaml", "within: [Airport", "within: [City", ("filter Abnormal day", "City")),
        ("dashboards/network.yaml", "days.detector", "days.robot", ("filter Detector", "robot")),
        ("dashboards/network.yaml", "- judged_notice", "- planes", ("filter Severity", "planes")),
        ("dashboards/network.yaml", "- name: Detector", "- title: Detector", ("network.yaml", "'name'")),
    ],
)
def test_a_mistake_in_a_file_is_an_error_that_names_it(
    tmp_path: Path, path: str, old: str, new: str, named: tuple[str, str]
) -> None:
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    text = (tmp_path / path).read_text()
    assert old in text
    (tmp_path / path).write_text(text.replace(old, new, 1))

    with pytest.raises(bundle.BundleError) as caught:
        bundle.pack(tmp_path, URL, detectors.NAMES)

    assert all(name in str(caught.value) for name in named)
