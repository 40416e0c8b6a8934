"""Small inputs that ask for more memory, disk or time than there is: each ends in a sentence, none in a dead task."""

from __future__ import annotations

import gzip
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.builders import HEADER, csv_of, flight
from utils import detectors
from utils.analysis import exclusions
from utils.errors import DelaywatchError
from utils.layers.csv_reader import StreamReader
from utils.pipeline import refine
from utils.settings import Settings
from utils.sources import archive
from utils.storage.folder import FolderSource
from utils.storage.lake import Lake

pytestmark = pytest.mark.security

MB = 1 << 20
URL = "https://published.example/2015_1.zip"


class Peak:
    """The most memory that Python's objects held at once, in bytes."""

    bytes = 0


@contextmanager
def watched() -> Iterator[Peak]:
    peak = Peak()
    tracemalloc.start()
    try:
        yield peak
    finally:
        peak.bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


def packed(begin: bytes, piece: bytes, times: int) -> bytes:
    """Gzip of `begin` and then `piece`, again and again."""
    deflate = zlib.compressobj(9, wbits=31)
    return deflate.compress(begin) + b"".join(deflate.compress(piece) for _ in range(times)) + deflate.flush()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(lake=(tmp_path / "lake").as_uri(), warehouse="", scratch=tmp_path, threads=2)


# --- bronze -----------------------------------------------------------------------------------------------------------


