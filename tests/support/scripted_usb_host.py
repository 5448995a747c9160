"""A usb-host with a script: a virtual device, linked by hand to the slots of guests.

It has no continuity. What it can do instead is to stop in the middle: to keep an answer back, to
send half of it, and to send the rest to another guest, or one byte more or less of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from pathlib import Path

from kubectl_vmredir.lab.devices.function import Function
from kubectl_vmredir.lab.devices.host import CAPS, UsbHost
from kubectl_vmredir.lab.devices.stick import BULK_IN
from kubectl_vmredir.lab.guests import sockets
from kubectl_vmredir.protocol.constants import Side
from kubectl_vmredir.protocol.control import CancelDataPacket, SetConfiguration
from kubectl_vmredir.protocol.data import BulkPacket, ControlPacket
from kubectl_vmredir.protocol.packets import Packet
from kubectl_vmredir.protocol.parser import Parser

TIMEOUT_S = 60.0
CHUNK_BYTES = 65536
READ_BYTES = 1 << 18

POKE = bytes.fromhex("11000000 02000000 0000000000000000 0080")
"""Read and ignored by QEMU (docs/facts/qemu.md)."""


class Link:
    """A client of a slot."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, folder: Path, slot: int = 0) -> Link:
        connection = socket.socket(socket.AF_UNIX)
        connection.setblocking(False)
        with sockets.short_path(folder, sockets.SLOTS[slot]) as path:
            await asyncio.get_running_loop().sock_connect(connection, path)
        return cls(connection)

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            await self._loop.sock_sendall(self._connection, data)

    async def receive(self) -> bytes:
        """Return the next bytes; empty if there are no more."""
        try:
            return await self._loop.sock_recv(self._connection, READ_BYTES)
        except ConnectionError:
            return b""

    def has_received(self) -> bool:
        """Return whether there is something to receive now."""
        try:
            return bool(self._connection.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False

    async def consumed(self) -> None:
        """Wait until the guest has read all; the kernel tells nobody, so one has to look."""
        async with asyncio.timeout(TIMEOUT_S):
            # A socket buffer that is being freed counts one.
            while self._unread() > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    def cut(self) -> None:
        """End the connection; whoever receives on it gets the end."""
        with contextlib.suppress(OSError):  # the guest was faster
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._connection.close()

    def _unread(self) -> int:
        count = bytearray(4)
        fcntl.ioctl(self._connection, termios.TIOCOUTQ, count)
        return int(struct.unpack("=i", count)[0])


class ScriptedUsbHost:
    """The device, and the link that it has now.

    Attributes:
        heard: What guests asked for, in words, each time.
    """

    def __init__(self, function: Function) -> None:
        self._function = function
        assert function.acquire() is None
        self.heard: list[str] = []
        self._heard_more = asyncio.Event()
        self._held = bytearray()
        self._hold_next = False
        self._holding = asyncio.Event()
        self._outgoing = bytearray()
        self._new_session()

    def _new_session(self) -> None:
        self._host = UsbHost(self._function, self._queue, clock=asyncio.get_running_loop())
        self._parser = Parser(Side.GUEST, own_caps=CAPS)
        self._outgoing.clear()
        self._held.clear()
        self._holding.clear()

    async def plug_in(self, link: Link) -> None:
        """Serve a guest from the beginning, until the link is closed or cancelled."""
        self._new_session()
        self._host.start()
        await self.serve(link)

    async def introduce(self, link: Link) -> None:
        """Exchange hellos, attach the device, and hear no more."""
        self._new_session()
        self._host.start()
        await self._send_on(link)
        self._take(await link.receive())
        await self._send_on(link)

    async def serve(self, link: Link) -> None:
        """Serve a guest that goes on where another one was, until the link is closed."""
        await self._send_on(link)
        while data := await link.receive():
            self._take(data)
            await self._send_on(link)

    async def pull_out(self, link: Link) -> None:
        """Pull the device out of the usb-host."""
        self._host.unplug()
        await self._send_on(link)

    def hold_next_read(self) -> None:
        """Keep the answer to the next read of a whole chunk back, and all that follows."""
        self._hold_next = True

    async def held(self) -> bytes:
        """Wait until an answer is kept back, and return it."""
        async with asyncio.timeout(TIMEOUT_S):
            await self._holding.wait()
        return bytes(self._held)

    def release(self) -> None:
        """Keep nothing back any more; what was kept is forgotten."""
        self._held.clear()
        self._holding.clear()

    async def has_heard(self, words: str) -> None:
        """Wait until a guest has asked for this."""
        async with asyncio.timeout(TIMEOUT_S):
            while words not in self.heard:
                self._heard_more.clear()
                await self._heard_more.wait()

    def _queue(self, data: bytes) -> None:
        if self._holding.is_set():
            self._held += data
        else:
            self._outgoing += data

    def _take(self, data: bytes) -> None:
        for _, packet in self._parser.feed(data):
            self.heard.append(describe(packet))
            self._heard_more.set()
            match packet:
                case BulkPacket(endpoint=endpoint, length=length) if self._hold_next and (
                    endpoint,
                    length,
                ) == (BULK_IN, CHUNK_BYTES):
                    self._hold_next = False
                    self._holding.set()
        self._host.receive(data)

    async def _send_on(self, link: Link) -> None:
        data = bytes(self._outgoing)
        self._outgoing.clear()
        # A guest that is gone does not take it: the end of the link says so.
        with contextlib.suppress(ConnectionError):
            await link.send(data)


def describe(packet: Packet) -> str:
    """Return a packet of a guest in words, without what chance decides."""
    match packet:
        case ControlPacket():
            return (
                f"control {packet.requesttype:02x} {packet.request:02x} "
                f"{packet.value:04x} {packet.index:04x} {packet.length}"
            )
        case BulkPacket(data=command) if command[:4] == b"USBC":
            return f"scsi {command[15]:02x}"
        case BulkPacket():
            return "bulk"
        case CancelDataPacket():
            return "cancel"
        case SetConfiguration(configuration):
            return f"set_configuration {configuration}"
        case _:
            return packet.type.label
