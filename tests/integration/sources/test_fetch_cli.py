"""`python -m utils fetch` with a local Bureau."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.command import utils
from tests.integration.sources.conftest import FLIGHTS
from tests.servers.bureau import Answer, Bureau, month_path


def fetch(bureau: Bureau, folder: Path, *line: str) -> CompletedProcess[str]:
    return utils(
        "fetch",
        *line,
        HOME=str(folder),
        DELAYWATCH_LAKE=(folder / "lake").as_uri(),
        DELAYWATCH_WAREHOUSE="",
        DELAYWATCH_SCRATCH=str(folder),
        DELAYWATCH_BTS_URL=f"{bureau.url}/PREZIP/",
        DELAYWATCH_KAGGLE_URL=f"{bureau.url}/api/v1",
    )


def test_a_year_is_fetched_in_spite_of_temporary_faults(bureau: Bureau, tmp_path: Path) -> None:
    bureau.answer_next(month_path(1987, 11), Answer(503))
    bureau.answer_next(month_path(1987, 10), Answer(cut_after=200))

    done = fetch(bureau, tmp_path, "--year", "1987", "--source", "bts")

    assert (done.returncode, done.stdout) == (0, "01_bronze/1987.csv\n"), done.stderr
    assert "1987-10.zip" in done.stderr  # the repeated download is logged
    assert (tmp_path / "lake/01_bronze/1987.csv").read_text().count("\n1987-") == len(FLIGHTS)


@pytest.mark.parametrize(
    ("line", "exit_code", "named"),
    [
        (["--year", "1987:1988"], 1, "_1988_12.zip"),
        (["--year", "1987", "--source", "kaggle"], 1, "/.kaggle/kaggle.json"),
        (["--year", "1987", "--source", "kaggle", "--so-far"], 1, "--so-far"),
        (["--year", "1987", "--source", "ftp"], 2, "'ftp'"),
    ],
)
def test_an_impossible_fetch_is_one_error_and_keeps_earlier_years(
    bureau: Bureau, tmp_path: Path, line: list[str], exit_code: int, named: str
) -> None:
    done = fetch(bureau, tmp_path, *line)

    assert done.returncode == exit_code
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "lake/01_bronze/1987.csv").exists() == ("1987:1988" in line)
