"""A year from the Bureau or from Kaggle into bronze: what is there afterwards, what is kept, what is told."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.builders import cancelled, csv_of, flight, year_of_flights
from tests.conftest import sql
from tests.servers.bureau import Answer, Bureau, bureau_line, month_csv, month_path, serving, year_of_zips, zip_of
from tests.steps import run
from utils.errors import Busy, DelaywatchError, InvalidInput, Missing, Unavailable
from utils.pipeline import refine
from utils.settings import Settings
from utils.sources import fetch, record
from utils.sources.download import RetryPolicy
from utils.storage.folder import FolderStore
from utils.storage.keys import year_page_key
from utils.storage.lake import Lake

QUICK = RetryPolicy(connect_timeout_s=5, read_timeout_s=5, tries=3, pause_s=0.01, max_pause_s=0.02)
KAGGLES = "/api/v1/datasets/download/yuanyuwendymu/airline-delay-and-cancellation-data-2009-2018/2015.csv"
EVERY_MONTH = [flight(FL_DATE=f"2015-{month:02}-04") for month in range(1, 13)]


@pytest.fixture
def bureau() -> Iterator[Bureau]:
    """A Bureau, and a Kaggle, with one flight in every month of 2015."""
    with serving(Bureau()) as server:
        server.files = {**year_of_zips(EVERY_MONTH), KAGGLES: csv_of(EVERY_MONTH)}
        yield server


def asking(settings: Settings, bureau: Bureau) -> Settings:
    return settings.replace(bts_url=f"{bureau.url}/PREZIP", kaggle_url=f"{bureau.url}/api/v1")


@pytest.fixture
def settings(folder_settings: Settings, bureau: Bureau, tmp_path: Path) -> Settings:
    """An empty lake in a folder, and a token."""
    (tmp_path / "kaggle.json").write_text('{"username": "amelia", "key": "s3cret"}')
    return asking(folder_settings, bureau).replace(kaggle_token_file=tmp_path / "kaggle.json")


def into_bronze(settings: Settings, year: int = 2015, source: str = "bts", **options: Any) -> str:
    return fetch.into_bronze(settings, year, source, policy=QUICK, **options)


def refusal(settings: Settings, year: int = 2015, source: str = "bts", **options: Any) -> DelaywatchError:
    with pytest.raises(DelaywatchError) as caught:
        into_bronze(settings, year, source, **options)
    return caught.value


def in_bronze(settings: Settings) -> dict[str, bytes]:
    store = Lake(settings).store
    return {key: store.get(key) or b"" for key in store.list("01_bronze/")}


def in_scratch(settings: Settings) -> list[str]:
    return sorted(path.name for path in (settings.scratch / "delaywatch-fetch").rglob("*") if path.is_file())


def zips_asked_for(bureau: Bureau) -> list[int]:
    return [int(path.rpartition("_")[2].removesuffix(".zip")) for path in bureau.paths()]


# --- the Bureau -----------------------------------------------------------------------------------------------------


def test_a_year_arrives_with_where_it_is_from_beside_it(lake_settings: Settings, bureau: Bureau) -> None:
    settings = asking(lake_settings, bureau)

    assert into_bronze(settings) == "01_bronze/2015.csv"

    found = in_bronze(settings)
    assert sorted(found) == ["01_bronze/2015.csv", "01_bronze/_2015.csv.json"]
    lines = found["01_bronze/2015.csv"].decode().splitlines()
    assert [line[:10] for line in lines] == ["FL_DATE,OP", *(f"2015-{month:02}-04" for month in range(1, 13))]
    record = json.loads(found["01_bronze/_2015.csv.json"])
    assert record["sha256"] == hashlib.sha256(found["01_bronze/2015.csv"]).hexdigest()
    assert (record["source"], record["is_whole"], record["bytes"]) == ("bts", True, len(found["01_bronze/2015.csv"]))
    assert record["flights_by_month"] == {str(month): 1 for month in range(1, 13)}
    march = bureau.files[month_path(2015, 3)]
    assert record["files"][2]["url"] == bureau.url + month_path(2015, 3)
    assert record["files"][2]["sha256"] == hashlib.sha256(march).hexdigest()
    assert Lake(settings).bronze_years() == [2015]
    assert in_scratch(settings) == ["bts-2015.lock"]


def test_the_bureaus_year_and_kaggles_become_the_same_silver_and_gold(settings: Settings, bureau: Bureau) -> None:
    """Of 2023, which Kaggle's dataset does not have."""
    rows = year_of_flights(2023, {"JFK": 6, "BOS": 3}, closed=[("BOS", "2023-02-03")])
    bureau.files = year_of_zips(rows)
    other = settings.replace(lake=settings.lake + "-of-kaggle")
    Lake(other).store.put("01_bronze/2023.csv", csv_of(rows))

    into_bronze(settings, 2023)

    silver = []
    for one in (settings, other):
        refine.write_silver(one, 2023)
        refine.write_gold(one, 2023)
        silver.append([part["sha256"] for part in Lake(one).manifest(2023)["parts"]])
    assert silver[0] == silver[1]
    assert Lake(settings).read_quality(2023)["rows_kept"] == 9 * 365
    assert Lake(settings).read_airport_days(2023).equals(Lake(other).read_airport_days(2023))


