"""Bytes between a client's websocket and a guest's socket, both ways, until either ends.

Transports and protocols, not streams: a stream would copy each byte twice more. Neither side is
read while the other does not take what it gets, so at most a few reads of each are in memory.
"""

from __future__ import annotations

import asyncio
import enum
import math
import socket
import struct
from typing import TYPE_CHECKING, Final, assert_never

from kubectl_vmredir.lab.nodes import frames
from kubectl_vmredir.lab.nodes.frames import Closed, Payload, Ping, Violation
from kubectl_vmredir.lab.nodes.handshake import HEAD_END, MAX_HEAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

_HIGH_WATER: Final = 512 * 1024


class _Reason(enum.Enum):
    """Why a side is not read."""

    PEER_IS_SLOW = enum.auto()
    NETWORK_IS_SLOW = enum.auto()
    NODE_HANGS = enum.auto()


class _Side:
    """One side of a pipe: where bytes come from, and where those of the other side go."""

    def __init__(self, transport: asyncio.Transport) -> None:
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        self.transport = transport
        self._reasons: set[_Reason] = set()
        self._free_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def pause(self, reason: _Reason) -> None:
        """Read no more for now."""
        self._reasons.add(reason)
        self.transport.pause_reading()

    def resume(self, reason: _Reason) -> None:
        """Read again, unless there is another reason."""
        self._reasons.discard(reason)
        if not self._reasons:
            self.transport.resume_reading()

    def hold_back(self, length: int, bytes_per_s: float) -> None:
        """Read no more until so many bytes have gone over a slow network."""
        loop = asyncio.get_running_loop()
        self._free_at = max(self._free_at, loop.time()) + length / bytes_per_s
        self.pause(_Reason.NETWORK_IS_SLOW)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(self._free_at, self.resume, _Reason.NETWORK_IS_SLOW)

    def close(self) -> None:
        """Close after what is written has gone out."""
        if self._timer is not None:
            self._timer.cancel()
        self.transport.close()


class Pipe:
    """Copies until either side ends; then both are closed, and :attr:`ended` is set.

    Args:
        client: Whose handshake is done.
        guest: To whom it is connected.
    """

    def __init__(self, client: ClientSocket, guest: GuestSocket) -> None:
        self._client = _Side(client.transport)
        self._guest = _Side(guest.transport)
        self._frames = frames.FrameReader()
        self._bytes_per_s = math.inf
        self.ended = asyncio.Event()
        client.pipe = guest.pipe = self
        for side in (self._client, self._guest):
            side.transport.resume_reading()

    def slow_down(self, bytes_per_s: float) -> None:
        """Carry so many bytes per second each way from now on, at most; infinite is the default."""
        self._bytes_per_s = bytes_per_s

    def hang(self, *, hangs: bool) -> None:
        """Carry nothing at all, or go on."""
        for side in (self._client, self._guest):
            if hangs:
                side.pause(_Reason.NODE_HANGS)
            else:
                side.resume(_Reason.NODE_HANGS)

    def close(self) -> None:
        """End it. No close frame is sent: virt-handler never does."""
        if not self.ended.is_set():
            self.ended.set()
            self._client.close()
            self._guest.close()

    # -- called by the protocols of the two sides ---------------------------------------------

    def from_client(self, data: bytes) -> None:
        """Take bytes of the websocket."""
        for event in self._frames.feed(data):
            match event:
                case Payload(payload):
                    self._guest.transport.write(payload)
                case Ping(payload):
                    self._client.transport.write(frames.pong(payload))
                case Closed(code):
                    self._client.transport.write(frames.close(code))
                    self.close()
                case Violation(reason):
                    answer = frames.close(frames.CloseCode.PROTOCOL_ERROR, reason)
                    self._client.transport.write(answer)
                    self.close()
                case _:
                    assert_never(event)
        self._slow(self._client, len(data))

    def from_guest(self, data: bytes) -> None:
        """Take bytes of the guest."""
        for start in range(0, len(data), frames.READ_SIZE):
            piece = data[start : start + frames.READ_SIZE]
            self._client.transport.write(frames.message(piece))
        self._slow(self._guest, len(data))

    def client_writable(self, *, writable: bool) -> None:
        """Hear that the websocket takes bytes again, or takes no more."""
        self._flow(self._guest, flows=writable)

    def guest_writable(self, *, writable: bool) -> None:
        """Hear that the guest takes bytes again, or takes no more."""
        self._flow(self._client, flows=writable)

    def _flow(self, side: _Side, *, flows: bool) -> None:
        if self.ended.is_set():
            return
        if flows:
            side.resume(_Reason.PEER_IS_SLOW)
        else:
            side.pause(_Reason.PEER_IS_SLOW)

    def _slow(self, side: _Side, length: int) -> None:
        if math.isfinite(self._bytes_per_s) and not self.ended.is_set():
            side.hold_back(length, self._bytes_per_s)


class GuestSocket(asyncio.Protocol):
    """A guest's socket: what comes before there is a pipe stays in the kernel."""

    def __init__(self) -> None:
        self.pipe: Pipe | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Read nothing before there is a pipe."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """Hand bytes on."""
        assert self.pipe is not None
        self.pipe.from_guest(data)

    def pause_writing(self) -> None:
        """Hear that too much is waiting to be written."""
        if self.pipe is not None:
            self.pipe.guest_writable(writable=False)

    def resume_writing(self) -> None:
        """Hear that enough has been written."""
        if self.pipe is not None:
            self.pipe.guest_writable(writable=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the pipe: whether there was an error makes no difference to a client."""
        del exc
        if self.pipe is not None:
            self.pipe.close()


class ClientSocket(asyncio.Protocol):
    """A client's connection: the head of a request, then a pipe.

    Args:
        on_head: Called once, with this and the head without its last empty line.
    """

    def __init__(self, on_head: Callable[[ClientSocket, bytes], None]) -> None:
        self.pipe: Pipe | None = None
        self._on_head = on_head
        self._head = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to read the head."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Collect the head, or hand bytes on."""
        if self.pipe is not None:
            self.pipe.from_client(data)
            return
        self._head += data
        if self._head.endswith(HEAD_END):
            self.transport.pause_reading()
            self._on_head(self, bytes(self._head.removesuffix(HEAD_END)))
        elif HEAD_END in self._head or len(self._head) > MAX_HEAD_BYTES:
            # Nobody may send more before the answer: gorilla closes the connection, too.
            self.transport.close()

    def pause_writing(self) -> None:
        """Hear that too much is waiting to be written."""
        if self.pipe is not None:
            self.pipe.client_writable(writable=False)

    def resume_writing(self) -> None:
        """Hear that enough has been written."""
        if self.pipe is not None:
            self.pipe.client_writable(writable=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the pipe."""
        del exc
        if self.pipe is not None:
            self.pipe.close()

    def reset(self) -> None:
        """End the connection by RST."""
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
