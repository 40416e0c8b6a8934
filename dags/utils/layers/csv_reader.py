"""A CSV cut into blocks of whole lines: from byte ranges by many threads, or from one reading from the start.

A piece is PIECE_BYTES of the text; its block holds the lines that begin in it. A part is the PIECES_PER_PART blocks of
one silver file. Both readers hand out the same parts of the same text and compute the same checksum. What the lines
mean is in `silver`; which thread works on a part is in `ingest`.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from utils.errors import InvalidInput, Unavailable
from utils.layers import formats, silver

if TYPE_CHECKING:
    from utils.storage.stores import Source

PIECE_BYTES = 4 << 20  # what one read and one parse take; with PIECES_PER_PART about 256 Ki flights per row group
PIECES_PER_PART = 8
_PEEK_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 20  # of a source that is read from the start
_HEAD_BYTES = silver.LONGEST_LINE_BYTES + 1
_INFLATED_BYTES = 4 << 20  # at a time: a megabyte of gzip may hold a gigabyte
_MAX_ZERO_BYTES = 1 << 30
_HOPELESS_BYTES = 32 << 20  # of one line: there is no use in looking for its end


def line_start(source: Source | _ReadAhead, offset: int) -> int:
    """Where the first line begins at or behind `offset`; the size of the source when none does."""
    at = offset - 1
    while 0 <= at < source.size:
        peek = source.read(at, at + _PEEK_BYTES)
        found = peek.find(b"\n")
        if found < 0 and b"\0" in peek:
            raise silver.ZeroBytesError
        if found >= 0:
            return min(at + found + 1, source.size)
        at += _PEEK_BYTES
        if at - offset > _HOPELESS_BYTES:
            raise _endless(source.key)
    return source.size if offset > 0 else 0


def _endless(key: str) -> InvalidInput:
    return InvalidInput(
        f"{key} has a line of more than {_HOPELESS_BYTES >> 20} MB, so it is no CSV of flights; put the year's "
        "own file in its place."
    )


def first_line(source: Source) -> bytes:
    """The first line of an uncompressed source, with its line end if it has one within _HEAD_BYTES.

    Raises InvalidInput if the source is a file of another kind.
    """
    head = source.read(0, min(_HEAD_BYTES, source.size))
    formats.check_plain(head, source.key)
    return head[: head.find(b"\n") + 1] or head


def count_zero_bytes(source: Source) -> tuple[int, int]:
    """The line of the first zero byte in the text of `source`, counted from 1, and how many zero bytes there are.

    Stops counting after _MAX_ZERO_BYTES, so that a small gzip of very many zeros ends too.
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


def _part_bytes() -> int:
    return PIECES_PER_PART * PIECE_BYTES


class _Checksum:
    """SHA-256 over the SHA-256 of the header and of every block, in the order of the text.

    Blocks may come in any order and from any thread. The value depends on the text and on PIECE_BYTES alone.
    """

    def __init__(self, header: bytes) -> None:
        self._digests = {-1: hashlib.sha256(header).digest()}

    def add(self, piece: int, block: bytes) -> None:
        """Add the block of one piece; an empty one changes nothing."""
        if block:
            self._digests[piece] = hashlib.sha256(block).digest()

    def hexdigest(self) -> str:
        return hashlib.sha256(b"".join(digest for _, digest in sorted(self._digests.items()))).hexdigest()


