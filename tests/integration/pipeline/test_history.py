"""Last year is history of this year, and a year so far is scored so that later months change no verdict."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, date, datetime

import pandas as pd
import pyarrow as pa
import pytest

from tests import command
from tests.builders import Flight, csv_of, year_of_flights
from tests.conftest import sql
from tests.steps import BRONZE_KEY, DETECTORS, OTHER_BRONZE, STEPS, YEAR
from utils import detectors
from utils.db_handler import DBHandler
from utils.errors import InvalidInput, Missing
from utils.monitoring import health
from utils.pipeline import refine, refresh, status
from utils.settings import Settings, WatchSettings
from utils.storage import keys
from utils.storage.lake import Damaged, Lake
from utils.storage.parquet import encode

NEXT = YEAR + 1
CLOSED = [(origin, f"{NEXT}-{day}") for origin in ("JFK", "EWR") for day in ("01-05", "03-31", "05-31", "10-09")]
WITH_PAST_ONLY = [name for name in detectors.NAMES if detectors.has_past_only(name)]
UPSERTED = ("silver", "gold", "detect", "explain", "upsert")  # the steps of a run whose plots and pages do not matter
VERDICTS = "SELECT detector, origin, fl_date::text, a.xmin::text, a.*::text FROM flights.anomalies a"


def next_year() -> list[Flight]:
    """Flights of NEXT in date order. BTR opens in May, so airports and their order change during the year."""
    airports = {"JFK": 24, "EWR": 16, "ACK": 3}
    opening = [row for row in year_of_flights(NEXT, {"BTR": 8}, seed=7) if row["FL_DATE"] >= f"{NEXT}-05-10"]
    return sorted([*year_of_flights(NEXT, airports, seed=3, closed=CLOSED), *opening], key=lambda row: row["FL_DATE"])


def put_months(settings: Settings, flights: Sequence[Flight], last_month: int) -> None:
    """Replace bronze of NEXT by its months until `last_month`."""
    rows = [row for row in flights if int(row["FL_DATE"][5:7]) <= last_month]
    Lake(settings).store.put(f"01_bronze/{NEXT}.csv", csv_of(rows))


def run_steps(settings: Settings, *steps: str, names: Sequence[str] = DETECTORS) -> None:
    for step in steps:
        STEPS[step](settings, NEXT, names)


def verdicts(settings: Settings, year: int = NEXT) -> dict[str, pd.DataFrame]:
    """The verdicts in gold by detector, with airport and day as index."""
    lake = Lake(settings)
    return {
        name: lake.read_anomalies(year, name).to_pandas().set_index(["origin", "fl_date"])
        for name in lake.detectors_with_verdicts(year)
    }


def states(settings: Settings, year: int) -> set[str]:
    """The states of the year's detectors that `status` shows."""
    (row,) = (row for row in status.status(settings) if row["year"] == year)
    return set(row["detectors"].values())


@pytest.mark.parametrize(
    ("has_history", "months"),
    [
        pytest.param(True, (1, 3, 5, 11), id="with the year before"),
        pytest.param(True, range(1, 12), id="with the year before, every month", marks=pytest.mark.slow),
        pytest.param(False, (1, 2, 11), id="without it"),
    ],
)
def test_until_december_no_later_month_changes_a_verdict_in_lake_or_warehouse(
    done: Settings, has_history: bool, months: Sequence[int]
) -> None:
    if not has_history:
        Lake(done).store.delete([keys.airport_days_key(YEAR)])
    in_lake: dict[str, pd.DataFrame] = {}
    in_warehouse: set[tuple[object, ...]] = set()
    flights = next_year()
    for month in months:
        put_months(done, flights, month)
        run_steps(done, *UPSERTED, names=detectors.NAMES)
        before, in_lake = in_lake, verdicts(done)
        rows_before, in_warehouse = in_warehouse, set(sql(done.warehouse, VERDICTS))

        for name, earlier in before.items():
            pd.testing.assert_frame_equal(in_lake[name].loc[earlier.index], earlier, check_exact=True)
        assert rows_before <= in_warehouse

    flagged = {name: frame["is_anomaly"].sum() for name, frame in in_lake.items()}
    assert flagged["delaywatch"] >= 6
    assert flagged["isolation_forest"] == flagged["random_cut_forest"] == 0


def test_a_year_of_twelve_months_equals_the_year_run_at_once(done: Settings) -> None:
    names = [name for name in detectors.NAMES if name != "isolation_forest"]  # it is slow
    flights = next_year()
    at_once = done.replace(lake=f"{done.lake}-at-once")
    Lake(at_once).store.put(BRONZE_KEY, Lake(done).store.get(BRONZE_KEY) or b"")
    refine.write_silver(at_once, YEAR)
    refine.write_gold(at_once, YEAR)

    for month in (11, 12):
        put_months(done, flights, month)
        run_steps(done, "silver", "gold", "detect", "explain", names=names)
        is_so_far = verdicts(done)["random_cut_forest"]["status"].ne("ok").all()
        assert is_so_far == (month < 12)
    put_months(at_once, flights, 12)
    run_steps(at_once, "silver", "gold", "detect", "explain", names=names)

    gold = [
        {key: lake.store.get(key) for key in lake.store.list("03_gold/") if f"year={NEXT}" in key}
        for lake in (Lake(done), Lake(at_once))
    ]
    assert gold[0] == gold[1]


