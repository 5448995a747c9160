"""Websocket frames as virt-handler writes and reads them; pure, server side.

virt-handler's framing is that of gorilla/websocket 1.5.4 with write buffers of 10240 bytes, fed
by io.Copy with reads of at most 32 KiB. What a client sees of it was measured
(docs/facts/kubevirt.md, Framing): messages come fragmented, with empty continuations.
Sources: RFC 6455 section 5; gorilla/websocket, conn.go (flushFrame, advanceFrame).
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Final

READ_SIZE: Final = 32 * 1024
"""Most bytes of one message: the buffer of Go's io.Copy."""

_WRITE_BUFFER: Final = 10240
_UNBUFFERED_OVER: Final = 2 * (_WRITE_BUFFER + 14)
"""A longer message skips gorilla's buffer, which has room for the longest header (14) as well."""
_FINAL: Final = 0x80
_RESERVED: Final = ((0x40, "RSV1 set"), (0x20, "RSV2 set"), (0x10, "RSV3 set"))
_MASKED: Final = 0x80
_MAX_CONTROL: Final = 125
_MAX_HEADER: Final = 14
_XOR: Final = tuple(bytes(byte ^ key for byte in range(256)) for key in range(256))


class Opcode(enum.IntEnum):
    """Frame types of RFC 6455."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class CloseCode(enum.IntEnum):
    """Codes that appear here; RFC 6455 section 7.4.1."""

    NORMAL = 1000
    PROTOCOL_ERROR = 1002
    NO_STATUS = 1005
    """Stands for a close frame without a code; never on the wire."""


@dataclass(frozen=True, slots=True)
class Payload:
    """Bytes of a binary message, in order; borders of messages mean nothing here."""

    data: bytearray


@dataclass(frozen=True, slots=True)
class Ping:
    """The client asks for a sign of life."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The client sent a close frame; nothing follows."""

    code: int


@dataclass(frozen=True, slots=True)
class Violation:
    """The client broke the protocol; nothing follows.

    Attributes:
        reason: In gorilla's words.
    """

    reason: str


Event = Payload | Ping | Closed | Violation


def message(payload: bytes) -> bytes:
    """Return the frames of one binary message, as gorilla writes them.

    Args:
        payload: What one read of QEMU's socket gave: 1 to :data:`READ_SIZE` bytes.
    """
    if len(payload) > _UNBUFFERED_OVER:
        return (
            _header(Opcode.BINARY, len(payload), final=False)
            + payload
            + _header(Opcode.CONTINUATION, 0)
        )
    frames = bytearray()
    opcode = Opcode.BINARY
    for start in range(0, len(payload), _WRITE_BUFFER):
        piece = payload[start : start + _WRITE_BUFFER]
        final = start + _WRITE_BUFFER >= len(payload)
        frames += _header(opcode, len(piece), final=final) + piece
        opcode = Opcode.CONTINUATION
    return bytes(frames)


def pong(payload: bytes) -> bytes:
    """Return the answer to a ping."""
    return _header(Opcode.PONG, len(payload)) + payload


def close(code: int, reason: str = "") -> bytes:
    """Return a close frame; one without a code for :attr:`CloseCode.NO_STATUS`."""
    if code == CloseCode.NO_STATUS:
        return _header(Opcode.CLOSE, 0)
    body = struct.pack(">H", code) + reason.encode()[: _MAX_CONTROL - 2]
    return _header(Opcode.CLOSE, len(body)) + body


def _header(opcode: Opcode, length: int, *, final: bool = True) -> bytes:
    first = opcode | (_FINAL if final else 0)
    if length <= 125:
        return bytes((first, length))
    if length < 1 << 16:
        return struct.pack(">BBH", first, 126, length)
    return struct.pack(">BBQ", first, 127, length)


