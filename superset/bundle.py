"""Convert the files of `assets/` to the zip that Superset's assets API imports. Pure.

The files use Superset's own keys, with five simplifications that this module expands: they refer to each other by file
name instead of UUID, a dashboard lists its rows and tabs instead of a tree of positions, a filter is a few lines, all
dashboards share the CSS in `assets/dashboards.css`, and a column with `{detector}` in its name stands for one column
per detector.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

# The kinds of assets, each after the kinds that it refers to, and the required keys of their files.
KINDS = {
    "databases": ("uuid", "database_name"),
    "datasets": ("uuid", "database", "table_name", "columns", "metrics"),
    "charts": ("uuid", "slice_name", "dataset", "viz_type", "params"),
    "dashboards": ("uuid", "dashboard_title", "slug", "top", "tabs", "filters", "colours"),
}
SHARED_CSS = "dashboards.css"
FOLDERS = {"datasets": "datasets/warehouse"}  # folders where Superset expects a kind, if they differ from its name
# Our assets cannot be edited in Superset, only saved under another name: the next start would undo the change.
MANAGED = {"version": "1.0.0", "is_managed_externally": True}
WIDTH = 12  # columns of Superset's grid
# Query the warehouse for the detectors that have a column in the view, in its order.
DETECTORS = """
    SELECT coalesce(array_agg(substr(attname, length('is_anomaly_') + 1) ORDER BY attnum), '{}')
    FROM pg_attribute
    WHERE attrelid = to_regclass('flights.agg_dep_delay_by_date') AND NOT attisdropped
          AND starts_with(CAST(attname AS text), 'is_anomaly_')
"""

Asset = dict[str, Any]
Assets = Mapping[str, Mapping[str, Asset]]


class BundleError(Exception):
    """An asset file is invalid; the message has the file and the remedy."""


def read(folder: Path, detectors: Sequence[str] = ()) -> dict[str, dict[str, Asset]]:
    """Return the assets by kind and file name without suffix; each dashboard's CSS begins with the shared CSS.

    detectors: the detectors in the warehouse's view (query DETECTORS); a dataset gets a column for each. Raises
    BundleError if a file is missing, is not YAML or lacks a key.
    """
    assets_by_kind: dict[str, dict[str, Asset]] = {kind: {} for kind in KINDS}
    for kind, keys in KINDS.items():
        for path in sorted((folder / kind).glob("*.yaml")):
            try:
                asset = yaml.safe_load(path.read_text(encoding="utf-8"))
            except yaml.YAMLError as error:
                raise BundleError(f"{path} is not valid YAML ({' '.join(str(error).split())}); correct it.") from None
            missing = [key for key in keys if key not in asset] if isinstance(asset, dict) else keys
            if missing:
                raise BundleError(f"{path} lacks {', '.join(missing)}; add it.")
            assets_by_kind[kind][path.stem] = asset
    if empty := [kind for kind, assets in assets_by_kind.items() if not assets]:
        raise BundleError(f"{folder} has no {', '.join(empty)}; restore the files of this release.")
    try:
        shared_css = (folder / SHARED_CSS).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BundleError(f"{folder} has no {SHARED_CSS}; restore the files of this release.") from None
    for dataset in assets_by_kind["datasets"].values():
        dataset["columns"] = [column for template in dataset["columns"] for column in _columns(template, detectors)]
    for dashboard in assets_by_kind["dashboards"].values():
        dashboard["css"] = shared_css + dashboard.get("css", "")
    return assets_by_kind


def expand(assets: Assets) -> dict[str, dict[str, Asset]]:
    """Return the assets in Superset's format, without the database's address.

    Raises BundleError if an asset lacks a key or refers to an asset that does not exist, or a dashboard's row is not
    full.
    """
    expanders = {"databases": _database, "datasets": _dataset, "charts": _chart, "dashboards": _dashboard}
    expanded: dict[str, dict[str, Asset]] = {kind: {} for kind in KINDS}
    for kind, expander in expanders.items():
        for name in assets[kind]:
            try:
                expanded[kind][name] = {**expander(assets, name), **MANAGED}
            except KeyError as error:
                raise BundleError(f"{kind}/{name}.yaml lacks the key {error}; add it.") from None
    return expanded


def pack(folder: Path, warehouse_url: str, detectors: Sequence[str]) -> bytes:
    """Return the zip for `POST /api/v1/assets/import/`; every database in it has the address `warehouse_url`."""
    expanded = expand(read(folder, detectors))
    for database in expanded["databases"].values():
        database["sqlalchemy_uri"] = warehouse_url
    files = {"metadata": {"version": "1.0.0", "type": "assets", "timestamp": "2026-01-01T00:00:00+00:00"}} | {
        f"{FOLDERS.get(kind, kind)}/{name}": asset for kind in KINDS for name, asset in expanded[kind].items()
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, asset in files.items():
            archive.writestr(f"bundle/{name}.yaml", yaml.safe_dump(asset, sort_keys=False, allow_unicode=True))
    return packed.getvalue()


def charts_of(dashboard: Asset) -> list[str]:
    """Return the names of the charts on a dashboard: above the tabs, then tab by tab and row by row."""
    rows = [*dashboard["top"], *(row for tab in dashboard["tabs"] for row in tab["rows"])]
    return [chart for row in rows for chart in row.get("charts", {})]


def columns_of(dataset: Asset) -> set[str]:
    """Return the names of a dataset's columns."""
    return {column["column_name"] for column in dataset["columns"]}


