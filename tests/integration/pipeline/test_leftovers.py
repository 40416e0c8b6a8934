"""What is left of older data, older verdicts or a write that failed is refused or replaced, never published."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psutil
import pytest

from tests.conftest import sql
from tests.steps import (
    BRONZE,
    BRONZE_KEY,
    DETECTORS,
    OTHER_BRONZE,
    STEPS,
    YEAR,
    detectors_in,
    everything,
    files,
    rows,
)
from utils.db_handler import DBHandler
from utils.errors import DelaywatchError, InvalidInput, Missing, Unavailable
from utils.layers import csv_reader
from utils.pipeline import detect, inputs, publish, refine, status
from utils.settings import Settings
from utils.storage import keys
from utils.storage.folder import FolderStore
from utils.storage.lake import Lake

DETECTORS_FILE = inputs.DETECTORS_FILE


@pytest.fixture
def settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the detectors' settings, until the test writes it a copy."""
    file = tmp_path / "detectors.yaml"
    file.write_text(DETECTORS_FILE.read_text())
    monkeypatch.setattr(inputs, "DETECTORS_FILE", file)
    return file


def replace_gold(settings: Settings) -> None:
    Lake(settings).store.put(BRONZE_KEY, OTHER_BRONZE)
    refine.write_silver(settings, YEAR)
    refine.write_gold(settings, YEAR)


@pytest.mark.parametrize("step", ["explain", "upsert", "plots", "publish"])
def test_published_verdicts_of_older_gold_are_refused(done: Settings, step: str) -> None:
    before = sql(done.warehouse, "SELECT xmin::text, * FROM flights.airport_days ORDER BY 2, 3")
    replace_gold(done)

    with pytest.raises(Missing, match=r"detector=delaywatch/.* made from another .*; run the detect step of 2015"):
        STEPS[step](done)
    assert sql(done.warehouse, "SELECT xmin::text, * FROM flights.airport_days ORDER BY 2, 3") == before
    assert set(status.status(done)[0]["detectors"].values()) == {"stale"}


def test_other_verdicts_of_older_gold_leave_the_warehouse_and_the_page(done: Settings) -> None:
    assert detectors_in(done.warehouse) == list(DETECTORS)
    assert b"three_sigma" in (Lake(done).store.get(keys.year_page_key(YEAR)) or b"")
    replace_gold(done)
    detect.write_anomalies(done, YEAR, "delaywatch")
    for step in ("explain", "upsert", "plots", "publish"):
        STEPS[step](done)

    assert detectors_in(done.warehouse) == ["delaywatch"]
    assert b"three_sigma" not in (Lake(done).store.get(keys.year_page_key(YEAR)) or b"")
    assert status.status(done)[0]["detectors"] == {
        "delaywatch": "current", "three_sigma": "stale",
    }  # fmt: skip


def test_verdicts_that_were_made_again_from_the_same_gold_stay_published(done: Settings) -> None:
    refine.write_silver(done, YEAR)
    refine.write_gold(done, YEAR)
    detect.write_anomalies(done, YEAR, "delaywatch")
    detect.explain(done, YEAR)
    publish.upsert(done, YEAR)

    assert detectors_in(done.warehouse) == list(DETECTORS)


@pytest.mark.parametrize("step", ["upsert", "publish"])
def test_reasons_of_other_verdicts_are_refused(done: Settings, settings_file: Path, step: str) -> None:
    before = rows(done)
    settings_file.write_text(DETECTORS_FILE.read_text().replace("past_only: false", "past_only: true"))
    detect.write_anomalies(done, YEAR, "delaywatch")

    told = r"anomaly_reasons\.parquet in .* is stale.*; run the explain step of 2015"
    with pytest.raises(Missing, match=told):
        STEPS[step](done)
    assert rows(done) == before


def test_verdicts_of_other_settings_are_not_explained(done: Settings, settings_file: Path) -> None:
    before = files(done)
    settings_file.write_text(DETECTORS_FILE.read_text().replace("past_only: false", "past_only: true"))

    told = r"verdicts of delaywatch on 2015 .* were made with other settings, .*; run the detect step of 2015\."
    with pytest.raises(DelaywatchError, match=told):
        STEPS["explain"](done)
    assert files(done) == before


