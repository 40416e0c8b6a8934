"""The steps of a run: read, pure function, check, write. The only module that joins the edges with the transforms.

Every step takes the settings and a year, replaces its whole partition or upserts on the key, logs its counts once
and returns the key that it wrote; running one twice changes nothing. This module is slow to import: the DAG files and
the commands import it when a step begins.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from utils import __version__, detectors, schemas
from utils.analysis import airports, attribution, events, exclusions
from utils.db_handler import SCHEMA, VIEW, DBHandler
from utils.errors import InvalidInput, Missing, Unavailable, out_of_memory
from utils.layers import columns, gold, ingest, quality
from utils.reporting import pages
from utils.settings import Settings
from utils.storage import keys
from utils.storage.freshness import Gold, State, gold_of, joint_hash
from utils.storage.keys import check_year
from utils.storage.lake import Damaged, Lake
from utils.storage.parquet import content_hash, encode, encode_json, write_parquet

DETECTORS_FILE = Path(__file__).resolve().parents[1] / "detectors.yaml"
INCIDENTS_FILE = DETECTORS_FILE.with_name("incidents.yaml")

Others = ParamSpec("Others")
Result = TypeVar("Result")

log = logging.getLogger(__name__)


def _within_memory(
    step: Callable[Concatenate[Settings, int, Others], Result],
) -> Callable[Concatenate[Settings, int, Others], Result]:
    """Raise Unavailable if Python runs out of memory. A process that the system kills raises nothing."""

    @functools.wraps(step)
    def call(settings: Settings, year: int, /, *args: Others.args, **kwargs: Others.kwargs) -> Result:
        try:
            return step(settings, year, *args, **kwargs)
        except MemoryError as error:
            raise out_of_memory(year) from error

    return call


def bronze_years(settings: Settings) -> list[int]:
    """Return the years whose CSV is in the lake."""
    return Lake(settings).bronze_years()


def bronze_key(settings: Settings, year: int) -> str:
    """The key of the year's CSV; raises DelaywatchError with the years that are there when it is absent."""
    return Lake(settings).bronze_key(check_year(year))


def detector_names(settings: Settings, wanted: list[str] | None = None) -> list[str]:
    """The detectors to run: those of detectors.yaml or, of them, the wanted ones; the published one always runs.

    Raises DelaywatchError for a name that detectors.yaml does not have.
    """
    known = list(detectors.read_settings(DETECTORS_FILE))
    unknown = sorted(set(wanted or ()) - set(known))
    if unknown:
        raise InvalidInput(f"There is no detector {', '.join(unknown)}; detectors.yaml has {', '.join(known)}.")
    return [name for name in known if not wanted or name in wanted or name == detectors.PUBLISHED]


@_within_memory
def write_silver(settings: Settings, year: int, progress: Callable[[int, int], None] | None = None) -> str:
    """Replace the year's silver, rejected rows and quality report from its CSV, in one pass."""
    lake = Lake(settings)
    with closing(lake.open_bronze(check_year(year))) as source, lake.staging(year) as folder:
        ingested = ingest.ingest_year(source, year, folder, settings.threads, write_parquet, progress)
        report = quality.report(year, source.key, ingested)
        # The report is written first: a commit that fails after it leaves a report that the manifest does not name,
        # so later steps refuse the year.
        beside = {
            keys.quality_key(year): encode_json(report),
            keys.sums_key(year): encode(ingested.sums),
            keys.rejected_key(year): encode(ingested.rejected),
        }
        staged = [
            (part.path, f"part-{number:05d}-{part.sha256[:12]}.parquet") for number, part in enumerate(ingested.parts)
        ]
        manifest = {
            "year": year,
            "rows": ingested.rows_kept,
            "bytes": sum(part.bytes for part in ingested.parts),
            "parts": [
                {"name": name, "rows": part.rows, "bytes": part.bytes, "sha256": part.sha256}
                for part, (_, name) in zip(ingested.parts, staged, strict=True)
            ],
            "sums": content_hash(beside[keys.sums_key(year)]),
            "quality": content_hash(beside[keys.quality_key(year)]),
            "rejected": content_hash(beside[keys.rejected_key(year)]),
            "input": {"key": source.key, "bytes": source.size, "etag": source.etag, "sha256": ingested.sha256},
        }
        lake.commit_silver(year, staged, manifest, beside)
    log.info(
        "%s: %d rows read, %d kept, %d duplicate, %d rejected",
        *(source.key, ingested.rows_read, ingested.rows_kept, ingested.rows_duplicate, ingested.rejected.num_rows),
    )
    for warning in report["warnings"]:
        log.warning("%s: %s", source.key, warning)
    return keys.manifest_key(year)


