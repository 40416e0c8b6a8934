"""Objects by key below one root: the protocol of a folder and of a bucket.

Which keys there are is in `keys`, what they hold in `lake`; how bytes reach a folder is in `folder`, how they reach a
bucket in `bucket`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from typing_extensions import override


class Source(Protocol):
    """One object of the lake, pinned to the version that was there when it was opened; safe to read from threads."""

    key: str
    size: int  # bytes
    etag: str  # names the version; empty where the store has none and the content's hash must do
    is_remote: bool  # each read is a request that costs as much as megabytes: read much at once

    def read(self, start: int, end: int) -> bytes:
        """The bytes [start, end), fewer where the object ends before."""

    def still_the_same(self) -> bool:
        """Whether the key still holds the version that was opened."""

    def close(self) -> None:
        """Give back what the source holds open; it cannot be read afterwards."""


class Store(Protocol):
    """Objects by key below one root. A fault raises InvalidInput, Missing or Unavailable."""

    def create(self) -> bool:
        """Create the root if it is missing and Delaywatch may create it. Return True if it was created."""

    def get(self, key: str) -> bytes | None:
        """The whole object, None when there is none."""

    def put(self, key: str, data: bytes) -> None:
        """Make `data` the object: a reader sees the old bytes or the new ones. Equal bytes may stay unwritten."""

    def adopt(self, path: Path, key: str) -> None:
        """Make the local file the object, at once. The store may move the file: the caller is done with it."""

    def upload(self, path: Path, key: str) -> None:
        """Make a copy of the local file the object, at once, whatever the file's size; the file stays."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove the objects; a key without one is no fault."""

    def has(self, key: str) -> bool:
        """Whether there is an object under exactly this key."""

    def list(self, prefix: str) -> list[str]:
        """Every key that starts with `prefix`, sorted."""

    def open(self, key: str) -> Source:
        """The object, which must exist, pinned to its present version; the caller closes it."""


class SourceFile(io.RawIOBase):
    """A source as a file to seek in, which is what pyarrow reads parquet from; closing it leaves the source open."""

    def __init__(self, source: Source) -> None:
        """Stand at the first byte."""
        super().__init__()
        self._source, self._at = source, 0

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def tell(self) -> int:
        return self._at

    @override
    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._source.size}[whence]
        self._at = start + offset
        return self._at

    @override
    def read(self, size: int | None = -1) -> bytes:
        end = self._source.size if size is None or size < 0 else min(self._at + size, self._source.size)
        data = self._source.read(self._at, end) if end > self._at else b""
        self._at += len(data)
        return data
