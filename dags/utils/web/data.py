"""Read the rows of each page from the warehouse, with bound parameters, as a login that may only read.

The frames are those of `reporting.site.frames`, so that the served and the static page show the same figures. Home and
the years use summaries that Postgres computes; they are kept until a run of the year ends, and at most KEEP_S.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on

from utils import detectors, schemas
from utils.analysis import judged_days
from utils.errors import Missing, Unavailable
from utils.reporting import wording
from utils.reporting.site import frames
from utils.reporting.site.contexts.event import DAYS_AROUND
from utils.reporting.site.contexts.shared import city
from utils.warehouse.connection import Postgres
from utils.warehouse.models import METADATA
from utils.warehouse.tables import RUNS, SCHEMA

CONNECTIONS = 4
KEEP_S = 600
AROUND_DAY, AROUND_EVENT = dt.timedelta(days=30), dt.timedelta(days=DAYS_AROUND)
STATEMENT_TIMEOUT_MS = 15_000

DAYS, ANOMALIES, REASONS, FACTORS, EVENTS, EVENT_DAYS, FEEDBACK, QUALITY, RUN = (
    METADATA.tables[f"{SCHEMA}.{name}"]
    for name in (
        *("airport_days", "anomalies", "anomaly_reasons", "anomaly_factors", "events", "event_days"),
        *("feedback", "bronze_quality", "runs"),
    )
)
PUBLISHED = sa.and_(
    ANOMALIES.c.origin == DAYS.c.origin,
    ANOMALIES.c.fl_date == DAYS.c.fl_date,
    ANOMALIES.c.detector == detectors.PUBLISHED,
)
IS_BAD = sa.and_(ANOMALIES.c.is_anomaly, ANOMALIES.c.direction != "early")
IS_CLOSURE = sa.and_(ANOMALIES.c.is_anomaly, ANOMALIES.c.direction == "closure")
EFFECTIVE = sa.cast(DAYS.c.mean_effective_delay_min, sa.Double)
SUMS = (
    sa.func.sum(DAYS.c.scheduled).label("scheduled"),
    sa.func.sum(DAYS.c.cancelled).label("cancelled"),
    sa.func.coalesce(sa.func.sum(EFFECTIVE * DAYS.c.scheduled), 0.0).label("effective_min"),
    sa.func.coalesce(sa.func.sum(DAYS.c.scheduled).filter(EFFECTIVE.is_not(None)), 0).label("effective_flights"),
    sa.func.count().filter(DAYS.c.scheduled > 0).label("airports"),
    sa.func.count().filter(ANOMALIES.c.status == "ok").label("judged_days"),
    sa.func.count().filter(IS_BAD).label("abnormal"),
    sa.func.count().filter(IS_CLOSURE).label("closures"),
    sa.func.coalesce(sa.func.sum(DAYS.c.scheduled).filter(IS_BAD), 0).label("abnormal_flights"),
    sa.func.coalesce(sa.func.max(ANOMALIES.c.severity).filter(IS_BAD), 0).label("severity"),
)
DAY_SCHEMA = pa.schema([schemas.AIRPORT_DAYS.field(name) for name in frames.DAY_COLUMNS])
VERDICT_SCHEMA = pa.schema([schemas.ANOMALIES.field(name) for name in frames.VERDICT_COLUMNS])
NETWORK_TYPES = {"fl_date": pa.date32(), "effective_min": pa.float64(), "worst_origin": pa.string()}
AIRPORT_TYPES = {"origin": pa.string(), "effective_min": pa.float64()}
NETWORK_SCHEMA = pa.schema([(name, NETWORK_TYPES.get(name, pa.int64())) for name in frames.NETWORK_DAYS])
AIRPORTS_SCHEMA = pa.schema([(name, AIRPORT_TYPES.get(name, pa.int64())) for name in frames.AIRPORT_YEARS])
# Of the sums by date and of those by airport, which one query reads.
SUMS_SCHEMA = pa.schema(
    [
        ("fl_date", pa.date32()),
        ("origin", pa.string()),
        *((column.name, pa.float64() if column.name == "effective_min" else pa.int64()) for column in SUMS),
    ]
)
FLAGGED_SCHEMA = pa.schema(
    [
        (schemas.AIRPORT_DAYS if name in schemas.AIRPORT_DAYS.names else schemas.ANOMALIES).field(name)
        for name in frames.FLAGGED_DAYS
    ]
)


def in_year(column: Any, year: int) -> sa.ColumnElement[bool]:
    """Return the condition for a date of the year."""
    return sa.and_(column >= dt.date(year, 1, 1), column < dt.date(year + 1, 1, 1))


@dataclass(frozen=True)
class YearSummary:
    """The summaries and the events of one year."""

    network_days: pd.DataFrame
    airport_years: pd.DataFrame
    flagged_days: pd.DataFrame
    events: pd.DataFrame


def _empty(schema: pa.Schema) -> pd.DataFrame:
    frame: pd.DataFrame = schema.empty_table().to_pandas(date_as_object=False)
    return frame


EMPTY = YearSummary(
    _empty(NETWORK_SCHEMA),
    _empty(AIRPORTS_SCHEMA),
    _empty(FLAGGED_SCHEMA),
    _empty(schemas.EVENTS),
)


class Warehouse:
    """The rows of pages. Thread-safe; keeps CONNECTIONS connections open.

    Every method raises Missing if the warehouse has no row of the page, and Unavailable or another DelaywatchError if
    it does not answer.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        """url: a login that may read. Opens no connection."""
        self._server = Postgres(url, connect_timeout_s=5, lock_timeout_s=5, max_connections=CONNECTIONS)
        self._clock = clock
        self._locks: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)  # by year
        self._kept: dict[int, tuple[dt.datetime | None, float, YearSummary]] = {}

    def close(self) -> None:
        """Close the connections."""
        self._server.engine.dispose()

    def rows(self, doing: str, query: sa.Select[Any]) -> list[Mapping[str, Any]]:
        """Return the rows of the query. doing: for the message of an error."""
        return [dict(row._mapping) for row in self._read(doing, query)]

    def _read(self, doing: str, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        try:
            with self._server.explaining(doing), self._server.connected(doing) as connection:
                connection.exec_driver_sql(
                    "SELECT set_config('statement_timeout', %s, true), set_config('timezone', 'UTC', true)",
                    (str(STATEMENT_TIMEOUT_MS),),
                )
                return connection.execute(query).all()
        except sa.exc.TimeoutError as error:
            raise Unavailable(
                f"All {CONNECTIONS} connections of the site to the {self._server.place} are in use; try again later."
            ) from error

    def frame(self, doing: str, schema: pa.Schema, query: sa.Select[Any]) -> pd.DataFrame:
        """Return the rows of the query with the types that the lake has; dates are datetime64.

        The query has the columns of the schema, in their order.
        """
        columns = list(zip(*self._read(doing, query), strict=True)) or [()] * len(schema)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
        frame: pd.DataFrame = pa.Table.from_arrays(arrays, names=schema.names).to_pandas(date_as_object=False)
        return frame

    def _table(self, table: sa.Table, schema: pa.Schema, where: sa.ColumnElement[bool]) -> pd.DataFrame:
        """Return all columns of the rows of a table, by its key."""
        query = sa.select(*(table.c[name] for name in schema.names)).where(where).order_by(*table.primary_key.columns)
        return self.frame(f"reading {table.name} for a page", schema, query)

    def _days(
        self, where: Callable[[sa.Table], sa.ColumnElement[bool]], day_schema: pa.Schema = DAY_SCHEMA
    ) -> pd.DataFrame:
        """Return airport-days with the published verdict. where: the condition, for a table with origin and fl_date."""
        days = self._table(DAYS, day_schema, where(DAYS))
        is_published = ANOMALIES.c.detector == detectors.PUBLISHED
        return judged_days.join(days, self._table(ANOMALIES, VERDICT_SCHEMA, sa.and_(is_published, where(ANOMALIES))))

    # --- years --------------------------------------------------------------------------------------------------------

    def qualities(self) -> dict[int, dict[str, Any]]:
        """Return the quality report by year, for every year with a complete upsert."""
        query = sa.select(QUALITY.c.year, QUALITY.c.report).order_by(QUALITY.c.year)
        return {row["year"]: row["report"] for row in self.rows("reading the years for a page", query)}

    def years(self) -> list[int]:
        """Return the years with a complete upsert."""
        query = sa.select(QUALITY.c.year).order_by(QUALITY.c.year)
        return [row["year"] for row in self.rows("reading the years for a page", query)]

    def version(self) -> tuple[Any, ...]:
        """Return a value that changes with every run and every label."""
        values = {
            "runs": sa.select(sa.func.count()).select_from(RUN),
            "ended": sa.select(sa.func.max(RUN.c.ended)),
            "labels": sa.select(sa.func.count()).select_from(FEEDBACK),
            "given": sa.select(sa.func.max(FEEDBACK.c.given_at)),
        }
        query = sa.select(*(value.scalar_subquery().label(name) for name, value in values.items()))
        (row,) = self.rows("reading the version for a page", query)
        return tuple(row.values())

    def last_runs(self) -> pd.DataFrame:
        """Return the last completed run of each year."""
        query = (
            sa.select(RUN)
            .ext(distinct_on(RUN.c.year))
            .where(RUN.c.ended.is_not(None))
            .order_by(RUN.c.year, RUN.c.ended.desc())
        )
        rows = self.rows("reading the runs for a page", query)
        columns = [field for field in RUNS if field.name != "rows"]
        arrays = [pa.array([row[field.name] for row in rows], field.type) for field in columns]
        frame: pd.DataFrame = pa.Table.from_arrays(arrays, names=[field.name for field in columns]).to_pandas()
        return frame

    def home(self, now: dt.datetime) -> frames.HomeData:
        """Return the rows of the home page. now: timezone-aware."""
        qualities, runs = self.qualities(), self.last_runs()
        summaries = self._summaries(list(qualities), runs)
        recent = FEEDBACK.c.given_at >= now - dt.timedelta(days=frames.LABEL_DAYS)
        return frames.HomeData(
            **{name: _concat(name, summaries) for name in vars(EMPTY)},
            quality=qualities,
            feedback=self._table(FEEDBACK, schemas.FEEDBACK, recent),
            runs=runs,
        )

    def year(self, year: int) -> frames.YearData:
        """Return the rows of a year's page."""
        qualities = self.qualities()
        if year not in qualities:
            raise Missing(f"The year {year} is not in the warehouse; choose a year from the start page.")
        (summary,) = self._summaries([year], self.last_runs())
        others = sorted(qualities)
        return frames.YearData(
            year,
            **vars(summary),
            quality=qualities[year],
            before=max((other for other in others if other < year), default=None),
            after=min((other for other in others if other > year), default=None),
        )

    def airport_years(self) -> pd.DataFrame:
        """Return AIRPORT_YEARS of all years."""
        return _concat("airport_years", self._summaries(self.years(), self.last_runs()))

    def _summaries(self, years: Sequence[int], runs: pd.DataFrame) -> list[YearSummary]:
        """Return the summaries of the years; those of a year without a newer run are kept for KEEP_S."""
        ended = {int(row["year"]): row["ended"].to_pydatetime() for row in runs.to_dict("records")}
        summaries = []
        for year in years:
            with self._locks[year]:  # so that visitors who come at once do not all sum up the year
                version, until, summary = self._kept.get(year, (None, 0.0, None))
                if summary is None or version != ended.get(year) or self._clock() >= until:
                    summary = self._summary(year)
                    self._kept[year] = ended.get(year), self._clock() + KEEP_S, summary
            summaries.append(summary)
        return summaries

    def _summary(self, year: int) -> YearSummary:
        of_year = in_year(DAYS.c.fl_date, year)
        # Postgres does not conclude from the equal dates of the join that verdicts of other years cannot match.
        judged = DAYS.outerjoin(ANOMALIES, sa.and_(PUBLISHED, in_year(ANOMALIES.c.fl_date, year)))
        flagged = self._flagged(sa.and_(of_year, in_year(ANOMALIES.c.fl_date, year)))
        by_date_and_by_airport = sa.func.grouping_sets(sa.tuple_(DAYS.c.fl_date), sa.tuple_(DAYS.c.origin))
        sums = self.frame(
            f"summing up {year} for a page",
            SUMS_SCHEMA,
            sa.select(DAYS.c.fl_date, DAYS.c.origin, *SUMS)
            .select_from(judged)
            .where(of_year)
            .group_by(by_date_and_by_airport)
            .order_by(DAYS.c.fl_date, DAYS.c.origin),
        )
        network, airports = sums[sums["fl_date"].notna()], sums[sums["origin"].notna()]
        return YearSummary(
            _with_worst_origin(network, flagged).reset_index(drop=True),
            airports.assign(year=year)[frames.AIRPORT_YEARS].reset_index(drop=True),
            flagged,
            self._table(EVENTS, schemas.EVENTS, in_year(EVENTS.c.first_day, year)),
        )

    def _flagged(self, where: sa.ColumnElement[bool]) -> pd.DataFrame:
        """Return FLAGGED_DAYS of the abnormal days that `where` selects."""
        columns = ((DAYS if name in schemas.AIRPORT_DAYS.names else ANOMALIES).c[name] for name in frames.FLAGGED_DAYS)
        query = (
            sa.select(*columns)
            .select_from(DAYS.join(ANOMALIES, PUBLISHED))
            .where(where, IS_BAD)
            .order_by(DAYS.c.origin, DAYS.c.fl_date)
        )
        return self.frame("reading abnormal days for a page", FLAGGED_SCHEMA, query).astype({"severity": int})

    # --- airports and days --------------------------------------------------------------------------------------------

    def airport(self, origin: str) -> frames.AirportData:
        """Return the rows of an airport's page."""
        days = self._days(lambda table: table.c.origin == origin)
        if days.empty:
            raise Missing(f"The airport {origin} is not in the data; choose one from the list of airports.")
        reasons = self._table(REASONS, schemas.ANOMALY_REASONS, REASONS.c.origin == origin)
        missing = {year: frames.missing_months(report) for year, report in self.qualities().items()}
        return frames.AirportData(origin, days, reasons, missing)

    def airport_year(self, origin: str, year: int, *, has_plots: bool) -> frames.AirportYearData:
        """Return the rows of the page of one airport and year. has_plots: the plots are in the lake."""

        def where(table: sa.Table) -> sa.ColumnElement[bool]:
            return sa.and_(table.c.origin == origin, in_year(table.c.fl_date, year))

        days = self._days(where)
        if days.empty:
            raise Missing(f"{origin} has no day in {year} in the warehouse; choose another year of the airport.")
        event_days = self._table(EVENT_DAYS, schemas.EVENT_DAYS, where(EVENT_DAYS))
        return frames.AirportYearData(
            origin,
            year,
            days,
            self._table(REASONS, schemas.ANOMALY_REASONS, where(REASONS)),
            self._table(FACTORS, schemas.ANOMALY_FACTORS, where(FACTORS)),
            self._events(event_days["event_id"]),
            event_days,
            frames.missing_months(self.qualities()[year]),
            self._table(FEEDBACK, schemas.FEEDBACK, where(FEEDBACK)),
            has_plots,
        )

    def day(self, origin: str, day: dt.date) -> frames.DayData:
        """Return the rows of a day's page."""

        def on_day(table: sa.Table) -> sa.ColumnElement[bool]:
            return sa.and_(table.c.origin == origin, table.c.fl_date == day)

        def around(table: sa.Table) -> sa.ColumnElement[bool]:
            return sa.and_(table.c.origin == origin, table.c.fl_date.between(day - AROUND_DAY, day + AROUND_DAY))

        days = self._days(around, schemas.AIRPORT_DAYS)
        if not (days["fl_date"] == pd.Timestamp(day)).any():
            raise self._no_day(origin, day)
        airports = self._airports(day.year)
        verdicts = self._table(ANOMALIES, schemas.WAREHOUSE_ANOMALIES, on_day(ANOMALIES))
        is_other = verdicts["detector"] != detectors.PUBLISHED  # the page shows the published one first
        event_id = sa.select(EVENT_DAYS.c.event_id).where(on_day(EVENT_DAYS)).scalar_subquery()
        of_event = sa.and_(EVENT_DAYS.c.event_id == event_id, EVENT_DAYS.c.fl_date == day)
        event_airports = self._table(EVENT_DAYS, schemas.EVENT_DAYS, of_event)["origin"]
        return frames.DayData(
            origin,
            day,
            days,
            verdicts.loc[is_other.sort_values(kind="stable").index].reset_index(drop=True),
            # The codes let Postgres use the key of each table; an index on the date alone would be slower.
            self._days(lambda table: sa.and_(table.c.origin.in_(airports), table.c.fl_date == day)),
            self._flagged(sa.and_(DAYS.c.origin == origin, ANOMALIES.c.origin == origin)),
            self._table(REASONS, schemas.ANOMALY_REASONS, on_day(REASONS)),
            self._table(FACTORS, schemas.ANOMALY_FACTORS, on_day(FACTORS)),
            self._table(EVENTS, schemas.EVENTS, EVENTS.c.event_id == event_id),
            self._years_of(origin),
            self._table(FEEDBACK, schemas.FEEDBACK, on_day(FEEDBACK)),
            [str(code) for code in event_airports if code != origin],
        )

    def event(self, event_id: str) -> frames.EventData:
        """Return the rows of an event's page."""
        found = self._events([event_id])
        if found.empty:
            raise Missing(f"The event {event_id} is not in the warehouse; choose one from the page of its year.")
        year = int(found["first_day"].iloc[0].year)
        event_days = self._table(EVENT_DAYS, schemas.EVENT_DAYS, in_year(EVENT_DAYS.c.fl_date, year))
        own = event_days[event_days["event_id"] == event_id]
        origins = sorted(set(own["origin"]))
        first, last = found["first_day"].iloc[0].date(), found["last_day"].iloc[0].date()

        def around(table: sa.Table) -> sa.ColumnElement[bool]:
            return sa.and_(
                table.c.origin.in_(origins), table.c.fl_date.between(first - AROUND_EVENT, last + AROUND_EVENT)
            )

        return frames.EventData(
            event_id,
            self._table(EVENTS, schemas.EVENTS, in_year(EVENTS.c.first_day, year)),
            event_days,
            self._days(around),
            self._table(
                FACTORS,
                schemas.ANOMALY_FACTORS,
                sa.and_(FACTORS.c.origin.in_(origins), FACTORS.c.fl_date.between(first, last)),
            ).merge(own[["origin", "fl_date"]], on=["origin", "fl_date"]),
            self._airports(year),
        )

    def airports_called(self, name: str) -> list[str]:
        """Return the airport with this code, or those whose city contains the name; case does not matter."""
        codes = sorted(self.airport_years()["origin"].unique())
        if name.upper() in codes:
            return [name.upper()]
        return [code for code in codes if name and name.casefold() in city(code).casefold()]

    def check_day(self, origin: str, day: dt.date) -> None:
        """Raise Missing for an airport-day that the warehouse does not have."""
        if not self.has_day(origin, day):
            raise self._no_day(origin, day)

    def _no_day(self, origin: str, day: dt.date) -> Missing:
        if not (years := self._years_of(origin)):
            return Missing(f"The airport {origin} is not in the data; choose one from the list of airports.")
        return Missing(f"{origin} has no data of {day}; choose a day of {wording.listed(years)}.")

    def has_day(self, origin: str, day: dt.date) -> bool:
        """Return True if the warehouse has the airport-day."""
        query = sa.select(DAYS.c.origin).where(DAYS.c.origin == origin, DAYS.c.fl_date == day)
        return bool(self.rows("looking for an airport-day", query))

    def _years_of(self, origin: str) -> list[int]:
        sums = self.airport_years()
        return [int(year) for year in sums.loc[sums["origin"] == origin, "year"]]

    def _airports(self, year: int) -> list[str]:
        (summary,) = self._summaries([year], self.last_runs())
        return [str(origin) for origin in summary.airport_years["origin"]]

    def _events(self, event_ids: Iterable[str]) -> pd.DataFrame:
        return self._table(EVENTS, schemas.EVENTS, EVENTS.c.event_id.in_(sorted(set(map(str, event_ids)))))


def _with_worst_origin(network: pd.DataFrame, flagged: pd.DataFrame) -> pd.DataFrame:
    """Return NETWORK_DAYS; worst_origin is None without an abnormal airport."""
    worst = frames.worst_first(flagged).drop_duplicates("fl_date").set_index("fl_date")["origin"]
    origins = pd.Series(map(dict(worst).get, network["fl_date"]), index=network.index, dtype=object)
    return network.assign(worst_origin=origins)[frames.NETWORK_DAYS]


def _concat(name: str, summaries: Sequence[YearSummary]) -> pd.DataFrame:
    """Return the rows of one frame of all years."""
    parts = [part for summary in summaries if len(part := getattr(summary, name))]
    empty: pd.DataFrame = getattr(EMPTY, name)
    return pd.concat(parts, ignore_index=True) if parts else empty
