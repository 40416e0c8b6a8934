"""A CSV cut into blocks of whole lines: from byte ranges by many threads, or from one reading from the start.

Both readers hand out the same parts, a part being the PIECES_PER_PART blocks that one silver file is made of, and hash
the source on the way. What the lines mean is `silver`'s; who works on a part is `refinery`'s.
"""

from __future__ import annotations

import hashlib
import threading
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from utils.errors import DelaywatchError
from utils.layers import formats, silver

if TYPE_CHECKING:
    from utils.storage.stores import Source

PIECE_BYTES = 4 << 20  # what one read and one parse take; with PIECES_PER_PART about 256 Ki flights per row group
PIECES_PER_PART = 8
_PEEK_BYTES = 1 << 16
_HEAD_BYTES = silver.LONGEST_LINE_BYTES + 1
_INFLATED_BYTES = 4 << 20  # at a time: a megabyte of gzip may hold a gigabyte
_MAX_ZERO_BYTES = 1 << 30
_HOPELESS_BYTES = 32 << 20  # of one line: there is no use in looking for its end


def line_start(source: Source, offset: int) -> int:
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
            raise _endless(source)
    return source.size if offset > 0 else 0


def _endless(source: Source) -> DelaywatchError:
    return DelaywatchError(
        f"{source.key} has a line of more than {_HOPELESS_BYTES >> 20} MB, so it is no CSV of flights; put the year's "
        "own file in its place."
    )


