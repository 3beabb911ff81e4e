"""Small encodings shared by the protocols: varints, protobuf fields, length-prefixed frames.

Varints are the multiformats unsigned varint: little-endian base 128, at most nine bytes, shortest
form only. Source: multiformats/unsigned-varint; protobuf encoding guide for the field tags.
"""

from __future__ import annotations

from collections.abc import Iterator

from p2p.errors import FrameTooLarge, MalformedFrame

UVARINT_MAX_BYTES = 9

_SHORT_UVARINTS = [bytes((n,)) for n in range(128)]


def encode_uvarint(value: int) -> bytes:
    """The shortest unsigned varint of `value` (0 <= value < 2**63)."""
    if value < 0x80:
        return _SHORT_UVARINTS[value]
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_uvarint(data: bytes, offset: int = 0) -> tuple[int, int] | None:
    """(value, offset behind it), or None while bytes are missing. Raises MalformedFrame."""
    value = 0
    for index in range(UVARINT_MAX_BYTES):
        if offset + index >= len(data):
            return None
        byte = data[offset + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if byte == 0 and index:
                raise MalformedFrame("uvarint", "not the shortest form")
            return value, offset + index + 1
    raise MalformedFrame("uvarint", f"longer than {UVARINT_MAX_BYTES} bytes")


class FrameReader:
    """Cuts a byte stream into frames of uvarint length and payload.

    A frame is only buffered while incomplete and grows with the bytes that came, never with the
    bytes announced, so `limit_bytes` bounds the memory. Raises FrameTooLarge and MalformedFrame;
    a reader that has raised must not be fed again.
    """

    __slots__ = ("_head", "_limit_bytes", "_missing", "_partial", "_what")

    def __init__(self, what: str, limit_bytes: int) -> None:
        self._what = what
        self._limit_bytes = limit_bytes
        self._head = b""
        self._partial = bytearray()
        self._missing = 0

    @property
    def buffered_bytes(self) -> int:
        """Bytes held for an incomplete frame."""
        return len(self._head) + len(self._partial)

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads completed by `data`, in order."""
        frames: list[bytes] = []
        offset = 0
        size = len(data)
        if self._missing:
            if size < self._missing:
                self._partial += data
                self._missing -= size
                return frames
            offset = self._missing
            self._partial += data[:offset]
            frames.append(bytes(self._partial))
            self._partial = bytearray()
            self._missing = 0
        elif self._head:
            data = self._head + data
            size = len(data)
            self._head = b""
        limit = self._limit_bytes
        while offset < size:
            length = data[offset]
            start = offset + 1
            if length >= 0x80:
                decoded = decode_uvarint(data, offset)
                if decoded is None:
                    self._head = data[offset:]
                    break
                length, start = decoded
            if length > limit:
                raise FrameTooLarge(self._what, length, limit)
            offset = start + length
            if offset <= size:
                frames.append(data[start:offset])
            else:
                self._partial += data[start:]
                self._missing = offset - size
        return frames


def frame(payload: bytes) -> bytes:
    """`payload` behind its uvarint length."""
    return encode_uvarint(len(payload)) + payload


def proto_uint(number: int, value: int) -> bytes:
    """A protobuf varint field."""
    return encode_uvarint(number << 3) + encode_uvarint(value)


def proto_bytes(number: int, value: bytes) -> bytes:
    """A protobuf length-delimited field."""
    return encode_uvarint(number << 3 | 2) + encode_uvarint(len(value)) + value


def proto_fields(what: str, data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of each varint and length-delimited field of a protobuf message.

    Fixed-width fields are skipped. Raises MalformedFrame.
    """
    offset = 0
    while offset < len(data):
        tag, offset = _need_uvarint(what, data, offset)
        number, wire_type = tag >> 3, tag & 7
        if number == 0:
            raise MalformedFrame(what, "field number 0")
        if wire_type == 0:
            value, offset = _need_uvarint(what, data, offset)
            yield number, value
            continue
        if wire_type == 2:
            length, offset = _need_uvarint(what, data, offset)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise MalformedFrame(what, f"wire type {wire_type}")
        end = offset + length
        if end > len(data):
            raise MalformedFrame(what, "a field runs past the end")
        if wire_type == 2:
            yield number, data[offset:end]
        offset = end


def _need_uvarint(what: str, data: bytes, offset: int) -> tuple[int, int]:
    decoded = decode_uvarint(data, offset)
    if decoded is None:
        raise MalformedFrame(what, "ends inside a varint")
    return decoded
