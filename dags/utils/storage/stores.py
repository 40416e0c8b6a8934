"""The protocols of a store, which holds objects by key below one root, and of an open object.

`folder` and `bucket` implement them. `keys` builds keys; `lake` defines the content of objects.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Protocol

from typing_extensions import override


class Source(Protocol):
    """An open object, pinned to the version at the time of opening. Reading is thread-safe."""

    key: str
    size: int  # bytes
    etag: str  # version; empty if the store has no ETags, then use the content hash
    is_remote: bool  # if True, each read is an expensive request: read megabytes at once

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes [start, end), fewer if the object ends earlier."""

    def is_unchanged(self) -> bool:
        """Return True if the key still holds the opened version."""

    def close(self) -> None:
        """Release the resources of the source; it cannot be read afterwards."""


class Store(Protocol):
    """Objects by key below one root. Methods raise InvalidInput, Missing or Unavailable."""

    is_shared: bool  # if True, several hosts may write, and no lock keeps one from writing while another does

    def create(self) -> bool:
        """Create the root if it is missing and Delaywatch may create it. Return True if it was created."""

    def get(self, key: str) -> bytes | None:
        """Return the whole object, or None if it does not exist."""

    def put(self, key: str, data: bytes) -> None:
        """Replace the object by `data` atomically. A store may skip writing equal bytes."""

    def version(self, key: str) -> str | None:
        """Return the version of the object for `put_if`; None if it does not exist or the store has no versions."""

    def put_if(self, key: str, data: bytes, version: str | None) -> bool:
        """Replace the object by `data` atomically if it still has this version (None: if it does not exist).

        Return True if the object then has the bytes `data`, also if another process wrote the same bytes; False if the
        object has changed since. A store that is not shared does not compare versions: its callers hold a lock.
        """

    def adopt(self, path: Path, key: str) -> None:
        """Replace the object by the local file atomically. The store may move the file."""

    def upload(self, path: Path, key: str) -> None:
        """Replace the object by a copy of the local file atomically. The file may be of any size and is kept."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete the objects; ignore keys that do not exist."""

    def has(self, key: str) -> bool:
        """Return True if an object with exactly this key exists."""

    def list(self, prefix: str) -> list[str]:
        """Return the keys that start with `prefix`, sorted."""

    def modified(self, prefix: str) -> dict[str, datetime]:
        """Return when each object was last written, in UTC, by key, for the keys that start with `prefix`."""

    def open(self, key: str) -> Source:
        """Open the current version of the object, which must exist; the caller closes it."""


class SourceFile(io.RawIOBase):
    """A seekable file over a source, for pyarrow's parquet reader. Closing it does not close the source."""

    def __init__(self, source: Source) -> None:
        """Start at the first byte."""
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