class FrameReader:
    """Takes the bytes of a client apart.

    Payload is handed on as it comes, without waiting for the end of its frame. Text messages are
    dropped, as virt-handler does; pongs mean nothing. After :class:`Closed` or
    :class:`Violation` all further bytes are ignored.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._remaining = 0  # of the payload of the data frame under way
        self._mask = b""
        self._binary = False
        self._message_ended = True
        self._ended = False

    def feed(self, data: bytes) -> list[Event]:
        """Return what the bytes say, in order."""
        if self._ended:
            return []
        self._buffer += data
        events: list[Event] = []
        while not self._ended:
            if self._remaining:
                if not self._buffer:
                    break
                events += self._payload()
            elif (frame := self._frame()) is not None:
                events += frame
            else:
                break
        return events

    def _payload(self) -> list[Event]:
        taken = min(self._remaining, len(self._buffer))
        masked = self._buffer[:taken]
        del self._buffer[:taken]
        self._remaining -= taken
        mask = self._mask
        turn = taken % 4
        self._mask = mask[turn:] + mask[:turn]
        return [Payload(_unmask(masked, mask))] if self._binary else []

    def _frame(self) -> list[Event] | None:
        """Take the header of a frame, and the whole frame if it is a control frame.

        Returns:
            None if more bytes are needed; the checks are gorilla's, at the same point.
        """
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        if reasons := self._objections(buffer[0], buffer[1]):
            return self._end(Violation(", ".join(reasons)))
        opcode, length, start = Opcode(buffer[0] & 0x0F), buffer[1] & 0x7F, 2
        if length > _MAX_CONTROL:
            start = 4 if length == 126 else 10
            if len(buffer) < start:
                return None
            length = int.from_bytes(buffer[2:start], "big")
        is_control = opcode >= Opcode.CLOSE
        end = start + 4
        if len(buffer) < end + (length if is_control else 0):
            return None
        mask = bytes(buffer[start:end])
        if is_control:
            body = bytes(_unmask(buffer[end : end + length], mask))
            del buffer[: end + length]
            return self._control(opcode, body)
        if opcode is not Opcode.CONTINUATION:
            self._binary = opcode is Opcode.BINARY
        self._message_ended = bool(buffer[0] & _FINAL)
        self._remaining, self._mask = length, mask
        del buffer[:end]
        return []

    def _objections(self, first: int, second: int) -> list[str]:
        reasons = [reason for bit, reason in _RESERVED if first & bit]
        opcode, final = first & 0x0F, first & _FINAL
        match opcode:
            case Opcode.CLOSE | Opcode.PING | Opcode.PONG:
                if second & 0x7F > _MAX_CONTROL:
                    reasons.append("len > 125 for control")
                if not final:
                    reasons.append("FIN not set on control")
            case Opcode.TEXT | Opcode.BINARY:
                if not self._message_ended:
                    reasons.append("data before FIN")
            case Opcode.CONTINUATION:
                if self._message_ended:
                    reasons.append("continuation after FIN")
            case _:
                reasons.append(f"bad opcode {opcode}")
        if not second & _MASKED:
            reasons.append("bad MASK")
        return reasons

    def _control(self, opcode: Opcode, body: bytes) -> list[Event]:
        match opcode:
            case Opcode.PING:
                return [Ping(body)]
            case Opcode.CLOSE:
                return self._close(body)
            case _:
                return []

    def _close(self, body: bytes) -> list[Event]:
        if len(body) < 2:
            return self._end(Closed(CloseCode.NO_STATUS))
        code = int.from_bytes(body[:2], "big")
        if not _may_be_received(code):
            return self._end(Violation(f"bad close code {code}"))
        try:
            body[2:].decode()
        except UnicodeDecodeError:
            return self._end(Violation("invalid utf8 payload in close frame"))
        return self._end(Closed(code))

    def _end(self, event: Event) -> list[Event]:
        self._ended = True
        self._buffer.clear()
        return [event]


def _may_be_received(code: int) -> bool:
    """Return what gorilla's isValidReceivedCloseCode says."""
    in_use = 1000 <= code <= 1013 and code not in (1004, 1005, 1006)
    return in_use or 3000 <= code <= 4999


def _unmask(data: bytearray, mask: bytes) -> bytearray:
    # Four strided translations: three times as fast as an exclusive or of big integers.
    for offset, key in enumerate(mask):
        data[offset::4] = data[offset::4].translate(_XOR[key])
    return data
