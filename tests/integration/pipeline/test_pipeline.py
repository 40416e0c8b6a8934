"""A year from bronze to the warehouse and the page: once, twice, corrected, broken, beside other years."""

from __future__ import annotations

import re
from contextlib import closing

import pytest

from tests.builders import csv_of, flight, year_of_flights
from tests.conftest import sql
from tests.steps import BRONZE, BRONZE_KEY, CLOSED, OTHER_BRONZE, STEPS, YEAR, detectors_in, everything, files, run
from utils.analysis.attribution import stands_out
from utils.db_handler import DBHandler
from utils.errors import InvalidInput, Unavailable
from utils.pipeline import refine, status
from utils.settings import Settings
from utils.storage import keys
from utils.storage.lake import Lake


@pytest.fixture
def settings(folder_settings: Settings, warehouse: str) -> Settings:
    return folder_settings.replace(warehouse=warehouse)


def test_a_year_reaches_the_warehouse_and_the_page_and_a_second_run_changes_nothing(
    lake_settings: Settings, warehouse: str
) -> None:
    settings, lake = lake_settings.replace(warehouse=warehouse), Lake(lake_settings)
    lake.store.put(BRONZE_KEY, BRONZE)
    run(settings)

    with closing(DBHandler(warehouse)) as handler:
        days, verdicts = handler.read("airport_days", YEAR), handler.read("anomalies", YEAR)
    assert days["scheduled"].sum() == 365 * 43
    closures = verdicts[(verdicts["detector"] == "delaywatch") & (verdicts["direction"] == "closure")]
    assert sorted(zip(closures["origin"], closures["fl_date"].astype(str), strict=True)) == sorted(CLOSED)
    columns = "verdict, event_id, event, sentence"
    ((verdict, event_id, event, sentence),) = sql(
        warehouse, f"SELECT {columns} FROM flights.agg_dep_delay_by_date WHERE id = 'JFK20150208'"
    )
    assert (verdict, event_id) == ("closure", "20150208-JFK")
    assert event.startswith("2015-02-08 EWR and JFK")
    assert "EWR and JFK" in (lake.store.get(keys.site_year_key(YEAR)) or b"").decode()
    assert stands_out(sentence) in (lake.store.get(keys.site_key(f"airports/JFK/{YEAR}.html")) or b"").decode()
    assert len(list(lake.read_plots(YEAR))) == 6
    assert sql(warehouse, "SELECT year, rows->>'kept' FROM flights.runs") == [(YEAR, str(365 * 43))]

    before = everything(settings)
    run(settings)
    assert everything(settings) == before


def airports_compared(settings: Settings, year: int) -> tuple[object, object]:
    """The new and the gone airports in the quality report of the warehouse."""
    columns = "report->'airports_new', report->'airports_gone'"
    ((new, gone),) = sql(settings.warehouse, f"SELECT {columns} FROM flights.bronze_quality WHERE year = {year}")
    return new, gone


def test_a_year_leaves_other_years_alone_and_names_new_and_gone_airports(done: Settings) -> None:
    before = everything(done)
    lake = Lake(done)
    lake.store.put("01_bronze/2016.csv", csv_of(year_of_flights(2016, {"JFK": 6, "LGA": 6})))
    run(done, 2016)

    after = everything(done)
    shared = ("04_plots/index.html", "04_plots/site.json", f"04_plots/years/{YEAR}.html")
    changed = {key for key in before if before[key] != after.get(key)}
    assert changed <= {*shared, *(key for key in before if re.fullmatch(r"04_plots/airports/.*index\.html", key))}
    assert airports_compared(done, 2016) == (["LGA"], ["ACK", "EWR"])
    assert b"ACK, EWR" in (lake.store.get(keys.site_year_key(2016)) or b"")
    assert airports_compared(done, YEAR) == (None, None)


def test_a_corrected_file_replaces_every_trace_of_the_old_one(done: Settings) -> None:
    lake = Lake(done)
    lake.store.put(BRONZE_KEY, OTHER_BRONZE)
    run(done)

    assert sql(done.warehouse, "SELECT DISTINCT origin FROM flights.airport_days") == [("JFK",)]
    assert sql(done.warehouse, "SELECT count(*), count(DISTINCT origin) FROM flights.anomalies") == [(365 * 2, 1)]
    assert detectors_in(done.warehouse) == ["delaywatch", "three_sigma"]
    assert {origin for origin, _, _ in lake.read_plots(YEAR)} == {"JFK"}
    parts = [key for key in lake.store.list(keys.silver_folder(YEAR)) if "part-" in key]
    assert sorted(lake.silver_parts(YEAR)) == sorted(parts)
    assert b"ORIGIN" in (lake.store.get(keys.rejected_key(YEAR)) or b"")


def test_a_correction_of_earlier_days_and_a_new_month_record_only_the_verdicts_that_changed(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """January to May with a closed day; then to June, and the day is open."""
    lake = Lake(settings)
    closed, corrected = (year_of_flights(YEAR, {"JFK": 24}, closed=days) for days in (CLOSED, []))
    lake.store.put(BRONZE_KEY, csv_of([row for row in closed if row["FL_DATE"] < f"{YEAR}-06"]))
    run(settings)
    assert sql(settings.warehouse, "SELECT count(*) FROM flights.verdict_changes") == [(0,)]
    assert status.status(settings)[0]["so_far_to"] == "May"

    lake.store.put(BRONZE_KEY, csv_of([row for row in corrected if row["FL_DATE"] < f"{YEAR}-07"]))
    with caplog.at_level("INFO"):
        run(settings)

    columns = "origin, fl_date::text, old_severity, new_severity"
    changes = sql(settings.warehouse, f"SELECT {columns} FROM flights.verdict_changes")
    assert ("JFK", f"{YEAR}-02-08", 3, 0) in changes
    assert all(day < f"{YEAR}-06" for _, day, _, _ in changes)
    assert sql(settings.warehouse, "SELECT rows->>'verdicts_changed' FROM flights.runs") == [(str(len(changes)),)]
    assert f"JFK {YEAR}-02-08 from extreme to none" in caplog.text
    assert f"{YEAR} so far, to June" in caplog.text


BROKEN = {
    "empty": b"",
    "wrong header": b"not,the,header\n1,2,3\n",
    "cut": csv_of([flight()])[:-60],
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_leaves_the_year_as_it_was(done: Settings, kind: str) -> None:
    Lake(done).store.put(BRONZE_KEY, BROKEN[kind])
    before = files(done)

    with pytest.raises(InvalidInput, match=BRONZE_KEY):
        refine.write_silver(done, YEAR)
    assert files(done) == before


@pytest.mark.parametrize("step", STEPS)
def test_a_step_without_enough_memory_is_unavailable(
    done: Settings, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Lake, "__init__", fail)

    with pytest.raises(Unavailable, match=str(YEAR)):
        STEPS[step](done)


def test_a_doubled_and_a_missing_month_reach_the_warehouse(settings: Settings) -> None:
    rows = [row for row in year_of_flights(2009, {"JFK": 6}) if not row["FL_DATE"].startswith("2009-10")]
    september = [row for row in rows if row["FL_DATE"].startswith("2009-09")]
    Lake(settings).store.put("01_bronze/2009.csv", csv_of([*rows, *september]))
    run(settings, 2009)

    columns = "doubled_months, missing_months, missing_days, report->>'rows_read', report->>'rows_duplicate'"
    assert sql(settings.warehouse, f"SELECT {columns} FROM flights.bronze_quality") == [
        ("9", "10", 31, str(334 * 6 + 180), "180")
    ]
