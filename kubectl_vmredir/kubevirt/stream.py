"""An open websocket as a stream of bytes, as KubeVirt speaks it.

Sources: RFC 6455; docs/facts/kubevirt.md: binary messages whose
boundaries mean nothing and which come in fragments, some of them empty; text dropped; ends without
a Close frame.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import picows

from kubectl_vmredir.errors import StreamLost

if TYPE_CHECKING:
    from kubectl_vmredir.errors import VmRedirError

CLOSE_TIMEOUT_S: Final = 1.0
_HIGH_WATER_BYTES: Final = 512 << 10
_LOW_WATER_BYTES: Final = 128 << 10
_GATHER_BYTES: Final = 256 << 10
"""Most bytes that are put together for one :meth:`StreamListener.received`."""
_MAX_PINGS: Final = 16
_PING: Final = struct.Struct(">Q")
# Looked up for every frame: members of an enum are slow to get at.
_BINARY: Final = picows.WSMsgType.BINARY
_CONTINUATION: Final = picows.WSMsgType.CONTINUATION


class StreamListener(Protocol):
    """Hears what happens on a websocket; called in the event loop, must not block or raise."""

    def received(self, data: memoryview) -> None:
        """Bytes came, at least one. The view is valid during the call only."""

    def writable(self, writable: bool) -> None:
        """The write buffer passed its high (False) or low (True) water mark."""

    def pong(self, round_trip_s: float) -> None:
        """The answer to a ping came."""

    def ended(self, cause: VmRedirError) -> None:
        """The websocket is gone, whoever ended it; called once, and nothing after it."""


class Websocket(picows.WSListener):
    """An open websocket, seen as a stream of bytes.

    Args:
        listener: Hears what comes in and how it ends.

    Attributes:
        sent: Bytes handed to :meth:`send` so far.
        subprotocol: The one that the server chose; empty if it said nothing of it.
    """

    def __init__(self, listener: StreamListener) -> None:
        self.sent = 0
        self.subprotocol = ""
        self._listener = listener
        self._transport: picows.WSTransport | None = None
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._closing = False
        self._in_text = False
        self._gathered = memoryview(bytearray(_GATHER_BYTES))
        self._gathered_bytes = 0
        self._paused = False
        self._held: deque[bytes] = deque()  # at most what one turn of the loop reads
        self._pings: deque[tuple[bytes, float]] = deque(maxlen=_MAX_PINGS)
        self._ping_count = 0

    def send(self, data: bytes | memoryview) -> None:
        """Queue bytes, as one message; the view may be reused after the call.

        Silently dropped after the end.
        """
        size = len(data)
        self.sent += size
        if self._transport is not None and size > 0:
            self._transport.send(_BINARY, data)

    def ping(self) -> None:
        """Send a ping; :meth:`StreamListener.pong` tells when the answer is there."""
        if self._transport is None:
            return
        self._ping_count += 1
        payload = _PING.pack(self._ping_count)
        self._pings.append((payload, self._loop.time()))
        self._transport.send_ping(payload)

    def pause_reading(self) -> None:
        """Hold back what comes in; the far end gets to feel it. Its end is not noticed, too."""
        if not self._paused and self._transport is not None:
            self._paused = True
            # Not in the middle of a read: aiofastnet 1.2.0 would forget about the records that it
            # has read and not decrypted yet until the next ones come, and perhaps none do.
            self._loop.call_soon(self._pause_transport)

    def resume_reading(self) -> None:
        """Undo :meth:`pause_reading`."""
        if not self._paused:
            return
        self._paused = False
        while self._held and not self._paused:
            self._listener.received(memoryview(self._held.popleft()))
        if not self._paused and self._transport is not None:
            self._transport.underlying_transport.resume_reading()

    async def close(self, *, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Say goodbye and wait for the far end to do so; after ``timeout_s`` just go."""
        if (transport := self._transport) is None:
            return
        self._closing = True
        self._held.clear()
        self.resume_reading()
        transport.send_close(picows.WSCloseCode.OK)
        try:
            async with asyncio.timeout(timeout_s):
                await self._ended.wait()
        except TimeoutError:
            transport.disconnect(graceful=False)

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        """See :meth:`picows.WSListener.on_ws_connected`."""
        self._transport = transport
        transport.underlying_transport.set_write_buffer_limits(
            high=_HIGH_WATER_BYTES, low=_LOW_WATER_BYTES
        )

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """See :meth:`picows.WSListener.on_ws_frame`.

        Frames that were read at once make one chunk: that costs the listener more than it costs
        to copy the 32 KiB that a message of virt-handler has at most.
        """
        kind = frame.msg_type
        if kind is _BINARY:
            self._in_text = False
            size = frame.payload_size
        elif kind is _CONTINUATION:
            size = 0 if self._in_text else frame.payload_size
        else:
            size = 0
            self._control(transport, kind, frame)
        last = frame.last_in_buffer
        if size > 0:
            begin, payload = self._gathered_bytes, frame.get_payload_as_memoryview()
            end = begin + size
            if end > _GATHER_BYTES or (last and begin == 0):
                if begin > 0:
                    self._hand_on_gathered()
                self._hand_on(payload)
                return
            self._gathered[begin:end] = payload
            self._gathered_bytes = end
        if last and self._gathered_bytes:
            self._hand_on_gathered()

    def pause_writing(self) -> None:
        """See :meth:`picows.WSListener.pause_writing`."""
        self._listener.writable(False)

    def resume_writing(self) -> None:
        """See :meth:`picows.WSListener.resume_writing`."""
        self._listener.writable(True)

    def connection_lost(self, cause: VmRedirError) -> None:
        """Hear that the connection is gone; called by the protocol, once."""
        self._transport = None
        self._held.clear()
        self._ended.set()
        self._listener.ended(StreamLost("closed by us") if self._closing else cause)

    def _pause_transport(self) -> None:
        if self._paused and self._transport is not None:
            self._transport.underlying_transport.pause_reading()

    def _control(
        self, transport: picows.WSTransport, kind: picows.WSMsgType, frame: picows.WSFrame
    ) -> None:
        match kind:
            case picows.WSMsgType.TEXT:
                self._in_text = True
            case picows.WSMsgType.PONG:
                self._answered(frame.get_payload_as_bytes())
            case picows.WSMsgType.CLOSE:
                self._hand_on_gathered()
                transport.send_close(picows.WSCloseCode.OK)
                transport.disconnect()
            case _:
                pass

    def _hand_on_gathered(self) -> None:
        size, self._gathered_bytes = self._gathered_bytes, 0
        if size:
            self._hand_on(self._gathered[:size])

    def _hand_on(self, data: memoryview) -> None:
        if self._closing:
            return
        if self._paused:
            self._held.append(bytes(data))
        else:
            self._listener.received(data)

    def _answered(self, payload: bytes) -> None:
        """Find the ping that a pong answers; those before it will get no answer any more."""
        for position, (sent, at) in enumerate(self._pings):
            if sent == payload:
                for _ in range(position + 1):
                    self._pings.popleft()
                self._listener.pong(self._loop.time() - at)
                return
