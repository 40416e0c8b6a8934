"""Read the single CSV of a zip as a stream and check its CRC. Callers check the content."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from utils.errors import DelaywatchError, InvalidInput

CHUNK = 1 << 20  # bytes of text in memory at a time
# Unpacked size; zipfile stops at the size that the zip declares. A Bureau month has 0.3 GB, a Kaggle year 0.9 GB.
MAX_BYTES = 4 << 30
COMPRESSION_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # other methods may need gigabytes of memory


def is_zip(path: Path) -> bool:
    """Return True if the file begins like a zip."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\3\4"


def quoted_beginning(path: Path) -> str:
    """Return the quoted beginning of the file's first line, for a message."""
    with path.open("rb") as file:
        return repr(file.read(60).decode("ascii", errors="replace").strip().split("\n")[0])


@contextmanager
def open_csv(path: Path, url: str, damaged: type[DelaywatchError] = InvalidInput) -> Iterator[IO[bytes]]:
    """Yield the text of the only CSV in the zip; zipfile checks length and CRC when the end is reached.

    No file is unpacked to disk. url: the name of the zip in errors. Raises InvalidInput if the file is not a zip, does
    not contain exactly one CSV, or is too large; `damaged` if the zip is cut or has a wrong CRC (pass Unavailable if
    the download may have damaged it).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.lower().endswith(".csv")]
            if len(members) != 1:
                raise InvalidInput(
                    f"{url} contains {len(members)} CSV files instead of one; open it and check its content."
                )
            if members[0].file_size > MAX_BYTES or members[0].compress_type not in COMPRESSION_METHODS:
                raise InvalidInput(
                    f"{url} unpacks to {members[0].file_size:,} bytes with compression method "
                    f"{members[0].compress_type}; a file of flights has at most {MAX_BYTES:,} bytes and method 0 or 8. "
                    "Download it again from its publisher."
                )
            with archive.open(members[0]) as text:
                yield text
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # RuntimeError: encrypted
        if is_zip(path):
            raise damaged(f"{url} is a damaged zip ({error}); download it again.") from None
        raise InvalidInput(
            f"{url} is not a zip, but begins with {quoted_beginning(path)}; open the address in a browser to see "
            "the reason, then fetch again."
        ) from None


def chunks(text: IO[bytes]) -> Iterator[bytes]:
    """Yield the text in chunks of CHUNK bytes."""
    while data := text.read(CHUNK):
        yield data
