"""What a person says of an airport-day: kept by the warehouse, through re-runs of the year, and told by the command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders import LATE, airport_day_row, airport_days_table, verdict_row, verdicts_table
from tests.conftest import sql
from utils import schemas
from utils.cli import app as cli
from utils.cli import feedback as command
from utils.db_handler import DBHandler
from utils.errors import DelaywatchError, InvalidInput, Unavailable

STORM, AFTER = date(2013, 2, 8), date(2013, 2, 9)
DETECTORS = ("three_sigma", "delaywatch")
SEEN = "SELECT origin, opinion, is_acknowledged FROM flights.agg_dep_delay_by_date ORDER BY fl_date, origin"

# --- rows in view -----------------------------------------------------------------------------------------------------


def days(*which: tuple[str, date]) -> pa.Table:
    return airport_days_table(*(airport_day_row(origin, f"{day}") for origin, day in which))


def verdicts(*which: tuple[str, str, date, bool]) -> pa.Table:
    """(detector, origin, day, is_anomaly) to verdicts; what is flagged was late, strongly."""
    rows = (verdict_row(name, origin, f"{day}", **(LATE if flag else {})) for name, origin, day, flag in which)
    return verdicts_table(*rows)


@pytest.fixture
def handler(warehouse: str) -> Iterator[DBHandler]:
    """JFK and LGA on the day of the storm, JFK also on the day after; delaywatch flags JFK, three_sigma LGA."""
    with DBHandler(warehouse) as handler:
        handler.upsert("airport_days", days(("JFK", STORM), ("JFK", AFTER), ("LGA", STORM)), 2013)
        judged = verdicts(
            ("delaywatch", "JFK", STORM, True),
            ("delaywatch", "LGA", STORM, False),
            ("three_sigma", "JFK", STORM, False),
            ("three_sigma", "LGA", STORM, True),
        )
        handler.upsert("anomalies", judged, 2013)
        handler.publish_view(DETECTORS, "delaywatch")
        yield handler


def said(handler: DBHandler, year: int | None = None) -> list[tuple[Any, ...]]:
    found = handler.feedback(year)
    return list(
        zip(found["origin"], found["fl_date"].dt.date, found["opinion"], found["note"], found["author"], strict=True)
    )


# --- given, replaced, withdrawn ---------------------------------------------------------------------------------------


def test_what_was_said_is_kept_with_who_and_when(handler: DBHandler) -> None:
    before = datetime.now(UTC)

    is_new = handler.give_feedback("JFK", STORM, "expected", " snow, announced ", "ann")

    found = handler.feedback(2013)
    assert is_new
    assert list(found.columns) == schemas.FEEDBACK.names
    assert said(handler) == [("JFK", STORM, "expected", "snow, announced", "ann")]
    assert pd.Timestamp(before) - pd.Timedelta(minutes=1) < found["given_at"][0] < pd.Timestamp(datetime.now(UTC))


def test_a_second_opinion_replaces_the_first_and_the_same_again_changes_nothing(
    handler: DBHandler, warehouse: str
) -> None:
    handler.give_feedback("JFK", STORM, "wrong", "", "ann")
    handler.give_feedback("JFK", STORM, "right", "it snowed", "bob")
    row = "SELECT xmin::text, * FROM flights.feedback"
    before = sql(warehouse, row)

    is_new = handler.give_feedback("JFK", STORM, "right", "it snowed", "bob")

    assert not is_new
    assert said(handler) == [("JFK", STORM, "right", "it snowed", "bob")]
    assert sql(warehouse, row) == before


def test_feedback_is_read_by_year_or_all(handler: DBHandler) -> None:
    handler.upsert("airport_days", days(("JFK", date(2014, 1, 1))), 2014)
    handler.give_feedback("JFK", date(2014, 1, 1), "wrong", "", "ann")
    handler.give_feedback("JFK", STORM, "right", "", "ann")

    assert [opinion for _, _, opinion, *_ in said(handler, 2013)] == ["right"]
    assert [opinion for _, _, opinion, *_ in said(handler, 2014)] == ["wrong"]
    assert len(said(handler)) == 2
    assert handler.feedback(2012).empty


def test_withdrawn_feedback_is_gone_and_the_rest_stays(handler: DBHandler) -> None:
    handler.give_feedback("JFK", STORM, "wrong", "", "ann")
    handler.give_feedback("JFK", AFTER, "right", "", "ann")

    assert handler.withdraw_feedback("JFK", STORM) is True
    assert handler.withdraw_feedback("JFK", STORM) is False
    assert said(handler) == [("JFK", AFTER, "right", "", "ann")]


@pytest.mark.parametrize(
    "text",
    ['say "hi"', "a,b", "two\nlines", "\\.", "\\N", "NULL", "'; DROP TABLE flights.feedback; --", "%s {}", "東京"],
)
def test_text_that_means_something_to_csv_or_sql_is_only_text(handler: DBHandler, text: str) -> None:
    handler.give_feedback("JFK", STORM, "wrong", text, text)

    assert said(handler) == [("JFK", STORM, "wrong", text, text)]


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "day", "sentence"),
    [
        (
            "JFK",
            date(2013, 3, 8),
            "has no 2013-03-08 of JFK; its days of JFK are from 2013-02-08 to 2013-02-09, so cho",
        ),
        ("LGA", AFTER, "has no 2013-02-09 of LGA; its days of LGA are from 2013-02-08 to 2013-02-08, so choose one"),
        ("JKF", STORM, "has no airport JKF; did you mean JFK?"),
        ("jfk", STORM, "has no airport jfk; did you mean JFK?"),
        ("LGB", STORM, "has no airport LGB; did you mean LGA?"),
        ("ORD", STORM, "has no airport ORD; choose one of its 2, from JFK to LGA."),
        ("", STORM, "has no airport ; choose one of its 2, from JFK to LGA."),
    ],
)
def test_a_day_that_does_not_exist_is_refused_with_those_that_do(
    handler: DBHandler, origin: str, day: date, sentence: str
) -> None:
    with pytest.raises(DelaywatchError) as refused:
        handler.give_feedback(origin, day, "wrong", "", "ann")

    assert sentence in str(refused.value)
    assert said(handler) == []


def test_a_day_between_two_years_is_refused_with_the_years_that_there_are(handler: DBHandler) -> None:
    handler.upsert("airport_days", days(("JFK", date(2015, 6, 1))), 2015)

    with pytest.raises(DelaywatchError, match=r"from 2013-02-08 to 2015-06-01, in 2013 and 2015 only, so choose one"):
        handler.give_feedback("JFK", date(2014, 2, 8), "wrong", "", "ann")


def test_letters_in_another_order_come_before_a_wrong_letter(handler: DBHandler) -> None:
    handler.upsert("airport_days", days(*((origin, STORM) for origin in ("JAK", "JFK", "JKX", "KFF", "ZZZ"))), 2013)

    with pytest.raises(DelaywatchError, match=r"has no airport JKF; did you mean JFK, JAK, JKX or KFF\?"):
        handler.give_feedback("JKF", STORM, "wrong", "", "ann")


def test_a_warehouse_without_airport_days_says_so(warehouse: str) -> None:
    with pytest.raises(DelaywatchError, match=r"has no airport-days yet; run a year"):
        DBHandler(warehouse).give_feedback("JFK", STORM, "wrong", "", "ann")


@pytest.mark.parametrize(
    ("opinion", "note", "author", "sentence"),
    [
        ("maybe", "", "ann", "There is no opinion 'maybe'; choose expected, wrong or right."),
        ("Expected", "", "ann", "There is no opinion 'Expected'"),
        ("wrong", "", "  ", "Feedback needs an author"),
        ("wrong", "nul \0 byte", "ann", "may hold no null byte"),
    ],
)
def test_feedback_that_cannot_be_kept_is_refused_and_leaves_what_there_is(
    handler: DBHandler, opinion: str, note: str, author: str, sentence: str
) -> None:
    handler.give_feedback("JFK", STORM, "right", "as it was", "bob")

    with pytest.raises(DelaywatchError) as refused:
        handler.give_feedback("JFK", STORM, opinion, note, author)

    assert sentence in str(refused.value)
    assert said(handler) == [("JFK", STORM, "right", "as it was", "bob")]


def test_no_batch_replaces_what_people_said(handler: DBHandler) -> None:
    handler.give_feedback("JFK", STORM, "right", "", "ann")

    with pytest.raises(ValueError, match="feedback is given and withdrawn a day at a time"):
        handler.upsert("feedback", schemas.FEEDBACK.empty_table(), 2013)

    assert len(said(handler)) == 1


# --- who may ----------------------------------------------------------------------------------------------------------


def test_a_loader_gives_and_withdraws_feedback(handler: DBHandler, login: Callable[[str], str]) -> None:
    loader = DBHandler(login("flights_loader"))

    assert loader.give_feedback("JFK", STORM, "right", "", "ann") is True
    assert loader.withdraw_feedback("JFK", STORM) is True


@pytest.mark.parametrize("is_read_only", [True, False])
def test_a_reader_sees_feedback_and_changes_none(
    handler: DBHandler, warehouse: str, login: Callable[[str], str], is_read_only: bool
) -> None:
    """Sessions of a reader begin read-only; one that lifts that gets no further."""
    handler.give_feedback("JFK", STORM, "right", "", "ann")
    url = login("flights_reader")
    sql(warehouse, f"ALTER ROLE login_flights_reader SET default_transaction_read_only = {is_read_only}")
    reader = DBHandler(url)

    changes: list[Callable[[], bool]] = [
        lambda: reader.give_feedback("JFK", STORM, "wrong", "", "eve"),
        lambda: reader.withdraw_feedback("JFK", STORM),
    ]
    for change in changes:
        kind = Unavailable if is_read_only else InvalidInput  # a server is read-only during a failover, too
        with pytest.raises(kind, match=r"ser login_flights_reader.* feedback on JFK 2013-02-08"):
            change()

    assert said(reader) == [("JFK", STORM, "right", "", "ann")]
    assert list(reader.detector_feedback()["detector"]) == ["delaywatch", "three_sigma"]


# --- re-runs of the year, and the view --------------------------------------------------------------------------------


def test_the_view_shows_what_was_said_and_acknowledges_what_was_expected(handler: DBHandler, warehouse: str) -> None:
    handler.give_feedback("JFK", STORM, "expected", "", "ann")
    handler.give_feedback("LGA", STORM, "wrong", "", "ann")

    assert sql(warehouse, SEEN) == [("JFK", "expected", True), ("LGA", "wrong", False), ("JFK", None, False)]


def test_feedback_survives_another_run_of_the_year(handler: DBHandler, warehouse: str) -> None:
    handler.give_feedback("JFK", STORM, "expected", "snow", "ann")
    before = sql(warehouse, "SELECT xmin::text, * FROM flights.feedback")

    changed = days(("JFK", STORM), ("JFK", AFTER), ("LGA", STORM)).to_pandas().assign(scheduled=9)
    handler.upsert("airport_days", changed, 2013)
    handler.upsert("anomalies", verdicts(("delaywatch", "JFK", STORM, False)), 2013)

    assert sql(warehouse, "SELECT xmin::text, * FROM flights.feedback") == before
    assert sql(warehouse, SEEN)[0] == ("JFK", "expected", True)


def test_a_day_that_goes_takes_its_feedback_out_of_view_and_brings_it_back(handler: DBHandler, warehouse: str) -> None:
    handler.give_feedback("JFK", STORM, "expected", "", "ann")
    all_days = days(("JFK", STORM), ("JFK", AFTER), ("LGA", STORM))

    handler.upsert("airport_days", days(("LGA", STORM)), 2013)
    while_gone = sql(warehouse, SEEN)
    (listed,) = handler.judged_feedback(2013).to_dict("records")
    handler.upsert("airport_days", all_days, 2013)

    assert while_gone == [("LGA", None, False)]
    assert (listed["origin"], listed["is_there"]) == ("JFK", False)
    assert pd.isna(listed["verdict"])
    assert sql(warehouse, SEEN)[0] == ("JFK", "expected", True)


def test_feedback_on_a_day_that_is_gone_can_be_withdrawn(handler: DBHandler) -> None:
    handler.give_feedback("JFK", STORM, "expected", "", "ann")
    handler.upsert("airport_days", days(("LGA", STORM)), 2013)

    assert handler.withdraw_feedback("JFK", STORM) is True


def test_feedback_is_listed_beside_the_published_verdict(handler: DBHandler) -> None:
    for origin, day in (("LGA", STORM), ("JFK", AFTER), ("JFK", STORM)):
        handler.give_feedback(origin, day, "right", "", "ann")

    found = handler.judged_feedback()

    assert list(found.columns) == [*schemas.FEEDBACK.names, "is_there", "verdict", "severity"]
    assert list(found["origin"]) == ["JFK", "LGA", "JFK"]
    assert found["verdict"].fillna("none").tolist() == ["late", "normal", "none"]
    assert found["severity"].fillna(-1).tolist() == [2, 0, -1]


# --- detectors by feedback --------------------------------------------------------------------------------------------


def test_a_detector_s_precision_is_the_share_of_right_among_its_flags_that_were_called_right_or_wrong(
    handler: DBHandler,
) -> None:
    handler.give_feedback("JFK", STORM, "right", "", "ann")
    handler.give_feedback("LGA", STORM, "wrong", "", "ann")

    found = handler.detector_feedback(2013).set_index("detector")

    counts = ["right_flags", "wrong_flags", "expected_flags", "right_missed"]
    assert found.loc[["delaywatch", "three_sigma"], counts].to_numpy().tolist() == [[1, 0, 0, 0], [0, 1, 0, 1]]
    assert found["precision_by_feedback"].to_dict() == {"delaywatch": 1.0, "three_sigma": 0.0}


def test_a_day_that_was_expected_counts_for_and_against_no_detector(handler: DBHandler) -> None:
    handler.give_feedback("JFK", STORM, "expected", "", "ann")

    found = handler.detector_feedback(2013).set_index("detector")

    assert found["expected_flags"].to_dict() == {"delaywatch": 1, "three_sigma": 0}
    assert found["precision_by_feedback"].isna().all()


def test_without_feedback_no_detector_is_counted(handler: DBHandler) -> None:
    assert handler.detector_feedback().empty
    assert list(handler.detector_feedback().columns)[:2] == ["year", "detector"]


SAID = st.lists(st.tuples(st.sampled_from(schemas.OPINIONS), st.booleans(), st.booleans()), max_size=6)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=SAID)
def test_counts_and_precision_are_those_of_the_definition(warehouse: str, said: list[tuple[str, bool, bool]]) -> None:
    """Each day: (opinion, is flagged by one, is flagged by other), one airport per day."""
    which = [(f"A{number:02}", STORM) for number in range(len(said))]
    flags = [
        (name, origin, day, pair[place])
        for place, name in enumerate(DETECTORS)
        for (origin, day), (_, *pair) in zip(which, said, strict=True)
    ]
    sql(warehouse, "DELETE FROM flights.feedback")
    with DBHandler(warehouse) as handler:
        handler.upsert("airport_days", days(*which), 2013)
        handler.upsert("anomalies", verdicts(*flags), 2013)
        for (origin, day), (opinion, *_) in zip(which, said, strict=True):
            handler.give_feedback(origin, day, opinion, "", "ann")

        found = handler.detector_feedback(2013).set_index("detector")

    assert set(found.index) == (set(DETECTORS) if said else set())
    for place, name in enumerate(DETECTORS if said else ()):
        flagged = [opinion for opinion, *pair in said if pair[place]]
        right, wrong = flagged.count("right"), flagged.count("wrong")
        assert found.loc[name, "right_flags"] == right
        assert found.loc[name, "wrong_flags"] == wrong
        assert found.loc[name, "expected_flags"] == flagged.count("expected")
        assert found.loc[name, "right_missed"] == sum(opinion == "right" and not pair[place] for opinion, *pair in said)
        precision = found["precision_by_feedback"].to_dict()[name]
        assert precision == pytest.approx(right / (right + wrong) if right + wrong else float("nan"), nan_ok=True)


# --- the command ------------------------------------------------------------------------------------------------------


class Done(NamedTuple):
    """What a command left: exit code, stdout, stderr."""

    returncode: int
    stdout: str
    stderr: str


Typed = Callable[..., Done]


@pytest.fixture
def typed(warehouse: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Run `python -m utils feedback` with this line, without a lake, as the user ann."""
    settings = {"COLUMNS": "200", "DELAYWATCH_LAKE": "", "DELAYWATCH_WAREHOUSE": warehouse, "LOGNAME": "ann"}

    def run(*line: str, **environment: str) -> Done:
        for name, value in (settings | environment).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["utils", "feedback", *line])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        return Done(code if isinstance(code, int) else 0, *capsys.readouterr())

    return run


