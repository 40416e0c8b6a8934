"""One pass over real files: cut, shuffled, packed or broken, they give the same silver and gold; nothing is lost."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Sequence
from contextlib import closing
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders import HEADER, Flight, cancelled, csv_of, flight, line, year_of_flights
from utils import schemas
from utils.errors import InvalidInput, Unavailable
from utils.layers import csv_reader, gold, ingest, silver
from utils.storage.folder import FolderSource
from utils.storage.parquet import write_parquet

YEAR = 2015


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut files every 2 KiB instead of every 8 MiB, so that a small file has many parts."""
    monkeypatch.setattr(csv_reader, "PIECE_BYTES", 2048)
    monkeypatch.setattr(csv_reader, "PIECES_PER_PART", 2)


def refine(data: bytes, folder: Path, *, name: str = "2015.csv", threads: int = 2) -> ingest.IngestedYear:
    path = folder / name
    path.write_bytes(data)
    staging = folder / "staging"
    staging.mkdir(exist_ok=True)
    for old in staging.iterdir():
        old.unlink()
    with closing(FolderSource(f"01_bronze/{name}", path)) as source:
        return ingest.ingest_year(source, YEAR, staging, threads, write_parquet)


def flights_of(refined: ingest.IngestedYear) -> pa.Table:
    tables = [pq.read_table(part.path) for part in refined.parts]
    return pa.concat_tables(tables).unify_dictionaries() if tables else schemas.SILVER.empty_table()


def as_rows(refined: ingest.IngestedYear) -> list[tuple[object, ...]]:
    columns = (column.to_pylist() for column in flights_of(refined).columns)
    return sorted(zip(*columns, strict=True), key=repr)


def some_rows(count: int = 300, seed: int = 1) -> list[Flight]:
    return Random(seed).sample(year_of_flights(YEAR, {"JFK": 12, "ACK": 2}), count)


def test_every_row_of_the_file_is_kept_or_accounted_for(tmp_path: Path, small_pieces: None) -> None:
    rows = some_rows()
    refined = refine(csv_of([*rows, *rows[:20]]) + b"2015-03-04,UA\n", tmp_path)

    assert (refined.rows_read, refined.rows_kept, refined.rows_duplicate, refined.rejected.num_rows) == (
        321,
        300,
        20,
        1,
    )
    assert flights_of(refined).num_rows == 300
    assert len(refined.parts) > 3


def test_the_order_of_rows_in_silver_is_that_of_the_file(tmp_path: Path, small_pieces: None) -> None:
    rows = some_rows()

    assert flights_of(refine(csv_of(rows), tmp_path))["fl_date"].to_pylist() == [
        date.fromisoformat(row["FL_DATE"]) for row in rows
    ]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 99),
    again=st.integers(0, 40),
    piece=st.integers(200, 9000),
    per_part=st.integers(1, 4),
    threads=st.integers(1, 3),
    shuffle=st.randoms(use_true_random=False),
)
def test_shuffling_the_rows_or_cutting_the_file_elsewhere_changes_nothing(
    tmp_path: Path, seed: int, again: int, piece: int, per_part: int, threads: int, shuffle: Random
) -> None:
    rows = some_rows(120, seed)
    changed = [{**row, "DISTANCE": "7.0"} for row in rows[:again:3]]
    rows = [*rows, *rows[:again], *changed]
    whole = refine(csv_of(rows), tmp_path)
    expected = as_rows(whole)

    shuffle.shuffle(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_reader, "PIECE_BYTES", piece)
        patch.setattr(csv_reader, "PIECES_PER_PART", per_part)
        cut = refine(csv_of(rows), tmp_path, threads=threads)
        assert as_rows(cut) == expected
    assert gold.airport_days(cut.sums, YEAR).equals(gold.airport_days(whole.sums, YEAR))
    assert cut.duplicates == whole.duplicates


