"""Text of strangers in a command line, a note or a file is shown escaped on the terminal and never executed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders import airport_day_row, airport_days_table
from tests.command import utils
from tests.conftest import sql
from utils import detectors
from utils.db_handler import DBHandler

pytestmark = pytest.mark.security

OWNED = "\x1b]0;owned\x07"  # sets the title of a terminal
LONG = "9" * 5000  # more digits than Python converts to a number
FEEDBACK = {"airport": "JFK", "day": "2013-02-08", "label": "wrong", "note": "snow", "author": "ann"}


@pytest.fixture
def filled(warehouse: str) -> str:
    """A warehouse with one airport-day."""
    with DBHandler(warehouse) as handler:
        handler.publish_view(detectors.NAMES, detectors.PUBLISHED)
        handler.upsert("airport_days", airport_days_table(airport_day_row("JFK", "2013-02-08", scheduled=10)), 2013)
    return warehouse


@pytest.mark.parametrize("year", ["../2013", "2013\0", "2013\n2014", "２０１３", f"1:{LONG}", OWNED])
@pytest.mark.parametrize("command", ["run", "bronze"])
def test_a_year_that_is_a_path_or_a_command_is_named_and_refused(tmp_path: Path, command: str, year: str) -> None:
    done = utils(command, "--year", year, DELAYWATCH_LAKE=(tmp_path / "lake").as_uri())

    assert done.returncode == 1
    assert f"Error: {repr(year)[:20]}" in done.stderr
    assert "\x1b" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"airport": "JFK'; DROP TABLE flights.feedback; --"},
        {"airport": f"JFK{OWNED}"},
        {"note": f"snow{OWNED}"},
        {"author": f"ann{OWNED}"},
    ],
)
def test_feedback_with_control_characters_or_an_airport_that_is_sql_is_refused(
    filled: str, changed: dict[str, str]
) -> None:
    airport, day, label, note, author = (FEEDBACK | changed).values()

    done = utils("feedback", airport, day, label, "--note", note, "--author", author, DELAYWATCH_WAREHOUSE=filled)

    assert done.returncode == 1
    assert "\x1b" not in done.stderr
    assert sql(filled, "SELECT count(*) FROM flights.feedback") == [(0,)]


def test_notes_with_sql_or_markup_are_listed_as_text_and_control_characters_escaped(filled: str) -> None:
    note = "=1+1 '; DROP TABLE flights.feedback; -- {{ 7*7 }} <img src=x> [red]"
    utils("feedback", "JFK", "2013-02-08", "wrong", "--note", note, "--author", "ann", DELAYWATCH_WAREHOUSE=filled)
    sql(filled, f"INSERT INTO flights.feedback VALUES ('EWR', '2013-02-08', 'wrong', E'{OWNED}', 'ann', now())")

    shown = utils("feedback", DELAYWATCH_WAREHOUSE=filled).stdout

    assert note in shown
    assert "\\x1b]0;owned\\x07" in shown
    assert "\x1b" not in shown
