"""`python -m utils bronze --from`: which file becomes a year's bronze, what it may replace, and what is refused."""

from __future__ import annotations

import gzip
import os
import random
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.builders import Flight, csv_of, year_of_flights
from tests.unprivileged import PREFIX, close, give
from utils.errors import DelaywatchError
from utils.layers import ingest
from utils.pipeline import refine
from utils.settings import Settings
from utils.sources.bronze import put_bronze
from utils.storage.folder import FolderSource, FolderStore
from utils.storage.keys import bronze_keys
from utils.storage.lake import Lake

ROOT = Path(__file__).parents[3]
YEAR = 2015
PLAIN, COMPRESSED = bronze_keys(YEAR)
ROWS = year_of_flights(YEAR, {"JFK": 8})
GOOD = csv_of(ROWS)
OTHER_GOOD = csv_of(year_of_flights(YEAR, {"JFK": 8}, seed=2))
# Several blocks of 4 MB, in random bytes of which gzip makes little.
LARGE: list[Flight] = year_of_flights(YEAR, {"JFK": 150, "EWR": 150})


def bad_rows(rows: list[Flight], first: float, last: float) -> list[Flight]:
    """The rows, of which those between two shares of the file have no date that can be read."""
    span = range(int(first * len(rows)), int(last * len(rows)))
    return [{**row, "FL_DATE": "4th of March"} if place in span else row for place, row in enumerate(rows)]


def bronze(settings: Settings) -> dict[str, bytes]:
    store = Lake(settings).store
    return {key: store.get(key) or b"" for key in store.list("01_bronze/")}


def file_of(folder: Path, content: bytes, name: str = "given.csv") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def refusal(settings: Settings, path: Path, *, replace: bool = False) -> str:
    with pytest.raises(DelaywatchError) as refused:
        put_bronze(settings, YEAR, path, replace=replace)
    return str(refused.value)


# --- the first file of a year -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "key"), [("given.csv", PLAIN), ("given.csv.gz", COMPRESSED)])
def test_a_file_becomes_the_years_bronze_byte_by_byte(
    lake_settings: Settings, tmp_path: Path, name: str, key: str
) -> None:
    content = gzip.compress(GOOD) if name.endswith(".gz") else GOOD

    assert put_bronze(lake_settings, YEAR, file_of(tmp_path, content, name)) == key

    assert bronze(lake_settings) == {key: content}