def first_line(source: Source) -> bytes:
    """The first line of an uncompressed source, with its line end if it has one within _HEAD_BYTES.

    Raises DelaywatchError if the source is a file of another kind.
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


class _OrderedHash:
    """SHA-256 of blocks that arrive in any order, each kept only until those before it are in."""

    def __init__(self, room: int) -> None:
        """At most about `room` blocks are kept: `wait` holds up whoever is further ahead."""
        self._sha = hashlib.sha256()
        self._next = 0
        self._room = room
        self._waiting: dict[int, bytes] = {}
        self._moved = threading.Condition()

    def wait(self, place: int) -> None:
        """Return when the block at `place` is near enough to the ones that are still to come, or all is given up."""
        with self._moved:
            self._moved.wait_for(lambda: place - self._next <= self._room)

    def add(self, place: int, block: bytes) -> None:
        with self._moved:
            self._waiting[place] = block
            while self._next in self._waiting:
                self._sha.update(self._waiting.pop(self._next))
                self._next += 1
            self._moved.notify_all()

    def give_up(self) -> None:
        with self._moved:
            self._room = 1 << 62
            self._moved.notify_all()

    def hexdigest(self) -> str:
        return self._sha.hexdigest()


class RangeReader:
    """Blocks of an uncompressed source, each read on its own by the thread that works on it."""

    def __init__(self, source: Source, header_end: int, header: bytes, readers: int) -> None:
        """`header` is the first line as it was read, with its line end; `header_end` the offset behind it.

        No more than `readers` threads read at a time; one that is a part ahead of all others waits for them.
        """
        self._source, self._header_end = source, header_end
        self._hash = _OrderedHash(room=readers * PIECES_PER_PART)
        self._hash.add(0, header)
        self._pieces = -(-source.size // PIECE_BYTES)
        self._part = 0
        self.joins_lines = False

    def next_part(self) -> Iterator[bytes] | None:
        """The blocks of the next part, each read when it is asked for; None behind the last. Call it under a lock."""
        first = self._part * PIECES_PER_PART
        if first >= self._pieces:
            return None
        self._part += 1
        return (self._block(piece) for piece in range(first, min(first + PIECES_PER_PART, self._pieces)))

    def _block(self, piece: int) -> bytes:
        self._hash.wait(piece + 1)
        start, end = (self._boundary(piece), self._boundary(piece + 1))
        block = self._source.read(start, end)
        if len(block) != end - start:
            raise DelaywatchError(
                f"{self._source.key} became shorter while it was read; run the step again after its upload."
            )
        self._hash.add(piece + 1, block)
        return block

    def _boundary(self, piece: int) -> int:
        return max(self._header_end, line_start(self._source, piece * PIECE_BYTES)) if piece else self._header_end

    def give_up(self) -> None:
        """Let nobody wait any more, since one of the threads has failed."""
        self._hash.give_up()

    def done(self) -> int:
        """Bytes of the source in the parts handed out so far."""
        return min(self._part * PIECES_PER_PART * PIECE_BYTES, self._source.size)

    def sha256(self) -> str:
        """The hash of the whole source in hexadecimal, once every block of every part was taken."""
        return self._hash.hexdigest()


class StreamReader:
    """Blocks from one reading from the start: for gzip, and for a file in which a quoted field holds a line break."""

    def __init__(self, source: Source) -> None:
        """Reads nothing yet: `header` comes first, then `knows_header`, then the parts."""
        self._source = source
        self._sha = hashlib.sha256()
        self._taken = 0  # bytes of the source
        self._chunks = self._decompressed() if source.key.endswith(".gz") else self._plain()
        self._buffer = bytearray()
        self._at = 0  # offset of the buffer in the text
        self._ended = False
        self._piece = 0
        self._fields = 0
        self.joins_lines = True

    def text(self) -> Iterator[bytes]:
        """The whole text in pieces of any size. A reader gives either this or a header and parts."""
        return self._chunks

    def _plain(self) -> Iterator[bytes]:
        while chunk := self._source.read(self._taken, self._taken + (1 << 20)):
            self._sha.update(chunk)
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
                    raise DelaywatchError(
                        f"{self._source.key} is not readable as gzip ({error}); "
                        "upload the file again and compare its checksum."
                    ) from error
                started = True
                chunk = inflate.unconsumed_tail or inflate.unused_data
                yield text
        if started and not inflate.eof:
            raise DelaywatchError(
                f"{self._source.key} ends in the middle of its gzip data; upload the whole file again."
            )

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

    def header(self) -> bytes:
        """The first line, with its line end if it has one within _HEAD_BYTES.

        Raises DelaywatchError if the source is a file of another kind.
        """
        is_gzip = self._source.key.endswith(".gz")
        if is_gzip:
            formats.check_gzip(self._source.read(0, min(_HEAD_BYTES, self._source.size)), self._source.key)
        self._fill(_HEAD_BYTES)
        head = bytes(self._buffer[:_HEAD_BYTES])
        check = formats.check_inside_gzip if is_gzip else formats.check_plain
        check(head, self._source.key)
        return self._take(head.find(b"\n") + 1 or len(head))

    def knows_header(self, header: silver.Header) -> None:
        """Say how many fields a record has: that tells where one with line breaks in quotes ends."""
        self._fields = len(header.names)

    def next_part(self) -> Iterator[bytes] | None:
        """The blocks of the next part, all read; None behind the last. Call it under a lock."""
        blocks = [block for _ in range(PIECES_PER_PART) if (block := self._next_block()) is not None]
        return iter(blocks) if blocks else None

    def _next_block(self) -> bytes | None:
        self._piece += 1
        wanted = self._piece * PIECE_BYTES - 1 - self._at
        end = -1
        self._fill(wanted + _PEEK_BYTES)
        while not (end >= 0 or (self._ended and not self._buffer)):
            end = self._buffer.find(b"\n", max(wanted, 0)) + 1 or -1
            if end < 0:
                if self._ended:
                    end = len(self._buffer)
                elif b"\0" in self._buffer:
                    raise silver.ZeroBytesError
                elif len(self._buffer) - max(wanted, 0) > _HOPELESS_BYTES:
                    raise _endless(self._source)
                else:
                    self._fill(len(self._buffer) + PIECE_BYTES)
        if end < 0:
            return None
        is_last = self._ended and end == len(self._buffer)
        if not is_last and self._buffer.find(b'"', 0, end) >= 0:
            _, end = silver.records(bytes(self._buffer[:end]), self._fields, is_last=False)
        return self._take(end)

    def give_up(self) -> None:
        """Nobody waits here."""

    def done(self) -> int:
        """Bytes of the source, compressed where it is, read so far."""
        return self._taken

    def sha256(self) -> str:
        """The hash of the whole source in hexadecimal; reads on to its end."""
        for _ in self._chunks:
            continue
        return self._sha.hexdigest()
