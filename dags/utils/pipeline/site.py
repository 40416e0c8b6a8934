"""Write the static site of all years into the lake, above the plots.

`site.json` records the state of each year from which its pages were made, and the hash of every page. A year whose
state has not changed is not drawn again, and a page whose hash has not changed is not written again. While pages are
being written, the record has an empty state and empty hashes for them, so that the next call writes them again if this
one is interrupted.
"""

from __future__ import annotations

import itertools
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import pandas as pd

from utils import __version__, detectors, schemas
from utils.analysis import judged_days
from utils.db_handler import DBHandler
from utils.errors import Busy, Missing
from utils.layers import quality
from utils.parallel import in_processes
from utils.pipeline import inputs
from utils.reporting.site import frames, render
from utils.reporting.site.contexts.event import DAYS_AROUND
from utils.reporting.site.frames import AirportData, AirportYearData, EventData, HomeData, YearData
from utils.reporting.site.links import StaticLinks
from utils.settings import Settings
from utils.storage import keys
from utils.storage.freshness import State, gold_of
from utils.storage.lake import Lake
from utils.storage.parquet import content_hash, encode_json

RECORD = "site.json"
MAX_PASSES = 5  # other runs may finish a year while this one writes
JOBS_PER_WORKER = 20  # with fewer, starting a worker takes longer than it saves
DAYS_AROUND_EVENT = pd.Timedelta(days=DAYS_AROUND)
SCHEMAS = {
    "airport_days": schemas.AIRPORT_DAYS,
    "anomalies": schemas.ANOMALIES,
    "events": schemas.EVENTS,
    "feedback": schemas.FEEDBACK,
}
LINKS = StaticLinks()  # the paths of pages below the folder of the site

Job = Sequence[AirportData | AirportYearData | EventData]  # the pages that a worker draws in one call
Tables = dict[str, pd.DataFrame]  # by airport
Data = TypeVar("Data")
Progress = Callable[[int, int], None]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """What was written last: the state of each year, and the hash of each page by path; empty if it is unknown."""

    years: Mapping[int, str]
    pages: Mapping[str, str]

    def encode(self) -> bytes:
        """Return the bytes of the file."""
        return encode_json({"years": self.years, "pages": dict(sorted(self.pages.items()))})

    def unchanged_years(self, states: Mapping[int, str]) -> set[int]:
        """Return the years whose pages were made from the present state. states: by year."""
        return {year for year, state in states.items() if self.years.get(year) == state}


@dataclass(frozen=True)
class Year:
    """The tables of a year that its pages need. tables: keys.EXPLANATIONS, by name. plots: airports with plots."""

    year: int
    days: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    report: Mapping[str, Any]
    feedback: pd.DataFrame
    plots: set[str]

    @property
    def missing_months(self) -> list[int]:
        """The months that the file does not have."""
        return frames.missing_months(self.report)


@dataclass
class Writer:
    """Write pages that differ from the record, and remember the hashes of all."""

    lake: Lake
    record: Record
    pages: dict[str, str] = field(default_factory=dict)
    written: int = 0

    def write(self, path: str, content: bytes) -> None:
        """Write one page or asset if it has changed."""
        self.pages[path] = content_hash(content)
        if self.record.pages.get(path) != self.pages[path]:
            self.lake.store.put(keys.site_key(path), content)
            self.written += 1


def write_site(settings: Settings, progress: Progress | None = None) -> str:
    """Bring the pages of all finished years up to date; return the key of the home page.

    A year is finished if its gold is current. The pages of other years stay as they are until their gold is deleted.
    Without a warehouse the pages have no labels. progress: called with the number of drawn and of all airports and
    events. Raises Busy if other runs keep changing years meanwhile.
    """
    lake = Lake(settings)
    for _ in range(MAX_PASSES):
        feedback, plots = _feedback(settings), _plots(lake)
        states = _states(lake, feedback, plots)
        record = _read_record(lake)
        if record.pages and states == record.years:
            return keys.site_key()
        try:
            years = [_read_year(lake, year, feedback, plots.get(year, set())) for year in states]
        except Missing as error:  # the year was current a moment ago
            log.info("site: a run is changing a year, so the years are read again: %s", error)
            continue
        writer = Writer(lake, record)
        lake.store.put(keys.site_key(RECORD), _unfinished(record, states, set(lake.years())).encode())
        _write_pages(settings, years, states, writer, progress)
        deleted = _finish(lake, states, record, writer)
        log.info("site: %d years, %d pages written, %d deleted", len(states), writer.written, deleted)
    raise Busy("Other runs keep changing the years of the site; run `python -m utils site` again when they have ended.")


