"""`python -m utils fetch` as a person types it, against a local Bureau."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.builders import flight
from tests.command import utils
from tests.servers.bureau import Answer, Bureau, month_csv, month_path, serving, year_of_zips, zip_of
from tests.unprivileged import PREFIX, close, give

ROOT = Path(__file__).parents[3]


@pytest.fixture
def bureau() -> Iterator[Bureau]:
    with serving(Bureau()) as server:
        server.files = year_of_zips([flight(FL_DATE=f"2015-{month:02}-04") for month in range(1, 13)])
        yield server


def run(
    bureau: Bureau, folder: Path, *line: str, before: Sequence[str] = (), scratch: Path | None = None
) -> subprocess.CompletedProcess[str]:
    variables = {
        "HOME": str(folder),
        "DELAYWATCH_LAKE": (folder / "lake").as_uri(),
        "DELAYWATCH_WAREHOUSE": "",
        "DELAYWATCH_SCRATCH": str(scratch or folder),
        "DELAYWATCH_BTS_URL": f"{bureau.url}/PREZIP/",
        "DELAYWATCH_KAGGLE_URL": f"{bureau.url}/api/v1",
    }
    if not before:
        return utils("fetch", *line, **variables)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "dags"), "COLUMNS": "400", **variables}
    command = [*before, sys.executable, "-m", "utils", "fetch", *line]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def error_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("Error: "))
    return line


def test_a_year_is_fetched_after_a_busy_answer_and_a_cut(bureau: Bureau, tmp_path: Path) -> None:
    bureau.order(month_path(2015, 11), Answer(503))
    bureau.order(month_path(2015, 10), Answer(cut_after=200))

    done = run(bureau, tmp_path, "--year", "2015", "--source", "bts")

    assert (done.returncode, done.stdout) == (0, "01_bronze/2015.csv\n"), done.stderr
    assert "2015-10.zip was cut" in done.stderr
    assert "2015: 12 flights, " in done.stderr
    assert " bytes in 12 files" in done.stderr
    assert (tmp_path / "lake/01_bronze/2015.csv").read_text().count("\n2015-") == 12


def test_a_year_that_is_not_published_is_one_sentence(bureau: Bureau, tmp_path: Path) -> None:
    done = run(bureau, tmp_path, "--year", "2015:2016")

    told = error_of(done)
    assert "December 2016 ended on 2016-12-31" in told
    assert "ait for" not in told
    assert (tmp_path / "lake/01_bronze/2015.csv").is_file()  # the year before it is done


def test_months_are_taken_from_a_folder(bureau: Bureau, tmp_path: Path) -> None:
    folder = tmp_path / "Downloads"
    folder.mkdir()
    for path, content in bureau.files.items():
        (folder / Path(path).name).write_bytes(content)

    done = run(bureau, tmp_path, "--year", "2015", "--source", "bts", "--from", str(folder))

    assert (done.returncode, done.stdout) == (0, "01_bronze/2015.csv\n"), done.stderr
    assert (tmp_path / "lake/01_bronze/2015.csv").read_text().count("\n2015-") == 12
    assert bureau.asked == []


@pytest.mark.parametrize("what", ["folder", "zip", "scratch"])
def test_what_is_closed_to_this_user_is_one_sentence(bureau: Bureau, public_folder: Path, what: str) -> None:
    folder, lake, scratch = (public_folder / name for name in ("Downloads", "lake", "scratch"))
    for one in (folder, lake, scratch):
        one.mkdir()
    for path, content in bureau.files.items():
        (folder / Path(path).name).write_bytes(content)
    give(lake)
    if what != "scratch":
        give(scratch)
    closed = {"folder": folder, "zip": next(folder.iterdir()), "scratch": scratch}[what]
    close(closed)

    done = run(bureau, public_folder, "--year", "2015", "--from", str(folder), before=PREFIX, scratch=scratch)

    assert closed.name in error_of(done)
    assert not (lake / "01_bronze").exists()


def test_kaggle_without_a_token_is_one_sentence(bureau: Bureau, tmp_path: Path) -> None:
    done = run(bureau, tmp_path, "--year", "2015", "--source", "kaggle")

    assert f"There is no Kaggle token in {tmp_path}/.kaggle/kaggle.json; create one" in error_of(done)


def test_a_source_that_is_none_is_no_command_line(bureau: Bureau, tmp_path: Path) -> None:
    done = run(bureau, tmp_path, "--year", "2015", "--source", "ftp")

    assert done.returncode == 2
    assert "'ftp' is not one of 'bts', 'kaggle'" in done.stderr


def test_a_disk_that_fills_keeps_the_old_year_and_what_was_fetched(bureau: Bureau, tmp_path: Path) -> None:
    """Scratch space is a small tmpfs, mounted for this process only; that needs root, as in CI and in a container."""
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    bureau.files[month_path(2015, 6)] = zip_of(month_csv([flight(FL_DATE="2015-06-04")] * 20_000))
    there = tmp_path / "lake/01_bronze/2015.csv"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"what was there")
    mount = f"mount -t tmpfs -o size=1m tmpfs {tmp_path}/scratch"
    (tmp_path / "scratch").mkdir()

    done = run(
        bureau,
        tmp_path,
        *("--year", "2015"),
        before=["unshare", "-m", "bash", "-c", f'{mount} && "$@"; code=$?; ls -R {tmp_path}/scratch; exit $code', "_"],
        scratch=tmp_path / "scratch",
    )

    assert "No space left on the disk" in error_of(done)
    assert there.read_bytes() == b"what was there"
    assert "2015-06.zip" in done.stdout
    assert "2015.csv" not in done.stdout