def test_a_compressed_file_gives_the_same_bytes_as_the_plain_one(tmp_path: Path, small_pieces: None) -> None:
    data = csv_of(some_rows())
    plain = [part.sha256 for part in refine(data, tmp_path).parts]
    packed = [part.sha256 for part in refine(gzip.compress(data), tmp_path, name="2015.csv.gz").parts]
    members = gzip.compress(data[:5000]) + gzip.compress(data[5000:]) + b"\0" * 512
    in_members = [part.sha256 for part in refine(members, tmp_path, name="2015.csv.gz").parts]

    assert plain == packed == in_members
    assert len(plain) > 3


def test_the_same_file_gives_the_same_bytes_with_any_number_of_workers(tmp_path: Path, small_pieces: None) -> None:
    data = csv_of(some_rows())

    assert [p.sha256 for p in refine(data, tmp_path, threads=1).parts] == [
        p.sha256 for p in refine(data, tmp_path, threads=4).parts
    ]


def test_the_checksum_is_that_of_the_text_however_it_is_packed_and_read(tmp_path: Path, small_pieces: None) -> None:
    data = csv_of(some_rows())
    sums = {refine(data, tmp_path, threads=threads).sha256 for threads in (1, 4)}
    sums.add(refine(gzip.compress(data), tmp_path, name="2015.csv.gz").sha256)
    changed = b",AA,".join(data.rsplit(b",UA,", 1))

    assert len(sums) == 1
    assert refine(changed, tmp_path).sha256 not in sums


def test_a_line_that_is_longer_than_pieces_gives_the_same_parts_and_checksum_from_gzip(
    tmp_path: Path, small_pieces: None
) -> None:
    lines = csv_of(some_rows(400)).splitlines(keepends=True)
    data = b"".join([*lines[:200], b"x" * 9000 + b"\n", *lines[200:]])
    plain = refine(data, tmp_path)
    packed = refine(gzip.compress(data), tmp_path, name="2015.csv.gz")

    assert packed.sha256 == plain.sha256
    assert [part.sha256 for part in packed.parts] == [part.sha256 for part in plain.parts]
    assert plain.rejected["line"].to_pylist() == packed.rejected["line"].to_pylist() == [201]


def test_a_bucket_gives_the_same_year_as_a_folder_and_is_asked_for_each_byte_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_pieces: None
) -> None:
    """A request to a bucket costs as much as megabytes, so parts are read in large ranges that hardly overlap."""
    data = csv_of(some_rows(2000))
    folder = refine(data, tmp_path)
    monkeypatch.setattr(csv_reader, "_PEEK_BYTES", 64)  # shorter than some lines
    requests: list[int] = []

    class Remote(FolderSource):
        is_remote = True

        def read(self, start: int, end: int) -> bytes:
            requests.append(min(end, self.size) - start)
            return super().read(start, end)

    staging = tmp_path / "from a bucket"
    staging.mkdir()
    with closing(Remote("01_bronze/2015.csv", tmp_path / "2015.csv")) as source:
        bucket = ingest.ingest_year(source, YEAR, staging, 2, write_parquet)

    assert [part.sha256 for part in bucket.parts] == [part.sha256 for part in folder.parts]
    assert (bucket.sha256, bucket.rows_read) == (folder.sha256, folder.rows_read)
    header, *others = requests
    assert header < 3 * silver.MAX_LINE_BYTES
    assert sum(others) < 1.1 * len(data)


def test_a_doubled_month_is_dropped_and_counted_in_its_month(tmp_path: Path, small_pieces: None) -> None:
    rows = year_of_flights(YEAR, {"JFK": 3})
    june = [row for row in rows if row["FL_DATE"].startswith("2015-06")]
    at = rows.index(june[-1]) + 1

    refined = refine(csv_of([*rows[:at], *june, *rows[at:]]), tmp_path)

    assert refined.duplicates.per_month == {6: 90}
    assert as_rows(refined) == as_rows(refine(csv_of(rows), tmp_path))
    assert refined.sums.equals(refine(csv_of(rows), tmp_path).sums)


