"""Fetch a year from the Bureau or from Kaggle: afterwards bronze has the old file or the whole new one."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.builders import cancelled, csv_of, flight
from tests.integration.sources.conftest import FLIGHTS, KAGGLE, YEAR, settings_for
from tests.servers.bureau import (
    RETRY_AT_ONCE,
    Answer,
    Bureau,
    damaged_zip,
    month_csv,
    month_path,
    year_of_zips,
    zip_of,
)
from tests.write_faults import fail_at_each_write
from utils.errors import Busy, DelaywatchError, InvalidInput, Missing, Unavailable
from utils.pipeline import refine
from utils.settings import Settings
from utils.sources import fetch, record
from utils.sources.bronze import put_bronze
from utils.storage.folder import FolderStore
from utils.storage.keys import bronze_keys, fetch_record_key, manifest_key
from utils.storage.lake import Lake

CSV, COMPRESSED = bronze_keys(YEAR)
RECORD = fetch_record_key(YEAR)
OCTOBER, NOVEMBER, DECEMBER = (month_path(YEAR, month) for month in (10, 11, 12))
MANUAL = csv_of([flight(FL_DATE=f"1987-{month}-04", DEST="SFO") for month in (10, 11, 12)])
NEVER_SEND_A_BODY = Answer(cut_after=0)


def into_bronze(settings: Settings, source: str = "bts", **options: Any) -> str:
    return fetch.into_bronze(settings, YEAR, source, policy=RETRY_AT_ONCE, **options)


def bronze(settings: Settings) -> dict[str, bytes]:
    store = Lake(settings).store
    return {key: store.get(key) or b"" for key in store.list("01_bronze/")}


def refine_report(settings: Settings) -> dict[str, Any]:
    refine.write_silver(settings, YEAR)
    return Lake(settings).read_quality(YEAR)


def months_in_bronze(settings: Settings) -> list[int]:
    return sorted({int(month) for month in re.findall(rb"\n1987-(\d\d)", bronze(settings).get(CSV, b""))})


# --- a fetched year ---------------------------------------------------------------------------------------------------


def test_a_year_of_the_bureau_becomes_one_csv_with_a_record_of_its_files(
    lake_settings: Settings, bureau: Bureau
) -> None:
    settings = settings_for(bureau, lake_settings)

    assert into_bronze(settings) == CSV

    files = bronze(settings)
    assert sorted(files) == [CSV, RECORD]
    lines = files[CSV].decode().splitlines()
    assert lines[0].startswith("FL_DATE,OP_CARRIER,")
    assert [line[:10] for line in lines[1:]] == [row["FL_DATE"] for row in FLIGHTS]
    written = json.loads(files[RECORD])
    assert written["sha256"] == hashlib.sha256(files[CSV]).hexdigest()
    assert (written["source"], written["is_whole"], written["bytes"]) == ("bts", True, len(files[CSV]))
    assert written["flights_by_month"] == {"10": 30, "11": 30, "12": 30}
    assert [(file["url"], file["sha256"]) for file in written["files"]] == [
        (bureau.url + path, hashlib.sha256(bureau.files[path]).hexdigest()) for path in (OCTOBER, NOVEMBER, DECEMBER)
    ]
    assert [path.name for path in (settings.scratch / "delaywatch-fetch").iterdir()] == ["bts-1987.lock"]


@pytest.mark.parametrize("is_zipped", [False, True])
def test_a_year_of_kaggle_is_copied_unchanged_with_the_users_token(
    settings: Settings, bureau: Bureau, is_zipped: bool
) -> None:
    text = bureau.files[KAGGLE]
    if is_zipped:
        bureau.files[KAGGLE] = zip_of(text, "1987.csv")

    into_bronze(settings, "kaggle")

    assert bronze(settings)[CSV] == text
    assert bureau.requests[0].headers["Authorization"] == f"Basic {base64.b64encode(b'amelia:s3cret').decode()}"


def test_an_unchanged_year_is_not_downloaded_again_and_a_revised_month_replaces_it(
    settings: Settings, bureau: Bureau
) -> None:
    into_bronze(settings)
    before = bronze(settings)
    bureau.always = dict.fromkeys(bureau.files, NEVER_SEND_A_BODY)
    into_bronze(settings)
    assert bronze(settings) == before

    bureau.always = {}
    bureau.files |= year_of_zips([*FLIGHTS, cancelled(FL_DATE="1987-11-30")])
    into_bronze(settings)
    assert bronze(settings)[CSV].count(b"\n1987-11-") == 31


def test_the_first_months_are_kept_until_the_year_is_whole(settings: Settings, bureau: Bureau) -> None:
    december = bureau.files.pop(DECEMBER)
    into_bronze(settings, so_far=True)
    assert months_in_bronze(settings) == [10, 11]
    assert not record.has_whole_year(settings, YEAR)

    bureau.files[DECEMBER] = december
    bureau.always = dict.fromkeys([OCTOBER, NOVEMBER], NEVER_SEND_A_BODY)
    into_bronze(settings)

    assert months_in_bronze(settings) == [10, 11, 12]
    assert record.has_whole_year(settings, YEAR)


# --- months that are not published ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unpublished", "so_far", "today", "named"),
    [
        ([12], False, date(1987, 12, 31), "--so-far"),
        ([12], False, date(1988, 6, 30), "Wait for December 1987"),
        ([11], False, date(1988, 1, 1), "_1987_11.zip"),
        ([10, 11, 12], True, date(1988, 1, 1), "1987"),
    ],
)
def test_a_year_with_an_unpublished_month_is_refused_with_the_next_step(
    settings: Settings, bureau: Bureau, unpublished: list[int], so_far: bool, today: date, named: str
) -> None:
    for month in unpublished:
        del bureau.files[month_path(YEAR, month)]

    with pytest.raises(Missing, match=named):
        into_bronze(settings, so_far=so_far, today=today)

    assert bronze(settings) == {}


@pytest.mark.parametrize("from_folder", [False, True])
def test_a_missing_month_in_the_middle_is_reported_and_the_months_around_it_are_kept(
    settings: Settings, bureau: Bureau, tmp_path: Path, caplog: pytest.LogCaptureFixture, from_folder: bool
) -> None:
    bureau.withdraw(YEAR, 11)
    folder = folder_of(tmp_path, {"On_Time_1987_11.csv": None}) if from_folder else None

    into_bronze(settings, so_far=True, folder=folder)

    assert months_in_bronze(settings) == [10, 12]
    assert json.loads(bronze(settings)[RECORD])["missing_months"] == [11]
    assert not record.has_whole_year(settings, YEAR)
    assert [line.getMessage() for line in caplog.records if "November 1987" in line.getMessage()]
    assert refine_report(settings)["missing_months"] == [*range(1, 10), 11]


@pytest.mark.parametrize("seed", range(3))
def test_a_year_fetched_month_by_month_in_any_order_has_the_silver_of_one_csv(
    settings: Settings, bureau: Bureau, tmp_path: Path, seed: int
) -> None:
    months = random.Random(seed).sample(range(1, 13), 12)
    bureau.files = {}
    for month in months:
        bureau.publish(flight(FL_DATE=f"2015-{month:02}-{day:02}") for day in range(1, 29))
        fetch.into_bronze(settings, 2015, so_far=True, policy=RETRY_AT_ONCE)
    at_once, by_hand = (settings.replace(lake=(tmp_path / name).as_uri()) for name in ("at-once", "by-hand"))
    for each in (at_once, by_hand):
        Lake(each).prepare()
    fetch.into_bronze(at_once, 2015, policy=RETRY_AT_ONCE)
    (tmp_path / "2015.csv").write_bytes(Lake(at_once).store.get("01_bronze/2015.csv") or b"")
    put_bronze(by_hand, 2015, tmp_path / "2015.csv")

    silver = []
    for each in (settings, at_once, by_hand):
        refine.write_silver(each, 2015)
        store = Lake(each).store
        silver.append({key: store.get(key) for key in store.list("02_silver/")})

    assert silver[0] == silver[1] == silver[2]
    assert manifest_key(2015) in silver[0]
    assert record.has_whole_year(settings, 2015)


def test_only_new_and_revised_months_of_a_year_so_far_are_downloaded(settings: Settings, bureau: Bureau) -> None:
    bureau.withdraw(YEAR, 12)
    into_bronze(settings, so_far=True)
    bureau.publish([*FLIGHTS[60:], cancelled(FL_DATE="1987-11-30"), *FLIGHTS[30:60]])
    bureau.always = {OCTOBER: NEVER_SEND_A_BODY}

    into_bronze(settings, so_far=True)

    csv = bronze(settings)[CSV]
    assert [csv.count(b"\n1987-%d-" % month) for month in (10, 11, 12)] == [30, 31, 30]


def test_a_damaged_month_is_an_error_until_the_bureau_has_repaired_it(settings: Settings, bureau: Bureau) -> None:
    december = bureau.files.pop(DECEMBER)
    into_bronze(settings, so_far=True)
    before = bronze(settings)
    bureau.files[DECEMBER] = december
    bureau.damage_next(YEAR, 12)

    assert fetch.is_published(settings, YEAR, policy=RETRY_AT_ONCE)
    with pytest.raises(Unavailable, match=r"_1987_12\.zip"):
        into_bronze(settings, so_far=True)
    assert bronze(settings) == before

    into_bronze(settings, so_far=True)
    assert months_in_bronze(settings) == [10, 11, 12]


def test_a_monthly_fetch_updates_only_years_that_bronze_lacks_or_has_from_the_bureau(
    settings: Settings, bureau: Bureau
) -> None:
    assert record.years_to_update(settings, YEAR) == [YEAR]
    into_bronze(settings)
    assert record.years_to_update(settings, YEAR) == [YEAR]
    assert record.years_to_update(settings, YEAR + 1) == [YEAR + 1, YEAR]

    Lake(settings).store.put(CSV, MANUAL)

    assert record.years_to_update(settings, YEAR) == []
    assert record.years_to_update(settings, YEAR + 1) == [YEAR + 1]


# --- faults -----------------------------------------------------------------------------------------------------------

OTHER_YEAR = zip_of(month_csv([flight(FL_DATE="1986-11-04")]))


@pytest.mark.parametrize(
    ("source", "answer", "error", "named"),
    [
        ("bts", Answer(cut_after=100), Unavailable, "1987_11.zip"),
        ("bts", Answer(body=damaged_zip(zip_of(month_csv(FLIGHTS[30:60])))), Unavailable, "1987_11.zip"),
        ("bts", Answer(body=b"<html>\n<p>Down for maintenance"), InvalidInput, "<html>"),
        ("bts", Answer(body=OTHER_YEAR), InvalidInput, "1987-11-"),
        ("kaggle", Answer(401), InvalidInput, "token"),
        ("kaggle", Answer(404), Missing, "--source bts"),
        ("kaggle", Answer(body=b"<!DOCTYPE html>\n<p>Sign in"), InvalidInput, "<!DOCTYPE html>"),
        ("kaggle", Answer(body=b"FL_DATE,OP_CARRIER\n1987-01-01,UA\n"), InvalidInput, "column"),
        ("kaggle", Answer(body=b"PK\3\4cut"), Unavailable, "1987.csv"),
    ],
)
def test_a_bad_file_leaves_bronze_unchanged_and_the_next_fetch_downloads_only_the_rest(
    settings: Settings, bureau: Bureau, source: str, answer: Answer, error: type[DelaywatchError], named: str
) -> None:
    Lake(settings).store.put(CSV, MANUAL)
    bureau.always[NOVEMBER if source == "bts" else KAGGLE] = answer

    with pytest.raises(error, match=named):
        into_bronze(settings, source, replace=True)

    assert bronze(settings) == {CSV: MANUAL}
    bureau.always = {DECEMBER: NEVER_SEND_A_BODY}
    into_bronze(settings, source, replace=True)
    assert bronze(settings)[CSV].count(b"\n1987-") == len(FLIGHTS)


@pytest.mark.parametrize("in_a_row", [1, 2])
@pytest.mark.parametrize("published", [2, 3])
@pytest.mark.parametrize("before", ["a manual file", "the first month", "the whole year"])
def test_a_fetch_that_fails_at_any_write_never_marks_a_part_of_a_year_as_whole(
    settings: Settings, bureau: Bureau, before: str, published: int, in_a_row: int
) -> None:
    if before == "a manual file":
        Lake(settings).store.put(CSV, MANUAL)
    else:
        bureau.files = year_of_zips(FLIGHTS[:30] if before == "the first month" else FLIGHTS)
        into_bronze(settings, so_far=True)
    rows = [*FLIGHTS[: 30 * published]]
    old = bronze(settings)[CSV]

    def fetch_a_new_version() -> None:
        rows.append(flight(FL_DATE="1987-11-30"))
        bureau.files = year_of_zips(rows)
        into_bronze(settings, so_far=True, replace=True)

    for _ in fail_at_each_write(fetch_a_new_version, FolderStore, Unavailable, in_a_row=in_a_row):
        csv = bronze(settings)[CSV]
        assert csv == old or csv.count(b"\n1987-") == len(rows)
        assert record.has_whole_year(settings, YEAR) == (months_in_bronze(settings) == [10, 11, 12])
        old = csv

    assert bronze(settings)[CSV].count(b"\n1987-") == len(rows)
    assert record.has_whole_year(settings, YEAR) == (published == 3)


# --- a year that bronze has already -----------------------------------------------------------------------------------


def put_manual_csv(settings: Settings, _: Bureau) -> None:
    Lake(settings).store.put(CSV, MANUAL)


def put_compressed(settings: Settings, _: Bureau) -> None:
    Lake(settings).store.put(COMPRESSED, b"")


def replace_fetched(settings: Settings, _: Bureau) -> None:
    into_bronze(settings)
    Lake(settings).store.put(CSV, MANUAL)


def lose_december(settings: Settings, bureau: Bureau) -> None:
    into_bronze(settings)
    del bureau.files[DECEMBER]


def lose_flights_of_november(settings: Settings, bureau: Bureau) -> None:
    into_bronze(settings)
    bureau.files |= year_of_zips(FLIGHTS[30:58])


@pytest.mark.parametrize(
    ("prepare", "named"),
    [
        (put_manual_csv, CSV),
        (put_compressed, COMPRESSED),
        (replace_fetched, CSV),
        (lose_december, "December"),
        (lose_flights_of_november, "28 flights instead of 30"),
    ],
)
def test_another_file_or_fewer_flights_replace_the_year_only_if_asked(
    settings: Settings, bureau: Bureau, prepare: Callable[[Settings, Bureau], None], named: str
) -> None:
    prepare(settings, bureau)
    before = bronze(settings)
    published = [path for path in (OCTOBER, NOVEMBER, DECEMBER) if path in bureau.files]

    with pytest.raises(InvalidInput, match=f"{named}.*--replace"):
        into_bronze(settings, so_far=True)
    assert bronze(settings) == before

    into_bronze(settings, so_far=True, replace=True)
    assert sorted(bronze(settings)) == [CSV, RECORD]
    assert months_in_bronze(settings) == [10, 11, 12][: len(published)]


def test_two_fetches_of_a_year_exclude_each_other(settings: Settings) -> None:
    def fetch_again(*_: object) -> None:
        with pytest.raises(Busy, match="1987"):
            into_bronze(settings)

    into_bronze(settings, progress=fetch_again)

    assert months_in_bronze(settings) == [10, 11, 12]


# --- months that were downloaded by hand ------------------------------------------------------------------------------

JUNK = zip_of(b"a,b\n1,2\n")
MONTHS = {
    "download (1).ZIP": zip_of(month_csv(FLIGHTS[:30])),
    "On_Time_1987_11.csv": month_csv(FLIGHTS[30:60]),
    "december.zip": zip_of(month_csv(FLIGHTS[60:])),
}


def folder_of(parent: Path, changes: Mapping[str, bytes | None]) -> Path:
    folder = parent / "Downloads"
    folder.mkdir()
    for name, content in {**MONTHS, **changes}.items():
        if content is not None:
            (folder / name).write_bytes(content)
    return folder


def test_months_in_a_folder_become_the_year_without_a_network(
    settings: Settings, bureau: Bureau, tmp_path: Path
) -> None:
    others = {
        "letter.pdf": b"%PDF",
        "junk.zip": JUNK,
        "1988.zip": zip_of(month_csv([flight(FL_DATE="1988-10-04")])),
        "unpacked again.csv": month_csv(FLIGHTS[:30]),
    }
    folder = folder_of(tmp_path, others)
    into_bronze(settings.replace(lake=f"{settings.lake}-fetched"))
    bureau.requests.clear()

    into_bronze(settings, folder=folder)

    assert bronze(settings)[CSV] == bronze(settings.replace(lake=f"{settings.lake}-fetched"))[CSV]
    assert record.has_whole_year(settings, YEAR)
    assert bureau.requests == []
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == MONTHS | others


@pytest.mark.parametrize(
    ("changes", "error", "named"),
    [
        (dict.fromkeys(MONTHS), Missing, f"/Downloads .*{OCTOBER}"),
        ({"On_Time_1987_11.csv": None, "junk.zip": JUNK}, Missing, f"November 1987 .*junk.zip.*{NOVEMBER}"),
        ({"december.zip": b"<html>"}, Missing, f"December 1987 .*december.zip.*{DECEMBER}.*--so-far"),
        ({"other.zip": zip_of(month_csv(FLIGHTS[:29]))}, InvalidInput, "download .1..ZIP and .*other.zip"),
        ({"december.zip": damaged_zip(zip_of(month_csv(FLIGHTS[60:])))}, InvalidInput, "december.zip"),
    ],
)
def test_a_folder_without_exactly_the_months_of_the_year_is_refused_and_kept(
    settings: Settings, tmp_path: Path, changes: dict[str, bytes | None], error: type[DelaywatchError], named: str
) -> None:
    folder = folder_of(tmp_path, changes)
    before = sorted(folder.iterdir())

    with pytest.raises(error, match=named):
        into_bronze(settings, folder=folder)

    assert bronze(settings) == {}
    assert sorted(folder.iterdir()) == before
