"""DBHandler on a real Postgres: what it writes, what it leaves alone, and what is left when it is stopped half-way."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import psycopg2
import psycopg2.extensions
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from tests.conftest import at, sql, wait_until
from tests.gold import LATE, Row, day, days, verdict, verdicts
from tests.integration.conftest import refusal
from utils import schemas
from utils.db_handler import RUNS, TABLES, Changes, DBHandler
from utils.errors import DelaywatchError

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


def test_a_value_that_becomes_unknown_and_known_again_is_updated_both_times(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    handler.upsert("airport_days", days(day(mean_dep_delay_min=1.5, max_dep_delay_min=9)), 2018)

    unknown = handler.upsert("airport_days", days(day()), 2018)
    without = stored(warehouse)
    known = handler.upsert("airport_days", days(day(mean_dep_delay_min=1.5, max_dep_delay_min=9)), 2018)

    assert (unknown.updated, known.updated) == (1, 1)
    assert (without[0]["mean_dep_delay_min"], without[0]["max_dep_delay_min"]) == (None, None)


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


def test_an_empty_frame_empties_the_year(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    handler.upsert("airport_days", days(day()), 2018)

    changes = handler.upsert("airport_days", schemas.AIRPORT_DAYS.empty_table(), 2018)

    assert changes == Changes(inserted=0, updated=0, deleted=1, unchanged=0)
    assert handler.read("airport_days").empty


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
        sql(warehouse, f"ALTER DATABASE {warehouse_name(warehouse)} SET {setting}")
    written = days(day("JFK", "2018-03-02", mean_dep_delay_min=pa.scalar(1 / 3, pa.float32()).as_py()))

    DBHandler(warehouse).upsert("airport_days", written, 2018)

    assert stored(warehouse) == written.to_pylist()


def warehouse_name(url: str) -> str:
    return str(sql(url, "SELECT current_database()")[0][0])


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
        (days(day()).to_pandas().assign(scheduled=None), "column scheduled has 1 empty values and may have none"),
        (days(day(None)), "column origin has 1 empty values and may have none"),  # type: ignore[arg-type]
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
        DelaywatchError, match=r"1 row whose detector is not three_sigma, first JFK, 2018-01-01, delaywatch"
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
    with pytest.raises(DelaywatchError, match=rf"refused a row .*{constraint}"):
        DBHandler(warehouse).upsert("anomalies", verdicts(verdict("three_sigma", **columns)), 2018)


# --- upsert: a table that was changed by hand -------------------------------------------------------------------------

COLUMN_TYPE = "ALTER TABLE flights.airport_days ALTER COLUMN {} TYPE {}"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (COLUMN_TYPE.format("weather_min", "text"), "Column weather_min of .* is text and should be integer"),
        (
            COLUMN_TYPE.format("std_dep_delay_min", "float8"),
            "std_dep_delay_min of .* is double precision and should be real",
        ),
        (
            "ALTER TABLE flights.airport_days DROP COLUMN nas_min",
            "Column nas_min of .* is missing and should be integer",
        ),
        ("ALTER TABLE flights.airport_days DROP CONSTRAINT airport_days_pkey", r"has lost its key \(origin, fl_date\)"),
        (
            'ALTER TABLE flights.airport_days ADD COLUMN "my note" text NOT NULL DEFAULT 1; '
            'ALTER TABLE flights.airport_days ALTER COLUMN "my note" DROP DEFAULT',
            r"Column my note \(text\) of .* is not ours and must not be empty",
        ),
    ],
)
def test_a_table_changed_by_hand_is_named_and_the_sql_in_the_sentence_mends_it(
    warehouse: str, change: str, sentence: str
) -> None:
    handler = DBHandler(warehouse)
    handler.upsert("airport_days", days(day("JFK"), day("LGA")), 2018)
    sql(warehouse, change)

    with pytest.raises(DelaywatchError, match=sentence) as refused:
        handler.upsert("airport_days", days(day("JFK", scheduled=5)), 2018)
    assert sql(warehouse, "SELECT count(*) FROM flights.airport_days WHERE scheduled = 0") == [(2,)]

    sql(warehouse, *sql_in(refused.value))
    handler.upsert("airport_days", days(day("JFK", scheduled=5)), 2018)
    assert stored(warehouse) == [day("JFK", scheduled=5)]


def sql_in(error: BaseException) -> list[str]:
    return re.findall("`(.*?)`", str(error))


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

Hook = Callable[[psycopg2.extensions.connection, str], None]


@contextmanager
def before_each_statement(hook: Hook) -> Iterator[None]:
    """Call `hook(connection, statement)` before every statement, block of COPY data and COMMIT that DBHandler sends."""

    class Cursor(psycopg2.extensions.cursor):
        def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002  # psycopg2's name for it
            hook(self.connection, query if isinstance(query, str) else query.as_string(self))
            super().execute(query, vars)

        def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
            hook(self.connection, sql.as_string(self))
            super().copy_expert(sql, Copied(self.connection, file), size)  # type: ignore[arg-type]  # reads nothing else

    class Copied:
        def __init__(self, connection: psycopg2.extensions.connection, file: Any) -> None:
            self.connection, self.file = connection, file

        def read(self, size: int) -> Any:
            block = self.file.read(size)
            hook(self.connection, "COPY data" if block else "end of COPY data")
            return block

    class Connection(psycopg2.extensions.connection):
        def cursor(self, *args: Any, **kwargs: Any) -> Any:
            return super().cursor(*args, **{"cursor_factory": Cursor, **kwargs})

        def commit(self) -> None:
            hook(self, "COMMIT")
            super().commit()

    def connect(dialect: Any, record: Any, args: Any, parameters: dict[str, Any]) -> None:
        parameters["connection_factory"] = Connection

    event.listen(Engine, "do_connect", connect)
    try:
        yield
    finally:
        event.remove(Engine, "do_connect", connect)


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
        with before_each_statement(killer(warehouse, fatal)), pytest.raises(DelaywatchError) as lost:
            DBHandler(warehouse).upsert("airport_days", NEW, 2018)

        assert "was lost while writing airport_days 2018" in str(lost.value), statements[fatal]
        assert stored(warehouse) == in_order(OLD), statements[fatal]

    changes = DBHandler(warehouse).upsert("airport_days", NEW, 2018)
    assert changes == Changes(inserted=65, updated=250, deleted=50, unchanged=0)
    assert stored(warehouse) == in_order(NEW)


STEPS = (
    "pg_advisory_xact_lock", "pg_attribute", "pg_index", "CREATE TEMPORARY TABLE", "COPY ", "COPY data",
    "end of COPY data", "ANALYZE", "UPDATE ", "INSERT INTO", "DELETE FROM", "COMMIT",
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


def test_a_row_that_somebody_inserts_meanwhile_by_hand_is_taken_over(warehouse: str) -> None:
    def insert_by_hand(_: psycopg2.extensions.connection, statement: str) -> None:
        if statement.startswith("INSERT INTO"):
            with closing(psycopg2.connect(warehouse)) as other, other, other.cursor() as cursor:
                names, values = zip(*day(scheduled=99).items(), strict=True)
                marks = ", ".join(["%s"] * len(names))
                cursor.execute(f"INSERT INTO flights.airport_days ({', '.join(names)}) VALUES ({marks})", values)

    with before_each_statement(insert_by_hand):
        DBHandler(warehouse).upsert("airport_days", days(day(scheduled=1)), 2018)

    assert stored(warehouse) == [day(scheduled=1)]


def test_a_year_locked_for_too_long_says_so_and_stays(warehouse: str) -> None:
    DBHandler(warehouse).upsert("airport_days", OLD, 2018)
    with closing(psycopg2.connect(warehouse)) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE flights.airport_days IN SHARE MODE")

        with pytest.raises(DelaywatchError, match=r"blocked writing airport_days 2018 for more than 1 s"):
            DBHandler(warehouse, lock_timeout_s=1).upsert("airport_days", NEW, 2018)

    assert stored(warehouse) == in_order(OLD)


def test_a_cancelled_upsert_says_that_nothing_changed(warehouse: str) -> None:
    DBHandler(warehouse).upsert("airport_days", OLD, 2018)
    sql(warehouse, f"ALTER DATABASE {warehouse_name(warehouse)} SET statement_timeout = 300")
    with closing(psycopg2.connect(warehouse)) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE flights.airport_days IN SHARE MODE")

        with pytest.raises(
            DelaywatchError, match=r"cancelled writing airport_days 2018 .*statement timeout.*nothing was"
        ):
            DBHandler(warehouse).upsert("airport_days", NEW, 2018)

    assert stored(warehouse) == in_order(OLD)


def test_a_full_disk_played_by_a_trigger_is_named_and_the_old_year_stays(warehouse: str) -> None:
    """The trigger raises what Postgres raises; a disk that is really full needs a mount, which a test may not make."""
    DBHandler(warehouse).upsert("airport_days", OLD, 2018)
    sql(
        warehouse,
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$",
        "CREATE TRIGGER full_disk BEFORE INSERT ON flights.airport_days EXECUTE FUNCTION full_disk()",
    )

    with pytest.raises(DelaywatchError, match=r"The disk of the warehouse .* is full"):
        DBHandler(warehouse).upsert("airport_days", NEW, 2018)

    assert stored(warehouse) == in_order(OLD)


# --- the server cannot be used ----------------------------------------------------------------------------------------


@pytest.fixture
def guarded(warehouse: str, ask_password_of: Callable[[str], None]) -> Iterator[str]:
    """The URL of a login whom the server lets in with the password `correct horse` only."""
    sql(warehouse, "CREATE ROLE guarded LOGIN PASSWORD 'correct horse' IN ROLE flights_loader")
    ask_password_of("guarded")
    yield at(warehouse, username="guarded", password="correct horse")
    sql(warehouse, "DROP OWNED BY guarded", "DROP ROLE guarded")


def test_the_right_password_works_and_a_wrong_one_is_refused_without_being_shown(guarded: str) -> None:
    assert DBHandler(guarded).upsert("airport_days", days(day()), 2018).inserted == 1

    wrong = DBHandler(at(guarded, password="battery staple"))
    with pytest.raises(DelaywatchError, match=r"refused user guarded or its password") as refused:
        wrong.upsert("airport_days", days(day()), 2018)

    shown = "".join(traceback.format_exception(refused.value)) + repr(wrong)
    assert "battery staple" not in shown


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"database": "nowhere"}, "The warehouse nowhere at .* does not exist; create it with CREATE DATABASE"),
        ({"username": "nobody"}, "refused user nobody or its password"),
        ({"query": {"host": "/nowhere"}}, "No Postgres answers at the warehouse .* at /nowhere; start it"),
        (
            {"query": {}, "host": "127.0.0.1", "port": 1},
            "No Postgres answers at the warehouse .* at 127.0.0.1:1; start",
        ),
        ({"query": {}, "host": "host.invalid"}, "The host of the warehouse .* at host.invalid is unknown"),
        (
            {"query": {"host": "/nowhere", "sslmode": "bogus"}},
            "does not take one of host, sslmode; correct the options after \\? in the warehouse URL",
        ),
        (
            {"query": {"connect_timeout": "soon"}, "host": "127.0.0.1", "port": 1},
            "does not take one of connect_timeout; correct the options after \\? in the warehouse URL",
        ),
    ],
)
def test_a_server_that_cannot_be_used_is_named_with_the_way_out(
    warehouse: str, parts: dict[str, Any], sentence: str
) -> None:
    handler = DBHandler(at(warehouse, **{"username": "postgres", "password": "battery staple", **parts}))

    for use in (
        handler.create,
        lambda: handler.read("airport_days"),
        lambda: handler.upsert("airport_days", OLD, 2018),
    ):
        with pytest.raises(DelaywatchError, match=sentence) as refused:
            use()
        assert "battery staple" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("hunter2", "cannot be read; correct DELAYWATCH_WAREHOUSE"),
        ("postgresql://u:hunter2@host:port/db", "cannot be read; correct DELAYWATCH_WAREHOUSE"),
        ("postgresql://u:p@hunter2@host/db", "an @ that does not end its user"),
        ("postgresql://u/x:hunter2@host/db", "an @ that does not end its user"),
        ("postgresql://u:hunter2%FF@host/db", "cannot be read; correct DELAYWATCH_WAREHOUSE"),
        ("postgresql://u:hunter2%00@host/db", "a zero byte"),
        ("postgresql://u:hunter2@host/db?sslmode", "an option without a value"),
        ("mysql://u:hunter2@host/db", "is for mysql, not for Postgres"),
        ("postgresql://host/db?sslmode=require&foo=hunter2", "one of sslmode, foo; correct the options after \\?"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused_without_being_shown(url: str, sentence: str) -> None:
    with pytest.raises(DelaywatchError, match=sentence) as refused:
        DBHandler(url)

    assert "hunter2" not in "".join(traceback.format_exception(refused.value)).replace(url, "")


@pytest.mark.parametrize("password", ["p#w", "p?w", "50%", "p/w", "p:w"])
def test_a_password_with_a_character_of_urls_is_taken_literally(password: str) -> None:
    from utils.warehouse.connection import Postgres

    server = Postgres(f"postgresql://u:{password}@host:5432/db", connect_timeout_s=1, lock_timeout_s=1)

    assert (server.url.password, server.url.host, server.url.database) == (password, "host", "db")


def test_making_a_handler_opens_nothing() -> None:
    assert repr(DBHandler("postgresql://u:hunter2@host.invalid/db")) == "DBHandler(warehouse db at host.invalid)"


def test_a_database_without_tables_says_how_they_come(empty_database: str) -> None:
    handler = DBHandler(empty_database)

    for use in (
        lambda: handler.upsert("airport_days", OLD, 2018),
        lambda: handler.read("airport_days"),
        lambda: handler.count("anomalies", 2018),
        lambda: handler.publish_view(["three_sigma"], "three_sigma"),
        lambda: handler.record_run({"run_id": "a", "year": 2018}),
    ):
        with pytest.raises(
            DelaywatchError, match=r"`python -m utils prepare` with a login that is a member of flights_owner"
        ):
            use()


# --- create: tables, roles, revisions ---------------------------------------------------------------------------------


def test_the_tables_have_the_columns_that_the_schemas_promise(warehouse: str) -> None:
    for table in TABLES.values():
        found = sql(
            warehouse,
            "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute"
            f" WHERE attrelid = 'flights.{table.name}'::regclass AND attnum > 0 ORDER BY attnum",
        )
        assert found == [(field.name, table.type_in_postgres(field), not field.nullable) for field in table.schema]


def test_every_table_column_and_the_view_are_explained(warehouse: str) -> None:
    DBHandler(warehouse).publish_view(["three_sigma", "delaywatch"], "delaywatch")

    silent = sql(
        warehouse,
        "SELECT attrelid::regclass, attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid"
        " WHERE relnamespace = 'flights'::regnamespace AND relkind IN ('r', 'v') AND relname <> 'alembic_version'"
        " AND attnum > 0 AND col_description(attrelid, attnum) IS NULL",
    )

    assert silent == []


def test_creating_twice_changes_nothing(empty_database: str) -> None:
    catalogue = "SELECT oid, xmin, relname FROM pg_class WHERE relnamespace = 'flights'::regnamespace ORDER BY 1"
    made = DBHandler(empty_database).create()
    before = sql(empty_database, catalogue)

    made_again = DBHandler(empty_database).create()

    assert (made, made_again) == (True, False)
    assert len(before) >= 9
    assert sql(empty_database, catalogue) == before


def test_the_tables_go_down_and_up_again(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    handler.publish_view(["three_sigma"], "three_sigma")

    handler.downgrade("base")
    left = sql(
        warehouse, "SELECT relname FROM pg_class WHERE relnamespace = 'flights'::regnamespace AND relkind <> 'i'"
    )
    handler.downgrade("base")
    handler.create()

    assert left == [("alembic_version",)]
    assert handler.upsert("airport_days", days(day()), 2018).inserted == 1


def test_a_warehouse_of_a_newer_release_is_left_alone(warehouse: str) -> None:
    sql(warehouse, "UPDATE flights.alembic_version SET version_num = '9999'")

    with pytest.raises(DelaywatchError, match=r"at revision 9999, which this release does not know .its newest is 0"):
        DBHandler(warehouse).create()


def test_two_processes_create_the_tables_at_once(empty_database: str) -> None:
    create_in_processes([empty_database] * 2)

    assert DBHandler(empty_database).upsert("airport_days", days(day()), 2018).inserted == 1


def test_two_threads_of_one_process_migrate_two_databases(empty_database: str, warehouse: str) -> None:
    with ThreadPoolExecutor() as pool:
        up = pool.submit(DBHandler(empty_database).create)
        down = pool.submit(DBHandler(warehouse).downgrade, "base")

    up.result()
    down.result()
    assert DBHandler(empty_database).upsert("airport_days", days(day()), 2018).inserted == 1
    assert sql(warehouse, "SELECT to_regclass('flights.airport_days')") == [(None,)]


def create_in_processes(urls: Sequence[str]) -> None:
    """Call `DBHandler(url).create()` in a process per URL, all of them starting at the same moment."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(len(urls))
    processes = [context.Process(target=create_at, args=(url, barrier)) for url in urls]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(urls)


