"""Convert the bronze CSV to silver, and silver to gold."""

from __future__ import annotations

import calendar
import ctypes
import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict

from utils import schemas
from utils.errors import within_memory
from utils.layers import columns, gold, ingest, quality
from utils.layers.engines import Engine, Threads
from utils.settings import Settings
from utils.storage import keys
from utils.storage.keys import check_year
from utils.storage.lake import Lake
from utils.storage.parquet import content_hash, encode, encode_json
from utils.storage.parts import LakeParts, LocalParts, PartStore

log = logging.getLogger(__name__)


def bronze_years(settings: Settings) -> list[int]:
    """Return the years with a CSV in the lake."""
    return Lake(settings).bronze_years()


def bronze_key(settings: Settings, year: int) -> str:
    """Return the key of the year's CSV. Raises DelaywatchError with the years in bronze if it does not exist."""
    return Lake(settings).bronze_key(check_year(year))


@within_memory
def write_silver(settings: Settings, year: int, progress: Callable[[int, int], None] | None = None) -> str:
    """Replace the year's silver, rejected rows and quality report from its CSV, in one pass."""
    lake = Lake(settings)
    with closing(lake.open_bronze(check_year(year))) as source, lake.staging(year) as folder:
        version = lake.silver_version(year)
        with _engine(settings, year, source.key) as engine:
            parts: PartStore = LocalParts(folder) if isinstance(engine, Threads) else LakeParts(lake.store, year)
            ingested = ingest.ingest_year(source, year, folder, engine, parts, progress)
        report = quality.report(year, source.key, ingested)
        # These are written after the manifest. If the commit fails in between, the new manifest does not match the
        # old report, so later steps refuse the year.
        companions = {
            keys.quality_key(year): encode_json(report),
            keys.sums_key(year): encode(ingested.sums),
            keys.rejected_key(year): encode(ingested.rejected),
        }
        files = [part.file for part in ingested.parts]
        staged = [(parts.path(file.name), file.name) for file in files]
        manifest = {
            "year": year,
            "rows": ingested.rows_kept,
            "bytes": sum(file.bytes for file in files),
            "parts": [asdict(file) for file in files],
            "sums": content_hash(companions[keys.sums_key(year)]),
            "quality": content_hash(companions[keys.quality_key(year)]),
            "rejected": content_hash(companions[keys.rejected_key(year)]),
            "input": {"key": source.key, "bytes": source.size, "etag": source.etag, "sha256": ingested.sha256},
        }
        lake.commit_silver(year, staged, manifest, companions, version=version)
    _give_freed_memory_back()
    log.info(
        "%s: %d rows read, %d kept, %d duplicate, %d rejected",
        *(source.key, ingested.rows_read, ingested.rows_kept, ingested.rows_duplicate, ingested.rejected.num_rows),
    )
    if report["so_far_to"]:
        log.info("%s: %d so far, to %s", source.key, year, calendar.month_name[report["so_far_to"]])
    for warning in report["warnings"]:
        log.warning("%s: %s", source.key, warning)
    return keys.manifest_key(year)


@contextmanager
def _engine(settings: Settings, year: int, source_key: str) -> Iterator[Engine]:
    """Yield the engine that the settings name, or threads if the file can only be read from its start."""
    if settings.engine == "spark" and source_key.endswith(".gz"):
        log.info("%s is compressed, so threads of this process read it instead of Spark", source_key)
    elif settings.engine == "spark":
        from utils import spark

        with spark.open_engine(f"Delaywatch silver {year}", settings.threads) as engine:
            yield engine
        return
    yield Threads(settings.threads)


def _give_freed_memory_back() -> None:
    """Return freed memory to the system. glibc keeps it otherwise, and the next step's memory would add to it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


@within_memory
def write_gold(settings: Settings, year: int) -> str:
    """Replace the year's airport-days, computed from the sums that `write_silver` wrote, and its history.

    The history is a copy of the airport-days of the year before. So all later steps of the year use the same history,
    also while a run of the year before replaces those airport-days.
    """
    lake = Lake(settings)
    _copy_history(lake, check_year(year))
    manifest = lake.manifest(year)
    days = gold.airport_days(lake.read_sums(year), year)
    flights = int(columns.to_numpy(columns.as_array(days["scheduled"])).sum())
    if flights != manifest["rows"]:
        raise AssertionError(f"gold {year} counts {flights} flights, silver has {manifest['rows']}")
    log.info("%d: %d airport-days of %d flights", year, days.num_rows, flights)
    return lake.write_table(keys.airport_days_key(year), days, manifest["sums"])


def _copy_history(lake: Lake, year: int) -> None:
    """Replace the year's history, or delete it if the year before has no airport-days.

    Raises Damaged if they cannot be decoded, and InvalidInput if they do not have the columns of AIRPORT_DAYS.
    """
    key = keys.airport_days_key(year - 1)
    history = lake.store.get(key)
    if history is None:
        lake.store.delete([keys.history_key(year)])
    else:
        schemas.check(lake.read_table(key), schemas.AIRPORT_DAYS, key)
        lake.store.put(keys.history_key(year), history)


def clear_scratch(settings: Settings, year: int) -> None:
    """Delete the files that an interrupted step of the year left in scratch space."""
    Lake(settings).clear_staging(check_year(year))
