"""`python -m utils bronze --from`: which file becomes a year's bronze, and what it may replace."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import IO, Any

import pytest

from tests.builders import HEADER, Flight, csv_of, flight, line, year_of_flights
from tests.command import error_of, utils
from tests.servers import machine
from utils.errors import InvalidInput, Unavailable
from utils.pipeline import refine
from utils.settings import Settings
from utils.sources.bronze import put_bronze
from utils.storage.folder import FolderStore
from utils.storage.keys import bronze_keys
from utils.storage.lake import Lake

YEAR = 2015
PLAIN, COMPRESSED = bronze_keys(YEAR)
ROWS = year_of_flights(YEAR, {"JFK": 2})
GOOD, OTHER = csv_of(ROWS), csv_of(year_of_flights(YEAR, {"JFK": 2}, seed=2))
HEAD = f"{','.join(HEADER)}\n".encode()
LARGE = [f"{line(flight())}\n".encode()] * 60_000  # two blocks of the reader; bronze accepts duplicates
UNUSABLE = f"{line(flight(FL_DATE='4th of March'))}\n".encode()


def bronze(settings: Settings) -> dict[str, bytes]:
    store = Lake(settings).store
    return {key: store.get(key) or b"" for key in store.list("01_bronze/")}


def write(folder: Path, content: bytes, name: str = "new.csv") -> Path:
    """Write the content to a file, compressed if its name ends in .gz."""
    path = folder / name
    path.write_bytes(gzip.compress(content, 1) if name.endswith(".gz") else content)
    return path


# --- the first file of a year -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "key"), [("new.csv", PLAIN), ("new.csv.gz", COMPRESSED)])
def test_a_file_is_copied_unchanged_and_may_be_copied_again(
    lake_settings: Settings, tmp_path: Path, name: str, key: str
) -> None:
    path = write(tmp_path, GOOD, name)

    for _ in range(2):
        assert put_bronze(lake_settings, YEAR, path) == key
        assert bronze(lake_settings) == {key: path.read_bytes()}


@pytest.mark.parametrize("name", ["new.csv", "new.csv.gz"])
@pytest.mark.parametrize(
    ("content", "named"),
    [
        (HEAD + b"".join(LARGE[:30_000]) + UNUSABLE * 3000 + b"".join(LARGE[30_000:]), "1%"),
        (GOOD[: len(GOOD) // 2 - 3], "in the middle"),
        (GOOD[:-10], "in the middle"),
    ],
    ids=["unusable rows", "cut in half", "cut at the end"],
)
def test_a_damaged_file_is_refused(
    folder_settings: Settings, tmp_path: Path, content: bytes, named: str, name: str
) -> None:
    with pytest.raises(InvalidInput, match=f"{name}.*{named}"):
        put_bronze(folder_settings, YEAR, write(tmp_path, content, name))

    assert bronze(folder_settings) == {}


def test_a_few_unusable_rows_in_one_place_are_accepted(folder_settings: Settings, tmp_path: Path) -> None:
    path = write(tmp_path, HEAD + b"".join(LARGE) + UNUSABLE * 300)

    assert put_bronze(folder_settings, YEAR, path) == PLAIN


# --- a year that is there ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["new.csv", "new.csv.gz"])
def test_another_file_replaces_the_year_only_if_asked(lake_settings: Settings, tmp_path: Path, name: str) -> None:
    put_bronze(lake_settings, YEAR, write(tmp_path, GOOD, "old.csv"))
    new = write(tmp_path, OTHER, name)

    with pytest.raises(InvalidInput, match="--replace"):
        put_bronze(lake_settings, YEAR, new)
    assert bronze(lake_settings) == {PLAIN: GOOD}

    key = put_bronze(lake_settings, YEAR, new, replace=True)
    assert bronze(lake_settings) == {key: new.read_bytes()}


@pytest.mark.parametrize(
    "content",
    [b"", b"a,b\n1,2\n", HEAD, csv_of(year_of_flights(YEAR + 1, {"JFK": 1})), GOOD[:-40]],
    ids=["empty", "other columns", "no flights", "other year", "cut"],
)
def test_an_invalid_file_replaces_nothing(folder_settings: Settings, tmp_path: Path, content: bytes) -> None:
    put_bronze(folder_settings, YEAR, write(tmp_path, GOOD))

    with pytest.raises(InvalidInput, match=r"bad\.csv"):
        put_bronze(folder_settings, YEAR, write(tmp_path, content, "bad.csv"), replace=True)

    assert bronze(folder_settings) == {PLAIN: GOOD}


@pytest.mark.parametrize(
    ("rows", "named"),
    [(ROWS[: len(ROWS) // 2], "December"), ([row for number, row in enumerate(ROWS) if number % 10], "January")],
    ids=["without the last months", "without a tenth of every month"],
)
def test_a_file_with_fewer_flights_replaces_the_year_only_if_asked(
    folder_settings: Settings, tmp_path: Path, rows: list[Flight], named: str
) -> None:
    put_bronze(folder_settings, YEAR, write(tmp_path, GOOD))
    refine.write_silver(folder_settings, YEAR)
    fewer = write(tmp_path, csv_of(rows), "fewer.csv")

    with pytest.raises(InvalidInput, match=rf"fewer\.csv .*{named}.*--fewer-flights"):
        put_bronze(folder_settings, YEAR, fewer, replace=True)
    assert bronze(folder_settings) == {PLAIN: GOOD}

    put_bronze(folder_settings, YEAR, fewer, replace=True, allow_fewer=True)
    assert bronze(folder_settings) == {PLAIN: fewer.read_bytes()}


def test_a_file_that_changes_during_the_check_is_refused(
    folder_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    growing = write(tmp_path, GOOD, "growing.csv")
    monkeypatch.setattr(FolderStore, "has", lambda *_: growing.write_bytes(GOOD) < 0)  # after the first check

    with pytest.raises(Unavailable, match=r"growing\.csv"):
        put_bronze(folder_settings, YEAR, growing)

    assert bronze(folder_settings) == {}


def kill(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def copy_half(source: IO[bytes], target: IO[bytes], _: int) -> None:
    target.write(source.read(1000))
    target.flush()
    kill()


@pytest.mark.parametrize("name", ["new.csv", "new.csv.gz"])
@pytest.mark.parametrize("moment", ["before the copy", "during the copy", "before the deletion"])
def test_a_process_that_is_killed_leaves_a_whole_file_and_the_next_one_completes(
    folder_settings: Settings, tmp_path: Path, name: str, moment: str
) -> None:
    put_bronze(folder_settings, YEAR, write(tmp_path, GOOD, "old.csv"))
    new = write(tmp_path, OTHER, name)

    def killed() -> None:  # in a process of its own
        options: dict[str, Any] = {"before_upload": kill} if moment == "before the copy" else {}
        if moment == "during the copy":
            shutil.copyfileobj = copy_half  # type: ignore[assignment]
        if moment == "before the deletion":
            FolderStore.delete = kill  # type: ignore[assignment, method-assign]
        put_bronze(folder_settings, YEAR, new, replace=True, **options)

    assert machine.forked(killed) == (None, -signal.SIGKILL)

    has_new = moment == "before the deletion"
    assert bronze(folder_settings).get(PLAIN) == (OTHER if has_new and name == "new.csv" else GOOD)
    key = put_bronze(folder_settings, YEAR, new, replace=True)
    assert bronze(folder_settings) == {key: new.read_bytes()}


# --- the command ------------------------------------------------------------------------------------------------------


Command = Callable[..., CompletedProcess[str]]


@pytest.fixture
def command(folder_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `bronze --year 2015` with standard input."""

    def run(*line: str, stdin: bytes = b"") -> CompletedProcess[str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        return utils(
            *("bronze", "--year", str(YEAR), *line),
            DELAYWATCH_LAKE=folder_settings.lake,
            DELAYWATCH_WAREHOUSE="",
            DELAYWATCH_SCRATCH=str(folder_settings.scratch / "scratch"),
        )

    return run


@pytest.mark.parametrize(("content", "key"), [(GOOD, PLAIN), (gzip.compress(GOOD), COMPRESSED)], ids=["plain", "gzip"])
def test_standard_input_becomes_the_year_in_its_own_format(
    folder_settings: Settings, command: Command, content: bytes, key: str
) -> None:
    done = command("--from", "-", stdin=content)

    assert (done.returncode, done.stdout.strip()) == (0, key), done.stderr
    assert bronze(folder_settings) == {key: content}
    assert not [path for path in (folder_settings.scratch / "scratch").rglob("*") if path.is_file()]


@pytest.mark.parametrize("missing_bytes", [1, len(GOOD) - GOOD[:-1].rfind(b"\n") - 1])
@pytest.mark.parametrize("whole", [GOOD, gzip.compress(GOOD)], ids=["plain", "gzip"])
def test_standard_input_that_was_cut_replaces_nothing(
    folder_settings: Settings, tmp_path: Path, command: Command, whole: bytes, missing_bytes: int
) -> None:
    put_bronze(folder_settings, YEAR, write(tmp_path, OTHER))
    line = ("--from", "-", "--replace", "--bytes", str(len(whole)))

    assert "--bytes" in error_of(command(*line, stdin=whole[:-missing_bytes]))
    assert bronze(folder_settings) == {PLAIN: OTHER}

    assert command(*line, stdin=whole).returncode == 0
    assert list(bronze(folder_settings).values()) == [whole]


@pytest.mark.parametrize(
    ("line", "stdin", "named"),
    [
        (["--from", "-"], b"", "empty"),
        (["--from", "-"], GOOD[:-1], "middle of a line"),
        (["--from", "-"], gzip.compress(GOOD)[:-1], "gz"),
        (["--from", "-", "--replace"], GOOD, "--bytes"),
        (["--replace"], b"", "--from"),
    ],
)
def test_an_incomplete_file_or_command_is_one_error(
    folder_settings: Settings, command: Command, line: list[str], stdin: bytes, named: str
) -> None:
    assert named in error_of(command(*line, stdin=stdin))
    assert bronze(folder_settings) == {}
