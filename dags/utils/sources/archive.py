"""A zip that holds one CSV, read as a stream and checked to its last byte. What the CSV must say is its reader's."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from utils.errors import DelaywatchError, InvalidInput

CHUNK = 1 << 20  # bytes of text in memory at a time
# Of text, which zipfile reads no further than the zip says; the Bureau's months have 0.3 GB, Kaggle's years 0.9.
LARGEST_BYTES = 4 << 30
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others may ask for gigabytes of memory


def is_zip(path: Path) -> bool:
    """Whether the file begins as zips do."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\3\4"


def first_words(path: Path) -> str:
    """How the file begins, fit for a sentence."""
    with path.open("rb") as file:
        return repr(file.read(60).decode("ascii", errors="replace").strip().split("\n")[0])


@contextmanager
def open_csv(path: Path, url: str, damaged: type[DelaywatchError] = InvalidInput) -> Iterator[IO[bytes]]:
    """The text of the one CSV in the zip; its length and CRC are checked when a reader reaches its end.

    Nothing is unpacked under the name that the zip gives. Raises InvalidInput, which calls the file `url`, for a file
    that is not a zip, holds no or several CSVs, or unpacks to too much; `damaged` for a zip that is cut or has a wrong
    CRC, Unavailable if the download may have damaged it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if one.filename.lower().endswith(".csv")]
            if len(members) != 1:
                raise InvalidInput(f"{url} holds {len(members)} CSV files instead of one; look into it by hand.")
            if members[0].file_size > LARGEST_BYTES or members[0].compress_type not in PACKINGS:
                raise InvalidInput(
                    f"{url} holds {members[0].file_size:,} bytes in packing {members[0].compress_type}; no file of "
                    f"flights has more than {LARGEST_BYTES:,} or another packing than 0 and 8. Look into it by hand."
                )
            with archive.open(members[0]) as text:
                yield text
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # the last: encrypted
        if is_zip(path):
            raise damaged(f"{url} is a damaged zip ({error}); download it again.") from None
        raise InvalidInput(
            f"{url} is not a zip: it begins with {first_words(path)}; open it in a browser to see what is wrong, then "
            "fetch again."
        ) from None


def chunks(text: IO[bytes]) -> Iterator[bytes]:
    """The text piece by piece, to its end."""
    while data := text.read(CHUNK):
        yield data