def test_feedback_that_comes_after_detection_is_not_explained_away(done: Settings) -> None:
    with closing(DBHandler(done.warehouse)) as handler:
        handler.give_feedback("JFK", date(2015, 3, 3), "expected", "", "ana")

    with pytest.raises(DelaywatchError, match=r"or feedback than today's; run the detect step of 2015\."):
        STEPS["explain"](done)


def test_verdicts_without_their_reasons_are_shown_as_unexplained(done: Settings, settings_file: Path) -> None:
    settings_file.write_text(DETECTORS_FILE.read_text().replace("past_only: false", "past_only: true"))
    STEPS["detect"](done)

    assert status.status(done)[0]["detectors"] == {"delaywatch": "unexplained", "three_sigma": "current"}


def test_a_page_is_not_written_of_verdicts_that_the_warehouse_does_not_have(
    done: Settings, settings_file: Path
) -> None:
    before = files(done)[keys.year_page_key(YEAR)]
    settings_file.write_text(DETECTORS_FILE.read_text().replace("threshold: 3", "threshold: 2"))
    detect.write_anomalies(done, YEAR, "three_sigma")

    told = r"anomalies of three_sigma: 1095 in gold, 0 in the warehouse.*run the upsert step again"
    with pytest.raises(DelaywatchError, match=told):
        STEPS["publish"](done)
    assert files(done)[keys.year_page_key(YEAR)] == before


def test_the_record_of_a_run_names_the_settings_of_the_verdicts_that_it_published(
    done: Settings, settings_file: Path
) -> None:
    hashes = "SELECT DISTINCT params_hash FROM flights.runs"
    before = sql(done.warehouse, hashes)
    settings_file.write_text(DETECTORS_FILE.read_text().replace("threshold: 3", "threshold: 2"))
    STEPS["publish"](done)

    assert sql(done.warehouse, hashes) == before


def test_tables_that_are_gone_are_made_by_the_first_step_that_needs_them(done: Settings) -> None:
    sql(done.warehouse, "DROP SCHEMA flights CASCADE")

    with pytest.raises(Missing, match=r"lacks .*`python -m utils prepare`"):
        status.status(done)
    STEPS["explain"](done)
    STEPS["upsert"](done)

    assert set(status.status(done)[0]["detectors"].values()) == {"current"}


def test_reasons_that_are_not_there_are_named_with_the_step_that_makes_them(done: Settings) -> None:
    Lake(done).store.delete([keys.explanation_key(YEAR, "events")])

    with pytest.raises(Missing, match=r"events\.parquet is not in .*; run the explain step of 2015"):
        publish.upsert(done, YEAR)


def test_other_settings_are_shown_as_stale_and_brought_in_by_detection_alone(
    done: Settings, settings_file: Path
) -> None:
    silver = {key: data for key, data in files(done).items() if key.startswith(("02_silver/", "03_gold/airport_days"))}
    settings_file.write_text(DETECTORS_FILE.read_text().replace("threshold: 3", "threshold: 2"))
    before = sql(done.warehouse, "SELECT count(*) FROM flights.agg_dep_delay_by_date WHERE is_anomaly_three_sigma")

    assert status.status(done)[0]["detectors"] == {"delaywatch": "current", "three_sigma": "stale"}
    detect.write_anomalies(done, YEAR, "three_sigma")
    publish.upsert(done, YEAR)

    assert status.status(done)[0]["detectors"] == {"delaywatch": "current", "three_sigma": "current"}
    after = sql(done.warehouse, "SELECT count(*) FROM flights.agg_dep_delay_by_date WHERE is_anomaly_three_sigma")
    assert after > before
    assert silver.items() <= files(done).items()


