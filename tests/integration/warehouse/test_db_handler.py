"""DBHandler on a real Postgres: what upserts write, keep and refuse, also when two run at once.

tests/integration/faults/test_postgres.py loses the answer to a commit.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pandas as pd
import psycopg2
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.builders import (
    HOSTILE_TEXTS,
    LATE,
    Row,
    airport_day_row,
    airport_days_table,
    event_day_row,
    event_row,
    factor_row,
    reason_row,
    table_of,
    verdict_row,
    verdicts_table,
)
from tests.conftest import database_of, sql
from tests.servers.startup import wait_until
from utils import schemas
from utils.db_handler import TABLES, Changes, DBHandler
from utils.errors import Busy, InvalidInput

WAITING = "SELECT 1 FROM pg_locks WHERE NOT granted"


def stored(url: str, table: str = "airport_days", year: int | None = None) -> list[Row]:
    with DBHandler(url) as handler:
        rows = pa.Table.from_pandas(handler.read(table, year), schema=TABLES[table].schema, preserve_index=False)
    return in_order(rows, table)


def in_order(rows: pa.Table, table: str = "airport_days") -> list[Row]:
    return sorted(rows.to_pylist(), key=lambda row: [row[name] for name in TABLES[table].key])


# --- the rows after an upsert -----------------------------------------------------------------------------------------

FRAMES = st.dictionaries(
    st.tuples(st.sampled_from(HOSTILE_TEXTS), st.sampled_from(["2018-01-01", "2018-12-31"])),
    st.fixed_dictionaries(
        {
            "mean_dep_delay_min": st.none() | st.floats(width=32, allow_nan=False),
            "max_dep_delay_min": st.none() | st.integers(-(2**15), 2**15 - 1),
            "scheduled": st.integers(0, 1) | st.just(2**31 - 1),
        }
    ),
    max_size=6,
)


@settings(max_examples=25, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(old=FRAMES, new=FRAMES)
def test_a_year_becomes_its_new_rows_and_equal_rows_are_not_touched(
    warehouse: str, old: dict[tuple[str, str], Row], new: dict[tuple[str, str], Row]
) -> None:
    def versions() -> dict[tuple[str, str], Any]:
        question = "SELECT origin, fl_date::text, ctid, xmin, xmax FROM flights.airport_days"
        return {(origin, day): version for origin, day, *version in sql(warehouse, question)}

    old_rows, new_rows = (
        airport_days_table(*(airport_day_row(*key, **columns) for key, columns in rows.items())) for rows in (old, new)
    )
    DBHandler(warehouse).upsert("airport_days", old_rows, 2018)
    before = versions()

    changes = DBHandler(warehouse).upsert("airport_days", new_rows, 2018)

    after, equal = versions(), {key for key in old.keys() & new.keys() if old[key] == new[key]}
    assert stored(warehouse) == in_order(new_rows)
    assert {key for key in after if after[key] == before.get(key)} == equal
    assert changes == Changes(
        inserted=len(new.keys() - old.keys()),
        updated=len(old.keys() & new.keys()) - len(equal),
        deleted=len(old.keys() - new.keys()),
        unchanged=len(equal),
    )


FULL: dict[str, Row] = {
    "airport_days": airport_day_row() | {name: 99 - n for n, name in enumerate(schemas.AIRPORT_DAYS.names[2:])},
    "anomalies": verdict_row("three_sigma", observed=60, expected=10.5, lower=-5, upper=25, **LATE),
    "anomaly_reasons": reason_row(
        scheduled=214, effective_delay_min=61.5, expected_effective_delay_min=18.25, disrupted_share=0.375,
        expected_disrupted_share=0.0625, delay_min=9000, usual_delay_min=2500, excess_delay_min=6500, cancelled=40,
        usual_cancelled=2, excess_cancelled=38, top_cause="weather", top_carrier="B6", top_destination="BOS",
    ),
    "anomaly_factors": factor_row("cause", "weather", delay_min=None, cancelled=None),
    "events": event_row(
        "20180101-JFK", "2018-01-01", "2018-01-02", airports=14, airport_days=20, latitude=41.5, longitude=-73.25,
        mean_effective_delay_min=80, scheduled=900, cancelled=400, kind="mixed",
    ),
    "event_days": event_day_row("20180101-JFK"),
    "bronze_quality": {
        "year": 2018, "bronze_key": "01_bronze/2018.csv", "bytes": 2**40, "sha256": "ab", "rows_read": 9,
        "rows_kept": 6, "rows_duplicate": 2, "rows_rejected": 1, "missing_days": 61, "missing_months": "10,11",
        "doubled_months": "", "report": '{"a": [1, null]}',
    },
}  # fmt: skip


@pytest.mark.parametrize("table", FULL)
def test_every_column_is_read_back_exactly(warehouse: str, table: str) -> None:
    rows = table_of(TABLES[table].schema, FULL[table])

    first, second = (DBHandler(warehouse).upsert(table, rows, 2018) for _ in range(2))

    assert (first.inserted, second.unchanged) == (1, 1)
    assert stored(warehouse, table, 2018) == [FULL[table]]
    assert stored(warehouse, table, 2017) == []


def test_rows_of_other_years_stay(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    for day in ("2017-12-31", "2018-01-01", "2019-01-01"):
        handler.upsert("airport_days", airport_days_table(airport_day_row("JFK", day)), int(day[:4]))
        handler.upsert("events", table_of(schemas.EVENTS, event_row(day, day)), int(day[:4]))

    handler.upsert("airport_days", airport_days_table(airport_day_row("LGA", "2018-12-31")), 2018)
    handler.upsert("events", schemas.EVENTS.empty_table(), 2018)

    assert handler.read("airport_days")["fl_date"].tolist() == [
        pd.Timestamp(day) for day in ("2017-12-31", "2019-01-01", "2018-12-31")
    ]
    assert handler.read("events")["event_id"].tolist() == ["2017-12-31", "2019-01-01"]


def test_one_detector_is_replaced_and_the_others_stay(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    for detector in ("delaywatch", "three_sigma"):
        both = verdicts_table(verdict_row(detector, "JFK"), verdict_row(detector, "LGA"))
        handler.upsert("anomalies", both, 2018, within={"detector": detector})

    late = verdicts_table(verdict_row("three_sigma", "JFK", **LATE))
    handler.upsert("anomalies", late, 2018, within={"detector": "three_sigma"})

    assert [(row["origin"], row["detector"], row["is_anomaly"]) for row in stored(warehouse, "anomalies")] == [
        ("JFK", "delaywatch", False),
        ("JFK", "three_sigma", True),
        ("LGA", "delaywatch", False),
    ]
    assert handler.count("anomalies", 2018, within={"detector": "delaywatch"}) == 2
    assert (handler.count("anomalies", 2018), handler.count("anomalies", 2017)) == (3, 0)
    assert (handler.detectors(2018), handler.detectors(2017)) == (["delaywatch", "three_sigma"], [])


def test_a_pandas_frame_gives_the_same_rows_as_an_arrow_table(warehouse: str) -> None:
    nan = float("nan")
    rows = airport_days_table(
        airport_day_row("JFK", max_dep_delay_min=5, mean_dep_delay_min=nan), airport_day_row("LGA")
    )
    frame = rows.to_pandas().astype({"origin": "category", "fl_date": "datetime64[ns]", "scheduled": "int64"})
    assert frame["max_dep_delay_min"].dtype == "float64"  # a column with a missing value

    DBHandler(warehouse).upsert("airport_days", rows, 2018)
    from_pandas = DBHandler(warehouse).upsert("airport_days", frame[frame.columns[::-1]], 2018)

    assert from_pandas == Changes(inserted=0, updated=0, deleted=0, unchanged=2)
    assert sql(warehouse, "SELECT mean_dep_delay_min FROM flights.airport_days") == [(None,), (None,)]


def test_settings_of_the_database_change_neither_writing_nor_reading(warehouse: str) -> None:
    for setting in ("datestyle = 'SQL, DMY'", "extra_float_digits = -10", "timezone = 'Asia/Tokyo'"):
        sql(warehouse, f"ALTER DATABASE {database_of(warehouse)} SET {setting}")
    third = pa.scalar(1 / 3, pa.float32()).as_py()
    rows = airport_days_table(airport_day_row("JFK", "2018-03-02", mean_dep_delay_min=third))

    DBHandler(warehouse).upsert("airport_days", rows, 2018)

    assert stored(warehouse) == rows.to_pylist()


@pytest.mark.parametrize(
    "last",
    [
        pytest.param(verdicts_table(verdict_row("three_sigma", severity=1)), id="refused by the server"),
        pytest.param(airport_days_table(airport_day_row()), id="other columns"),
    ],
)
def test_a_refused_last_table_leaves_the_first_unchanged(warehouse: str, last: pa.Table) -> None:
    DBHandler(warehouse).upsert("airport_days", airport_days_table(airport_day_row(scheduled=1)), 2018)

    with pytest.raises(InvalidInput, match="anomalies 2018"):
        DBHandler(warehouse).upsert_year(
            [("airport_days", airport_days_table(airport_day_row(scheduled=2)), {}), ("anomalies", last, {})], 2018
        )

    assert stored(warehouse) == [airport_day_row(scheduled=1)]


# --- changed verdicts -------------------------------------------------------------------------------------------------


def test_a_changed_severity_of_the_published_detector_is_recorded_once(warehouse: str) -> None:
    """The first upsert flags 1 and 2 January. The second has an extreme 1, an ordinary 2 and a new 3 January."""
    handler = DBHandler(warehouse)
    dates = ["2018-01-01", "2018-01-02", "2018-01-03"]
    first = [verdict_row("delaywatch", fl_date=day, **LATE) for day in dates[:2]]
    second = [first[0] | {"severity": 3, "direction": "closure"}, verdict_row("delaywatch", fl_date=dates[1])]
    second += [verdict_row("delaywatch", fl_date=dates[2], **LATE)]
    now = datetime(2026, 11, 20, 9, 0, 0, 250_000, tzinfo=UTC)

    def upsert(detector: str, rows: list[Row], minute: int) -> None:
        table = verdicts_table(*(row | {"detector": detector} for row in rows))
        at = now + timedelta(minutes=minute)
        handler.upsert_year([("anomalies", table, {"detector": detector})], 2018, published="delaywatch", now=at)

    for minute, rows in enumerate((first, second, second)):
        for detector in ("delaywatch", "three_sigma"):
            upsert(detector, rows, minute)

    columns = ("origin", "fl_date", "changed_at", "old_severity", "new_severity", "new_direction")
    at = now + timedelta(minutes=1)
    changes = [("JFK", date(2018, 1, 1), at, 2, 3, "closure"), ("JFK", date(2018, 1, 2), at, 2, 0, None)]
    assert stored(warehouse, "verdict_changes") == [dict(zip(columns, row, strict=True)) for row in changes]
    assert len(handler.verdict_changes(2018, since=at)) == 2
    assert handler.verdict_changes(2018, since=at + timedelta(microseconds=1)).empty
    assert handler.verdict_changes(2017, since=now).empty


# --- refused batches --------------------------------------------------------------------------------------------------

ONE_DAY = airport_days_table(airport_day_row())


@pytest.mark.parametrize(
    ("table", "frame", "named"),
    [
        ("airport_days", airport_days_table(airport_day_row("LGA", "2019-01-01")), "another year.*LGA, 2019-01-01"),
        ("events", table_of(schemas.EVENTS, event_row("a", "2017-12-31", "2018-01-01")), "1 row of another year.*a"),
        ("anomalies", verdicts_table(verdict_row("delaywatch")), "detector is not three_sigma"),
        ("airport_days", airport_days_table(*[airport_day_row()] * 2), "1 row more than once.*JFK, 2018-01-01"),
        ("airport_days", ONE_DAY.drop_columns(["nas_min"]), "missing: nas_min"),
        ("airport_days", ONE_DAY.to_pandas().assign(scheduled=1.5), "scheduled.*int32.*1.5"),
        ("airport_days", ONE_DAY.to_pandas().assign(scheduled=None), "scheduled"),
        ("airport_days", airport_days_table(airport_day_row(scheduled=1, cancelled=2)), "not_above_scheduled"),
        ("airport_days", airport_days_table(airport_day_row(cancelled_nas=-1)), "counts_not_negative"),
        ("anomalies", verdicts_table(verdict_row("three_sigma", is_anomaly=True)), "anomalies_flag_says_how"),
        ("anomalies", verdicts_table(verdict_row("three_sigma", status="fine")), "anomalies_status_known"),
        ("anomaly_reasons", table_of(schemas.ANOMALY_REASONS, reason_row(disrupted_share=38.0)), "shares_are_shares"),
        ("anomaly_factors", table_of(schemas.ANOMALY_FACTORS, factor_row("cause", "snow")), "factors_cause_known"),
        ("bronze_quality", table_of(schemas.BRONZE_QUALITY, FULL["bronze_quality"] | {"rows_read": 8}), "rows_add_up"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_and_changes_nothing(
    warehouse: str, table: str, frame: pa.Table | pd.DataFrame, named: str
) -> None:
    within = {"detector": "three_sigma"} if table == "anomalies" else {}
    DBHandler(warehouse).upsert("airport_days", airport_days_table(airport_day_row("ABQ")), 2018)
    before = stored(warehouse, table)

    with pytest.raises(InvalidInput, match=named):
        DBHandler(warehouse).upsert(table, frame, 2018, within=within)

    assert stored(warehouse, table) == before


# --- other sessions ---------------------------------------------------------------------------------------------------


def test_two_upserts_of_one_year_queue_and_another_year_does_not_wait(warehouse: str) -> None:
    two_days = airport_days_table(airport_day_row(scheduled=1), airport_day_row(fl_date="2018-01-02"))
    DBHandler(warehouse).upsert("airport_days", ONE_DAY, 2018)
    with ThreadPoolExecutor() as pool, closing(psycopg2.connect(warehouse)) as other, other.cursor() as cursor:
        cursor.execute("SELECT 1 FROM flights.airport_days FOR UPDATE")
        first = pool.submit(DBHandler(warehouse).upsert, "airport_days", two_days, 2018)
        wait_until(lambda: sql(warehouse, WAITING), "the upsert waits for the row")
        second = pool.submit(DBHandler(warehouse).upsert, "airport_days", ONE_DAY, 2018)
        wait_until(lambda: sql(warehouse, f"{WAITING} AND locktype = 'advisory'"), "the upsert waits for the other")
        other_year = DBHandler(warehouse).upsert("airport_days", airport_days_table(), 2019)
        other.commit()

    assert other_year == Changes(0, 0, 0, 0)
    assert first.result() == Changes(inserted=1, updated=1, deleted=0, unchanged=0)
    assert second.result() == Changes(inserted=0, updated=1, deleted=1, unchanged=0)
    assert stored(warehouse) == ONE_DAY.to_pylist()


def test_a_row_that_another_session_inserts_at_the_same_moment_is_busy(warehouse: str) -> None:
    values = {name: f"'{value}'" for name, value in airport_day_row(scheduled=99).items() if value is not None}
    with ThreadPoolExecutor() as pool, closing(psycopg2.connect(warehouse)) as other, other.cursor() as cursor:
        cursor.execute(f"INSERT INTO flights.airport_days ({', '.join(values)}) VALUES ({', '.join(values.values())})")
        ours = pool.submit(DBHandler(warehouse).upsert, "airport_days", ONE_DAY, 2018)
        wait_until(lambda: sql(warehouse, WAITING), "the upsert waits for the row")
        other.commit()

        with pytest.raises(Busy, match="airport_days 2018"):
            ours.result()

    assert stored(warehouse) == [airport_day_row(scheduled=99)]
    assert DBHandler(warehouse).upsert("airport_days", ONE_DAY, 2018).updated == 1


def test_a_lock_that_another_session_holds_for_too_long_is_busy(warehouse: str) -> None:
    with closing(psycopg2.connect(warehouse)) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE flights.airport_days IN SHARE MODE")

        with pytest.raises(Busy, match="airport_days 2018 for more than 1 s"):
            DBHandler(warehouse, lock_timeout_s=1).upsert("airport_days", ONE_DAY, 2018)

    assert stored(warehouse) == []


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_second_record_of_a_run_updates_only_its_columns(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    started, ended = datetime(2026, 11, 20, 9, 0, tzinfo=UTC), datetime(2026, 11, 20, 9, 5, 0, 250_000, tzinfo=UTC)

    handler.record_run({"run_id": "manual__1", "year": 2018, "code_version": "0.1.0", "started": started})
    handler.record_run({"run_id": "manual__1", "year": 2018, "ended": ended, "rows": {"silver": [10, 9]}})
    handler.record_run({"run_id": "manual__2", "year": 2017})

    (run,) = handler.read("runs", 2018)[["run_id", "code_version", "started", "ended", "rows"]].to_numpy().tolist()
    assert run == ["manual__1", "0.1.0", pd.Timestamp(started), pd.Timestamp(ended), '{"silver": [10, 9]}']