def cells(done: Done) -> list[list[str]]:
    """The rows of the tables on stdout, without their heads."""
    assert done.returncode == 0, done.stderr
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in done.stdout.splitlines() if "│" in line]


def test_feedback_is_given_listed_and_withdrawn_from_the_command_line(handler: DBHandler, typed: Typed) -> None:
    given = typed("jfk", "2013-02-08", "expected", "--note", "snow [bold]announced[/x]")
    typed("LGA", "2013-02-08", "right", "--author", "bob")
    listed = cells(typed())
    withdrawn = typed("JFK", "2013-02-08", "--withdraw")

    assert given.stdout.splitlines()[0] == "JFK 2013-02-08: expected (the published verdict: late, strong)."
    assert "python -m utils detect --year 2013" in given.stdout
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert [row[:5] + row[6:] for row in listed[:2]] == [
        ["JFK", "2013-02-08", "expected", "late, strong", "ann", "snow [bold]announced[/x]"],
        ["LGA", "2013-02-08", "right", "normal", "bob", ""],
    ]
    assert today in {row[5] for row in listed[:2]}
    assert listed[2:] == [
        ["delaywatch", "0", "0", "–", "1", "1"],
        ["three_sigma", "1", "0", "100%", "0", "0"],
    ]
    assert withdrawn.stdout.splitlines()[0] == "JFK 2013-02-08: expected is withdrawn."
    assert said(handler) == [("LGA", STORM, "right", "", "bob")]


