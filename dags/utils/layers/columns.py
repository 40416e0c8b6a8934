"""Convert Arrow columns to numpy arrays and back.

Uses the buffers directly: `pa.array` and `fill_null` would import pandas, 45 MB that the pass over a year can save.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


def as_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Return the column as one array with one dictionary."""
    if isinstance(column, pa.Array):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    return column.combine_chunks()


def _bits(buffer: pa.Buffer, offset: int, length: int) -> np.ndarray:
    first = offset // 8
    packed = np.frombuffer(buffer, np.uint8)[first : (offset + length + 7) // 8]
    return np.unpackbits(packed, bitorder="little")[offset - 8 * first :][:length].view(bool)


def is_valid(column: pa.Array) -> np.ndarray:
    """Return a mask of the values that are not null, bool (rows,)."""
    buffer = column.buffers()[0]
    if buffer is None or not column.null_count:
        return np.ones(len(column), bool)
    return _bits(buffer, column.offset, len(column))


def to_numpy(column: pa.Array, fill: float = 0) -> np.ndarray:
    """Return the values of a fixed-width column, shape (rows,), with `fill` for null.

    Dates are returned as days since 1970, dictionary columns as indices.
    """
    if pa.types.is_dictionary(column.type):
        column = column.indices
    if not len(column):
        return np.zeros(0, bool if pa.types.is_boolean(column.type) else np.dtype(column.type.to_pandas_dtype()))
    buffer = column.buffers()[1]
    if pa.types.is_boolean(column.type):
        numbers = _bits(buffer, column.offset, len(column))
    else:
        kind = np.int32 if pa.types.is_date32(column.type) else np.dtype(column.type.to_pandas_dtype())
        numbers = np.frombuffer(buffer, kind)[column.offset : column.offset + len(column)]
    if column.null_count:
        numbers = np.where(is_valid(column), numbers, numbers.dtype.type(fill))
    return numbers


def from_numpy(numbers: np.ndarray, kind: pa.DataType, null: np.ndarray | None = None) -> pa.Array:
    """Return a column of type `kind` from numbers (dates: days since 1970), null where `null` is True."""
    bitmap = None
    if null is not None and null.any():
        bitmap = pa.py_buffer(np.packbits(~null, bitorder="little"))
    if pa.types.is_boolean(kind):
        data = np.packbits(numbers, bitorder="little")
    else:
        width = np.int32 if pa.types.is_date32(kind) else np.dtype(kind.to_pandas_dtype())
        data = np.ascontiguousarray(numbers, width)
    return pa.Array.from_buffers(kind, len(numbers), [bitmap, pa.py_buffer(data)])


def from_strings(words: Sequence[str]) -> pa.Array:
    """Return a string column without nulls."""
    encoded = [word.encode() for word in words]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))