# State


def _states(lake: Lake, feedback: pd.DataFrame, plots: Mapping[int, set[str]]) -> dict[int, str]:
    """Return one hash of everything that the pages of a year depend on, for each finished year."""
    common, states = _common_state(), {}
    for year in lake.years():
        gold = gold_of(lake, year, detectors.PUBLISHED)
        if not lake.has(keys.manifest_key(year)) or any(table.state is not State.CURRENT for table in gold.needed):
            continue
        labels = feedback[feedback["fl_date"].dt.year == year].to_json(orient="records", date_format="iso")
        tables = [str(table.hash) for table in gold.needed]
        parts = [common, *tables, str(lake.manifest(year).get("quality")), *sorted(plots.get(year, ())), str(labels)]
        states[year] = content_hash("\n".join(parts).encode())
    return states


def _common_state() -> str:
    """Return what all pages depend on: the release, the code of the site and the levels."""
    suffixes = {".py", ".j2", ".css", ".js", ".svg"}
    files = sorted(path for path in render.FOLDER.rglob("*") if path.suffix in suffixes)
    return f"{__version__} {content_hash(b''.join(path.read_bytes() for path in files))} {_levels()}"


def _levels() -> render.Levels:
    return render.Levels.of(inputs.detector_settings()[detectors.PUBLISHED])


def _feedback(settings: Settings) -> pd.DataFrame:
    if not settings.warehouse:
        return inputs.frame(schemas.FEEDBACK.empty_table())
    with closing(DBHandler(settings.warehouse)) as warehouse:
        return warehouse.feedback()


def _plots(lake: Lake) -> dict[int, set[str]]:
    """Return the airports with plots by year."""
    pattern = re.compile(rf"{keys.SITE_FOLDER}year=(\d{{4}})/origin=([^/]+)/daily_delay\.png")
    plots: dict[int, set[str]] = {}
    for match in filter(None, map(pattern.fullmatch, lake.store.list(f"{keys.SITE_FOLDER}year="))):
        plots.setdefault(int(match[1]), set()).add(match[2])
    return plots


def _read_record(lake: Lake) -> Record:
    """Return the record, an empty one if it is missing or damaged, or if one of its pages was deleted."""
    try:
        content = json.loads(lake.store.get(keys.site_key(RECORD)) or b"{}")
        record = Record({int(year): state for year, state in content["years"].items()}, dict(content["pages"]))
    except (ValueError, KeyError, TypeError, AttributeError):  # not JSON, or JSON of another shape
        return Record({}, {})
    existing = set(lake.store.list(keys.SITE_FOLDER))
    return record if {keys.site_key(path) for path in record.pages} <= existing else Record({}, {})


def _read_year(lake: Lake, year: int, feedback: pd.DataFrame, plots: set[str]) -> Year:
    gold = gold_of(lake, year, detectors.PUBLISHED)
    days, verdicts = gold.airport_days.read(frames.DAY_COLUMNS), gold.published.read(frames.VERDICT_COLUMNS)
    return Year(
        year,
        judged_days.join(inputs.frame(days), inputs.frame(verdicts)),
        {name: inputs.frame(table.read()) for name, table in gold.explanations.items()},
        lake.read_quality(year),
        feedback[feedback["fl_date"].dt.year == year],
        plots,
    )


def _unfinished(record: Record, states: Mapping[int, str], in_lake: set[int]) -> Record:
    """Return the record without the states and hashes that are unknown while pages are written or deleted."""
    unchanged, untouched = record.unchanged_years(states), _untouched(record, states, in_lake)
    years = {year: record.years[year] if year in unchanged else "" for year in record.years.keys() | states.keys()}
    return Record(years, {path: value if path in untouched else "" for path, value in record.pages.items()})


# Pages


