"""The far end of the two sockets of a usb-host: a guest on one, the parent on the other."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator

from kubectl_vmredir.protocol.packets import Packet
from kubectl_vmredir.service.ports import UsbHostSockets
from tests.support.usb_guest import GuestCodec

ANSWER_TIMEOUT_S = 1.0


class SocketGuest:
    """A guest at the data socket and a parent at the control socket.

    Args:
        sockets: The usb-host's.
        timeout_s: How long it may take to say something.
    """

    def __init__(self, sockets: UsbHostSockets, *, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self.codec = GuestCodec()
        self._sockets = sockets
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._packets: list[tuple[int, Packet]] = []
        self._lines: list[bytes] = []

    async def send(self, packet: Packet, packet_id: int = 0) -> None:
        await self.send_bytes(self.codec.encode(packet, packet_id))

    async def send_bytes(self, data: bytes) -> None:
        async with asyncio.timeout(self._timeout_s):
            await self._loop.sock_sendall(self._sockets.data, data)

    async def receive(self) -> tuple[int, Packet]:
        """Return the next packet of the usb-host.

        Raises:
            EOFError: If there are no more.
        """
        while not self._packets:
            async with asyncio.timeout(self._timeout_s):
                data = await self._loop.sock_recv(self._sockets.data, 1 << 18)
            if not data:
                raise EOFError
            self._packets = self.codec.decode(data)
        return self._packets.pop(0)

    async def request(self, line: bytes) -> None:
        """Write to the control socket."""
        await self._loop.sock_sendall(self._sockets.control, line)

    async def event(self) -> object:
        """Return the next event of the control socket.

        Raises:
            EOFError: If there are no more.
        """
        while not self._lines:
            async with asyncio.timeout(self._timeout_s):
                data = await self._loop.sock_recv(self._sockets.control, 4096)
            if not data:
                raise EOFError
            assert data.endswith(b"\n")
            self._lines = data.splitlines()
        return json.loads(self._lines.pop(0))

    async def give_back(self) -> None:
        """Close the data socket and wait until the device is free again."""
        self._sockets.data.close()
        with contextlib.suppress(EOFError):
            while True:
                await self.event()

    async def connect(self) -> None:
        """Exchange hellos, and take what the usb-host says of its device."""
        await self.send_bytes(self.codec.hello())
        for _ in ("hello", "interface_info", "ep_info", "device_connect"):
            await self.receive()


@contextlib.contextmanager
def owned(sockets: UsbHostSockets, *, timeout_s: float = ANSWER_TIMEOUT_S) -> Iterator[SocketGuest]:
    """Own the sockets of a claim for a while."""
    with sockets.data, sockets.control:
        yield SocketGuest(sockets, timeout_s=timeout_s)