def test_of_two_different_rows_of_one_flight_the_same_one_stays_whatever_their_order(tmp_path: Path) -> None:
    rows = [flight(DEP_DELAY="3.0"), flight(DEP_DELAY="4.0"), flight(ORIGIN="SFO", DEST="LAX")]
    forward, backward = refine(csv_of(rows), tmp_path), refine(csv_of(rows[::-1]), tmp_path)

    assert (forward.rows_kept, forward.duplicates.differing) == (2, 1)
    assert as_rows(refine(csv_of(rows), tmp_path)) == as_rows(refine(csv_of(rows[::-1]), tmp_path))
    assert backward.duplicates.differing == 1


@pytest.mark.parametrize("keyless", [("CRS_DEP_TIME",), ("OP_CARRIER_FL_NUM", "CRS_DEP_TIME", "DEP_TIME", "DEP_DELAY")])
def test_rows_without_a_complete_key_are_all_kept_and_the_equal_ones_are_counted(
    tmp_path: Path, keyless: tuple[str, ...]
) -> None:
    cancelled = flight(CANCELLED="1.0", CANCELLATION_CODE="B", **dict.fromkeys(keyless, ""))

    refined = refine(csv_of([flight(ORIGIN="SFO"), cancelled, cancelled, cancelled]), tmp_path)

    assert (refined.rows_kept, refined.rows_duplicate) == (4, 0)
    assert refined.duplicates.kept_without_key == 2
    assert sum(refined.sums["cancelled"].to_pylist()) == 3


def two_versions(flights: int, differing: int, equal: int) -> list[Flight]:
    """A June of `flights` rows, some of them again with another delay, some again as they are; and a July."""

    def of(day: str, number: int, delay: str) -> Flight:
        return flight(FL_DATE=day, OP_CARRIER_FL_NUM=str(number), DEP_DELAY=delay)

    june = [of("2015-06-03", number, "3.0") for number in range(flights)]
    july = [of("2015-07-03", number, "3.0") for number in range(flights)]
    again = [of("2015-06-03", number, "14.0") for number in range(differing)]
    return [*june, *july, *again, *june[differing : differing + equal]]


@pytest.mark.parametrize(
    ("flights", "differing", "equal"),
    [(300, 300, 0), (300, 100, 0), (10_000, 100, 0), (300, 101, 100)],
    ids=["the whole month", "100 rows", "1%", "most"],
)
def test_a_month_in_two_versions_stops_with_the_month_and_an_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flights: int, differing: int, equal: int
) -> None:
    monkeypatch.setattr(csv_reader, "PIECE_BYTES", 1 << 14)

    with pytest.raises(InvalidInput) as refusal:
        refine(csv_of(two_versions(flights, differing, equal)), tmp_path)

    assert all(part in str(refusal.value) for part in ("2015.csv", "June 2015", "2015-06-03", "DEP_DELAY", "3", "14"))
    assert "July" not in str(refusal.value)


@pytest.mark.parametrize(
    ("flights", "differing", "equal"),
    [(300, 99, 0), (10_001, 100, 0), (300, 100, 100)],
    ids=["99 rows", "less than 1%", "half"],
)
def test_fewer_rows_that_differ_are_dropped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flights: int, differing: int, equal: int
) -> None:
    monkeypatch.setattr(csv_reader, "PIECE_BYTES", 1 << 14)

    refined = refine(csv_of(two_versions(flights, differing, equal)), tmp_path)

    assert (refined.rows_kept, refined.duplicates.per_month) == (2 * flights, {6: differing + equal})
    assert refined.duplicates.differing == differing


