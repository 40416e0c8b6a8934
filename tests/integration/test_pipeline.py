"""A year end to end: twice changes nothing, the next run repairs a killed one, a failed one leaves what was there."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.bronze import csv_of, flight, year_of_flights
from tests.conftest import sql
from utils import gold, pipeline
from utils import lake as keys
from utils.db_handler import DBHandler
from utils.errors import DelaywatchError
from utils.lake import Lake
from utils.settings import Settings
from utils.stores import FolderStore

ROOT = Path(__file__).parents[2]
YEAR = 2015
CLOSED = [("JFK", "2015-02-08"), ("EWR", "2015-02-08")]


@pytest.fixture(scope="module")
def bronze() -> bytes:
    return csv_of(year_of_flights(YEAR, {"JFK": 24, "EWR": 16, "ACK": 3}, closed=CLOSED))


@pytest.fixture
def settings(lake_settings: Settings, warehouse: str) -> Settings:
    return dataclasses.replace(lake_settings, warehouse=warehouse)


def run(settings: Settings, year: int = YEAR) -> None:
    pipeline.write_silver(settings, year)
    pipeline.write_gold(settings, year)
    for name in pipeline.detector_names(settings):
        pipeline.write_anomalies(settings, year, name)
    pipeline.explain(settings, year)
    pipeline.upsert(settings, year)
    pipeline.write_plots(settings, year)
    pipeline.publish(settings, year, f"test__{year}", datetime(2016, 1, 1, tzinfo=UTC))


def everything(settings: Settings) -> dict[str, object]:
    """Every byte of the lake, and every row of the warehouse with the transaction that wrote it; runs are a log."""
    store = Lake(settings).store
    found: dict[str, object] = {key: store.get(key) for key in store.list("") if not key.startswith("_staging/")}
    for table in ("airport_days", "anomalies", "bronze_quality"):
        found[table] = sql(settings.warehouse, f"SELECT xmin::text, * FROM flights.{table} ORDER BY 2, 3, 4")
    return found


def test_a_year_goes_from_bronze_to_the_warehouse_and_the_page(settings: Settings, bronze: bytes) -> None:
    lake = Lake(settings)
    lake.store.put("01_bronze/2015.csv", bronze)
    run(settings)

    with closing(DBHandler(settings.warehouse)) as handler:
        days = handler.read("airport_days", YEAR)
        verdicts = handler.read("anomalies", YEAR)
    assert days["scheduled"].sum() == 365 * 43
    flagged = verdicts[(verdicts["detector"] == "delaywatch") & verdicts["is_anomaly"]]
    closures = flagged[flagged["direction"] == "closure"]
    assert {(row.origin, str(row.fl_date)[:10]) for row in closures.itertuples()} == {
        (origin, day) for origin, day in CLOSED
    }
    (view,) = sql(settings.warehouse, "SELECT id, verdict FROM flights.agg_dep_delay_by_date WHERE id = 'JFK20150208'")
    assert view == ("JFK20150208", "closure")
    assert len(list(lake.read_plots(YEAR))) == 6
    page = lake.store.get(keys.year_page_key(YEAR)) or b""
    assert b"JFK" in page
    assert sql(settings.warehouse, "SELECT year, rows->>'kept' FROM flights.runs") == [(YEAR, str(365 * 43))]


def test_the_sums_beside_silver_are_those_of_silver(lake_settings: Settings, bronze: bytes) -> None:
    lake = Lake(lake_settings)
    lake.store.put("01_bronze/2015.csv", bronze)
    pipeline.write_silver(lake_settings, YEAR)

    assert gold.sums_of(lake.read_silver(YEAR), YEAR).equals(lake.read_sums(YEAR))


def test_running_a_year_twice_changes_no_byte_and_no_row(settings: Settings, bronze: bytes) -> None:
    Lake(settings).store.put("01_bronze/2015.csv", bronze)
    run(settings)
    before = everything(settings)
    run(settings)

    assert everything(settings) == before


def airports_in_the_warehouse(settings: Settings, year: int) -> tuple[object, object]:
    """Which airports are new and which are gone, in the quality report of the warehouse."""
    wanted = "report->'airports_new', report->'airports_gone'"
    (found,) = sql(settings.warehouse, f"SELECT {wanted} FROM flights.bronze_quality WHERE year = {year}")
    return found[0], found[1]


def test_years_do_not_touch_each_other_and_the_next_one_names_new_and_gone_airports(
    settings: Settings, bronze: bytes
) -> None:
    lake = Lake(settings)
    lake.store.put("01_bronze/2015.csv", bronze)
    run(settings)
    before = everything(settings)
    lake.store.put("01_bronze/2016.csv", csv_of(year_of_flights(2016, {"JFK": 6, "LGA": 6})))
    run(settings, 2016)

    after = everything(settings)
    assert {
        key: after[key] for key in before if key not in ("airport_days", "anomalies", "bronze_quality")
    }.items() <= before.items()
    assert airports_in_the_warehouse(settings, 2016) == (["LGA"], ["ACK", "EWR"])
    assert b"ACK, EWR" in (lake.store.get(keys.year_page_key(2016)) or b"")
    assert airports_in_the_warehouse(settings, YEAR) == (None, None)


def test_silver_does_not_depend_on_the_order_in_which_years_are_run(folder_settings: Settings, bronze: bytes) -> None:
    store = Lake(folder_settings).store
    store.put("01_bronze/2015.csv", bronze)
    store.put("01_bronze/2016.csv", csv_of(year_of_flights(2016, {"JFK": 6, "LGA": 6})))
    pipeline.write_silver(folder_settings, 2016)
    alone = store.get(keys.quality_key(2016))
    pipeline.write_silver(folder_settings, YEAR)
    pipeline.write_gold(folder_settings, YEAR)
    pipeline.write_silver(folder_settings, 2016)

    assert store.get(keys.quality_key(2016)) == alone


def test_a_damaged_year_before_leaves_its_airports_unknown_and_the_year_goes_on(
    folder_settings: Settings, warehouse: str, bronze: bytes
) -> None:
    settings = dataclasses.replace(folder_settings, warehouse=warehouse)
    store = Lake(settings).store
    store.put("01_bronze/2015.csv", bronze)
    store.put(keys.airport_days_key(YEAR - 1), b"no parquet")
    run(settings)

    assert airports_in_the_warehouse(settings, YEAR) == (None, None)


def test_a_corrected_file_replaces_the_year_and_leaves_nothing_of_the_old_one(
    settings: Settings, bronze: bytes
) -> None:
    lake = Lake(settings)
    lake.store.put("01_bronze/2015.csv", bronze)
    run(settings)
    lake.store.put("01_bronze/2015.csv", csv_of(year_of_flights(YEAR, {"JFK": 12}, seed=2)))
    run(settings)

    assert sql(settings.warehouse, "SELECT DISTINCT origin FROM flights.airport_days") == [("JFK",)]
    assert sql(settings.warehouse, "SELECT count(*), count(DISTINCT origin) FROM flights.anomalies") == [(365 * 3, 1)]
    assert {origin for origin, _, _ in lake.read_plots(YEAR)} == {"JFK"}
    assert len(lake.silver_parts(YEAR)) == len(
        [key for key in lake.store.list(keys.silver_folder(YEAR)) if "part-" in key]
    )


BROKEN = {
    "empty": b"",
    "wrong header": b"not,the,header\n1,2,3\n",
    "no flights": csv_of([]),
    "another year": csv_of([flight(FL_DATE="2014-05-01")]),
    "cut": csv_of([flight()])[:-60],
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_leaves_the_year_as_it_was(lake_settings: Settings, bronze: bytes, kind: str) -> None:
    store = Lake(lake_settings).store
    store.put("01_bronze/2015.csv", bronze)
    pipeline.write_silver(lake_settings, YEAR)
    before = files(lake_settings)
    store.put("01_bronze/2015.csv", BROKEN[kind])

    with pytest.raises(DelaywatchError, match=r"01_bronze/2015\.csv"):
        pipeline.write_silver(lake_settings, YEAR)
    assert files(lake_settings) == before | {"01_bronze/2015.csv": BROKEN[kind]}


def test_a_doubled_and_a_missing_month_are_in_the_report_and_in_the_warehouse(
    folder_settings: Settings, warehouse: str
) -> None:
    settings = dataclasses.replace(folder_settings, warehouse=warehouse)
    rows = [row for row in year_of_flights(2009, {"JFK": 6}) if not row["FL_DATE"].startswith("2009-10")]
    september = [row for row in rows if row["FL_DATE"].startswith("2009-09")]
    Lake(settings).store.put("01_bronze/2009.csv", csv_of([*rows, *september]))
    run(settings, 2009)

    report = Lake(settings).read_quality(2009)
    assert (report["doubled_months"], report["missing_months"], report["rows_duplicate"]) == ([9], [10], 180)
    assert any("October 2009" in warning for warning in report["warnings"])
    columns = "doubled_months, missing_months, missing_days, report->>'rows_read'"
    assert sql(warehouse, f"SELECT {columns} FROM flights.bronze_quality") == [("9", "10", 31, str(334 * 6 + 180))]


def test_a_warehouse_that_lost_rows_is_not_published(folder_settings: Settings, warehouse: str, bronze: bytes) -> None:
    settings = dataclasses.replace(folder_settings, warehouse=warehouse)
    Lake(settings).store.put("01_bronze/2015.csv", bronze)
    run(settings)
    sql(warehouse, "DELETE FROM flights.anomalies WHERE origin = 'ACK' AND detector = 'three_sigma'")

    told = r"anomalies of three_sigma: 1095 in gold, 730 in the warehouse.*run the upsert step again"
    with pytest.raises(DelaywatchError, match=told):
        pipeline.publish(settings, YEAR, "again", datetime(2016, 1, 1, tzinfo=UTC))


# --- leftovers of older data --------------------------------------------------------------------------------------


OTHER = csv_of([*year_of_flights(YEAR, {"JFK": 12}, seed=2), flight(ORIGIN="")])  # one row that is rejected
NAMES = ["delaywatch", "isolation_forest", "three_sigma"]


def detectors_in(url: str) -> list[str]:
    return [name for (name,) in sql(url, "SELECT DISTINCT detector FROM flights.anomalies ORDER BY 1")]


@pytest.fixture
def done(folder_settings: Settings, warehouse: str, bronze: bytes) -> Settings:
    """A lake in a folder and a warehouse, both with the whole year."""
    settings = dataclasses.replace(folder_settings, warehouse=warehouse)
    Lake(settings).store.put("01_bronze/2015.csv", bronze)
    run(settings)
    return settings


def replace_gold(settings: Settings) -> None:
    Lake(settings).store.put("01_bronze/2015.csv", OTHER)
    pipeline.write_silver(settings, YEAR)
    pipeline.write_gold(settings, YEAR)


@pytest.mark.parametrize("step", ["upsert", "plots", "publish"])
def test_published_verdicts_of_older_gold_are_refused(done: Settings, step: str) -> None:
    before = sql(done.warehouse, "SELECT xmin::text, * FROM flights.airport_days ORDER BY 2, 3")
    replace_gold(done)

    with pytest.raises(DelaywatchError, match=r"no verdicts of delaywatch .*; run the detect step of 2015\."):
        STEPS[step](done)
    assert sql(done.warehouse, "SELECT xmin::text, * FROM flights.airport_days ORDER BY 2, 3") == before
    assert set(pipeline.status(done)[0]["detectors"].values()) == {"stale"}


def test_other_verdicts_of_older_gold_leave_the_warehouse_and_the_page(done: Settings) -> None:
    assert detectors_in(done.warehouse) == NAMES
    assert b"three_sigma" in (Lake(done).store.get(keys.year_page_key(YEAR)) or b"")
    replace_gold(done)
    pipeline.write_anomalies(done, YEAR, "delaywatch")
    for step in ("upsert", "plots", "publish"):
        STEPS[step](done)

    assert detectors_in(done.warehouse) == ["delaywatch"]
    assert b"three_sigma" not in (Lake(done).store.get(keys.year_page_key(YEAR)) or b"")
    assert pipeline.status(done)[0]["detectors"] == {
        "delaywatch": "current", "isolation_forest": "stale", "three_sigma": "stale",
    }  # fmt: skip


def test_verdicts_that_were_made_again_from_the_same_gold_stay_published(done: Settings) -> None:
    pipeline.write_silver(done, YEAR)
    pipeline.write_gold(done, YEAR)
    pipeline.write_anomalies(done, YEAR, "delaywatch")
    pipeline.upsert(done, YEAR)

    assert detectors_in(done.warehouse) == NAMES


def test_a_detector_that_this_release_does_not_have_leaves_the_warehouse(done: Settings) -> None:
    store = Lake(done).store
    store.put(keys.anomalies_key(YEAR, "retired"), store.get(keys.anomalies_key(YEAR, "three_sigma")) or b"")
    sql(
        done.warehouse,
        "CREATE TEMPORARY TABLE old AS SELECT * FROM flights.anomalies WHERE detector = 'three_sigma';"
        "UPDATE old SET detector = 'retired'; INSERT INTO flights.anomalies SELECT * FROM old",
    )

    with pytest.raises(DelaywatchError, match=r"anomalies of retired: 0 in gold, 1095 in the warehouse"):
        STEPS["publish"](done)
    pipeline.upsert(done, YEAR)
    STEPS["publish"](done)

    assert detectors_in(done.warehouse) == NAMES
    assert pipeline.status(done)[0]["detectors"]["retired"] == "stale"


def test_gold_of_older_silver_is_not_published_beside_the_new_quality_report(done: Settings) -> None:
    Lake(done).store.put("01_bronze/2015.csv", OTHER)
    pipeline.write_silver(done, YEAR)

    with pytest.raises(DelaywatchError, match=r"made from another silver .*; run the gold step of 2015 again"):
        pipeline.upsert(done, YEAR)


def test_wherever_writing_silver_fails_the_warehouse_gets_the_old_year_or_a_sentence(
    done: Settings, bronze: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call that changes the lake fails in turn; S3 and disks fail there too, but not when a test wants it."""
    store = Lake(done).store
    before, rows = files(done), everything(done)
    told = []
    for patience in itertools.count():
        store.put("01_bronze/2015.csv", OTHER)
        with monkeypatch.context() as patched:
            fail_after(patience, patched)
            try:
                pipeline.write_silver(done, YEAR)
            except DelaywatchError as error:
                assert str(error) == "The lake is gone."
            else:
                break
        try:
            pipeline.upsert(done, YEAR)
        except DelaywatchError as error:
            told.append(str(error).partition("; ")[2])
        else:
            told.append("the old year")
            assert before.items() <= (files(done) | {"01_bronze/2015.csv": bronze}).items()
            assert everything(done).items() >= {key: rows[key] for key in ("airport_days", "bronze_quality")}.items()
        store.put("01_bronze/2015.csv", bronze)
        pipeline.write_silver(done, YEAR)
        assert files(done) == before
        pipeline.upsert(done, YEAR)
        assert everything(done) == rows

    assert told == [
        "the old year",  # its part was not put
        "the old year",  # its sums were not put
        "the old year",  # its quality report was not put
        "run the silver step of 2015 again.",  # its rejected rows were not put
        "run the silver step of 2015 again.",  # its manifest was not put
        "run the gold step of 2015 again.",  # the old parts were not removed
    ]