def create_at(url: str, barrier: Any) -> None:
    barrier.wait()
    DBHandler(url).create()


@pytest.fixture(scope="module", params=[pytest.param(16, marks=pytest.mark.slow), 18])
def bare_server(start_postgres: Callable[[int], str], request: pytest.FixtureRequest) -> str:
    """A server on which none of our roles exists yet."""
    return start_postgres(request.param)


def test_two_databases_of_one_server_and_its_master_user_who_is_no_superuser(bare_server: str) -> None:
    """As on RDS: the master user may create roles and owns its databases; both are set up at the same time."""
    sql(bare_server, "CREATE ROLE master LOGIN CREATEROLE CREATEDB")
    masters = [at(bare_server, username="master", database=name) for name in ("one", "two")]
    sql(at(bare_server, username="master"), "CREATE DATABASE one", "CREATE DATABASE two")

    create_in_processes(masters)

    for url in masters:
        handler = DBHandler(url)
        assert handler.create_reader("analyst", PASSWORD) is True
        handler.publish_view(["three_sigma"], "three_sigma")
        assert handler.upsert("airport_days", OLD, 2018).inserted == 300
        assert len(sql(at(url, username="analyst"), "SELECT * FROM flights.agg_dep_delay_by_date")) == 300
        owners = sql(
            url, "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'flights'::regnamespace"
        )
        assert owners == [("flights_owner",)]
    for url in masters:
        sql(url, "DROP SCHEMA flights CASCADE")
    reset_roles(bare_server)


