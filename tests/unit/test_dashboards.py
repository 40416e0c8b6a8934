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

from tests.superset_assets import ASSETS, CHARTS, DASHBOARDS, DATASETS, FOLDER
from utils import detectors

EXPANDED = bundle.expand(ASSETS)["dashboards"]
URL = "postgresql+psycopg2://reader@db/warehouse"

QUALITY = {"quality_by_month", "quality_by_year"}
COMPARISONS = {"detector_counts", "detector_agreement", "precision_by_feedback"}
NOTICES = {"year_notice", "judged_notice"}
OF_DETECTORS = ("flight_anomalies", "network")  # dashboards with the filters Date range, Detector and Severity
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


def reached(dashboard: str, filter_name: str) -> set[str]:
    """Return the charts to which Superset applies the filter."""
    filters = EXPANDED[dashboard]["metadata"]["native_filter_configuration"]
    (excluded,) = (each["scope"]["excluded"] for each in filters if each["name"] == filter_name)
    charts = enumerate(bundle.charts_of(DASHBOARDS[dashboard]), 1)
    return {chart for number, chart in charts if number not in excluded}


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


def test_means_and_shares_are_weighted_and_scores_are_not_added_up() -> None:
    for dataset in DATASETS.values():
        for metric in dataset["metrics"]:
            expression = metric["expression"]
            assert not re.search(r"\b(avg|stddev|percentile)", expression, re.IGNORECASE), metric["metric_name"]
            for summed in re.findall(r"SUM\(([^()]*)\)", expression, re.IGNORECASE):
                assert not re.search(r"\b(score|once_in_days)\b", summed), metric["metric_name"]
                if re.search(r"mean|share|std|observed|expected|lower|upper", summed):
                    assert re.fullmatch(r"\w+ \* (departed|scheduled|weight)", summed), metric["metric_name"]


@pytest.mark.parametrize("dashboard", OF_DETECTORS)
def test_filters_reach_the_charts_that_they_are_about(dashboard: str) -> None:
    charts = set(bundle.charts_of(DASHBOARDS[dashboard]))
    with_normal_days = {name for name in charts if TOTALS & metrics_of(CHARTS[name])}

    assert charts >= QUALITY | COMPARISONS | NOTICES
    assert reached(dashboard, "Date range") == charts - QUALITY
    assert reached(dashboard, "Detector").isdisjoint(COMPARISONS | QUALITY)
    judged = {name for name in charts if CHARTS[name]["dataset"] == "judged_days"}
    assert reached(dashboard, "Detector") >= judged
    assert reached(dashboard, "Severity").isdisjoint(with_normal_days | NOTICES | QUALITY)
    assert reached(dashboard, "Severity") >= COMPARISONS


def test_the_airport_and_an_abnormal_day_narrow_their_charts_only() -> None:
    charts = set(bundle.charts_of(DASHBOARDS["flight_anomalies"]))
    of_all_airports = {"airports_ranked", "year_notice"}
    of_reasons = {"factors_by_cause", "factors_by_carrier", "factors_by_destination", "observed_and_usual"}

    assert reached("flight_anomalies", "Airport") == charts - of_all_airports - QUALITY
    assert reached("flight_anomalies", "Abnormal day") == of_reasons | {"airports_events"}


def test_the_airport_reaches_all_charts_of_years_except_those_of_the_network() -> None:
    charts = set(bundle.charts_of(DASHBOARDS["years"]))

    assert reached("years", "Airport") == charts - {"year_notice", "record_days"}


@pytest.mark.parametrize("dashboard", sorted(DASHBOARDS))
def test_the_notice_about_the_years_is_above_the_tabs(dashboard: str) -> None:
    assert [row for row in DASHBOARDS[dashboard]["top"] if "year_notice" in row.get("charts", {})]


@pytest.mark.parametrize("dashboard", sorted(DASHBOARDS))
def test_a_dashboard_begins_with_links_to_the_pages_and_to_the_other_dashboards(dashboard: str) -> None:
    links = re.findall(r"\]\((/[^)]*)\)", DASHBOARDS[dashboard]["top"][0]["text"])

    others = {f"/superset/dashboard/{each['slug']}/" for name, each in DASHBOARDS.items() if name != dashboard}
    assert set(links) == {"/flights/", *others}


def test_the_zip_has_every_asset_with_its_own_uuid_and_the_address_of_the_warehouse() -> None:
    packed = zipfile.ZipFile(io.BytesIO(bundle.pack(FOLDER, URL, detectors.NAMES)))

    files = {name.removeprefix("bundle/"): yaml.safe_load(packed.read(name)) for name in packed.namelist()}
    assert files.pop("metadata.yaml")["type"] == "assets"
    assert files["databases/warehouse.yaml"]["sqlalchemy_uri"] == URL
    assert Counter(name.split("/")[0] for name in files) == {kind: len(assets) for kind, assets in ASSETS.items()}
    assert all(file["is_managed_externally"] for file in files.values())
    assert len({uuid.UUID(file["uuid"]) for file in files.values()}) == len(files)


@pytest.mark.parametrize(
    ("path", "old", "new", "named"),
    [
        ("charts/event_list.yaml", "dataset: ", "dataset: no_", ("charts/event_list.yaml", "datasets/no_events.yaml")),
        ("charts/event_list.yaml", "slice_name: ", "name: ", ("charts/event_list.yaml", "slice_name")),
        ("dashboards/network.yaml", "key_figures: 12", "key_figures: 13", ("tab What happened", "row 1")),
        ("dashboards/flight_anomalies.yaml", "within: [Airport", "within: [City", ("filter Abnormal day", "City")),
        ("dashboards/network.yaml", "choices.detector", "choices.robot", ("filter Detector", "robot")),
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
