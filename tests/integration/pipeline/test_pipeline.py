"""A year end to end: from bronze to the warehouse and the page, again, corrected, broken, beside other years."""

from __future__ import annotations

import re
from contextlib import closing

import pytest

from tests.builders import csv_of, flight, year_of_flights
from tests.conftest import sql
from tests.integration.conftest import BUCKET_WHEN_SLOW
from tests.steps import BRONZE, BRONZE_KEY, CLOSED, OTHER_BRONZE, STEPS, YEAR, everything, files, run
from utils import detectors
from utils.db_handler import DBHandler
from utils.errors import DelaywatchError, Missing
from utils.layers import gold
from utils.pipeline import refine
from utils.settings import Settings
from utils.storage import keys
from utils.storage.lake import Lake


@pytest.fixture
def settings(lake_settings: Settings, warehouse: str) -> Settings:
    return lake_settings.replace(warehouse=warehouse)


def test_a_year_goes_from_bronze_to_the_warehouse_and_the_page(settings: Settings) -> None:
    lake = Lake(settings)
    lake.store.put(BRONZE_KEY, BRONZE)
    run(settings, detectors=detectors.NAMES)

    with closing(DBHandler(settings.warehouse)) as handler:
        days = handler.read("airport_days", YEAR)
        verdicts = handler.read("anomalies", YEAR)
    assert days["scheduled"].sum() == 365 * 43
    flagged = verdicts[(verdicts["detector"] == "delaywatch") & verdicts["is_anomaly"]]
    closures = flagged[flagged["direction"] == "closure"]
    assert {(row.origin, str(row.fl_date)[:10]) for row in closures.itertuples()} == {
        (origin, day) for origin, day in CLOSED
    }
    assert set(verdicts["detector"]) == set(detectors.NAMES)
    columns = "verdict, sentence, event_id, event"
    (view,) = sql(settings.warehouse, f"SELECT {columns} FROM flights.agg_dep_delay_by_date WHERE id = 'JFK20150208'")
    assert view[0] == "closure"
    assert view[1].startswith("JFK, Sun 8 Feb 2015, closure, severity extreme, ")
    assert "effective delay 92 min" in view[1]
    assert view[2:] == ("20150208-JFK", "2015-02-08 EWR and JFK, closure")
    assert len(list(lake.read_plots(YEAR))) == 6
    page = lake.store.get(keys.year_page_key(YEAR)) or b""
    assert b"2015-02-08 EWR and JFK, closure" in page
    assert view[1].encode() in page
    assert sql(settings.warehouse, "SELECT year, rows->>'kept' FROM flights.runs") == [(YEAR, str(365 * 43))]


def test_the_sums_beside_silver_are_those_of_silver(lake_settings: Settings) -> None:
    lake = Lake(lake_settings)
    lake.store.put(BRONZE_KEY, BRONZE)
    refine.write_silver(lake_settings, YEAR)

    assert gold.year_sums(lake.read_silver(YEAR), YEAR).equals(lake.read_sums(YEAR))


def test_sums_of_another_silver_are_refused_by_the_gold_step(lake_settings: Settings) -> None:
    store = Lake(lake_settings).store
    store.put(BRONZE_KEY, BRONZE)
    refine.write_silver(lake_settings, YEAR)
    sums = store.get(keys.sums_key(YEAR)) or b""
    store.put(BRONZE_KEY, OTHER_BRONZE)
    refine.write_silver(lake_settings, YEAR)
    store.put(keys.sums_key(YEAR), sums)

    with pytest.raises(Missing, match=re.escape(keys.sums_key(YEAR))):
        refine.write_gold(lake_settings, YEAR)


def test_running_a_year_twice_changes_no_byte_and_no_row(settings: Settings) -> None:
    Lake(settings).store.put(BRONZE_KEY, BRONZE)
    run(settings)
    before = everything(settings)
    run(settings)

    assert everything(settings) == before


def airports_in_the_warehouse(settings: Settings, year: int) -> tuple[object, object]:
    """Which airports are new and which are gone, in the quality report of the warehouse."""
    wanted = "report->'airports_new', report->'airports_gone'"
    (found,) = sql(settings.warehouse, f"SELECT {wanted} FROM flights.bronze_quality WHERE year = {year}")
    return found[0], found[1]


@BUCKET_WHEN_SLOW
def test_years_do_not_touch_each_other_and_the_next_one_names_new_and_gone_airports(settings: Settings) -> None:
    lake = Lake(settings)
    lake.store.put(BRONZE_KEY, BRONZE)
    run(settings)
    before = everything(settings)
    lake.store.put("01_bronze/2016.csv", csv_of(year_of_flights(2016, {"JFK": 6, "LGA": 6})))
    run(settings, 2016)

    assert before.items() <= everything(settings).items()
    assert airports_in_the_warehouse(settings, 2016) == (["LGA"], ["ACK", "EWR"])
    assert b"ACK, EWR" in (lake.store.get(keys.year_page_key(2016)) or b"")
    assert airports_in_the_warehouse(settings, YEAR) == (None, None)


