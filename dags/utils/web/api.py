"""/flights/api/: days, events, reasons, airports and years as JSON or CSV, behind the login."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import threading
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query, Request, Response

from utils import schemas
from utils.reporting.site import frames
from utils.warehouse.tables import SCHEMA
from utils.warehouse.view import CONTEXT_COLUMNS, VERDICT_COLUMNS, VIEW
from utils.web import inputs
from utils.web.data import EVENT_DAYS, EVENTS, REASONS, Warehouse, in_year

DEFAULT_LIMITS = {"json": 1000, "csv": 5000}
TURNS = threading.BoundedSemaphore(2)  # an answer of 5,000 rows takes about 40 MB while it is made
Format = Annotated[Literal["json", "csv"], Query(alias="format", description="Format of the answer.")]
# The view that the dashboards read: one row per airport and day, with the published verdict.
DAY_COLUMNS = [*schemas.AIRPORT_DAYS.names, *VERDICT_COLUMNS, "verdict", *(name for name, *_ in CONTEXT_COLUMNS)]
DAY_VIEW = sa.table(VIEW, *(sa.column(name) for name in DAY_COLUMNS), schema=SCHEMA)

router = APIRouter(prefix="/flights/api")


class Page:
    """The parameters of paging and format of one request."""

    def __init__(
        self,
        limit: inputs.Limit = None,
        offset: inputs.Offset = 0,
        kind: Format = "json",
    ) -> None:
        """Hold the checked parameters."""
        self.limit, self.offset, self.kind = limit or DEFAULT_LIMITS[kind], offset, kind

    def read(self, warehouse: Warehouse, name: str, query: sa.Select[Any]) -> Response:
        """Return the page's rows of the query; only some requests at once, to save memory."""
        page = query.limit(self.limit + 1).offset(self.offset)
        with TURNS:
            rows = warehouse.rows(f"reading {name} for the API", page)
            return self.answer(name, rows, query.selected_columns.keys())

    def answer(self, name: str, rows: Sequence[Mapping[Any, Any]], columns: Sequence[str]) -> Response:
        """Return at most `limit` rows. rows: one more than the limit if there are more."""
        shown, has_more = rows[: self.limit], len(rows) > self.limit
        if self.kind == "csv":
            headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
            return Response(as_csv(shown, columns), media_type="text/csv; charset=utf-8", headers=headers)
        body = {
            "rows": [{column: row[column] for column in columns} for row in shown],
            "next_offset": self.offset + self.limit if has_more else None,
        }
        return Response(json.dumps(body, default=_text), media_type="application/json")


Paging = Annotated[Page, Depends(Page)]


def as_csv(rows: Sequence[Mapping[Any, Any]], columns: Sequence[str]) -> str:
    """Return the rows as CSV with a header; empty for null.

    A text that a spreadsheet would execute as a formula starts with an apostrophe.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if row[column] is None else _cell(row[column]) for column in columns])
    return text.getvalue()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _text(value: Any) -> str | float:
    if isinstance(value, dt.date | dt.datetime):
        return value.isoformat()
    return float(value)  # numeric of Postgres


def _warehouse(request: Request) -> Warehouse:
    warehouse: Warehouse = request.app.state.warehouse
    return warehouse


Data = Annotated[Warehouse, Depends(_warehouse)]


class Selection:
    """The parameters that select airport-days; None selects all."""

    def __init__(
        self, airport: inputs.AirportQuery = None, year: inputs.YearQuery = None, day: inputs.DayQuery = None
    ) -> None:
        """Hold the checked parameters."""
        self.airport, self.year, self.day = airport, year, day

    def conditions(self, table: Any) -> list[sa.ColumnElement[bool]]:
        """Return the conditions for a table with the columns origin and fl_date."""
        conditions = []
        if self.airport is not None:
            conditions.append(table.c.origin == self.airport)
        if self.year is not None:
            conditions.append(in_year(table.c.fl_date, self.year))
        if self.day is not None:
            conditions.append(table.c.fl_date == self.day)
        return conditions


Selected = Annotated[Selection, Depends(Selection)]


@router.get("/days", summary="Airport-days with the published verdict")
def days(
    warehouse: Data,
    page: Paging,
    selection: Selected,
    is_abnormal: Annotated[bool | None, Query(description="true: only late and closed days.")] = None,
) -> Response:
    """Return one row per airport and day, by airport and date; the columns of the view agg_dep_delay_by_date."""
    view, where = DAY_VIEW.c, selection.conditions(DAY_VIEW)
    if is_abnormal is not None:
        is_bad = sa.func.coalesce(sa.and_(view.is_anomaly, view.direction != "early"), sa.false())
        where.append(is_bad if is_abnormal else sa.not_(is_bad))
    return page.read(warehouse, "days", sa.select(DAY_VIEW).where(*where).order_by(view.origin, view.fl_date))


@router.get("/reasons", summary="Why the published detector flags a day")
def reasons(warehouse: Data, page: Paging, selection: Selected) -> Response:
    """Return one row per flagged airport-day, by airport and date; the columns of the table anomaly_reasons."""
    query = sa.select(REASONS).where(*selection.conditions(REASONS)).order_by(REASONS.c.origin, REASONS.c.fl_date)
    return page.read(warehouse, "reasons", query)


@router.get("/events", summary="Events: flagged days of nearby airports")
def events(
    warehouse: Data,
    page: Paging,
    airport: inputs.AirportQuery = None,
    year: inputs.YearQuery = None,
    event: inputs.EventQuery = None,
) -> Response:
    """Return one row per event, by identifier, which starts with its first day. airport: events that contain it."""
    query = sa.select(EVENTS).order_by(EVENTS.c.event_id)
    if year is not None:
        query = query.where(in_year(EVENTS.c.first_day, year))
    if event is not None:
        query = query.where(EVENTS.c.event_id == event)
    if airport is not None:
        of_airport = sa.select(EVENT_DAYS.c.event_id).where(EVENT_DAYS.c.origin == airport)
        query = query.where(EVENTS.c.event_id.in_(of_airport))
    return page.read(warehouse, "events", query)


@router.get("/airports", summary="Sums of an airport and a year")
def airports(
    warehouse: Data, page: Paging, airport: inputs.AirportQuery = None, year: inputs.YearQuery = None
) -> Response:
    """Return one row per year and airport. effective_min / effective_flights is the mean effective delay, minutes."""
    sums = warehouse.airport_years()
    if year is not None:
        sums = sums[sums["year"] == year]
    if airport is not None:
        sums = sums[sums["origin"] == airport]
    rows = sums.iloc[page.offset : page.offset + page.limit + 1].to_dict("records")
    return page.answer("airports", rows, frames.AIRPORT_YEARS)


@router.get("/years", summary="Sums of a year")
def years(warehouse: Data, page: Paging) -> Response:
    """Return one row per year. effective_min / effective_flights is the mean effective delay, minutes."""
    sums = ["scheduled", "cancelled", "effective_min", "effective_flights", "judged_days", "abnormal", "closures"]
    by_year = warehouse.airport_years().groupby("year", as_index=False)[sums].sum()
    rows = by_year.iloc[page.offset : page.offset + page.limit + 1].to_dict("records")
    return page.answer("years", rows, ["year", *sums])
