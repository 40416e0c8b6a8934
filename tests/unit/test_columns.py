"""Arrow columns to numpy arrays and back: slices, nulls and dictionaries."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.layers import columns

KINDS = [
    (pa.int16(), st.integers(-5, 5)),
    (pa.int64(), st.integers(-(2**60), 2**60)),
    (pa.bool_(), st.booleans()),
    (pa.date32(), st.dates()),
]


@settings(max_examples=50)
@given(data=st.data(), kind=st.sampled_from(KINDS), start=st.integers(0, 12), length=st.integers(0, 20))
def test_any_slice_makes_the_round_trip(data: st.DataObject, kind: Any, start: int, length: int) -> None:
    arrow_type, elements = kind
    column = pa.array(data.draw(st.lists(st.none() | elements, max_size=24)), arrow_type).slice(start, length)

    mask, numbers = columns.is_valid(column), columns.to_numpy(column)
    copy = columns.from_numpy(numbers, arrow_type, ~mask)

    copy.validate(full=True)
    assert mask.tolist() == [value is not None for value in column.to_pylist()]
    assert numbers[~mask].tolist() == [0] * column.null_count
    assert copy.equals(column)


@pytest.mark.parametrize("chunks", [[["JFK"], ["LGA", "JFK"]], [["JFK", "LGA", "JFK"]]])
def test_chunks_with_different_dictionaries_become_one_array(chunks: list[list[str]]) -> None:
    column = pa.chunked_array([pa.array(words).dictionary_encode() for words in chunks])

    assert columns.as_array(column).to_pylist() == ["JFK", "LGA", "JFK"]
