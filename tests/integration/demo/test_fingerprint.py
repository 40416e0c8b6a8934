"""How the demo knows that nothing changed: bytes of files and versions of rows, not their looks."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo import fingerprint
from tests.conftest import sql


def test_a_file_that_is_written_again_with_the_same_bytes_has_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "03_gold" / "days.parquet"
    file.parent.mkdir()
    file.write_bytes(b"one")
    before = fingerprint.hash_files(tmp_path)

    file.write_bytes(b"one")

    assert fingerprint.changed(before, fingerprint.hash_files(tmp_path)) == []


def test_changed_new_and_vanished_files_are_named_and_bronze_is_left_out(tmp_path: Path) -> None:
    for key in ("01_bronze/2013.csv", "02_silver/a", "03_gold/b"):
        (tmp_path / key).parent.mkdir()
        (tmp_path / key).write_bytes(b"one")
    before = fingerprint.hash_files(tmp_path)

    (tmp_path / "01_bronze/2013.csv").write_bytes(b"two")
    (tmp_path / "02_silver/a").write_bytes(b"two")
    (tmp_path / "03_gold/b").rename(tmp_path / "03_gold/c")

    assert fingerprint.changed(before, fingerprint.hash_files(tmp_path)) == ["02_silver/a", "03_gold/b", "03_gold/c"]


@pytest.mark.parametrize(
    ("statement", "changed"),
    [
        ("UPDATE flights.bronze_quality SET year = year", ["flights.bronze_quality"]),
        ("UPDATE flights.bronze_quality SET year = year WHERE false", []),
        ("INSERT INTO flights.runs (run_id, year) VALUES ('r', 2015)", []),
    ],
)
def test_a_row_that_is_written_again_with_the_same_values_has_changed_and_runs_are_left_out(
    warehouse: str, statement: str, changed: list[str]
) -> None:
    columns = "year, bronze_key, bytes, sha256, rows_read, rows_kept, rows_duplicate, rows_rejected, missing_days"
    values = "2015, '', 0, '', 0, 0, 0, 0, 0"
    months = "missing_months, doubled_months, report"
    sql(warehouse, f"INSERT INTO flights.bronze_quality ({columns}, {months}) VALUES ({values}, '', '', '{{}}')")
    before = fingerprint.hash_tables(warehouse)

    sql(warehouse, statement)

    assert fingerprint.changed(before, fingerprint.hash_tables(warehouse)) == changed
