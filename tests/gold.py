"""Rows of gold for tests: a test names the columns that it is about, the others are empty or 0."""

from __future__ import annotations

from datetime import date
from typing import Any

import pyarrow as pa

from utils import schemas

Row = dict[str, Any]


def day(origin: str = "JFK", fl_date: str = "2018-01-01", **columns: Any) -> Row:
    row: Row = {field.name: None if field.nullable else 0 for field in schemas.AIRPORT_DAYS}
    return row | {"origin": origin, "fl_date": date.fromisoformat(fl_date)} | columns


def verdict(detector: str, origin: str = "JFK", fl_date: str = "2018-01-01", **columns: Any) -> Row:
    row: Row = {field.name: None for field in schemas.WAREHOUSE_ANOMALIES} | {
        "origin": origin,
        "fl_date": date.fromisoformat(fl_date),
        "detector": detector,
        "metric": "mean_dep_delay_min",
        "is_anomaly": False,
        "severity": 0,
        "status": "ok",
        "params_hash": "abc",
    }
    return row | columns


LATE: Row = {"is_anomaly": True, "direction": "late", "severity": 2, "score": 4.5}


def days(*rows: Row) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=schemas.AIRPORT_DAYS)


def verdicts(*rows: Row) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=schemas.WAREHOUSE_ANOMALIES)


def reason(origin: str = "JFK", fl_date: str = "2018-01-01", **columns: Any) -> Row:
    """Why a day was late, strongly."""
    row: Row = {field.name: None if field.nullable else 0 for field in schemas.ANOMALY_REASONS}
    given = {"origin": origin, "fl_date": date.fromisoformat(fl_date), "direction": "late", "severity": 2}
    return row | given | {"sentence": "It was late."} | columns


def factor(dimension: str, name: str, origin: str = "JFK", fl_date: str = "2018-01-01", **columns: Any) -> Row:
    row: Row = {field.name: None if field.nullable else 0 for field in schemas.ANOMALY_FACTORS}
    given = {"origin": origin, "fl_date": date.fromisoformat(fl_date), "dimension": dimension, "name": name}
    scheduled = None if dimension == "cause" else 0
    return row | given | {"scheduled": scheduled, "delay_min": 0.0, "cancelled": 0} | columns


def event(event_id: str, first_day: str = "2018-01-01", last_day: str | None = None, **columns: Any) -> Row:
    """An event of one airport-day, called as its id."""
    row: Row = {field.name: None if field.nullable else 0 for field in schemas.EVENTS}
    first, last = date.fromisoformat(first_day), date.fromisoformat(last_day or first_day)
    given = {"event_id": event_id, "name": event_id, "first_day": first, "last_day": last, "kind": "delay"}
    return row | given | {"airports": 1, "airport_days": 1, "severity": 2, "worst_origin": "JFK"} | columns


def event_day(event_id: str, origin: str = "JFK", fl_date: str = "2018-01-01") -> Row:
    return {"event_id": event_id, "origin": origin, "fl_date": date.fromisoformat(fl_date)}


def table(schema: pa.Schema, *rows: Row) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=schema)