def test_a_year_after_kaggles_goes_from_the_bureau_to_the_warehouse_and_the_page(
    settings: Settings, warehouse: str, bureau: Bureau
) -> None:
    bureau.files = year_of_zips(year_of_flights(2019, {"JFK": 8}, closed=[("JFK", "2019-02-08")]))
    settings = settings.replace(warehouse=warehouse)

    into_bronze(settings, 2019)
    run(settings, 2019)

    assert sql(
        warehouse, "SELECT sum(scheduled), min(fl_date)::text, max(fl_date)::text FROM flights.airport_days"
    ) == [(8 * 365, "2019-01-01", "2019-12-31")]
    ((verdict, sentence),) = sql(
        warehouse, "SELECT verdict, sentence FROM flights.agg_dep_delay_by_date WHERE id = 'JFK20190208'"
    )
    assert verdict == "closure"
    assert sentence.startswith("JFK, Fri 8 Feb 2019, closure")
    assert sentence.encode() in (Lake(settings).store.get(year_page_key(2019)) or b"")
    assert sql(warehouse, "SELECT year, rows->>'kept' FROM flights.runs") == [(2019, str(8 * 365))]


def test_the_first_year_has_three_months(settings: Settings, bureau: Bureau) -> None:
    bureau.files = year_of_zips([flight(FL_DATE=f"1987-{month}-04") for month in (10, 11, 12)])

    into_bronze(settings, 1987)

    assert record.has_whole_year(settings, 1987)
    assert zips_asked_for(bureau) == [12, 11, 10]


def test_a_year_that_is_not_published_costs_one_question_and_says_what_to_do(
    settings: Settings, bureau: Bureau
) -> None:
    del bureau.files[month_path(2015, 12)]

    error = refusal(settings, today=date(2016, 2, 1))

    assert isinstance(error, Missing)
    assert "Wait for December 2015" in str(error)
    assert "--so-far" in str(error)
    assert zips_asked_for(bureau) == [12]
    assert in_bronze(settings) == {}


def test_the_months_so_far_are_kept_and_the_year_is_not_taken_for_whole(settings: Settings, bureau: Bureau) -> None:
    missing = {month_path(2015, month): bureau.files.pop(month_path(2015, month)) for month in (11, 12)}

    into_bronze(settings, so_far=True)

    assert in_bronze(settings)["01_bronze/2015.csv"].count(b"\n2015-") == 10
    assert not record.has_whole_year(settings, 2015)
    bureau.files |= missing
    into_bronze(settings)
    assert in_bronze(settings)["01_bronze/2015.csv"].count(b"\n2015-") == 12
    assert record.has_whole_year(settings, 2015)


FIRST_YEAR = [flight(FL_DATE=f"1987-{month}-04") for month in (10, 11, 12)]  # three months: the least to fetch
FIRST_CSV = "01_bronze/1987.csv"


def fail_at_write(patch: pytest.MonkeyPatch, number: int) -> None:
    """Let the folder's write of this number, counted from 0, fail, and no other."""
    numbers = itertools.count()

    def failing(write: Callable[..., None]) -> Callable[..., None]:
        def wrapped(store: FolderStore, *what: Any) -> None:
            if next(numbers) == number:
                raise DelaywatchError("the store is gone")
            write(store, *what)

        return wrapped

    patch.setattr(FolderStore, "put", failing(FolderStore.put))
    patch.setattr(FolderStore, "upload", failing(FolderStore.upload))