def test_a_small_gzip_of_very_much_text_is_read_piece_by_piece(tmp_path: Path) -> None:
    path = tmp_path / "2015.csv.gz"
    path.write_bytes(packed((",".join(HEADER) + "\n").encode(), b"2015\n" * (MB // 5), 100))
    assert path.stat().st_size < MB

    read = 0
    with closing(FolderSource(str(path), path)) as source, watched() as peak:
        reader = StreamReader(source)
        reader.read_header()
        while part := reader.next_part():
            read += sum(map(len, part))

    assert read > 99 * MB
    assert peak.bytes < 50 * MB


def test_a_gzip_that_is_cut_anywhere_is_read_as_before_or_refused(tmp_path: Path) -> None:
    """Also where the piece that is unpacked at a time ends together with what there is to unpack."""
    text, path = b"2015\n" * (2 * MB), tmp_path / "2015.csv.gz"
    whole = gzip.compress((",".join(HEADER) + "\n").encode() + text) + gzip.compress(text) + b"\0" * 512
    path.write_bytes(whole)

    with closing(FolderSource(str(path), path)) as source:
        reader = StreamReader(source)
        reader.read_header()
        read = b"".join(block for part in iter(reader.next_part, None) for block in part)

    assert read == text + text
    path.write_bytes(whole[: len(whole) // 4])
    with closing(FolderSource(str(path), path)) as source, pytest.raises(DelaywatchError, match="in the middle"):
        list(iter(StreamReader(source).next_part, None))


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_a_line_without_an_end_is_refused_before_it_fills_the_memory(settings: Settings, ending: str) -> None:
    header = (",".join(HEADER) + "\n").encode()
    text = packed(header, b"A" * MB, 150) if ending == "csv.gz" else header + b"A" * (40 * MB)
    Lake(settings).store.put(f"01_bronze/2015.{ending}", text)

    with watched() as peak, pytest.raises(DelaywatchError, match=f"2015.{ending} has a line of more than 32 MB"):
        refine.write_silver(settings, 2015)

    assert peak.bytes < 120 * MB


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_a_file_that_is_one_long_line_is_told_to_name_its_columns(settings: Settings, ending: str) -> None:
    text = b"A" * 500_000
    Lake(settings).store.put(f"01_bronze/2015.{ending}", gzip.compress(text) if ending == "csv.gz" else text)

    with pytest.raises(DelaywatchError, match="begins with a line of more than 131,072 bytes"):
        refine.write_silver(settings, 2015)


@pytest.mark.parametrize("column", ["CANCELLATION_CODE", "FL_DATE", "DEP_DELAY"])
@pytest.mark.parametrize("value", ["0" * 140_000, "0" * 9_000_000, '"' + "0" * 140_000, '"\n' + "0" * 140_000 + '"'])
def test_a_field_of_any_length_costs_its_row_only(settings: Settings, column: str, value: str) -> None:
    rows = [flight(OP_CARRIER_FL_NUM=str(number)) for number in range(400)]
    Lake(settings).store.put("01_bronze/2015.csv", csv_of([*rows, flight(**{column: value}), flight()]))

    refine.write_silver(settings, 2015)

    quality = Lake(settings).read_quality(2015)
    assert quality["rows_kept"] == 401
    rejected = quality["rejected_by_reason"]
    assert "the line has more than 131,072 bytes" in rejected
    assert sum(rejected.values()) == quality["rows_read"] - 401


# --- zips -------------------------------------------------------------------------------------------------------------


def unpacked(path: Path) -> bytes:
    with archive.open_csv(path, URL) as text:
        return b"".join(archive.chunks(text))


def test_a_zip_of_more_than_a_year_can_have_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 10 * MB)  # packing 4 GB would take a minute
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("2015.csv", bytes(10 * MB + 1))

    with pytest.raises(DelaywatchError, match="10,485,761 bytes"):
        unpacked(path)


def test_a_zip_that_lies_about_its_size_is_read_no_further_than_it_says(tmp_path: Path) -> None:
    path = tmp_path / "liar.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as liar:
        liar.writestr("2015.csv", bytes(50 * MB))
    path.write_bytes(path.read_bytes().replace((50 * MB).to_bytes(4, "little"), (1000).to_bytes(4, "little")))

    with watched() as peak, pytest.raises(DelaywatchError, match="damaged zip"):
        unpacked(path)

    assert peak.bytes < 5 * MB


@pytest.mark.parametrize("packing", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_packing_that_may_ask_for_gigabytes_is_refused(tmp_path: Path, packing: int) -> None:
    path = tmp_path / "2015.zip"
    with zipfile.ZipFile(path, "w", packing) as other:
        other.writestr("2015.csv", "FL_DATE\n")

    with pytest.raises(DelaywatchError, match=f"compression method {packing}"):
        unpacked(path)


@pytest.mark.parametrize("name", ["../../../out.csv", "/tmp/out.csv", "..\\out.csv"])
def test_the_name_in_a_zip_decides_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    path = tmp_path / "a" / "b" / "slip.zip"
    with zipfile.ZipFile(path, "w") as slip:
        slip.writestr(name, "FL_DATE\n")

    assert unpacked(path) == b"FL_DATE\n"
    assert [found.name for found in tmp_path.rglob("*") if found.is_file()] == ["slip.zip"]
    assert not Path("/tmp/out.csv").exists()


# --- settings in YAML -------------------------------------------------------------------------------------------------

LAUGHS = "".join(f"    - &{new} [*{old}, *{old}, *{old}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True))
BILLION = f"delaywatch:\n  levels:\n    - &a [1, 1]\n{LAUGHS}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            f"delaywatch:\n  levels:\n    - &a [1, 1]\n{LAUGHS}",
            r"line 9: this is not plain YAML \(more than 16 aliases\)",
        ),
        (f"a: &a {{x: 1}}\nb: {{<<: [{'*a, ' * 17}]}}\n", r"line 2: .*\(more than 16 aliases\)"),
        ("delaywatch: " + "[" * 400 + "]" * 400, "is nested too deeply"),
        ("delaywatch: {level: " + "9" * 5000 + "}", "line 1: (this is not plain YAML|lines must have the form)"),
        ("delaywatch: !!python/object/apply:os.mkdir [owned]", "line 1: this is not plain YAML"),
    ],
    ids=["a billion laughs", "merged keys", "deep", "a long number", "a call"],
)
def test_a_hostile_yaml_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "hostile.yaml"
    path.write_text(text)

    for read in (detectors.read_settings, exclusions.read):
        with pytest.raises(DelaywatchError, match=told) as refused:
            read(path)
        assert len(str(refused.value)) < 6000
    assert [found.name for found in tmp_path.iterdir()] == ["hostile.yaml"]