def test_the_list_can_be_of_some_years_and_says_when_it_is_empty(handler: DBHandler, typed: Typed) -> None:
    handler.give_feedback("JFK", STORM, "right", "", "ann")

    assert typed("--year", "2014:2015").stdout == "No feedback on days of these years yet.\n"
    assert [row[0] for row in cells(typed("--year", "2012:2013"))] == ["JFK", "delaywatch", "three_sigma"]


def test_the_commands_to_run_next_are_shown_only_if_a_verdict_may_change(handler: DBHandler, typed: Typed) -> None:
    command = "python -m utils detect --year 2013"

    told = [
        command in typed("JFK", "2013-02-08", *rest).stdout
        for rest in (["wrong"], ["expected"], ["expected"], ["right"], ["--withdraw"])
    ]

    assert told == [False, True, False, True, False]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["JKF", "2013-02-08", "right"], "has no airport JKF; did you mean JFK?"),
        (["JFK", "2013-02-30", "right"], "2013-02-30 is not a day; write it like 2013-02-08, after the airport."),
        (["JFK", "9999-12-31", "right"], "9999 is not in this dataset"),
        (["JFK", "2013-02-08", "maybe"], "There is no opinion 'maybe'; choose expected, wrong or right."),
        (["JFK", "2013-02-08"], "What was JFK on 2013-02-08? Add one of expected, wrong, right; or --withdraw"),
        (["JFK"], "Feedback is on a day of an airport; name both, such as JFK 2013-02-08."),
        (["--note", "snow"], "Feedback is on a day of an airport; name both"),
        (["--withdraw"], "Feedback is on a day of an airport; name both"),
        (
            ["JFK", "2013-02-08", "--withdraw"],
            "There is no feedback on JFK 2013-02-08 to withdraw; `python -m utils fe",
        ),
        (
            ["JFK", "2013-02-08", "right", "--withdraw"],
            "--withdraw takes back what was said of a day; leave out opinion",
        ),
        (["JFK", "2013-02-08", "right", "--year", "2013"], "--year chooses what is listed; leave it out"),
        (["--year", "abc"], "'abc' is not a year"),
        (["JFK", "2013-02-08", "right", "--author", " "], "Feedback needs an author; say who gives it."),
    ],
)
def test_a_line_that_makes_no_sense_is_told_in_a_sentence_and_changes_nothing(
    handler: DBHandler, typed: Typed, line: list[str], sentence: str
) -> None:
    done = typed(*line)

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert sentence in done.stderr
    assert said(handler) == []


def test_without_a_warehouse_the_variable_is_named(typed: Typed) -> None:
    done = typed("JFK", "2013-02-08", "right", DELAYWATCH_WAREHOUSE="")

    assert (done.returncode, "DELAYWATCH_WAREHOUSE is not set" in done.stderr) == (1, True)


def test_a_user_without_a_name_is_asked_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", nameless)

    with pytest.raises(DelaywatchError, match=r"does not know your name; give it with --author"):
        command._login()


def test_the_command_explains_itself(typed: Typed) -> None:
    told = typed("--help")

    assert told.returncode == 0
    for word in ("airport", "day", "opinion", "--note", "--author", "--withdraw", "--year", "--warehouse"):
        assert word in told.stdout