def cut_fetch(settings: Settings, number: int, *, replace: bool = False) -> None:
    """A fetch of the months that there are, whose store fails at its write of this number."""
    with pytest.MonkeyPatch.context() as patch:
        fail_at_write(patch, number)
        assert str(refusal(settings, 1987, so_far=True, replace=replace)) == "the store is gone"


def months_in_bronze(settings: Settings) -> int:
    return in_bronze(settings).get(FIRST_CSV, b"").count(b"\n1987-")


@pytest.mark.parametrize("number", [0, 1], ids=["first write", "second write"])
@pytest.mark.parametrize("new", [2, 3])
@pytest.mark.parametrize("old", [0, 1])
def test_a_fetch_that_a_store_made_to_fail_cuts_lets_no_part_of_a_year_pass_as_whole(
    settings: Settings, bureau: Bureau, old: int, new: int, number: int
) -> None:
    bureau.files = year_of_zips(FIRST_YEAR[:old])
    if old:
        into_bronze(settings, 1987, so_far=True)
    bureau.files = year_of_zips(FIRST_YEAR[:new])

    cut_fetch(settings, number)

    assert record.has_whole_year(settings, 1987) == (months_in_bronze(settings) == 3)
    into_bronze(settings, 1987, so_far=True)
    assert months_in_bronze(settings) == new
    assert record.has_whole_year(settings, 1987) == (new == 3)


def test_a_part_of_a_year_stays_one_when_a_store_made_to_fail_cuts_two_fetches_in_a_row(
    settings: Settings, bureau: Bureau
) -> None:
    bureau.files = year_of_zips(FIRST_YEAR[:1])
    into_bronze(settings, 1987, so_far=True)

    for rows in (FIRST_YEAR[:2], [*FIRST_YEAR[:2], FIRST_YEAR[1]]):
        bureau.files = year_of_zips(rows)
        cut_fetch(settings, 1)

    assert months_in_bronze(settings) == 1
    assert not record.has_whole_year(settings, 1987)


def test_a_year_that_somebody_put_there_stays_whole_when_a_store_made_to_fail_cuts_a_fetch_of_some_months(
    settings: Settings, bureau: Bureau
) -> None:
    Lake(settings).store.put(FIRST_CSV, csv_of(FIRST_YEAR))
    bureau.files = year_of_zips(FIRST_YEAR[:2])

    cut_fetch(settings, 1, replace=True)

    assert in_bronze(settings)[FIRST_CSV] == csv_of(FIRST_YEAR)
    assert record.has_whole_year(settings, 1987)


def test_the_months_that_are_kept_are_not_sent_again(settings: Settings, bureau: Bureau) -> None:
    missing = {month_path(2015, month): bureau.files.pop(month_path(2015, month)) for month in (11, 12)}
    into_bronze(settings, so_far=True)
    bureau.files |= missing
    bureau.always = {month_path(2015, month): Answer(cut_after=0) for month in range(1, 11)}

    into_bronze(settings)

    assert record.has_whole_year(settings, 2015)


def test_a_month_that_is_missing_between_others_is_named(settings: Settings, bureau: Bureau) -> None:
    del bureau.files[month_path(2015, 7)]

    for so_far in (False, True):
        error = str(refusal(settings, so_far=so_far))
        assert "_2015_7.zip is not there although August is" in error
        assert "ait for" not in error


def test_a_year_of_which_there_is_nothing_says_so(settings: Settings) -> None:
    assert "There is no month of 2031 at http://127.0.0.1:" in str(refusal(settings, 2031, so_far=True))


