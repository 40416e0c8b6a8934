"""A year's CSV that an attacker wrote: what reaches keys, SQL, pages, messages, notebooks and the terminal.

The whole small year is run once with a hostile value in every text column of some rows, and in the header.
"""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.builders import HEADER, flight, year_of_flights
from tests.conftest import at, sql
from tests.integration.documents.test_notebooks import EXPLORE, WHY, execute, running_kernel
from tests.servers.receivers import mail_server, webhook
from tests.steps import CLOSED, TABLES, YEAR, run
from utils.monitoring import notifications
from utils.settings import AlertSettings, Settings
from utils.storage import keys
from utils.storage.lake import Lake
from utils.storage.parquet import made_from

pytestmark = pytest.mark.security

ROOT = Path(__file__).resolve().parents[3]
TAG = "<img src=x onerror=alert(1)>"
VALUES = {
    "SQL": "'; DROP TABLE flights.airport_days; --",
    "a tag": TAG,
    "a script": "</script><script>alert(1)</script>",
    "a template": "{{ 7*7 }}",
    "a formula": "=cmd|'/C calc'!A0",
    "a path": "../../../../etc/passwd",
    "an absolute path": "/etc/passwd",
    "an escape sequence": "\x1b]0;owned\x07",
    "two lines": "JFK\nJFK",
    "a line end": "JFK\n",
    "letters of another script": "ＪＦＫ",
    "half a megabyte": "A" * 500_000,
}
COLUMNS = (TAG, "{{ 7*7 }}", "\x1b]0;owned\x07", "=1+1")  # of the header, which no table has


def hostile_csv() -> bytes:
    """A year of three airports in which each value stands as airport, destination and carrier, in rows of its own."""
    rows = list(year_of_flights(YEAR, {"JFK": 12, "EWR": 8, "ACK": 2}, closed=CLOSED))
    rows += [
        flight(OP_CARRIER_FL_NUM=str(place), **{column: value})
        for column in ("ORIGIN", "DEST", "OP_CARRIER")
        for place, value in enumerate(VALUES.values(), start=9000)
    ]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*HEADER, *COLUMNS])
    writer.writerows([*row.values(), *COLUMNS] for row in rows)
    return text.getvalue().encode()


@pytest.fixture(scope="module")
def attacked(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The lake and the warehouse after the run of that year."""
    sql(postgres, "CREATE DATABASE test_hostile_file TEMPLATE template_warehouse")
    folder = tmp_path_factory.mktemp("hostile")
    settings = Settings(
        lake=(folder / "lake").as_uri(),
        warehouse=at(postgres, database="test_hostile_file"),
        scratch=folder / "scratch",
        threads=2,
    )
    Lake(settings).store.put(f"01_bronze/{YEAR}.csv", hostile_csv())
    run(settings)
    yield settings
    sql(postgres, "DROP DATABASE test_hostile_file WITH (FORCE)")


def folder_of(settings: Settings) -> Path:
    return Path(settings.lake.removeprefix("file://"))


class Reader(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_row_with_a_hostile_code_is_rejected_whichever_column_it_stands_in(attacked: Settings) -> None:
    rejected = Lake(attacked).read_table(keys.rejected_key(YEAR)).to_pylist()

    by_column = {"ORIGIN": "an airport code", "DEST": "an airport code", "OP_CARRIER": "a carrier code"}
    too_long = "the line has more than 131,072 bytes"
    expected = [
        too_long if name == "half a megabyte" else f"{column} is not {what}"
        for column, what in by_column.items()
        for name in VALUES
    ]
    assert [row["reason"] for row in rejected] == expected
    assert all(len(row["value"]) < 50 and row["value"].isprintable() for row in rejected)


def test_every_key_of_the_lake_is_plain_and_nothing_lies_beside_the_lake(attacked: Settings) -> None:
    found = [key for key in Lake(attacked).store.list("") if not key.endswith(".lock")]

    assert {key.split("/")[2] for key in found if key.endswith(".png")} == {"origin=ACK", "origin=EWR", "origin=JFK"}
    assert all(re.fullmatch(r"[\w/=.-]+", key) and ".." not in key for key in found)
    assert {path.name for path in folder_of(attacked).parent.iterdir()} == {"lake"}


def test_the_warehouse_has_the_true_airports_and_no_hostile_word_but_in_the_report_of_the_file(
    attacked: Settings,
) -> None:
    def texts(table: str) -> str:
        return "\n".join(text for (text,) in sql(attacked.warehouse, f"SELECT t::text FROM flights.{table} AS t"))

    everything = "\n".join(texts(table) for table in TABLES if table != "bronze_quality")
    assert sql(attacked.warehouse, "SELECT DISTINCT origin FROM flights.airport_days ORDER BY 1") == [
        ("ACK",), ("EWR",), ("JFK",),
    ]  # fmt: skip
    assert not [name for name, value in VALUES.items() if value in everything]
    assert TAG in texts("bronze_quality")  # the column's name, as it stands in the file
    assert "\x1b" not in texts("bronze_quality")


def test_the_year_page_shows_hostile_columns_as_text_and_runs_nothing(attacked: Settings) -> None:
    page = Reader((Lake(attacked).store.get(keys.year_page_key(YEAR)) or b"").decode())

    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert f"{TAG}, {{{{ 7*7 }}}}, \\x1b]0;owned\\x07, =1+1" in page.text
    assert "\x1b" not in page.text


def test_messages_carry_hostile_columns_as_text(attacked: Settings) -> None:
    with webhook() as hook, mail_server() as server:
        alerts = AlertSettings(
            recipients=("ops@here.org",), sender=None, smtp=f"smtp://{server.address}", webhook=hook.url
        )
        notifications.notify_year(attacked, alerts, YEAR, "Lake: here")

    (posted,), (mail,) = hook.texts, server.mails
    assert "&lt;img src=x onerror=alert(1)&gt;, {{ 7*7 }}" in posted
    assert "<img" not in posted
    assert mail.get_content_type() == "text/plain"
    assert TAG in " ".join(mail.get_content().split())
    assert "\x1b" not in posted + mail.get_content()


def test_the_log_of_the_silver_step_has_nothing_that_a_terminal_obeys(attacked: Settings) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "dags"), "COLUMNS": "400", "DELAYWATCH_LAKE": attacked.lake}
    done = subprocess.run(
        [sys.executable, "-m", "utils", "silver", "--year", str(YEAR)], env=environment, capture_output=True, check=True
    )

    assert b"Columns that are not part of the dataset were ignored: <img" in done.stderr
    assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", done.stdout + done.stderr)


@pytest.mark.slow
def test_notebooks_show_hostile_text_and_run_nothing(attacked: Settings, tmp_path: Path) -> None:
    """The second reads reasons as a release before this one, which took any carrier, may have left them in the lake."""
    lake, key = Lake(attacked), keys.explanation_key(YEAR, "anomaly_reasons")
    reasons = lake.read_table(key)
    place = reasons.schema.get_field_index("sentence")
    old = reasons.set_column(place, reasons.schema.field(place), [[f"Late at {TAG}."] * reasons.num_rows])
    before = lake.store.get(key)
    lake.write_table(key, old, made_from(reasons.schema) or "")
    try:
        with running_kernel(tmp_path) as kernel:
            shown = [
                execute(kernel, notebook, attacked.lake, attacked.warehouse, tmp_path).text
                for notebook in (EXPLORE, WHY)
            ]
    finally:
        lake.store.put(key, before or b"")

    for text in shown:
        assert "&lt;img src=x onerror=alert(1)&gt;" in text
        assert TAG not in text