def test_a_login_without_rights_gets_the_sql_that_an_administrator_runs_and_it_helps(bare_server: str) -> None:
    sql(
        bare_server,
        'CREATE ROLE "plain login" LOGIN',
        "CREATE DATABASE plain",
        "REVOKE ALL ON DATABASE plain FROM public",
    )
    sql(bare_server, 'GRANT CONNECT ON DATABASE plain TO "plain login"')
    plain, administrator = at(bare_server, username="plain login", database="plain"), at(bare_server, database="plain")

    asked = []
    for _ in range(3):
        with pytest.raises(DelaywatchError, match=r"User plain login may not .* let an administrator run") as refused:
            DBHandler(plain).create()
        asked += sql_in(refused.value)
        sql(administrator, *sql_in(refused.value))
    DBHandler(plain).create()

    assert [re.sub(";.*", "", statement) for statement in asked] == [
        "CREATE ROLE flights_owner NOLOGIN",
        'GRANT CREATE ON DATABASE plain TO "plain login"',
        "GRANT TEMPORARY ON DATABASE plain TO flights_loader",
    ]
    assert DBHandler(administrator).upsert("airport_days", days(day()), 2018).inserted == 1
    sql(bare_server, "DROP DATABASE plain")
    reset_roles(bare_server)


def reset_roles(server: str) -> None:
    for (database,) in sql(server, "SELECT datname FROM pg_database WHERE datname IN ('one', 'two')"):
        sql(server, f"DROP DATABASE {database}")
    for role in ("master", "analyst", "plain login", "flights_loader", "flights_reader", "flights_owner"):
        if sql(server, f"SELECT 1 FROM pg_roles WHERE rolname = '{role}'"):
            sql(server, f'DROP OWNED BY "{role}"', f'DROP ROLE "{role}"')