def test_an_expected_day_makes_verdicts_stale_and_is_judged_but_not_learnt_from(done: Settings) -> None:
    judged = "SELECT fl_date, is_anomaly, expected FROM flights.anomalies WHERE detector = 'three_sigma'"
    jfk = f"{judged} AND origin = 'JFK' AND fl_date = '2015-02-08'"
    mean = "SELECT avg(mean_dep_delay_min) FROM flights.airport_days WHERE origin = 'JFK'"
    with closing(DBHandler(done.warehouse)) as handler:
        handler.give_feedback("JFK", date(2015, 3, 3), "expected", "air show", "ana")

    assert set(status.status(done)[0]["detectors"].values()) == {"stale"}
    for step in ("detect", "explain", "upsert", "plots", "publish"):
        STEPS[step](done)

    assert set(status.status(done)[0]["detectors"].values()) == {"current"}
    ((_, _, expected),) = sql(done.warehouse, jfk)
    ((of_the_others,),) = sql(done.warehouse, f"{mean} AND fl_date <> '2015-03-03'")
    assert expected == pytest.approx(of_the_others, rel=1e-6)
    shown = "SELECT id, verdict FROM flights.agg_dep_delay_by_date WHERE is_acknowledged"
    assert sql(done.warehouse, shown) == [("JFK20150303", "normal")]


def test_running_the_year_again_keeps_what_people_said(done: Settings) -> None:
    with closing(DBHandler(done.warehouse)) as handler:
        for day, opinion in ((date(2015, 2, 8), "right"), (date(2015, 3, 3), "wrong")):
            handler.give_feedback("JFK", day, opinion, "", "ana")
    said = sql(done.warehouse, "SELECT xmin::text, * FROM flights.feedback ORDER BY 3")
    for step in STEPS.values():
        step(done)

    assert sql(done.warehouse, "SELECT xmin::text, * FROM flights.feedback ORDER BY 3") == said
    page = (Lake(done).store.get(keys.year_page_key(YEAR)) or b"").decode()
    assert "Called a true alarm by ana" in page


def test_a_detector_that_this_release_does_not_have_leaves_the_warehouse(done: Settings) -> None:
    store = Lake(done).store
    store.put(keys.anomalies_key(YEAR, "retired"), store.get(keys.anomalies_key(YEAR, "three_sigma")) or b"")
    sql(
        done.warehouse,
        "CREATE TEMPORARY TABLE old AS SELECT * FROM flights.anomalies WHERE detector = 'three_sigma';"
        "UPDATE old SET detector = 'retired'; INSERT INTO flights.anomalies SELECT * FROM old",
    )

    with pytest.raises(DelaywatchError, match=r"anomalies of retired: 0 in gold, 1095 in the warehouse"):
        STEPS["publish"](done)
    publish.upsert(done, YEAR)
    STEPS["publish"](done)

    assert detectors_in(done.warehouse) == list(DETECTORS)
    assert status.status(done)[0]["detectors"]["retired"] == "stale"


def test_gold_of_older_silver_is_not_published_beside_the_new_quality_report(done: Settings) -> None:
    Lake(done).store.put(BRONZE_KEY, OTHER_BRONZE)
    refine.write_silver(done, YEAR)

    with pytest.raises(Missing, match=r"airport_days\.parquet in .* made from another silver .*; run the gold step"):
        publish.upsert(done, YEAR)


