"""Arrow columns as numpy arrays and back.

Straight on the buffers: `pa.array` and `fill_null` would load pandas, 45 MB that the pass over a year does not need.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


def one(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The column in one piece, with one dictionary."""
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


def valid(column: pa.Array) -> np.ndarray:
    """Which values are not null, bool of shape (rows,)."""
    buffer = column.buffers()[0]
    if buffer is None or not column.null_count:
        return np.ones(len(column), bool)
    return _bits(buffer, column.offset, len(column))


def values(column: pa.Array, fill: float = 0) -> np.ndarray:
    """The values of a fixed-width column, shape (rows,), with `fill` for null.

    Dates come as days since 1970, dictionaries as their indices.
    """
    if pa.types.is_dictionary(column.type):
        column = column.indices
    if not len(column):
        return np.zeros(0, bool if pa.types.is_boolean(column.type) else np.dtype(column.type.to_pandas_dtype()))
    buffer = column.buffers()[1]
    if pa.types.is_boolean(column.type):
        found = _bits(buffer, column.offset, len(column))
    else:
        kind = np.int32 if pa.types.is_date32(column.type) else np.dtype(column.type.to_pandas_dtype())
        found = np.frombuffer(buffer, kind)[column.offset : column.offset + len(column)]
    if column.null_count:
        found = np.where(valid(column), found, found.dtype.type(fill))
    return found


def column(found: np.ndarray, kind: pa.DataType, null: np.ndarray | None = None) -> pa.Array:
    """A column of type `kind` from numbers of that width (dates: days since 1970), null where `null` is true."""
    bitmap = None
    if null is not None and null.any():
        bitmap = pa.py_buffer(np.packbits(~null, bitorder="little"))
    if pa.types.is_boolean(kind):
        data = np.packbits(found, bitorder="little")
    else:
        width = np.int32 if pa.types.is_date32(kind) else np.dtype(kind.to_pandas_dtype())
        data = np.ascontiguousarray(found, width)
    return pa.Array.from_buffers(kind, len(found), [bitmap, pa.py_buffer(data)])


def text(found: Sequence[str]) -> pa.Array:
    """A string column without nulls."""
    encoded = [word.encode() for word in found]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))
