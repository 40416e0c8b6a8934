"""The fingerprints by which the demo proves that a run changed nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo import fingerprint
from tests.conftest import sql


def test_only_other_bytes_new_files_and_missing_files_of_the_results_are_changes(tmp_path: Path) -> None:
    files = [tmp_path / key for key in ("01_bronze/2013.csv", "02_silver/a", "03_gold/b", "04_plots/c")]
    for path in files:
        path.parent.mkdir()
        path.write_bytes(b"one")
    before = fingerprint.hash_files(tmp_path)

    bronze, silver, gold, plot = files
    bronze.write_bytes(b"two")
    silver.write_bytes(b"two")
    gold.rename(gold.with_name("d"))
    plot.write_bytes(b"one")

    changed = fingerprint.changed(before, fingerprint.hash_files(tmp_path))
    assert changed == ["02_silver/a", "03_gold/b", "03_gold/d"]


@pytest.mark.parametrize(
    ("statement", "changed"),
    [
        ("UPDATE flights.feedback SET note = note", ["flights.feedback"]),
        ("UPDATE flights.feedback SET note = note WHERE false", []),
        ("INSERT INTO flights.runs (run_id, year) VALUES ('r', 2015)", []),
    ],
)
def test_a_row_that_is_written_again_with_equal_values_is_a_change(
    warehouse: str, statement: str, changed: list[str]
) -> None:
    sql(
        warehouse,
        "INSERT INTO flights.feedback (origin, fl_date, opinion, note, author, given_at)"
        " VALUES ('JFK', '2015-01-01', 'right', '', 'ana', now())",
    )
    before = fingerprint.hash_tables(warehouse)

    sql(warehouse, statement)

    assert fingerprint.changed(before, fingerprint.hash_tables(warehouse)) == changed