@pytest.mark.parametrize(
    ("fault", "kind", "sentence"),
    [
        (Answer(cut_after=100), Unavailable, "broke off in each of 3 tries"),
        (Answer(503), Unavailable, "is busy or at fault"),
        (Answer(body=b"<html>\n<p>Down for maintenance"), InvalidInput, "is not a zip: it begins with '<html>'"),
        (Answer(body=b""), InvalidInput, "is not a zip: it begins with ''"),
        (Answer(body=zip_of(b"a,b\n1,2\n")), InvalidInput, "lacks every column of the Bureau"),
        (Answer(body=zip_of(month_csv([flight(FL_DATE="2014-05-04")]))), InvalidInput, "of other days than 2015-05-"),
    ],
    ids=["cut", "busy", "a page", "nothing", "another table", "another year"],
)
def test_a_month_that_does_not_come_through_leaves_bronze_as_it_was(
    settings: Settings, bureau: Bureau, fault: Answer, kind: type[DelaywatchError], sentence: str
) -> None:
    Lake(settings).store.put("01_bronze/2015.csv", b"what was there")
    bureau.always[month_path(2015, 5)] = fault

    error = refusal(settings)

    assert isinstance(error, kind)
    assert sentence in str(error)

    assert in_bronze(settings) == {"01_bronze/2015.csv": b"what was there"}
    assert "2015-12.zip" in in_scratch(settings)
    assert "2015.csv" not in in_scratch(settings)


def test_after_a_fault_only_the_rest_is_fetched(settings: Settings, bureau: Bureau) -> None:
    bureau.always[month_path(2015, 5)] = Answer(cut_after=100)
    refusal(settings)
    bureau.always = {month_path(2015, month): Answer(cut_after=0) for month in range(6, 13)}  # no byte is needed

    into_bronze(settings)

    assert in_bronze(settings)["01_bronze/2015.csv"].count(b"\n2015-") == 12


def test_a_damaged_zip_is_told_and_fetched_anew_the_next_time(settings: Settings, bureau: Bureau) -> None:
    whole = bureau.files[month_path(2015, 5)]
    damaged = bytearray(whole)
    damaged[whole.index(b".csv") + 40] ^= 255
    bureau.order(month_path(2015, 5), Answer(body=bytes(damaged)))

    told = refusal(settings)
    assert isinstance(told, Unavailable)
    assert "is a damaged zip (" in str(told)

    assert "2015-05.zip" not in in_scratch(settings)
    into_bronze(settings)
    assert record.has_whole_year(settings, 2015)


def test_a_year_that_has_not_changed_is_not_fetched_again(settings: Settings, bureau: Bureau) -> None:
    into_bronze(settings)
    before = in_bronze(settings)
    bureau.always = {path: Answer(cut_after=0) for path in bureau.files}  # no byte of a body may be needed

    assert into_bronze(settings) == "01_bronze/2015.csv"

    assert in_bronze(settings) == before


def test_a_month_that_the_bureau_has_revised_makes_the_year_anew(settings: Settings, bureau: Bureau) -> None:
    into_bronze(settings)
    bureau.files[month_path(2015, 3)] = zip_of(month_csv([flight(), cancelled(ORIGIN="LGA")]))

    into_bronze(settings)

    assert in_bronze(settings)["01_bronze/2015.csv"].count(b"\n2015-03-") == 2


def test_a_year_that_somebody_replaced_is_fetched_when_asked_for(settings: Settings) -> None:
    into_bronze(settings)
    fetched = in_bronze(settings)["01_bronze/2015.csv"]
    Lake(settings).store.put("01_bronze/2015.csv", csv_of(EVERY_MONTH))

    assert record.has_whole_year(settings, 2015)  # whoever put it there knows what it is
    assert "--replace" in str(refusal(settings))
    assert in_bronze(settings)["01_bronze/2015.csv"] == csv_of(EVERY_MONTH)
    into_bronze(settings, replace=True)

    assert in_bronze(settings)["01_bronze/2015.csv"] == fetched


def test_a_compressed_year_that_is_there_is_told_before_anything_is_fetched(settings: Settings, bureau: Bureau) -> None:
    Lake(settings).store.put("01_bronze/2015.csv.gz", b"")

    assert "01_bronze/2015.csv.gz is already in" in str(refusal(settings))
    assert bureau.asked == []


