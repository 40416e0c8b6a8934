"""Feedback on airport-days in a real Postgres: given, replaced, withdrawn, counted by detector, and the command."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from subprocess import CompletedProcess
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.builders import LATE, airport_day_row, airport_days_table, verdict_row, verdicts_table
from tests.command import cells, utils
from tests.conftest import sql
from utils import schemas
from utils.db_handler import DBHandler
from utils.errors import DelaywatchError, InvalidInput, Missing

STORM, AFTER = date(2013, 2, 8), date(2013, 2, 9)
DETECTORS = ("three_sigma", "delaywatch")


def days(*keys: tuple[str, date]) -> pa.Table:
    return airport_days_table(*(airport_day_row(origin, f"{day}") for origin, day in keys))


ALL_DAYS = days(("JFK", STORM), ("JFK", AFTER), ("LGA", STORM))


@pytest.fixture
def handler(warehouse: str) -> Iterator[DBHandler]:
    """JFK and LGA on the day of the storm, and JFK on the day after; delaywatch flags JFK, three_sigma flags LGA."""
    verdicts = verdicts_table(
        verdict_row("delaywatch", "JFK", f"{STORM}", **LATE),
        verdict_row("delaywatch", "LGA", f"{STORM}"),
        verdict_row("three_sigma", "JFK", f"{STORM}"),
        verdict_row("three_sigma", "LGA", f"{STORM}", **LATE),
    )
    with DBHandler(warehouse) as handler:
        handler.upsert("airport_days", ALL_DAYS, 2013)
        handler.upsert("anomalies", verdicts, 2013)
        handler.publish_view(DETECTORS, "delaywatch")
        yield handler


def stored(handler: DBHandler, year: int | None = None) -> list[tuple[Any, ...]]:
    rows = handler.feedback(year)
    return list(
        zip(rows["origin"], rows["fl_date"].dt.date, rows["opinion"], rows["note"], rows["author"], strict=True)
    )


# --- given, replaced, withdrawn ---------------------------------------------------------------------------------------


def test_a_second_opinion_replaces_the_first_and_equal_feedback_keeps_its_time(handler: DBHandler) -> None:
    first = handler.give_feedback("JFK", STORM, "wrong", "", "ann")
    second = handler.give_feedback("JFK", STORM, "right", " it snowed ", "bob")
    before = handler.feedback()

    third = handler.give_feedback("JFK", STORM, "right", "it snowed", "bob")

    assert (first, second, third) == (True, True, False)
    assert stored(handler) == [("JFK", STORM, "right", "it snowed", "bob")]
    assert handler.feedback().equals(before)
    assert abs(handler.feedback()["given_at"][0] - datetime.now(UTC)) < timedelta(minutes=1)


def test_feedback_is_withdrawn_and_read_by_year(handler: DBHandler) -> None:
    handler.upsert("airport_days", days(("JFK", date(2014, 1, 1))), 2014)
    for day in (STORM, AFTER, date(2014, 1, 1)):
        handler.give_feedback("JFK", day, "wrong", "", "ann")

    assert (handler.withdraw_feedback("JFK", STORM), handler.withdraw_feedback("JFK", STORM)) == (True, False)

    assert [day for _, day, *_ in stored(handler)] == [AFTER, date(2014, 1, 1)]
    assert [day for _, day, *_ in stored(handler, 2013)] == [AFTER]
    assert stored(handler, 2012) == []


@pytest.mark.parametrize(
    ("origin", "day", "opinion", "kind", "named"),
    [
        ("JFK", date(2013, 3, 8), "wrong", Missing, "2013-02-08 to 2015-06-01, in 2013 and 2015 only"),
        ("JKF", STORM, "wrong", Missing, r"JFK, JAK, JKX or KFF\?"),  # swapped letters before a wrong letter
        ("ORD", STORM, "wrong", Missing, "JAK to ZZZ"),
        ("JFK", STORM, "Expected", InvalidInput, "'Expected'"),
    ],
)
def test_an_unknown_day_or_opinion_is_refused_and_leaves_the_old_feedback(
    handler: DBHandler, origin: str, day: date, opinion: str, kind: type[DelaywatchError], named: str
) -> None:
    others = ((origin, date(2015, 6, 1)) for origin in ("JAK", "JFK", "JKX", "KFF", "ZZZ"))
    handler.upsert("airport_days", days(*others), 2015)
    handler.give_feedback("JFK", STORM, "right", "old", "bob")

    with pytest.raises(kind, match=named):
        handler.give_feedback(origin, day, opinion, "", "ann")

    assert stored(handler) == [("JFK", STORM, "right", "old", "bob")]


def test_feedback_survives_runs_of_the_year_and_the_absence_of_its_day(handler: DBHandler, warehouse: str) -> None:
    in_view = "SELECT origin, opinion, is_acknowledged FROM flights.agg_dep_delay_by_date ORDER BY fl_date, origin"
    handler.give_feedback("JFK", STORM, "expected", "", "ann")
    handler.give_feedback("LGA", STORM, "wrong", "", "ann")
    before = sql(warehouse, "SELECT xmin::text, * FROM flights.feedback")

    handler.upsert("airport_days", days(("LGA", STORM)), 2013)
    while_absent = sql(warehouse, in_view)
    with pytest.raises(ValueError, match="feedback"):
        handler.upsert("feedback", schemas.FEEDBACK.empty_table(), 2013)
    (listed, _) = handler.judged_feedback(2013).to_dict("records")
    handler.upsert("airport_days", ALL_DAYS, 2013)

    assert while_absent == [("LGA", "wrong", False)]
    assert (listed["origin"], listed["has_airport_day"], pd.isna(listed["verdict"])) == ("JFK", False, True)
    assert sql(warehouse, in_view) == [("JFK", "expected", True), ("LGA", "wrong", False), ("JFK", None, False)]
    assert sql(warehouse, "SELECT xmin::text, * FROM flights.feedback") == before


# --- precision of each detector ---------------------------------------------------------------------------------------

DAYS = st.lists(
    st.fixed_dictionaries({"opinion": st.sampled_from(schemas.OPINIONS)} | {name: st.booleans() for name in DETECTORS}),
    max_size=6,
)


@settings(max_examples=15, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(airports=DAYS)
def test_precision_is_right_over_right_and_wrong_flags(warehouse: str, airports: list[dict[str, Any]]) -> None:
    codes = [f"A{number:02}" for number in range(len(airports))]
    rows = (
        verdict_row(name, code, f"{STORM}", **(LATE if airport[name] else {}))
        for code, airport in zip(codes, airports, strict=True)
        for name in DETECTORS
    )
    sql(warehouse, "DELETE FROM flights.feedback")
    with DBHandler(warehouse) as handler:
        handler.upsert("airport_days", days(*((code, STORM) for code in codes)), 2013)
        handler.upsert("anomalies", verdicts_table(*rows), 2013)
        for code, airport in zip(codes, airports, strict=True):
            handler.give_feedback(code, STORM, airport["opinion"], "", "ann")

        counts = handler.detector_feedback(2013).set_index("detector")

    assert set(counts.index) == (set(DETECTORS) if airports else set())
    for name in counts.index:
        row = counts.loc[name]
        flags = [airport["opinion"] for airport in airports if airport[name]]
        right, wrong = flags.count("right"), flags.count("wrong")
        missed = sum(airport["opinion"] == "right" for airport in airports) - right
        assert row[["right_flags", "wrong_flags", "expected_flags", "right_missed"]].tolist() == [
            *(right, wrong, flags.count("expected"), missed)
        ]
        if right + wrong:
            assert row["precision_by_feedback"] == pytest.approx(right / (right + wrong))
        else:
            assert pd.isna(row["precision_by_feedback"])


# --- the command ------------------------------------------------------------------------------------------------------


def feedback(warehouse: str, *line: str) -> CompletedProcess[str]:
    return utils("feedback", *line, DELAYWATCH_WAREHOUSE=warehouse, LOGNAME="ann")


def test_the_command_gives_lists_and_withdraws_feedback(handler: DBHandler, warehouse: str) -> None:
    given = feedback(warehouse, "jfk", "2013-02-08", "expected", "--note", "snow [bold]announced[/x]")
    feedback(warehouse, "LGA", "2013-02-08", "right", "--author", "bob")
    listed, of_other_years = (cells(feedback(warehouse, "--year", years)) for years in ("2013", "2014:2015"))
    withdrawn = feedback(warehouse, "JFK", "2013-02-08", "--withdraw")

    assert (given.returncode, withdrawn.returncode) == (0, 0)
    assert [row[:5] + row[6:] for row in listed[:2]] == [
        ["JFK", "2013-02-08", "expected", "late, strong", "ann", "snow [bold]announced[/x]"],
        ["LGA", "2013-02-08", "right", "normal", "bob", ""],
    ]
    assert listed[2:] == [["delaywatch", "0", "0", "–", "1", "1"], ["three_sigma", "1", "0", "100%", "0", "0"]]
    assert of_other_years == []
    assert stored(handler) == [("LGA", STORM, "right", "", "bob")]


def test_detect_is_the_next_step_only_if_a_verdict_may_change(handler: DBHandler, warehouse: str) -> None:
    lines = ("wrong", "expected", "expected", "right", "--withdraw", "expected", "--withdraw")

    outputs = [feedback(warehouse, "JFK", "2013-02-08", line).stdout for line in lines]

    assert ["detect --year 2013" in output for output in outputs] == [False, True, False, True, False, True, True]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("JFK 2013-02-30 right", "2013-02-30"),
        ("JFK 2013-02-08", "expected, wrong, right"),
        ("--withdraw", "airport and a day"),
        ("JFK 2013-02-08 --withdraw", "JFK 2013-02-08"),
        ("JFK 2013-02-08 right --withdraw", "--withdraw"),
    ],
)
def test_an_invalid_line_ends_with_exit_code_1_and_changes_nothing(
    handler: DBHandler, warehouse: str, line: str, named: str
) -> None:
    done = feedback(warehouse, *line.split())

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert named in done.stderr
    assert stored(handler) == []
