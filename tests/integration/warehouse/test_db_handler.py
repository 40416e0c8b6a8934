"""DBHandler on a real Postgres: what an upsert writes, leaves alone and refuses, and what is left if it is stopped."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import psycopg2
import psycopg2.extensions
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders import LATE, Row
from tests.builders import airport_day_row as day
from tests.builders import airport_days_table as days
from tests.builders import verdict_row as verdict
from tests.builders import verdicts_table as verdicts
from tests.conftest import database_of, sql, wait_until
from tests.statements import Hook, before_each_statement
from utils import schemas
from utils.db_handler import RUNS, TABLES, Changes, DBHandler
from utils.errors import Busy, DelaywatchError, InvalidInput, Unavailable

# --- rows in view -----------------------------------------------------------------------------------------------------


def quality(year: int, **columns: Any) -> pa.Table:
    row = {field.name: 0 if pa.types.is_integer(field.type) else "" for field in schemas.BRONZE_QUALITY}
    return pa.Table.from_pylist([row | {"year": year, "report": "{}"} | columns], schema=schemas.BRONZE_QUALITY)


def stored(url: str, table: str = "airport_days", year: int | None = None) -> list[Row]:
    """The rows of a table as Python values, in the order of their key as Python sorts it."""
    with DBHandler(url) as handler:
        found = pa.Table.from_pandas(handler.read(table, year), schema=TABLES[table].schema, preserve_index=False)
    return in_order(found, table)


def in_order(rows: pa.Table, table: str = "airport_days") -> list[Row]:
    return sorted(rows.to_pylist(), key=lambda row: [row[name] for name in TABLES[table].key])


# --- upsert: what is there afterwards ---------------------------------------------------------------------------------


def test_what_was_written_is_read_back_exactly(warehouse: str) -> None:
    third = pa.scalar(1 / 3, pa.float32()).as_py()
    written = days(
        day("JFK", mean_dep_delay_min=third, std_dep_delay_min=1e-45, max_dep_delay_min=-3, scheduled=2**31 - 1),
        day("LGA", mean_dep_delay_min=-3.4028235e38, scheduled=7, departed=4, cancelled=3),
    )

    changes = DBHandler(warehouse).upsert("airport_days", written, 2018)

    assert changes == Changes(inserted=2, updated=0, deleted=0, unchanged=0)
    assert stored(warehouse) == in_order(written)


def test_every_table_keeps_its_rows_as_they_are(warehouse: str) -> None:
    judged = verdicts(verdict("three_sigma", expected=12.5, **LATE), verdict("three_sigma", "LGA", status="no_flights"))
    known = quality(2018, rows_read=9, rows_kept=8, rows_rejected=1, missing_months="10,11", report='{"a": [1, null]}')
    handler = DBHandler(warehouse)

    handler.upsert("anomalies", judged, 2018)
    handler.upsert("bronze_quality", known, 2018)

    assert stored(warehouse, "anomalies") == in_order(judged, "anomalies")
    assert stored(warehouse, "bronze_quality") == known.to_pylist()
    assert sql(warehouse, "SELECT report -> 'a' ->> 0 FROM flights.bronze_quality") == [("1",)]


def test_a_second_upsert_of_the_same_rows_writes_nothing_and_locks_no_row(warehouse: str) -> None:
    written = days(*(day("JFK", f"2018-01-{n:02}", mean_dep_delay_min=n / 7) for n in range(1, 32)))
    handler = DBHandler(warehouse)
    handler.upsert("airport_days", written, 2018)
    before, traffic = versions(warehouse), tuple_traffic(warehouse)

    changes = handler.upsert("airport_days", written, 2018)

    assert changes == Changes(inserted=0, updated=0, deleted=0, unchanged=31)
    assert versions(warehouse) == before
    assert tuple_traffic(warehouse) == traffic == (31, 0, 0)


def versions(url: str) -> list[tuple[Any, ...]]:
    """Where each row lies and which transactions wrote, and locked or deleted it: equal when nothing touched a row."""
    return sql(url, "SELECT origin, fl_date, ctid, xmin, xmax FROM flights.airport_days ORDER BY 1, 2")


def tuple_traffic(url: str) -> tuple[Any, ...]:
    """Rows inserted, updated and deleted since the table was made; a session reports them when it is gone."""
    ours = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'delaywatch' AND datname = current_database()"
    wait_until(lambda: not sql(url, ours))
    counters = "n_tup_ins, n_tup_upd, n_tup_del"
    return sql(url, f"SELECT {counters} FROM pg_stat_user_tables WHERE relname = 'airport_days'")[0]


def test_only_the_row_that_changed_is_updated(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    handler.upsert(
        "airport_days", days(day("EWR", scheduled=1), day("JFK", scheduled=1), day("LGA", scheduled=1)), 2018
    )
    before = versions(warehouse)

    again = days(day("EWR", scheduled=1), day("JFK", scheduled=2), day("LGA", scheduled=1))
    changes = handler.upsert("airport_days", again, 2018)

    assert changes == Changes(inserted=0, updated=1, deleted=0, unchanged=2)
    untouched = [row for row in versions(warehouse) if row in before]
    assert [origin for origin, *_ in untouched] == ["EWR", "LGA"]
    assert stored(warehouse) == in_order(again)


def test_a_vanished_day_is_deleted_and_other_years_stay(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    handler.upsert("airport_days", days(day("JFK", "2017-12-31")), 2017)
    handler.upsert("airport_days", days(day("JFK", "2018-01-01"), day("JFK", "2018-12-31")), 2018)
    handler.upsert("airport_days", days(day("JFK", "2019-01-01")), 2019)

    changes = handler.upsert("airport_days", days(day("JFK", "2018-12-31"), day("LGA", "2018-12-31")), 2018)

    assert changes == Changes(inserted=1, updated=0, deleted=1, unchanged=1)
    assert [(row["origin"], str(row["fl_date"])) for row in stored(warehouse)] == [
        ("JFK", "2017-12-31"),
        ("JFK", "2018-12-31"),
        ("JFK", "2019-01-01"),
        ("LGA", "2018-12-31"),
    ]


def test_one_detector_is_replaced_and_the_others_stay(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    for detector in ("delaywatch", "three_sigma"):
        both = verdicts(verdict(detector, "JFK"), verdict(detector, "LGA"))
        handler.upsert("anomalies", both, 2018, within={"detector": detector})

    only_jfk = verdicts(verdict("three_sigma", "JFK", **LATE))
    changes = handler.upsert("anomalies", only_jfk, 2018, within={"detector": "three_sigma"})

    assert changes == Changes(inserted=0, updated=1, deleted=1, unchanged=0)
    assert [(row["origin"], row["detector"], row["is_anomaly"]) for row in stored(warehouse, "anomalies")] == [
        ("JFK", "delaywatch", False),
        ("JFK", "three_sigma", True),
        ("LGA", "delaywatch", False),
    ]
    assert handler.count("anomalies", 2018, within={"detector": "delaywatch"}) == 2
    assert handler.count("anomalies", 2018) == 3
    assert handler.count("anomalies", 2017) == 0


def test_the_detectors_of_a_year_are_those_that_have_rows_of_it(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    both = verdicts(verdict("three_sigma"), verdict("three_sigma", "LGA"), verdict("delaywatch"))
    handler.upsert("anomalies", both, 2018)
    handler.upsert("anomalies", verdicts(verdict("retired", "JFK", "2017-12-31")), 2017)

    assert [handler.detectors(year) for year in (2016, 2017, 2018)] == [[], ["retired"], ["delaywatch", "three_sigma"]]


def test_changes_are_told_in_words() -> None:
    assert str(Changes(2, 1, 0, 1092)) == "2 inserted, 1 updated, 0 deleted, 1,092 unchanged"


def test_nan_is_stored_as_null_from_arrow_and_from_pandas(warehouse: str) -> None:
    handler = DBHandler(warehouse)

    handler.upsert("airport_days", days(day(mean_dep_delay_min=float("nan"))), 2018)
    from_pandas = handler.upsert("airport_days", days(day()).to_pandas(), 2018)

    assert from_pandas == Changes(inserted=0, updated=0, deleted=0, unchanged=1)
    assert sql(warehouse, "SELECT mean_dep_delay_min FROM flights.airport_days") == [(None,)]


def test_a_pandas_frame_with_categories_timestamps_and_another_order_of_columns_is_taken(warehouse: str) -> None:
    frame = days(day("JFK", max_dep_delay_min=5), day("LGA")).to_pandas()
    frame = frame.astype({"origin": "category", "fl_date": "datetime64[ns]", "scheduled": "int64"})
    assert frame["max_dep_delay_min"].dtype == "float64"  # how pandas holds whole numbers when some are missing

    DBHandler(warehouse).upsert("airport_days", frame[frame.columns[::-1]], 2018)

    assert stored(warehouse) == [day("JFK", max_dep_delay_min=5), day("LGA")]


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "NULL",
        "a,b",
        'say "hi"',
        "two\nlines",
        "cr\r\nlf",
        "\\.",
        "x\n\\.\ny",
        "\\N",
        "' OR 1=1; --",
        "%s {} %",
        "ÅÄÖ 東京",
    ],
)
def test_text_that_means_something_to_csv_or_sql_is_only_text(warehouse: str, origin: str) -> None:
    handler = DBHandler(warehouse)
    written = verdicts(verdict(origin, origin, params_hash=origin), verdict("other", origin))

    handler.upsert("anomalies", written.slice(0, 1), 2018, within={"detector": origin})
    handler.upsert("anomalies", written.slice(1, 1), 2018, within={"detector": "other"})

    assert stored(warehouse, "anomalies") == in_order(written, "anomalies")
    assert handler.count("anomalies", 2018, within={"detector": origin}) == 1


def test_read_gives_one_year_or_all_with_dates_as_dates(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    handler.upsert("airport_days", days(day("LGA"), day("JFK", scheduled=3)), 2018)
    handler.upsert("airport_days", days(day("JFK", "2019-06-01")), 2019)

    one, every = handler.read("airport_days", 2018), handler.read("airport_days")

    assert list(one["origin"]) == ["JFK", "LGA"]
    assert list(one["fl_date"]) == [pd.Timestamp("2018-01-01")] * 2
    assert len(every) == 3
    assert [str(one[name].dtype) for name in ("scheduled", "mean_dep_delay_min")] == ["int32", "float32"]


def test_settings_of_the_login_cannot_change_what_is_written_or_read(warehouse: str) -> None:
    for setting in ("datestyle = 'SQL, DMY'", "extra_float_digits = -10", "timezone = 'Asia/Tokyo'"):
        sql(warehouse, f"ALTER DATABASE {database_of(warehouse)} SET {setting}")
    written = days(day("JFK", "2018-03-02", mean_dep_delay_min=pa.scalar(1 / 3, pa.float32()).as_py()))

    DBHandler(warehouse).upsert("airport_days", written, 2018)

    assert stored(warehouse) == written.to_pylist()


ORIGINS = st.sampled_from(["JFK", "LGA", "", "a,b", 'q"', "two\nlines", "\\."])
DATES = st.sampled_from(["2018-01-01", "2018-02-28", "2018-12-31"])
DELAYS = st.none() | st.floats(width=32, allow_nan=False)
FRAMES = st.dictionaries(
    st.tuples(ORIGINS, DATES),
    st.tuples(DELAYS, st.integers(0, 2), st.none() | st.integers(-(2**15), 2**15 - 1)),
    max_size=8,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=st.lists(FRAMES, min_size=1, max_size=4))
def test_after_any_sequence_of_upserts_the_year_is_the_last_frame(
    warehouse: str, frames: list[dict[tuple[str, str], tuple[Any, ...]]]
) -> None:
    """Each frame maps (origin, day) to (mean delay, scheduled, longest delay)."""
    with DBHandler(warehouse) as handler:
        handler.upsert("airport_days", schemas.AIRPORT_DAYS.empty_table(), 2018)
        handler.upsert("airport_days", days(day("JFK", "2019-01-01")), 2019)
        old: dict[tuple[str, str], tuple[Any, ...]] = {}
        for new in frames:
            rows = [
                day(*key, mean_dep_delay_min=mean, scheduled=scheduled, max_dep_delay_min=longest)
                for key, (mean, scheduled, longest) in new.items()
            ]

            changes = handler.upsert("airport_days", days(*rows), 2018)

            same = sum(old[key] == new[key] for key in old.keys() & new.keys())
            assert changes == Changes(
                inserted=len(new.keys() - old.keys()),
                updated=len(old.keys() & new.keys()) - same,
                deleted=len(old.keys() - new.keys()),
                unchanged=same,
            )
            found = pa.Table.from_pandas(handler.read("airport_days", 2018), schema=schemas.AIRPORT_DAYS)
            assert in_order(found) == in_order(days(*rows))
            old = new
        assert handler.count("airport_days", 2019) == 1


# --- upsert: what is refused before anything is written ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (days(day("JFK", "2018-05-05"), day("LGA", "2019-01-01")), "1 row of another year, first LGA, 2019-01-01"),
        (days(day("JFK"), day("LGA"), day("JFK")), "1 row more than once, first JFK, 2018-01-01"),
        (days(day()).drop_columns(["nas_min"]), r"missing: nas_min; unexpected: none"),
        (days(day()).append_column("note", pa.array(["x"])), r"missing: none; unexpected: note"),
        (days(day()).to_pandas().assign(scheduled="many"), "column scheduled does not fit int32 .*many"),
        (days(day()).to_pandas().assign(scheduled=1.5), "column scheduled does not fit int32 .*1.5"),
        (days(day()).to_pandas().assign(scheduled=None), "column scheduled has 1 empty values"),
        (days(day(None)), "column origin has 1 empty values"),  # type: ignore[arg-type]
        (days(day("nul \0 byte")), "cannot hold a value while writing airport_days 2018 .*0x00"),
        (days(day(scheduled=1, cancelled=2)), "refused a row .*airport_days_not_above_scheduled"),
        (days(day(cancelled_nas=-1)), "refused a row .*airport_days_counts_not_negative"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_and_the_old_year_stays(
    warehouse: str, frame: pa.Table | pd.DataFrame, sentence: str
) -> None:
    handler = DBHandler(warehouse)
    handler.upsert("airport_days", days(day("ABQ")), 2018)

    with pytest.raises(DelaywatchError, match=sentence):
        handler.upsert("airport_days", frame, 2018)

    assert stored(warehouse) == [day("ABQ")]


def test_verdicts_of_another_detector_are_refused(warehouse: str) -> None:
    mixed = verdicts(verdict("three_sigma"), verdict("delaywatch"))

    with pytest.raises(
        InvalidInput, match=r"1 row whose detector is not three_sigma, first JFK, 2018-01-01, delaywatch"
    ):
        DBHandler(warehouse).upsert("anomalies", mixed, 2018, within={"detector": "three_sigma"})

    assert stored(warehouse, "anomalies") == []


@pytest.mark.parametrize(
    ("columns", "constraint"),
    [
        ({**LATE, "severity": 4}, "anomalies_severity_known"),
        ({**LATE, "direction": "sideways"}, "anomalies_direction_known"),
        ({"status": "fine"}, "anomalies_status_known"),
        ({"is_anomaly": True}, "anomalies_flag_says_how"),
        ({"severity": 1}, "anomalies_flag_says_how"),
    ],
)
def test_the_warehouse_refuses_a_verdict_that_contradicts_itself(warehouse: str, columns: Row, constraint: str) -> None:
    with pytest.raises(InvalidInput, match=rf"refused a row .*{constraint}"):
        DBHandler(warehouse).upsert("anomalies", verdicts(verdict("three_sigma", **columns)), 2018)


# --- upsert: a table that was changed by hand -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE flights.airport_days DROP COLUMN nas_min",
        "ALTER TABLE flights.airport_days ALTER COLUMN weather_min TYPE boolean USING false",
        'ALTER TABLE flights.airport_days ADD COLUMN "my note" text NOT NULL DEFAULT 1; '
        'ALTER TABLE flights.airport_days ALTER COLUMN "my note" DROP DEFAULT',
    ],
)
def test_a_table_changed_by_hand_fails_at_once_and_keeps_its_rows(warehouse: str, change: str) -> None:
    handler = DBHandler(warehouse)
    handler.upsert("airport_days", days(day("JFK"), day("LGA")), 2018)
    sql(warehouse, change)
    before = sql(warehouse, "SELECT * FROM flights.airport_days")

    with pytest.raises(InvalidInput, match=r"writing airport_days 2018"):
        handler.upsert("airport_days", days(day("JFK", scheduled=5, weather_min=7), day("EWR")), 2018)

    assert sql(warehouse, "SELECT * FROM flights.airport_days") == before


def test_a_column_that_the_owner_added_is_left_alone(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    handler.upsert("airport_days", days(day("JFK"), day("LGA")), 2018)
    sql(
        warehouse,
        "ALTER TABLE flights.airport_days ADD COLUMN note text",
        "UPDATE flights.airport_days SET note = 'keep'",
    )

    handler.upsert("airport_days", days(day("JFK", scheduled=1), day("LGA"), day("EWR")), 2018)

    notes = sql(warehouse, "SELECT origin, note FROM flights.airport_days ORDER BY origin")
    assert notes == [("EWR", None), ("JFK", "keep"), ("LGA", "keep")]


# --- upsert: stopped half-way, and two at once ------------------------------------------------------------------------


def year_of(scheduled: int, first: int, last: int) -> pa.Table:
    dates = pd.date_range("2018-01-01", "2018-12-31")[first:last]
    return days(*(day("JFK", f"{one:%Y-%m-%d}", scheduled=scheduled) for one in dates))


OLD, NEW = year_of(1, 0, 300), year_of(2, 50, 365)


def test_a_backend_killed_before_any_statement_leaves_the_old_year_whole(warehouse: str) -> None:
    """Every statement of the upsert, every block of its COPY and its COMMIT in turn meets a dead server process."""
    DBHandler(warehouse).upsert("airport_days", OLD, 2018)
    statements: list[str] = []
    with before_each_statement(lambda _, statement: statements.append(statement)):
        DBHandler(warehouse).upsert("airport_days", OLD, 2018)
    assert [name for name in STEPS if not any(name in statement for statement in statements)] == []

    for fatal in range(len(statements)):
        with before_each_statement(killer(warehouse, fatal)), pytest.raises(Unavailable) as lost:
            DBHandler(warehouse).upsert("airport_days", NEW, 2018)

        assert "was lost while writing" in str(lost.value), statements[fatal]
        assert stored(warehouse) == in_order(OLD), statements[fatal]

    changes = DBHandler(warehouse).upsert("airport_days", NEW, 2018)
    assert changes == Changes(inserted=65, updated=250, deleted=50, unchanged=0)
    assert stored(warehouse) == in_order(NEW)


STEPS = (
    "pg_advisory_xact_lock", "CREATE TEMPORARY TABLE", "COPY ", "COPY data", "end of COPY data",
    "CREATE TEMPORARY VIEW", "MERGE INTO", "DROP VIEW", "COMMIT",
)  # fmt: skip


def killer(url: str, fatal: int) -> Hook:
    """A hook that kills the connection's server process before the statement number `fatal`."""
    left = [fatal]

    def kill(connection: psycopg2.extensions.connection, statement: str) -> None:
        left[0] -= 1
        if left[0] == -1:
            pid = connection.info.backend_pid
            sql(url, f"SELECT pg_terminate_backend({pid})")
            wait_until(lambda: not sql(url, f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid}"))

    return kill


@pytest.mark.parametrize("fatal", ["COPY data", "COMMIT"])
def test_a_process_killed_with_signal_9_leaves_the_old_year_and_no_lock(warehouse: str, fatal: str) -> None:
    DBHandler(warehouse).upsert("airport_days", OLD, 2018)

    process = multiprocessing.get_context("spawn").Process(target=upsert_and_die, args=(warehouse, fatal))
    process.start()
    process.join()

    assert process.exitcode == -signal.SIGKILL
    assert stored(warehouse) == in_order(OLD)
    assert DBHandler(warehouse, lock_timeout_s=10).upsert("airport_days", NEW, 2018).inserted == 65
    assert stored(warehouse) == in_order(NEW)


def upsert_and_die(url: str, fatal: str) -> None:
    def die(_: psycopg2.extensions.connection, statement: str) -> None:
        if fatal in statement:
            os.kill(os.getpid(), signal.SIGKILL)

    with before_each_statement(die):
        DBHandler(url).upsert("airport_days", NEW, 2018)


def test_two_upserts_of_one_year_queue_and_another_year_does_not_wait(warehouse: str) -> None:
    reached_commit, may_commit, done = threading.Event(), threading.Event(), []

    def hold_first(connection: psycopg2.extensions.connection, statement: str) -> None:
        if statement == "COMMIT" and threading.current_thread().name == "first":
            reached_commit.set()
            assert may_commit.wait(30)

    def upsert_2018(frame: pa.Table) -> None:
        done.append((threading.current_thread().name, DBHandler(warehouse).upsert("airport_days", frame, 2018)))

    first = threading.Thread(target=upsert_2018, args=(OLD,), name="first")
    second = threading.Thread(target=upsert_2018, args=(NEW,), name="second")
    with before_each_statement(hold_first):
        first.start()
        assert reached_commit.wait(30)
        second.start()
        waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        wait_until(lambda: bool(sql(warehouse, waiting)))
        other_year = DBHandler(warehouse).upsert("airport_days", days(day("JFK", "2019-01-01")), 2019)
        assert done == []
        may_commit.set()
        first.join()
        second.join()

    assert other_year.inserted == 1
    assert done == [
        ("first", Changes(inserted=300, updated=0, deleted=0, unchanged=0)),
        ("second", Changes(inserted=65, updated=250, deleted=50, unchanged=0)),
    ]
    assert stored(warehouse, year=2018) == in_order(NEW)


def test_a_row_that_somebody_inserted_by_hand_is_taken_over(warehouse: str) -> None:
    def insert_by_hand(_: psycopg2.extensions.connection, statement: str) -> None:
        if "MERGE INTO" in statement:
            sql(warehouse, by_hand(scheduled=99))

    with before_each_statement(insert_by_hand):
        changes = DBHandler(warehouse).upsert("airport_days", days(day(scheduled=1)), 2018)

    assert changes == Changes(inserted=0, updated=1, deleted=0, unchanged=0)
    assert stored(warehouse) == [day(scheduled=1)]


def test_a_row_that_somebody_inserts_in_the_same_moment_is_busy_and_the_next_upsert_takes_it_over(
    warehouse: str,
) -> None:
    with ThreadPoolExecutor() as pool, closing(psycopg2.connect(warehouse)) as other, other.cursor() as cursor:
        cursor.execute(by_hand(scheduled=99))
        ours = pool.submit(DBHandler(warehouse).upsert, "airport_days", days(day(scheduled=1)), 2018)
        wait_until(lambda: bool(sql(warehouse, "SELECT 1 FROM pg_locks WHERE NOT granted")))
        other.commit()

        with pytest.raises(Busy, match=r"Another session wrote the same row while writing airport_days 2018"):
            ours.result()

    assert stored(warehouse) == [day(scheduled=99)]
    assert DBHandler(warehouse).upsert("airport_days", days(day(scheduled=1)), 2018).updated == 1


def by_hand(**columns: Any) -> str:
    """An INSERT of one airport-day."""
    values = {name: f"'{value}'" for name, value in day(**columns).items() if value is not None}
    return f"INSERT INTO flights.airport_days ({', '.join(values)}) VALUES ({', '.join(values.values())})"


def test_a_year_locked_for_too_long_says_so_and_stays(warehouse: str) -> None:
    DBHandler(warehouse).upsert("airport_days", OLD, 2018)
    with closing(psycopg2.connect(warehouse)) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE flights.airport_days IN SHARE MODE")

        with pytest.raises(Busy, match=r"blocked writing airport_days 2018 for more than 1 s"):
            DBHandler(warehouse, lock_timeout_s=1).upsert("airport_days", NEW, 2018)

    assert stored(warehouse) == in_order(OLD)


def test_a_cancelled_upsert_says_that_nothing_changed(warehouse: str) -> None:
    DBHandler(warehouse).upsert("airport_days", OLD, 2018)
    sql(warehouse, f"ALTER DATABASE {database_of(warehouse)} SET statement_timeout = 300")
    with closing(psycopg2.connect(warehouse)) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE flights.airport_days IN SHARE MODE")

        with pytest.raises(Unavailable, match=r"cancelled writing airport_days 2018 .*statement timeout.*nothing was"):
            DBHandler(warehouse).upsert("airport_days", NEW, 2018)

    assert stored(warehouse) == in_order(OLD)


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_is_recorded_when_it_starts_and_completed_when_it_ends(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    started, ended = datetime(2026, 11, 20, 9, 0, tzinfo=UTC), datetime(2026, 11, 20, 9, 5, 0, 250_000, tzinfo=UTC)

    handler.record_run({"run_id": "manual__1", "year": 2018, "code_version": "0.1.0", "started": started})
    handler.record_run({"run_id": "manual__1", "year": 2018, "ended": ended, "rows": {"silver": [10, 9]}})
    handler.record_run({"run_id": "manual__2", "year": 2017})

    runs = handler.read("runs", 2018)
    assert list(runs.columns) == RUNS.names
    assert runs.iloc[0][["run_id", "code_version", "started", "ended", "rows"]].tolist() == [
        "manual__1",
        "0.1.0",
        pd.Timestamp(started),
        pd.Timestamp(ended),
        '{"silver": [10, 9]}',
    ]
    assert handler.count("runs", 2017) == 1
