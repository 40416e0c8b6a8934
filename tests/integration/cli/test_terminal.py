"""What a stranger wrote into a command line, a note or a file is shown on the terminal and never obeyed."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.builders import airport_day_row as day
from tests.builders import airport_days_table as days
from tests.conftest import sql
from utils import detectors
from utils.cli import app as cli
from utils.db_handler import DBHandler
from utils.errors import DelaywatchError

pytestmark = pytest.mark.security

OWNED = "\x1b]0;owned\x07"
STORM = date(2013, 2, 8)


@pytest.fixture
def filled(warehouse: str) -> str:
    """A warehouse with one airport-day."""
    with DBHandler(warehouse) as handler:
        handler.publish_view(detectors.NAMES, detectors.PUBLISHED)
        handler.upsert("airport_days", days(day("JFK", "2013-02-08", scheduled=10)), 2013)
    return warehouse


def utils(*line: str, **environ: str) -> Result:
    return CliRunner().invoke(cli.app, line, env={"COLUMNS": "300", "DELAYWATCH_LAKE": "", **environ})


def refusal(done: Result) -> str:
    """The one sentence of a command that was refused."""
    assert isinstance(done.exception, DelaywatchError), done.exception
    return str(done.exception)


LONG = "9" * 5000  # more digits than Python reads as a number
YEARS = ["../2013", "2013/../../etc", "2013\0", "2013\n2014", "2013;ls", "$(ls)", "２０１３", LONG, f"1:{LONG}", OWNED]


def listed(warehouse: str) -> str:
    """The list of feedback as a person sees it."""
    done = utils("feedback", DELAYWATCH_WAREHOUSE=warehouse)
    assert done.exit_code == 0, done.exception
    return done.stdout


@pytest.mark.parametrize("year", YEARS)
@pytest.mark.parametrize("command", ["run", "silver", "bronze", "fetch", "status"])
def test_a_year_that_is_a_path_or_a_command_is_no_year(tmp_path: Path, command: str, year: str) -> None:
    told = refusal(utils(command, "--year", year, DELAYWATCH_LAKE=(tmp_path / "lake").as_uri()))

    assert "is not a year" in told
    assert len(told) < 200
    assert "\x1b" not in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("airport", ["../../etc", "JFK'; DROP TABLE flights.feedback; --", "{{ 7*7 }}", f"JFK{OWNED}"])
def test_an_airport_that_is_a_path_or_sql_is_no_airport(filled: str, airport: str) -> None:
    told = refusal(utils("feedback", airport, "2013-02-08", "wrong", "--author", "ann", DELAYWATCH_WAREHOUSE=filled))

    assert "has no airport" in told or "no other control character" in told
    assert "\x1b" not in told
    assert sql(filled, "SELECT count(*) FROM flights.feedback") == [(0,)]


@pytest.mark.parametrize("where", ["note", "author"])
def test_feedback_with_what_a_terminal_obeys_is_refused(filled: str, where: str) -> None:
    said = {"note": "snow", "author": "ann"} | {where: f"snow{OWNED}"}

    with DBHandler(filled) as handler, pytest.raises(DelaywatchError, match="no other control character"):
        handler.give_feedback("JFK", STORM, "wrong", **said)

    assert sql(filled, "SELECT count(*) FROM flights.feedback") == [(0,)]


def test_feedback_with_a_formula_sql_a_template_or_a_tag_is_kept_as_text(filled: str) -> None:
    note = "=1+1 '; DROP TABLE flights.feedback; -- {{ 7*7 }} <img src=x> [red]\nsecond line"
    with DBHandler(filled) as handler:
        handler.give_feedback("JFK", STORM, "wrong", note, "ann")

    shown = listed(filled)
    assert sql(filled, "SELECT note FROM flights.feedback") == [(note,)]
    assert "=1+1 '; DROP TABLE flights.feedback; -- {{ 7*7 }} <img src=x> [red]" in shown


def test_a_note_that_sql_put_in_is_listed_and_not_obeyed(filled: str) -> None:
    sql(filled, f"INSERT INTO flights.feedback VALUES ('JFK', '2013-02-08', 'wrong', E'{OWNED}', 'ann', now())")

    shown = listed(filled)

    assert "\\x1b]0;owned\\x07" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("control", ["\x1b[2J", "\r", "\x08", "\x9b2J", "\u202e"])
def test_a_sentence_writes_out_what_a_terminal_would_obey(control: str) -> None:
    told = str(DelaywatchError(f"There is no detector {control}; choose another."))

    assert told.isprintable()
    assert "There is no detector \\" in told


def test_a_sentence_keeps_its_letters_and_lines() -> None:
    sentence = "Zürich – „Köln“ 東京:\n\tALTER ROLE …;"

    assert str(DelaywatchError(sentence)) == sentence