@pytest.mark.parametrize("name", ["2015.csv", "2015.csv.gz"])
def test_a_quoted_field_with_a_line_break_is_one_row_wherever_the_file_is_cut(
    tmp_path: Path, small_pieces: None, name: str
) -> None:
    rows = some_rows(200)
    broken = "\n".join(
        [line(row).removesuffix(",") + ',"two\nlines"' if at % 17 == 0 else line(row) for at, row in enumerate(rows)]
    )
    data = (",".join(HEADER) + "\n" + broken + "\n").encode()

    refined = refine(gzip.compress(data) if name.endswith("gz") else data, tmp_path, name=name)

    assert (refined.rows_read, refined.rows_kept) == (200, 200)
    assert as_rows(refined) == as_rows(refine(csv_of(rows), tmp_path))


def test_a_rejected_row_carries_its_line_number_in_the_whole_file(tmp_path: Path, small_pieces: None) -> None:
    lines = [line(row) for row in some_rows(250)]
    lines[5] = ""
    lines[200] = lines[200].replace("2015-", "2014-")
    data = (",".join(HEADER) + "\n" + "\n".join(lines) + "\n").encode()

    (rejected,) = refine(data, tmp_path).rejected.to_pylist()

    assert (rejected["line"], rejected["reason"]) == (202, "FL_DATE is not in 2015")
    assert data.decode().splitlines()[201] == rejected["raw"]


def refused(data: bytes, folder: Path, **how: Any) -> str:
    with pytest.raises(InvalidInput) as error:
        refine(data, folder, **how)
    return str(error.value)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert refused(b"", tmp_path) == "01_bronze/2015.csv is empty; upload the file of 2015 again."


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\r\n"])
def test_a_header_alone_is_refused(tmp_path: Path, end: str) -> None:
    assert "has a header but no flights" in refused((",".join(HEADER) + end).encode(), tmp_path)


def test_more_than_one_percent_of_unusable_rows_is_refused_with_the_first_lines(
    tmp_path: Path, small_pieces: None
) -> None:
    rows: Sequence[Flight] = [*some_rows(95), *(flight(FL_DATE="04.03.2015") for _ in range(5))]
    sentence = refused(csv_of(rows), tmp_path)

    assert "5 of 100 rows cannot be used, more than 1%" in sentence
    assert "FL_DATE is '04.03.2015' in line 97; dates must look like 2018-01-31" in sentence


def test_one_percent_of_unusable_rows_is_not_too_many(tmp_path: Path) -> None:
    assert refine(csv_of([*some_rows(99), flight(FL_DATE="")]), tmp_path).rejected.num_rows == 1


def test_a_file_of_another_year_is_refused(tmp_path: Path) -> None:
    assert "FL_DATE is '2014-01-01' in line 2; dates must be in 2015" in refused(
        csv_of([flight(FL_DATE="2014-01-01")] * 3), tmp_path
    )


def test_a_file_cut_in_the_middle_of_a_line_is_refused(tmp_path: Path) -> None:
    assert "ends in the middle of line 301 (3 fields instead of 28), so it was cut" in refused(
        csv_of(some_rows(299)) + b"2015-03-04,UA,24", tmp_path
    )


def test_a_short_line_in_front_of_the_end_is_no_cut(tmp_path: Path) -> None:
    assert refine(csv_of(some_rows(299)) + b"2015-03-04,UA,24\n", tmp_path).rejected.num_rows == 1


