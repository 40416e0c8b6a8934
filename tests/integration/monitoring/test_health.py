"""Health in one look: what is well and what is not, each in a sentence, and the one word for browsers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner, Result

from tests.conftest import sql, wait_until
from tests.servers.certificates import self_signed
from tests.steps import BRONZE_KEY, OTHER_BRONZE, YEAR
from utils.cli import app as cli
from utils.errors import DelaywatchError
from utils.monitoring import health, health_page
from utils.monitoring.health import Finding
from utils.monitoring.health_page import HealthStatus
from utils.pipeline import refine
from utils.settings import Settings, WatchSettings
from utils.storage.keys import anomalies_key
from utils.storage.lake import Lake
from utils.storage.parquet import made_from

ROOT = Path(__file__).parents[3]
NOW = datetime(YEAR + 1, 3, 1, 12, tzinfo=UTC)  # the year is over, its file is still waited for
WATCH = WatchSettings()


def found(settings: Settings, watch: WatchSettings = WATCH, now: datetime = NOW) -> dict[str, Finding]:
    """The findings by what was looked at, the last one of each."""
    return {one.what: one for one in health.check(settings, watch, now)}


def test_a_finished_year_is_well_in_every_respect(done: Settings) -> None:
    seen = found(done)

    assert {what: one.is_well for what, one in seen.items()} == {
        "bronze": True, "run": True, "warehouse": True, "disk": True,
    }  # fmt: skip
    assert seen["bronze"].sentence == f"01_bronze/{YEAR}.csv is in {done.lake}."
    assert f"The last year to be finished is {YEAR}, on " in seen["run"].sentence
    assert f"has {YEAR} as the lake has them" in seen["warehouse"].sentence


# --- bronze -----------------------------------------------------------------------------------------------------------


def test_a_year_is_waited_for_as_long_as_its_run_waits(done: Settings) -> None:
    now = datetime(YEAR + 2, 3, 1, tzinfo=UTC)

    waited = found(done, now=now)["bronze"]

    assert waited.is_well
    assert (
        f"01_bronze/{YEAR + 1}.csv is not there yet; the run of {YEAR + 1} waits until {YEAR + 2}-06-"
        in waited.sentence
    )


def test_a_year_that_never_came_is_a_problem_that_names_what_is_there(done: Settings) -> None:
    missed = found(done, now=datetime(YEAR + 2, 9, 1, tzinfo=UTC))["bronze"]

    assert not missed.is_well
    assert f"01_bronze/{YEAR + 1}.csv (or .csv.gz) is not in" in missed.sentence
    assert f"choose another year: {YEAR}" in missed.sentence


def test_the_year_that_must_be_there_can_be_named(done: Settings) -> None:
    late = datetime(YEAR + 9, 9, 1, tzinfo=UTC)

    assert found(done, WatchSettings(expected_year=YEAR), late)["bronze"].is_well
    assert not found(done, WatchSettings(expected_year=YEAR - 1), late)["bronze"].is_well


# --- warehouse --------------------------------------------------------------------------------------------------------


def test_a_warehouse_without_a_row_of_gold_is_behind_the_lake(done: Settings) -> None:
    sql(done.warehouse, "DELETE FROM flights.airport_days WHERE origin = 'ACK' AND fl_date = '2015-03-01'")

    behind = found(done)["warehouse"]

    assert not behind.is_well
    assert (
        f"{YEAR} (airport_days: 1,095 in gold, 1,094 in the warehouse); run upsert and page of it." in behind.sentence
    )


def test_a_new_file_whose_run_has_not_come_to_its_end_leaves_the_warehouse_behind(done: Settings) -> None:
    Lake(done).store.put(BRONZE_KEY, OTHER_BRONZE)
    refine.write_silver(done, YEAR)

    behind = found(done)["warehouse"]

    assert (behind.is_well, f"{YEAR} (another file)" in behind.sentence) == (False, True)


def test_a_warehouse_that_a_run_is_about_to_bring_up_to_date_is_well(done: Settings) -> None:
    """The two tables of Airflow are played by ours with the columns that are asked for."""
    sql(
        done.warehouse,
        "DELETE FROM flights.airport_days WHERE origin = 'ACK'",
        "CREATE TABLE public.dag_run AS"
        " SELECT 'flight_anomalies' AS dag_id, 'by-hand' AS run_id, 'running' AS state, NULL::timestamptz AS end_date",
        "CREATE TABLE public.task_instance AS"
        " SELECT 'flight_anomalies' AS dag_id, 'by-hand' AS run_id, 'silver' AS task_id, 'success' AS state",
    )
    watch = WatchSettings(airflow_database=done.warehouse)

    seen = found(done, watch)["warehouse"]
    sql(done.warehouse, "UPDATE public.dag_run SET state = 'failed'")
    later = found(done, watch)["warehouse"]

    assert (seen.is_well, seen.sentence.endswith("; the run by-hand is under way.")) == (True, True)
    assert (later.is_well, later.sentence.endswith("; run upsert and page of it.")) == (False, True)


def test_verdicts_of_other_settings_than_those_of_the_warehouse_are_noticed(done: Settings) -> None:
    sql(done.warehouse, "UPDATE flights.runs SET params_hash = 'of others'")

    behind = found(done)["warehouse"]

    assert (behind.is_well, f"{YEAR} (verdicts of other settings)" in behind.sentence) == (False, True)


def test_the_last_run_of_a_year_counts_and_not_an_earlier_one(done: Settings) -> None:
    sql(
        done.warehouse,
        "INSERT INTO flights.runs (run_id, year, params_hash, started, ended)"
        " SELECT 'the day before', year, 'of others', started - interval '1 day', ended - interval '1 day'"
        " FROM flights.runs",
    )

    seen = found(done)["warehouse"]

    assert seen.is_well


def test_a_warehouse_that_does_not_answer_is_a_problem_and_does_not_hide_the_rest(done: Settings) -> None:
    seen = found(done.replace(warehouse="postgresql://nobody:hunter2@127.0.0.1:1/flights"))

    assert {what: one.is_well for what, one in seen.items()} == {
        "bronze": True, "run": False, "warehouse": False, "disk": True,
    }  # fmt: skip
    assert "No Postgres answers at the warehouse flights at 127.0.0.1:1" in seen["warehouse"].sentence
    assert "hunter2" not in str(seen)


def test_an_empty_installation_is_well(folder_settings: Settings, warehouse: str) -> None:
    seen = found(folder_settings.replace(warehouse=warehouse), now=datetime(2016, 1, 2, tzinfo=UTC))

    assert [one.is_well for one in seen.values()] == [True] * 4
    assert seen["run"].sentence == "No year has been finished yet."


# --- disk and certificate ---------------------------------------------------------------------------------------------


def test_a_disk_that_is_nearly_full_is_a_problem_by_a_given_figure(
    done: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100 << 30, 95 << 30, 5 << 30))

    full = found(done)["disk"]

    assert not full.is_well
    assert full.sentence.startswith("Only 5.4 GB (5%) are free on the disk of ")
    assert "`python -m utils sweep --dry-run`" in full.sentence


def test_one_disk_is_told_once(done: Settings, tmp_path: Path) -> None:
    findings = health.check(done, WatchSettings(log_folder=tmp_path / "logs"), NOW)

    assert [one.what for one in findings].count("disk") == 1


def certificate(path: Path, days: float) -> WatchSettings:
    made, _ = self_signed("flights.example.org", NOW - timedelta(days=400), NOW + timedelta(days=days))
    path.write_bytes(made)
    return WatchSettings(certificate=path)


@pytest.mark.parametrize(
    ("days", "is_well", "said"),
    [
        (90.5, True, "The certificate is good until 2016-05-31, 90 days."),
        (13.5, False, "The certificate ends on 2016-03-15, 13 days left; renew it."),
        (-1, False, "The certificate expired on 2016-02-29; renew it, see nginx/README.md."),
    ],
)
def test_the_days_of_the_certificate_are_counted(
    done: Settings, tmp_path: Path, days: float, is_well: bool, said: str
) -> None:
    assert found(done, certificate(tmp_path / "tls.crt", days))["certificate"] == Finding("certificate", is_well, said)


@pytest.mark.parametrize(("content", "said"), [(None, "cannot be read"), (b"nonsense", "is not a certificate in PEM")])
def test_a_certificate_that_cannot_be_read_is_a_problem(
    done: Settings, tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "tls.crt"
    if content is not None:
        path.write_bytes(content)

    unread = found(done, WatchSettings(certificate=path))["certificate"]

    assert (unread.is_well, said in unread.sentence) == (False, True)


# --- backup -----------------------------------------------------------------------------------------------------------

PLACE = "s3://backups/delaywatch"


def event(
    hours_ago: float, text: str = "daily-20160301T093000Z.tar", place: str | None = PLACE
) -> dict[str, str | None]:
    return {"at": (NOW - timedelta(hours=hours_ago)).isoformat(), "text": text, "place": place}


@pytest.mark.parametrize(
    ("place", "record", "is_well", "told"),
    [
        pytest.param(None, None, True, "no backup yet", id="off, none"),
        pytest.param(None, {"made": event(80)}, True, "3 days old", id="off, made by hand"),
        pytest.param(PLACE, None, False, f"no backup in {PLACE} yet", id="on, none"),
        pytest.param(PLACE, {"made": event(1)}, False, f"no backup in {PLACE} yet", id="on, made and not copied"),
        pytest.param(PLACE, {"copied": event(0.5)}, True, "less than an hour old", id="on, new"),
        pytest.param(PLACE, {"copied": event(47)}, True, "47 hours old", id="on, nearly two days"),
        pytest.param(PLACE, {"copied": event(49)}, False, "2 days old", id="on, more than two days"),
        pytest.param("/mnt/other", {"copied": event(1)}, False, "in /mnt/other yet", id="on, in another place"),
        pytest.param(
            PLACE, {"copied": event(5), "failed": event(1, "the disk is full.")}, False, "1 hour ago: the disk is",
            id="on, the last attempt failed",
        ),
        pytest.param(
            PLACE, {"copied": event(5), "failed": event(1, "no disk.", "/mnt/other")}, True, "5 hours old",
            id="on, an attempt in a former place failed",
        ),
    ],
)  # fmt: skip
def test_the_age_of_the_newest_backup_is_told_and_is_a_problem_when_a_daily_one_is_missing(
    done: Settings, tmp_path: Path, place: str | None, record: dict[str, object] | None, is_well: bool, told: str
) -> None:
    path = tmp_path / "backup.json"
    if record is not None:
        path.write_text(json.dumps(record))

    backup = found(done, WatchSettings(backup=place, backup_record=path))["backup"]

    assert backup.is_well == is_well
    assert told in backup.sentence


def test_a_record_of_backups_that_is_damaged_is_a_problem_and_does_not_hide_the_rest(
    done: Settings, tmp_path: Path
) -> None:
    (tmp_path / "backup.json").write_text("{")

    seen = found(done, WatchSettings(backup_record=tmp_path / "backup.json"))

    assert not seen["backup"].is_well
    assert str(tmp_path / "backup.json") in seen["backup"].sentence
    assert seen["bronze"].is_well


# --- the command ------------------------------------------------------------------------------------------------------


def utils(*line: str, settings: Settings) -> Result:
    nothing = {name: "" for name in os.environ if name.startswith("DELAYWATCH_")}
    return CliRunner().invoke(
        cli.app, line, env={**nothing, "DELAYWATCH_LAKE": settings.lake, "DELAYWATCH_WAREHOUSE": settings.warehouse}
    )


def test_the_command_says_a_line_each_and_exits_with_1_on_a_problem(done: Settings) -> None:
    well, unwell = (utils("health", "--year", str(year), settings=done) for year in (YEAR, YEAR - 1))

    assert (well.exit_code, unwell.exit_code) == (0, 1)
    assert [line.split()[:2] for line in well.stdout.splitlines()] == [
        ["ok", "bronze"], ["ok", "run"], ["ok", "warehouse"], ["ok", "disk"],
    ]  # fmt: skip
    assert unwell.stdout.splitlines()[0].startswith("PROBLEM  bronze       There is no")


def test_the_command_says_the_same_as_json(done: Settings) -> None:
    said = utils("health", "--json", "--year", str(YEAR - 1), settings=done)

    answer = json.loads(said.stdout)
    assert (said.exit_code, answer["word"]) == (1, "problem")
    assert [one["what"] for one in answer["findings"] if not one["is_well"]] == ["bronze"]


def test_the_command_stays_small_however_large_a_year_is(done: Settings) -> None:
    """Two of them, the command and the server, share the 256 MB of the container."""
    lake = Lake(done)
    for key in [BRONZE_KEY, *lake.silver_parts(YEAR)]:
        os.truncate(Path(done.lake.removeprefix("file://"), key), 4 << 30)  # sparse: whoever reads it needs 4 GB
    verdicts = lake.read_anomalies(YEAR, "delaywatch")
    lake.write_table(
        anomalies_key(YEAR, "delaywatch"), pa.concat_tables([verdicts] * 400), made_from(verdicts.schema) or ""
    )
    program = """
