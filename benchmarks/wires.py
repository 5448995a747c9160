"""How the far end wraps what it sends, and counts what it receives; as cheap as can be.

It neither unmasks nor copies what comes, and what it sends is wrapped before the clock starts.
"""

from __future__ import annotations

from itertools import cycle
from typing import Final, Protocol

from kubectl_vmredir.lab.nodes import frames
from kubectl_vmredir.lab.nodes.handshake import HEAD_END, Request

_SHORT_HEADER: Final = 2 + 4
"""A client's frame starts with two bytes, a longer length if need be, and a mask; RFC 6455, 5.2."""
_LONGEST_HEADER: Final = _SHORT_HEADER + 8
_MORE_LENGTH: Final = {126: 2, 127: 8}
_BINARY: Final = 0x82
_PING: Final = 0x89


class Wire(Protocol):
    """The server's side of a connection."""

    def accept(self, head: bytes) -> bytes | None:
        """Return the answer to the beginning of the connection; None if more is needed for it."""

    def wrap(self, packet: bytes) -> bytes:
        """Return the bytes to send for a packet."""

    def count(self, data: memoryview) -> int:
        """Return how many bytes of the stream there are in what was received."""


class Plain:
    """Bytes as they are, from the first one on."""

    def accept(self, head: bytes) -> bytes | None:
        """See :meth:`Wire.accept`."""
        assert head == b""
        return b""

    def wrap(self, packet: bytes) -> bytes:
        """See :meth:`Wire.wrap`."""
        return packet

    def count(self, data: memoryview) -> int:
        """See :meth:`Wire.count`."""
        return len(data)


class Websocket:
    """Messages framed as by virt-handler, which copies QEMU's socket in reads of 32 KiB.

    Attributes:
        pongs: Frames that answer the pings which came; whoever sends them empties it.
    """

    def __init__(self) -> None:
        self.pongs: list[bytes] = []
        self._header = bytearray()
        self._payload_left = 0
        self._mask: bytes | None = None  # of a ping, as long as it is read
        self._ping = bytearray()

    def accept(self, head: bytes) -> bytes | None:
        """See :meth:`Wire.accept`."""
        if not head.endswith(HEAD_END):
            return None
        return Request.parse(head.removesuffix(HEAD_END)).accepted()

    def wrap(self, packet: bytes) -> bytes:
        """See :meth:`Wire.wrap`."""
        size = frames.READ_SIZE
        pieces = (packet[start : start + size] for start in range(0, len(packet), size))
        return b"".join(map(frames.message, pieces))

    def count(self, data: memoryview) -> int:
        """See :meth:`Wire.count`."""
        end = len(data)
        if end <= self._payload_left and self._mask is None:  # the inside of a long message
            self._payload_left -= end
            return end
        counted = position = 0
        while position < end:
            if not self._payload_left:
                position = self._read_header(data, position)
            step = min(self._payload_left, end - position)
            self._payload_left -= step
            if self._mask is None:
                counted += step
            else:
                self._ping += data[position : position + step]
                self._end_ping()
            position += step
        return counted

    def _read_header(self, data: memoryview, position: int) -> int:
        """Take the header of a frame, and return where it ends or the data does."""
        if not self._header and len(data) - position >= _LONGEST_HEADER:
            return self._begin_frame(data, position)
        while position < len(data):
            self._header.append(data[position])
            position += 1
            if len(self._header) > 1 and len(self._header) == _header_size(self._header[1]):
                self._begin_frame(self._header, 0)
                self._header.clear()
                break
        return position

    def _begin_frame(self, data: memoryview | bytearray, position: int) -> int:
        is_ping = data[position] == _PING
        assert is_ping or data[position] == _BINARY, "neither a ping nor a whole message"
        length, size = data[position + 1] & 0x7F, _header_size(data[position + 1])
        if size > _SHORT_HEADER:
            length = int.from_bytes(data[position + 2 : position + size - 4], "big")
        self._payload_left = length
        self._mask = bytes(data[position + size - 4 : position + size]) if is_ping else None
        self._end_ping()
        return position + size

    def _end_ping(self) -> None:
        if self._mask is not None and not self._payload_left:
            plain = bytes(byte ^ key for byte, key in zip(self._ping, cycle(self._mask)))
            self.pongs.append(frames.pong(plain))
            self._ping.clear()
            self._mask = None


def _header_size(second: int) -> int:
    """Return the size of a header by its second byte."""
    return _SHORT_HEADER + _MORE_LENGTH.get(second & 0x7F, 0)
