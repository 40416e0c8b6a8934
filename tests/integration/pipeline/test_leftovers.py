"""Stale data is never published: a step refuses it and names the step to run, which repairs the year."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest

from tests.child_processes import count_children
from tests.conftest import sql
from tests.steps import BRONZE, BRONZE_KEY, DETECTORS, OTHER_BRONZE, STEPS, YEAR, detectors_in, everything, files
from utils.db_handler import DBHandler
from utils.errors import InvalidInput, Missing
from utils.layers import csv_reader
from utils.pipeline import detect, inputs, refine, status
from utils.reporting import plots
from utils.settings import Settings
from utils.storage import keys
from utils.storage.lake import Lake

NAMES = list(STEPS)


@pytest.fixture(autouse=True)
def detectors_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test change a copy of detectors.yaml."""
    file = shutil.copy(inputs.DETECTORS_FILE, tmp_path)
    monkeypatch.setattr(inputs, "DETECTORS_FILE", Path(file))


def change(old: str, new: str) -> None:
    text = inputs.DETECTORS_FILE.read_text()
    assert old in text
    inputs.DETECTORS_FILE.write_text(text.replace(old, new))


def states(settings: Settings) -> dict[str, str]:
    """The states of the detectors that `status` shows."""
    detectors: dict[str, str] = status.status(settings)[0]["detectors"]
    return detectors


# --- ways to leave stale data -----------------------------------------------------------------------------------------


def new_silver(settings: Settings) -> None:
    Lake(settings).store.put(BRONZE_KEY, OTHER_BRONZE)
    refine.write_silver(settings, YEAR)


def new_gold(settings: Settings) -> None:
    new_silver(settings)
    refine.write_gold(settings, YEAR)


def other_settings(settings: Settings) -> None:
    change("season_days: 91", "season_days: 61")


def feedback_after_detection(settings: Settings) -> None:
    with closing(DBHandler(settings.warehouse)) as handler:
        handler.give_feedback("JFK", date(2015, 3, 3), "expected", "", "ana")


def verdicts_with_other_settings(settings: Settings) -> None:
    other_settings(settings)
    detect.write_anomalies(settings, YEAR, "delaywatch")


def unpublished_verdicts_with_other_settings(settings: Settings) -> None:
    change("threshold: 3", "threshold: 2")
    detect.write_anomalies(settings, YEAR, "three_sigma")


def retired_detector(settings: Settings) -> None:
    store = Lake(settings).store
    store.put(keys.anomalies_key(YEAR, "retired"), store.get(keys.anomalies_key(YEAR, "three_sigma")) or b"")
    sql(
        settings.warehouse,
        "CREATE TEMPORARY TABLE old AS SELECT * FROM flights.anomalies WHERE detector = 'three_sigma';"
        "UPDATE old SET detector = 'retired'; INSERT INTO flights.anomalies SELECT * FROM old",
    )