def _columns(template: Asset, detectors: Sequence[str]) -> list[Asset]:
    """Return the column, or one per detector if its name contains `{detector}`."""
    if "{detector}" not in template.get("column_name", ""):
        return [template]
    return [
        {key: text.replace("{detector}", name) if isinstance(text, str) else text for key, text in template.items()}
        for name in detectors
    ]


def _named(assets: Assets, kind: str, name: str, by: str) -> Asset:
    if name not in assets[kind]:
        raise BundleError(f"{by} refers to {kind}/{name}.yaml, which does not exist; correct the name.")
    return assets[kind][name]


def _database(assets: Assets, name: str) -> Asset:
    return dict(assets["databases"][name])


def _dataset(assets: Assets, name: str) -> Asset:
    dataset = dict(assets["datasets"][name])
    database = _named(assets, "databases", dataset.pop("database"), f"datasets/{name}.yaml")
    dated = dataset.get("main_dttm_col")
    columns = [{"is_dttm": column["column_name"] == dated, **column} for column in dataset["columns"]]
    return {**dataset, "columns": columns, "database_uuid": database["uuid"]}


def _chart(assets: Assets, name: str) -> Asset:
    chart = dict(assets["charts"][name])
    dataset = _named(assets, "datasets", chart.pop("dataset"), f"charts/{name}.yaml")
    params = {"viz_type": chart["viz_type"], **chart["params"]}
    if "main_dttm_col" in dataset:  # the column that a dashboard's date range filters
        always = {
            "clause": "WHERE",
            "expressionType": "SIMPLE",
            "subject": dataset["main_dttm_col"],
            "operator": "TEMPORAL_RANGE",
            "comparator": "No filter",
        }
        params["adhoc_filters"] = [always, *params.get("adhoc_filters", [])]
    return {**chart, "params": params, "dataset_uuid": dataset["uuid"]}


def _dashboard(assets: Assets, name: str) -> Asset:
    dashboard, by = dict(assets["dashboards"][name]), f"dashboards/{name}.yaml"
    charts = {chart: _named(assets, "charts", chart, by) for chart in charts_of(dashboard)}
    top, tabs = dashboard.pop("top"), dashboard.pop("tabs")
    filters, colours = dashboard.pop("filters"), dashboard.pop("colours")
    return {
        **dashboard,
        "published": True,
        "position": dict(_position(dashboard["dashboard_title"], top, tabs, charts, by)),
        "metadata": {
            "native_filter_configuration": [_filter(assets, spec, filters, list(charts), by) for spec in filters],
            "filter_bar_orientation": "HORIZONTAL",
            "cross_filters_enabled": False,  # a click on another airport's row would contradict the airport filter
            "label_colors": colours,
            # Superset adds these keys when they are missing, for which a reader has no permission.
            "map_label_colors": {},
            "shared_label_colors": [],
            "color_scheme_domain": [],
        },
    }


def _position(
    title: str, top: list[Asset], tabs: list[Asset], charts: Mapping[str, Asset], by: str
) -> Iterator[tuple[str, Any]]:
    """Yield Superset's tree of positions as a flat list: rows above the tabs, the tabs, and the rows of each tab."""
    names = [f"TAB-{_slug(tab['tab'])}" for tab in tabs]
    on_grid = [_row_name("top", number, row) for number, row in enumerate(top, 1)]
    yield "DASHBOARD_VERSION_KEY", "v2"
    yield "ROOT_ID", {"id": "ROOT_ID", "type": "ROOT", "children": ["GRID_ID"]}
    yield "GRID_ID", {"id": "GRID_ID", "type": "GRID", "children": [*on_grid, "TABS-all"], "parents": ["ROOT_ID"]}
    yield "HEADER_ID", {"id": "HEADER_ID", "type": "HEADER", "meta": {"text": title}}
    yield from _rows("top", top, ["ROOT_ID", "GRID_ID"], charts, f"{by}, above the tabs")
    above = ["ROOT_ID", "GRID_ID", "TABS-all"]
    yield _node("TABS-all", names, above[:-1], {})
    for tab, name in zip(tabs, names, strict=True):
        slug = _slug(tab["tab"])
        in_tab = [_row_name(slug, number, row) for number, row in enumerate(tab["rows"], 1)]
        yield _node(name, in_tab, above, {"text": tab["tab"]})
        yield from _rows(slug, tab["rows"], [*above, name], charts, f"{by}, tab {tab['tab']}")


def _row_name(slug: str, number: int, row: Asset) -> str:
    return f"{'HEADER' if 'header' in row else 'ROW'}-{slug}-{number}"