def test_two_fetches_of_a_year_do_not_meet(settings: Settings) -> None:
    folder = settings.scratch / "delaywatch-fetch"
    folder.mkdir()
    with (folder / "bts-2015.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        assert isinstance(refusal(settings), Busy)


def test_scratch_that_cannot_be_written_is_named(settings: Settings) -> None:
    (settings.scratch / "delaywatch-fetch").write_text("a file")

    assert "delaywatch-fetch is a file where a folder must be" in str(refusal(settings))


@pytest.mark.parametrize(("year", "source", "sentence"), [
    (1986, "bts", "1986 is not a year of this dataset"),
    (2015, "ftp", "There is no source ftp; choose one of bts, kaggle."),
])  # fmt: skip
def test_what_cannot_be_fetched_is_refused_before_anybody_is_asked(
    settings: Settings, bureau: Bureau, year: int, source: str, sentence: str
) -> None:
    assert sentence in str(refusal(settings, year, source))
    assert bureau.asked == []


def test_memory_stays_small_however_long_a_month_is(settings: Settings, bureau: Bureau) -> None:
    """300,000 flights of one month are 130 MB of text; a month has up to 660,000."""
    line = bureau_line(flight(FL_DATE="2015-12-04")).encode() + b"\n"
    bureau.files[month_path(2015, 12)] = zip_of(month_csv([]) + line * 300_000)
    program = """
import re
from pathlib import Path
from utils.sources import fetch
from utils.settings import Settings

def peak_kb():  # not getrusage's, which a process inherits from the one that started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

settings, before = Settings.from_environment(warehouse=""), peak_kb()
fetch.into_bronze(settings, 2015)
print(peak_kb() - before)
"""
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(fetch.__file__).parents[2]),
        "DELAYWATCH_LAKE": settings.lake,
        "DELAYWATCH_SCRATCH": str(settings.scratch),
        "DELAYWATCH_BTS_URL": settings.bts_url,
    }

    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) * 1024 / 1e6 < 120  # MB
    with closing(Lake(settings).open_bronze(2015)) as source:
        assert source.size > 300_000 * 100


# --- a year that is there ---------------------------------------------------------------------------------------------


def test_a_year_that_has_lost_a_month_or_many_flights_does_not_replace_a_good_one(
    settings: Settings, bureau: Bureau
) -> None:
    rows = [flight(FL_DATE=f"1987-{month}-04", OP_CARRIER_FL_NUM=str(n)) for month in (10, 11, 12) for n in range(50)]
    bureau.files = year_of_zips(rows)
    into_bronze(settings, 1987)
    good = in_bronze(settings)
    worse = {"November has": [*rows[:60], *rows[100:]], "December is gone": rows[:100]}

    for lost, left in worse.items():
        bureau.files = year_of_zips(left)
        assert lost in str(refusal(settings, 1987, so_far=True))
        assert in_bronze(settings) == good

    into_bronze(settings, 1987, so_far=True, replace=True)
    assert in_bronze(settings)["01_bronze/1987.csv"].count(b"\n1987-") == 100


def test_the_same_year_put_there_by_a_person_is_left_as_it_is(settings: Settings) -> None:
    into_bronze(settings)
    fetched = in_bronze(settings)["01_bronze/2015.csv"]
    Lake(settings).store.delete(["01_bronze/_2015.csv.json"])

    into_bronze(settings)

    assert in_bronze(settings)["01_bronze/2015.csv"] == fetched


@pytest.mark.parametrize(
    ("today", "sentence"),
    [
        (date(2015, 12, 31), "December 2015 is not over yet"),
        (date(2016, 6, 30), "Wait for December 2015"),
        (date(2016, 7, 2), "December 2015 ended on 2015-12-31"),
        (date(2026, 1, 1), "--from"),
    ],
)
def test_a_month_that_is_not_there_is_waited_for_only_as_long_as_it_may_come(
    settings: Settings, bureau: Bureau, today: date, sentence: str
) -> None:
    del bureau.files[month_path(2015, 12)]

    assert sentence in str(refusal(settings, today=today))


@pytest.mark.parametrize(("source", "is_about_a_token"), [("bts", False), ("kaggle", True)])
def test_only_who_was_shown_a_token_is_said_to_refuse_it(
    settings: Settings, bureau: Bureau, source: str, is_about_a_token: bool
) -> None:
    for path in (month_path(2015, 12), KAGGLES):
        bureau.always[path] = Answer(403)

    told = str(refusal(settings, source=source))

    assert "403" in told
    assert ("token" in told) == is_about_a_token


# --- months that were downloaded by hand ------------------------------------------------------------------------------