def _write_pages(
    settings: Settings, years: Sequence[Year], states: Mapping[int, str], writer: Writer, progress: Progress | None
) -> None:
    """Write the pages of changed years and those that depend on all years."""
    for name in render.ASSETS:
        writer.write(name, render.asset(name))
    unchanged = writer.record.unchanged_years(states)
    changed = [year for year in years if year.year not in unchanged]
    levels = _levels()  # once: it parses detectors.yaml
    events = [event for year in changed for event in _events_of(year)]
    count = len({origin for year in years for origin in year.days["origin"].unique()}) + len(events)
    jobs = itertools.chain(_airport_jobs(years, changed), ([event] for event in events))
    workers = min(settings.threads, count // JOBS_PER_WORKER)
    calls = ((job, levels) for job in jobs)
    for number, pages in enumerate(in_processes(_draw, calls, workers, "drew pages of the site"), start=1):
        for path, page in pages:
            writer.write(path, page.encode())
        if progress:
            progress(number, count)
    for path, page in _pages_of_all_years(years, levels):
        writer.write(path, page.encode())


def _airport_jobs(years: Sequence[Year], changed: Sequence[Year]) -> Iterator[Job]:
    """Yield for each airport the page of all its years, and those of its changed years."""
    days = {year.year: _by_airport(year.days) for year in years}
    reasons = [_by_airport(year.tables["anomaly_reasons"]) for year in years]
    missing = {year.year: year.missing_months for year in years}
    of_changed = [_airport_years(year, days[year.year]) for year in changed]
    no_reasons = schemas.ANOMALY_REASONS.empty_table().to_pandas()
    for origin in sorted({origin for airports in days.values() for origin in airports}):
        own_days = pd.concat(_of_airport(origin, days.values()), ignore_index=True)
        own_reasons = _concat(_of_airport(origin, reasons), no_reasons)
        yield [AirportData(origin, own_days, own_reasons, missing), *_of_airport(origin, of_changed)]


def _of_airport(origin: str, years: Iterable[Mapping[str, Data]]) -> list[Data]:
    """Return the data of the airport from each year that has it. years: data by airport."""
    return [airports[origin] for airports in years if origin in airports]


def _by_airport(table: pd.DataFrame) -> Tables:
    return {str(origin): rows for origin, rows in table.groupby("origin", sort=True)}


def _airport_years(year: Year, days: Tables) -> dict[str, AirportYearData]:
    """Return the data of the airports of one year. days: by airport."""
    names = ("anomaly_reasons", "anomaly_factors", "event_days")
    tables = {name: (_by_airport(year.tables[name]), year.tables[name].head(0)) for name in names}
    feedback, no_feedback = _by_airport(year.feedback), year.feedback.head(0)
    events = year.tables["events"]
    airports = {}
    for origin, own_days in days.items():
        reasons, factors, event_days = (rows.get(origin, empty) for rows, empty in tables.values())
        airports[origin] = AirportYearData(
            origin,
            year.year,
            own_days,
            reasons,
            factors,
            events[events["event_id"].isin(event_days["event_id"])],
            event_days,
            year.missing_months,
            feedback.get(origin, no_feedback),
            origin in year.plots,
        )
    return airports


def _events_of(year: Year) -> Iterator[EventData]:
    """Yield the events of several airports; an event of a single airport is a section of the airport's page."""
    tables, airports = year.tables, sorted(year.days["origin"].unique())
    for event in cast("Iterable[Any]", tables["events"][tables["events"]["airports"] > 1].itertuples()):
        origins = tables["event_days"].loc[tables["event_days"]["event_id"] == event.event_id, "origin"]
        first, last = event.first_day - DAYS_AROUND_EVENT, event.last_day + DAYS_AROUND_EVENT
        is_around = year.days["origin"].isin(origins) & year.days["fl_date"].between(first, last)
        factors = tables["anomaly_factors"]
        is_inside = factors["origin"].isin(origins) & factors["fl_date"].between(event.first_day, event.last_day)
        yield EventData(
            event.event_id,
            tables["events"],
            tables["event_days"],
            year.days[is_around],
            factors[is_inside],
            airports,
        )


def _draw(job: Job, levels: render.Levels) -> list[tuple[str, str]]:
    """Return the path and the HTML of each page. Runs in a worker."""
    return [_page(data, levels) for data in job]


def _page(data: AirportData | AirportYearData | EventData, levels: render.Levels) -> tuple[str, str]:
    match data:
        case AirportData():
            path = LINKS.airport(data.origin)
            return path, render.airport_page(data, _layout(path, levels))
        case AirportYearData():
            path = LINKS.airport_year(data.origin, data.year)
            return path, render.airport_year_page(data, _layout(path, levels))
        case EventData():
            path = LINKS.event(data.event_id)
            return path, render.event_page(data, _layout(path, levels))


def _layout(path: str, levels: render.Levels, years: Sequence[int] = ()) -> render.Layout:
    return render.Layout(StaticLinks(path), levels, years)


def _pages_of_all_years(years: Sequence[Year], levels: render.Levels) -> Iterator[tuple[str, str]]:
    """Yield the home page, the list of airports and the pages of the years, which link to each other."""
    numbers = [year.year for year in years]
    network = {year.year: frames.network_days(year.days) for year in years}
    flagged = {year.year: frames.flagged_days(year.days) for year in years}
    airports = {year.year: frames.airport_years(year.days) for year in years}
    reports = _reports(years, airports)
    empty = {name: inputs.frame(schema.empty_table()) for name, schema in SCHEMAS.items()}
    no_days = judged_days.join(empty["airport_days"], empty["anomalies"])

    def layout(path: str) -> render.Layout:
        return _layout(path, levels, numbers)

    for year in years:
        before, after = year.year - 1, year.year + 1
        data = YearData(
            year.year,
            network[year.year],
            airports[year.year],
            flagged[year.year],
            year.tables["events"],
            reports[year.year],
            before if before in network else None,
            after if after in network else None,
        )
        path = LINKS.year(year.year)
        yield path, render.year_page(data, layout(path))
    all_airports = _concat(airports.values(), frames.airport_years(no_days))
    yield LINKS.airports(), render.airports_page(all_airports, layout(LINKS.airports()))
    home = HomeData(
        _concat(network.values(), frames.network_days(no_days)),
        all_airports,
        _concat(flagged.values(), frames.flagged_days(no_days)),
        _concat((year.tables["events"] for year in years), empty["events"]),
        reports,
        _newest(_concat((year.feedback for year in years), empty["feedback"])),
    )
    yield LINKS.home(), render.home_page(home, layout(LINKS.home()))


def _newest(feedback: pd.DataFrame) -> pd.DataFrame:
    """Return the labels of the days up to the newest one; up to today would change the page without a change."""
    first = feedback["given_at"].max() - pd.Timedelta(days=frames.LABEL_DAYS)
    newest: pd.DataFrame = feedback[feedback["given_at"] >= first]
    return newest


def _concat(tables: Iterable[pd.DataFrame], empty: pd.DataFrame) -> pd.DataFrame:
    """Return the tables of all years as one, `empty` without years."""
    of_years = [*tables]
    return pd.concat(of_years, ignore_index=True) if of_years else empty


def _reports(years: Sequence[Year], airports: Mapping[int, pd.DataFrame]) -> dict[int, Mapping[str, Any]]:
    """Return the quality reports, compared with the airports of the year before."""
    codes = {year: set(table["origin"]) for year, table in airports.items()}
    return {
        year.year: quality.with_airports(dict(year.report), codes[year.year], codes.get(year.year - 1))
        for year in years
    }


# End


def _finish(lake: Lake, states: Mapping[int, str], record: Record, writer: Writer) -> int:
    """Delete the pages that are no longer needed, write the new record, and return the number of deleted pages."""
    kept = _kept(record, states, set(lake.years()), writer.pages)
    stale = sorted(record.pages.keys() - writer.pages.keys() - kept)
    lake.store.delete([keys.site_key(path) for path in stale])
    pages = {path: record.pages[path] for path in kept} | writer.pages
    lake.store.put(keys.site_key(RECORD), Record(states, pages).encode())
    return len(stale)


def _kept(record: Record, states: Mapping[int, str], in_lake: set[int], drawn: Mapping[str, str]) -> set[str]:
    """Return the pages that were not drawn but stay: those of unchanged years, and of years that a run is changing."""
    kept = {path for path in _untouched(record, states, in_lake) if path not in drawn}
    airports = {LINKS.airport(path.split("/")[1]) for path in kept if path.startswith("airports/")}
    return kept | {path for path in airports if path in record.pages and path not in drawn}


def _untouched(record: Record, states: Mapping[int, str], in_lake: set[int]) -> set[str]:
    """Return the pages of unchanged years, and of years that a run is changing."""
    years = record.unchanged_years(states) | (in_lake - states.keys())
    return {path for path in record.pages if _year_of(path) in years}


def _year_of(path: str) -> int | None:
    """Return the year of a page; None for pages of all years."""
    match = re.fullmatch(r"(?:years|airports/[^/]+)/(\d{4})\.html|events/(\d{4})\d{4}-[^/]+\.html", path)
    return int(match[1] or match[2]) if match else None
