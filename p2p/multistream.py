"""multistream-select 1.0.0: two sides of a byte stream agree on a protocol.

Messages are `uvarint length, text, newline`. Each side opens with `/multistream/1.0.0`; the dialer
proposes one protocol after the other, the listener echoes the one it speaks or answers `na`.
The dialer sends its opening and its first proposal at once. `ls` is answered with `na`.
Both sides are synchronous: bytes in, bytes out, and what is left belongs to the agreed protocol.
Source: multiformats/multistream-select README.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from p2p.errors import MalformedFrame, MultistreamViolation
from p2p.wire import UVARINT_MAX_BYTES, decode_uvarint, frame

VERSION = "/multistream/1.0.0"
NOT_AVAILABLE = "na"

# go-multistream allows 1024 bytes; protocol names have some dozens.
LINE_MAX_BYTES = 1024
# A dialer that has not found a common protocol after this many tries has none.
PROPOSALS_MAX_COUNT = 16


@dataclass(frozen=True, slots=True)
class Progress:
    """What a step gave: bytes to send, the agreed protocol once known, and the bytes behind it.

    `refused` is set on the dialer when no proposal was accepted.
    """

    output: bytes = b""
    agreed: str | None = None
    refused: bool = False
    rest: bytes = b""


def encode_line(text: str) -> bytes:
    """One multistream message."""
    return frame(text.encode() + b"\n")


_VERSION_LINE = encode_line(VERSION)
_NOT_AVAILABLE_LINE = encode_line(NOT_AVAILABLE)


class _Lines:
    """Cuts bytes into lines; at most one incomplete line is held."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next_line(self) -> str | None:
        head = self._buffer[:UVARINT_MAX_BYTES]
        decoded = decode_uvarint(head)
        if decoded is None:
            return None
        length, start = decoded
        if not 1 <= length <= LINE_MAX_BYTES:
            raise MultistreamViolation(f"line of {length} bytes")
        end = start + length
        if len(self._buffer) < end:
            return None
        line = self._buffer[start:end]
        self._buffer = self._buffer[end:]
        if line[-1:] != b"\n":
            raise MultistreamViolation("line without newline")
        try:
            return line[:-1].decode()
        except UnicodeDecodeError as error:
            raise MultistreamViolation("line is not UTF-8") from error

    def rest(self) -> bytes:
        rest, self._buffer = self._buffer, b""
        return rest


class MultistreamDialer:
    """The side that proposes. `start()` first, then `receive()` until agreed or refused."""

    __slots__ = ("_greeted", "_lines", "_proposals")

    def __init__(self, protocols: Sequence[str]) -> None:
        assert 1 <= len(protocols) <= PROPOSALS_MAX_COUNT
        self._proposals = list(protocols)
        self._lines = _Lines()
        self._greeted = False

    def start(self) -> bytes:
        """The opening and the first proposal."""
        return _VERSION_LINE + encode_line(self._proposals[0])

    def receive(self, data: bytes) -> Progress:
        """Raises MultistreamViolation and MalformedFrame."""
        self._lines.feed(data)
        output = b""
        while (line := self._lines.next_line()) is not None:
            if not self._greeted:
                if line != VERSION:
                    raise MultistreamViolation(f"opened with {line[:64]!r}")
                self._greeted = True
            elif line == self._proposals[0]:
                return Progress(output, agreed=line, rest=self._lines.rest())
            elif line == NOT_AVAILABLE:
                del self._proposals[0]
                if not self._proposals:
                    return Progress(output, refused=True)
                output += encode_line(self._proposals[0])
            else:
                raise MultistreamViolation(f"answered {line[:64]!r} to {self._proposals[0]!r}")
        return Progress(output)


class MultistreamListener:
    """The side that accepts; `supports` says which protocols.

    A dialer may send payload behind its proposal at once. When the proposal is declined, that
    payload is read as further proposals and is none: then the listener goes deaf, and leaves the
    end of the stream to the dialer, who has been told.
    """

    __slots__ = ("_deaf", "_greeted", "_lines", "_proposals_count", "_supports")

    def __init__(self, supports: Callable[[str], bool]) -> None:
        self._supports = supports
        self._lines = _Lines()
        self._greeted = False
        self._proposals_count = 0
        self._deaf = False

    def receive(self, data: bytes) -> Progress:
        """Raises MultistreamViolation and MalformedFrame."""
        if self._deaf:
            return Progress()
        self._lines.feed(data)
        output = b""
        while (line := self._next_line()) is not None:
            if not self._greeted:
                if line != VERSION:
                    raise MultistreamViolation(f"opened with {line[:64]!r}")
                self._greeted = True
                output += _VERSION_LINE
                continue
            self._proposals_count += 1
            if self._proposals_count > PROPOSALS_MAX_COUNT:
                raise MultistreamViolation("too many proposals")
            if self._supports(line):
                return Progress(output + encode_line(line), agreed=line, rest=self._lines.rest())
            output += _NOT_AVAILABLE_LINE
        return Progress(output)

    def _next_line(self) -> str | None:
        try:
            return self._lines.next_line()
        except (MultistreamViolation, MalformedFrame):
            if not self._proposals_count:
                raise
            self._deaf = True
            self._lines.rest()
            return None