import re, sys
from pathlib import Path
from utils.cli.app import app

try:
    app(["health", "--json"])
finally:  # not getrusage's, which a process inherits from the one that started it
    print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1], file=sys.stderr)
"""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "dags"), "DELAYWATCH_EXPECTED_YEAR": str(YEAR)}
    environment |= {"DELAYWATCH_LAKE": done.lake, "DELAYWATCH_WAREHOUSE": done.warehouse}

    looked = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )

    findings = {one["what"]: one for one in json.loads(looked.stdout)["findings"]}
    assert findings["bronze"]["is_well"]
    assert "438,000 in gold, 1,095 in the warehouse" in findings["warehouse"]["sentence"]
    assert int(looked.stderr.split()[-1]) < 140_000  # kB; with pandas and Alembic it was 181,000


# --- the page ---------------------------------------------------------------------------------------------------------


@contextmanager
def page(word: HealthStatus) -> Iterator[int]:
    with health_page.server("127.0.0.1", 0, word) as listening:
        threading.Thread(target=listening.serve_forever, args=[0.02], daemon=True).start()
        yield listening.server_address[1]
        listening.shutdown()


def asked(port: int, path: str = "/health", method: str = "GET") -> tuple[int, str, dict[str, str]]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text, dict(answer.getheaders())


def test_the_page_is_one_word_and_tells_outsiders_nothing_else() -> None:
    word = HealthStatus()
    with page(word) as port:
        before = asked(port)
        word.update(lambda: {"word": "ok", "findings": []})
        well = asked(port)
        word.update(lambda: {"word": "problem", "findings": [{"is_well": False, "sentence": "secret place"}]})
        unwell = asked(port)

    assert [(status, text) for status, text, _ in (before, well, unwell)] == [
        (503, "starting\n"), (200, "ok\n"), (503, "problem\n"),
    ]  # fmt: skip
    assert well[2]["Cache-Control"] == "no-store"
    assert "Python" not in str(well[2])


def test_the_page_answers_head_and_knows_no_other_path() -> None:
    word = HealthStatus()
    word.update(lambda: {"word": "ok", "findings": []})
    with page(word) as port:
        assert asked(port, method="HEAD")[:2] == (200, "")
        assert asked(port, "/health?verbose")[:2] == (200, "ok\n")
        assert asked(port, "/../etc/passwd")[:2] == (404, "not found\n")


def test_a_word_that_has_grown_old_is_a_problem() -> None:
    word = HealthStatus(stale_s=0.05)
    word.update(lambda: {"word": "ok", "findings": []})

    time.sleep(0.1)

    assert str(word) == "problem"


def test_a_look_that_cannot_even_begin_is_a_problem() -> None:
    word = HealthStatus()

    def unset() -> dict[str, object]:
        raise DelaywatchError("DELAYWATCH_LAKE is not set")

    word.update(unset)

    assert str(word) == "problem"


def test_the_command_serves_the_word_until_it_is_ended(done: Settings) -> None:
    with health_page.server("127.0.0.1", 0, HealthStatus()) as taken:
        port = taken.server_address[1]  # free as soon as this is closed
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "dags")}
    environment |= {"DELAYWATCH_LAKE": done.lake, "DELAYWATCH_WAREHOUSE": done.warehouse}
    line = [sys.executable, "-m", "utils", "health", "--year", str(YEAR), "--serve", f"127.0.0.1:{port}"]
    serving = subprocess.Popen(line, env=environment)

    def says_ok() -> bool:
        try:
            return asked(port)[:2] == (200, "ok\n")
        except ConnectionRefusedError:
            return False

    try:
        wait_until(says_ok)
    finally:
        serving.terminate()
        serving.wait(10)


@pytest.mark.parametrize("address", ["8095", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:99999", "127.0.0.1:x"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(DelaywatchError, match="is not an address to listen on"):
        health_page.serve(address, lambda: {"word": "ok", "findings": []})