def by_hand(folder: Path, months: Iterable[int], year: int = 2015) -> Path:
    """A folder with the months under names of their own, every second one unpacked."""
    folder.mkdir(exist_ok=True)
    for month in months:
        text = month_csv([flight(FL_DATE=f"{year}-{month:02}-04")])
        name = f"On_Time_Reporting_Carrier_On_Time_Performance_(1987_present)_{year}_{month}"
        path = folder / (f"{name}.csv" if month % 2 else f"download ({year}-{month}).ZIP")
        path.write_bytes(text if month % 2 else zip_of(text))
    return folder


def test_months_in_a_folder_become_the_year_without_a_network(
    settings: Settings, bureau: Bureau, tmp_path: Path
) -> None:
    into_bronze(settings)
    fetched = in_bronze(settings)["01_bronze/2015.csv"]
    bureau.asked.clear()
    other = settings.replace(lake=(tmp_path / "other").as_uri())
    folder = by_hand(by_hand(tmp_path / "Downloads", range(1, 13)), [1, 2], year=2016)
    (folder / "letter.pdf").write_text("no month")
    (folder / "letters.zip").write_bytes(zip_of(b"a,b\n1,2\n"))
    before = {path: path.read_bytes() for path in folder.iterdir()}

    into_bronze(other, folder=folder)

    assert in_bronze(other)["01_bronze/2015.csv"] == fetched
    assert record.has_whole_year(other, 2015)
    assert bureau.asked == []
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_zip_and_what_was_unpacked_from_it_are_one_month(settings: Settings, tmp_path: Path) -> None:
    folder = by_hand(tmp_path / "Downloads", range(1, 13))
    (folder / "again.zip").write_bytes(zip_of(month_csv([flight(FL_DATE="2015-01-04")])))

    into_bronze(settings, folder=folder)

    assert in_bronze(settings)["01_bronze/2015.csv"].count(b"\n2015-01-") == 1


def test_two_versions_of_a_month_are_named_and_neither_is_taken(settings: Settings, tmp_path: Path) -> None:
    folder = by_hand(tmp_path / "Downloads", range(1, 13))
    (folder / "again.zip").write_bytes(zip_of(month_csv([flight(FL_DATE="2015-01-05")])))

    told = str(refusal(settings, folder=folder))

    assert "again.zip are two different files of January 2015" in told
    assert "2015_1.csv" in told
    assert in_bronze(settings) == {}


def test_a_damaged_zip_in_the_folder_must_be_replaced_by_a_person(settings: Settings, tmp_path: Path) -> None:
    path = by_hand(tmp_path / "Downloads", range(1, 13)) / "download (2015-2).ZIP"
    text = bytearray(zip_of(month_csv([flight(FL_DATE="2015-02-04")] * 9)))
    place = bytes(text).index(b"PK\1\2") + 16  # the CRC in the directory
    text[place] ^= 255
    path.write_bytes(text)

    told = refusal(settings, folder=path.parent)

    assert isinstance(told, InvalidInput)
    assert f"{path.name} is a damaged zip (" in str(told)


def test_months_that_the_folder_lacks_are_named(settings: Settings, tmp_path: Path) -> None:
    folder = by_hand(tmp_path / "Downloads", [*range(1, 5), *range(6, 11)])
    (folder / "On_Time_2015_11.zip").write_bytes(zip_of(b"a,b\n1,2\n"))
    (folder / "On_Time_2015_12.zip").write_bytes(b"<html>")

    told, so_far = (str(refusal(settings, folder=folder, so_far=so_far)) for so_far in (False, True))

    assert "has no May 2015, November 2015 and December 2015" in told
    assert "On_Time_2015_11.zip and On_Time_2015_12.zip are not" in told
    assert "has no May 2015 (" in so_far
    by_hand(folder, [5])
    into_bronze(settings, folder=folder, so_far=True)
    assert in_bronze(settings)["01_bronze/2015.csv"].count(b"\n2015-") == 10
    assert not record.has_whole_year(settings, 2015)


def test_a_folder_with_another_year_says_which(settings: Settings, tmp_path: Path) -> None:
    folder = by_hand(tmp_path / "Downloads", [1, 2, 3], year=2016)

    assert "its months are of 2016" in str(refusal(settings, folder=folder))