def _rows(
    slug: str, rows: list[Asset], above: list[str], charts: Mapping[str, Asset], by: str
) -> Iterator[tuple[str, Any]]:
    """Yield the nodes of rows and of their contents. Raises BundleError if a row is not WIDTH columns wide."""
    numbers = {chart: number for number, chart in enumerate(charts, 1)}
    look = {"background": "BACKGROUND_TRANSPARENT"}
    for number, row in enumerate(rows, 1):
        name = _row_name(slug, number, row)
        if "header" in row:
            yield _node(name, [], above, {"text": row["header"], "headerSize": "MEDIUM_HEADER", **look})
            continue
        inside = _row(row, f"{slug}-{number}", charts, numbers)
        widths = [content["width"] for content in inside.values()]
        if sum(widths) != WIDTH or min(widths) < 1:
            raise BundleError(
                f"{by}: the widths {widths} in row {number} must be positive and add up to {WIDTH}; correct them."
            )
        yield _node(name, list(inside), above, look)
        for place, content in inside.items():
            yield _node(place, [], [*above, name], {**content, "height": row["height"]})


def _row(row: Asset, place: str, charts: Mapping[str, Asset], numbers: Mapping[str, int]) -> dict[str, Asset]:
    """Return the contents of a row from left to right, by id: charts, and a text after them."""
    inside: dict[str, Asset] = {}
    for chart, width in row.get("charts", {}).items():
        known = {"uuid": charts[chart]["uuid"], "chartId": numbers[chart], "sliceName": charts[chart]["slice_name"]}
        inside[f"CHART-{chart}"] = {**known, "width": width}
    if "text" in row:
        inside[f"MARKDOWN-{place}"] = {"code": row["text"], "width": WIDTH - sum(row.get("charts", {}).values())}
    return inside


def _node(node: str, children: list[str], parents: list[str], meta: Asset) -> tuple[str, Asset]:
    """Return a node of the tree; its kind is the first word of its id."""
    return node, {"id": node, "type": node.partition("-")[0], "children": children, "parents": parents, "meta": meta}


def _slug(name: str) -> str:
    return name.lower().replace(" ", "-")


def _filter(assets: Assets, spec: Asset, filters: list[Asset], charts: list[str], by: str) -> Asset:
    """Return a native filter. It applies to the charts whose dataset has its column, except those in `not_on`."""
    by = f"{by}, filter {spec['name']}"
    for chart in spec.get("not_on", []):
        if chart not in charts:
            raise BundleError(f"{by} refers to the chart {chart}, which is not on the dashboard; correct the name.")
    for other in spec.get("within", []):
        if other not in [each["name"] for each in filters]:
            raise BundleError(f"{by} refers to the filter {other}, which is not on the dashboard; correct the name.")
    is_date = "date_range" in spec

    def is_reached(chart: str) -> bool:
        dataset = assets["datasets"][assets["charts"][chart]["dataset"]]
        has_column = "main_dttm_col" in dataset if is_date else spec["column"].split(".")[1] in columns_of(dataset)
        return has_column and chart not in spec.get("not_on", [])

    return {
        "id": _filter_id(spec["name"]),
        "type": "NATIVE_FILTER",
        "name": spec["name"],
        "description": spec.get("description", ""),
        "cascadeParentIds": [_filter_id(other) for other in spec.get("within", [])],
        "scope": {
            "rootPath": ["ROOT_ID"],
            "excluded": [number for number, chart in enumerate(charts, 1) if not is_reached(chart)],
        },
        **(_date_range(spec) if is_date else _choice(assets, spec, by)),
    }


def _filter_id(name: str) -> str:
    return f"NATIVE_FILTER-{_slug(name)}"


def _date_range(spec: Asset) -> Asset:
    """Return the settings of a date filter, which always has a range."""
    chosen = spec["date_range"]
    return {
        "filterType": "filter_time",
        "targets": [{}],
        "controlValues": {"enableEmptyFilter": True},
        "defaultDataMask": {"extraFormData": {"time_range": chosen}, "filterState": {"value": chosen}},
    }


def _choice(assets: Assets, spec: Asset, by: str) -> Asset:
    """Return the settings of a filter on a dataset's column.

    `value` is a single value, which makes the choice single and required, or a list of any length. `within` has the
    names of filters that narrow the choices.
    """
    table, column = spec["column"].split(".")
    dataset = _named(assets, "datasets", table, by)
    if column not in columns_of(dataset):
        raise BundleError(f"{by} refers to the column {column}, which datasets/{table}.yaml lacks; correct the name.")
    is_several = isinstance(spec["value"], list)
    values = spec["value"] if is_several else [spec["value"]]
    dated = {"granularity_sqla": dataset["main_dttm_col"]} if spec.get("within") and "main_dttm_col" in dataset else {}
    return {
        "filterType": "filter_select",
        **dated,
        "targets": [{"datasetUuid": dataset["uuid"], "column": {"name": column}}],
        "adhoc_filters": [],
        "controlValues": {"multiSelect": is_several, "enableEmptyFilter": not is_several, "sortAscending": True},
        "defaultDataMask": {
            "extraFormData": {"filters": [{"col": column, "op": "IN", "val": values}] if values else []},
            "filterState": {"value": values or None, "label": ", ".join(values)},
        },
    }