def test_a_reader_before_the_tables_is_told_how_they_come(bare_server: str) -> None:
    with pytest.raises(DelaywatchError, match=r"lacks the role flights_reader; `python -m utils prepare` with a login"):
        DBHandler(bare_server).create_reader("dashboards", PASSWORD)


def test_a_schema_flights_of_somebody_else_is_named_and_the_sql_helps(empty_database: str) -> None:
    sql(empty_database, "CREATE SCHEMA flights")

    with pytest.raises(DelaywatchError, match=r"may not use schema flights of postgres") as refused:
        DBHandler(empty_database).create()

    sql(empty_database, *sql_in(refused.value))
    DBHandler(empty_database).create()


# --- roles ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def login(warehouse: str) -> Iterator[Callable[[str], str]]:
    """Make a login that is a member of the given role; the answer is its URL."""
    names = []

    def make(role: str) -> str:
        names.append(f"login_{role}")
        sql(warehouse, f"CREATE ROLE {names[-1]} LOGIN IN ROLE {role}")
        return at(warehouse, username=names[-1])

    yield make
    for name in names:
        sql(warehouse, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_a_reader_reads_the_view_and_is_told_that_it_is_read_only(warehouse: str, login: Callable[[str], str]) -> None:
    DBHandler(warehouse).upsert("airport_days", OLD, 2018)
    DBHandler(warehouse).publish_view(["three_sigma"], "three_sigma")
    reader = login("flights_reader")

    DBHandler(reader).create()
    DBHandler(reader).publish_view(["three_sigma"], "three_sigma")
    seen = sql(reader, "SELECT count(*), bool_or(is_anomaly) FROM flights.agg_dep_delay_by_date")
    with pytest.raises(
        DelaywatchError, match=r"User login_flights_reader is read-only on flights.airport_days; write with"
    ):
        DBHandler(reader).upsert("airport_days", NEW, 2018)
    with pytest.raises(DelaywatchError, match=r"User login_flights_reader may not do what recording the run x needs"):
        DBHandler(reader).record_run({"run_id": "x", "year": 2018})

    assert seen == [(300, None)]
    assert stored(reader) == in_order(OLD)


def test_a_loader_loads_but_drops_nothing_and_changes_no_view(warehouse: str, login: Callable[[str], str]) -> None:
    loader = login("flights_loader")
    handler = DBHandler(loader)

    handler.create()
    loaded = handler.upsert("airport_days", OLD, 2018)
    handler.record_run({"run_id": "a", "year": 2018})

    assert loaded.inserted == 300
    with pytest.raises(DelaywatchError, match=r"may not do what publishing the view .* needs .* flights_owner"):
        handler.publish_view(["three_sigma"], "three_sigma")
    for forbidden in (
        "DROP TABLE flights.airport_days",
        "TRUNCATE flights.airport_days",
        "ALTER TABLE flights.airport_days ADD COLUMN x int",
        "CREATE TABLE flights.mine (x int)",
        "UPDATE flights.alembic_version SET version_num = 'x'",
    ):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            sql(loader, forbidden)


def test_a_reader_may_read_what_the_owner_makes_later(warehouse: str, login: Callable[[str], str]) -> None:
    reader = login("flights_reader")

    sql(login("flights_owner"), "SET ROLE flights_owner", "CREATE TABLE flights.later AS SELECT 1 AS x")

    assert sql(reader, "SELECT x FROM flights.later") == [(1,)]


def test_a_stranger_sees_nothing_and_is_told_what_is_missing(warehouse: str, login: Callable[[str], str]) -> None:
    stranger = login("pg_monitor")

    with pytest.raises(DelaywatchError, match=r"User login_pg_monitor may not do what reading airport_days needs"):
        DBHandler(stranger).read("airport_days")


def test_a_session_that_may_only_read_is_told_so(warehouse: str) -> None:
    sql(warehouse, f"ALTER DATABASE {warehouse_name(warehouse)} SET default_transaction_read_only = on")

    with pytest.raises(DelaywatchError, match=r"is read-only, so writing airport_days 2018 failed"):
        DBHandler(warehouse).upsert("airport_days", OLD, 2018)


# --- the reader -------------------------------------------------------------------------------------------------------

PASSWORD = 'it\'s a 100 % sécret: "a@b/c\\d"'
STATE = (
    "SELECT 'role', xmin::text, rolpassword FROM pg_authid WHERE rolname = 'dashboards' UNION ALL"
    " SELECT 'member of', m.xmin::text, roleid::regrole::text FROM pg_auth_members m JOIN pg_roles r ON r.oid = member"
    " WHERE rolname = 'dashboards' UNION ALL"
    " SELECT 'set', s.xmin::text, setconfig::text FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = setrole"
    " WHERE rolname = 'dashboards'"
)


@pytest.fixture
def dashboards(warehouse: str, ask_password_of: Callable[[str], None]) -> Iterator[str]:
    """The URL of a login `dashboards` with PASSWORD, which does not exist yet; the server will ask for the password."""
    ask_password_of("dashboards")
    yield at(warehouse, username="dashboards", password=PASSWORD)
    if sql(warehouse, "SELECT 1 FROM pg_roles WHERE rolname = 'dashboards'"):
        sql(warehouse, "DROP OWNED BY dashboards", "DROP ROLE dashboards")


def test_a_reader_comes_in_with_its_password_alone_and_reads_all_there_is_and_will_be(
    warehouse: str, dashboards: str
) -> None:
    handler = DBHandler(warehouse)
    handler.upsert("airport_days", OLD, 2018)

    assert handler.create_reader("dashboards", PASSWORD) is True

    handler.publish_view(["three_sigma"], "three_sigma")
    sql(warehouse, "SET ROLE flights_owner", "CREATE TABLE flights.later AS SELECT 1 AS x")
    for table in [*TABLES, "agg_dep_delay_by_date", "detector_feedback", "later"]:
        rows = 300 if table in {"airport_days", "agg_dep_delay_by_date"} else int(table == "later")
        assert sql(dashboards, f"SELECT count(*) FROM flights.{table}") == [(rows,)]
    assert "password authentication failed" in refusal(at(dashboards, password="wrong"))


def test_a_reader_s_sessions_begin_read_only_and_end_a_statement_after_a_minute(
    warehouse: str, dashboards: str
) -> None:
    DBHandler(warehouse).create_reader("dashboards", PASSWORD)

    assert sql(dashboards, "SHOW statement_timeout") == [("1min",)]
    for refused in ("DELETE FROM flights.airport_days", "CREATE TEMPORARY TABLE x (a int)", "CREATE TABLE x (a int)"):
        with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
            sql(dashboards, refused)
    elsewhere = at(dashboards, database="template_warehouse")
    assert sql(elsewhere, "SHOW default_transaction_read_only") == [("off",)]  # the settings are of one database


@pytest.mark.parametrize(
    "statement",
    [
        *(f"{change} flights.{table}" for table in TABLES for change in ("DELETE FROM", "TRUNCATE")),
        "INSERT INTO flights.runs (run_id, year) VALUES ('x', 2018)",
        "UPDATE flights.airport_days SET scheduled = 0",
        "UPDATE flights.alembic_version SET version_num = 'x'",
        "CREATE TABLE flights.mine (a int)",
        "CREATE VIEW flights.mine AS SELECT 1 AS x",
        "CREATE TABLE public.mine (a int)",
        "CREATE SCHEMA mine",
        "DROP TABLE flights.runs",
        "DROP VIEW flights.agg_dep_delay_by_date",
        "ALTER TABLE flights.runs ADD COLUMN x int",
        "SET ROLE flights_loader",
        "CREATE ROLE mine",
        "GRANT flights_reader TO pg_monitor",
        "SELECT pg_read_file('PG_VERSION')",
    ],
)
def test_a_reader_that_lifts_read_only_may_still_change_nothing(
    warehouse: str, dashboards: str, statement: str
) -> None:
    DBHandler(warehouse).publish_view(["three_sigma"], "three_sigma")
    DBHandler(warehouse).create_reader("dashboards", PASSWORD)

    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        sql(dashboards, "SET default_transaction_read_only = off", statement)


@pytest.mark.parametrize(("before", "after"), [(-1, 17), (5, 5)])
def test_a_reader_without_a_connection_limit_gets_one_and_any_other_limit_stays(
    warehouse: str, dashboards: str, before: int, after: int
) -> None:
    DBHandler(warehouse).create_reader("dashboards", PASSWORD)
    sql(warehouse, f"ALTER ROLE dashboards CONNECTION LIMIT {before}")

    assert DBHandler(warehouse).create_reader("dashboards", PASSWORD) is (before != after)

    assert sql(warehouse, "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'dashboards'") == [(after,)]
    assert DBHandler(warehouse).create_reader("dashboards", PASSWORD) is False


def test_making_a_reader_twice_touches_nothing(warehouse: str, dashboards: str) -> None:
    DBHandler(warehouse).create_reader("dashboards", PASSWORD)
    before = sql(warehouse, STATE)

    assert DBHandler(warehouse).create_reader("dashboards", PASSWORD) is False
    assert [kind for kind, *_ in before] == ["role", "member of", "set"]
    assert sql(warehouse, STATE) == before


def test_another_password_takes_the_place_of_the_old_one(warehouse: str, dashboards: str) -> None:
    DBHandler(warehouse).create_reader("dashboards", "the old one")

    assert DBHandler(warehouse).create_reader("dashboards", PASSWORD) is True
    assert refusal(dashboards) == ""
    assert "password authentication failed" in refusal(at(dashboards, password="the old one"))


def test_a_server_that_asks_for_no_password_gets_the_new_one_all_the_same(
    warehouse: str, dashboards: str, ask_password_of: Callable[[str], None]
) -> None:
    ask_password_of("somebody_else")
    DBHandler(warehouse).create_reader("dashboards", "the old one")
    DBHandler(warehouse).create_reader("dashboards", PASSWORD)
    ask_password_of("dashboards")

    assert refusal(dashboards) == ""


def test_settings_of_the_reader_that_were_changed_by_hand_are_put_back(warehouse: str, dashboards: str) -> None:
    DBHandler(warehouse).create_reader("dashboards", PASSWORD)
    in_database = f"ALTER ROLE dashboards IN DATABASE {warehouse_name(warehouse)}"
    sql(warehouse, f"{in_database} SET statement_timeout = 0", f"{in_database} SET work_mem = '8MB'")

    assert DBHandler(warehouse).create_reader("dashboards", PASSWORD) is True
    assert sql(dashboards, "SHOW statement_timeout") == [("1min",)]
    assert sql(dashboards, "SHOW work_mem") == [("8MB",)]


@pytest.mark.parametrize(
    ("role", "reason"),
    [
        ("SUPERUSER LOGIN IN ROLE flights_reader", "has more rights than a reader may have"),
        ("CREATEROLE LOGIN IN ROLE flights_reader", "has more rights than a reader may have"),
        ("REPLICATION LOGIN IN ROLE flights_reader", "has more rights than a reader may have"),
        ("NOLOGIN IN ROLE flights_reader", "is a group and no login"),
        ("LOGIN", "is no member of flights_reader"),
        ("LOGIN IN ROLE flights_reader, flights_loader", "may write into flights"),
        ("LOGIN IN ROLE flights_owner", "may write into flights"),
    ],
)
def test_a_role_of_somebody_else_is_named_and_stays_as_it_is(
    warehouse: str, dashboards: str, role: str, reason: str
) -> None:
    sql(warehouse, f"CREATE ROLE dashboards {role} PASSWORD 'its own'")
    before = sql(warehouse, STATE)

    with pytest.raises(DelaywatchError, match=rf"The role dashboards of the warehouse .* {reason}, so it stays as it"):
        DBHandler(warehouse).create_reader("dashboards", PASSWORD)

    assert sql(warehouse, STATE) == before


@pytest.mark.parametrize("login", ["", "a b", 'x" SUPERUSER; --', "9lives", "pg_reader", "public", "none", "x" * 64])
def test_a_name_that_no_login_can_have_is_refused(warehouse: str, login: str) -> None:
    with pytest.raises(DelaywatchError, match="cannot name a login; use up to 63 letters"):
        DBHandler(warehouse).create_reader(login, PASSWORD)


@pytest.mark.parametrize("password", ["", "null \0 byte"])
def test_a_password_that_cannot_be_is_refused_without_being_shown(warehouse: str, password: str) -> None:
    with pytest.raises(DelaywatchError, match="password of the reader dashboards is empty or holds a null byte") as no:
        DBHandler(warehouse).create_reader("dashboards", password)

    assert "null \0" not in "".join(traceback.format_exception(no.value))


def test_the_server_gets_a_verifier_of_the_password_and_never_the_password(warehouse: str, dashboards: str) -> None:
    sent: list[str] = []

    with before_each_statement(lambda _, statement: sent.append(statement)):
        DBHandler(warehouse).create_reader("dashboards", "simple-to-find")

    assert [statement for statement in sent if "simple-to-find" in statement] == []
    (kept,) = [statement for statement in sent if "PASSWORD" in statement]
    assert "'SCRAM-SHA-256$4096:" in kept


@pytest.mark.parametrize("is_same_database", [True, False])
def test_two_that_make_the_reader_at_once_queue_and_both_are_served(
    warehouse: str, empty_database: str, dashboards: str, is_same_database: bool
) -> None:
    DBHandler(empty_database).create()
    second = warehouse if is_same_database else empty_database
    if is_same_database:  # two that change the same login get into each other's way, unless one waits
        DBHandler(warehouse).create_reader("dashboards", "the old one")
    reached_commit, may_commit = threading.Event(), threading.Event()

    def hold_first(_: psycopg2.extensions.connection, statement: str) -> None:
        if statement == "COMMIT" and not reached_commit.is_set():
            reached_commit.set()
            assert may_commit.wait(30)

    with ThreadPoolExecutor() as pool, before_each_statement(hold_first):
        first = pool.submit(DBHandler(warehouse).create_reader, "dashboards", PASSWORD)
        assert reached_commit.wait(30)
        other = pool.submit(DBHandler(second).create_reader, "dashboards", PASSWORD)
        wait_until(lambda: bool(sql(warehouse, "SELECT 1 FROM pg_locks WHERE NOT granted")))
        may_commit.set()
        changed = first.result(), other.result()

    assert changed == (True, not is_same_database)
    for url in (warehouse, second):
        reader = at(dashboards, database=warehouse_name(url))
        assert sql(reader, "SELECT count(*) FROM flights.airport_days") == [(0,)]
        assert sql(reader, "SHOW default_transaction_read_only") == [("on",)]


def test_a_password_that_somebody_else_sets_at_the_same_moment_is_told_in_a_sentence(
    warehouse: str, dashboards: str
) -> None:
    DBHandler(warehouse).create_reader("dashboards", "the old one")

    with ThreadPoolExecutor() as pool, closing(psycopg2.connect(warehouse)) as other, other.cursor() as cursor:
        cursor.execute("ALTER ROLE dashboards PASSWORD 'theirs'")
        ours = pool.submit(DBHandler(warehouse).create_reader, "dashboards", PASSWORD)
        wait_until(lambda: bool(sql(warehouse, "SELECT 1 FROM pg_locks WHERE NOT granted")))
        other.commit()

        with pytest.raises(DelaywatchError, match=r"failed at making the reader dashboards \(tuple concurr"):
            ours.result()


def test_a_login_that_may_make_no_reader_gets_the_sql_that_an_administrator_runs_and_it_helps(
    warehouse: str, login: Callable[[str], str], dashboards: str
) -> None:
    owner = login("flights_owner")

    with pytest.raises(DelaywatchError, match=r"may not make the reader dashboards .*let an administrator run") as no:
        DBHandler(owner).create_reader("dashboards", PASSWORD)
    assert PASSWORD not in "".join(traceback.format_exception(no.value))
    assert sql(warehouse, STATE) == []

    sql(warehouse, *sql_in(no.value))
    assert DBHandler(owner).create_reader("dashboards", PASSWORD) is True
    assert refusal(dashboards) == ""


def test_a_reader_that_an_administrator_made_is_kept_when_it_is_as_asked_else_the_sentence_helps(
    warehouse: str, login: Callable[[str], str], dashboards: str
) -> None:
    owner = login("flights_owner")
    DBHandler(warehouse).create_reader("dashboards", PASSWORD)

    assert DBHandler(owner).create_reader("dashboards", PASSWORD) is False
    with pytest.raises(DelaywatchError, match=r"may not make the reader dashboards") as no:
        DBHandler(owner).create_reader("dashboards", "another")
    sql(warehouse, *sql_in(no.value))
    assert DBHandler(owner).create_reader("dashboards", "another") is True


def test_a_database_closed_to_everybody_is_opened_to_the_reader_and_gives_it_nothing_else(
    warehouse: str, dashboards: str
) -> None:
    sql(warehouse, f"REVOKE ALL ON DATABASE {warehouse_name(warehouse)} FROM public")

    DBHandler(warehouse).create_reader("dashboards", PASSWORD)

    assert sql(dashboards, "SELECT count(*) FROM flights.airport_days") == [(0,)]
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        sql(dashboards, "SET default_transaction_read_only = off", "CREATE TEMPORARY TABLE x (a int)")


def test_a_database_of_somebody_else_closed_to_the_reader_is_named_and_the_sql_helps(
    warehouse: str, login: Callable[[str], str], dashboards: str
) -> None:
    owner = login("flights_owner")
    sql(warehouse, "ALTER ROLE login_flights_owner CREATEROLE")
    sql(warehouse, "GRANT flights_reader TO login_flights_owner WITH ADMIN OPTION")
    database = warehouse_name(warehouse)
    sql(warehouse, f"REVOKE ALL ON DATABASE {database} FROM public")
    sql(warehouse, f"GRANT CONNECT ON DATABASE {database} TO login_flights_owner")

    with pytest.raises(DelaywatchError, match=r"may not let the reader dashboards connect to the warehouse") as no:
        DBHandler(owner).create_reader("dashboards", PASSWORD)
    sql(warehouse, *sql_in(no.value))

    assert DBHandler(owner).create_reader("dashboards", PASSWORD) is True
    assert sql(dashboards, "SELECT count(*) FROM flights.airport_days") == [(0,)]


# --- the view ---------------------------------------------------------------------------------------------------------

DETECTORS = ("three_sigma", "isolation_forest", "delaywatch")
WIDE = "SELECT {} FROM flights.agg_dep_delay_by_date ORDER BY id"


def columns_of_view(url: str) -> list[str]:
    found = sql(
        url,
        "SELECT attname FROM pg_attribute WHERE attrelid = 'flights.agg_dep_delay_by_date'::regclass AND attnum > 0"
        " ORDER BY attnum",
    )
    return [name for (name,) in found]


def test_the_view_has_one_row_per_airport_day_with_every_verdict(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    handler.upsert(
        "airport_days", days(*(day(name, scheduled=9) for name in ("ATL", "BOS", "CLT", "DEN", "EWR"))), 2018
    )
    closed = LATE | {"direction": "closure", "severity": 3}
    published = [
        verdict("delaywatch", "ATL", expected=10, lower=-5, upper=25, observed=60, **LATE),
        verdict("delaywatch", "BOS", **closed),
        verdict("delaywatch", "CLT"),
        verdict("delaywatch", "DEN", status="insufficient_data"),
    ]
    handler.upsert("anomalies", verdicts(*published, verdict("three_sigma", "CLT", **LATE)), 2018)

    handler.publish_view(DETECTORS, "delaywatch")

    columns = "id, scheduled, verdict, is_anomaly, severity, is_anomaly_three_sigma, is_anomaly_delaywatch"
    assert sql(warehouse, WIDE.format(columns)) == [
        ("ATL20180101", 9, "late", True, 2, None, True),
        ("BOS20180101", 9, "closure", True, 3, None, True),
        ("CLT20180101", 9, "normal", False, 0, True, False),
        ("DEN20180101", 9, "insufficient_data", False, 0, None, False),
        ("EWR20180101", 9, None, None, None, None, None),
    ]
    band = "SELECT observed, expected, lower, upper, score FROM flights.agg_dep_delay_by_date WHERE id = 'ATL20180101'"
    assert sql(warehouse, band) == [(60.0, 10.0, -5.0, 25.0, 4.5)]
    assert columns_of_view(warehouse)[:24] == ["id", *schemas.AIRPORT_DAYS.names]
    assert columns_of_view(warehouse)[-3:] == [f"is_anomaly_{name}" for name in DETECTORS]


def test_publishing_the_same_view_again_touches_nothing(warehouse: str) -> None:
    state = (
        "SELECT c.oid, c.xmin, r.xmin, d.xmin FROM pg_class c JOIN pg_rewrite r ON r.ev_class = c.oid"
        " JOIN pg_description d ON d.objoid = c.oid AND d.objsubid = 0 WHERE c.relname = 'agg_dep_delay_by_date'"
    )
    handler = DBHandler(warehouse)
    published = handler.publish_view(DETECTORS, "delaywatch")
    before = sql(warehouse, state)

    published_again = handler.publish_view(DETECTORS, "delaywatch")

    assert (published, published_again) == (True, False)
    assert len(before) == 1
    assert sql(warehouse, state) == before


def test_another_detector_keeps_the_grants_and_views_that_others_built_on_the_view(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    handler.publish_view(DETECTORS[:2], "three_sigma")
    sql(warehouse, "CREATE VIEW public.mine AS SELECT id FROM flights.agg_dep_delay_by_date")
    sql(warehouse, "GRANT SELECT ON flights.agg_dep_delay_by_date TO pg_monitor")

    handler.publish_view(DETECTORS, "delaywatch")

    assert columns_of_view(warehouse)[-1] == "is_anomaly_delaywatch"
    allowed = "SELECT has_table_privilege('pg_monitor', 'flights.agg_dep_delay_by_date', 'SELECT')"
    assert sql(warehouse, allowed) == [(True,)]


def test_a_detector_can_go_unless_a_view_of_somebody_else_stands_on_ours(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    handler.publish_view(DETECTORS, "delaywatch")
    sql(warehouse, "CREATE VIEW public.mine AS SELECT is_anomaly_isolation_forest FROM flights.agg_dep_delay_by_date")

    with pytest.raises(DelaywatchError, match=r"stand in the way of publishing .*view public.mine depends on"):
        handler.publish_view(["three_sigma", "delaywatch"], "delaywatch")
    assert "is_anomaly_isolation_forest" in columns_of_view(warehouse)
    sql(warehouse, "DROP VIEW public.mine")
    handler.publish_view(["three_sigma", "delaywatch"], "delaywatch")

    assert columns_of_view(warehouse)[-2:] == ["is_anomaly_three_sigma", "is_anomaly_delaywatch"]


def test_a_view_changed_by_hand_is_put_back(warehouse: str) -> None:
    handler = DBHandler(warehouse)
    handler.publish_view(["three_sigma"], "three_sigma")
    (definition,) = sql(warehouse, "SELECT pg_get_viewdef('flights.agg_dep_delay_by_date'::regclass)")[0]
    changed = definition.rstrip(";") + " WHERE d.origin <> 'JFK'"
    sql(warehouse, f"CREATE OR REPLACE VIEW flights.agg_dep_delay_by_date AS {changed}")
    handler.upsert("airport_days", days(day("JFK")), 2018)

    handler.publish_view(["three_sigma"], "three_sigma")

    assert sql(warehouse, WIDE.format("id")) == [("JFK20180101",)]


@pytest.mark.parametrize(
    ("asked", "scanned"),
    [
        ("mean_dep_delay_min", []),
        ("mean_dep_delay_min, is_anomaly_three_sigma", ["anomalies"]),
        ("verdict, severity, expected", ["anomalies"]),
        ("is_anomaly, sentence", ["anomalies", "anomaly_reasons"]),
        ("event_id", ["event_days"]),
        ("event", ["event_days", "events"]),
        ("opinion, is_acknowledged", ["feedback"]),
    ],
)
def test_what_nobody_asked_for_costs_a_query_nothing(warehouse: str, asked: str, scanned: list[str]) -> None:
    """Six detectors and four more joins are beyond join_collapse_limit, which must not keep the planner from it."""
    six = [*DETECTORS, "arima", "random_cut_forest", "gradient_boosting"]
    DBHandler(warehouse).publish_view(six, "delaywatch")

    plan = "\n".join(line for (line,) in sql(warehouse, "EXPLAIN " + WIDE.format(f"id, {asked}")))

    assert sorted(re.findall(r"Scan (?:using \w+ )?on (\w+)", plan)) == sorted(["airport_days", *scanned])


@pytest.mark.parametrize(
    ("detectors", "published", "sentence"),
    [
        (["three_sigma"], "delaywatch", "published detector 'delaywatch' is not among: three_sigma"),
        (['x" FROM pg_authid; --'], "three_sigma", "cannot name a column"),
    ],
)
def test_a_view_that_cannot_be_is_refused(warehouse: str, detectors: list[str], published: str, sentence: str) -> None:
    with pytest.raises(DelaywatchError, match=sentence):
        DBHandler(warehouse).publish_view(detectors, published)


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