def fail_after(calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let so many calls that change a lake in a folder through, and none after them."""
    left = itertools.count(calls, -1)

    def failing(original: Callable[..., None]) -> Callable[..., None]:
        def call(*given: object) -> None:
            if next(left) <= 0:
                raise DelaywatchError("The lake is gone.")
            original(*given)

        return call

    for name in ("put", "adopt", "delete"):
        monkeypatch.setattr(FolderStore, name, failing(getattr(FolderStore, name)))


@pytest.mark.parametrize("damaged", [b"", b'{"year": 2015,', b"\xff\xfe", b"[]", b"{}"])
def test_a_damaged_manifest_is_named_and_mended_by_the_silver_step(done: Settings, damaged: bytes) -> None:
    before = files(done)
    Lake(done).store.put(keys.manifest_key(YEAR), damaged)

    told = r"year=2015/_manifest\.json in .* is damaged; delete it and run the silver step of 2015 again\."
    for step in (STEPS["gold"], STEPS["upsert"], STEPS["publish"], pipeline.status):
        with pytest.raises(DelaywatchError, match=told):
            step(done)
    pipeline.write_silver(done, YEAR)
    assert files(done) == before


def test_a_damaged_quality_report_is_named_and_mended_by_the_silver_step(done: Settings) -> None:
    before = files(done)
    Lake(done).store.put(keys.quality_key(YEAR), b'{"year": 20')

    for step in ("upsert", "publish"):
        with pytest.raises(
            DelaywatchError, match=r"quality\.json in .* is damaged .*; run the silver step of 2015 again"
        ):
            STEPS[step](done)
    pipeline.write_silver(done, YEAR)
    assert files(done) == before


def test_a_part_that_was_cut_is_written_again_and_a_whole_one_is_not(done: Settings) -> None:
    before = files(done)
    root = Path(unquote(urlsplit(done.lake).path))
    (cut,) = Lake(done).silver_parts(YEAR)
    (whole,) = (key for key in before if "/_sums-" in key)
    untouched = (root / whole).stat()
    (root / cut).write_bytes((before[cut] or b"")[:300])
    pipeline.write_silver(done, YEAR)

    assert files(done) == before
    assert ((root / whole).stat().st_ino, (root / whole).stat().st_mtime_ns) == (
        untouched.st_ino,
        untouched.st_mtime_ns,
    )


def test_upsert_logs_one_line_that_says_what_changed(done: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "utils")
    pipeline.upsert(done, YEAR)

    (line,) = caplog.messages
    assert line.startswith(
        "2015: airport_days: 0 inserted, 0 updated, 0 deleted, 1,095 unchanged; anomalies of delaywatch"
    )


@pytest.mark.parametrize(
    ("asked", "start", "year"),
    [
        (2013, datetime(2020, 1, 1, tzinfo=UTC), 2013),
        (None, datetime(2020, 1, 1, tzinfo=UTC), 2020),
        (None, None, 2025),
    ],
    ids=["asked for", "data interval", "neither"],
)
def test_the_year_of_a_run_is_the_one_asked_for_else_the_interval_s_else_the_last_complete_one(
    asked: int | None, start: datetime | None, year: int
) -> None:
    assert pipeline.year_of_run(asked, start, datetime(2026, 11, 20, tzinfo=UTC)) == year


@pytest.mark.parametrize("year", [1886, 1986, 2101, 3000])
def test_a_year_without_such_flights_is_refused(year: int) -> None:
    with pytest.raises(DelaywatchError, match=f"{year} is no year of this dataset"):
        pipeline.check_year(year)


# --- real processes, really killed and really out of space --------------------------------------------------------


STEPS: dict[str, Callable[[Settings], object]] = {
    "silver": lambda settings: pipeline.write_silver(settings, YEAR),
    "gold": lambda settings: pipeline.write_gold(settings, YEAR),
    "detect": lambda settings: [
        pipeline.write_anomalies(settings, YEAR, name) for name in ("three_sigma", "delaywatch")
    ],
    "upsert": lambda settings: pipeline.upsert(settings, YEAR),
    "plots": lambda settings: pipeline.write_plots(settings, YEAR),
    "publish": lambda settings: pipeline.publish(settings, YEAR, "killed", datetime(2016, 1, 1, tzinfo=UTC)),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_is_killed_is_repaired_by_the_next_run(
    folder_settings: Settings, warehouse: str, bronze: bytes, step: str
) -> None:
    """SIGKILL after a growing while, until the step got through; then one run gives what an untouched lake gives."""
    settings = dataclasses.replace(folder_settings, warehouse=warehouse)
    store = Lake(settings).store
    store.put("01_bronze/2015.csv", csv_of(year_of_flights(YEAR, {"JFK": 12}, seed=2)))
    for run_step in STEPS.values():
        run_step(settings)
    store.put("01_bronze/2015.csv", bronze)  # every step has something to change now

    names = list(STEPS)
    for before in names[: names.index(step)]:
        STEPS[before](settings)
    killed, patience_s = 0, 0.004
    while True:
        process = multiprocessing.get_context("fork").Process(target=STEPS[step], args=(settings,))
        process.start()
        process.join(patience_s)
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        killed += 1
        patience_s *= 1.7
    assert process.exitcode == 0
    assert killed > 0
    for name in names:
        STEPS[name](settings)

    untouched = dataclasses.replace(settings, lake=f"{settings.lake}-untouched")
    Lake(untouched).store.put("01_bronze/2015.csv", bronze)
    for name in names:
        STEPS[name](untouched)
    assert files(settings) == files(untouched)
    assert sql(warehouse, "SELECT count(*) FROM flights.airport_days") == [(365 * 3,)]


def files(settings: Settings) -> dict[str, bytes | None]:
    store = Lake(settings).store
    return {key: store.get(key) for key in store.list("") if not key.endswith(".lock")}


def start_silver(settings: Settings) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "dags"), "DELAYWATCH_LAKE": settings.lake, "COLUMNS": "400"}
    line = [sys.executable, "-m", "utils", "silver", "--year", str(YEAR)]
    return subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def test_a_disk_that_fills_while_silver_is_written_keeps_the_old_year(tmp_path: Path, bronze: bytes) -> None:
    """The lake is on a small tmpfs, mounted for this process only; that needs root, as in CI and in a container."""
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    small, large = tmp_path / "small.csv", tmp_path / "large.csv.gz"
    small.write_bytes(csv_of(year_of_flights(YEAR, {"JFK": 4})))
    large.write_bytes(
        gzip.compress(csv_of(year_of_flights(YEAR, {f"AA{letter}": 20 for letter in "BCDEFGHIJKLMNOPQRSTU"})), 9)
    )
    lake = tmp_path / "lake"
    lake.mkdir()
    python = f"{sys.executable} -m utils"
    room = small.stat().st_size + large.stat().st_size + 400_000
    script = f"""
set -u
mount -t tmpfs -o size={room} tmpfs {lake}
mkdir {lake}/01_bronze && cp {small} {lake}/01_bronze/2015.csv
{python} silver --year 2015 --lake file://{lake} || exit 90
sha256sum {lake}/02_silver/flights/year=2015/* > {tmp_path}/before
rm {lake}/01_bronze/2015.csv && cp {large} {lake}/01_bronze/2015.csv.gz || exit 91
head -c {small.stat().st_size} /dev/urandom > {lake}/other-data
{python} silver --year 2015 --lake file://{lake}
code=$?
sha256sum --check --quiet {tmp_path}/before || exit 92
test -z "$(find {lake}/_staging -type f -not -name '*.lock')" || exit 93
exit $code
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "dags"), "COLUMNS": "400"}
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", script], env=environment, check=False, capture_output=True, text=True
    )

    assert done.returncode == 1, done.stderr
    assert "No space left on the disk" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_processes_that_write_one_year_at_once_do_not_mix(
    folder_settings: Settings, warehouse: str, bronze: bytes
) -> None:
    settings = dataclasses.replace(folder_settings, warehouse=warehouse)
    lake = Lake(settings)
    lake.store.put("01_bronze/2015.csv", bronze)
    processes = [start_silver(settings) for _ in range(2)]
    told = [process.communicate(timeout=60)[1] for process in processes]

    for process, errors in zip(processes, told, strict=True):
        assert process.returncode == 0 or "Another run is writing 2015" in errors
    assert 0 in [process.returncode for process in processes]
    assert sum(table.num_rows for table in lake.read_silver(YEAR)) == 365 * 43
