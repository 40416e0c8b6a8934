"""Small inputs that ask for much memory, disk or time: each is read in pieces or refused with a message."""

from __future__ import annotations

import gzip
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.builders import HEADER, csv_of, flight
from utils import detectors
from utils.analysis import exclusions
from utils.errors import InvalidInput
from utils.pipeline import refine
from utils.settings import Settings
from utils.sources import archive
from utils.storage.lake import Lake

pytestmark = pytest.mark.security

MB = 1 << 20


@contextmanager
def at_most(max_bytes: int) -> Iterator[None]:
    """Fail if Python's objects need more memory than `max_bytes` at once."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < max_bytes


# --- bronze -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["2015.csv", "2015.csv.gz"])
def test_a_line_without_end_is_refused_before_it_fills_the_memory(folder_settings: Settings, key: str) -> None:
    text = (",".join(HEADER) + "\n").encode() + b"A" * (150 * MB)
    Lake(folder_settings).store.put(f"01_bronze/{key}", gzip.compress(text, 1) if key.endswith("gz") else text)

    with at_most(120 * MB), pytest.raises(InvalidInput, match=f"{key} .*32 MB"):
        refine.write_silver(folder_settings, 2015)


@pytest.mark.parametrize("value", ["0" * 9_000_000, '"' + "0" * 140_000, '"\n' + "0" * 140_000 + '"'])
def test_a_field_of_any_length_rejects_only_its_row(folder_settings: Settings, value: str) -> None:
    rows = [flight(OP_CARRIER_FL_NUM=str(number)) for number in range(400)]
    Lake(folder_settings).store.put("01_bronze/2015.csv", csv_of([*rows, flight(FL_DATE=value), flight()]))

    refine.write_silver(folder_settings, 2015)

    report = Lake(folder_settings).read_quality(2015)
    assert report["rows_kept"] == 401
    assert report["rows_rejected"] == report["rows_read"] - 401 <= 2
    assert "the line has more than 131,072 bytes" in report["rejected_by_reason"]


# --- zips -------------------------------------------------------------------------------------------------------------


def unpack(path: Path) -> None:
    with archive.open_csv(path, "https://published.example/2015_1.zip") as text:
        b"".join(archive.chunks(text))


def zip_of(path: Path, text: bytes, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as packed:
        packed.writestr("2015.csv", text)
    return path


@pytest.mark.parametrize(
    ("method", "named"),
    [(zipfile.ZIP_DEFLATED, "10,485,761 bytes"), (zipfile.ZIP_LZMA, "method 14")],
)
def test_a_zip_that_may_need_too_much_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: int, named: str
) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 10 * MB)  # writing 4 GB would take a minute
    path = zip_of(tmp_path / "bomb.zip", bytes(10 * MB + 1), method)

    with at_most(5 * MB), pytest.raises(InvalidInput, match=named):
        unpack(path)


# --- settings in YAML -------------------------------------------------------------------------------------------------

LAUGHS = "".join(f"    - &{new} [*{old}, *{old}, *{old}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"delaywatch:\n  levels:\n    - &a [1, 1]\n{LAUGHS}", "line 9: .*16 aliases"),
        (f"a: &a {{x: 1}}\nb: {{<<: [{'*a, ' * 17}]}}\n", "line 2: .*16 aliases"),
        ("delaywatch: " + "[" * 400 + "]" * 400, "nested too deeply"),
        ("delaywatch: {level: " + "9" * 5000 + "}", "line 1: "),
        ("delaywatch: !!python/object/apply:os.mkdir [owned]", "line 1: "),
    ],
    ids=["a billion laughs", "merged keys", "deep", "a long number", "a call"],
)
@pytest.mark.parametrize("read", [detectors.read_settings, exclusions.read])
def test_a_hostile_yaml_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object], text: str, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    sys.setrecursionlimit(1000)  # the default; Airflow raises it in a process that has read a DAG
    path = tmp_path / "hostile.yaml"
    path.write_text(text)

    with pytest.raises(InvalidInput, match=place) as error:
        read(path)

    assert len(str(error.value)) < 6000
    assert list(tmp_path.iterdir()) == [path]