@pytest.mark.parametrize("what", ["nothing", "a file", "a broken link"])
def test_a_folder_that_is_none_is_named(settings: Settings, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "Downloads"
    if what == "a file":
        folder.write_text("")
    if what == "a broken link":
        folder.symlink_to("nowhere")

    assert f"{folder} cannot be read" in str(refusal(settings, folder=folder))


def test_a_file_of_the_folder_that_holds_two_months_stays_where_it_is(settings: Settings, tmp_path: Path) -> None:
    folder = by_hand(tmp_path / "Downloads", range(1, 13))
    mixed = folder / "download (2015-2).ZIP"
    mixed.write_bytes(zip_of(month_csv([flight(FL_DATE="2015-02-04"), flight(FL_DATE="2015-03-04")])))

    assert "download (2015-2).ZIP has flights of other days than 2015-02-" in str(refusal(settings, folder=folder))

    assert mixed.is_file()


# --- Kaggle ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_zipped", [False, True], ids=["plain", "zipped"])
def test_kaggles_year_arrives_byte_by_byte(settings: Settings, bureau: Bureau, is_zipped: bool) -> None:
    text = bureau.files[KAGGLES]
    if is_zipped:
        bureau.files[KAGGLES] = zip_of(text, "2015.csv")

    into_bronze(settings, source="kaggle")

    assert in_bronze(settings)["01_bronze/2015.csv"] == text
    assert bureau.asked[0].headers["Authorization"] == f"Basic {base64.b64encode(b'amelia:s3cret').decode()}"


def test_the_token_is_not_shown_to_the_store_that_kaggle_leads_to(settings: Settings, bureau: Bureau) -> None:
    with serving(Bureau()) as storage:
        storage.files["/signed"] = bureau.files.pop(KAGGLES)
        bureau.always[KAGGLES] = Answer(302, headers={"Location": f"{storage.url}/signed?signature=1"})
        storage.files["/signed?signature=1"] = storage.files["/signed"]

        into_bronze(settings, source="kaggle")

        assert "Authorization" in bureau.asked[0].headers
        assert "Authorization" not in storage.asked[0].headers


def test_a_year_that_kaggle_does_not_have_points_to_the_bureau(settings: Settings, bureau: Bureau) -> None:
    assert "--source bts" in str(refusal(settings, 2023, "kaggle"))


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (Answer(401), "see that the token is right"),
        (Answer(body=b"<!DOCTYPE html>\n<p>Sign in"), "is no CSV of flights: it begins with '<!DOCTYPE html>'"),
        (Answer(body=b"FL_DATE,OP_CARRIER\n2015-01-01,UA\n"), "lacks the columns"),
        (Answer(body=b"PK\3\4cut"), "is a damaged zip"),
    ],
    ids=["token", "a page", "columns", "damaged"],
)
def test_what_is_not_kaggles_year_leaves_bronze_as_it_was(
    settings: Settings, bureau: Bureau, fault: Answer, sentence: str
) -> None:
    Lake(settings).store.put("01_bronze/2015.csv", b"what was there")
    bureau.always[KAGGLES] = fault

    assert sentence in str(refusal(settings, source="kaggle"))

    assert in_bronze(settings) == {"01_bronze/2015.csv": b"what was there"}


def test_kaggle_is_not_asked_without_a_token(settings: Settings, bureau: Bureau) -> None:
    without = settings.replace(kaggle_token_file=settings.scratch / "none.json")

    assert "There is no Kaggle token" in str(refusal(without, source="kaggle"))
    assert bureau.asked == []


# --- what the DAG asks ----------------------------------------------------------------------------------------------


def test_a_year_is_published_when_its_last_month_is(settings: Settings, bureau: Bureau) -> None:
    assert fetch.is_published(settings, 2015, policy=QUICK)
    assert not fetch.is_published(settings, 2016, policy=QUICK)
    assert fetch.is_published(settings, 2015, "kaggle", policy=QUICK)
    assert bureau.paths() == [month_path(2015, 12), month_path(2016, 12), KAGGLES]


def test_a_lake_without_the_year_does_not_have_it_whole(settings: Settings) -> None:
    assert not record.has_whole_year(settings, 2015)
