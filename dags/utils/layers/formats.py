"""Recognise files that are not CSV by their first bytes, and say how to fix each. Pure."""

from __future__ import annotations

from typing import NamedTuple

from utils.errors import InvalidInput

MIN_UTF16_CHARS = 8  # every second byte must be zero

_UNPACK = "unpack it and put the CSV in its place"
_EXPORT = "export it as CSV with commas and put the CSV in its place"
_AGAIN = "download the CSV itself and put it in its place"
_UTF8 = "convert it to UTF-8, for example with iconv, and put the result in its place"


class Signature(NamedTuple):
    """A file type: it starts with `first`, and its first 64 KiB contain `inside`."""

    first: bytes
    name: str  # completes "2015.csv is ..."
    way_out: str
    inside: bytes = b""


# The first match wins, so special cases come before general ones.
SIGNATURES = (
    Signature(b"PK\x03\x04", "an Excel workbook", _EXPORT, inside=b"xl/workbook"),
    Signature(b"PK\x03\x04", "an OpenDocument file", _EXPORT, inside=b"application/vnd.oasis.opendocument"),
    Signature(b"PK\x03\x04", "a zip archive", _UNPACK),
    Signature(b"PK\x05\x06", "an empty zip archive", _AGAIN),
    Signature(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook", _EXPORT),
    Signature(b"BZh", "compressed with bzip2", _UNPACK),
    Signature(b"\xfd7zXZ\x00", "compressed with xz", _UNPACK),
    Signature(b"\x28\xb5\x2f\xfd", "compressed with zstd", _UNPACK),
    Signature(b"\x04\x22\x4d\x18", "compressed with lz4", _UNPACK),
    Signature(b"\x1f\x9d", "compressed with compress", _UNPACK),
    Signature(b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    Signature(b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    Signature(b"PAR1", "a parquet file", _EXPORT),
    Signature(b"ARROW1", "an Arrow file", _EXPORT),
    Signature(b"FEA1", "a Feather file", _EXPORT),
    Signature(b"Obj\x01", "an Avro file", _EXPORT),
    Signature(b"\x89HDF", "an HDF5 file", _EXPORT),
    Signature(b"SQLite format 3\x00", "an SQLite database", _EXPORT),
    Signature(b"%PDF-", "a PDF", _AGAIN),
    Signature(b"\xff\xfe\x00\x00", "text in UTF-32", _UTF8),
    Signature(b"\x00\x00\xfe\xff", "text in UTF-32", _UTF8),
    Signature(b"\xff\xfe", "text in UTF-16", _UTF8),
    Signature(b"\xfe\xff", "text in UTF-16", _UTF8),
    Signature(
        b"version https://git-lfs.github.com/spec/", "a Git LFS pointer", "run `git lfs pull` and copy the file again"
    ),
)
# Compared with the text in lower case, without leading blanks.
TEXT_SIGNATURES = (
    Signature(b"<!doctype html", "an HTML page", _AGAIN),
    Signature(b"<html", "an HTML page", _AGAIN),
    Signature(b"<", "an HTML or XML file", _AGAIN),
    Signature(b"{", "JSON", _EXPORT),
    Signature(b"[", "JSON", _EXPORT),
)
GZIP = Signature(b"\x1f\x8b", "compressed with gzip", "rename it to end in .csv.gz")
_TAR = Signature(b"", "a tar archive", _UNPACK)
_UTF16 = Signature(b"", "text in UTF-16", _UTF8)


def recognise(head: bytes) -> Signature | None:
    """Return the file type, or None if the file may be a CSV.

    head: at least the first 64 KiB, which contain the entry xl/workbook.xml of an Excel workbook.
    """
    for signature in (*SIGNATURES, GZIP):
        if head.startswith(signature.first) and signature.inside in head:
            return signature
    if head[257:262] == b"ustar":
        return _TAR
    pairs = head[: 2 * MIN_UTF16_CHARS]
    if len(pairs) == 2 * MIN_UTF16_CHARS and any(not any(pairs[at::2]) and all(pairs[1 - at :: 2]) for at in (0, 1)):
        return _UTF16
    text = head[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((signature for signature in TEXT_SIGNATURES if text.startswith(signature.first)), None)


def check_plain(head: bytes, key: str) -> None:
    """Raise InvalidInput if the .csv file `key` is not plain text."""
    if signature := recognise(head):
        raise InvalidInput(f"{key} is {signature.name}; {signature.way_out}.")


def check_gzip(head: bytes, key: str) -> None:
    """Raise InvalidInput if the .csv.gz file `key` is not gzip."""
    if head.startswith(GZIP.first):
        return
    if signature := recognise(head):
        raise InvalidInput(f"{key} is {signature.name}, not gzip; {signature.way_out}.")
    raise InvalidInput(f"{key} is not compressed with gzip; if it is plain text, rename it to end in .csv.")


def check_inside_gzip(head: bytes, key: str) -> None:
    """Raise InvalidInput if the decompressed content of `key` is not a CSV."""
    if signature := recognise(head):
        way_out = _UNPACK if signature is GZIP else signature.way_out
        raise InvalidInput(f"{key} does not contain a CSV: its content is {signature.name}; {way_out}.")