def test_wherever_writing_silver_fails_the_warehouse_gets_the_old_year_or_a_sentence(
    done: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call that changes the lake fails in turn; S3 and disks fail there too, but not when a test wants it."""
    store = Lake(done).store
    before, rows = files(done), everything(done)
    told = []
    for patience in itertools.count():
        store.put(BRONZE_KEY, OTHER_BRONZE)
        with monkeypatch.context() as patched:
            fail_after(patience, patched)
            try:
                refine.write_silver(done, YEAR)
            except DelaywatchError as error:
                assert str(error) == "The lake is gone."
            else:
                break
        try:
            publish.upsert(done, YEAR)
        except DelaywatchError as error:
            told.append(str(error).partition("; ")[2])
        else:
            told.append("the old year")
            assert before.items() <= (files(done) | {BRONZE_KEY: BRONZE}).items()
            assert everything(done).items() >= {key: rows[key] for key in ("airport_days", "bronze_quality")}.items()
        store.put(BRONZE_KEY, BRONZE)
        refine.write_silver(done, YEAR)
        assert files(done) == before
        publish.upsert(done, YEAR)
        assert everything(done) == rows

    assert told == [
        "the old year",  # its part was not put
        "the old year",  # its quality report was not put
        "run the silver step of 2015 again.",  # its sums were not put
        "run the silver step of 2015 again.",  # its rejected rows were not put
        "run the silver step of 2015 again.",  # its manifest was not put
        "run the gold step of 2015 again.",  # the old parts were not removed
    ]


def fail_after(calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let so many calls that change a lake in a folder through, and none after them."""
    left = itertools.count(calls, -1)

    def failing(original: Callable[..., None]) -> Callable[..., None]:
        def call(*given: object) -> None:
            if next(left) <= 0:
                raise Unavailable("The lake is gone.")
            original(*given)

        return call

    for name in ("put", "adopt", "delete"):
        monkeypatch.setattr(FolderStore, name, failing(getattr(FolderStore, name)))


@pytest.mark.parametrize("damaged", [b"", b'{"year": 2015,', b"\xff\xfe", b"[]", b"{}"])
def test_a_damaged_manifest_is_named_and_mended_by_the_silver_step(done: Settings, damaged: bytes) -> None:
    before = files(done)
    Lake(done).store.put(keys.manifest_key(YEAR), damaged)

    told = r"year=2015/_manifest\.json in .* is damaged; delete it and run the silver step of 2015 again\."
    for step in (STEPS["gold"], STEPS["upsert"], STEPS["publish"], status.status):
        with pytest.raises(InvalidInput, match=told):
            step(done)
    refine.write_silver(done, YEAR)
    assert files(done) == before


def test_a_damaged_quality_report_is_named_and_mended_by_the_silver_step(done: Settings) -> None:
    before = files(done)
    Lake(done).store.put(keys.quality_key(YEAR), b'{"year": 20')

    for step in ("upsert", "publish"):
        with pytest.raises(Missing, match=r"quality\.json in .* not the report .*; run the silver step of 2015 again"):
            STEPS[step](done)
    refine.write_silver(done, YEAR)
    assert files(done) == before


def test_a_part_that_was_cut_is_written_again_and_a_whole_one_is_not(
    done: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_reader, "PIECE_BYTES", len(BRONZE) // 12)
    refine.write_silver(done, YEAR)
    before = files(done)
    root = Path(unquote(urlsplit(done.lake).path))
    cut, whole = Lake(done).silver_parts(YEAR)[:2]
    untouched = (root / whole).stat()
    (root / cut).write_bytes((before[cut] or b"")[:300])
    refine.write_silver(done, YEAR)

    assert files(done) == before
    assert ((root / whole).stat().st_ino, (root / whole).stat().st_mtime_ns) == (
        untouched.st_ino,
        untouched.st_mtime_ns,
    )


def test_upsert_logs_one_line_that_says_what_changed(done: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "utils")
    publish.upsert(done, YEAR)

    (line,) = caplog.messages
    assert line.startswith("2015: rows 0 inserted, 0 updated, 0 deleted")
    assert line.endswith("tables changed: none")


def test_detectors_in_processes_of_their_own_write_what_one_process_writes(
    done: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "MIN_LARGE_ROWS", 1)
    before = files(done)

    detect.write_all_anomalies(done.replace(threads=2), YEAR, DETECTORS)

    assert files(done) == before


def test_a_process_of_a_detector_that_the_system_kills_is_named_and_old_verdicts_stay(
    done: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """three_sigma is done at once; isolation_forest still loads scikit-learn then."""
    monkeypatch.setattr(inputs, "MIN_LARGE_ROWS", 1)
    before = files(done)

    def kill_the_others(_: str) -> None:
        for child in psutil.Process().children():
            if "spawn_main" in " ".join(child.cmdline()):
                child.kill()

    with pytest.raises(Unavailable, match=f"The system ended a process that ran a detector on {YEAR}"):
        detect.write_all_anomalies(done.replace(threads=2), YEAR, ["three_sigma", "isolation_forest"], kill_the_others)
    assert files(done) == before