@_within_memory
def write_gold(settings: Settings, year: int) -> str:
    """Replace the year's airport-days from the sums that were taken while silver was written."""
    lake = Lake(settings)
    manifest = lake.manifest(check_year(year))
    days = gold.airport_days(lake.read_sums(year), year)
    flights = int(columns.values(columns.one(days["scheduled"])).sum())
    if flights != manifest["rows"]:
        raise AssertionError(f"gold {year} counts {flights} flights, silver has {manifest['rows']}")
    log.info("%d: %d airport-days of %d flights", year, days.num_rows, flights)
    return lake.write_table(keys.airport_days_key(year), days, manifest["sums"])


@_within_memory
def write_anomalies(settings: Settings, year: int, detector: str) -> str:
    """Replace one detector's verdicts on every airport and day of the year.

    Known incidents of incidents.yaml are scored but not used for fitting. If there is a warehouse, the same holds for
    days with the feedback `expected`, within their airport.
    """
    detector_names(settings, [detector])
    judged = _days_to_judge(settings, year)
    params = detectors.read_settings(DETECTORS_FILE)[detector]
    return _write_verdicts(settings, year, detector, judged, detectors.run(detector, *judged.input(params)))


@_within_memory
def write_all_anomalies(
    settings: Settings, year: int, names: Sequence[str], done: Callable[[str], None] = lambda _: None
) -> list[str]:
    """Replace the verdicts of several detectors as `write_anomalies` does, in `settings.threads` processes.

    Calls `done` with the name of each detector whose verdicts are written. The processes are new ones and import
    the caller's main module, so a script that calls this needs `if __name__ == "__main__":`. Raises Unavailable if the
    system ends one of them.
    """
    judged, all_params = _days_to_judge(settings, year), detectors.read_settings(DETECTORS_FILE)
    written = []
    with ProcessPoolExecutor(min(settings.threads, len(names)), mp_context=get_context("spawn")) as pool:
        runs = {pool.submit(detectors.run, name, *judged.input(all_params[name])): name for name in names}
        try:
            for run in as_completed(runs):
                written.append(_write_verdicts(settings, year, runs[run], judged, run.result()))
                done(runs[run])
        except BrokenProcessPool as error:
            raise Unavailable(
                f"The system ended a process that ran a detector on {year}, often for lack of memory; set "
                "DELAYWATCH_THREADS=1 or give the machine more memory, and run the detect step again."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return written


class _Judged(NamedTuple):
    """What verdicts are made from: airport-days with the excluded ones marked, and the hash of each."""

    days: pd.DataFrame
    version: str  # content hash of the airport-days
    excluded: str  # see exclusions.fingerprint

    def input(self, params: Mapping[str, object]) -> tuple[pd.DataFrame, Mapping[str, object], str]:
        """Return the arguments of detectors.run after the detector's name."""
        return self.days, params, self.excluded


def _days_to_judge(settings: Settings, year: int) -> _Judged:
    if settings.warehouse:
        check_warehouse(settings)  # the first step that needs it: the feedback is there
    else:
        log.info("%d: DELAYWATCH_WAREHOUSE is not set, so feedback is not read", year)
    table, version = Lake(settings).read_hashed(keys.airport_days_key(check_year(year)))
    days = _with_exclusions(settings, _frame(table), year)
    return _Judged(days, version, exclusions.fingerprint(days))


def _write_verdicts(settings: Settings, year: int, detector: str, judged: _Judged, verdicts: pa.Table) -> str:
    schemas.check(verdicts, schemas.ANOMALIES, f"The verdicts of {detector} on {year}")
    rows = verdicts.num_rows
    if rows != len(judged.days):
        raise AssertionError(f"{detector} gave {rows} verdicts on {len(judged.days)} airport-days of {year}")
    log.info("%d: %s flags %d of %d airport-days", year, detector, pc.sum(verdicts["is_anomaly"]).as_py() or 0, rows)
    return Lake(settings).write_table(keys.anomalies_key(year, detector), verdicts, judged.version)


@_within_memory
def explain(settings: Settings, year: int) -> str:
    """Replace reasons, their factors and events: why the days are abnormal that the published detector flags.

    Raises DelaywatchError when it judged with other settings or other excluded days than those of today: what is
    expected of a day is computed anew here and would be another than the verdict's.
    """
    lake = Lake(settings)
    if settings.warehouse:
        check_warehouse(settings)
    tables = gold_of(lake, check_year(year), detectors.PUBLISHED)
    table, judged = _read_gold(settings, tables)
    days, verdicts = _with_exclusions(settings, _frame(table), year), _frame(judged[detectors.PUBLISHED])
    today = _params_hashes(exclusions.fingerprint(days))[detectors.PUBLISHED]
    if set(verdicts["params_hash"]) != {today}:
        raise Missing(
            f"The verdicts of {detectors.PUBLISHED} on {year} in {lake.uri} were made with other settings, incidents "
            f"or feedback than today's; run the detect step of {year}."
        )
    params = detectors.read_settings(DETECTORS_FILE)[detectors.PUBLISHED]
    flights = lake.read_silver(year, attribution.FLIGHT_COLUMNS)
    why, factors = attribution.explain(flights, days, verdicts, detectors.expectations(days, params))
    found, event_days = events.find(verdicts, days, airports.coordinates(days["origin"].unique()))
    for name, explanation in zip(keys.EXPLANATIONS, (why, factors, found, event_days), strict=True):
        # Of the verdicts that were read above, which another run may have replaced since.
        lake.write_table(keys.explanation_key(year, name), explanation, tables.published.hash or "")
    log.info("%d: %d abnormal airport-days explained, %d events", year, why.num_rows, found.num_rows)
    return keys.explanation_key(year, "anomaly_reasons")


@_within_memory
def upsert(settings: Settings, year: int) -> str:
    """Bring the year's airport-days, verdicts, explanations and quality report into the warehouse, all or nothing.

    Equal rows are not written.

    Verdicts that were not made from these airport-days, or of a detector that there is no more, go from the warehouse.
    """
    lake = Lake(settings)
    tables = gold_of(lake, check_year(year), detectors.PUBLISHED)
    days, verdicts = _read_gold(settings, tables)
    explanations = {name: table.read() for name, table in tables.explanations.items()}
    report = quality.row(_report(lake, year, days))
    with closing(DBHandler(settings.warehouse)) as warehouse:
        warehouse.create()
        warehouse.publish_view(detectors.NAMES, detectors.PUBLISHED)
        batches: dict[str, tuple[str, Any, dict[str, str]]] = {"airport_days": ("airport_days", days, {})}
        for name in sorted({*verdicts, *warehouse.detectors(year)}):
            rows = _with_detector(verdicts.get(name, schemas.ANOMALIES.empty_table()), name)
            batches[f"anomalies of {name}"] = ("anomalies", rows, {"detector": name})
        batches |= {name: (name, explanation, {}) for name, explanation in explanations.items()}
        batches["bronze_quality"] = ("bronze_quality", report, {})
        changes = warehouse.upsert_year(list(batches.values()), year)
    log.info("%d: %s", year, "; ".join(f"{what}: {change}" for what, change in zip(batches, changes, strict=True)))
    return "flights.agg_dep_delay_by_date"


@_within_memory
def write_plots(settings: Settings, year: int, progress: Callable[[int, int], None] | None = None) -> str:
    """Replace the year's two pictures per airport."""
    from utils.reporting import plots  # only this step loads matplotlib

    lake = Lake(settings)
    table, judged = _read_gold(settings, gold_of(lake, check_year(year), detectors.PUBLISHED))
    days, verdicts = _frame(table), _frame(judged[detectors.PUBLISHED])
    total, done = 2 * days["origin"].nunique(), 0

    def one_more() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    count = lake.replace_plots(year, plots.render_year(days, verdicts, year, settings.threads), one_more)
    log.info("%d: %d plots", year, count)
    return keys.plots_folder(year)


@_within_memory
def publish(settings: Settings, year: int, run_id: str, started: datetime) -> str:
    """Write the year page and the record of the run, once the warehouse holds exactly the rows of gold."""
    lake = Lake(settings)
    tables = gold_of(lake, check_year(year), detectors.PUBLISHED)
    table, judged = _read_gold(settings, tables)
    days, verdicts = _frame(table), {name: _frame(found) for name, found in judged.items()}
    quality = _report(lake, year, table)
    explanations = {name: _frame(found.read()) for name, found in tables.explanations.items()}
    in_gold = {"airport_days": len(days), **{f"anomalies of {name}": len(frame) for name, frame in verdicts.items()}}
    in_gold |= {name: len(frame) for name, frame in explanations.items()}
    hashes = {name: str(found["params_hash"].iloc[0]) for name, found in sorted(verdicts.items()) if len(found)}
    with closing(DBHandler(settings.warehouse)) as warehouse:
        _check_warehouse_holds(warehouse, year, in_gold, hashes)
        page = pages.year_page(
            *(year, days, verdicts, detectors.PUBLISHED, quality, lake.read_plots(year)),
            reasons=explanations["anomaly_reasons"],
            events=explanations["events"],
            feedback=warehouse.feedback(year),
        )
        lake.store.put(keys.year_page_key(year), page.encode())
        rows = {name: quality[f"rows_{name}"] for name in ("read", "kept", "duplicate", "rejected")} | in_gold
        warehouse.record_run(
            {
                "run_id": run_id,
                "year": year,
                "code_version": __version__,
                "params_hash": joint_hash(hashes.values()),
                "started": started,
                "ended": datetime.now(UTC),
                "rows": rows,
            }
        )
    flagged = int(verdicts[detectors.PUBLISHED]["is_anomaly"].sum())
    log.info("%d: %d abnormal airport-days; year page %s", year, flagged, keys.year_page_key(year))
    return keys.year_page_key(year)


def _check_warehouse_holds(
    warehouse: DBHandler, year: int, in_gold: Mapping[str, int], hashes: Mapping[str, str]
) -> None:
    """Raise Missing if the warehouse has another number of rows of any table than gold.

    in_gold: rows by table, verdicts as `anomalies of DETECTOR`. hashes: the params_hash of each detector's verdicts.
    """
    in_warehouse = {name: warehouse.count(name, year) for name in ("airport_days", *keys.EXPLANATIONS)}
    for name in sorted({*hashes, *warehouse.detectors(year)}):
        of_these = {"detector": name} | ({"params_hash": hashes[name]} if name in hashes else {})
        in_warehouse[f"anomalies of {name}"] = warehouse.count("anomalies", year, within=of_these)
    differing = [
        f"{what}: {in_gold.get(what, 0)} in gold, {rows} in the warehouse"
        for what, rows in in_warehouse.items()
        if in_gold.get(what, 0) != rows
    ]
    if differing:
        raise Missing(
            f"The warehouse does not hold the {year} of the lake ({'; '.join(differing)}); run the upsert step again."
        )


def prepare(settings: Settings, reader: tuple[str, str] | None, tell: Callable[[str], None] = log.info) -> None:
    """Make what must be there before the first year: lake, tables, the view over them, and a login that only reads.

    reader: login and password, None for none. Calls `tell` with one line per thing, as soon as it is as it should be.
    The first thing that cannot be so raises DelaywatchError; a second call goes on from there.
    """
    detectors.read_settings(DETECTORS_FILE)  # a mistake in these would end every run, so it is told now
    exclusions.read(INCIDENTS_FILE)
    lake = Lake(settings)
    is_new = lake.prepare()
    tell(f"Lake {lake.uri}: {'made, ' if is_new else ''}can be listed, written, read and deleted from.")
    with closing(DBHandler(settings.warehouse)) as warehouse:
        is_new = warehouse.create()
        tell(f"Tables in the {warehouse}: {'brought to' if is_new else 'already at'} this release's state.")
        is_new = warehouse.publish_view(detectors.NAMES, detectors.PUBLISHED)
        names = ", ".join(detectors.NAMES)
        tell(f"View {SCHEMA}.{VIEW}: {'published' if is_new else 'already there'} with the detectors {names}.")
        if reader:
            login, password = reader
            is_new = warehouse.create_reader(login, password)
            tell(f"Login {login}: {'made or corrected' if is_new else 'already as asked'}, may only read {SCHEMA}.")


def check_warehouse(settings: Settings) -> None:
    """Reach the warehouse and bring its tables up to date, before a long computation needs them."""
    with closing(DBHandler(settings.warehouse)) as warehouse:
        warehouse.create()


def clear_scratch(settings: Settings, year: int) -> None:
    """Remove what an interrupted step of the year left in scratch space."""
    Lake(settings).clear_staging(check_year(year))


def status(settings: Settings) -> list[dict[str, Any]]:
    """What the lake has of every year: bronze key, rows of silver and gold, and the detectors by state.

    A detector is `current` when its verdicts were made from the gold that is there with the settings of
    detectors.yaml and the days excluded today, else `stale`; the published one is `unexplained` when it is current and
    its reasons are not.
    """
    lake = Lake(settings)
    return [_status_of_year(settings, lake, year) for year in lake.years()]


def _status_of_year(settings: Settings, lake: Lake, year: int) -> dict[str, Any]:
    manifest = lake.manifest(year) if lake.has(keys.manifest_key(year)) else None
    gold = gold_of(lake, year, detectors.PUBLISHED)
    return {
        "year": year,
        "bronze": lake.bronze_key(year) if year in lake.bronze_years() else None,
        "silver_rows": manifest and manifest["rows"],
        "gold_rows": gold.airport_days.rows,
        "detectors": _states_of_detectors(settings, gold, year),
        "has_page": lake.has(keys.year_page_key(year)),
    }


def _states_of_detectors(settings: Settings, gold: Gold, year: int) -> dict[str, str]:
    """Return `current`, `stale` or `unexplained` by the name of every detector that has verdicts."""
    hashes: dict[str, str] = {}
    if gold.airport_days.rows is not None:
        days = _frame(gold.airport_days.read_any(["origin", "fl_date"]))
        hashes = _params_hashes(_excluded(settings, days, year))
    states = {}
    for name, verdicts in gold.anomalies.items():
        if verdicts.state is State.MISSING:
            continue
        params_hashes = set(verdicts.read_any(["params_hash"])["params_hash"].to_pylist())
        is_current = verdicts.state is State.CURRENT and params_hashes == {hashes.get(name)}
        states[name] = "current" if is_current else "stale"
    if states.get(detectors.PUBLISHED) == "current" and not gold.is_explained:
        states[detectors.PUBLISHED] = "unexplained"
    return states


def warehouse_rows(settings: Settings, years: Iterable[int] = ()) -> dict[int, int]:
    """Airport-days in the warehouse by year: of `years`, and of every year whose upsert has ended."""
    with closing(DBHandler(settings.warehouse)) as warehouse:
        ended = map(int, warehouse.read("bronze_quality")["year"])  # the last table that an upsert writes
        return {year: warehouse.count("airport_days", year) for year in sorted({*years, *ended})}


def _params_hashes(excluded: str) -> dict[str, str]:
    """The hash of every detector's settings as they are in detectors.yaml, by detector."""
    settings = detectors.read_settings(DETECTORS_FILE)
    return {name: detectors.params_hash(name, params, excluded) for name, params in settings.items()}


def _excluded(settings: Settings, days: pd.DataFrame, year: int) -> str:
    """Return the fingerprint of the airport-days that are not used for fitting at present."""
    return exclusions.fingerprint(_with_exclusions(settings, days, year))


def _frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas(date_as_object=False)
    return frame


def _with_detector(verdicts: pa.Table, name: str) -> pa.Table:
    place = schemas.WAREHOUSE_ANOMALIES.get_field_index("detector")
    field = schemas.WAREHOUSE_ANOMALIES.field(place)
    return verdicts.add_column(place, field, pa.array([name] * verdicts.num_rows, pa.string()))


def _with_exclusions(settings: Settings, days: pd.DataFrame, year: int) -> pd.DataFrame:
    """Return the airport-days with `is_excluded` and `is_expected`; without a warehouse there is no feedback."""
    expected = pd.DataFrame({"origin": [], "fl_date": []})
    if settings.warehouse:
        with closing(DBHandler(settings.warehouse)) as warehouse:
            said = warehouse.feedback(year)
        expected = said[said["opinion"] == "expected"]
    return days.assign(**exclusions.exclusions(days, exclusions.read(INCIDENTS_FILE), expected))


def _read_gold(settings: Settings, tables: Gold) -> tuple[pa.Table, dict[str, pa.Table]]:
    """Return the year's airport-days and, by detector, the verdicts that were made from exactly these.

    Raises Missing when the airport-days are not of the silver that is there, and when the published detector has not
    judged them. Any other detector that has not is left out: an old verdict beside a new day would mislead.
    """
    days = tables.airport_days.read()
    names = [name for name in detector_names(settings) if name in tables.anomalies]
    verdicts = {
        name: tables.anomalies[name].read()
        for name in names
        if name == detectors.PUBLISHED or tables.anomalies[name].state is State.CURRENT
    }
    return days, verdicts


def _report(lake: Lake, year: int, days: pa.Table) -> dict[str, Any]:
    """The year's quality report, compared with the airports of the year before as they are in gold now.

    When the year before comes or changes later, running `upsert` and `publish` of this year again brings that in.
    """
    return quality.with_airports(lake.read_quality(year), _airports(days), _airports_of(lake, year - 1))


def _airports_of(lake: Lake, year: int) -> list[str] | None:
    """Airports of a year, None when its gold is not in the lake or is damaged, which is not this year's fault."""
    try:
        return _airports(lake.read_table(keys.airport_days_key(year), ["origin"]))
    except (Missing, Damaged):
        return None


def _airports(days: pa.Table) -> list[str]:
    return list(pc.unique(days["origin"]).to_pylist())