@pytest.mark.parametrize(
    ("leave", "repair", "refusing"),
    [
        (keys.manifest_key(YEAR), "silver", "gold explain upsert plots publish"),
        (keys.quality_key(YEAR), "silver", "upsert publish"),
        (new_silver, "gold", "explain upsert plots publish"),
        (new_gold, "detect", "explain upsert plots publish"),
        (other_settings, "detect", "explain"),
        (feedback_after_detection, "detect", "explain"),
        (verdicts_with_other_settings, "explain", "upsert publish"),
        (unpublished_verdicts_with_other_settings, "upsert", "publish"),
        ("DELETE FROM flights.anomalies WHERE origin = 'ACK' AND detector = 'three_sigma'", "upsert", "publish"),
        ("DELETE FROM flights.anomaly_reasons WHERE origin = 'JFK'", "upsert", "publish"),
        ("DELETE FROM flights.airport_days WHERE origin = 'ACK'", "upsert", "publish"),
        (retired_detector, "upsert", "publish"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_stale_data_is_refused_until_the_named_step_has_run(
    done: Settings, leave: Callable[[Settings], None] | str, repair: str, refusing: str
) -> None:
    if callable(leave):
        leave(done)
    elif leave.startswith("DELETE"):
        sql(done.warehouse, leave)
    else:
        Lake(done).store.put(leave, b'{"year": 20')  # damaged
    before = everything(done)

    for step in refusing.split():
        with pytest.raises((Missing, InvalidInput), match=f"run the {repair} step of {YEAR}"):
            STEPS[step](done)
    assert everything(done) == before

    for step in NAMES[NAMES.index(repair) :]:
        STEPS[step](done)
    assert {states(done)[name] for name in DETECTORS} == {"current"}
    assert detectors_in(done.warehouse) == list(DETECTORS)


def test_stale_verdicts_of_an_unpublished_detector_leave_the_warehouse(done: Settings) -> None:
    new_gold(done)
    detect.write_anomalies(done, YEAR, "delaywatch")
    for step in ("explain", "upsert", "plots", "publish"):
        STEPS[step](done)

    assert detectors_in(done.warehouse) == ["delaywatch"]
    assert states(done) == {"delaywatch": "current", "three_sigma": "stale"}


# --- settings and feedback --------------------------------------------------------------------------------------------


def test_changed_settings_are_applied_from_the_detect_step_on_and_status_follows(done: Settings) -> None:
    silver = {key: data for key, data in files(done).items() if key.startswith(("02_silver/", "03_gold/airport_days"))}
    flags = "SELECT count(*) FROM flights.agg_dep_delay_by_date WHERE is_anomaly_three_sigma"
    before = sql(done.warehouse, flags)

    hashes = "SELECT DISTINCT params_hash FROM flights.runs"
    published = sql(done.warehouse, hashes)

    change("past_only: false", "past_only: true")
    change("threshold: 3", "threshold: 2")
    STEPS["publish"](done)
    assert sql(done.warehouse, hashes) == published
    assert states(done) == {"delaywatch": "stale", "three_sigma": "stale"}
    STEPS["detect"](done)
    assert states(done) == {"delaywatch": "unexplained", "three_sigma": "current"}
    STEPS["explain"](done)
    assert states(done) == {"delaywatch": "current", "three_sigma": "current"}
    STEPS["upsert"](done)

    assert sql(done.warehouse, flags) > before
    assert silver.items() <= files(done).items()


def test_feedback_is_kept_and_an_expected_day_is_scored_but_not_used_for_fitting(done: Settings) -> None:
    mean = "SELECT avg(mean_dep_delay_min) FROM flights.airport_days WHERE origin = 'JFK' AND fl_date <> '2015-03-03'"
    verdict = "SELECT expected FROM flights.anomalies WHERE detector = 'three_sigma' AND origin = 'JFK'"
    feedback_after_detection(done)
    with closing(DBHandler(done.warehouse)) as handler:
        handler.give_feedback("JFK", date(2015, 2, 8), "right", "", "eva")
    feedback = sql(done.warehouse, "SELECT xmin::text, * FROM flights.feedback")

    assert set(states(done).values()) == {"stale"}
    for step in STEPS.values():
        step(done)

    ((mean_of_other_days,),) = sql(done.warehouse, mean)
    assert sql(done.warehouse, f"{verdict} AND fl_date = '2015-03-03'") == [
        (pytest.approx(mean_of_other_days, rel=1e-6),)
    ]
    acknowledged = "SELECT id, verdict FROM flights.agg_dep_delay_by_date WHERE is_acknowledged"
    assert sql(done.warehouse, acknowledged) == [("JFK20150303", "normal")]
    assert sql(done.warehouse, "SELECT xmin::text, * FROM flights.feedback") == feedback
    page = Lake(done).store.get(keys.site_key()) or b""
    assert b"eva" in page


def test_a_truncated_part_is_written_again(done: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_reader, "PIECE_BYTES", len(BRONZE) // 12)
    refine.write_silver(done, YEAR)
    before = files(done)
    part = Lake(done).silver_parts(YEAR)[0]
    Lake(done).store.put(part, (before[part] or b"")[:300])

    refine.write_silver(done, YEAR)

    assert files(done) == before


def test_detectors_and_plots_in_processes_write_the_same_bytes_as_one_process(
    done: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "MIN_LARGE_ROWS", 1)
    monkeypatch.setattr(plots, "AIRPORTS_PER_WORKER", 1)
    before = files(done)

    _, detecting = count_children(lambda: detect.write_all_anomalies(done.replace(threads=2), YEAR, DETECTORS))
    _, drawing = count_children(lambda: STEPS["plots"](done))

    assert detecting > 0
    assert drawing > 0
    assert files(done) == before