@pytest.mark.parametrize("is_compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(("first", "last"), [(0, 0.05), (0.3, 0.35), (0.5, 0.55), (0.98, 1)])
def test_a_file_with_a_bad_stretch_anywhere_is_refused(
    folder_settings: Settings, tmp_path: Path, first: float, last: float, is_compressed: bool
) -> None:
    content = csv_of(bad_rows(LARGE, max(first, 0.001), last))
    path = file_of(tmp_path, gzip.compress(content, 1) if is_compressed else content,
                   "given.csv.gz" if is_compressed else "given.csv")  # fmt: skip

    assert "cannot be used, more than 1%" in refusal(folder_settings, path)

    assert bronze(folder_settings) == {}


@pytest.mark.parametrize("broken", [b"\0" * 30_000, csv_of([])], ids=["zero bytes", "a second header"])
def test_a_small_break_in_a_large_file_makes_a_whole_pass(
    folder_settings: Settings, tmp_path: Path, broken: bytes
) -> None:
    """What the pass makes of it is its own business; that a sample misses it is shown by its place."""
    content = csv_of(LARGE)
    middle = content.find(b"\n", 7_000_000 // (1 << 16) * (1 << 16) + 20_000) + 1
    path = file_of(tmp_path, content[:middle] + broken + content[middle:])

    with closing(FolderSource(str(path), path)) as source:
        assert ingest.is_doubtful(source, YEAR)


def test_a_file_with_few_bad_rows_in_one_place_is_taken(folder_settings: Settings, tmp_path: Path) -> None:
    path = file_of(tmp_path, csv_of(bad_rows(LARGE, 0.995, 1)))

    assert put_bronze(folder_settings, YEAR, path) == PLAIN


@pytest.mark.parametrize("is_compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.9999])
def test_a_file_that_was_cut_is_refused(
    folder_settings: Settings, tmp_path: Path, share: float, is_compressed: bool
) -> None:
    content = gzip.compress(GOOD) if is_compressed else GOOD
    cut = content[: int(share * len(content)) - 3]
    path = file_of(tmp_path, cut, "given.csv.gz" if is_compressed else "given.csv")

    assert "ends in the middle" in refusal(folder_settings, path)


# --- a year that is there ---------------------------------------------------------------------------------------------


def test_the_same_file_again_changes_nothing_and_needs_no_flag(lake_settings: Settings, tmp_path: Path) -> None:
    path = file_of(tmp_path, GOOD)
    put_bronze(lake_settings, YEAR, path)

    put_bronze(lake_settings, YEAR, path)

    assert bronze(lake_settings) == {PLAIN: GOOD}


@pytest.mark.parametrize(("name", "content"), [("other.csv", OTHER_GOOD), ("other.csv.gz", gzip.compress(GOOD))])
def test_another_file_replaces_a_year_only_when_that_is_asked_for(
    lake_settings: Settings, tmp_path: Path, name: str, content: bytes
) -> None:
    put_bronze(lake_settings, YEAR, file_of(tmp_path, GOOD))
    other = file_of(tmp_path, content, name)

    assert "--replace" in refusal(lake_settings, other)
    assert bronze(lake_settings) == {PLAIN: GOOD}

    key = put_bronze(lake_settings, YEAR, other, replace=True)
    assert bronze(lake_settings) == {key: content}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a,b\n1,2\n",
        csv_of([]),
        csv_of(bad_rows(ROWS, 0.5, 0.52)),
        csv_of(year_of_flights(YEAR + 1, {"JFK": 8})),
        GOOD[:-40],
    ],
    ids=["empty", "another table", "no flights", "bad rows in the middle", "another year", "cut"],
)
@pytest.mark.parametrize("replace", [False, True])
def test_a_bad_file_replaces_nothing(folder_settings: Settings, tmp_path: Path, content: bytes, replace: bool) -> None:
    put_bronze(folder_settings, YEAR, file_of(tmp_path, GOOD))

    refusal(folder_settings, file_of(tmp_path, content, "bad.csv"), replace=replace)

    assert bronze(folder_settings) == {PLAIN: GOOD}


def test_a_file_with_a_few_scattered_bad_rows_too_many_does_not_replace_a_good_one(
    folder_settings: Settings, tmp_path: Path
) -> None:
    put_bronze(folder_settings, YEAR, file_of(tmp_path, csv_of(LARGE)))
    chosen = random.Random(1)
    scattered = [{**row, "FL_DATE": "?"} if chosen.random() < 0.012 and place else row
                 for place, row in enumerate(LARGE)]  # fmt: skip

    assert "more than 1%" in refusal(folder_settings, file_of(tmp_path, csv_of(scattered), "bad.csv"), replace=True)

    assert bronze(folder_settings) == {PLAIN: csv_of(LARGE)}


@pytest.mark.parametrize(
    ("rows", "named"),
    [(ROWS[: len(ROWS) // 2], "December"), ([row for at, row in enumerate(ROWS) if at % 10], "January")],
    ids=["cut at a line end", "a tenth of every month is missing"],
)
def test_a_file_with_fewer_flights_replaces_a_year_only_when_that_is_asked_for(
    folder_settings: Settings, tmp_path: Path, rows: list[Flight], named: str
) -> None:
    put_bronze(folder_settings, YEAR, file_of(tmp_path, GOOD))
    refine.write_silver(folder_settings, YEAR)
    fewer = file_of(tmp_path, csv_of(rows), "fewer.csv")

    told = refusal(folder_settings, fewer, replace=True)

    assert named in told
    assert "--fewer-flights" in told
    assert bronze(folder_settings) == {PLAIN: GOOD}
    put_bronze(folder_settings, YEAR, fewer, replace=True, allow_fewer=True)
    assert bronze(folder_settings) == {PLAIN: csv_of(rows)}


@pytest.mark.parametrize("fails", ["upload", "delete"])
def test_a_kill_between_the_new_file_and_the_end_of_the_old_one_loses_neither(
    folder_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    put_bronze(folder_settings, YEAR, file_of(tmp_path, GOOD))
    other = file_of(tmp_path, gzip.compress(OTHER_GOOD), "other.csv.gz")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FolderStore, fails, killed)
        put_bronze(folder_settings, YEAR, other, replace=True)

    assert bronze(folder_settings)[PLAIN] == GOOD
    put_bronze(folder_settings, YEAR, other, replace=True)
    assert bronze(folder_settings) == {COMPRESSED: other.read_bytes()}


def test_a_process_that_is_killed_while_it_copies_leaves_the_old_file(
    folder_settings: Settings, tmp_path: Path
) -> None:
    put_bronze(folder_settings, YEAR, file_of(tmp_path, GOOD))
    other = file_of(tmp_path, csv_of(LARGE), "other.csv")
    command = put(folder_settings, "--from", str(other), "--replace")

    for pause_s in (0.5, 1, 1.5, 2):
        running = subprocess.Popen(command, env=environment(folder_settings), stderr=subprocess.DEVNULL)
        try:
            running.wait(pause_s)
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGKILL)
            running.wait()
        assert bronze(folder_settings) in ({PLAIN: GOOD}, {PLAIN: csv_of(LARGE)})


# --- the command ------------------------------------------------------------------------------------------------------


def environment(settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT / "dags"),
        "COLUMNS": "400",
        "HOME": "/nowhere",
        "DELAYWATCH_LAKE": settings.lake,
        "DELAYWATCH_WAREHOUSE": "",
        "DELAYWATCH_SCRATCH": str(settings.scratch / "scratch"),
    }


def put(_: Settings, *line: str) -> list[str]:
    return [sys.executable, "-m", "utils", "bronze", "--year", str(YEAR), *line]


def run(
    settings: Settings, *line: str, stdin: bytes = b"", before: list[str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    command = [*(before or []), *put(settings, *line)]
    return subprocess.run(command, env=environment(settings), input=stdin, capture_output=True, check=False)


def error_of(done: subprocess.CompletedProcess[bytes]) -> str:
    told = done.stderr.decode()
    assert done.returncode == 1, told
    assert "Traceback" not in told
    (line,) = (line for line in told.splitlines() if line.startswith("Error: "))
    return line


@pytest.mark.parametrize(("content", "key"), [(GOOD, PLAIN), (gzip.compress(GOOD), COMPRESSED)], ids=["plain", "gzip"])
def test_standard_input_becomes_the_year_in_its_own_format(folder_settings: Settings, content: bytes, key: str) -> None:
    done = run(folder_settings, "--from", "-", stdin=content)

    assert (done.returncode, done.stdout.decode().strip()) == (0, key), done.stderr
    assert bronze(folder_settings) == {key: content}
    assert not [path for path in (folder_settings.scratch / "scratch").rglob("*") if path.is_file()]


@pytest.mark.parametrize("cut", [1, 5, 1000, GOOD[:-1].rfind(b"\n") + 1])
@pytest.mark.parametrize("is_compressed", [False, True], ids=["plain", "gzip"])
def test_standard_input_that_was_cut_replaces_nothing(
    folder_settings: Settings, tmp_path: Path, cut: int, is_compressed: bool
) -> None:
    put_bronze(folder_settings, YEAR, file_of(tmp_path, OTHER_GOOD))
    whole = gzip.compress(GOOD) if is_compressed else GOOD
    line = ("--from", "-", "--replace", "--bytes", str(len(whole)))

    error_of(run(folder_settings, *line, stdin=whole[: len(whole) - min(cut, len(whole) // 2)]))

    assert bronze(folder_settings) == {PLAIN: OTHER_GOOD}
    assert run(folder_settings, *line, stdin=whole).returncode == 0
    assert list(bronze(folder_settings).values()) == [whole]


def test_standard_input_replaces_a_year_only_when_its_size_is_given(folder_settings: Settings, tmp_path: Path) -> None:
    put_bronze(folder_settings, YEAR, file_of(tmp_path, OTHER_GOOD))

    assert "--bytes" in error_of(run(folder_settings, "--from", "-", "--replace", stdin=GOOD))
    assert bronze(folder_settings) == {PLAIN: OTHER_GOOD}


@pytest.mark.parametrize("content", [b"", GOOD[:-1], GOOD[:-30], gzip.compress(GOOD)[:-1]])
def test_the_beginning_of_a_file_on_standard_input_is_no_year(folder_settings: Settings, content: bytes) -> None:
    error_of(run(folder_settings, "--from", "-", stdin=content))

    assert bronze(folder_settings) == {}


def test_another_kind_of_file_on_standard_input_is_not_called_cut(folder_settings: Settings) -> None:
    told = error_of(run(folder_settings, "--from", "-", stdin=b"PK\x03\x04 and so on"))

    assert "zip archive" in told


@pytest.mark.parametrize("case", ["closed folder", "closed file", "broken link", "circle", "below a file", "a folder"])
def test_a_file_that_cannot_be_read_is_named_in_one_sentence(public_folder: Path, case: str) -> None:
    settings = Settings(lake=(public_folder / "lake").as_uri(), warehouse="", scratch=public_folder)
    downloads = public_folder / "Downloads"
    for folder in (downloads, public_folder / "lake", public_folder / "scratch"):
        folder.mkdir()
    give(public_folder / "lake")
    give(public_folder / "scratch")
    good = file_of(downloads, GOOD)
    path = {
        "closed folder": good,
        "closed file": good,
        "broken link": downloads / "link.csv",
        "circle": downloads / "circle.csv",
        "below a file": good / "2015.csv",
        "a folder": downloads,
    }[case]
    (downloads / "link.csv").symlink_to("nowhere.csv")
    (downloads / "circle.csv").symlink_to("circle.csv")
    if case.startswith("closed"):
        close(downloads if case == "closed folder" else good)

    told = error_of(run(settings, "--from", str(path), before=PREFIX))

    assert str(path) in told
    assert bronze(settings) == {}


@pytest.mark.parametrize("what", ["", "01_bronze", "01_bronze/2015.csv"])
def test_a_lake_that_is_closed_to_this_user_is_named_in_one_sentence(public_folder: Path, what: str) -> None:
    lake = public_folder / "lake"
    settings = Settings(lake=lake.as_uri(), warehouse="", scratch=public_folder)
    put_bronze(settings, YEAR, file_of(public_folder, GOOD))
    (public_folder / "scratch").mkdir()
    give(public_folder / "scratch")
    close(lake / what)

    told = error_of(run(settings, "--from", str(file_of(public_folder, OTHER_GOOD)), "--replace", before=PREFIX))

    assert "No permission" in told
    assert str(lake) in told


def test_an_object_of_the_lake_that_leads_in_a_circle_is_one_sentence(
    folder_settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake/_staging").symlink_to("_staging")

    assert "circle" in refusal(folder_settings, file_of(tmp_path, GOOD))


def test_two_lakes_with_similar_names_do_not_share_a_year(folder_settings: Settings, tmp_path: Path) -> None:
    one, other = (folder_settings.replace(lake=(tmp_path / name).as_uri()) for name in ("team#1", "team#2"))

    put_bronze(one, YEAR, file_of(tmp_path, GOOD))

    assert (list(bronze(one)), bronze(other)) == ([PLAIN], {})