def test_with_history_january_is_scored_and_explained_and_history_is_not(
    done: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    put_months(done, next_year(), 1)
    run_steps(done, "silver", "gold", "detect", "explain", names=detectors.NAMES)

    for name, frame in verdicts(done).items():
        days = frame.index.get_level_values("fl_date")
        assert (days.min(), days.max()) == (date(NEXT, 1, 1), date(NEXT, 1, 31))
        scored = frame.loc[["JFK", "EWR"], "status"].eq("ok")
        assert scored.all() if name in WITH_PAST_ONLY else not scored.any()
        assert (f"{name} cannot score from earlier days only" in caplog.text) == (name not in WITH_PAST_ONLY)
    closed = [("JFK", date(NEXT, 1, 5))]
    verdict = verdicts(done)["delaywatch"].loc[closed]
    assert verdict["direction"].tolist() == ["closure"]
    reasons = Lake(done).read_table(keys.explanation_key(NEXT, "anomaly_reasons")).to_pandas()
    reason = reasons.set_index(["origin", "fl_date"]).loc[closed]
    assert reason["expected_effective_delay_min"].tolist() == verdict["expected"].tolist()


def test_after_a_change_of_a_year_the_next_is_stale_and_a_run_of_both_puts_it_right(done: Settings) -> None:
    put_months(done, next_year(), 2)
    run_steps(done, *UPSERTED)
    assert states(done, NEXT) == {"current"}
    before = verdicts(done)

    Lake(done).store.put(BRONZE_KEY, OTHER_BRONZE)
    refine.write_silver(done, YEAR)
    assert not status.has_old_history(done, NEXT)
    refine.write_gold(done, YEAR)

    assert states(done, NEXT) == {"stale"}
    assert status.has_old_history(done, NEXT)
    assert not status.has_old_history(done, NEXT + 1), "the lake does not have that year"
    run_steps(done, "explain", "upsert")  # a run of NEXT that is under way goes on with the history that it began with
    assert states(done, NEXT) == {"stale"}

    variables = {"DELAYWATCH_LAKE": done.lake, "DELAYWATCH_WAREHOUSE": done.warehouse}
    run = command.utils("run", "--year", f"{YEAR}:{NEXT}", **variables)

    assert run.returncode == 0, run.stderr
    assert states(done, YEAR) == states(done, NEXT) == {"current"}
    changed = verdicts(done)
    assert not changed["delaywatch"]["expected"].equals(before["delaywatch"]["expected"])


@pytest.mark.parametrize("has_manifest", [True, False], ids=["deleted by retention", "deleted by hand"])
def test_the_hourly_refresh_puts_a_year_with_an_old_history_right_also_without_its_flights(
    done: Settings, has_manifest: bool
) -> None:
    put_months(done, next_year(), 2)
    run_steps(done, *UPSERTED)
    Lake(done).store.put(BRONZE_KEY, OTHER_BRONZE)
    for step in UPSERTED:
        STEPS[step](done)
    Lake(done).store.delete(Lake(done).silver_parts(NEXT))
    if not has_manifest:
        Lake(done).store.delete([keys.manifest_key(NEXT)])
    assert refresh.stale_years(done) == [NEXT]

    refresh.refresh(done, NEXT, "scheduled", datetime.now(UTC))

    assert states(done, NEXT) == {"current"}
    assert refresh.stale_years(done) == []


def test_health_notices_that_verdicts_with_another_history_are_not_in_the_warehouse(done: Settings) -> None:
    def problems() -> list[str]:
        now = datetime(NEXT + 1, 3, 1, tzinfo=UTC)
        return [finding.sentence for finding in health.check(done, WatchSettings(), now) if not finding.is_well]

    put_months(done, next_year(), 1)
    run_steps(done, *STEPS, names=["delaywatch"])
    assert problems() == []
    Lake(done).store.put(BRONZE_KEY, OTHER_BRONZE)
    for step in STEPS.values():
        step(done)
    run_steps(done, "gold", "detect", "explain", names=["delaywatch"])
    assert len(problems()) == 1
    assert f"{NEXT} (verdicts with other settings or another history)" in problems()[0]

    run_steps(done, "upsert", "publish")

    assert problems() == []


def test_a_damaged_last_year_fails_the_gold_step_with_its_key(done: Settings) -> None:
    put_months(done, next_year(), 1)
    run_steps(done, "silver")
    key = keys.airport_days_key(YEAR)
    Lake(done).store.put(key, b"PAR1 and no more")

    with pytest.raises(Damaged, match=key):
        STEPS["gold"](done, NEXT)

    Lake(done).store.put(key, encode(pa.table({"origin": ["JFK"], "fl_date": [date(YEAR, 1, 1)]})))
    with pytest.raises(InvalidInput, match=f"{key}.*scheduled"):
        STEPS["gold"](done, NEXT)


def test_feedback_on_a_day_of_last_year_makes_this_year_stale_too(done: Settings) -> None:
    put_months(done, next_year(), 1)
    run_steps(done, "silver", "gold", "detect", "explain")
    assert states(done, NEXT) == {"current"}

    with closing(DBHandler(done.warehouse)) as warehouse:
        warehouse.give_feedback("JFK", date(YEAR, 12, 24), "expected", "", "ana")

    assert states(done, NEXT) == {"stale"}
    with pytest.raises(Missing, match=f"run the detect step of {NEXT}"):
        STEPS["explain"](done, NEXT)
    run_steps(done, "detect", "explain")
    assert states(done, NEXT) == {"current"}