def test_a_file_cut_in_a_line_that_crosses_into_the_last_part_is_refused(tmp_path: Path, small_pieces: None) -> None:
    data = csv_of(some_rows(299))
    part = csv_reader.PIECE_BYTES * csv_reader.PIECES_PER_PART
    cut = (len(data) // part) * part + 20
    begins = data.rindex(b"\n", 0, cut - 40) + 1  # the last line begins in the part before
    long_line = b"2015-03-04," + b"U" * (cut - begins)

    assert "so it was cut" in refused(data[:begins] + long_line, tmp_path)


def test_a_bad_last_line_without_a_line_end_is_rejected_and_no_cut(tmp_path: Path) -> None:
    data = csv_of([*some_rows(299), flight(FL_DATE="2014-01-01")]).removesuffix(b"\n")

    assert refine(data, tmp_path).rejected["reason"].to_pylist() == ["FL_DATE is not in 2015"]


def test_a_file_of_rubbish_stops_early_and_names_its_first_line(tmp_path: Path, small_pieces: None) -> None:
    rows = year_of_flights(YEAR, {"JFK": 12})
    data = csv_of(rows[:200]) + b"rubbish\n" * 200_000
    sentence = refused(data, tmp_path, threads=3)

    assert "Line 202: wrong number of fields (1 field instead of 28)" in sentence
    assert "of 200,200 rows" not in sentence


def test_gzip_that_ends_early_is_refused(tmp_path: Path) -> None:
    packed = gzip.compress(csv_of(some_rows()))

    assert "ends in the middle of its gzip data" in refused(packed[: len(packed) // 2], tmp_path, name="2015.csv.gz")


def test_damaged_gzip_is_refused(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(csv_of(some_rows())))
    packed[len(packed) // 2] ^= 0xFF

    assert "is not readable as gzip" in refused(bytes(packed), tmp_path, name="2015.csv.gz")


def test_a_plain_file_under_a_compressed_name_is_refused(tmp_path: Path) -> None:
    assert "is not compressed with gzip" in refused(csv_of(some_rows()), tmp_path, name="2015.csv.gz")


def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_pieces: None
) -> None:
    path = tmp_path / "2015.csv"
    original = ingest.ingest_part

    def grow(*given: object, **named: object) -> ingest.Part:
        with path.open("ab") as file:
            file.write((line(flight()) + "\n").encode())
        return original(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(ingest, "ingest_part", grow)

    with pytest.raises(Unavailable, match="changed while it was read"):
        refine(csv_of(some_rows()), tmp_path)


def test_cancelled_flights_stay_in_silver(tmp_path: Path) -> None:
    assert flights_of(refine(csv_of([cancelled()]), tmp_path))["cancelled"].to_pylist() == [True]


# --- what users have ------------------------------------------------------------------------------------------------

DATE_FORMS = ("%Y-%m-%d", "{0.month}/{0.day}/%Y 12:00:00 AM", "{0.month}/{0.day}/%Y", "%Y-%m-%d 00:00:00", "%Y%m%d")


def with_date(row: Flight, form: str) -> Flight:
    day = date.fromisoformat(row["FL_DATE"])
    return {**row, "FL_DATE": day.strftime(form.format(day))}


def test_every_form_of_dates_gives_the_same_bytes_of_silver(tmp_path: Path) -> None:
    rows = some_rows()
    files = [csv_of(with_date(row, form) for row in rows) for form in DATE_FORMS]
    mixed = csv_of(with_date(row, DATE_FORMS[place % len(DATE_FORMS)]) for place, row in enumerate(rows))

    parts = {tuple(part.sha256 for part in refine(data, tmp_path).parts) for data in [*files, mixed]}

    assert len(parts) == 1


def test_rows_in_other_spellings_give_the_same_silver(tmp_path: Path) -> None:
    rows = [*some_rows(50), cancelled()]
    spelled = [
        {
            name: "NA" if not value else f" {value.lower()} " if name in ("ORIGIN", "DEST", "OP_CARRIER") else value
            for name, value in row.items()
        }
        | {"CANCELLED": "TRUE" if row["CANCELLED"] == "1.0" else "FALSE"}
        | {"CANCELLATION_CODE": row["CANCELLATION_CODE"].replace("B", "weather")}
        for row in rows
    ]

    as_usual, in_words = refine(csv_of(rows), tmp_path), refine(csv_of(spelled, newline="\r\r\n"), tmp_path)

    assert in_words.rejected.num_rows == 0
    assert [part.sha256 for part in in_words.parts] == [part.sha256 for part in as_usual.parts]


NAMES = ",".join(HEADER)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    places=st.lists(st.integers(0, 60), min_size=1, max_size=5, unique=True),
    piece=st.integers(300, 4000),
    is_gzip=st.booleans(),
    has_line_end=st.booleans(),
)
def test_a_repeated_header_is_rejected_wherever_the_file_is_cut(
    tmp_path: Path, places: list[int], piece: int, is_gzip: bool, has_line_end: bool
) -> None:
    lines = [line(row) for row in some_rows(60)]
    for place in sorted(places):
        lines.insert(place, NAMES.lower())
    data = "\n".join([NAMES, *lines]) + "\n" * has_line_end

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_reader, "PIECE_BYTES", piece)
        patch.setattr(csv_reader, "PIECES_PER_PART", 2)
        text = data.encode()
        refined = refine(gzip.compress(text) if is_gzip else text, tmp_path, name=f"2015.csv{'.gz' * is_gzip}")

    lines_of_headers = [number for number, text in enumerate(lines, start=2) if text == NAMES.lower()]
    assert refined.rows_kept == 60
    assert refined.rejected["line"].to_pylist() == lines_of_headers
    assert set(refined.rejected["reason"].to_pylist()) == {silver.REPEATED_HEADER}


@pytest.mark.parametrize("name", ["2015.csv", "2015.csv.gz"])
@pytest.mark.parametrize(
    ("again", "told"),
    [
        (tuple(reversed(HEADER)), "column 1 is 'Unnamed: 27', in line 1 it is 'FL_DATE'"),
        (tuple(name for name in HEADER if name != "DEST"), "lacks DEST"),
        ((*HEADER, "TAIL_NUM"), "29 columns, line 1 has 28"),
    ],
)
def test_a_second_header_in_another_order_is_refused_with_its_line(
    tmp_path: Path, small_pieces: None, name: str, again: tuple[str, ...], told: str
) -> None:
    rows = [{**row, "TAIL_NUM": "N1"} for row in some_rows(200)]
    data = csv_of(rows[:100]) + csv_of(rows[100:], again)

    sentence = refused(gzip.compress(data) if name.endswith("gz") else data, tmp_path, name=name)

    assert f"{name} names its columns again in line 102" in sentence
    assert told in sentence


def test_repeated_headers_do_not_count_for_the_one_percent(tmp_path: Path) -> None:
    months = b"".join(csv_of(some_rows(30, seed)) for seed in range(12))
    refined = refine(months, tmp_path)

    assert refined.rejected.num_rows == 11
    assert refined.rows_read == 12 * 30 + 11


def test_headers_alone_are_no_flights(tmp_path: Path) -> None:
    assert "has a header but no flights" in refused(f"{NAMES}\n{NAMES}\n".encode(), tmp_path)


def test_more_than_one_percent_of_unknown_cancellation_codes_is_refused_with_the_first(
    tmp_path: Path, small_pieces: None
) -> None:
    rows = [*some_rows(200), *(cancelled(OP_CARRIER_FL_NUM=str(number)) for number in range(1, 99))]
    rows += [cancelled(CANCELLATION_CODE="snow"), cancelled(CANCELLATION_CODE="ice", OP_CARRIER_FL_NUM="1000")]

    sentence = refused(csv_of(rows), tmp_path)

    assert "2 of 100 cancelled flights have an unknown code" in sentence
    assert "CANCELLATION_CODE is 'snow' in line 300; cancellation codes must be A, B, C or D" in sentence


def test_one_percent_of_unknown_cancellation_codes_is_counted_and_the_flights_stay(tmp_path: Path) -> None:
    rows = [flight(CANCELLATION_CODE="-"), *(cancelled(OP_CARRIER_FL_NUM=str(number)) for number in range(99))]
    refined = refine(csv_of([*rows, cancelled(CANCELLATION_CODE="snow", DEST="SFO")]), tmp_path)

    assert (refined.rows_kept, sum(refined.sums["cancelled"].to_pylist())) == (101, 100)
    assert refined.tallies == {"CANCELLATION_CODE": silver.Tally(1, 102, "'snow'")}


@pytest.mark.parametrize("name", ["2015.csv", "2015.csv.gz"])
@pytest.mark.parametrize("zeros", [1, 5000, 300_000])
@pytest.mark.parametrize("place", ["start", "middle", "end"])
def test_zero_bytes_are_refused_with_their_line_and_number(
    tmp_path: Path, small_pieces: None, name: str, zeros: int, place: str
) -> None:
    data = csv_of(some_rows(200))
    at, number = {"start": (0, 1), "middle": (data.index(b"\n", 9000) + 5, 0), "end": (len(data), 202)}[place]
    number = number or data.count(b"\n", 0, at) + 1
    broken = data[:at] + bytes(zeros) + data[at + zeros :]

    sentence = refused(gzip.compress(broken) if name.endswith("gz") else broken, tmp_path, name=name)

    assert f"{zeros:,} zero byte" in sentence
    assert f"the first in line {number}," in sentence


def packed(*names: str) -> bytes:
    """A zip with files of these names."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in names:
            archive.writestr(name, "text")
    return target.getvalue()


def tarred() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("2015.csv"), io.BytesIO())
    return target.getvalue()


CSV = csv_of(some_rows(3))
OTHER_FILES = {
    "bzip2": (bz2.compress(CSV), "bzip2"),
    "xz": (lzma.compress(CSV), "xz"),
    "zstd": (pa.compress(CSV, "zstd", asbytes=True), "zstd"),
    "zip": (packed("2015.csv"), "zip archive"),
    "Excel": (packed("[Content_Types].xml", "_rels/.rels", "xl/workbook.xml"), "Excel workbook"),
    "old Excel": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504), "old Excel workbook"),
    "OpenDocument": (packed("content.xml") + b"application/vnd.oasis.opendocument.spreadsheet", "OpenDocument"),
    "parquet": (b"PAR1\x15\x04" + bytes(90) + b"PAR1", "parquet"),
    "UTF-16": (CSV.decode().encode("utf-16"), "UTF-16"),
    "UTF-16, big end first": (b"\xfe\xff" + CSV.decode().encode("utf-16-be"), "UTF-16"),
    "UTF-16 without a mark": (CSV.decode().encode("utf-16-le"), "UTF-16"),
    "UTF-16 without a mark, big end first": (CSV.decode().encode("utf-16-be"), "UTF-16"),
    "HTML": (b"\n<!DOCTYPE html>\n<title>Log in</title>", "HTML"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n", "Git LFS"),
    "JSON": (b'{"flights": []}', "JSON"),
    "lines of JSON": (b'[\n{"FL_DATE": 1}]', "JSON"),
    "tar": (tarred(), "tar archive"),
    "carriage returns": (CSV.replace(b"\n", b"\r"), "carriage return"),
    "many carriage returns": (CSV.replace(b"\n", b"\r") * 1000, "carriage return"),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_a_file_that_is_no_csv_is_named_for_what_it_is(tmp_path: Path, kind: str) -> None:
    data, told = OTHER_FILES[kind]

    assert told in refused(data, tmp_path)
    assert told in refused(gzip.compress(data), tmp_path, name="2015.csv.gz")


@pytest.mark.parametrize("kind", [kind for kind in OTHER_FILES if "return" not in kind])
def test_a_file_named_gz_that_is_of_another_kind_is_named_for_what_it_is(tmp_path: Path, kind: str) -> None:
    data, told = OTHER_FILES[kind]

    sentence = refused(data, tmp_path, name="2015.csv.gz")
    assert told in sentence
    assert "not gzip" in sentence


def test_gzip_under_a_plain_name_and_gzip_of_gzip_are_named(tmp_path: Path) -> None:
    once = gzip.compress(CSV)

    assert "compressed with gzip; rename it" in refused(once, tmp_path)
    assert "compressed with gzip; unpack it" in refused(gzip.compress(once), tmp_path, name="2015.csv.gz")
