"""Arrow columns as numpy arrays and back: slices, nulls, bits, dictionaries, and no pandas."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import cancelled, csv_of, flight
from utils.layers import columns

KINDS = [(pa.int16(), st.integers(-5, 5)), (pa.int64(), st.integers(-(2**60), 2**60)), (pa.bool_(), st.booleans())]


@given(data=st.data(), kind=st.sampled_from(KINDS), start=st.integers(0, 12), length=st.integers(0, 20))
def test_values_and_nulls_of_any_slice_are_those_of_the_column(
    data: st.DataObject, kind: Any, start: int, length: int
) -> None:
    values = data.draw(st.lists(st.none() | kind[1], max_size=24))
    column = pa.array(values, kind[0]).slice(start, length)

    assert columns.is_valid(column).tolist() == [value is not None for value in column.to_pylist()]
    assert columns.to_numpy(column).tolist() == [0 if value is None else value for value in column.to_pylist()]


@given(values=st.lists(st.integers(-5, 5), max_size=40), data=st.data())
def test_a_column_made_from_numbers_holds_them(values: list[int], data: st.DataObject) -> None:
    null = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))), bool)

    made = columns.from_numpy(np.array(values, np.int64), pa.int16(), null)

    made.validate(full=True)
    assert made.to_pylist() == [None if is_null else value for value, is_null in zip(values, null, strict=True)]


def test_booleans_and_dates_make_the_round_trip() -> None:
    bits = np.array([True, False, True] * 5)
    days = np.array([0, 16436])

    assert columns.from_numpy(bits, pa.bool_()).to_pylist() == bits.tolist()
    assert columns.to_numpy(columns.from_numpy(days, pa.date32())).tolist() == days.tolist()


def test_chunks_with_different_dictionaries_become_one_column() -> None:
    chunks = pa.chunked_array([pa.array(["JFK"]).dictionary_encode(), pa.array(["LGA", "JFK"]).dictionary_encode()])

    assert columns.as_array(chunks).to_pylist() == ["JFK", "LGA", "JFK"]


@given(st.lists(st.text(st.characters(codec="utf-8"))))
def test_a_text_column_holds_its_words(words: list[str]) -> None:
    made = columns.from_strings(words)

    made.validate(full=True)
    assert made.to_pylist() == words


PASS_OVER_A_YEAR = """
import sys
from pathlib import Path
from utils.layers import gold, ingest
from utils.storage.folder import FolderSource
from utils.storage.parquet import write_parquet
folder = Path(sys.argv[1])
year = ingest.ingest_year(FolderSource("2015.csv", folder / "2015.csv"), 2015, folder, 1, write_parquet)
assert gold.airport_days(year.sums, 2015).num_rows == 2
"""


@pytest.mark.parametrize("code", ["from utils.cli import app", PASS_OVER_A_YEAR], ids=["commands", "a year"])
def test_the_commands_and_the_pass_over_a_clean_year_do_not_load_pandas(code: str, tmp_path: Path) -> None:
    """Pandas would cost 45 MB of the pass's memory, and every `--help` half a second."""
    (tmp_path / "2015.csv").write_bytes(csv_of([flight(), cancelled(ORIGIN="SFO")]))
    code += "\nimport sys; sys.exit('pandas' in sys.modules)"
    dags = Path(__file__).parents[2] / "dags"

    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=dags, check=False).returncode == 0
