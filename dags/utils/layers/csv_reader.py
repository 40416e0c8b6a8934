"""Cut a CSV into blocks of whole lines: from byte ranges in many threads, or from one stream.

A piece is PIECE_BYTES of the text; its block holds the lines that begin in the piece. A part is PIECES_PER_PART blocks
and becomes one silver file. Both readers return the same blocks for the same text. `silver` parses the lines; `ingest`
distributes the parts.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

from utils.errors import InvalidInput, Unavailable
from utils.layers import formats, silver

if TYPE_CHECKING:
    from utils.storage.stores import Source

PIECE_BYTES = 4 << 20  # per read and per parse; PIECES_PER_PART of them give about 256 Ki flights, one row group
PIECES_PER_PART = 8
_PEEK_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 20  # per read of a stream
_HEAD_BYTES = silver.MAX_LINE_BYTES + 1
_INFLATED_BYTES = 4 << 20  # per step: 1 MB of gzip may expand to 1 GB
_MAX_ZERO_BYTES = 1 << 30
_MAX_SEARCH_BYTES = 32 << 20  # without a line end: stop searching


def line_start(source: Source | _ReadAhead, offset: int) -> int:
    """Return the offset of the first line that begins at or after `offset`, or the size of the source."""
    at = offset - 1
    while 0 <= at < source.size:
        peek = source.read(at, at + _PEEK_BYTES)
        line_end = peek.find(b"\n")
        if line_end < 0 and b"\0" in peek:
            raise silver.ZeroBytesError
        if line_end >= 0:
            return min(at + line_end + 1, source.size)
        at += _PEEK_BYTES
        if at - offset > _MAX_SEARCH_BYTES:
            raise _endless(source.key)
    return source.size if offset > 0 else 0


def _endless(key: str) -> InvalidInput:
    return InvalidInput(
        f"{key} has a line of more than {_MAX_SEARCH_BYTES >> 20} MB, so it is not a CSV of flights; put the CSV of "
        "the year in its place."
    )


def first_line(source: Source) -> bytes:
    """Return the first line of an uncompressed source, with its line end if that is within _HEAD_BYTES.

    Raises InvalidInput if the source is not a CSV.
    """
    head = source.read(0, min(_HEAD_BYTES, source.size))
    formats.check_plain(head, source.key)
    return head[: head.find(b"\n") + 1] or head


def count_zero_bytes(source: Source) -> tuple[int, int]:
    """Return the line of the first zero byte in the text, counted from 1, and the number of zero bytes.

    Stops after _MAX_ZERO_BYTES, because a small gzip may expand to a huge number of zeros.
    """
    line, zeros = 1, 0
    for text in StreamReader(source).text():
        if not zeros and b"\0" in text:
            line += text.count(b"\n", 0, text.index(b"\0"))
        elif not zeros:
            line += text.count(b"\n")
        zeros += text.count(b"\0")
        if zeros >= _MAX_ZERO_BYTES:
            break
    return line, zeros


def digest(block: bytes) -> bytes:
    """Return the digest of a block for `checksum`; empty for an empty block, so that empty pieces do not count."""
    return hashlib.sha256(block).digest() if block else b""


def checksum(header: bytes, digests: Iterable[bytes]) -> str:
    """Return the checksum of a text in hexadecimal: SHA-256 of the digests of its first line and of all its blocks.

    Blocks can be hashed by any worker in any order. The value depends only on the text and on PIECE_BYTES.
    """
    return hashlib.sha256(b"".join([hashlib.sha256(header).digest(), *digests])).hexdigest()


class _ReadAhead:
    """Read a remote source with one request per part, sent before the part is needed.

    A line across the end of a part is joined from the requests of both parts. A separate request for a few bytes would
    cost SeaweedFS 0.1 s of CPU time, because it loads the whole chunk of 4 MiB.
    """

    def __init__(self, source: Source, readers: int, part_bytes: int) -> None:
        """Allow at most `readers` threads to read at the same time. part_bytes: size of a part."""
        self.key, self.size = source.key, source.size
        self._part_bytes = part_bytes
        self._source = source
        self._pool = ThreadPoolExecutor(readers + 1, thread_name_prefix="read-ahead")
        self._requests: dict[int, Future[bytes]] = {}
        self._edges: dict[int, tuple[bytes, bytes]] = {}  # first bytes and last byte of released parts

    def request(self, part: int) -> None:
        """Send the request for the bytes of one part, if the part exists."""
        start = part * self._part_bytes
        if start < self.size:
            self._requests[part] = self._pool.submit(self._source.read, start, min(start + self._part_bytes, self.size))

    def release(self, part: int) -> None:
        """Free the bytes of a part except its first bytes and its last byte."""
        data = self._requests[part].result()
        self._edges[part] = data[:_PEEK_BYTES], data[-1:]
        del self._requests[part]

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes [start, end), fewer if the source ends earlier."""
        parts = range(start // self._part_bytes, -(-min(end, self.size) // self._part_bytes))
        return b"".join(self._read_in(part, start, end) for part in parts)

    def _read_in(self, part: int, start: int, end: int) -> bytes:
        first = part * self._part_bytes
        start, end = max(start - first, 0), min(end - first, self._part_bytes)
        if request := self._requests.get(part):
            return request.result()[start:end]
        head, last = self._edges.get(part, (b"", b""))
        if end <= len(head):
            return head[start:end]
        if last and start == self._part_bytes - 1:
            return last
        return self._source.read(first + start, first + end)

    def close(self) -> None:
        """Stop reading ahead."""
        self._pool.shutdown(cancel_futures=True)


class RangeReader:
    """Read the blocks of an uncompressed source, each part on its own, in any order. Close the reader at the end.

    A pickled copy reads the same version of the source, without reading ahead.
    """

    joins_lines = False

    def __init__(self, source: Source, header: bytes, readers: int = 0) -> None:
        """Take the first line with its line end as `header`. readers: threads that read at the same time, if known."""
        self._source, self._header_end = source, len(header)
        # Read once, so that all processes cut the file in the same places.
        self._piece_bytes, self._pieces_per_part = PIECE_BYTES, PIECES_PER_PART
        self._pieces = -(-source.size // self._piece_bytes)
        self._ahead = _ReadAhead(source, readers, self._part_bytes) if source.is_remote and readers else None
        self.taken = 0

    @property
    def _part_bytes(self) -> int:
        return self._pieces_per_part * self._piece_bytes

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the threads that read ahead and the progress, so that all copies have the same bytes."""
        return {**self.__dict__, "_ahead": None, "taken": 0}

    def numbers(self) -> Iterator[int]:
        """Yield the number of every part, from 0, and send the request for the part after it."""
        if self._ahead:
            self._ahead.request(0)
        for part in range(-(-self._pieces // self._pieces_per_part)):
            if self._ahead:
                self._ahead.request(part + 1)
            self.taken += 1
            yield part

    def blocks(self, part: int) -> Iterator[bytes]:
        """Read and yield the blocks of one part. Thread-safe."""
        if not self._source.is_remote:
            yield from self._read(self._source, part)
        elif self._ahead:
            yield from self._read(self._ahead, part)
            self._ahead.release(part)
        else:
            with closing(_ReadAhead(self._source, 1, self._part_bytes)) as one_part:
                one_part.request(part)
                yield from self._read(one_part, part)

    def _read(self, text: Source | _ReadAhead, part: int) -> Iterator[bytes]:
        first = part * self._pieces_per_part
        start = self._boundary(text, first)
        for piece in range(first, min(first + self._pieces_per_part, self._pieces)):
            end = self._boundary(text, piece + 1)
            block = text.read(start, end)
            if len(block) != end - start:
                raise Unavailable(
                    f"{self._source.key} became shorter while it was read; "
                    "run the step again when its upload has ended."
                )
            yield block
            start = end

    def _boundary(self, text: Source | _ReadAhead, piece: int) -> int:
        return max(self._header_end, line_start(text, piece * self._piece_bytes)) if piece else self._header_end

    def close(self) -> None:
        """Stop reading ahead."""
        if self._ahead:
            self._ahead.close()

    def done(self) -> int:
        """Return the number of bytes in the parts taken so far."""
        return min(self.taken * self._part_bytes, self._source.size)


class StreamReader:
    """Yield blocks from one sequential read: for gzip, and for files with line breaks in quoted fields."""

    joins_lines = True

    def __init__(self, source: Source) -> None:
        """Store the source. Call `read_header` first, then `numbers`."""
        self._source = source
        self._bytes_read = 0
        self._chunks = self._decompressed() if source.key.endswith(".gz") else self._plain()
        self._buffer = bytearray()
        self._at = 0  # offset of the buffer in the text
        self._ended = False
        self._piece = 0
        self._fields = 0  # per record; needed to find the end of a record with line breaks in quotes
        self._ready: dict[int, list[bytes]] = {}  # blocks of the parts that no worker has fetched
        self.taken = 0

    def text(self) -> Iterator[bytes]:
        """Return the whole text in chunks of any size. Do not combine this with `read_header`."""
        return self._chunks

    def _plain(self) -> Iterator[bytes]:
        step = PIECES_PER_PART * PIECE_BYTES if self._source.is_remote else _CHUNK_BYTES
        while data := self._source.read(self._bytes_read, self._bytes_read + step):
            for at in range(0, len(data), _CHUNK_BYTES):
                chunk = data[at : at + _CHUNK_BYTES]
                self._bytes_read += len(chunk)
                yield chunk

    def _decompressed(self) -> Iterator[bytes]:
        gzip_format = 31
        inflate = zlib.decompressobj(gzip_format)
        started = False
        for compressed in self._plain():
            chunk = compressed
            while chunk:
                if inflate.eof:  # another gzip member or zero padding may follow
                    chunk = chunk.lstrip(b"\0")
                    if not chunk:
                        break
                    inflate, started = zlib.decompressobj(gzip_format), False
                try:
                    text = inflate.decompress(chunk, _INFLATED_BYTES)
                except zlib.error as error:
                    raise InvalidInput(
                        f"{self._source.key} is not readable as gzip ({error}); "
                        "upload the file again and compare its checksum."
                    ) from error
                started = True
                chunk = inflate.unconsumed_tail or inflate.unused_data
                yield text
        if started and not inflate.eof:
            raise InvalidInput(f"{self._source.key} ends in the middle of its gzip data; upload the whole file again.")

    def _fill(self, length: int) -> None:
        while not self._ended and len(self._buffer) < length:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._ended = True
            else:
                self._buffer += chunk

    def _take(self, length: int) -> bytes:
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._at += length
        return taken

    def read_header(self) -> silver.Header:
        """Read the first line. Raises InvalidInput if the source is not a CSV or lacks a column."""
        is_gzip = self._source.key.endswith(".gz")
        if is_gzip:
            formats.check_gzip(self._source.read(0, min(_HEAD_BYTES, self._source.size)), self._source.key)
        self._fill(_HEAD_BYTES)
        head = bytes(self._buffer[:_HEAD_BYTES])
        check = formats.check_inside_gzip if is_gzip else formats.check_plain
        check(head, self._source.key)
        line = self._take(head.find(b"\n") + 1 or len(head))
        header = silver.read_header(line, self._source.key)
        self._fields = len(header.names)
        return header

    def numbers(self) -> Iterator[int]:
        """Read the blocks of one part after the other and yield its number, from 0."""
        while blocks := self.next_part():
            number = self.taken
            self._ready[number] = blocks
            self.taken += 1
            yield number

    def next_part(self) -> list[bytes]:
        """Read and return the blocks of the next part; an empty list after the last part."""
        return [block for _ in range(PIECES_PER_PART) if (block := self._next_block()) is not None]

    def blocks(self, part: int) -> Iterator[bytes]:
        """Yield the blocks of a part once, and free them. Thread-safe."""
        return iter(self._ready.pop(part))

    def _next_block(self) -> bytes | None:
        self._piece += 1
        wanted = self._piece * PIECE_BYTES - 1 - self._at
        self._fill(max(wanted, 0) + _PEEK_BYTES)
        if not self._buffer:
            return None
        if wanted < 0:  # a line of an earlier piece extends beyond this piece
            return b""
        end = self._line_end(wanted)
        is_last = self._ended and end == len(self._buffer)
        if not is_last and self._buffer.find(b'"', 0, end) >= 0:
            _, end = silver.records(bytes(self._buffer[:end]), self._fields, is_last=False)
        return self._take(end)

    def _line_end(self, wanted: int) -> int:
        """Return the buffer index after the first line end at or after `wanted`, or the end of the text."""
        while not (end := self._buffer.find(b"\n", wanted) + 1):
            if self._ended:
                return len(self._buffer)
            if b"\0" in self._buffer:
                raise silver.ZeroBytesError
            if len(self._buffer) - wanted > _MAX_SEARCH_BYTES:
                raise _endless(self._source.key)
            self._fill(len(self._buffer) + PIECE_BYTES)
        return end

    def done(self) -> int:
        """Return the number of bytes read from the source so far, compressed if the source is."""
        return self._bytes_read
