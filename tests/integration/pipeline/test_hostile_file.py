"""A year's CSV by an attacker: no hostile value reaches keys, SQL, pages or the terminal.

The small year runs once, with hostile values in every text column of some rows and in the header.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import command
from tests.builders import HEADER, flight, year_of_flights
from tests.conftest import at, sql
from tests.page import Page
from tests.steps import CLOSED, TABLES, YEAR, run
from utils.layers import silver
from utils.settings import Settings
from utils.storage import keys
from utils.storage.lake import Lake

pytestmark = pytest.mark.security

TAG = "<img src=x onerror=alert(1)>"
LONG = "A" * 500_000
VALUES = (
    "'; DROP TABLE flights.airport_days; --",
    TAG,
    "{{ 7*7 }}",
    "../../../../etc/passwd",
    "\x1b]0;owned\x07",
    "JFK\n",
    "ＪＦＫ",  # full-width letters
    LONG,
)
COLUMNS = (TAG, "{{ 7*7 }}", "\x1b]0;owned\x07", "=1+1")  # unknown names in the header
SHOWN_COLUMNS = f"{TAG}, {{{{ 7*7 }}}}, \\x1b]0;owned\\x07, =1+1"


def hostile_csv() -> bytes:
    """A year of three airports, with each value once as origin, destination and carrier."""
    rows = list(year_of_flights(YEAR, {"JFK": 12, "EWR": 8, "ACK": 2}, closed=CLOSED))
    rows += [
        flight(OP_CARRIER_FL_NUM=str(number), **{column: value})
        for column in ("ORIGIN", "DEST", "OP_CARRIER")
        for number, value in enumerate(VALUES, start=9000)
    ]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*HEADER, *COLUMNS])
    writer.writerows([*row.values(), *COLUMNS] for row in rows)
    return text.getvalue().encode()


@pytest.fixture(scope="module")
def attacked(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The lake and the warehouse after a run of the hostile year."""
    sql(postgres, "CREATE DATABASE test_hostile_file TEMPLATE template_warehouse")
    folder = tmp_path_factory.mktemp("hostile")
    warehouse = at(postgres, database="test_hostile_file")
    settings = Settings(lake=(folder / "lake").as_uri(), warehouse=warehouse, scratch=folder / "scratch", threads=2)
    Lake(settings).store.put(f"01_bronze/{YEAR}.csv", hostile_csv())
    run(settings)
    yield settings
    sql(postgres, "DROP DATABASE test_hostile_file WITH (FORCE)")


def test_every_row_with_a_hostile_code_is_rejected(attacked: Settings) -> None:
    rejected = Lake(attacked).read_table(keys.rejected_key(YEAR)).to_pylist()

    assert [row["column"] or row["reason"] for row in rejected] == [
        silver.TOO_LONG if value is LONG else column for column in ("ORIGIN", "DEST", "OP_CARRIER") for value in VALUES
    ]
    assert all(len(row["value"]) < 50 and row["value"].isprintable() for row in rejected)


def test_the_lake_has_only_plain_keys_and_stays_in_its_folder(attacked: Settings) -> None:
    lake_keys = [key for key in Lake(attacked).store.list("") if not key.endswith(".lock")]

    folders = {key.split("/")[2] for key in lake_keys if key.endswith(".png")}
    assert folders == {"origin=ACK", "origin=EWR", "origin=JFK"}
    assert all(re.fullmatch(r"[\w/=.-]+", key) and ".." not in key for key in lake_keys)
    folder = Path(attacked.lake.removeprefix("file://"))
    assert list(folder.parent.iterdir()) == [folder]


def test_the_warehouse_has_true_airports_and_hostile_columns_only_in_the_quality_report(attacked: Settings) -> None:
    def texts(table: str) -> str:
        return "\n".join(text for (text,) in sql(attacked.warehouse, f"SELECT t::text FROM flights.{table} AS t"))

    tables = "\n".join(texts(table) for table in TABLES if table != "bronze_quality")
    origins = sql(attacked.warehouse, "SELECT DISTINCT origin FROM flights.airport_days ORDER BY 1")
    assert origins == [("ACK",), ("EWR",), ("JFK",)]
    assert not [value for value in VALUES if value in tables]
    assert TAG in texts("bronze_quality")
    assert "\x1b" not in texts("bronze_quality")


def test_the_page_of_the_year_shows_hostile_columns_as_text(attacked: Settings) -> None:
    page = Page((Lake(attacked).store.get(keys.site_year_key(YEAR)) or b"").decode())

    assert page.attributes_of("script") == [{"src": "../site.js", "defer": None}]
    assert SHOWN_COLUMNS in page.text
    assert "\x1b" not in page.text


def test_the_log_of_the_silver_step_has_no_control_characters(attacked: Settings) -> None:
    ended = command.utils("silver", "--year", str(YEAR), DELAYWATCH_LAKE=attacked.lake)

    assert ended.returncode == 0
    assert "<img" in ended.stderr
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", ended.stdout + ended.stderr)