def test_silver_does_not_depend_on_the_order_in_which_years_are_run(folder_settings: Settings) -> None:
    store = Lake(folder_settings).store
    store.put(BRONZE_KEY, BRONZE)
    store.put("01_bronze/2016.csv", csv_of(year_of_flights(2016, {"JFK": 6, "LGA": 6})))
    refine.write_silver(folder_settings, 2016)
    alone = store.get(keys.quality_key(2016))
    refine.write_silver(folder_settings, YEAR)
    refine.write_gold(folder_settings, YEAR)
    refine.write_silver(folder_settings, 2016)

    assert store.get(keys.quality_key(2016)) == alone


def test_a_damaged_year_before_leaves_its_airports_unknown_and_the_year_goes_on(
    folder_settings: Settings, warehouse: str
) -> None:
    settings = folder_settings.replace(warehouse=warehouse)
    store = Lake(settings).store
    store.put(BRONZE_KEY, BRONZE)
    store.put(keys.airport_days_key(YEAR - 1), b"no parquet")
    run(settings)

    assert airports_in_the_warehouse(settings, YEAR) == (None, None)


@BUCKET_WHEN_SLOW
def test_a_corrected_file_replaces_the_year_and_leaves_nothing_of_the_old_one(settings: Settings) -> None:
    lake = Lake(settings)
    lake.store.put(BRONZE_KEY, BRONZE)
    run(settings)
    lake.store.put(BRONZE_KEY, csv_of(year_of_flights(YEAR, {"JFK": 12}, seed=2)))
    run(settings)

    assert sql(settings.warehouse, "SELECT DISTINCT origin FROM flights.airport_days") == [("JFK",)]
    assert sql(settings.warehouse, "SELECT count(*), count(DISTINCT origin) FROM flights.anomalies") == [(365 * 2, 1)]
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
def test_a_broken_file_leaves_the_year_as_it_was(lake_settings: Settings, kind: str) -> None:
    store = Lake(lake_settings).store
    store.put(BRONZE_KEY, BRONZE)
    refine.write_silver(lake_settings, YEAR)
    before = files(lake_settings)
    store.put(BRONZE_KEY, BROKEN[kind])

    with pytest.raises(DelaywatchError, match=r"01_bronze/2015\.csv"):
        refine.write_silver(lake_settings, YEAR)
    assert files(lake_settings) == before | {BRONZE_KEY: BROKEN[kind]}


def test_a_doubled_and_a_missing_month_are_in_the_report_and_in_the_warehouse(
    folder_settings: Settings, warehouse: str
) -> None:
    settings = folder_settings.replace(warehouse=warehouse)
    rows = [row for row in year_of_flights(2009, {"JFK": 6}) if not row["FL_DATE"].startswith("2009-10")]
    september = [row for row in rows if row["FL_DATE"].startswith("2009-09")]
    Lake(settings).store.put("01_bronze/2009.csv", csv_of([*rows, *september]))
    run(settings, 2009)

    report = Lake(settings).read_quality(2009)
    assert (report["doubled_months"], report["missing_months"], report["rows_duplicate"]) == ([9], [10], 180)
    assert any("October 2009" in warning for warning in report["warnings"])
    columns = "doubled_months, missing_months, missing_days, report->>'rows_read'"
    assert sql(warehouse, f"SELECT {columns} FROM flights.bronze_quality") == [("9", "10", 31, str(334 * 6 + 180))]


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        (
            "anomalies WHERE origin = 'ACK' AND detector = 'three_sigma'",
            "anomalies of three_sigma: 1095 in gold, 730 in the warehouse",
        ),
        ("anomaly_reasons WHERE origin = 'JFK'", "anomaly_reasons: 2 in gold, 1 in the warehouse"),
    ],
)
def test_a_warehouse_that_lost_rows_is_not_published(done: Settings, lost: str, told: str) -> None:
    sql(done.warehouse, f"DELETE FROM flights.{lost}")

    with pytest.raises(DelaywatchError, match=rf"{told}.*run the upsert step again"):
        STEPS["publish"](done)


@pytest.mark.parametrize("year", [1886, 1986, 2101, 3000])
def test_a_year_without_such_flights_is_refused(year: int) -> None:
    with pytest.raises(DelaywatchError, match=f"{year} is not in this dataset"):
        keys.check_year(year)
