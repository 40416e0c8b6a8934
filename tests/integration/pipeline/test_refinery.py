"""The pass over a year's CSV: no row is lost, and the way of reading does not change silver; bad files are refused."""

from __future__ import annotations

import gzip
import io
import re
import zipfile
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from tempfile import mkdtemp

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.builders import HEADER, Flight, cancelled, csv_of, flight, line, year_of_flights
from utils import schemas
from utils.errors import InvalidInput, Unavailable
from utils.layers import csv_reader, gold, ingest, silver
from utils.layers.engines import Threads
from utils.storage.folder import FolderSource
from utils.storage.parts import LocalParts

YEAR = 2015
NAMES = ",".join(HEADER)
FILES = ["2015.csv", "2015.csv.gz"]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut files every 2 KiB, so that a small file has many parts."""
    monkeypatch.setattr(csv_reader, "PIECE_BYTES", 2048)
    monkeypatch.setattr(csv_reader, "PIECES_PER_PART", 2)


class Remote(FolderSource):
    """A file that is read like an object in a bucket."""

    is_remote = True


def packed(data: bytes, name: str) -> bytes:
    return gzip.compress(data) if name.endswith("gz") else data


def ingested(
    data: bytes, folder: Path, name: str = "2015.csv", threads: int = 2, source: type[FolderSource] = FolderSource
) -> ingest.IngestedYear:
    """Write a file of these bytes and ingest it; the parts of the result are named by their paths."""
    path, staging = folder / name, Path(mkdtemp(dir=folder))
    store = LocalParts(staging)
    path.write_bytes(data)
    with closing(source(f"01_bronze/{name}", path)) as opened:
        year = ingest.ingest_year(opened, YEAR, staging, Threads(threads), store)
    parts = [replace(part, file=replace(part.file, name=str(store.path(part.file.name)))) for part in year.parts]
    return replace(year, parts=parts)


def refusal(data: bytes, folder: Path, name: str = "2015.csv") -> str:
    """The message that refuses a file of these bytes."""
    with pytest.raises(InvalidInput, match=re.escape(name)) as error:
        ingested(data, folder, name)
    return str(error.value)


def flights_of(year: ingest.IngestedYear) -> pa.Table:
    tables = [pq.read_table(part.file.name) for part in year.parts]
    return pa.concat_tables(tables).unify_dictionaries() if tables else schemas.SILVER.empty_table()


def sorted_rows(year: ingest.IngestedYear) -> list[tuple[object, ...]]:
    return sorted(zip(*(column.to_pylist() for column in flights_of(year).columns), strict=True), key=repr)


def checksums(year: ingest.IngestedYear) -> list[str]:
    return [part.file.sha256 for part in year.parts]


@cache
def whole_year() -> list[Flight]:
    return year_of_flights(YEAR, {"JFK": 12, "ACK": 2})


def some_rows(count: int = 300, seed: int = 1) -> list[Flight]:
    return Random(seed).sample(whole_year(), count)


GOOD = csv_of(some_rows(299))
PACKED = gzip.compress(GOOD)

# --- ways to read a file ----------------------------------------------------------------------------------------------


# A failing example is not made smaller, which would take minutes.
@settings(max_examples=10, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 99),
    copies=st.integers(0, 40),
    piece=st.integers(600, 9000),
    per_part=st.integers(1, 4),
    threads=st.integers(1, 3),
    name=st.sampled_from(FILES),
    random=st.randoms(use_true_random=False),
)
def test_neither_the_order_of_rows_nor_the_cut_of_the_file_changes_the_year(
    tmp_path: Path, seed: int, copies: int, piece: int, per_part: int, threads: int, name: str, random: Random
) -> None:
    rows = some_rows(120, seed)
    changed = [{**row, "DISTANCE": "7.0"} for row in rows[:copies:3]]
    rows = [*rows, *rows[:copies], *changed]
    whole = ingested(csv_of(rows), tmp_path)
    expected = sorted_rows(whole)

    random.shuffle(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_reader, "PIECE_BYTES", piece)
        patch.setattr(csv_reader, "PIECES_PER_PART", per_part)
        shuffled = ingested(packed(csv_of(rows), name), tmp_path, name, threads)

    assert sorted_rows(shuffled) == expected
    assert gold.airport_days(shuffled.sums, YEAR).equals(gold.airport_days(whole.sums, YEAR))
    assert shuffled.sums.equals(gold.year_sums([flights_of(shuffled)], YEAR))
    assert shuffled.duplicates == whole.duplicates


def test_threads_gzip_and_a_bucket_give_the_same_bytes_and_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_pieces: None
) -> None:
    lines = csv_of(some_rows(600)).splitlines(keepends=True)
    data = b"".join([*lines[:300], b"x" * 9000 + b"\n", *lines[300:]])  # one line is longer than pieces
    monkeypatch.setattr(csv_reader, "_PEEK_BYTES", 64)  # shorter than some lines
    members = gzip.compress(data[:5000]) + gzip.compress(data[5000:]) + b"\0" * 512

    years = [
        ingested(data, tmp_path, threads=1),
        ingested(data, tmp_path, threads=4),
        ingested(gzip.compress(data), tmp_path, "2015.csv.gz"),
        ingested(members, tmp_path, "2015.csv.gz"),
        ingested(data, tmp_path, source=Remote),
    ]

    assert [checksums(year) for year in years] == [checksums(years[0])] * 5
    assert [year.rejected["line"].to_pylist() for year in years] == [[301]] * 5
    assert len({year.sha256 for year in years}) == 1


def test_the_checksum_changes_with_the_text(tmp_path: Path) -> None:
    data = csv_of(some_rows())

    assert ingested(data, tmp_path).sha256 != ingested(b",AA,".join(data.rsplit(b",UA,", 1)), tmp_path).sha256


@pytest.mark.parametrize("name", FILES)
def test_a_line_break_in_quotes_is_part_of_the_row_wherever_the_file_is_cut(
    tmp_path: Path, small_pieces: None, name: str
) -> None:
    rows = some_rows(200)
    lines = [line(row) for row in rows]
    lines[::17] = [text.removesuffix(",") + ',"two\nlines"' for text in lines[::17]]

    year = ingested(packed("\n".join([NAMES, *lines]).encode(), name), tmp_path, name)

    assert (year.rows_read, year.rows_kept) == (200, 200)
    assert sorted_rows(year) == sorted_rows(ingested(csv_of(rows), tmp_path))


# --- duplicates -------------------------------------------------------------------------------------------------------


def test_rows_without_a_complete_key_are_kept_and_equal_ones_counted(tmp_path: Path) -> None:
    row = cancelled(CRS_DEP_TIME="")

    year = ingested(csv_of([flight(ORIGIN="SFO"), row, row, row]), tmp_path)

    assert (year.rows_kept, year.rows_duplicate, year.duplicates.kept_without_key) == (4, 0, 2)
    assert sum(year.sums["cancelled"].to_pylist()) == 3


@pytest.mark.parametrize(
    ("flights", "differing", "equal", "is_refused"),
    [
        (300, 100, 0, True),
        (300, 99, 0, False),
        (10_000, 100, 0, True),
        (10_001, 100, 0, False),
        (300, 101, 100, True),
        (300, 100, 100, False),
    ],
)
def test_two_versions_of_a_month_are_refused_and_a_few_differing_rows_dropped(
    tmp_path: Path, flights: int, differing: int, equal: int, is_refused: bool
) -> None:
    def of(day: str, number: int, delay: str = "3.0") -> Flight:
        return flight(FL_DATE=day, OP_CARRIER_FL_NUM=str(number), DEP_DELAY=delay)

    june = [of("2015-06-03", number) for number in range(flights)]
    july = [of("2015-07-03", number) for number in range(flights)]
    again = [of("2015-06-03", number, "14.0") for number in range(differing)]
    data = csv_of([*june, *july, *again, *june[differing : differing + equal]])

    if is_refused:
        message = refusal(data, tmp_path)
        assert all(part in message for part in ("June 2015", "2015-06-03", "DEP_DELAY", "3", "14"))
        assert "July" not in message
    else:
        year = ingested(data, tmp_path)
        assert (year.rows_kept, year.duplicates.per_month) == (2 * flights, {6: differing + equal})
        assert year.duplicates.differing == differing


# --- refused files ----------------------------------------------------------------------------------------------------


def with_cancelled(*codes: str) -> bytes:
    """The good rows and 100 cancelled flights, the last of them with these codes."""
    all_codes = ["B"] * (100 - len(codes)) + list(codes)
    rows = [cancelled(OP_CARRIER_FL_NUM=str(number), CANCELLATION_CODE=code) for number, code in enumerate(all_codes)]
    return GOOD + csv_of(rows).split(b"\n", 1)[1]


@pytest.mark.parametrize(
    ("data", "name", "named"),
    [
        (b"", "2015.csv", "empty"),
        (f"{NAMES}\n{NAMES}\n".encode(), "2015.csv", "no flights"),
        (csv_of([flight(FL_DATE="2014-01-01")] * 3), "2015.csv", r"FL_DATE.*2014-01-01.*line 2\b"),
        (
            csv_of(some_rows(50)) + csv_of([*some_rows(98)[50:], flight(FL_DATE="04.03.2015")]),
            "2015.csv",
            r"1 of 99 .*1%.*FL_DATE.*04\.03\.2015.*line 101\b",
        ),
        (with_cancelled("snow", "ice"), "2015.csv", r"2 of 100 .*CANCELLATION_CODE.*snow.*line 399\b"),
        (GOOD + b"2015-03-04,UA,24", "2015.csv", r"line 301\b"),
        (GOOD + b'2015-03-04,"UA', "2015.csv", r"line 301\b"),
        (PACKED[: len(PACKED) // 2], "2015.csv.gz", "gzip"),
        (PACKED[: len(PACKED) // 2] + b"\xff" + PACKED[len(PACKED) // 2 + 1 :], "2015.csv.gz", "gzip"),
        (GOOD, "2015.csv.gz", "rename"),
        (PACKED, "2015.csv", "rename"),
        (GOOD.replace(b"\n", b"\r"), "2015.csv", "carriage return"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_file_is_refused_with_its_fault(tmp_path: Path, data: bytes, name: str, named: str) -> None:
    assert re.search(named, refusal(data, tmp_path, name))


@pytest.mark.parametrize(
    ("data", "faults"),
    [
        (GOOD + b"2015-03-04,UA,24\n", [silver.WRONG_COUNT]),
        (GOOD + line(flight(FL_DATE="2014-01-01")).encode(), ["FL_DATE"]),
        (b"".join(csv_of(some_rows(30, seed)) for seed in range(12)), [silver.REPEATED_HEADER] * 11),
    ],
    ids=["a short line before the end", "a bad last line", "repeated headers"],
)
def test_a_few_bad_rows_are_rejected_and_the_year_goes_on(tmp_path: Path, data: bytes, faults: list[str]) -> None:
    """faults: the column, or the reason if the whole line is wrong."""
    rejected = ingested(data, tmp_path).rejected.to_pylist()

    assert [row["column"] or row["reason"] for row in rejected] == faults


def test_a_file_that_is_cut_in_a_line_across_two_parts_is_refused(tmp_path: Path, small_pieces: None) -> None:
    part = csv_reader.PIECE_BYTES * csv_reader.PIECES_PER_PART
    end = len(GOOD) // part * part + 20
    start_of_line = GOOD.rindex(b"\n", 0, end - 40) + 1  # in the part before

    message = refusal(GOOD[:start_of_line] + b"2015-03-04," + b"U" * (end - start_of_line), tmp_path)

    assert "middle of line" in message


def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_pieces: None
) -> None:
    class Growing(FolderSource):
        def read(self, start: int, end: int) -> bytes:
            with (tmp_path / "2015.csv").open("ab") as file:
                file.write(line(flight()).encode() + b"\n")
            return super().read(start, end)

    with pytest.raises(Unavailable, match=r"2015.csv changed"):
        ingested(GOOD, tmp_path, source=Growing)


@pytest.mark.parametrize("name", FILES)
def test_a_second_header_with_other_columns_is_refused_with_its_line(
    tmp_path: Path, small_pieces: None, name: str
) -> None:
    rows = some_rows(200)
    data = csv_of(rows[:100]) + csv_of(rows[100:], [column for column in HEADER if column != "DEST"])

    message = refusal(packed(data, name), tmp_path, name)

    assert "line 102" in message
    assert "DEST" in message


def zip_of(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "text")
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("zip archive", zip_of("2015.csv")),
        ("an Excel workbook", zip_of("[Content_Types].xml", "_rels/.rels", "xl/workbook.xml")),
        ("UTF-16", GOOD.decode().encode("utf-16")),
        ("UTF-16", GOOD.decode().encode("utf-16-le")),
        ("HTML", b"\n<!DOCTYPE html>\n<title>Log in</title>"),
        ("Git LFS", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"),
    ],
)
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_kind_is_named(tmp_path: Path, kind: str, data: bytes, name: str) -> None:
    assert kind in refusal(packed(data, name), tmp_path, name)