class _ReadAhead:
    """The bytes of a remote source, in one request per part that is sent before the part is needed.

    The line across the end of a part is put together from the requests of both parts: another request for a few bytes
    costs SeaweedFS 0.1 s of CPU time, because it loads the whole chunk of 4 MiB.
    """

    def __init__(self, source: Source, readers: int) -> None:
        """At most `readers` threads read at a time."""
        self.key, self.size = source.key, source.size
        self._source = source
        self._pool = ThreadPoolExecutor(readers + 1, thread_name_prefix="read-ahead")
        self._requests: dict[int, Future[bytes]] = {}
        self._edges: dict[int, tuple[bytes, bytes]] = {}  # of released parts: the first bytes and the last one

    def request(self, part: int) -> None:
        """Send the request for the bytes of one part, if the source has it."""
        start = part * _part_bytes()
        if start < self.size:
            self._requests[part] = self._pool.submit(self._source.read, start, min(start + _part_bytes(), self.size))

    def release(self, part: int) -> None:
        """Free the bytes of a part, except those at its edges."""
        data = self._requests[part].result()
        self._edges[part] = data[:_PEEK_BYTES], data[-1:]
        del self._requests[part]

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes [start, end), fewer where the source ends before."""
        parts = range(start // _part_bytes(), -(-min(end, self.size) // _part_bytes()))
        return b"".join(self._read_in(part, start, end) for part in parts)

    def _read_in(self, part: int, start: int, end: int) -> bytes:
        first = part * _part_bytes()
        start, end = max(start - first, 0), min(end - first, _part_bytes())
        if request := self._requests.get(part):
            return request.result()[start:end]
        head, last = self._edges.get(part, (b"", b""))
        if end <= len(head):
            return head[start:end]
        if last and start == _part_bytes() - 1:
            return last
        return self._source.read(first + start, first + end)

    def close(self) -> None:
        """Stop reading ahead."""
        self._pool.shutdown(cancel_futures=True)


class RangeReader:
    """Blocks of an uncompressed source, read by the thread that works on them; close it at the end."""

    def __init__(self, source: Source, header: bytes, readers: int) -> None:
        """`header` is the first line as it was read, with its line end. At most `readers` threads read at a time."""
        self._source, self._header_end = source, len(header)
        self._checksum = _Checksum(header)
        self._pieces = -(-source.size // PIECE_BYTES)
        self._part = 0
        self._ahead = _ReadAhead(source, readers) if source.is_remote else None
        if self._ahead:
            self._ahead.request(0)
        self.joins_lines = False

    def next_part(self) -> Iterator[bytes] | None:
        """Return the blocks of the next part, each read when it is asked for; None behind the last part.

        Call it under a lock.
        """
        part = self._part
        if part * PIECES_PER_PART >= self._pieces:
            return None
        self._part += 1
        if self._ahead:
            self._ahead.request(self._part)
        return self._blocks(part)

    def _blocks(self, part: int) -> Iterator[bytes]:
        text = self._ahead or self._source
        first = part * PIECES_PER_PART
        start = self._boundary(text, first)
        for piece in range(first, min(first + PIECES_PER_PART, self._pieces)):
            end = self._boundary(text, piece + 1)
            block = text.read(start, end)
            if len(block) != end - start:
                raise Unavailable(
                    f"{self._source.key} became shorter while it was read; run the step again after its upload."
                )
            self._checksum.add(piece, block)
            yield block
            start = end
        if self._ahead:
            self._ahead.release(part)

    def _boundary(self, text: Source | _ReadAhead, piece: int) -> int:
        return max(self._header_end, line_start(text, piece * PIECE_BYTES)) if piece else self._header_end

    def close(self) -> None:
        """Stop reading ahead."""
        if self._ahead:
            self._ahead.close()

    def done(self) -> int:
        """Bytes of the source in the parts handed out so far."""
        return min(self._part * _part_bytes(), self._source.size)

    def sha256(self) -> str:
        """Return the checksum of the text in hexadecimal, once every block of every part was taken."""
        return self._checksum.hexdigest()


class StreamReader:
    """Blocks from one reading from the start: for gzip, and for a file in which a quoted field holds a line break."""

    def __init__(self, source: Source) -> None:
        """Reads nothing yet: `read_header` comes first, then the parts."""
        self._source = source
        self._taken = 0  # bytes of the source
        self._chunks = self._decompressed() if source.key.endswith(".gz") else self._plain()
        self._buffer = bytearray()
        self._at = 0  # offset of the buffer in the text
        self._ended = False
        self._piece = 0
        self._fields = 0  # of a record: they tell where one with line breaks in quotes ends
        self._checksum = _Checksum(b"")
        self.joins_lines = True

    def text(self) -> Iterator[bytes]:
        """The whole text in pieces of any size. A reader gives either this or a header and parts."""
        return self._chunks

    def _plain(self) -> Iterator[bytes]:
        step = _part_bytes() if self._source.is_remote else _CHUNK_BYTES
        while data := self._source.read(self._taken, self._taken + step):
            for at in range(0, len(data), _CHUNK_BYTES):
                chunk = data[at : at + _CHUNK_BYTES]
                self._taken += len(chunk)
                yield chunk

    def _decompressed(self) -> Iterator[bytes]:
        gzip_format = 31
        inflate = zlib.decompressobj(gzip_format)
        started = False
        for compressed in self._plain():
            chunk = compressed
            while chunk:
                if inflate.eof:  # another member may follow, or padding with zeros
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
        """Read the first line. Raises InvalidInput if the source is a file of another kind or lacks a column."""
        is_gzip = self._source.key.endswith(".gz")
        if is_gzip:
            formats.check_gzip(self._source.read(0, min(_HEAD_BYTES, self._source.size)), self._source.key)
        self._fill(_HEAD_BYTES)
        head = bytes(self._buffer[:_HEAD_BYTES])
        check = formats.check_inside_gzip if is_gzip else formats.check_plain
        check(head, self._source.key)
        line = self._take(head.find(b"\n") + 1 or len(head))
        self._checksum = _Checksum(line)
        header = silver.read_header(line, self._source.key)
        self._fields = len(header.names)
        return header

    def next_part(self) -> Iterator[bytes] | None:
        """The blocks of the next part, all read; None behind the last. Call it under a lock."""
        blocks = [block for _ in range(PIECES_PER_PART) if (block := self._next_block()) is not None]
        return iter(blocks) if blocks else None

    def _next_block(self) -> bytes | None:
        self._piece += 1
        wanted = self._piece * PIECE_BYTES - 1 - self._at
        self._fill(max(wanted, 0) + _PEEK_BYTES)
        if not self._buffer:
            return None
        if wanted < 0:  # a line of an earlier piece goes on behind this one
            return b""
        end = self._line_end(wanted)
        is_last = self._ended and end == len(self._buffer)
        if not is_last and self._buffer.find(b'"', 0, end) >= 0:
            _, end = silver.records(bytes(self._buffer[:end]), self._fields, is_last=False)
        block = self._take(end)
        self._checksum.add(self._piece, block)
        return block

    def _line_end(self, wanted: int) -> int:
        """Return the place in the buffer behind the first line end at or behind `wanted`, or behind the whole text."""
        while not (end := self._buffer.find(b"\n", wanted) + 1):
            if self._ended:
                return len(self._buffer)
            if b"\0" in self._buffer:
                raise silver.ZeroBytesError
            if len(self._buffer) - wanted > _HOPELESS_BYTES:
                raise _endless(self._source.key)
            self._fill(len(self._buffer) + PIECE_BYTES)
        return end

    def done(self) -> int:
        """Bytes of the source, compressed where it is, read so far."""
        return self._taken

    def sha256(self) -> str:
        """Return the checksum of the text in hexadecimal, once every block was taken."""
        return self._checksum.hexdigest()
