"""The peer: a copy between the same two ends over TLS, without websocket, guard or continuity.

It has what the client has, buffers and the library for TLS included, which is the fastest there
is in Python. What differs is only what it does not do.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Self, cast

import aiofastnet

from benchmarks.client import arguments, report_cpu
from kubectl_vmredir.service.usbhost import (
    HIGH_WATER_BYTES,
    LOW_WATER_BYTES,
    READ_BUFFER_BYTES,
    SEND_BUFFER_BYTES,
)

if TYPE_CHECKING:
    from pathlib import Path


class Copy(asyncio.BufferedProtocol):
    """One end: what is read from it goes to the other."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.other: Self
        self._view = memoryview(bytearray(READ_BUFFER_BYTES))
        self._writable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.BufferedProtocol`."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(HIGH_WATER_BYTES, LOW_WATER_BYTES)
        self.transport.pause_reading()  # until the other end is there, too

    def get_buffer(self, sizehint: int) -> memoryview:
        """See :class:`asyncio.BufferedProtocol`."""
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """See :class:`asyncio.BufferedProtocol`."""
        self.other.transport.write(self._view[:nbytes])

    def pause_writing(self) -> None:
        """See :class:`asyncio.BufferedProtocol`."""
        self._writable = False
        # Not in the middle of a read; see kubectl_vmredir.kubevirt.stream.
        asyncio.get_running_loop().call_soon(self._pause_other)

    def resume_writing(self) -> None:
        """See :class:`asyncio.BufferedProtocol`."""
        self._writable = True
        self.other.transport.resume_reading()

    def _pause_other(self) -> None:
        if not self._writable:
            self.other.transport.pause_reading()


async def copy(data: socket.socket, port: int, ca: Path) -> None:
    """Copy both ways until stdin ends."""
    loop = asyncio.get_running_loop()
    data.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    near, far = Copy(), Copy()
    near.other, far.other = far, near
    context = ssl.create_default_context(cafile=ca)
    await aiofastnet.create_connection(loop, lambda: far, "127.0.0.1", port, ssl=context)
    await loop.create_connection(lambda: near, sock=data)
    for end in (near, far):
        end.transport.resume_reading()
    await report_cpu()


def main() -> None:
    """Copy between a usb-host and the far end."""
    options = arguments()
    asyncio.run(copy(socket.socket(fileno=options.data), options.port, options.ca))


if __name__ == "__main__":
    main()
