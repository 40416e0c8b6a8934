"""The parts of a silver pass until its commit: in a local folder, or in the lake itself.

The name of a part contains its number and its hash, so a part that is written twice is the same object.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from typing_extensions import override

from utils.errors import Unavailable
from utils.storage import keys
from utils.storage.parquet import content_hash, encode, write_parquet
from utils.storage.stores import Store


@dataclass(frozen=True)
class PartFile:
    """A written part; `rows` are counted in the written file."""

    name: str
    rows: int
    bytes: int
    sha256: str


class PartStore(Protocol):
    """Keeps the parts of a pass. Equal tables give equal files."""

    def write(self, number: int, flights: pa.Table) -> PartFile:
        """Write the part with this number, schemas.SILVER."""

    def read(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the flights of a written part, or some of their columns."""

    def path(self, name: str) -> Path | None:
        """Return the local file of a part, or None if the part is in the lake already."""


def _name(number: int, sha256: str) -> str:
    return f"part-{number:05d}-{sha256[:12]}.parquet"


@dataclass(frozen=True)
class LocalParts(PartStore):
    """Parts as files of a local folder. A part that is written again replaces the file of its number."""

    folder: Path

    @override
    def path(self, name: str) -> Path:
        return self.folder / f"{name.rpartition('-')[0]}.parquet"

    @override
    def write(self, number: int, flights: pa.Table) -> PartFile:
        path = self.folder / f"part-{number:05d}.parquet"
        write_parquet(flights, str(path))
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return PartFile(_name(number, sha256), pq.read_metadata(path).num_rows, path.stat().st_size, sha256)

    @override
    def read(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        return pq.ParquetFile(self.path(name)).read(columns=list(columns) if columns else None)


@dataclass(frozen=True)
class LakeParts(PartStore):
    """Parts as objects in the silver folder of a year, which do not count before the manifest names them.

    Any number of processes may use copies of it at the same time, and it can be pickled.
    """

    store: Store
    year: int

    @override
    def write(self, number: int, flights: pa.Table) -> PartFile:
        data = encode(flights)
        sha256 = content_hash(data)
        name = _name(number, sha256)
        self.store.put(keys.silver_folder(self.year) + name, data)
        return PartFile(name, pq.read_metadata(pa.BufferReader(data)).num_rows, len(data), sha256)

    @override
    def read(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        key = keys.silver_folder(self.year) + name
        data = self.store.get(key)
        if data is None:
            raise Unavailable(f"{key} disappeared during the silver step; run the silver step of {self.year} again.")
        return pq.ParquetFile(pa.BufferReader(data)).read(columns=list(columns) if columns else None)

    @override
    def path(self, name: str) -> None:
        return None
