"""Bytes between a client and a virt-handler, as they are, both ways.

Nothing is parsed: masked frames, pings and Close frames of the client reach virt-handler
unchanged, as through kube-apiserver and virt-api. Each side reads straight into a buffer of its
own and stops when the other side is slower.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Final

BUFFER_BYTES: Final = 256 * 1024

LINGER_S: Final = 1.0
"""How long a client gets to see the end before its connection is forgotten."""

_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER that makes close() send RST."""


class Side(asyncio.BufferedProtocol):
    """One end of a splice; gives what it reads to the other end.

    Args:
        transport: Its connection, which this protocol takes over.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.lost = asyncio.Event()
        """Set when the connection is gone, whoever ended it."""
        self.drained = asyncio.Event()
        """Set while little waits to be written."""
        self.drained.set()
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._other: Side | None = None

    def join(self, other: Side) -> None:
        """Begin to pass bytes on to the other end."""
        self._other = other
        self.transport.set_protocol(self)
        self.transport.resume_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the transport reads to."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Pass bytes on. The transport may keep what it is given, so it gets a copy."""
        assert self._other is not None
        self._other.transport.write(bytes(self._buffer[:nbytes]))

    def pause_writing(self) -> None:
        """Stop the other end: this one is slower."""
        self.drained.clear()
        if self._other is not None and not self._other.lost.is_set():
            self._other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Let the other end go on."""
        self.drained.set()
        if self._other is not None and not self._other.lost.is_set():
            self._other.transport.resume_reading()

    def eof_received(self) -> bool:
        """Let the transport close: there is no half-closed stream."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        self.lost.set()
        self.drained.set()


async def join(client: Side, node: Side) -> None:
    """Pass bytes both ways until one side ends; then end the other in an orderly way.

    The client sees TLS close_notify and FIN, and no Close frame, whatever ended the node's
    side. Cancelled, it cuts both.
    """
    client.join(node)
    node.join(client)
    try:
        async with asyncio.TaskGroup() as group:
            waits = [
                group.create_task(side.lost.wait(), name="splice-end") for side in (client, node)
            ]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        if not client.lost.is_set():
            await end(client)
    finally:
        client.transport.abort()
        node.transport.abort()


async def end(client: Side) -> None:
    """End the client's side: close_notify, FIN, and what still comes is read and dropped.

    Closing a socket with unread data sends RST, which can destroy what the client has not
    read yet, the close_notify included. So a duplicate keeps the connection open for a moment
    after the transport is done with it.
    """
    client.transport.set_write_buffer_limits(high=0)
    await client.drained.wait()
    raw = _socket(client.transport)
    if raw is None or client.lost.is_set():
        return
    with suppress(OSError, TimeoutError), raw.dup() as kept:
        kept.setblocking(False)
        client.transport.close()
        await client.lost.wait()
        kept.shutdown(socket.SHUT_WR)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(LINGER_S):
            while await loop.sock_recv(kept, BUFFER_BYTES):
                pass


def reset(transport: asyncio.Transport) -> None:
    """End a connection by RST."""
    if (raw := _socket(transport)) is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


def cut(transport: asyncio.Transport) -> None:
    """End a connection as the kernel does for a killed process: FIN, and no TLS close_notify."""
    if (raw := _socket(transport)) is not None:
        with suppress(OSError):  # the peer was faster
            raw.shutdown(socket.SHUT_RDWR)
    transport.abort()


def _socket(transport: asyncio.Transport) -> socket.socket | None:
    """Return the socket of a connection; None if it is gone."""
    found: socket.socket | None = transport.get_extra_info("socket")
    return found
